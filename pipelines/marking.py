"""The end of a dedup job: each unit's rows are searched with those that were lent to it, marked and written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift import remote
from bisift.filter.dedup import BATCH_ROWS, DedupOptions, Marks, mark, marked_schema, reasons
from bisift.filter.manifests import RowCounts, SourceFacts, rewritten
from bisift.filter.near import F32, NearDuplicates
from bisift.filter.ordering import identity_words
from bisift.filter.text import I64
from bisift.manifest import MANIFEST_NAME, value_digest, write_json
from bisift.pipelines import metrics, storage
from bisift.pipelines.gathering import Gather
from bisift.pipelines.near import SOURCES, TARGETS, VARIANTS_BLOCK, Compare, Compared, lent_rows, places
from bisift.pipelines.sinks import write_part_file
from bisift.pipelines.units import OverUnits, RankJob, Unit


def pipeline(
    job: RankJob,
    options: DedupOptions,
    units: Sequence[Unit],
    buckets: int,
    source: SourceFacts,
    identity: Mapping[str, Any],
) -> Callable[[beam.Pipeline], None]:
    """Return what builds the pipeline of a dedup job."""

    def build(root: beam.Pipeline) -> None:
        _ = (
            root
            | "Units" >> beam.Create(list(units))
            | "Spread" >> beam.Reshuffle()
            | "Compare" >> Compare(job, buckets)
            | "Mark" >> beam.ParDo(_Mark(job, options))
            | "Publish" >> Gather(_Publish(job, source, identity))
        )

    return build


class _Mark(OverUnits):
    """From a unit and what was lent to it to its Parquet file in the output, and a summary of it."""

    def __init__(self, job: RankJob, options: DedupOptions) -> None:
        super().__init__(job)
        self._options = options

    def process(self, compared: Compared) -> Iterator[Any]:
        unit = Unit(compared.unit.name, compared.unit.pieces)
        table = self.rows(unit, None, all_rows=True)
        kept = table.filter(pc.is_null(table.column("drop_reason")))
        marks = self._marks(compared, kept)
        marked = mark(table, marks)
        read, written = RowCounts(), RowCounts()
        read.add(marked)
        if self._options.remove:
            marked = marked.filter(pc.is_null(marked.column("drop_reason")))
        written.add(marked)
        summary: dict[str, Any] = {"name": unit.name, "read": read, "written": written, "compared": kept.num_rows}
        summary["marked"] = {
            name: int(np.count_nonzero(marks.reason_K == name)) for name in set(marks.reason_K) - {None}
        }
        if marked.num_rows:
            summary |= write_part_file(
                self._job.output, f"part-{unit.name}.parquet", marked, marked_schema(self._job.schema)
            )
        metrics.count_all("dropped", summary["marked"])
        metrics.count("compared", kept.num_rows)
        yield summary

    def _marks(self, compared: Compared, kept: pa.Table) -> Marks:
        close_id_K, likeness_K = self._close(compared, kept)
        source_K, target_K = (_counts(kept.num_rows, compared.variants[kind]) for kind in (SOURCES, TARGETS))
        near_K = np.array([one is not None for one in close_id_K], bool)
        reason_K = reasons(near_K, source_K, target_K, self._options.max_variants)
        return Marks(close_id_K, likeness_K, source_K, target_K, reason_K)

    def _close(self, compared: Compared, kept: pa.Table) -> tuple[list[str | None], F32]:
        """Return of each row of a unit that no rule dropped the pair_id of the best close row, and their Jaccard."""
        close_id_K: list[str | None] = [None] * kept.num_rows
        likeness_K = np.zeros(kept.num_rows, np.float32)
        own = np.frombuffer(compared.rows, np.uint32).astype(np.int64)
        if not len(own):
            return close_id_K, likeness_K
        with tempfile.TemporaryDirectory(prefix="bisift-dedup-") as folder, NearDuplicates(Path(folder)) as near:
            for start in range(0, len(own), BATCH_ROWS):
                batch = kept.take(pa.array(own[start : start + BATCH_ROWS]))
                near.add(batch.column("source"), batch.column("target"))
            lent, sets = lent_rows(compared.lent)
            near.add_sets(sets)
            place_L = np.concatenate((places(compared.unit)[own], lent["place"]))
            close_L, likeness_L = near.find(_dense(place_L), self._options.threshold)
        found = np.flatnonzero(close_L[: len(own)] >= 0)
        id_L2 = np.concatenate((identity_words(kept.column("pair_id"))[own], lent["pair_id"]))
        for row, words in zip(own[found].tolist(), id_L2[close_L[found]], strict=True):
            close_id_K[row] = words.tobytes().hex()
        likeness_K[own[found]] = likeness_L[found]
        return close_id_K, likeness_K


def _dense(place_L: I64) -> I64:
    """Return places from 0 on, without gaps, in the same order."""
    dense_L = np.empty(len(place_L), np.int64)
    dense_L[np.argsort(place_L)] = np.arange(len(place_L))
    return dense_L


def _counts(rows: int, blocks: Sequence[bytes]) -> I64:
    count_K = np.ones(rows, np.int64)
    for data in blocks:
        block = np.frombuffer(data, VARIANTS_BLOCK)
        count_K[block["row"]] = block["count"]
    return count_K


class _Publish:
    """From the summaries of all units to the manifest, the last file to be written."""

    def __init__(self, job: RankJob, source: SourceFacts, identity: Mapping[str, Any]) -> None:
        self._job = job
        self._source = source
        self._identity = identity

    def __call__(self, summaries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        summaries = sorted(summaries, key=lambda one: str(one["name"]))
        read, written = RowCounts(), RowCounts()
        for total, name in ((read, "read"), (written, "written")):
            for one in summaries:
                total.rows += one[name].rows
                total.by_reason += one[name].by_reason
        shards = [
            {"file": one["file"], "rows": one["written"].rows, "sha256": one["sha256"]}
            for one in summaries
            if "file" in one
        ]
        if not shards:  # a file all the same, so that the schema is there
            schema = marked_schema(self._job.schema)
            shards = [
                {**write_part_file(self._job.output, "part-00000000.parquet", schema.empty_table(), schema), "rows": 0}
            ]
        marked: dict[str, int] = {}
        for one in summaries:
            for reason, count in one["marked"].items():
                marked[reason] = marked.get(reason, 0) + count
        compared = sum(one["compared"] for one in summaries)
        manifest = rewritten(self._source, read=read, written=written) | {
            "shards": shards,
            "dedup": {"read": read.rows, "compared": compared, "marked": dict(sorted(marked.items()))},
            "identity": value_digest(self._identity),
        }
        with storage.created(remote.join(self._job.output, MANIFEST_NAME)) as path:
            write_json(path, manifest)
        return [manifest["rows"]]
