"""The end of `score`: the output, its rejects and its manifest, and what a finished run says."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bisift.contract import CONTRACT_VERSION
from bisift.errors import ConfigError, InputError
from bisift.filter.parts import headers, read_part
from bisift.filter.readers import Input, Reject
from bisift.filter.writers import STANDARD, open_writer, output_files
from bisift.manifest import atomic_path, file_digest, manifest_path, read_json, value_digest, write_json


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: records so far, and the share of the input read (None when unknown)."""

    pairs: int
    rejects: int
    fraction: float | None
    phase: str


@dataclass(frozen=True)
class ScoreResult:
    """What a run did; rows_in = rows_out + rejected, rows_out = kept + dropped."""

    rows_in: int
    rows_out: int
    rejected: int
    kept: int
    dropped: int
    by_reason: dict[str, int]
    rejects_by_reason: dict[str, int]
    resumed_rows: int
    already_done: bool
    seconds: float
    device: str
    output: str
    rejects_file: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run puts things, from its output's name."""

    output: str
    rejects: str | None
    manifest: Path | None
    state: Path

    @classmethod
    def of(cls, output: str, rejects: str | None) -> Places:
        if output == STANDARD:
            return cls(output, rejects, None, Path(tempfile.mkdtemp(prefix="bisift-")))
        folder = output.endswith("/") or os.path.isdir(output)
        stem = output.rstrip("/")
        default = os.path.join(stem, "rejects.jsonl") if folder else stem + ".rejects.jsonl"
        return cls(stem + "/" if folder else stem, rejects or default, manifest_path(output), Path(stem + ".state"))


def finished_before(places: Places, identity: dict[str, Any]) -> ScoreResult | None:
    if places.manifest is None:
        return None
    if not places.manifest.exists():
        if not places.state.exists() and any(path.exists() for path in output_files(places.output)):
            raise ConfigError(f"{places.output}: exists and is not this run's; give another name, or --restart")
        return None
    known = read_json(places.manifest)
    if known.get("identity") != value_digest(identity):
        raise ConfigError(
            f"{places.output}: was made from other inputs or settings; give another name, or --restart to replace it"
        )
    rows = known["rows"]
    return ScoreResult(
        rows_in=rows["in"],
        rows_out=rows["kept"] + rows["dropped"],
        rejected=rows["rejected"],
        kept=rows["kept"],
        dropped=rows["dropped"],
        by_reason=rows["by_reason"],
        rejects_by_reason=known["rejects_by_reason"],
        resumed_rows=rows["in"],
        already_done=True,
        seconds=0.0,
        device="none",
        output=places.output,
        rejects_file=places.rejects if rows["rejected"] else None,
        warnings=(),
    )


@dataclass
class Tally:
    """Counts of the finishing pass."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    per_input: Counter[int] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        return self.rejects.total()

    def result(
        self, resumed: int, seconds: float, device: str, places: Places, warnings: tuple[str, ...]
    ) -> ScoreResult:
        dropped = self.reasons.total()
        return ScoreResult(
            rows_in=self.rows + self.rejected,
            rows_out=self.rows,
            rejected=self.rejected,
            kept=self.rows - dropped,
            dropped=dropped,
            by_reason=dict(self.reasons.most_common()),
            rejects_by_reason=dict(self.rejects.most_common()),
            resumed_rows=resumed,
            already_done=False,
            seconds=seconds,
            device=device,
            output=places.output,
            rejects_file=places.rejects if self.rejected else None,
            warnings=warnings,
        )


def publish(
    parts: Sequence[Path],
    schema: pa.Schema,
    tables: Iterator[pa.Table],
    places: Places,
    progress: Callable[[Progress], None] | None,
) -> Tally:
    tally = Tally()
    extras = [f for f in (read_part(parts[0]).schema if parts else ()) if f.name.startswith("extra_")]
    full = pa.schema([*schema, *extras], metadata=schema.metadata)
    expected = 0
    for header in headers(parts):
        expected += header.pairs
        tally.per_input[header.input] += header.pairs + len(header.rejects)
        tally.rejects.update(reject.reason for reject in header.rejects)
    with open_writer(places.output, full) as writer:
        for table in _one_ahead(tables):
            writer.write(table.replace_schema_metadata(schema.metadata))
            tally.rows += table.num_rows
            for entry in pc.value_counts(table["drop_reason"].cast(pa.string())).to_pylist():
                if entry["values"] is not None:
                    tally.reasons[entry["values"]] += entry["counts"]
            if progress:
                progress(Progress(tally.rows, tally.rejected, tally.rows / max(expected, 1), "finishing"))
    if tally.rows != expected:
        raise InputError(f"{places.output}: {expected} pairs were scored and {tally.rows} written; run with --restart")
    _write_rejects(parts, places.rejects, tally.rejected)
    return tally


def _one_ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same tables; the next one is made in a thread while the one before is written."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, tables, None)
        while (table := coming.result()) is not None:
            coming = thread.submit(next, tables, None)
            yield table


def _write_rejects(parts: Sequence[Path], path: str | None, count: int) -> None:
    if path is None:
        return
    if not count:
        Path(path).unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for header in headers(parts):
            for reject in header.rejects:
                file.write(reject_line(reject))


def reject_line(reject: Reject) -> str:
    """Return a reject as its line of the rejects file."""
    return json.dumps(dataclasses.asdict(reject), ensure_ascii=True) + "\n"


def write_manifest(
    places: Places,
    identity: dict[str, Any],
    origins: Sequence[Input],
    tally: Tally,
    result: ScoreResult,
    *,
    prior: float | None,
    run: dict[str, Any],
) -> None:
    assert places.manifest is not None
    files = output_files(places.output)
    shards = [
        {"file": path.name, "rows": _rows(path, result.rows_out, len(files)), "sha256": file_digest(path)}
        for path in files
    ]
    run = run | {"seconds": round(result.seconds, 3), "device": result.device}
    write_json(places.manifest, scored_manifest(identity, origins, tally, shards, prior=prior, run=run))


def scored_manifest(
    identity: Mapping[str, Any],
    origins: Sequence[Input],
    tally: Tally,
    shards: Sequence[Mapping[str, Any]],
    *,
    prior: float | None,
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a scored output; `run` is what its bytes do not depend on."""
    dropped = tally.reasons.total()
    return {
        "contract": CONTRACT_VERSION,
        "kind": "scored",
        "order": None,
        "seed": None,
        "shares": None,
        "rows": {
            "in": tally.rows + tally.rejected,
            "kept": tally.rows - dropped,
            "dropped": dropped,
            "rejected": tally.rejected,
            "by_reason": dict(tally.reasons.most_common()),
        },
        "rejects_by_reason": dict(tally.rejects.most_common()),
        "models": identity["models"],
        "profile_digest": identity["profile"],
        "prior": prior,
        "identity": value_digest(identity),
        "inputs": [
            {"path": origin.origin, "size": origin.size, "rows": tally.per_input[number]}
            for number, origin in enumerate(origins)
        ],
        "shards": list(shards),
        "run": dict(run),
    }


def _rows(path: Path, total: int, files: int) -> int:
    if files == 1:
        return total
    return int(pq.read_metadata(path).num_rows)
