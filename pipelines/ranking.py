"""Global ranking as keyed steps without side inputs: count, cut, partition by the cuts, sort and write each shard.

What one step finds of the whole (rows, cuts, ranks) is handed to the next with the units themselves (`Gather`). The
cuts come from keys alone; rows are read once more to be partitioned. Suffixes: N rows, B buckets, S shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from bisift import remote
from bisift.filter.manifests import RowCounts, SourceFacts
from bisift.filter.mixing import count_groups, group_codes, share_table
from bisift.filter.ordering import F64, SAMPLE_FROM, cuts_of, key_columns, sampled, shard_of, sort_indices
from bisift.filter.ranked import ranked, ranked_manifest, ranked_schema, value_bounds
from bisift.filter.shards import shard_name
from bisift.filter.text import I64, U64
from bisift.filter.writers.parquet import RowGroups
from bisift.manifest import MANIFEST_NAME, file_digest, write_json
from bisift.pipelines import metrics, storage
from bisift.pipelines.gathering import Gather
from bisift.pipelines.mixing import Mixing
from bisift.pipelines.placing import Placed
from bisift.pipelines.spilling import Block, load, spilled, to_bytes, to_table
from bisift.pipelines.units import HELD, OverUnits, RankJob, Unit

COUNTS = "counts"
_SLICE = 16  # the share of the memory that is sorted at once where rows spill, as on one machine


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of all rows once they are counted; `share_2G` and `codes` are for mixed."""

    counts: RowCounts
    codes: dict[str, int] = field(default_factory=dict)
    share_2G: F64 = field(default_factory=lambda: np.ones((2, 1)))


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where buckets begin (B - 1 ascending keys), and which shard each is in (B)."""

    cuts_B: U64
    shard_B: I64


def pipeline(job: RankJob, units: Iterable[Unit], source: SourceFacts) -> Callable[[beam.Pipeline], None]:
    """Return what builds the pipeline of a ranking."""

    def build(root: beam.Pipeline) -> None:
        planned = (
            root
            | "Units" >> beam.Create(list(units))
            | "Count" >> beam.ParDo(_Count(job))
            | "Whole" >> Gather(_Plan(job))
            | "Spread" >> beam.Reshuffle()
        )
        if job.options.order == "mixed":
            planned = planned | "Mix" >> Placed(job, Mixing())
        cut = (
            planned
            | "Sample" >> beam.ParDo(_Sample(job))
            | "Cut" >> Gather(_Cut(job))
            | "SpreadCuts" >> beam.Reshuffle()
        )
        split = cut | "Partition" >> beam.ParDo(_Partition(job)).with_outputs(COUNTS, main="rows")
        ranks = split[COUNTS] | "Ranks" >> Gather(_Ranks(job))
        _ = (
            (split.rows, ranks)
            | "RowsAndRanks" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "WriteShards" >> beam.ParDo(_WriteShard(job))
            | "Publish" >> Gather(_Publish(job, source))
        )

    return build


class _Count(OverUnits):
    def process(self, unit: Unit) -> Iterator[Any]:
        columns = ("drop_reason", "generator", "origin") if self._job.options.order == "mixed" else ("drop_reason",)
        table = self.rows(unit, columns, all_rows=True)
        kept: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        if self._job.options.order == "mixed":
            count_groups(table, kept, dropped)
            if not self._job.options.keep_dropped:
                dropped.clear()
        counts = RowCounts()
        counts.add(table)
        yield unit, counts, kept, dropped


class _Plan:
    def __init__(self, job: RankJob) -> None:
        self._options = job.options

    def __call__(self, counted: list[Any]) -> Iterator[Any]:
        counts = RowCounts()
        kept: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        for _, here, kept_here, dropped_here in counted:
            counts.rows += here.rows
            counts.by_reason += here.by_reason
            kept += kept_here
            dropped += dropped_here
        facts = Facts(counts)
        if self._options.order == "mixed":
            shares = share_table(kept, dropped, self._options.named_shares)
            facts = Facts(counts, group_codes(kept, dropped), shares)
        for unit, *_ in counted:
            yield unit, facts


class _Sample(OverUnits):
    """Hands on the keys that cuts are made of: all of a small ranking, else the sample of `KeySample`."""

    def process(self, element: tuple[Unit, Facts]) -> Iterator[Any]:
        unit, facts = element
        table = self.rows(unit, key_columns(self._job.options.order))
        packed_N = self.keys(table).packed_N
        ranked_rows = facts.counts.rows if self._job.options.keep_dropped else facts.counts.kept
        keys = packed_N if ranked_rows < SAMPLE_FROM else sampled(packed_N)
        for _, block in spilled([("", keys.tobytes())], self._job.spill, f"sample-{unit.name}.bin"):
            yield unit, facts, len(packed_N), block


class _Cut:
    def __init__(self, job: RankJob) -> None:
        self._job = job

    def __call__(self, found: list[Any]) -> Iterator[Any]:
        options = self._job.options
        keys_M = np.sort(np.concatenate([np.zeros(0, np.uint64), *(_keys(block) for *_, block in found)]))
        rows = sum(one[2] for one in found)
        share = HELD if self._job.spill is None else _SLICE
        slices = -(-self._job.row_bytes * rows // max(options.memory // share, 1))
        shard_cuts = cuts_of(keys_M, options.shards)
        cuts_B = np.union1d(shard_cuts, cuts_of(keys_M, max(int(slices), 1)))
        cuts = Cuts(cuts_B, shard_of(np.insert(cuts_B, 0, 0), shard_cuts))
        for unit, facts, _, _ in found:
            yield unit, facts, cuts


def _keys(block: Block | bytes) -> U64:
    keys_M: U64 = np.frombuffer(load(block), np.uint64)
    return keys_M


class _Partition(OverUnits):
    """From a unit to (shard, (bucket, its rows)), and how many rows it has for each shard."""

    def process(self, element: tuple[Unit, Facts, Cuts]) -> Iterator[Any]:
        unit, facts, cuts = element
        table = self.rows(unit, None)
        bucket_N = shard_of(self.keys(table).packed_N, cuts.cuts_B)
        order_N = np.argsort(bucket_N, kind="stable")
        table = table.take(order_N)
        found, starts, counts = np.unique(bucket_N[order_N], return_index=True, return_counts=True)
        counts_S = np.zeros(self._job.options.shards, np.int64)
        np.add.at(counts_S, cuts.shard_B[found], counts)
        yield beam.pvalue.TaggedOutput(COUNTS, (facts, counts_S))
        pieces = (
            (str(bucket), to_bytes(table.slice(start, count)))
            for bucket, start, count in zip(found.tolist(), starts.tolist(), counts.tolist(), strict=True)
        )
        for bucket, block in spilled(pieces, self._job.spill, f"rows-{unit.name}.arrow"):
            yield f"{cuts.shard_B[int(bucket)]:05d}", (int(bucket), block)


class _Ranks:
    """From the counts of all units to what each shard must know: facts, the rank of its first row, rows in all."""

    def __init__(self, job: RankJob) -> None:
        self._shards = job.options.shards

    def __call__(self, counted: list[Any]) -> Iterator[Any]:
        facts = counted[0][0] if counted else Facts(RowCounts())
        counts_S = sum((counts for _, counts in counted), np.zeros(self._shards, np.int64))
        starts_S = np.cumsum(counts_S) - counts_S
        for shard, start in enumerate(starts_S.tolist()):
            yield f"{shard:05d}", (-1, (facts, start, int(counts_S.sum())))


class _WriteShard(OverUnits):
    """From a shard's buckets to its file: one bucket is held and sorted at a time."""

    def process(self, element: tuple[str, Iterable[tuple[int, Any]]]) -> Iterator[Any]:
        buckets: dict[int, list[Any]] = {}
        for bucket, value in element[1]:
            buckets.setdefault(bucket, []).append(value)
        facts, rank, rows = buckets.pop(-1)[0]
        options, schema = self._job.options, ranked_schema(self._job.schema)
        name = shard_name(int(element[0]), options.shards)
        bounds: list[float | int] = []
        with storage.created(remote.join(self._job.output, name)) as path:
            file = RowGroups(path, schema)
            for bucket in sorted(buckets):
                table = pa.concat_tables([to_table(block) for block in buckets.pop(bucket)])
                keys = self.keys(table)
                order_N = sort_indices(table, keys)
                bounds += value_bounds(keys)
                table = ranked(table.take(order_N), rank, rows, options.order, schema)
                file.write(table.select(schema.names).cast(schema))
                rank += table.num_rows
            file.close()
            digest = file_digest(path)
        metrics.count("ranked", file.rows)
        shard = {"file": name, "rows": file.rows, "sha256": digest}
        yield facts, shard | {"min": min(bounds, default=None), "max": max(bounds, default=None)}


class _Publish:
    """From all shards to the manifest, the last file to be written."""

    def __init__(self, job: RankJob, source: SourceFacts) -> None:
        self._job = job
        self._source = source

    def __call__(self, written: list[Any]) -> Iterator[Any]:
        facts = written[0][0]
        shards = sorted((shard for _, shard in written), key=lambda shard: str(shard["file"]))
        manifest = ranked_manifest(self._source, facts.counts, self._job.options, shards)
        with storage.created(remote.join(self._job.output, MANIFEST_NAME)) as path:
            write_json(path, manifest)
        yield manifest["rows"]
