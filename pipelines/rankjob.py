"""The whole of a ranking job: scored inputs, the pipeline, its folder, and what it says at its end."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from bisift import remote
from bisift.errors import ConfigError
from bisift.filter.manifests import describe
from bisift.filter.ranking import RankOptions, RankStep
from bisift.filter.scored import Scored, open_scored
from bisift.filter.shards import check_folder, workspace
from bisift.manifest import MANIFEST_NAME, read_json
from bisift.pipelines import metrics, runners, storage
from bisift.pipelines.options import sees_disk
from bisift.pipelines.ranking import pipeline
from bisift.pipelines.units import RankJob, units

_SAMPLE_ROWS = 1024
_SHARD = re.compile(r"shard-\d{5,}-of-\d{5,}\.parquet")


@dataclass(frozen=True, slots=True)
class RankJobResult:
    """What was ranked: the counts and shards of the manifest, and the job's metrics."""

    output: str
    order: str
    rows: dict[str, Any]
    shards: list[dict[str, Any]]
    warnings: tuple[str, ...]
    metrics: dict[str, Any]
    seconds: float
    dry_run: bool = False


def rank(inputs: Sequence[str], output: str, options: RankOptions, beam_options: PipelineOptions) -> RankJobResult:
    """Rank scored files and folders into shards in `output`, as a Beam job; byte for byte what `rank_files` writes.

    Raises:
        ConfigError: an option is wrong, the order needs a score that is null, the inputs were scored with different
            models or profiles, or `output` holds something else.
        InputError, ContractError: an input is missing, damaged or not what its manifest says.
        BisiftError: the runner, a disk or a store failed.
    """
    watch = runners.Stopwatch()
    options.check()
    source = open_scored(inputs)
    source.check_alike()
    dry_run = runners.is_dry_run(beam_options)
    with contextlib.nullcontext((output, None)) if dry_run else _claimed(output, source) as (folder, state):
        job = RankJob(
            options=options,
            schema=source.schema,
            output=folder,
            spill=state if sees_disk(beam_options, folder) else None,
            row_bytes=row_bytes(source),
        )
        pieces = list(units(source, job))
        build = pipeline(job, pieces, describe(source))
        result = runners.run(build, beam_options, _steps(job, source, len(pieces)) if job.spill else None)
        if result is None:
            return RankJobResult(
                storage.shown(folder), options.order, {}, [], source.warnings, {}, watch.seconds, dry_run=True
            )
        with storage.fetched(remote.join(folder, MANIFEST_NAME)) as path:
            manifest = read_json(path)
    found = metrics.collected(result)
    return RankJobResult(
        storage.shown(folder),
        options.order,
        manifest["rows"],
        manifest["shards"],
        source.warnings,
        found,
        watch.seconds,
    )


@contextlib.contextmanager
def _claimed(output: str, source: Scored) -> Iterator[tuple[str, str | None]]:
    """Yield the output folder, emptied of an earlier ranking, and a folder for what is shuffled where it is local."""
    if remote.is_remote(output):
        folder = output.rstrip("/")
        path = remote.join(folder, MANIFEST_NAME)
        if storage.exists(path):
            with storage.fetched(path) as local:
                kind = read_json(local).get("kind")
            if kind != "ranked":
                raise ConfigError(f"{storage.shown(output)}: its {MANIFEST_NAME} is of kind {kind!r}; name another")
        _clear(folder)
        yield folder, None
        return
    local_parts = [part.path for entry in source.inputs for part in entry.parts if isinstance(part.path, Path)]
    place = check_folder(os.path.abspath(output), local_parts)
    with workspace(place) as state:
        _clear(str(place))
        yield str(place), str(state)


def _clear(folder: str) -> None:
    storage.remove(remote.join(folder, MANIFEST_NAME))
    for name in storage.names(folder):
        if _SHARD.fullmatch(name):
            storage.remove(remote.join(folder, name))


def _steps(job: RankJob, source: Scored, pieces: int) -> Callable[[], RankStep]:
    """Tell how far a ranking is by the files in its folders."""
    rows = sum(entry.rows or 0 for entry in source.inputs)

    def step() -> RankStep:
        partitioned = sum(name.startswith("rows-") for name in storage.names(job.spill or ""))
        written = sum(bool(_SHARD.fullmatch(name)) for name in storage.names(job.output))
        phase, share = (
            ("writing", written / job.options.shards) if written else ("partitioning", partitioned / max(pieces, 1))
        )
        return RankStep(round(share * rows), share, phase)

    return step


def row_bytes(source: Scored) -> int:
    """Return about how many bytes of memory a row takes, from the first rows."""
    for entry in source.inputs:
        for part in entry.parts:
            for table in part.tables(source.schema.names, _SAMPLE_ROWS):
                if table.num_rows:
                    return max(1, int(table.nbytes // table.num_rows))
    return 1
