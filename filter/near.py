"""Near duplicates among all rows: which better row is close to a row, found band by band in bounded memory and time.

What is held in memory is some 80 bytes a row; shingles and band keys lie on disk. A row is compared with the `BEST`
best rows of each of its buckets (the rows that share a band with it), so that many rows of one template, all alike but
none close, cost no more than BANDS * BEST comparisons a row. Rows that are closer to each other than to the rest of
such a bucket share smaller buckets, too. Suffixes: N rows, C candidates, W waiting ones, M comparisons.
"""

from __future__ import annotations

import contextlib
import os
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
BEST = 16
"""How many rows of a bucket, the best ones in the order, its other rows are compared with."""

_COMPARED = 1 << 13  # comparisons made at once
_SHINGLES = 1 << 20  # after so many shingles they are cut off, so that very long rows do not add up
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
        self.add_sets(Shingles.of(source, target))

    def add_sets(self, shingles: Shingles) -> None:
        """Add the sets of the next rows.

        Raises:
            BisiftError: the disk is full.
        """
        keys_BN = np.ascontiguousarray(band_keys(shingles).T)
        with disk_errors(self._folder):
            self._shingles.write(shingles.hash_T.data)
            for file, key_N in zip(self._bands, keys_BN, strict=True):
                file.write(key_N.data)
        self._sizes.append(np.diff(shingles.offsets))

    def find(self, place_N: I64, threshold: float = THRESHOLD) -> tuple[I64, F32]:
        """Return for each row the first row in the order that is close to it and before it, and their Jaccard.

        `place_N` is each row's place in the order, best first. A close row is among the `BEST` first of a bucket and
        has a Jaccard of at least `threshold`; a row without one has -1 and 0. Nothing is transitive, and a bucket is a
        set, so the order in which rows were added changes nothing.
        """
        rows = len(place_N)
        offsets = np.zeros(rows + 1, np.int64)
        np.cumsum(np.concatenate(self._sizes) if self._sizes else np.zeros(0, np.int64), out=offsets[1:])
        self._sizes.clear()
        if not offsets[-1]:
            return np.full(rows, -1, np.int64), np.zeros(rows, np.float32)
        with disk_errors(self._folder):
            for file in (self._shingles, *self._bands):
                file.flush()
        found = _Found(place_N, offsets, threshold, self._shingles.fileno())
        for file in self._bands:
            file.seek(0)
            found.search(np.fromfile(file, np.uint64))
        return found.close_N(), found.likeness_N


class _Found:
    """The best close row of each of N rows so far; shingles are read from the file `shingles`, uint32 as in `offsets`.

    They are read, not mapped: pages of a map count as this process's memory, and the kernel maps many around each.
    """

    def __init__(self, place_N: I64, offsets: I64, threshold: float, shingles: int) -> None:
        rows = len(place_N)
        self._place_N = place_N
        self._row_at = np.empty(rows, np.int64)
        self._row_at[place_N] = np.arange(rows)
        self._offsets = offsets
        self._threshold = threshold
        self._shingles = shingles
        self._best_N = np.full(rows, rows, np.int64)  # the place of the best close row
        self.likeness_N = np.zeros(rows, np.float32)

    def close_N(self) -> I64:
        """The best close row of each, -1 where there is none."""
        close_N = np.full(len(self._best_N), -1, np.int64)
        found_N = self._best_N < len(self._best_N)
        close_N[found_N] = self._row_at[self._best_N[found_N]]
        return close_N

    def search(self, key_N: npt.NDArray[np.uint64]) -> None:
        """Compare the rows of equal key, those of one bucket of a band; 0 is no key."""
        key_N = key_N[self._row_at]
        order = np.argsort(key_N, kind="stable")  # by key, then best first
        key = key_N[order]
        same = np.append(key[1:] == key[:-1], False) & (key != 0)
        in_bucket = same | np.insert(same[:-1], 0, False)
        row_C, key_C = self._row_at[order[in_bucket]], key[in_bucket]
        del key_N, order, key, same, in_bucket
        first_C = np.ones(len(key_C), bool)
        first_C[1:] = key_C[1:] != key_C[:-1]
        start_C = np.flatnonzero(first_C)[np.cumsum(first_C) - 1]
        waiting = np.flatnonzero(~first_C)
        for begin in range(0, len(waiting), _COMPARED):
            self._compare(row_C, start_C, waiting[begin : begin + _COMPARED])

    def _compare(self, row_C: I64, start_C: I64, waiting: I64) -> None:
        """Compare each waiting row with the best of its bucket, then the next one, two, four ... until one is close."""
        turn, width = 0, 1
        while True:
            waiting = waiting[start_C[waiting] + turn < waiting]
            next_best = self._place_N[row_C[start_C[waiting] + turn]]
            waiting = waiting[next_best < self._best_N[row_C[waiting]]]  # else all others are worse than what it has
            if turn == BEST or not len(waiting):
                return
            hit_W = np.zeros(len(waiting), bool)
            step = max(1, _COMPARED // width)
            for begin in range(0, len(waiting), step):
                part = slice(begin, begin + step)
                hit_W[part] = self._compare_turns(row_C, start_C, waiting[part], turn, width)
            waiting = waiting[~hit_W]
            turn, width = turn + width, min(turn + width, BEST - turn - width)

    def _compare_turns(self, row_C: I64, start_C: I64, waiting: I64, turn: int, width: int) -> npt.NDArray[np.bool_]:
        """Compare each waiting row with `width` rows of its bucket, from `turn` on; say which have a close one."""
        count_W = np.minimum(waiting - start_C[waiting] - turn, width)
        which_M = np.repeat(np.arange(len(waiting)), count_W)
        one_M = row_C[waiting][which_M]
        other_M = row_C[ragged_index(start_C[waiting] + turn, count_W)]
        size_one, size_other = (self._offsets[rows_M + 1] - self._offsets[rows_M] for rows_M in (one_M, other_M))
        likely_M = np.minimum(size_one, size_other) >= self._threshold * np.maximum(size_one, size_other)
        likely_M &= self._place_N[other_M] < self._best_N[one_M]
        which_M, one_M, other_M = which_M[likely_M], one_M[likely_M], other_M[likely_M]
        likeness_M = self._jaccard(one_M, other_M)
        hits = np.flatnonzero(likeness_M >= np.float32(self._threshold))
        hits = hits[np.diff(which_M[hits], prepend=-1) > 0]  # the first of each row: its best
        self._best_N[one_M[hits]] = self._place_N[other_M[hits]]
        self.likeness_N[one_M[hits]] = likeness_M[hits]
        hit_W = np.zeros(len(waiting), bool)
        hit_W[which_M[hits]] = True
        return hit_W

    def _jaccard(self, one_M: I64, other_M: I64) -> F32:
        size_M = sum(self._offsets[rows_M + 1] - self._offsets[rows_M] for rows_M in (one_M, other_M))
        cuts = np.flatnonzero(np.diff(np.cumsum(size_M) // _SHINGLES)) + 1
        parts = zip(np.split(one_M, cuts), np.split(other_M, cuts), strict=True)
        return np.concatenate([self._read_jaccard(one, other) for one, other in parts])

    def _read_jaccard(self, one_M: I64, other_M: I64) -> F32:
        rows_R, place_R = np.unique(np.concatenate((one_M, other_M)), return_inverse=True)
        start_R, end_R = self._offsets[rows_R], self._offsets[rows_R + 1]
        spans = zip((4 * start_R).tolist(), (4 * (end_R - start_R)).tolist(), strict=True)
        hash_T = np.frombuffer(b"".join([os.pread(self._shingles, size, start) for start, size in spans]), np.uint32)
        offsets = np.zeros(len(rows_R) + 1, np.int64)
        np.cumsum(end_R - start_R, out=offsets[1:])
        return jaccard(hash_T, offsets, place_R[: len(one_M)], place_R[len(one_M) :])
