"""The order mixed as keyed steps: where each row stands in the order combined within its group, and so in the mix.

Keys alone are sorted here: into buckets by cuts of the order combined, each bucket by itself, with the number of rows
of each group that stand in the buckets before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift.filter.mixing import GROUP, INDEX, mixed_positions
from bisift.filter.ordering import F64, cuts_of, group_names, key_columns, shard_of, sort_indices
from bisift.filter.text import U64
from bisift.pipelines.gathering import Gather
from bisift.pipelines.spilling import Block, spilled, to_bytes, to_table
from bisift.pipelines.units import OverUnits, RankJob, Unit

BUCKET_ROWS = 1 << 19
COUNTS = "counts"
_UNIT = "_unit"
_COMBINED = "combined"


class Mixed(beam.PTransform):
    """From (unit, facts of the whole) to the units with the positions of their rows."""

    def __init__(self, job: RankJob) -> None:
        super().__init__()
        self._job = job

    def expand(self, planned: Any) -> Any:
        cut = (
            planned
            | "SampleKeys" >> beam.ParDo(_Sample(self._job))
            | "CutKeys" >> Gather(_cut)
            | "SpreadKeys" >> beam.Reshuffle()
        )
        split = cut | "PartitionKeys" >> beam.ParDo(_Partition(self._job)).with_outputs(COUNTS, main="rows")
        before = split[COUNTS] | "CountBefore" >> Gather(_before)
        placed = (
            (split.rows, before)
            | "KeysAndCounts" >> beam.Flatten()
            | "ByBucket" >> beam.GroupByKey()
            | "Place" >> beam.ParDo(_Place(self._job))
        )
        named = planned | "ByName" >> beam.Map(_named)
        return (
            (named, placed)
            | "UnitsAndPositions" >> beam.Flatten()
            | "ByUnit" >> beam.GroupByKey()
            | "Join" >> beam.ParDo(_Join(self._job))
        )


def _named(planned: tuple[Unit, Any]) -> tuple[str, Any]:
    return planned[0].name, planned


class _MixKeys(OverUnits):
    def table(self, unit: Unit, codes: Mapping[str, int]) -> pa.Table:
        """Return what the order combined and the groups need of a unit's rows, numbered."""
        table = self.rows(unit, (*key_columns(_COMBINED), "generator"))
        code = pc.index_in(group_names(table), value_set=pa.array(list(codes), pa.string()))
        index = pa.array(np.arange(table.num_rows))
        return table.drop_columns("generator").append_column(GROUP, code).append_column(INDEX, index)


class _Sample(_MixKeys):
    def process(self, element: tuple[Unit, Any]) -> Iterator[Any]:
        unit, facts = element
        packed_N = self.keys(self.table(unit, facts.codes), _COMBINED).packed_N
        # Buckets only bound memory, so a thin sample will do: every 64th key by its low bits.
        yield unit, facts, len(packed_N), packed_N[(packed_N & np.uint64(63)) == 0].tobytes()


def _cut(sampled: list[Any]) -> Iterator[Any]:
    keys_M = np.sort(np.concatenate([np.zeros(0, np.uint64), *(np.frombuffer(one[3], np.uint64) for one in sampled)]))
    rows = sum(one[2] for one in sampled)
    cuts_B = np.unique(cuts_of(keys_M, max(1, -(-rows // BUCKET_ROWS))))
    for unit, facts, _, _ in sampled:
        yield unit, facts, cuts_B.tobytes()


class _Partition(_MixKeys):
    def process(self, element: tuple[Unit, Any, bytes]) -> Iterator[Any]:
        unit, facts, cuts = element
        cuts_B: U64 = np.frombuffer(cuts, np.uint64)
        table = self.table(unit, facts.codes)
        keys = self.keys(table, _COMBINED)
        bucket_N = shard_of(keys.packed_N, cuts_B)
        code_N = keys.dropped_N * facts.share_2G.shape[1] + table.column(GROUP).to_numpy()
        counts_BC = np.zeros((len(cuts_B) + 1, facts.share_2G.size), np.int64)
        np.add.at(counts_BC, (bucket_N, code_N), 1)
        yield beam.pvalue.TaggedOutput(COUNTS, (facts.share_2G, counts_BC))
        pieces = (
            (f"{bucket:08d}", to_bytes(table.filter(pa.array(bucket_N == bucket)))) for bucket in np.unique(bucket_N)
        )
        for key, block in spilled(pieces, self._job.spill, f"mix-{unit.name}.arrow"):
            yield key, (unit.name, block)


def _before(counted: list[Any]) -> Iterator[Any]:
    if not counted:
        return
    share_2G = counted[0][0]
    counts_BC = sum(counts for _, counts in counted)
    placed_BC = np.cumsum(counts_BC, axis=0) - counts_BC
    for bucket, placed_C in enumerate(placed_BC):
        yield f"{bucket:08d}", ("", (share_2G, placed_C))


class _Place(OverUnits):
    """From the keys of a bucket, and what stands before it, to (unit, (index, position) of its rows)."""

    def process(self, element: tuple[str, Iterable[tuple[str, Any]]]) -> Iterator[Any]:
        values = sorted(element[1], key=lambda one: one[0])
        share_2G, placed_C = values[0][1]
        pieces = [_numbered(number, block) for number, (_, block) in enumerate(values[1:])]
        if not pieces:
            return
        table = pa.concat_tables(pieces)
        unit_N = table.column(_UNIT).to_numpy()
        table = table.drop_columns(_UNIT)
        keys = self.keys(table, _COMBINED)
        order_N = sort_indices(table, keys)
        table, keys, unit_N = table.take(order_N), keys.take(order_N), unit_N[order_N]
        code_N = keys.dropped_N * share_2G.shape[1] + table.column(GROUP).to_numpy().astype(np.int64)
        position_N = mixed_positions(table, keys, code_N, placed_C, share_2G)
        index_N = table.column(INDEX).to_numpy()
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
