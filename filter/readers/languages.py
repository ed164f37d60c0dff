"""Language tags as files carry them: en, EN, en-US, en_us."""

from __future__ import annotations


def same_language(found: str, asked: str) -> bool:
    """Whether two tags name the same language: case and `_` for `-` do not count, and a missing region matches any."""
    found, asked = found.lower().replace("_", "-"), asked.lower().replace("_", "-")
    return found == asked or found.split("-")[0] == asked or asked.split("-")[0] == found


def choose(found: list[str], asked: str | None, other: str | None) -> list[int]:
    """Return which of the languages `found` (N) are the `asked` one; not asked, all that are not the `other`."""
    if asked is not None:
        return [index for index, language in enumerate(found) if same_language(language, asked)]
    return [index for index, language in enumerate(found) if other is None or not same_language(language, other)]
