"""Near duplicates among all rows: which better row is close to a row, found band by band in bounded memory.

What is held in memory is some 80 bytes a row; shingles and band keys lie on disk. Suffixes: N rows, C candidates.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter.minhash import BANDS, Shingles, band_keys, jaccard
from bisift.filter.text import I64, ragged_index
from bisift.filter.writers.base import disk_errors

THRESHOLD = 0.8
_COMPARED = 1 << 14  # pairs of rows compared at once
F32 = npt.NDArray[np.float32]


class NearDuplicates:
    """Takes the texts of all rows, then finds for each the best better row that is close; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: list[I64] = []
        self._files = contextlib.ExitStack()
        self._shingles = self._open("shingles")
        self._bands = [self._open(f"band-{band:02d}") for band in range(BANDS)]

    def _open(self, name: str) -> IO[bytes]:
        return self._files.enter_context(open(self._folder / name, "w+b"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def add(self, source: pa.ChunkedArray, target: pa.ChunkedArray) -> None:
        """Add the texts of the next rows.

        Raises:
            BisiftError: the disk is full.
        """
        shingles = Shingles.of(source, target)
        keys_BN = np.ascontiguousarray(band_keys(shingles).T)
        with disk_errors(self._folder):
            self._shingles.write(shingles.hash_T.data)
            for file, key_N in zip(self._bands, keys_BN, strict=True):
                file.write(key_N.data)
        self._sizes.append(np.diff(shingles.offsets))

    def find(self, place_N: I64, threshold: float = THRESHOLD) -> tuple[I64, F32]:
        """Return for each row the first row in the order that is close to it and before it, and their Jaccard.

        `place_N` is each row's place in the order, best first. Close rows share a band and have a Jaccard of at least
        `threshold`; a row without one has -1 and 0. Nothing is transitive, so the order of the rows changes nothing.
        """
        rows = len(place_N)
        offsets = np.zeros(rows + 1, np.int64)
        np.cumsum(np.concatenate(self._sizes) if self._sizes else np.zeros(0, np.int64), out=offsets[1:])
        row_at = np.empty(rows, np.int64)
        row_at[place_N] = np.arange(rows)
        best_N = np.full(rows, rows, np.int64)  # the place of the best close row so far
        likeness_N = np.zeros(rows, np.float32)
        with disk_errors(self._folder):
            self._shingles.flush()
            for file in self._bands:
                file.flush()
        if not offsets[-1]:
            return np.full(rows, -1, np.int64), likeness_N
        mapped = mmap.mmap(self._shingles.fileno(), 0, access=mmap.ACCESS_READ)  # closed with its last array
        hash_T = np.frombuffer(mapped, np.uint32)
        mapped.madvise(mmap.MADV_RANDOM)

        def compare(one_M: I64, other_M: I64) -> F32:
            size_one, size_other = (offsets[rows_M + 1] - offsets[rows_M] for rows_M in (one_M, other_M))
            likely = np.flatnonzero(np.minimum(size_one, size_other) >= threshold * np.maximum(size_one, size_other))
            likeness_M = np.zeros(len(one_M), np.float32)
            for begin in range(0, len(likely), _COMPARED):
                part = likely[begin : begin + _COMPARED]
                likeness_M[part] = jaccard(hash_T, offsets, one_M[part], other_M[part])
                mapped.madvise(mmap.MADV_DONTNEED)  # pages of a map count as this process's memory
            return likeness_M

        for file in self._bands:
            file.seek(0)
            key_N = np.fromfile(file, np.uint64)
            self._find_in_band(key_N, place_N, row_at, compare, threshold, best_N, likeness_N)
        found_N = best_N < rows
        close_N = np.full(rows, -1, np.int64)
        close_N[found_N] = row_at[best_N[found_N]]
        return close_N, likeness_N

    @staticmethod
    def _find_in_band(
        key_N: npt.NDArray[np.uint64],
        place_N: I64,
        row_at: I64,
        compare: Callable[[I64, I64], F32],
        threshold: float,
        best_N: I64,
        likeness_N: F32,
    ) -> None:
        """Compare rows of equal key: each with the best of its bucket, the next best, and so on until one is close."""
        order = row_at[np.argsort(key_N[row_at], kind="stable")]  # by key, then best first
        key = key_N[order]
        same = np.append(key[1:] == key[:-1], False) & (key != 0)
        in_bucket = same | np.insert(same[:-1], 0, False)
        row_C, key_C = order[in_bucket], key[in_bucket]
        first_C = np.ones(len(key_C), bool)
        first_C[1:] = key_C[1:] != key_C[:-1]
        start_C = np.flatnonzero(first_C)[np.cumsum(first_C) - 1]
        waiting = np.flatnonzero(~first_C)
        turn = 0  # how many of the best of its bucket each waiting row has been compared with
        while True:
            waiting = waiting[start_C[waiting] + turn < waiting]
            next_best = place_N[row_C[start_C[waiting] + turn]]
            waiting = waiting[next_best < best_N[row_C[waiting]]]  # else all others are worse than what it has
            if not len(waiting):
                return
            width = max(1, _COMPARED // len(waiting))
            count_W = np.minimum(waiting - start_C[waiting] - turn, width)
            which_M = np.repeat(np.arange(len(waiting)), count_W)
            one_M = row_C[waiting][which_M]
            other_M = row_C[ragged_index(start_C[waiting] + turn, count_W)]
            better_M = place_N[other_M] < best_N[one_M]
            which_M, one_M, other_M = which_M[better_M], one_M[better_M], other_M[better_M]
            likeness_M = compare(one_M, other_M)
            hits = np.flatnonzero(likeness_M >= np.float32(threshold))
            hits = hits[np.diff(which_M[hits], prepend=-1) > 0]  # the first of each row: its best
            best_N[one_M[hits]] = place_N[other_M[hits]]
            likeness_N[one_M[hits]] = likeness_M[hits]
            waiting = np.delete(waiting, which_M[hits])
            turn += width
