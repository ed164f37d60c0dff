"""Sets of hashed things by row: sorted 64-bit keys with the row on top, so that one sort compares all rows."""

from __future__ import annotations

import numpy as np

from bisift.filter.text import I64, U64, mix64

_ROW_SHIFT = np.uint64(40)  # 40 bits of hash: one chance collision in 10^9 pairs of things within a row
_HASH_SHIFT = np.uint64(24)


def row_keys(row_T: I64, hash_T: U64, *, occurrences: bool = False) -> U64:
    """Sorted keys of the distinct things of each row; with `occurrences`, the k-th of equal things is one of its own.

    At most 2**24 rows.
    """
    key_T: U64 = np.sort((row_T.astype(np.uint64) << _ROW_SHIFT) | (mix64(hash_T) >> _HASH_SHIFT))
    if not key_T.size:
        return key_T
    new_T = np.concatenate([[True], key_T[1:] != key_T[:-1]])
    if not occurrences:
        return np.asarray(key_T[new_T])
    first_T = np.maximum.accumulate(np.where(new_T, np.arange(key_T.size), 0))
    earlier_T = (np.arange(key_T.size) - first_T).astype(np.uint64)
    again = np.flatnonzero(earlier_T)
    if again.size:
        key_T[again] = (key_T[again] >> _ROW_SHIFT << _ROW_SHIFT) | (
            mix64(key_T[again] + (earlier_T[again] << _ROW_SHIFT)) >> _HASH_SHIFT
        )
        key_T.sort()
    return key_T


def count_keys(key_K: U64, rows: int) -> I64:
    """Keys of each row."""
    return np.bincount((key_K >> _ROW_SHIFT).astype(np.int64), minlength=rows)


def shared(source_K: U64, target_K: U64, rows: int) -> I64:
    """How many keys of `row_keys` a row has on both sides."""
    both_K = np.concatenate([source_K, target_K])
    both_K.sort(kind="stable")  # merges the two sorted halves
    return count_keys(both_K[:-1][both_K[1:] == both_K[:-1]], rows)
