"""The end of a score job: each part with what the whole input says of it, the rejects, and the manifest last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift import remote
from bisift.contract import SCORED
from bisift.filter.finishing import Repeats, finish
from bisift.filter.parts import read_header, read_part
from bisift.filter.publishing import Tally, reject_line, scored_manifest
from bisift.filter.readers import Input
from bisift.filter.text import Bool
from bisift.filter.writers.parquet import RowGroups
from bisift.manifest import MANIFEST_NAME, file_digest, write_json
from bisift.pipelines import metrics, storage
from bisift.pipelines.documents import probabilities
from bisift.pipelines.duplicates import DOCUMENTS, PAIRS, SOURCES, TARGETS
from bisift.pipelines.scoring import ScoreJob

REJECTS = "rejects.jsonl"


class Finish(beam.DoFn):
    """From (name, [(kind, bytes)]) to the part's Parquet file in the output, and a summary of it."""

    def __init__(self, job: ScoreJob) -> None:
        self._job = job

    def process(self, element: tuple[str, Iterable[tuple[str, bytes]]]) -> Iterator[Any]:
        name, values = element
        known: dict[str, list[bytes]] = {}
        for kind, value in values:
            known.setdefault(kind, []).append(value)
        with storage.fetched(self._job.part(name)) as path:
            header, part = read_header(path), read_part(path)
        summary: dict[str, Any] = {
            "name": name,
            "number": header.input,
            "rows": part.num_rows,
            "rejects": Counter(reject.reason for reject in header.rejects),
        }
        if part.num_rows:
            masks = (_mask(part.num_rows, known.get(kind, ())) for kind in (PAIRS, SOURCES, TARGETS))
            documents_D, probability_D = probabilities(known.get(DOCUMENTS, ()))
            table = finish(part, self._job.settings.profile, Repeats(*masks), documents_D, probability_D)
            counts = pc.value_counts(table.column("drop_reason").drop_null().cast(pa.string())).to_pylist()
            summary["reasons"] = {entry["values"]: entry["counts"] for entry in counts}
            summary |= write_part_file(self._job.output, f"part-{name}.parquet", table, self._job.schema)
            metrics.count_all("dropped", summary["reasons"])
            metrics.count("kept", part.num_rows - sum(summary["reasons"].values()))
        if header.rejects:
            summary["lines"] = remote.join(self._job.state, f"rejects-{name}.jsonl")
            with storage.created(summary["lines"]) as path, open(path, "w", encoding="utf-8") as file:
                file.writelines(map(reject_line, header.rejects))
        yield summary


def _mask(rows: int, blocks: Sequence[bytes]) -> Bool:
    mask_N = np.zeros(rows, bool)
    for block in blocks:
        mask_N[np.frombuffer(block, np.uint32)] = True
    return mask_N


def write_part_file(folder: str, name: str, table: pa.Table, schema: pa.Schema) -> dict[str, Any]:
    """Write one Parquet file of SCORED rows and their extras; return its name and digest.

    Raises:
        BisiftError: the disk or the store refuses.
    """
    extras = [table.schema.field(extra) for extra in table.column_names if extra not in schema.names]
    full = pa.schema([*schema, *extras], metadata=schema.metadata)
    with storage.created(remote.join(folder, name)) as path:
        file = RowGroups(path, full)
        file.write(table.select(full.names).cast(full))
        file.close()
        digest = file_digest(path)
    return {"file": name, "sha256": digest}


class Publish:
    """From the summaries of all parts to rejects and manifest; called once all parts are there."""

    def __init__(self, job: ScoreJob, origins: Sequence[Input], identity: Mapping[str, Any]) -> None:
        self._job = job
        self._origins = origins
        self._identity = identity

    def __call__(self, summaries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        summaries = sorted(summaries, key=lambda one: str(one["name"]))
        tally = Tally()
        for summary in summaries:
            tally.rows += summary["rows"]
            tally.reasons.update(summary.get("reasons", {}))
            tally.rejects.update(summary["rejects"])
            tally.per_input[summary["number"]] += summary["rows"] + sum(summary["rejects"].values())
        output = self._job.output
        shards = [{name: one[name] for name in ("file", "rows", "sha256")} for one in summaries if one["rows"]]
        if not shards:  # a file all the same, so that the schema is there
            empty = write_part_file(output, "part-00000-000000000000.parquet", SCORED.empty_table(), self._job.schema)
            shards = [{**empty, "rows": 0}]
        self._write_rejects([one["lines"] for one in summaries if "lines" in one])
        run = {"range_bytes": self._job.range_bytes, "chunk_rows": self._job.read.chunk_rows}
        manifest = scored_manifest(self._identity, self._origins, tally, shards, prior=self._job.prior, run=run)
        with storage.created(remote.join(output, MANIFEST_NAME)) as path:
            write_json(path, manifest)
        return [manifest["rows"]]

    def _write_rejects(self, files: Sequence[str]) -> None:
        target = remote.join(self._job.output, REJECTS)
        if not files:
            storage.remove(target)
            return
        with storage.created(target) as path, open(path, "wb") as whole:
            for name in files:
                with storage.fetched(name) as part, open(part, "rb") as lines:
                    while data := lines.read(1 << 20):
                        whole.write(data)
