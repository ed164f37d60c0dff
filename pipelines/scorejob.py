"""The whole of a score job: inputs, the pipeline, its state, and what it says at its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from bisift import remote
from bisift.errors import ConfigError
from bisift.filter.inference import resolve_models
from bisift.filter.parts import read_header
from bisift.filter.publishing import Progress
from bisift.filter.readers import Input, expand
from bisift.filter.scoring import ScoreOptions, run_identity, scorer_settings
from bisift.manifest import MANIFEST_NAME, read_json
from bisift.pipelines import metrics, runners, storage
from bisift.pipelines.documents import DocumentProbabilities
from bisift.pipelines.duplicates import SUMS, Repeated
from bisift.pipelines.gathering import Gather
from bisift.pipelines.options import sees_disk
from bisift.pipelines.ranges import RANGE_BYTES, Range, Ranges, limited
from bisift.pipelines.scoring import ASKED, KEY_BLOCKS, PARTS, ScoreJob, ScoreRanges, SharedScorer
from bisift.pipelines.sinks import Finish, Publish
from bisift.pipelines.state import claimed, finished, state_folder

BUCKET_BYTES = 64 << 20
MAX_BUCKETS = 4096
_COMPRESSION = 4  # times that a compressed file may grow, roughly; only the number of buckets depends on it


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """What a job takes besides the options of `score`: how to cut inputs, and whether a broken one ends it."""

    score: ScoreOptions = field(default_factory=ScoreOptions)
    range_bytes: int = RANGE_BYTES
    strict: bool = False


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job did: the counts of its manifest and its metrics; `already_done`: an earlier job had done it."""

    output: str
    rows: dict[str, Any]
    rejects_by_reason: dict[str, int]
    metrics: dict[str, Any]
    seconds: float
    already_done: bool
    dry_run: bool = False


def score(inputs: Sequence[str], output: str, options: JobOptions, beam_options: PipelineOptions) -> JobResult:
    """Score all pairs of `inputs` into the folder `output`, as a Beam job.

    Raises:
        ConfigError: contradicting settings, or an output or state of another configuration.
        InputError: an input cannot be read, changed meanwhile, or (only when strict) breaks half-way.
        ModelError: weights are missing or damaged.
        BisiftError: the runner, a disk or a store failed.
    """
    watch = runners.Stopwatch()
    output = job_folder(output)
    origins = [_for_workers(origin) for origin in expand(inputs, options.score.read)]
    settings = scorer_settings(options.score)
    found = resolve_models(dict(options.score.models)) if options.score.use_models else {}
    digests = {kind: model.digest for kind, model in found.items()}
    identity = run_identity(origins, settings, options.score, output, digests)
    dry_run = runners.is_dry_run(beam_options)
    done = None if options.score.restart or dry_run else finished(output, identity)
    if done is not None:
        return JobResult(storage.shown(output), done["rows"], done["rejects_by_reason"], {}, watch.seconds, True)
    job = ScoreJob(
        settings=settings,
        digests=digests,
        read=options.score.read,
        output=output,
        state=state_folder(output),
        range_bytes=options.range_bytes,
        buckets=_buckets(origins),
        strict=options.strict,
        spill=state_folder(output) if sees_disk(beam_options, output) else None,
    )
    ranges = list(limited(origins, options.score.read, options.score.limit))
    pieces = {"range_bytes": options.range_bytes, "chunk_rows": options.score.read.chunk_rows}
    build = pipeline(job, ranges, Publish(job, origins, identity))
    if dry_run:
        runners.run(build, beam_options)
        return JobResult(storage.shown(output), {}, {}, {}, watch.seconds, False, dry_run=True)
    template = runners.is_template(beam_options)
    with claimed(output, identity | pieces, restart=options.score.restart, keep=template):
        result = runners.run(build, beam_options, _steps(job, origins))
        if result is None:
            return JobResult(storage.shown(output), {}, {}, {}, watch.seconds, False, dry_run=True)
        with storage.fetched(remote.join(output, MANIFEST_NAME)) as path:
            manifest = read_json(path)
    counts, rejects = manifest["rows"], manifest["rejects_by_reason"]
    return JobResult(storage.shown(output), counts, rejects, metrics.collected(result), watch.seconds, False)


def pipeline(job: ScoreJob, ranges: Sequence[Range], publish: Publish) -> Callable[[beam.Pipeline], None]:
    """Return what builds the pipeline of a job."""

    def build(root: beam.Pipeline) -> None:
        scorer = SharedScorer(job.settings)
        inputs = root | "Inputs" >> beam.Create(ranges)
        numbered = inputs | "Ranges" >> Ranges(job.read, job.range_bytes, strict=job.strict)
        made = numbered | "Score" >> ScoreRanges(job, scorer)
        repeats = (
            made[KEY_BLOCKS]
            | "ByKey" >> beam.GroupByKey()
            | "Repeated" >> beam.ParDo(Repeated(job.buckets)).with_outputs(SUMS, main="rows")
        )
        answers = (
            (repeats[SUMS], made[ASKED])
            | "Documents" >> beam.Flatten()
            | "ByDocument" >> beam.GroupByKey()
            | "Probabilities" >> beam.ParDo(DocumentProbabilities(scorer))
        )
        _ = (
            (made[PARTS], repeats.rows, answers)
            | "WholeInput" >> beam.Flatten()
            | "ByPart" >> beam.GroupByKey()
            | "Finish" >> beam.ParDo(Finish(job))
            | "Publish" >> Gather(publish)
        )

    return build


def job_folder(output: str) -> str:
    """Return the folder that a job writes to, of a local one the absolute path.

    Raises:
        ConfigError: it is stdout or a file.
    """
    if output == "-":
        raise ConfigError("a job writes a folder: give --output DIR/")
    if not remote.is_remote(output):
        output = os.path.abspath(output)
        if os.path.exists(output) and not os.path.isdir(output):
            raise ConfigError(f"{output}: is a file; a job writes a folder")
    return output.rstrip("/")


def _for_workers(origin: Input) -> Input:
    """Workers may stand in another folder; what is written names the input as it was typed all the same."""
    if origin.paths == ("-",):
        raise ConfigError("a job cannot read stdin (-): give files, or use filter-cli score")
    return replace(origin, paths=tuple(p if remote.is_remote(p) else os.path.abspath(p) for p in origin.paths))


def _buckets(origins: Sequence[Input]) -> int:
    compressed = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".parquet")
    sizes = (
        (origin.size or 0) * (_COMPRESSION if origin.paths[0].lower().endswith(compressed) else 1) for origin in origins
    )
    return max(1, min(MAX_BUCKETS, -(-sum(sizes) // BUCKET_BYTES)))


def _steps(job: ScoreJob, origins: Sequence[Input]) -> Callable[[], Progress] | None:
    """Tell how far a job is by the parts in its folder, where that is on this machine."""
    if remote.is_remote(job.state):
        return None
    known: dict[str, tuple[int, int]] = {}
    size = sum(origin.size or 0 for origin in origins)

    def step() -> Progress:
        for path in Path(job.state).glob("part-*.arrow"):
            if path.name not in known:
                header = read_header(path)
                known[path.name] = header.pairs, len(header.rejects)
        pairs, rejects = sum(one for one, _ in known.values()), sum(one for _, one in known.values())
        written = len(list(Path(job.output).glob("part-*.parquet")))
        if written:
            return Progress(pairs, rejects, min(1.0, written / max(len(known), 1)), "finishing")
        return Progress(pairs, rejects, min(1.0, len(known) * job.range_bytes / max(size, 1)), "scoring")

    return step
