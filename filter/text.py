"""One side of a chunk as arrays of code points, so that rules and models measure thousands of segments at once.

Suffixes name axes: C code points of all rows joined, N rows, T tokens. Nothing here loops over rows in Python, and
every value of a row depends on that row's text alone, never on its neighbours: chunk sizes cannot change a result.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# Kinds of a code point, exclusive. Letters are every kind from LETTER on.
OTHER, SPACE, DIGIT, PUNCTUATION, SYMBOL, MARK = range(6)
LETTER = 8
(
    LATIN,
    CYRILLIC,
    GREEK,
    ARABIC,
    HEBREW,
    DEVANAGARI,
    HAN,
    KANA,
    HANGUL,
    THAI,
    INDIC,  # Bengali to Sinhala: the Brahmic scripts of South Asia other than Devanagari
    ARMENIAN,
    GEORGIAN,
    ETHIOPIC,
    SEA,  # Lao, Tibetan, Myanmar, Khmer
    OTHER_LETTER,
) = range(LETTER, LETTER + 16)

_SCRIPTS = {
    "LATIN": LATIN,
    "CYRILLIC": CYRILLIC,
    "GREEK": GREEK,
    "ARABIC": ARABIC,
    "HEBREW": HEBREW,
    "DEVANAGARI": DEVANAGARI,
    "CJK": HAN,
    "IDEOGRAPHIC": HAN,
    "HIRAGANA": KANA,
    "KATAKANA": KANA,
    "KATAKANA-HIRAGANA": KANA,
    "HALFWIDTH": KANA,
    "FULLWIDTH": LATIN,
    "HANGUL": HANGUL,
    "THAI": THAI,
    "BENGALI": INDIC,
    "GURMUKHI": INDIC,
    "GUJARATI": INDIC,
    "ORIYA": INDIC,
    "TAMIL": INDIC,
    "TELUGU": INDIC,
    "KANNADA": INDIC,
    "MALAYALAM": INDIC,
    "SINHALA": INDIC,
    "ARMENIAN": ARMENIAN,
    "GEORGIAN": GEORGIAN,
    "ETHIOPIC": ETHIOPIC,
    "LAO": SEA,
    "TIBETAN": SEA,
    "MYANMAR": SEA,
    "KHMER": SEA,
}
_TABLE_SIZE = 0x20000
_RANGES = ((0x3400, 0x9FFF, HAN), (0xAC00, 0xD7A3, HANGUL), (0x1100, 0x11FF, HANGUL))


def _kind(code: int) -> int:
    for first, last, kind in _RANGES:
        if first <= code <= last:
            return kind
    character = chr(code)
    category = unicodedata.category(character)
    if category[0] == "L":
        return _SCRIPTS.get(unicodedata.name(character, "").split(" ")[0], OTHER_LETTER)
    if category[0] == "M":
        return MARK
    if category == "Nd":
        return DIGIT
    if category[0] == "P":
        return PUNCTUATION
    if category[0] == "S":
        return SYMBOL
    if character.isspace():
        return SPACE
    return OTHER


@lru_cache(maxsize=1)
def kind_table() -> U8:
    """Kinds of the code points below 0x20000; above it, see `kinds_of`. Built once, in some 50 ms."""
    return np.fromiter((_kind(code) for code in range(_TABLE_SIZE)), dtype=np.uint8, count=_TABLE_SIZE)


@lru_cache(maxsize=1)
def lower_table() -> U32:
    """Simple lower case of the code points below 0x20000 (one to one, so lengths never change)."""
    table = np.arange(_TABLE_SIZE, dtype=np.uint32)
    for code in range(_TABLE_SIZE):
        low = chr(code).lower()
        if len(low) == 1:
            table[code] = ord(low)
    return table


def kinds_of(codes_C: U32) -> U8:
    """Kind of each code point: ideographs beyond the table are HAN, all else there (emoji are below) OTHER."""
    table = kind_table()
    if codes_C.size == 0 or int(codes_C.max()) < _TABLE_SIZE:
        return table[codes_C]
    kinds_C = table[np.minimum(codes_C, _TABLE_SIZE - 1)]
    high = codes_C >= _TABLE_SIZE
    kinds_C[high] = np.where(codes_C[high] < 0x32000, HAN, OTHER)
    return kinds_C


def lower_of(codes_C: U32) -> U32:
    """Lower-case each code point that the table covers."""
    if codes_C.size == 0 or int(codes_C.max()) < _TABLE_SIZE:
        return lower_table()[codes_C]
    return np.where(codes_C < _TABLE_SIZE, lower_table()[np.minimum(codes_C, _TABLE_SIZE - 1)], codes_C)


def mix64(values: U64) -> U64:
    """Scramble 64-bit integers (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_POSITIONS = mix64(np.arange(1, 65, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)

_DENSE = 24  # code points of a run that are hashed position by position; what is beyond is gathered


@dataclass(frozen=True, slots=True)
class Spans:
    """Runs of code points inside rows: `start_T` and `end_T` index code points, `row_T` rows, in text order."""

    start_T: I64
    end_T: I64
    row_T: I64

    @property
    def length_T(self) -> I64:
        return self.end_T - self.start_T


@dataclass(frozen=True)
class Text:
    """The segments of one side of a chunk, decoded once. Null rows count as empty.

    `offsets` has N + 1 entries: row i is `codes_C[offsets[i]:offsets[i + 1]]`.
    """

    codes_C: U32
    offsets: I64

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> Text:
        """Decode a string column of N rows."""
        return cls.of_strings([value or "" for value in column.to_pylist()])

    @classmethod
    def of_strings(cls, texts: Sequence[str]) -> Text:
        """Decode N texts."""
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        return cls(codes_C=codes, offsets=offsets)

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def length_N(self) -> I64:
        """Code points of each row."""
        return np.diff(self.offsets)

    @cached_property
    def row_C(self) -> I64:
        """Row of each code point."""
        return np.repeat(np.arange(self.rows, dtype=np.int64), self.length_N)

    @cached_property
    def kind_C(self) -> U8:
        return kinds_of(self.codes_C)

    @cached_property
    def lower_C(self) -> U32:
        return lower_of(self.codes_C)

    @cached_property
    def kinds_NK(self) -> I64:
        """How many code points of each kind a row has; K = 24, indexed by the kinds above."""
        key_C = self.row_C * 24 + self.kind_C
        return np.bincount(key_C, minlength=self.rows * 24).reshape(self.rows, 24)

    @cached_property
    def words(self) -> Spans:
        """Runs without white space, as users count words; in Han, kana and Thai each letter is one."""
        space_C = self.kind_C == SPACE
        single_C = (self.kind_C == HAN) | (self.kind_C == KANA) | (self.kind_C == THAI)
        return self._runs(inside_C=~space_C, single_C=single_C)

    @cached_property
    def tokens(self) -> Spans:
        """Units for lexical models: runs of letters, digits and marks; each punctuation mark, symbol, ideograph,
        kana and Thai letter is a token of its own."""
        kind_C = self.kind_C
        inside_C = (kind_C != SPACE) & (kind_C != OTHER)
        single_C = (kind_C == PUNCTUATION) | (kind_C == SYMBOL) | (kind_C == HAN) | (kind_C == KANA) | (kind_C == THAI)
        return self._runs(inside_C=inside_C, single_C=single_C)

    @cached_property
    def token_hash_T(self) -> U64:
        """`hash_spans` of the tokens, lower-cased."""
        return self.hash_spans(self.tokens)

    def _runs(self, inside_C: Bool, single_C: Bool) -> Spans:
        if not inside_C.size:
            empty = np.zeros(0, dtype=np.int64)
            return Spans(empty, empty, empty)
        first_C = np.empty(inside_C.size, dtype=bool)
        first_C[0] = True
        first_C[1:] = ~inside_C[:-1] | single_C[1:] | single_C[:-1]
        bounds = self.offsets[:-1]
        first_C[bounds[bounds < inside_C.size]] = True
        first_C &= inside_C
        last_C = np.empty(inside_C.size, dtype=bool)
        last_C[:-1] = first_C[1:] | ~inside_C[1:]
        last_C[-1] = True
        ends = self.offsets[1:] - 1
        last_C[ends[ends >= 0]] = True
        last_C &= inside_C
        start_T = np.flatnonzero(first_C)
        return Spans(start_T, np.flatnonzero(last_C) + 1, self.row_C[start_T])

    def hash_spans(self, spans: Spans, *, lower: bool = True) -> U64:
        """A 64-bit hash of each run's text (lower-cased by default), the same for the same text anywhere.

        Positions beyond 64 reuse their keys, which only makes anagrams 64 letters apart collide.
        """
        codes_C = self.lower_C if lower else self.codes_C
        length_T = spans.length_T
        order_T = np.argsort(-np.minimum(length_T, _DENSE).astype(np.int8), kind="stable")  # longest first: radix sort
        start_T = spans.start_T[order_T]
        longer_P = np.searchsorted(-length_T[order_T].clip(max=_DENSE), -np.arange(_DENSE))
        sum_T = np.zeros(length_T.size, dtype=np.uint64)
        for position, tokens in enumerate(longer_P.tolist()):
            if not tokens:
                break
            term_T = codes_C[start_T[:tokens] + position].astype(np.uint64)
            term_T += np.uint64(1)
            term_T *= _POSITIONS[position]
            sum_T[:tokens] += term_T
        hash_T = np.empty_like(sum_T)
        hash_T[order_T] = sum_T
        long_L = np.flatnonzero(length_T > _DENSE)
        if long_L.size:
            rest_L = length_T[long_L] - _DENSE
            index_R = ragged_index(spans.start_T[long_L] + _DENSE, rest_L)
            position_R = ragged_index(np.full(long_L.size, _DENSE), rest_L)
            terms_R = (codes_C[index_R].astype(np.uint64) + np.uint64(1)) * _POSITIONS[position_R & 63]
            hash_T[long_L] += np.add.reduceat(terms_R, np.cumsum(rest_L) - rest_L)
        return mix64(hash_T)


def ragged_index(start_T: I64, length_T: I64) -> I64:
    """Indices of all elements of the runs, joined: `[start, start + 1, ...]` for each run in turn."""
    ends = np.cumsum(length_T)
    total = int(ends[-1]) if ends.size else 0
    shift_T = start_T - (ends - length_T)
    index: I64 = np.arange(total, dtype=np.int64) + np.repeat(shift_T, length_T)
    return index


def sum_by_row(values_T: npt.NDArray[np.float64], row_T: I64, rows: int) -> npt.NDArray[np.float64]:
    """Sum values by row, in text order (sequential, so a row's sum does not depend on other rows)."""
    return np.bincount(row_T, weights=values_T, minlength=rows).astype(np.float64, copy=False)
