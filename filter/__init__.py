"""Score, filter and rank parallel text: `score` and `rank` take paths or Arrow tables and yield Arrow tables.

No torch here, ever. The two functions are imported when they are first used, so that the command line starts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bisift.filter.ranking import rank
    from bisift.filter.scoring import score

__all__ = ["rank", "score"]


def __getattr__(name: str) -> Any:
    if name == "score":
        from bisift.filter.scoring import score

        return score
    if name == "rank":
        from bisift.filter.ranking import rank

        return rank
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
