"""Items that a translation keeps (numbers, URLs, e-mail addresses, placeholders), and left-overs of page or encoding.

Regular expressions run only on rows whose counts say that there can be a match. All are linear: no backreference, no
nested quantifier, every repetition bounded.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bisift.filter.features import classes
from bisift.filter.features.keys import row_keys, shared
from bisift.filter.features.sides import Side, Sides
from bisift.filter.text import DIGIT, I64, U8, U64, Bool, mix64

F32 = npt.NDArray[np.float32]

MAX_CHARS = 4096
"""Code points of a row that regular expressions read."""

URL = re.compile(r"(?:https?://|ftp://|\bwww\.)(?:[\w-]{1,63}\.){0,8}([\w-]{1,63}\.[\w-]{1,63}|localhost)")
"""Group 1 is what is compared: the last two labels of the host, since translators localise the rest."""
EMAIL = re.compile(r"[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_CONVERSION = (
    r"(?<![\d%])%(?:\([A-Za-z_]\w{0,63}\)[a-z]|(?:\d\$)?[-+0#]?\d{0,3}(?:\.\d{1,3})?(?:l{0,2}[diuxX]|[sfgcr@]))"
)
PLACEHOLDER = re.compile(
    _CONVERSION + r"(?![A-Za-z])|\$?\{\{?[A-Za-z0-9_.:$ -]{0,64}\}?\}|</?\d{1,3}/?>|&(?:[A-Za-z]{2,8}|#\d{1,6});"
)
_POSITION = re.compile(r"%\d\$")
_TAGS = (
    "a abbr b big blockquote body br button center code dd div dl dt em embed font footer form frame h1 h2 h3 h4 h5 h6 "
    "head header hr html i iframe img input label li link meta nav object ol option p pre script section select small "
    "span strike strong style sub sup table tbody td textarea tfoot th thead title tr tt u ul video"
)
MARKUP = re.compile(
    rf"</?(?:{'|'.join(_TAGS.split())})(?:\s[^<>]{{0,300}})?/?>|<!--|&(?:[A-Za-z]{{2,8}}|#\d{{1,6}}|#x[0-9A-Fa-f]{{1,5}});",
    re.IGNORECASE,
)
_TAIL = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"  # 0x80 to 0xBF as Latin-1 and as Windows-1252
MOJIBAKE = re.compile(f"\ufffd|â€|ï¿½|ï»¿|[ÂÃ][{_TAIL}]|[\u00c4-\u00d1\u00d8-\u00df][{_TAIL}][\u00c2-\u00df][{_TAIL}]")
ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|U[0-9A-Fa-f]{8}|u\{[0-9A-Fa-f]{1,6}\})")
TEMPLATE = re.compile(r"\{\{[^{}]{0,100}\}\}|\{%[^{}]{0,200}%\}|<%[^<>]{0,200}%>|\$\{[^{}]{0,100}\}|\+{3}")

_SEPARATORS = ".,'’٫٬\u00a0\u202f\u2009"
_BASE = np.uint64(0x9E3779B97F4A7C15)


def count_matches(side: Side, maybe_N: Bool, pattern: re.Pattern[str]) -> I64:
    """Matches of the pattern in each row that `maybe_N` names; 0 elsewhere."""
    out_N = np.zeros(side.rows, dtype=np.int64)
    for row in np.flatnonzero(maybe_N).tolist():
        out_N[row] = sum(1 for _ in pattern.finditer(side.texts[row], 0, MAX_CHARS))
    return out_N


def match_share(sides: Sides, maybe_N: Bool, pattern: re.Pattern[str]) -> F32:
    """Items on both sides over the larger count, as multisets; 1 where neither side has any."""
    out_N = np.ones(len(maybe_N), dtype=np.float32)
    for row in np.flatnonzero(maybe_N).tolist():
        left, right = (_items(side.texts[row], pattern) for side in (sides.source_side, sides.target_side))
        larger = max(left.total(), right.total())
        if larger:
            out_N[row] = (left & right).total() / larger
    return out_N


def _items(text: str, pattern: re.Pattern[str]) -> Counter[str]:
    found = pattern.findall(text, 0, MAX_CHARS)
    if pattern is PLACEHOLDER:  # positions may be spelled out where the order changes: %1$s is %s
        return Counter(_POSITION.sub("%", item) for item in found)
    return Counter(item.lower() for item in found)


def may_have_url(side: Side) -> Bool:
    return ((side.count_N(classes.SLASH) > 1) & (side.count_N(classes.COLON) > 0)) | side.rows_with("www.")


def may_have_placeholder(side: Side) -> Bool:
    return side.count_N(classes.PERCENT, classes.CURLY_OPEN, classes.LESS, classes.AMPERSAND) > 0


def markup(side: Side) -> I64:
    """HTML tags and entities of each row."""
    return count_matches(side, side.count_N(classes.LESS, classes.AMPERSAND) > 0, MARKUP)


def mojibake(side: Side) -> I64:
    """Signs of a wrong decoding in each row."""
    maybe_N = side.count_N(classes.REPLACEMENT) > 0
    class_C = side.class_C[:-1]
    lead = np.flatnonzero((class_C == classes.LEAD_UPPER) | (class_C == classes.LEAD_LOWER))
    tail_C = side.text.codes_C[lead + 1]
    damaged = lead[(tail_C < _TAIL_TABLE.size) & (_TAIL_TABLE[np.minimum(tail_C, _TAIL_TABLE.size - 1)] > 0)]
    maybe_N[side.rows_of(damaged)] = True
    return count_matches(side, maybe_N, MOJIBAKE)


def _tail_table() -> U8:
    table = np.zeros(0x2123, dtype=np.uint8)
    table[0x80:0xC0] = 1
    table[[ord(character) for character in _TAIL[3:]]] = 1
    return table


_TAIL_TABLE = _tail_table()


def escaped_unicode(side: Side) -> I64:
    """Escapes of code points left as text in each row."""
    return count_matches(side, side.count_N(classes.BACKSLASH) > 0, ESCAPE)


def templates(side: Side) -> I64:
    """Template literals of each row."""
    maybe_N = side.count_N(classes.CURLY_OPEN) > 0
    maybe_N |= (side.count_N(classes.PERCENT) > 1) & (side.count_N(classes.LESS) > 0)
    return count_matches(side, maybe_N | (side.count_N(classes.PLUS) > 2), TEMPLATE)


@lru_cache(maxsize=1)
def _digit_values() -> U8:
    table = np.zeros(0x20000, dtype=np.uint8)
    for code in np.flatnonzero(classes.class_table() == DIGIT).tolist():
        table[code] = unicodedata.digit(chr(code))
    return table


def number_match(sides: Sides) -> F32:
    """Numbers on both sides over the larger count, as multisets; 1 without numbers, or where all digits are the same.

    A number is a run of decimal digits of any script, with single marks between them (1,000.5 = 1.000,5 = ١٠٠٠٫٥);
    leading zeros do not count. Numbers written as words are no numbers here.
    """
    rows = sides.source_side.rows
    source_N, source_K, source_digits_N = _numbers(sides.source_side)
    target_N, target_K, target_digits_N = _numbers(sides.target_side)
    larger_N = np.maximum(source_N, target_N)
    out_N = np.ones(rows)
    np.divide(shared(source_K, target_K, rows), larger_N, out=out_N, where=larger_N > 0)
    out_N[source_digits_N == target_digits_N] = 1
    return out_N.astype(np.float32)


def _numbers(side: Side) -> tuple[I64, U64, U64]:
    """How many numbers a row has, a key for each (occurrences told apart), and a hash of all the row's digits."""
    place_D = np.flatnonzero(side.class_C == DIGIT)
    if not place_D.size:
        return np.zeros(side.rows, dtype=np.int64), np.zeros(0, dtype=np.uint64), np.zeros(side.rows, dtype=np.uint64)
    row_D = side.rows_of(place_D)
    gap_D = np.diff(place_D)
    between = side.text.codes_C[place_D[:-1] + 1]
    joined = (gap_D == 1) | ((gap_D == 2) & np.isin(between, [ord(character) for character in _SEPARATORS]))
    joined &= row_D[1:] == row_D[:-1]
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    value_D = _digit_values()[side.text.codes_C[place_D]].astype(np.uint64)
    hash_T = _horner(value_D, first)
    row_T = row_D[first]
    row_first = np.flatnonzero(np.concatenate([[True], row_D[1:] != row_D[:-1]]))
    digits_N = np.zeros(side.rows, dtype=np.uint64)
    digits_N[row_D[row_first]] = mix64(_horner(value_D + np.uint64(1), row_first))
    return np.bincount(row_T, minlength=side.rows), row_keys(row_T, hash_T, occurrences=True), digits_N


def _horner(value_D: U64, first: I64) -> U64:
    """For each run the sum of value * BASE ** (places to the run's end), modulo 2 ** 64: leading zeros do not count."""
    ends = np.append(first[1:], len(value_D))
    power_D = np.repeat(ends, ends - first) - 1 - np.arange(len(value_D))
    powers = np.ones(int(power_D.max()) + 1, dtype=np.uint64)
    np.multiply.accumulate(np.full(len(powers) - 1, _BASE), out=powers[1:])
    hashed: U64 = np.add.reduceat(value_D * powers[power_D], first)
    return hashed
