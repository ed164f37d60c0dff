"""From ranges to scored parts: read, score, keep as a part in the state folder, and hand on the keys of the rows.

A part is named after its range, so a bundle that runs twice writes the same file; one that is there from an earlier
run is not made again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from bisift import remote
from bisift.contract import PAIR, SCORED, with_provenance
from bisift.errors import BisiftError, InputError
from bisift.filter.inference import DEFAULT_PRIOR
from bisift.filter.parts import Header, read_header, read_part, write_part
from bisift.filter.readers import Chunk, Input, ReadOptions, Reject, check_unchanged, read_span
from bisift.filter.scorer import DOCUMENT_KEY, EVIDENCE, SOURCE_KEY, TARGET_KEY, ChunkScorer, ScorerSettings
from bisift.pipelines import metrics, storage
from bisift.pipelines.duplicates import DOCUMENTS, key_blocks
from bisift.pipelines.ranges import RANGE_BYTES, Range, piece_name
from bisift.pipelines.spilling import Block, spilled, to_bytes, to_table

PARTS, KEY_BLOCKS, ASKED = "parts", "key_blocks", "asked"
"""Outputs of `ScoreRanges`: parts, the keys of their rows, and the documents that they ask for."""

PIECE_BYTES = 4 << 20  # of an input that cannot be cut: Flink may hold all values of a key in memory
_KEY_COLUMNS = ("pair_id", SOURCE_KEY, TARGET_KEY, DOCUMENT_KEY, EVIDENCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreJob:
    """What the steps of a job must know. `digests`: of the models, empty without.

    `state`: folder of the parts. `spill`: folder that all workers see, for what is shuffled; None: by value.
    `buckets`: how many parts the keys of duplicates are spread over. `live`: an input may change while it is read, as
    what watches it will report.
    """

    settings: ScorerSettings
    digests: Mapping[str, str]
    read: ReadOptions
    output: str
    state: str
    range_bytes: int = RANGE_BYTES
    buckets: int = 1
    strict: bool = False
    spill: str | None = None
    live: bool = False

    def check_unchanged(self, origin: Input) -> None:
        """Raise ChangedInputError where an input is not what it was, unless inputs are live."""
        if not self.live:
            check_unchanged(origin)

    @property
    def prior(self) -> float | None:
        """The prior that scores were made with."""
        if not self.settings.use_models:
            return None
        return DEFAULT_PRIOR if self.settings.prior is None else self.settings.prior

    @property
    def schema(self) -> pa.Schema:
        """SCORED with the metadata that every output carries."""
        digest = self.settings.profile.digest
        return with_provenance(SCORED, models=self.digests, profile_digest=digest, prior=self.prior)

    def part(self, name: str) -> str:
        """Path of the scored part of a range."""
        return remote.join(self.state, f"part-{name}.arrow")


class Piece(NamedTuple):
    """Pairs that were read of a range but not scored yet; `pairs` is an Arrow IPC stream of PAIR and extras."""

    name: str
    number: int
    last_row: int
    pairs: Block | bytes
    rejects: tuple[Reject, ...]


class ScoreRanges(beam.PTransform):
    """Score all ranges. A dictionary of outputs: (name, (`PARTS`, nothing)), and (bucket, (name, block)) for two."""

    def __init__(self, job: ScoreJob, scorer: SharedScorer) -> None:
        super().__init__()
        self._job = job
        self._scorer = scorer

    def expand(self, ranges: Any) -> dict[str, Any]:
        cut = ranges | "Splittable" >> beam.Filter(lambda one: not one.whole)
        whole = ranges | "Whole" >> beam.Filter(lambda one: one.whole)
        pieces = whole | "ReadPieces" >> beam.ParDo(_ReadPieces(self._job)) | "Rebalance" >> beam.Reshuffle()
        made = [
            cut | "ReadAndScore" >> _outputs(_ScoreRange(self._job, self._scorer)),
            pieces | "ScorePieces" >> _outputs(_ScorePiece(self._job, self._scorer)),
        ]
        return {tag: [one[tag] for one in made] | tag >> beam.Flatten() for tag in (PARTS, KEY_BLOCKS, ASKED)}


def _outputs(step: beam.DoFn) -> Any:
    return beam.ParDo(step).with_outputs(KEY_BLOCKS, ASKED, main=PARTS)


class SharedScorer:
    """The models, once in each process, however many steps and threads use them."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._shared = Shared()

    def get(self) -> ChunkScorer:
        """Load them, or return what is loaded.

        Raises:
            ModelError: weights are missing or damaged.
        """
        pa.set_cpu_count(1)  # a runner's workers are as many as it wants threads
        scorer: ChunkScorer = self._shared.acquire(lambda: ChunkScorer(self._settings), tag=repr(self._settings))
        return scorer


class Scoring(beam.DoFn):
    """What scoring ranges, pieces and messages have in common."""

    def __init__(self, job: ScoreJob, scorer: SharedScorer) -> None:
        self._job = job
        self._shared = scorer

    def setup(self) -> None:
        self._scorer = self._shared.get()

    def _earlier(self, name: str) -> tuple[pa.Table, Header] | None:
        """Return the keys and header of a part that an earlier run made."""
        path = self._job.part(name)
        if not storage.exists(path):
            return None
        with storage.fetched(path) as local:
            return read_part(local, _KEY_COLUMNS), read_header(local)

    def _keep(self, name: str, table: pa.Table, header: Header) -> tuple[pa.Table, Header]:
        with storage.created(self._job.part(name)) as local:
            write_part(local, table, header.to_json())
        return table, header

    def _score(self, number: int, chunks: Iterable[Chunk]) -> tuple[pa.Table, Header]:
        tables: list[pa.Table] = []
        rejects: list[Reject] = []
        last_row = 0
        for chunk in chunks:
            last_row = chunk.last_row
            rejects += chunk.rejects
            if chunk.pairs.num_rows or not tables:
                tables += scored(self._scorer, chunk.pairs, rejects)
        if not tables:
            tables = [self._scorer.score(PAIR.empty_table())]
        table = pa.concat_tables(tables)
        rejects.sort(key=lambda reject: reject.row)
        return table, Header(number, last_row, table.num_rows, tuple(rejects))

    def _emit(self, name: str, table: pa.Table, header: Header) -> Iterator[Any]:
        metrics.count("rows_read", header.pairs + len(header.rejects))
        metrics.count_all("rejected", Counter(reject.reason for reject in header.rejects))
        yield name, (PARTS, b"")
        blocks = key_blocks(table, name, self._job.buckets, models=self._scorer.scorer is not None)
        for key, block in spilled(blocks, self._job.spill, f"keys-{name}.bin"):
            tag = ASKED if key.startswith(DOCUMENTS) else KEY_BLOCKS
            yield beam.pvalue.TaggedOutput(tag, (key, (name, block)))


class _ScoreRange(Scoring):
    def process(self, element: Range) -> Iterator[Any]:
        found = self._earlier(element.name)
        if found is None:
            self._job.check_unchanged(element.origin)
            found = self._score(element.number, chunks(element, self._job))
            self._job.check_unchanged(element.origin)  # what was appended meanwhile is in no range
            self._keep(element.name, *found)
        yield from self._emit(element.name, *found)


class _ScorePiece(Scoring):
    def process(self, element: Piece) -> Iterator[Any]:
        found = self._earlier(element.name)
        if found is None:
            pairs, rows = to_table(element.pairs), self._job.read.chunk_rows
            starts = range(rows, pairs.num_rows, rows)
            pieces = [Chunk(pairs.slice(0, rows), element.rejects, element.last_row, None)]
            pieces += [Chunk(pairs.slice(start, rows), (), element.last_row, None) for start in starts]
            found = self._keep(element.name, *self._score(element.number, pieces))
        yield from self._emit(element.name, *found)


class _ReadPieces(beam.DoFn):
    """Reads an input that cannot be cut, front to back."""

    def __init__(self, job: ScoreJob) -> None:
        self._job = job

    def process(self, element: Range) -> Iterator[Any]:
        self._job.check_unchanged(element.origin)
        held: list[Chunk] = []
        before = last_row = 0
        for chunk in chunks(element, self._job):
            held.append(chunk)
            last_row = chunk.last_row
            if sum(one.pairs.nbytes for one in held) >= PIECE_BYTES:
                yield self._piece(element, before, held)
                held, before = [], last_row
        self._job.check_unchanged(element.origin)
        if held:
            yield self._piece(element, before, held)

    def _piece(self, element: Range, before: int, held: list[Chunk]) -> Piece:
        name = piece_name(element.number, before)
        pairs = to_bytes(pa.concat_tables([chunk.pairs for chunk in held if chunk.pairs.num_rows] or [held[0].pairs]))
        rejects = tuple(reject for chunk in held for reject in chunk.rejects)
        ((_, block),) = spilled([(name, pairs)], self._job.spill, f"pairs-{name}.arrow")
        return Piece(name, element.number, held[-1].last_row, block, rejects)


def chunks(element: Range, job: ScoreJob) -> Iterator[Chunk]:
    """Yield the chunks of a range; an input that breaks ends with one reject, unless the job is strict.

    Raises:
        InputError: an input breaks, and the job is strict.
    """
    last_row = 0
    try:
        if element.problem is not None:
            raise InputError(element.problem)
        for chunk in read_span(element.origin, job.read, element.span, element.before):
            if element.last_row is not None:
                chunk = chunk.head(element.last_row)
            last_row = chunk.last_row
            yield chunk
            if element.last_row is not None and last_row >= element.last_row:
                return
    except InputError as error:
        if job.strict:
            raise
        reject = Reject(element.origin.origin, last_row + 1, None, "unreadable_file", str(error))
        yield Chunk(PAIR.empty_table(), (reject,), last_row + 1, None)


def scored(scorer: ChunkScorer, pairs: pa.Table, rejects: list[Reject]) -> list[pa.Table]:
    """Score N pairs; where that fails, halve them down to the pairs that fail, which become rejects.

    Raises:
        BisiftError, MemoryError, OSError: what is not the pairs' fault.
    """
    began, models = time.perf_counter(), scorer.model_seconds
    try:
        table = scorer.score(pairs)
    except (BisiftError, MemoryError, OSError):
        raise
    except Exception as error:
        if pairs.num_rows > 1:
            half = pairs.num_rows // 2
            return scored(scorer, pairs.slice(0, half), rejects) + scored(scorer, pairs.slice(half), rejects)
        if not pairs.num_rows:
            raise
        row = pairs.select(["origin", "row", "source", "target"]).to_pylist()[0]
        raw = f"{type(error).__name__}: {error}\n{row['source']}\t{row['target']}"
        rejects.append(Reject(row["origin"], row["row"], None, "scoring_failed", raw[:1024]))
        return []
    metrics.observe("chunk_ms", 1000 * (time.perf_counter() - began))
    metrics.observe("chunk_rows", pairs.num_rows)
    metrics.observe("model_ms", 1000 * (scorer.model_seconds - models))
    return [table]
