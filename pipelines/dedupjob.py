"""The whole of a dedup job: scored inputs, the pipeline, its folder, and what it says at its end."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from bisift import remote
from bisift.errors import ConfigError
from bisift.filter.dedup import DedupOptions, open_unmarked
from bisift.filter.manifests import describe
from bisift.filter.ranking import RankOptions, RankStep
from bisift.filter.scored import Scored
from bisift.manifest import MANIFEST_NAME, read_json, value_digest
from bisift.pipelines import metrics, runners, storage
from bisift.pipelines.marking import pipeline
from bisift.pipelines.options import sees_disk
from bisift.pipelines.rankjob import row_bytes
from bisift.pipelines.scorejob import job_folder
from bisift.pipelines.state import claimed, finished, state_folder
from bisift.pipelines.units import RankJob, units

BUCKET_ROWS = 1 << 18
_TEXT_BYTES = 100  # the least that a scored pair takes as text


@dataclass(frozen=True, slots=True)
class DedupJobResult:
    """What was found: the manifest's counts, and how many rows were read, compared, marked (by reason) and written."""

    output: str
    rows: dict[str, Any]
    rows_in: int
    compared: int
    marked: dict[str, int]
    written: int
    warnings: tuple[str, ...]
    metrics: dict[str, Any]
    seconds: float
    dry_run: bool = False


def dedup(
    inputs: Sequence[str], output: str, options: DedupOptions, beam_options: PipelineOptions, *, restart: bool = False
) -> DedupJobResult:
    """Mark near duplicates among scored rows, as a Beam job that writes the rows that `dedup_files` writes.

    `options.clusters` is for one machine alone.

    Raises:
        ConfigError: an option is wrong, the order needs a score that is null, the inputs' scores cannot be compared, or
            `output` holds something else.
        InputError, ContractError: an input is missing, damaged or not what its manifest says.
        BisiftError: the runner, a disk or a store failed.
    """
    watch = runners.Stopwatch()
    options.check()
    output = job_folder(output)
    source = open_unmarked(inputs, options.by)
    _check_apart(source, output)
    job = RankJob(
        options=RankOptions(order=options.by),
        schema=source.schema,
        output=output,
        spill=state_folder(output) if sees_disk(beam_options, output) else None,
        row_bytes=row_bytes(source),
    )
    pieces = list(units(source, job))
    identity = _identity(source, options)
    build = pipeline(job, options, pieces, _buckets(source), describe(source), identity)
    nothing = DedupJobResult(storage.shown(output), {}, 0, 0, {}, 0, source.warnings, {}, watch.seconds, dry_run=True)
    if runners.is_dry_run(beam_options):
        runners.run(build, beam_options)
        return nothing
    if not restart:
        finished(output, identity)  # what another job made is not replaced
    with claimed(output, identity, restart=restart, keep=runners.is_template(beam_options)):
        result = runners.run(build, beam_options, _steps(job, source, len(pieces)) if job.spill else None)
        if result is None:
            return nothing
        with storage.fetched(remote.join(output, MANIFEST_NAME)) as path:
            manifest = read_json(path)
    found = manifest["dedup"]
    return DedupJobResult(
        output=storage.shown(output),
        rows=manifest["rows"],
        rows_in=found["read"],
        compared=found["compared"],
        marked=found["marked"],
        written=sum(shard["rows"] for shard in manifest["shards"]),
        warnings=source.warnings,
        metrics=metrics.collected(result),
        seconds=watch.seconds,
    )


def _check_apart(source: Scored, output: str) -> None:
    """Refuse an output folder that holds an input."""
    for entry in source.inputs:
        for part in entry.parts:
            if remote.is_remote(output):
                same = storage.shown(str(part.path)).rpartition("/")[0] == storage.shown(output).rstrip("/")
            else:
                same = isinstance(part.path, Path) and part.path.resolve().parent == Path(output).resolve()
            if same:
                raise ConfigError(f"{storage.shown(output)}: holds the input {entry.path}; name another folder")


def _identity(source: Scored, options: DedupOptions) -> dict[str, Any]:
    """Return what the rows of an output depend on."""
    settings = dataclasses.asdict(options)
    inputs = [
        {
            "path": entry.path,
            "files": [[os.path.basename(storage.shown(str(part.path))), part.size] for part in entry.parts],
            "manifest": value_digest(dict(entry.manifest)) if entry.manifest else None,
        }
        for entry in source.inputs
    ]
    return {
        "dedup": {name: settings[name] for name in ("by", "threshold", "max_variants", "remove")},
        "inputs": inputs,
    }


def _buckets(source: Scored) -> int:
    """Return the buckets of each band: those of a band hold about `BUCKET_ROWS` rows each."""
    rows = sum(
        part.size // _TEXT_BYTES if part.rows is None else part.rows for entry in source.inputs for part in entry.parts
    )
    return max(1, -(-rows // BUCKET_ROWS))


def _steps(job: RankJob, source: Scored, pieces: int) -> Callable[[], RankStep]:
    """Tell how far a job is by the files in its folders."""
    rows = sum(entry.rows or 0 for entry in source.inputs)

    def step() -> RankStep:
        compared = sum(name.startswith("keys-") for name in storage.names(job.spill or ""))
        written = sum(name.startswith("part-") for name in storage.names(job.output))
        share = (written or compared) / max(pieces, 1)
        return RankStep(round(share * rows), min(1.0, share), "writing" if written else "comparing")

    return step
