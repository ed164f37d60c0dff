"""Score, rank and select parallel text: paths of files in (`score`, `rank`: or Arrow tables), Arrow tables out.

No torch here, ever. The functions are imported when they are first used, so that the command line starts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bisift.filter.ranking import rank
    from bisift.filter.scoring import score
    from bisift.filter.selecting import select

__all__ = ["rank", "score", "select"]


def __getattr__(name: str) -> Any:
    if name == "score":
        from bisift.filter.scoring import score

        return score
    if name == "rank":
        from bisift.filter.ranking import rank

        return rank
    if name == "select":
        from bisift.filter.selecting import select

        return select
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
