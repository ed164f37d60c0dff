"""MinHash over pairs: shingles of both sides, band keys for locality-sensitive hashing, exact Jaccard of shingle sets.

Suffixes: N rows, T shingles of all rows joined, B bands, M compared pairs of rows. Sources: Broder 1997, On the
resemblance and containment of documents; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4 (banding).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter.diversity import Tokens
from bisift.filter.text import I64, U32, U64, mix64, ragged_index

BANDS, ROWS = 20, 6
"""A pair of rows of Jaccard 0.8 shares a band with probability 1 - (1 - 0.8^6)^20 = 0.998, one of 0.5 with 0.27."""

_BLOCK = 1 << 16  # shingles hashed at once: what fits in a core's cache
_SIDES = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
_random = np.random.default_rng(20_260_101)
_FACTORS: U32 = _random.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32) | np.uint32(1)
_OFFSETS: U32 = _random.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Shingles:
    """The sets of N rows: sorted 32-bit hashes, row i's are `hash_T[offsets[i]:offsets[i + 1]]`."""

    hash_T: U32
    offsets: I64

    @classmethod
    def of(cls, source: pa.ChunkedArray, target: pa.ChunkedArray) -> Shingles:
        """Return each pair's set: tokens and pairs of neighbouring tokens of both sides, told apart by side.

        Tokens are those of `diversity.Tokens`: lower-cased, without punctuation; a CJK character each.
        """
        keys = []
        for salt, column in zip(_SIDES, (source, target), strict=True):
            tokens = Tokens.of(column)
            for order in (1, 2):
                hash_G, row_G = tokens.ngrams(order)
                high_G = mix64(hash_G ^ salt) >> np.uint64(32)
                keys.append((row_G.astype(np.uint64) << np.uint64(32)) | high_G)
        key_T = np.sort(np.concatenate(keys))  # numpy's unique hashes, which is ten times slower
        new_T = np.ones(len(key_T), bool)
        new_T[1:] = key_T[1:] != key_T[:-1]
        key_T = key_T[new_T]
        row_T = (key_T >> np.uint64(32)).astype(np.int64)
        offsets = np.zeros(len(source) + 1, np.int64)
        np.cumsum(np.bincount(row_T, minlength=len(source)), out=offsets[1:])
        return cls(key_T.astype(np.uint32), offsets)

    def take(self, row_R: I64) -> Shingles:
        """Return the sets of some rows."""
        size_R = np.diff(self.offsets)[row_R]
        return Shingles(self.hash_T[ragged_index(self.offsets[row_R], size_R)], np.append(0, np.cumsum(size_R)))


def band_keys(shingles: Shingles) -> U64:
    """Return a key (odd, 64 bits) of each band of each row, N × B; of rows without shingles, 0.

    Row h of the signature is the least (a_h x + b_h) mod 2^32 over the shingles x, a_h odd: a permutation.
    """
    rows = len(shingles.offsets) - 1
    keys_NB = np.zeros((rows, BANDS), np.uint64)
    filled_N = np.flatnonzero(np.diff(shingles.offsets))
    starts, first = shingles.offsets[filled_N], 0
    while first < len(filled_N):
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _BLOCK)))
        end = starts[last] if last < len(starts) else len(shingles.hash_T)
        hash_T, runs = shingles.hash_T[starts[first] : end], starts[first:last] - starts[first]
        permuted_T = np.empty_like(hash_T)
        for band in range(BANDS):
            key = np.zeros(last - first, np.uint64)
            for row in range(band * ROWS, (band + 1) * ROWS):
                np.multiply(hash_T, _FACTORS[row], out=permuted_T)
                np.add(permuted_T, _OFFSETS[row], out=permuted_T)
                key = key * _SIDES[0] + np.minimum.reduceat(permuted_T, runs)
            keys_NB[filled_N[first:last], band] = mix64(key) | np.uint64(1)
        first = last
    return keys_NB


def jaccard(hash_T: U32, offsets: I64, one_M: I64, other_M: I64) -> npt.NDArray[np.float32]:
    """Return the Jaccard similarity of the sets of rows `one_M` and `other_M`."""
    size_one, size_other = offsets[one_M + 1] - offsets[one_M], offsets[other_M + 1] - offsets[other_M]
    place = np.arange(len(one_M), dtype=np.uint64) << np.uint64(32)
    one, other = (
        np.repeat(place, size) | hash_T[ragged_index(offsets[rows], size)]
        for rows, size in ((one_M, size_one), (other_M, size_other))
    )
    if not len(one) or not len(other):
        return np.zeros(len(one_M), np.float32)
    found = np.minimum(np.searchsorted(other, one), len(other) - 1)
    same = np.bincount(np.repeat(np.arange(len(one_M)), size_one), weights=other[found] == one, minlength=len(one_M))
    return (same / np.maximum(size_one + size_other - same, 1)).astype(np.float32)
