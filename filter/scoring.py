"""`score`: from files of parallel text to a scored output, resumable, with or without worker processes."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from bisift.contract import CONTRACT_VERSION, PAIR, SCORED, conform, with_provenance
from bisift.filter.finishing import finished
from bisift.filter.parts import Header, State, disk_errors, headers, write_part
from bisift.filter.profile import load_profile
from bisift.filter.publishing import Places, Progress, ScoreResult, finished_before, publish, write_manifest
from bisift.filter.readers import Chunk, Input, ReadOptions, expand, read
from bisift.filter.scorer import ChunkScorer, ScorerSettings
from bisift.filter.workers import Workers
from bisift.filter.writers import STANDARD


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreOptions:
    """How to score; only `workers` and the readers' `chunk_rows` leave the output as it is."""

    read: ReadOptions = field(default_factory=ReadOptions)
    profile: str = "default"
    disable: tuple[str, ...] = ()
    use_models: bool = True
    models: tuple[tuple[str, str], ...] = ()
    device: str = "auto"
    prior: float | None = None
    workers: int = 1
    limit: int | None = None
    rejects: str | None = None
    restart: bool = False


def score_files(
    inputs: Sequence[str],
    output: str,
    options: ScoreOptions,
    progress: Callable[[Progress], None] | None = None,
) -> ScoreResult:
    """Score all pairs of `inputs` into `output`, going on where an earlier run with the same settings stopped.

    Raises:
        ConfigError: contradicting settings, or an output or state of another configuration.
        InputError: an input cannot be read (to its end); the state is kept.
        ModelError: weights are missing or damaged.
    """
    began = time.monotonic()
    settings = scorer_settings(options)
    origins = expand(inputs, options.read)
    places = Places.of(output, options.rejects)
    with contextlib.ExitStack() as stack:
        # started first: they load their models while this process does
        workers = stack.enter_context(_workers(options, settings))
        chunk_scorer = ChunkScorer(settings)
        scorer = chunk_scorer.scorer
        identity = run_identity(origins, settings, options, places.output, scorer.digests if scorer else {})
        done = None if options.restart else finished_before(places, identity)
        if done is not None:
            return done
        resumable = output != STANDARD and all(origin.modified is not None for origin in origins)
        with (
            disk_errors(places.state),
            State(places.state, identity, restart=options.restart or not resumable) as state,
        ):
            with stack.pop_all():
                resumed = _score_parts(state, origins, workers, chunk_scorer, options, progress)
            parts = state.parts()
            schema = with_provenance(
                SCORED,
                models=scorer.digests if scorer else {},
                profile_digest=settings.profile.digest,
                prior=scorer.prior if scorer else None,
            )
            tally = publish(parts, schema, finished(parts, settings.profile, scorer), places, progress)
            warnings = []
            if not resumable and output != STANDARD:
                warnings.append("stdin cannot be resumed: an interrupted run starts again")
            if tally.rejected and places.rejects is None:
                warnings.append(
                    f"{tally.rejected} rows were rejected and not written: give --rejects FILE to keep them"
                )
            device = "none" if scorer is None else "cuda" if options.device == "cuda" else "cpu"
            result = tally.result(resumed, time.monotonic() - began, device, places, tuple(warnings))
            if places.manifest is not None:
                prior = scorer.prior if scorer else None
                run = {"workers": options.workers, "chunk_rows": options.read.chunk_rows}
                write_manifest(places, identity, origins, tally, result, prior=prior, run=run)
            state.discard()
        return result


def score(tables: Iterable[pa.Table] | Sequence[str], options: ScoreOptions | None = None) -> Iterator[pa.Table]:
    """Score paths, or an iterator of PAIR tables, and yield SCORED tables in the order of the input.

    Raises as `score_files` does; a table that does not conform to PAIR is a ContractError.
    """
    options = options or ScoreOptions()
    return score_tables(tables, options, ChunkScorer(scorer_settings(options)))


def score_tables(
    tables: Iterable[pa.Table] | Sequence[str], options: ScoreOptions, scorer: ChunkScorer
) -> Iterator[pa.Table]:
    """Score as `score` does, with models that are loaded already."""
    with tempfile.TemporaryDirectory(prefix="bisift-") as folder, State(Path(folder), {}, restart=True) as state:
        paths = [item for item in tables if isinstance(item, str)] if isinstance(tables, Sequence) else []
        if paths:
            with _workers(options, scorer.settings) as workers:
                _score_parts(state, expand(paths, options.read), workers, scorer, options, None)
        else:
            for number, table in enumerate(tables):
                scored = scorer.score(conform(table, PAIR))
                write_part(state.path(number), scored, Header(0, 0, table.num_rows, ()).to_json())
        yield from finished(state.parts(), scorer.settings.profile, scorer.scorer)


def scorer_settings(options: ScoreOptions) -> ScorerSettings:
    """Return what decides the scores of a pair, the profile loaded.

    Raises:
        ConfigError: the profile cannot be used, or a rule is unknown.
    """
    return ScorerSettings(
        profile=load_profile(options.profile, disable=options.disable),
        use_models=options.use_models,
        models=options.models,
        device=options.device,
        prior=options.prior,
    )


def run_identity(
    origins: Sequence[Input],
    settings: ScorerSettings,
    options: ScoreOptions,
    output: str,
    digests: Mapping[str, str],
) -> dict[str, Any]:
    """Return everything that the bytes of an output depend on, as JSON can hold it."""
    read_options = {name: getattr(options.read, name) for name in ReadOptions.__slots__ if name != "chunk_rows"}
    read_options["keep_columns"] = list(options.read.keep_columns)
    return {
        "contract": CONTRACT_VERSION,
        "inputs": [origin.identity for origin in origins],
        "read": read_options,
        "profile": settings.profile.digest,
        "models": dict(digests),
        "prior": options.prior,
        "limit": options.limit,
        "output": os.path.basename(output.rstrip("/")),
        "rejects": options.rejects,
    }


def _chunks(
    origins: Sequence[Input], options: ScoreOptions, first: int, after_row: int, done: int
) -> Iterator[tuple[int, Chunk]]:
    """Chunks of all inputs from record `after_row` of input `first` on, `limit` records in all, `done` before."""
    left = None if options.limit is None else options.limit - done
    for number in range(first, len(origins)):
        start = after_row if number == first else 0
        for chunk in read(origins[number], options.read, after_row=start):
            if left is not None:
                if left <= 0:
                    return
                chunk = chunk.head(start + left)
                left -= chunk.last_row - start
            start = chunk.last_row
            yield number, chunk


def _score_parts(
    state: State,
    origins: Sequence[Input],
    workers: Workers | None,
    scorer: ChunkScorer,
    options: ScoreOptions,
    progress: Callable[[Progress], None] | None,
) -> int:
    """Score what is not in the state yet; return how many records an earlier run had done."""
    known = state.parts()
    before = list(headers(known))
    pairs, rejects = sum(h.pairs for h in before), sum(len(h.rejects) for h in before)
    resumed = pairs + rejects
    first, after = (before[-1].input, before[-1].last_row) if before else (0, 0)
    seen: list[tuple[int, int, float | None]] = []

    def tasks() -> Iterator[tuple[bytes, bytes, str]]:
        stream = _chunks(origins, options, first, after, resumed)
        for part, (number, chunk) in enumerate(stream, start=len(known)):
            header = Header(number, chunk.last_row, chunk.pairs.num_rows, chunk.rejects)
            share = None if chunk.fraction is None else (number + chunk.fraction) / len(origins)
            seen.append((chunk.pairs.num_rows, len(chunk.rejects), share))
            yield _to_bytes(chunk.pairs), header.to_json(), str(state.path(part))

    results = workers.map(tasks()) if workers else (_score_part(scorer, *task) for task in tasks())
    for number, _ in enumerate(results):
        pairs, rejects = pairs + seen[number][0], rejects + seen[number][1]
        if progress:
            progress(Progress(pairs, rejects, seen[number][2], "scoring"))
    return resumed


def _workers(options: ScoreOptions, settings: ScorerSettings) -> contextlib.AbstractContextManager[Workers | None]:
    if options.workers > 1:
        return Workers(options.workers, _worker, (settings,))
    return contextlib.nullcontext()


def _worker(settings: ScorerSettings) -> Callable[[bytes, bytes, str], int]:
    pa.set_cpu_count(1)
    scorer = ChunkScorer(settings)
    return lambda pairs, header, path: _score_part(scorer, pairs, header, path)


def _score_part(scorer: ChunkScorer, pairs: bytes, header: bytes, path: str) -> int:
    table = pa.ipc.open_stream(pa.py_buffer(pairs)).read_all()
    with disk_errors(path):
        write_part(Path(path), scorer.score(table), header)
    return int(table.num_rows)


def _to_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
