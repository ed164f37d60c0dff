"""What pushed both scores, as lines for a terminal: groups with signed bars, then tokens and n-grams."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from bisift.filter.attribution import Attribution, Contribution, Split
    from bisift.filter.tokens import NgramEvidence, Tokens

Paint = Callable[..., str]

SHOWN_TOKENS = 8
SHOWN_NGRAMS = 8
SHOWN_VALUES = 3
TOKEN_CELLS = 24
TEXT_CHARS = 600
SMALL = 0.0005
"""A contribution below this would be shown as 0.000."""

HALF_BAR = 5
_INDENT = 49  # where the values of a group begin
AI = ("towards", "machine", "human", "red", "green")
QUALITY = ("", "raises", "lowers", "green", "red")
OTHER_GROUPS = {"n-grams": "of the target's characters", "limit": "no pair's evidence is beyond 8"}
BASELINE = {
    "prior": "of the share of machine text to expect",
    "language": "offset of the target language's calibration",
    "typical_pair": "where the groups start from",
}


def plain(text: str, chars: int = TEXT_CHARS) -> str:
    """Return the first `chars` code points, and how many there are if that cuts it; control characters are escaped."""
    cut = text[:chars]
    shown = "".join(_escaped(character) if _disturbs(character) else character for character in cut)
    return shown if len(cut) == len(text) else f"{shown}… ({len(text):,} code points)"


def _disturbs(character: str) -> bool:
    """Whether a character controls the terminal, ends a line, or turns the direction of what follows."""
    if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
        return True
    return unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def attribution_lines(attribution: Attribution, paint: Paint, width: int | None) -> Iterator[str]:
    """Yield the sections of an attribution, cut to `width` columns (None: uncut)."""
    tokens = attribution.tokens
    unknown = sum(not token.in_vocabulary for token in tokens.source)
    unknown += sum(not token.in_vocabulary for token in tokens.target)
    words = f"{len(tokens.source)} + {len(tokens.target)} tokens, {unknown} unknown"
    yield from _split("ai_probability", attribution.ai_probability, AI, words, paint, width)
    yield ""
    if attribution.quality is not None:
        yield from _split("quality", attribution.quality, QUALITY, words, paint, width)
        yield ""
    yield from _tokens(tokens, paint)
    if attribution.ngrams is not None:
        yield from _ngrams(attribution.ngrams, tokens, paint, width)


def _split(
    name: str, split: Split, sense: tuple[str, ...], words: str, paint: Paint, width: int | None
) -> Iterator[str]:
    yield paint(f"{name} {split.score:.3f} is {split.log_odds:+.3f} in log-odds, the sum of", bold=True)
    yield f"{'log-odds':>25}  {'':<{2 * HALF_BAR + 1}}  {sense[0]:<7}  value (typical)".rstrip()
    for label, value in split.baseline.items():
        yield _cut(f"  {label.replace('_', ' '):<14} {value:>+8.3f}  {BASELINE[label]}", width)
    parts = sorted(split.contributions, key=lambda part: -abs(part.log_odds))
    loud = [part for part in parts if abs(part.log_odds) >= SMALL]
    for part in loud:
        yield _row(part, abs(loud[0].log_odds), sense, words, paint, width)
    if len(loud) < len(parts):
        yield _cut(f"  {'the rest':<14}    0.000  {', '.join(part.group for part in parts[len(loud) :])}", width)


def _row(
    part: Contribution, largest: float, sense: tuple[str, ...], words: str, paint: Paint, width: int | None
) -> str:
    _, up, down, up_colour, down_colour = sense
    cells = math.ceil(abs(part.log_odds) / largest * HALF_BAR)
    word, colour = (up, up_colour) if part.log_odds > 0 else (down, down_colour)
    bar, space, blank = paint("█" * cells, fg=colour), " " * (HALF_BAR - cells), " " * HALF_BAR
    axis = f"{blank}│{bar}{space}" if part.log_odds > 0 else f"{space}{bar}│{blank}"
    values = _values(part, words, math.inf if width is None else width - _INDENT)
    return f"  {part.group:<14} {part.log_odds:>+8.3f}  {axis}  {paint(f'{word:<7}', fg=colour)}  {values}".rstrip()


def _values(part: Contribution, words: str, room: float) -> str:
    """What stands in a group: of row features those that matter most and fit, each beside the typical value."""
    if part.group in OTHER_GROUPS or not part.inputs:
        return _cut(OTHER_GROUPS.get(part.group, words), room)
    told = sorted((entry for entry in part.inputs if entry.effect), key=lambda entry: -abs(entry.effect))
    pieces = [f"{entry.feature} {entry.value:.3g} ({entry.typical:.3g})" for entry in told[:SHOWN_VALUES]]
    while len(pieces) > 1 and len(", ".join(pieces)) > room:
        pieces.pop()
    return _cut(", ".join(pieces), room)


def _tokens(tokens: Tokens, paint: Paint) -> Iterator[str]:
    seen = [token for token in tokens.target if token.log_probability is not None]
    if not seen:
        return
    seen.sort(key=lambda token: token.log_probability or 0.0)
    with_ngrams = any(token.ngrams is not None for token in seen)
    count = min(len(seen), SHOWN_TOKENS)
    yield paint(f"the {count} of {tokens.target_count:,} target tokens that the lexical table expects least", bold=True)
    yield f"   log p  t(t|s)   style{'  n-grams' if with_ngrams else ''}  token ← source"
    for token in seen[:SHOWN_TOKENS]:
        link = f"{'-':>6}  {'-':>6}"
        if token.source is not None:
            link = f"{token.link_probability:>6.3f}  {token.style:>+6.2f}"
        numbers = f"{token.log_probability:>8.2f}  {link}"
        if token.ngrams is not None:
            numbers += f"   {token.ngrams:>+6.3f}"
        linked = paint("nothing", fg="yellow") if token.source is None else _token(token.source)
        yield f"{numbers}  {_token(token.token)} ← {linked}"
    unexplained = [_token(token.token) for token in tokens.source if not token.explained]
    if unexplained:
        more = f" and {len(unexplained) - SHOWN_TOKENS} more" if len(unexplained) > SHOWN_TOKENS else ""
        yield f"source tokens that nothing explains: {' '.join(unexplained[:SHOWN_TOKENS])}{more}"
    if tokens.target_count > len(seen):
        yield f"the table looks at {len(seen)} of the target's {tokens.target_count:,} tokens"


def _ngrams(evidence: NgramEvidence, tokens: Tokens, paint: Paint, width: int | None) -> Iterator[str]:
    yield ""
    yield paint(f"the n-grams' {evidence.log_odds:+.3f}: what pushes most, towards machine (+) or human (-)", bold=True)
    strongest = sorted(tokens.target, key=lambda token: -abs(token.ngrams or 0.0))[:SHOWN_NGRAMS]
    by_token = [_pushed(token.token, token.ngrams or 0.0, paint) for token in strongest]
    yield from _wrapped("  by token   ", by_token, width)
    by_ngram = [_pushed(entry.text, entry.log_odds, paint) for entry in evidence.ngrams[:SHOWN_NGRAMS]]
    yield from _wrapped("  by n-gram  ", by_ngram, width)


def _pushed(text: str, log_odds: float, paint: Paint) -> tuple[str, int]:
    """A text with its push, and how many columns that takes."""
    shown, push = _token(text), f"{log_odds:+.3f}"
    return f"{shown} {paint(push, fg='red' if log_odds > 0 else 'green')}", cell_len(shown) + 1 + len(push)


def _wrapped(label: str, items: Sequence[tuple[str, int]], width: int | None) -> Iterator[str]:
    line, used = label, len(label)
    for text, cells in items:
        if width is not None and used + cells > width and used > len(label):
            yield line.rstrip()
            line, used = " " * len(label), len(label)
        line += f"{text}   "
        used += cells + 3
    yield line.rstrip()


def _token(text: str) -> str:
    """A token or n-gram that cannot disturb its line: short, spaces seen, right-to-left text kept apart."""
    shown = _cut(plain(text, TOKEN_CELLS + 1).replace(" ", "␣"), TOKEN_CELLS)
    if any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in shown):
        return f"\u2068{shown}\u2069"  # first strong isolate, pop directional isolate (Unicode annex 9)
    return shown


def _cut(text: str, cells: float | None) -> str:
    if cells is None or cell_len(text) <= cells:
        return text
    kept = text
    while kept and cell_len(kept) >= cells:
        kept = kept[:-1]
    return f"{kept.rstrip()}…"
