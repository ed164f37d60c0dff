"""Tables put into buckets: in memory while they fit, else in one Arrow IPC file on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from bisift.filter.text import I64
from bisift.filter.writers.base import disk_errors


class Buckets:
    """Collects rows by bucket number and gives them back bucket by bucket; a context manager that removes its file.

    The first `memory` bytes stay in memory. What follows is written in pieces, one Arrow record batch for the rows
    of one bucket in one `add`, so that reading a bucket reads nothing else.
    """

    def __init__(self, count: int, schema: pa.Schema, path: Path, memory: int) -> None:
        self.schema = schema
        self.bytes = [0] * count
        self._pieces: list[list[pa.Table | int]] = [[] for _ in range(count)]
        self._path = path
        self._memory = memory
        self._held = 0
        self._batches = 0
        self._writer: Any = None
        self._reader: Any = None

    def __len__(self) -> int:
        return len(self._pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None and self._reader is None:
            self._writer.close()
        self._reader = None
        self._path.unlink(missing_ok=True)

    def add(self, table: pa.Table, bucket_N: I64) -> None:
        """Add N rows, each to its bucket.

        Raises:
            BisiftError: the disk is full.
        """
        order_N = np.argsort(bucket_N, kind="stable")
        table = table.take(order_N).combine_chunks()
        found, starts = np.unique(bucket_N[order_N], return_index=True)
        ends = np.append(starts[1:], table.num_rows)
        hold = self._writer is None and self._held + table.nbytes <= self._memory
        for bucket, start, end in zip(found.tolist(), starts.tolist(), ends.tolist(), strict=True):
            piece = table.slice(start, end - start)
            self.bytes[bucket] += piece.nbytes
            self._pieces[bucket].append(piece if hold else self._spill(piece))
        if hold:
            self._held += table.nbytes

    def _spill(self, piece: pa.Table) -> int:
        with disk_errors(self._path):
            if self._writer is None:
                self._writer = pa.ipc.new_file(str(self._path), self.schema)
            self._writer.write_table(piece)
        self._batches += 1
        return self._batches - 1

    def pieces(self, bucket: int) -> Iterator[pa.Table]:
        """Yield the rows of a bucket in the order in which they came; `add` is over then."""
        if self._writer is not None and self._reader is None:
            with disk_errors(self._path):
                self._writer.close()
            # Not memory-mapped: pages of a map count as this process's memory until it is closed.
            self._reader = pa.ipc.open_file(pa.OSFile(str(self._path)))
        for piece in self._pieces[bucket]:
            yield pa.Table.from_batches([self._reader.get_batch(piece)]) if isinstance(piece, int) else piece

    def read(self, bucket: int) -> pa.Table:
        """Return all rows of a bucket."""
        return pa.concat_tables([self.schema.empty_table(), *self.pieces(bucket)])

    def drop(self, bucket: int) -> None:
        """Forget a bucket that is done with."""
        self._pieces[bucket] = []
