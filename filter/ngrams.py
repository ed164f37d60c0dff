"""Hashed character n-grams of the target, salted by its language, and the sum of their weights in a table.

Suffixes: C code points of all rows (each cut to MAX_CHARS), N rows, K entries of the table (a power of two).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bisift.filter.text import DIGIT, I64, U32, Text, ragged_index

ORDERS = 4
"""n-grams of 1 to 4 code points."""

MAX_CHARS = 250
"""n-grams that begin later in a row do not count, so that a row has at most 1,000."""

_STEP = np.uint32(0x9E3779B1)
_CODE = np.uint32(0x85EBCA6B)
_LAST = np.uint32(0xC2B2AE35)
_ZERO = np.uint32(ord("0"))


def language_salt(languages: Sequence[str | None]) -> U32:
    """A 32-bit salt for each row's language, so that languages do not share n-gram weights (FNV-1a); shape N."""
    known: dict[str | None, int] = {}
    for language in set(languages):
        value = 0x811C9DC5
        for byte in (language or "").encode():
            value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
        known[language] = value
    return np.fromiter((known[language] for language in languages), np.uint32, len(languages))


def ngrams(text: Text, salt_N: U32, bits: int) -> Iterator[tuple[I64, I64]]:
    """For each order yield the table index (below 2**`bits`, never 0) and the row of every n-gram, in text order.

    Digits count as one digit; case is kept. An n-gram never leaves its row.
    """
    row_C = np.repeat(np.arange(text.rows, dtype=np.int64), _lengths(text))
    for ids_C, inside_C in _orders(text, salt_N, bits):
        inside = np.flatnonzero(inside_C)
        yield ids_C[inside].astype(np.int64), row_C[inside]


def ngram_sums(text: Text, salt_N: U32, table_K: npt.NDArray[np.int8]) -> tuple[I64, I64]:
    """Sum of the table's weights over each row's n-grams, and the number of n-grams; integers of shape N."""
    length_N = _lengths(text)
    ends_N = np.cumsum(length_N)
    running = np.zeros(int(ends_N[-1]) + 1 if ends_N.size else 1, dtype=np.int64)
    weight_C = np.zeros(len(running) - 1, dtype=np.int16)
    for ids_C, inside_C in _orders(text, salt_N, len(table_K).bit_length() - 1):
        weight_C[: len(ids_C)] += table_K[ids_C] * inside_C  # at most ORDERS * 127
    np.cumsum(weight_C, dtype=np.int64, out=running[1:])  # integers: exact, whatever stands before
    count_N = sum((np.maximum(length_N - order, 0) for order in range(ORDERS)), np.zeros_like(length_N))
    return running[ends_N] - running[ends_N - length_N], count_N


def _lengths(text: Text) -> I64:
    """Code points of each row that are looked at."""
    return np.minimum(text.length_N, MAX_CHARS + ORDERS)


def _orders(text: Text, salt_N: U32, bits: int) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]]:
    """For each order yield the index of the n-gram at each code point, and whether it stays in its row."""
    length_N = _lengths(text)
    codes_C, kind_C = text.codes_C, text.kind_C
    if int(length_N.sum()) < len(codes_C):
        keep_C = ragged_index(text.offsets[:-1], length_N)
        codes_C, kind_C = codes_C[keep_C], kind_C[keep_C]
    codes_C = np.where(kind_C == DIGIT, _ZERO, codes_C) * _CODE
    ends_N = np.cumsum(length_N)
    outside_C = np.zeros(len(codes_C) + ORDERS, dtype=bool)
    shift = np.uint32(32 - bits)
    hash_C = np.repeat(salt_N, length_N)
    for order in range(ORDERS):
        if order:
            hash_C = hash_C[:-1]
            last = ends_N[length_N >= order] - order  # where an n-gram of this order first leaves its row
            outside_C[last] = True
        hash_C = hash_C ^ codes_C[order:]
        hash_C *= _STEP
        hash_C ^= hash_C >> np.uint32(15)
        ids_C = np.maximum((hash_C * _LAST) >> shift, np.uint32(1)).view(np.int32)
        yield ids_C, ~outside_C[: len(ids_C)]
