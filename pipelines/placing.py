"""Where each row stands among all rows of an order, by keyed steps: the columns that decide are partitioned by cuts,
sorted bucket by bucket, and each unit is told the positions of its rows. Suffixes: N rows, B buckets, C counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import apache_beam as beam
import numpy as np
import pyarrow as pa

from bisift.filter.mixing import INDEX
from bisift.filter.ordering import F64, Keys, cuts_of, shard_of, sort_indices
from bisift.filter.text import I64, U64
from bisift.pipelines.gathering import Gather
from bisift.pipelines.spilling import Block, spilled, to_bytes, to_table
from bisift.pipelines.units import OverUnits, RankJob, Unit

BUCKET_ROWS = 1 << 19
COUNTS = "counts"
_UNIT = "_unit"


class Rule(Protocol):
    """What makes positions of an order: `facts` are those that come with the units."""

    @property
    def order(self) -> str:
        """The order that rows are sorted by."""

    def table(self, step: OverUnits, unit: Unit, facts: Any) -> pa.Table:
        """Return what decides of a unit's rows, the columns of the order's keys among it."""

    def counters(self, facts: Any) -> int:
        """Return how many counters run through the order."""

    def codes(self, table: pa.Table, keys: Keys, facts: Any) -> I64:
        """Return the counter that each row counts in."""

    def positions(self, table: pa.Table, keys: Keys, placed_C: I64, facts: Any) -> F64:
        """Return the positions of N consecutive rows of the order, before which the counters stand at `placed_C`."""


class Placed(beam.PTransform):
    """From (unit, facts of the whole) to the units with the positions of their rows."""

    def __init__(self, job: RankJob, rule: Rule) -> None:
        super().__init__()
        self._job = job
        self._rule = rule

    def expand(self, planned: Any) -> Any:
        job, rule = self._job, self._rule
        cut = (
            planned
            | "SampleKeys" >> beam.ParDo(_Sample(job, rule))
            | "CutKeys" >> Gather(_cut)
            | "SpreadKeys" >> beam.Reshuffle()
        )
        split = cut | "PartitionKeys" >> beam.ParDo(_Partition(job, rule)).with_outputs(COUNTS, main="rows")
        before = split[COUNTS] | "CountBefore" >> Gather(_before)
        placed = (
            (split.rows, before)
            | "KeysAndCounts" >> beam.Flatten()
            | "ByBucket" >> beam.GroupByKey()
            | "Place" >> beam.ParDo(_Place(job, rule))
        )
        named = planned | "ByName" >> beam.Map(_named)
        return (
            (named, placed)
            | "UnitsAndPositions" >> beam.Flatten()
            | "ByUnit" >> beam.GroupByKey()
            | "Join" >> beam.ParDo(_Join(job))
        )


def _named(planned: tuple[Unit, Any]) -> tuple[str, Any]:
    return planned[0].name, planned


class _Ruled(OverUnits):
    def __init__(self, job: RankJob, rule: Rule) -> None:
        super().__init__(job)
        self._rule = rule


class _Sample(_Ruled):
    def process(self, element: tuple[Unit, Any]) -> Iterator[Any]:
        unit, facts = element
        packed_N = self.keys(self._rule.table(self, unit, facts), self._rule.order).packed_N
        # Buckets only bound memory, so a thin sample will do: every 64th key by its low bits.
        yield unit, facts, len(packed_N), packed_N[(packed_N & np.uint64(63)) == 0].tobytes()


def _cut(sampled: list[Any]) -> Iterator[Any]:
    keys_M = np.sort(np.concatenate([np.zeros(0, np.uint64), *(np.frombuffer(one[3], np.uint64) for one in sampled)]))
    rows = sum(one[2] for one in sampled)
    cuts_B = np.unique(cuts_of(keys_M, max(1, -(-rows // BUCKET_ROWS))))
    for unit, facts, _, _ in sampled:
        yield unit, facts, cuts_B.tobytes()


class _Partition(_Ruled):
    def process(self, element: tuple[Unit, Any, bytes]) -> Iterator[Any]:
        unit, facts, cuts = element
        cuts_B: U64 = np.frombuffer(cuts, np.uint64)
        table = self._rule.table(self, unit, facts)
        table = table.append_column(INDEX, pa.array(np.arange(table.num_rows)))
        keys = self.keys(table, self._rule.order)
        bucket_N = shard_of(keys.packed_N, cuts_B)
        counts_BC = np.zeros((len(cuts_B) + 1, self._rule.counters(facts)), np.int64)
        np.add.at(counts_BC, (bucket_N, self._rule.codes(table, keys, facts)), 1)
        yield beam.pvalue.TaggedOutput(COUNTS, (facts, counts_BC))
        pieces = (
            (f"{bucket:08d}", to_bytes(table.filter(pa.array(bucket_N == bucket)))) for bucket in np.unique(bucket_N)
        )
        for key, block in spilled(pieces, self._job.spill, f"places-{unit.name}.arrow"):
            yield key, (unit.name, block)


def _before(counted: list[Any]) -> Iterator[Any]:
    if not counted:
        return
    facts = counted[0][0]
    counts_BC = sum(counts for _, counts in counted)
    placed_BC = np.cumsum(counts_BC, axis=0) - counts_BC
    for bucket, placed_C in enumerate(placed_BC):
        yield f"{bucket:08d}", ("", (facts, placed_C))


class _Place(_Ruled):
    """From the keys of a bucket, and what stands before it, to (unit, (index, position) of its rows)."""

    def process(self, element: tuple[str, Iterable[tuple[str, Any]]]) -> Iterator[Any]:
        values = sorted(element[1], key=lambda one: one[0])
        facts, placed_C = values[0][1]
        pieces = [_numbered(number, block) for number, (_, block) in enumerate(values[1:])]
        if not pieces:
            return
        table = pa.concat_tables(pieces)
        unit_N, index_N = table.column(_UNIT).to_numpy(), table.column(INDEX).to_numpy()
        table = table.drop_columns([_UNIT, INDEX])  # rows alike in all else stay in the order of the input
        keys = self.keys(table, self._rule.order)
        order_N = sort_indices(table, keys)
        unit_N, index_N = unit_N[order_N], index_N[order_N]
        position_N = self._rule.positions(table.take(order_N), keys.take(order_N), placed_C, facts)
        for number, (name, _) in enumerate(values[1:]):
            here = unit_N == number
            yield name, (index_N[here].tobytes(), position_N[here].tobytes())


def _numbered(number: int, block: Block | bytes) -> pa.Table:
    table = to_table(block)
    return table.append_column(_UNIT, pa.array(np.full(table.num_rows, number)))


class _Join(beam.DoFn):
    """From a unit, and the positions of its rows from all buckets, to the unit that knows them."""

    def __init__(self, job: RankJob) -> None:
        self._job = job

    def process(self, element: tuple[str, Iterable[tuple[Any, Any]]]) -> Iterator[Any]:
        found: list[tuple[bytes, bytes]] = []
        for value in element[1]:
            if isinstance(value[0], Unit):
                unit, facts = value
            else:
                found.append(value)
        index_N = np.concatenate([np.zeros(0, np.int64), *(np.frombuffer(index, np.int64) for index, _ in found)])
        position_N: F64 = np.zeros(len(index_N))
        position_N[index_N] = np.concatenate([np.zeros(0), *(np.frombuffer(one, np.float64) for _, one in found)])
        block = [(unit.name, position_N.tobytes())]
        for _, place in spilled(block, self._job.spill, f"positions-{unit.name}.bin"):
            yield replace(unit, positions=place), facts
