"""Sorting scored tables into shards in bounded memory: partition by cuts, then sort one slice at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bisift.filter.ordering import Keys, KeySample, cuts_of, key_columns, order_keys, shard_of, sort_indices
from bisift.filter.spill import Buckets
from bisift.filter.text import U64

Tables = Callable[[Sequence[str] | None], Iterator[pa.Table]]
"""Yields the rows to sort, the same each time it is called: some columns, or all of them (None)."""

# Shares of the memory that may be used: what is held of the partition, and what is gathered or sorted at once.
_HELD, _SLICE = 4, 16


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of one shard in order, with their keys."""

    shard: int
    table: pa.Table
    keys: Keys


@dataclass(frozen=True, kw_only=True, slots=True)
class Sorting:
    """How to sort: the order (ordering.py), the number of shards, bytes of memory and a folder for what spills."""

    order: str
    seed: int
    keep_dropped: bool
    shards: int
    memory: int
    folder: Path

    def keys(self, table: pa.Table) -> Keys:
        return order_keys(table, self.order, seed=self.seed, keep_dropped=self.keep_dropped)

    def sort(self, tables: Tables) -> Iterator[Slice]:
        """Yield all rows in order, shard by shard, in slices of about a sixteenth of the memory.

        Equal keys cannot be told apart by cuts: more copies of one pair than fit in memory are not supported.

        Raises:
            ConfigError: the order needs a score that is null.
            BisiftError: the disk is full.
        """
        sample = KeySample()
        for table in tables(key_columns(self.order)):
            sample.add(self.keys(table).packed_N)
        if not sample.rows:
            return
        keys_M = sample.sorted()
        stream = tables(None)
        first = next(stream)
        slices = -(-first.nbytes * sample.rows // max(first.num_rows, 1) // (self.memory // _SLICE))
        shard_cuts = cuts_of(keys_M, self.shards)
        cuts_B = np.union1d(shard_cuts, cuts_of(keys_M, max(int(slices), 1)))
        del keys_M
        with Buckets(len(cuts_B) + 1, first.schema, self.folder / "spill.arrow", self.memory // _HELD) as buckets:
            self._partition(itertools.chain([first], stream), cuts_B, buckets)
            lowest_B = np.insert(cuts_B, 0, 0)
            for bucket, shard in enumerate(shard_of(lowest_B, shard_cuts).tolist()):
                for table, keys in self._drain(buckets, bucket, 0):
                    yield Slice(shard, table, keys)
                buckets.drop(bucket)

    def _partition(self, tables: Iterator[pa.Table], cuts_B: U64, buckets: Buckets) -> None:
        """Put rows into buckets, some MiB at a time, so that the pieces are not too small."""
        held: list[pa.Table] = []
        size = 0
        for table in itertools.chain(tables, [None]):
            if table is not None:
                held.append(table)
                size += table.nbytes
            if held and (table is None or size >= self.memory // _SLICE):
                whole = pa.concat_tables(held)
                held, size = [], 0
                buckets.add(whole, shard_of(self.keys(whole).packed_N, cuts_B))

    def _drain(self, buckets: Buckets, bucket: int, depth: int) -> Iterator[tuple[pa.Table, Keys]]:
        """Yield the sorted rows of a bucket, after splitting it where it came out larger than planned."""
        size, limit = buckets.bytes[bucket], self.memory // _SLICE
        finer = self._finer_cuts(buckets, bucket, -(-size // limit)) if size > 2 * limit else None
        if finer is None:
            table = buckets.read(bucket)
            keys = self.keys(table)
            order_N = sort_indices(table, keys)
            yield table.take(order_N), keys.take(order_N)
            return
        path = self.folder / f"spill-{depth}.arrow"
        with Buckets(len(finer) + 1, buckets.schema, path, limit) as parts:
            self._partition(buckets.pieces(bucket), finer, parts)
            for part in range(len(parts)):
                yield from self._drain(parts, part, depth + 1)
                parts.drop(part)

    def _finer_cuts(self, buckets: Buckets, bucket: int, parts: int) -> U64 | None:
        """Return cuts that split a bucket further, or None where all its keys are equal."""
        sample = KeySample()
        for piece in buckets.pieces(bucket):
            sample.add(self.keys(piece).packed_N)
        keys_M = sample.sorted()
        cuts_B = np.unique(cuts_of(keys_M, parts))
        return cuts_B[cuts_B > keys_M[0]] if len(keys_M) and keys_M[0] < cuts_B[-1] else None
