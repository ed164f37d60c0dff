"""Made noise: eight seeded ways to spoil the target of a pair, each what a crawl really holds.

Every function returns the spoilt target, or None where the pair cannot be spoilt that way. Text without spaces
(Chinese, Japanese, Thai) is cut between characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

KINDS = (
    "misaligned",
    "neighbour",
    "half",
    "dropped_phrase",
    "changed_number",
    "negation",
    "untranslated",
    "wrong_language",
)

_NUMBER = re.compile(r"\d+")
_MIN_UNITS = 4

# language: (negations to take away, (words, what to put in their place)). Crude, and enough to turn the meaning round.
NEGATIONS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "en": (
        ("not", "never", "no"),
        (
            ("is", "is not"),
            ("are", "are not"),
            ("was", "was not"),
            ("were", "were not"),
            ("will", "will not"),
            ("can", "cannot"),
            ("has", "has not"),
            ("have", "have not"),
            ("should", "should not"),
            ("would", "would not"),
        ),
    ),
    "de": (
        ("nicht", "nie", "niemals"),
        (
            ("ist", "ist nicht"),
            ("sind", "sind nicht"),
            ("war", "war nicht"),
            ("wird", "wird nicht"),
            ("kann", "kann nicht"),
            ("hat", "hat nicht"),
            ("haben", "haben nicht"),
            ("werden", "werden nicht"),
        ),
    ),
    "fr": (
        ("pas", "jamais"),
        (("est", "n'est pas"), ("sont", "ne sont pas"), ("a", "n'a pas"), ("peut", "ne peut pas")),
    ),
    "es": (
        ("no", "nunca"),
        (
            ("es", "no es"),
            ("son", "no son"),
            ("está", "no está"),
            ("puede", "no puede"),
            ("ha", "no ha"),
            ("se", "no se"),
        ),
    ),
    "it": (
        ("non", "mai"),
        (("è", "non è"), ("sono", "non sono"), ("può", "non può"), ("ha", "non ha"), ("viene", "non viene")),
    ),
    "cs": (
        ("ne", "nikdy"),
        (("je", "není"), ("jsou", "nejsou"), ("byl", "nebyl"), ("bude", "nebude"), ("může", "nemůže"), ("má", "nemá")),
    ),
    "ru": (
        ("не", "никогда"),
        (
            ("был", "не был"),
            ("была", "не была"),
            ("будет", "не будет"),
            ("может", "не может"),
            ("есть", "нет"),
            ("это", "это не"),
        ),
    ),
    "uk": (
        ("не", "ніколи"),
        (
            ("був", "не був"),
            ("була", "не була"),
            ("буде", "не буде"),
            ("може", "не може"),
            ("є", "не є"),
            ("це", "це не"),
        ),
    ),
    "ro": (("nu", "niciodată"), (("este", "nu este"), ("sunt", "nu sunt"), ("a", "nu a"), ("poate", "nu poate"))),
    "zh": (("不", "没有"), (("是", "不是"), ("会", "不会"), ("能", "不能"), ("有", "没有"))),
    "ja": (("ない",), (("です", "ではありません"), ("ます", "ません"), ("ている", "ていない"))),
}
_UNSPACED = ("zh", "ja", "th")


def units(text: str) -> tuple[list[str], str]:
    """The pieces that a text can be cut between, and what joins them."""
    words = text.split(" ")
    if len(text) > 12 and len(words) * 12 < len(text):
        return list(text), ""
    return words, " "


def half(target: str, rng: np.random.Generator) -> str | None:
    """Keep the first or the second half."""
    parts, joint = units(target)
    if len(parts) < _MIN_UNITS:
        return None
    middle = len(parts) // 2
    return joint.join(parts[:middle] if rng.random() < 0.5 else parts[middle:])


def dropped_phrase(target: str, rng: np.random.Generator) -> str | None:
    """Leave out a run of a sixth to a third of the text."""
    parts, joint = units(target)
    if len(parts) < _MIN_UNITS:
        return None
    size = max(1, round(len(parts) * rng.uniform(1 / 6, 1 / 3)))
    start = int(rng.integers(0, len(parts) - size + 1))
    return joint.join(parts[:start] + parts[start + size :])


def changed_number(target: str, rng: np.random.Generator) -> str | None:
    """Put another number in the place of one."""
    found = list(_NUMBER.finditer(target))
    if not found:
        return None
    match = found[int(rng.integers(len(found)))]
    old = match.group()
    digits = list(old)
    place = int(rng.integers(len(digits)))
    digits[place] = str((int(digits[place]) + int(rng.integers(1, 10))) % 10)
    return target[: match.start()] + "".join(digits) + target[match.end() :]


def negation(target: str, language: str, rng: np.random.Generator) -> str | None:
    """Negate, or take a negation away; None for a language without a list, or a text without a word of it."""
    if language not in NEGATIONS:
        return None
    remove, replace = NEGATIONS[language]
    if language in _UNSPACED:
        options = [target.replace(old, new, 1) for old, new in replace if old in target]
        options += [target.replace(word, "", 1) for word in remove if word in target]
    else:
        words = target.split(" ")
        lower = [word.lower() for word in words]
        options = [
            " ".join([*words[:place], new, *words[place + 1 :]])
            for old, new in replace
            for place in [lower.index(old) if old in lower else -1]
            if place >= 0
        ]
        options += [
            " ".join([*words[:place], *words[place + 1 :]])
            for word in remove
            for place in [lower.index(word) if word in lower else -1]
            if place >= 0
        ]
    return options[int(rng.integers(len(options)))] if options else None


Cut = Callable[[str, np.random.Generator], str | None]
CUTS: dict[str, Cut] = {"half": half, "dropped_phrase": dropped_phrase, "changed_number": changed_number}


def spoil(
    kind: str,
    source: Sequence[str],
    target: Sequence[str],
    language: Sequence[str],
    following: Sequence[str | None],
    foreign: Sequence[str | None],
    rng: np.random.Generator,
) -> list[str | None]:
    """Spoil N targets in one way.

    Args:
        kind: one of KINDS.
        source, target: the clean pairs.
        language: target language of each.
        following: target of the next segment of the same text, where there is one (`neighbour`).
        foreign: the same source's translation into another language, where there is one (`wrong_language`).
        rng: decides where and how.
    """
    if kind == "misaligned":
        shift = rng.permutation(len(target))
        return [target[j] if j != i and target[j] != target[i] else None for i, j in enumerate(shift)]
    if kind == "neighbour":
        return [text if text != own else None for text, own in zip(following, target, strict=True)]
    if kind == "wrong_language":
        return [text if text != own else None for text, own in zip(foreign, target, strict=True)]
    if kind == "untranslated":  # a name or a number is the same in both languages: no noise
        return [s if s != t and len(units(s)[0]) >= _MIN_UNITS else None for s, t in zip(source, target, strict=True)]
    if kind == "negation":
        return [negation(text, name, rng) for text, name in zip(target, language, strict=True)]
    return [spoilt if spoilt != text else None for text in target for spoilt in [CUTS[kind](text, rng)]]
