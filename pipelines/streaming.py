"""The whole of a stream: the pipeline from its source to published windows, and who may run it."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import xxhash
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.transforms import trigger, window

from bisift import remote
from bisift.errors import ConfigError, InputError
from bisift.filter.inference import resolve_models
from bisift.filter.ordering import key_columns
from bisift.filter.ranking import RankOptions
from bisift.filter.readers import count_lines, spans
from bisift.filter.scoring import ScoreOptions, scorer_settings
from bisift.manifest import value_digest
from bisift.pipelines import metrics, runners, storage
from bisift.pipelines.messages import BATCH_ROWS, ReadMessages, Reopen, ScoreMessages, check_messages, is_messages
from bisift.pipelines.ranges import RANGE_BYTES, Range, numbered
from bisift.pipelines.scoring import PARTS, ScoreJob, ScoreRanges, SharedScorer
from bisift.pipelines.watching import Arrival, Watch
from bisift.pipelines.windows import CHANGE, FILE, PART, Current, Fact, Ledger, Publish, StreamJob, write_current

STATE = ".stream-state"
FACTS = "facts"
BOUNDED = ("FnApiRunner",)
"""Runners that end an unbounded source at once, without a word."""

_LATEST_S = 10 * 365 * 24 * 3600  # no row is ever too late


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """What a stream takes besides the options of `score` and `rank`.

    `window_s`: length of a window. `poll_s`: seconds between two looks at what is watched. `for_s`: end after so many
    seconds and publish what is there; None: never.
    """

    score: ScoreOptions = field(default_factory=ScoreOptions)
    rank: RankOptions = field(default_factory=RankOptions)
    range_bytes: int = RANGE_BYTES
    window_s: float = 60.0
    poll_s: float = 5.0
    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What a stream did before it ended: the windows that are published now, and its metrics."""

    output: str
    windows: list[str]
    metrics: dict[str, Any]
    seconds: float


def stream(inputs: Sequence[str], output: str, options: StreamOptions, beam_options: PipelineOptions) -> StreamResult:
    """Score what arrives, and publish each window of it as a ranked folder in `output`.

    Raises:
        ConfigError: contradicting settings, a runner that cannot run it, or another stream writes there.
        ModelError: weights are missing or damaged.
        BisiftError: the runner, a disk or a store failed.
    """
    watch = runners.Stopwatch()
    runner = beam_options.view_as(StandardOptions).runner
    check(inputs, options, runner)
    job = stream_job(output, options)
    beam_options.view_as(StandardOptions).streaming = True
    with claimed(job):
        result = runners.run(pipeline(inputs, job, options), beam_options)
        ledger = Ledger(job.score.output)
        ledger.refresh()
    found = {} if result is None else metrics.collected(result)
    return StreamResult(job.score.output, sorted(ledger.windows), found, watch.seconds)


def check(inputs: Sequence[str], options: StreamOptions, runner: str) -> None:
    """Raise ConfigError where a stream cannot be run as it is asked for."""
    if runner in BOUNDED:
        raise ConfigError(
            f"{runner} cannot run a stream: it would end at once, without output; "
            "take --runner=PrismRunner here, FlinkRunner or DataflowRunner on a cluster"
        )
    if any(map(is_messages, inputs)):
        if len(inputs) > 1:
            raise ConfigError("a stream reads one Pub/Sub subscription or Kafka topic, or watches files: give one")
        check_messages(inputs[0], runner)
    if "-" in inputs:
        raise ConfigError("a stream cannot read stdin (-): name a folder, a pattern or a topic")
    options.rank.check()
    missing = {"quality", "ai_probability"} & set(key_columns(options.rank.order))
    if not options.score.use_models and missing:
        raise ConfigError(f"--order {options.rank.order} needs {' and '.join(sorted(missing))}: leave --no-models out")
    for name, value in (("--window", options.window_s), ("--poll", options.poll_s), ("--stop-after", options.for_s)):
        if value is not None and value <= 0:
            raise ConfigError(f"{name} {value}: must be longer than nothing")


def stream_job(output: str, options: StreamOptions) -> StreamJob:
    """Return what the steps must know.

    Raises:
        ConfigError, ModelError: the profile or the models cannot be used.
    """
    if not remote.is_remote(output):
        output = str(Path(output).absolute())
    output = output.rstrip("/")
    settings = scorer_settings(options.score)
    found = resolve_models(dict(options.score.models)) if options.score.use_models else {}
    score = ScoreJob(
        settings=settings,
        digests={kind: model.digest for kind, model in found.items()},
        read=options.score.read,
        output=output,
        state=remote.join(output, STATE),
        range_bytes=options.range_bytes,
        live=True,
    )
    return StreamJob(score=score, rank=options.rank, window_s=options.window_s)


def pipeline(inputs: Sequence[str], job: StreamJob, options: StreamOptions) -> Callable[[beam.Pipeline], None]:
    """Return what builds the pipeline of a stream."""

    def build(root: beam.Pipeline) -> None:
        scorer = SharedScorer(job.score.settings)
        made = _messages if is_messages(inputs[0]) else _files
        _ = (
            made(root, inputs, job, options, scorer)
            | "Key" >> beam.ParDo(_Key()).with_output_types(tuple[str, Any])
            | "Window" >> beam.GroupByKey()
            | "Publish" >> beam.ParDo(Publish(job, scorer))
            | "All" >> beam.WindowInto(window.GlobalWindows())
            | "One" >> beam.ParDo(_Key()).with_output_types(tuple[str, str])
            | "Current" >> beam.ParDo(Current(job.score.output))
        )

    return build


def _files(
    root: beam.Pipeline, inputs: Sequence[str], job: StreamJob, options: StreamOptions, scorer: SharedScorer
) -> Any:
    """Return the facts of files that arrive, in windows."""
    watched = Watch(
        [_absolute(path) for path in inputs], job.score.read, job.score.output, options.poll_s, options.for_s
    )
    cut = root | "Watch" >> watched | "Cut" >> beam.ParDo(_Cut(job.score)).with_outputs(FACTS, main="ranges")
    parts = cut.ranges | "Spread" >> beam.Reshuffle() | "Score" >> ScoreRanges(job.score, scorer)
    made = parts[PARTS] | "Part" >> beam.Map(_part)
    return (cut[FACTS], made) | "Facts" >> beam.Flatten() | "Windows" >> _windows(job)


def _messages(
    root: beam.Pipeline, inputs: Sequence[str], job: StreamJob, options: StreamOptions, scorer: SharedScorer
) -> Any:
    """Return the facts of messages that arrive, in windows."""
    return (
        root
        | "Read" >> ReadMessages(inputs[0])
        | "Reopen" >> beam.ParDo(Reopen(job.score.output))
        | "Windows" >> _windows(job)
        | "Batch" >> beam.BatchElements(min_batch_size=1, max_batch_size=BATCH_ROWS)
        | "Score" >> beam.ParDo(ScoreMessages(job.score, scorer, inputs[0]))
    )


def _windows(job: StreamJob) -> beam.WindowInto:
    return beam.WindowInto(
        window.FixedWindows(job.window_s),
        trigger=trigger.AfterWatermark(late=trigger.AfterCount(1)),
        accumulation_mode=trigger.AccumulationMode.DISCARDING,
        allowed_lateness=_LATEST_S,
    )


class _Cut(beam.DoFn):
    """From a file that arrived to its ranges, and to the fact that it did."""

    def __init__(self, job: ScoreJob) -> None:
        self._job = job
        self._settings = value_digest(
            {
                "profile": job.settings.profile.digest,
                "models": dict(job.digests),
                "prior": job.prior,
                "read": repr(job.read),
            }
        )

    def process(self, arrival: Arrival) -> Iterator[Any]:
        origin, version = arrival.origin, arrival.version
        number = xxhash.xxh3_64_intdigest(f"{origin.origin}\n{version}\n{self._settings}".encode())
        kind = CHANGE if arrival.was else FILE
        yield beam.pvalue.TaggedOutput(FACTS, Fact(kind, origin.origin, number, origin.size, version, arrival.was))
        if arrival.was:
            return
        try:
            if arrival.problem is not None:
                raise InputError(arrival.problem)
            ranges = [Range(number, origin, span) for span in spans(origin, self._job.read, self._job.range_bytes)]
            ranges = [_with_lines(one) for one in ranges]
        except InputError as error:
            ranges = [Range(number, origin, problem=str(error))]
        yield from numbered(ranges)


def _with_lines(one: Range) -> Range:
    return replace(one, lines=count_lines(one.origin, one.span)) if one.counted else one


def _part(element: tuple[str, Any]) -> Fact:
    name = element[0]
    return Fact(PART, name, int(name.partition("-")[0]))


class _Key(beam.DoFn):
    def process(self, element: Any) -> Iterator[tuple[str, Any]]:
        yield "all", element


def _absolute(path: str) -> str:
    """Workers may stand in another folder."""
    return path if remote.is_remote(path) else str(Path(path).absolute())


@contextlib.contextmanager
def claimed(job: StreamJob) -> Iterator[None]:
    """Hold the lock of a local output, remove what killed streams left there, and finish what they published."""
    output = job.score.output
    with contextlib.ExitStack() as stack:
        if not remote.is_remote(output):
            state = Path(job.score.state)
            state.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(state / "lock", "w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f"{output}: another stream is writing there; wait for it or stop it") from error
        ledger = Ledger(output)
        ledger.refresh()
        for name in storage.names(job.score.state):
            if name.removeprefix("part-").removesuffix(".arrow") in ledger.parts:
                storage.remove(remote.join(job.score.state, name))
        for name in storage.folders(job.score.state):
            storage.remove_folder(remote.join(job.score.state, name))
        if ledger.windows:
            write_current(output)
        yield
