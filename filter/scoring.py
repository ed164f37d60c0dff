"""`score`: from files of parallel text to a scored output, resumable, with or without worker processes."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bisift.contract import CONTRACT_VERSION, PAIR, SCORED, conform, with_provenance
from bisift.errors import ConfigError, InputError
from bisift.filter.finishing import finished
from bisift.filter.parts import Header, State, disk_errors, headers, read_part, write_part
from bisift.filter.profile import load_profile
from bisift.filter.readers import Chunk, Input, ReadOptions, expand, read
from bisift.filter.scorer import ChunkScorer, ScorerSettings
from bisift.filter.workers import Workers
from bisift.filter.writers import open_writer, output_files
from bisift.manifest import MANIFEST_NAME, atomic_path, file_digest, read_json, value_digest, write_json

STDOUT = "-"


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
class _Places:
    """Where a run puts things, from its output's name."""

    output: str
    rejects: str | None
    manifest: Path | None
    state: Path

    @classmethod
    def of(cls, output: str, rejects: str | None) -> _Places:
        if output == STDOUT:
            return cls(output, rejects, None, Path(tempfile.mkdtemp(prefix="bisift-")))
        folder = output.endswith("/") or os.path.isdir(output)
        stem = output.rstrip("/")
        manifest = Path(stem) / MANIFEST_NAME if folder else Path(stem + ".manifest.json")
        default = os.path.join(stem, "rejects.jsonl") if folder else stem + ".rejects.jsonl"
        return cls(stem + "/" if folder else stem, rejects or default, manifest, Path(stem + ".state"))


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
    settings = _settings(options)
    origins = expand(inputs, options.read)
    places = _Places.of(output, options.rejects)
    chunk_scorer = ChunkScorer(settings)
    scorer = chunk_scorer.scorer
    identity = _identity(origins, settings, options, places, scorer.digests if scorer else {})
    done = None if options.restart else _finished_before(places, identity)
    if done is not None:
        return done
    resumable = output != STDOUT and all(origin.modified is not None for origin in origins)
    with disk_errors(places.state), State(places.state, identity, restart=options.restart or not resumable) as state:
        resumed = _score_parts(state, origins, settings, chunk_scorer, options, progress)
        parts = state.parts()
        schema = with_provenance(
            SCORED,
            models=scorer.digests if scorer else {},
            profile_digest=settings.profile.digest,
            prior=scorer.prior if scorer else None,
        )
        tally = _publish(parts, schema, finished(parts, settings.profile, scorer), places, progress)
        warnings = []
        if not resumable and output != STDOUT:
            warnings.append("stdin cannot be resumed: an interrupted run starts again")
        if tally.rejected and places.rejects is None:
            warnings.append(f"{tally.rejected} rows were rejected and not written: give --rejects FILE to keep them")
        device = "none" if scorer is None else "cuda" if options.device == "cuda" else "cpu"
        result = tally.result(resumed, time.monotonic() - began, device, places, tuple(warnings))
        if places.manifest is not None:
            _write_manifest(places, identity, settings, schema, origins, tally, options, result)
        state.discard()
    return result


def score(tables: Iterable[pa.Table] | Sequence[str], options: ScoreOptions | None = None) -> Iterator[pa.Table]:
    """Score paths, or an iterator of PAIR tables, and yield SCORED tables in the order of the input.

    Raises as `score_files` does; a table that does not conform to PAIR is a ContractError.
    """
    options = options or ScoreOptions()
    return score_tables(tables, options, _settings(options))


def score_tables(
    tables: Iterable[pa.Table] | Sequence[str], options: ScoreOptions, settings: ScorerSettings
) -> Iterator[pa.Table]:
    """Score as `score` does, with settings that are loaded already."""
    scorer = ChunkScorer(settings)
    with tempfile.TemporaryDirectory(prefix="bisift-") as folder, State(Path(folder), {}, restart=True) as state:
        paths = [item for item in tables if isinstance(item, str)] if isinstance(tables, Sequence) else []
        if paths:
            _score_parts(state, expand(paths, options.read), settings, scorer, options, None)
        else:
            for number, table in enumerate(tables):
                scored = scorer.score(conform(table, PAIR))
                write_part(state.path(number), scored, Header(0, 0, table.num_rows, ()).to_json())
        yield from finished(state.parts(), settings.profile, scorer.scorer)


def _settings(options: ScoreOptions) -> ScorerSettings:
    return ScorerSettings(
        profile=load_profile(options.profile, disable=options.disable),
        use_models=options.use_models,
        models=options.models,
        device=options.device,
        prior=options.prior,
    )


def _identity(
    origins: Sequence[Input],
    settings: ScorerSettings,
    options: ScoreOptions,
    places: _Places,
    digests: dict[str, str],
) -> dict[str, Any]:
    read_options = {name: getattr(options.read, name) for name in ReadOptions.__slots__ if name != "chunk_rows"}
    read_options["keep_columns"] = list(options.read.keep_columns)
    return {
        "contract": CONTRACT_VERSION,
        "inputs": [origin.identity for origin in origins],
        "read": read_options,
        "profile": settings.profile.digest,
        "models": digests,
        "prior": options.prior,
        "limit": options.limit,
        "output": os.path.basename(places.output.rstrip("/")),
        "rejects": options.rejects,
    }


def _finished_before(places: _Places, identity: dict[str, Any]) -> ScoreResult | None:
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
                last = min(chunk.last_row, start + left)
                left -= last - start
                if last < chunk.last_row:
                    kept = chunk.pairs.filter(pc.less_equal(chunk.pairs["row"], last))
                    chunk = Chunk(kept, tuple(r for r in chunk.rejects if r.row <= last), last, chunk.fraction)
            start = chunk.last_row
            yield number, chunk


def _score_parts(
    state: State,
    origins: Sequence[Input],
    settings: ScorerSettings,
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

    with contextlib.ExitStack() as stack:
        results: Iterable[Any]
        if options.workers > 1:
            results = stack.enter_context(Workers(options.workers, _worker, (settings,))).map(tasks())
        else:
            results = (_score_part(scorer, *task) for task in tasks())
        for number, _ in enumerate(results):
            pairs, rejects = pairs + seen[number][0], rejects + seen[number][1]
            if progress:
                progress(Progress(pairs, rejects, seen[number][2], "scoring"))
    return resumed


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


@dataclass
class _Tally:
    """Counts of the finishing pass."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    per_input: Counter[int] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        return self.rejects.total()

    def result(
        self, resumed: int, seconds: float, device: str, places: _Places, warnings: tuple[str, ...]
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


def _publish(
    parts: Sequence[Path],
    schema: pa.Schema,
    tables: Iterator[pa.Table],
    places: _Places,
    progress: Callable[[Progress], None] | None,
) -> _Tally:
    tally = _Tally()
    extras = [f for f in (read_part(parts[0]).schema if parts else ()) if f.name.startswith("extra_")]
    full = pa.schema([*schema, *extras], metadata=schema.metadata)
    expected = 0
    for header in headers(parts):
        expected += header.pairs
        tally.per_input[header.input] += header.pairs + len(header.rejects)
        tally.rejects.update(reject.reason for reject in header.rejects)
    with open_writer(places.output, full) as writer:
        for table in tables:
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


def _write_rejects(parts: Sequence[Path], path: str | None, count: int) -> None:
    import dataclasses
    import json

    if path is None:
        return
    if not count:
        Path(path).unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for header in headers(parts):
            for reject in header.rejects:
                file.write(json.dumps(dataclasses.asdict(reject), ensure_ascii=True) + "\n")


def _write_manifest(
    places: _Places,
    identity: dict[str, Any],
    settings: ScorerSettings,
    schema: pa.Schema,
    origins: Sequence[Input],
    tally: _Tally,
    options: ScoreOptions,
    result: ScoreResult,
) -> None:
    assert places.manifest is not None
    files = output_files(places.output)
    write_json(
        places.manifest,
        {
            "contract": CONTRACT_VERSION,
            "kind": "scored",
            "order": None,
            "seed": None,
            "shares": None,
            "rows": {
                "in": result.rows_in,
                "kept": result.kept,
                "dropped": result.dropped,
                "rejected": result.rejected,
                "by_reason": result.by_reason,
            },
            "rejects_by_reason": result.rejects_by_reason,
            "models": identity["models"],
            "profile_digest": settings.profile.digest,
            "prior": (options.prior if options.prior is not None else 0.5) if options.use_models else None,
            "identity": value_digest(identity),
            "inputs": [
                {"path": origin.origin, "size": origin.size, "rows": tally.per_input[number]}
                for number, origin in enumerate(origins)
            ],
            "shards": [
                {"file": path.name, "rows": _rows(path, result.rows_out, len(files)), "sha256": file_digest(path)}
                for path in files
            ],
            "run": {
                "workers": options.workers,
                "chunk_rows": options.read.chunk_rows,
                "seconds": round(result.seconds, 3),
                "device": result.device,
            },
        },
    )


def _rows(path: Path, total: int, files: int) -> int:
    if files == 1:
        return total
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)
