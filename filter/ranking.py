"""`rank`: scored pairs from any number of files, sorted globally into shards that a trainer reads in order."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from bisift.contract import RANKED, SCORED, conform
from bisift.errors import ConfigError, ContractError
from bisift.filter.diversity import PrefixDiversity, PrefixSample
from bisift.filter.manifests import RowCounts, describe
from bisift.filter.mixing import Mixer
from bisift.filter.ordering import check_order
from bisift.filter.ranked import decoded, ranked, ranked_manifest, ranked_schema, value_bounds
from bisift.filter.scored import BATCH_ROWS, open_scored
from bisift.filter.shards import check_folder, publish, shard_name, workspace
from bisift.filter.sorting import Slice, Sorting, Tables
from bisift.filter.writers.base import disk_errors
from bisift.filter.writers.parquet import ParquetWriter
from bisift.manifest import file_digest

_RANK_COLUMNS = tuple(name for name in RANKED.names if name not in SCORED.names)
_LEAST_MEMORY = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RankOptions:
    """What decides a ranking. `shares` (generator to share) are for the order mixed.

    `memory` is what rows may take in bytes; the process itself needs some 100 MiB besides.
    """

    order: str = "combined"
    shards: int = 8
    seed: int = 0
    shares: Mapping[str, float] | Sequence[tuple[str, float]] = ()
    keep_dropped: bool = False
    memory: int = 1 << 30

    @property
    def named_shares(self) -> dict[str, float]:
        return dict(self.shares)

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        check_order(self.order, self.named_shares)
        if self.shards < 1:
            raise ConfigError(f"{self.shards} shards: at least 1 must be written")
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"seed {self.seed}: it must be from 0 to 2^64 - 1")
        if self.memory < _LEAST_MEMORY:
            raise ConfigError(f"memory of {self.memory} bytes: at least 1 MiB is needed")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankResult:
    """What was ranked: `rows_in` scored rows were read, `rows` of them stand in the shards."""

    output: str
    order: str
    rows_in: int
    rows: int
    kept: int
    dropped: int
    rejected: int
    by_reason: Mapping[str, int]
    shards: Sequence[Mapping[str, Any]]
    diversity: Sequence[PrefixDiversity]
    warnings: Sequence[str]
    manifest: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RankStep:
    """How far a run is: pairs done in this phase, and the share of them (None: unknown)."""

    pairs: int
    fraction: float | None
    phase: str
    rejects: int = 0


Progress = Callable[[RankStep], None]


class _Source(Protocol):
    @property
    def schema(self) -> pa.Schema: ...

    def tables(self, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS) -> Iterator[pa.Table]: ...


class _Spooled:
    """Tables as a source: written to a file once, since a ranking reads its rows more than once."""

    def __init__(self, tables: Iterator[pa.Table], path: Path) -> None:
        self._path = path
        first = next(tables, SCORED.empty_table())
        self.schema = self._conformed(first).schema
        with disk_errors(path), pa.ipc.new_file(str(path), self.schema) as file:
            for table in itertools.chain([first], tables):
                conformed = self._conformed(table)
                if not conformed.schema.equals(self.schema, check_metadata=True):
                    raise ContractError("the tables to rank differ in extra columns, models or profile")
                file.write_table(conformed, max_chunksize=BATCH_ROWS)

    @staticmethod
    def _conformed(table: pa.Table) -> pa.Table:
        return decoded(
            conform(table.drop_columns([name for name in _RANK_COLUMNS if name in table.column_names]), SCORED)
        )

    def tables(self, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
        """Yield the rows again."""
        wanted = list(columns if columns is not None else self.schema.names)
        with disk_errors(self._path), pa.OSFile(str(self._path)) as file:
            options = pa.ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(name) for name in wanted])
            reader = pa.ipc.open_file(file, options=options)
            for number in range(reader.num_record_batches):
                table = pa.Table.from_batches([reader.get_batch(number)]).select(wanted)
                for start in range(0, table.num_rows, batch_rows):
                    yield table.slice(start, batch_rows)


class _Ranking:
    """The ranking of one source: counts first, then the ranked slices."""

    def __init__(self, source: _Source, options: RankOptions, folder: Path, progress: Progress | None) -> None:
        self._source = source
        self._options = options
        self._progress = progress
        self._batch_rows = max(1_024, min(BATCH_ROWS, options.memory >> 14))
        self._sorting = Sorting(
            order=options.order,
            seed=options.seed,
            keep_dropped=options.keep_dropped,
            shards=options.shards,
            memory=options.memory,
            folder=folder,
        )
        self.schema = ranked_schema(source.schema)
        self.counts = RowCounts()
        for table in source.tables(("drop_reason",)):
            self.counts.add(table)
        self.rows_in, self.kept = self.counts.rows, self.counts.kept
        self.rows = self.rows_in if options.keep_dropped else self.kept

    def _report(self, pairs: int, of: int, phase: str) -> None:
        if self._progress is not None:
            self._progress(RankStep(pairs, pairs / of if of else None, phase))

    def _rows(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield the rows that are ranked."""
        wanted = None if columns is None else list(dict.fromkeys((*columns, "drop_reason")))
        read = 0
        for table in self._source.tables(wanted, self._batch_rows):
            read += table.num_rows
            if not self._options.keep_dropped:
                table = table.filter(pc.is_null(table.column("drop_reason")))
            if table.num_rows:
                yield decoded(table)
            self._report(read, self.rows_in, "partitioning" if columns is None else "reading scores")

    def slices(self) -> Iterator[tuple[Slice, pa.Table]]:
        """Yield each sorted slice, and its rows as RANKED."""
        tables: Tables = self._rows
        if self._options.order == "mixed":
            tables = Mixer(self._rows, self._sorting, self._options.named_shares).tables
        done = 0
        for slice_ in self._sorting.sort(tables):
            yield slice_, ranked(slice_.table, done, self.rows, self._options.order, self.schema)
            done += slice_.table.num_rows
            self._report(done, self.rows, "writing")


def rank(inputs: str | Iterable[str] | Iterable[pa.Table], **options: Any) -> Iterator[pa.Table]:
    """Yield the rows of scored files (paths) or scored tables in order, as RANKED tables.

    `options` are the fields of `RankOptions`; `shards` changes nothing here but where tables end. What does not fit
    in `memory` spills to the folder for temporary files.

    Raises:
        ConfigError: an option is wrong, or the order needs a score that is null.
        ContractError: an input breaks the contract.
    """
    settings = RankOptions(**options)
    settings.check()
    stream = iter([inputs] if isinstance(inputs, str) else inputs)
    first = next(stream, None)
    rest = itertools.chain(() if first is None else (first,), stream)
    return _rank_files(list(rest), settings) if isinstance(first, str) else _rank_tables(rest, settings)


def _rank_files(paths: list[str], options: RankOptions) -> Iterator[pa.Table]:
    source = open_scored(paths)
    source.check_alike()
    with tempfile.TemporaryDirectory(prefix="bisift-rank-") as folder:
        for _, table in _Ranking(source, options, Path(folder), None).slices():
            yield table


def _rank_tables(tables: Iterator[pa.Table], options: RankOptions) -> Iterator[pa.Table]:
    with tempfile.TemporaryDirectory(prefix="bisift-rank-") as folder:
        source = _Spooled(tables, Path(folder) / "input.arrow")
        for _, table in _Ranking(source, options, Path(folder), None).slices():
            yield table


def rank_files(
    inputs: Sequence[str], output: str, options: RankOptions, progress: Progress | None = None
) -> RankResult:
    """Rank scored files and folders into `output`/shard-00000-of-0000S.parquet ... and manifest.json.

    A shard's bytes depend only on the rows (as a multiset), order, seed, shares and number of shards.

    Raises:
        ConfigError: an option is wrong, the order needs a score that is null, the inputs were scored with different
            models or profiles, or `output` holds something else.
        InputError: an input is missing, damaged or not what its manifest says.
        ContractError: an input breaks the contract.
        BisiftError: the disk refuses.
    """
    started = time.perf_counter()
    options.check()
    source = open_scored(inputs)
    source.check_alike()
    folder = check_folder(
        output, [part.path for entry in source.inputs for part in entry.parts if isinstance(part.path, Path)]
    )
    with workspace(folder) as state:
        ranking = _Ranking(source, options, state, progress)
        sample = PrefixSample(ranking.rows, options.seed)
        shards = _write_shards(ranking, options.shards, state, sample)
        manifest = ranked_manifest(describe(source), ranking.counts, options, shards)
        path = publish(folder, [state / shard["file"] for shard in shards], manifest)
    counts = manifest["rows"]
    return RankResult(
        output=output,
        order=options.order,
        rows_in=ranking.rows_in,
        rows=ranking.rows,
        kept=counts["kept"],
        dropped=counts["dropped"],
        rejected=counts["rejected"],
        by_reason=counts["by_reason"],
        shards=shards,
        diversity=sample.measure(),
        warnings=source.warnings,
        manifest=str(path),
        seconds=time.perf_counter() - started,
    )


def _write_shards(ranking: _Ranking, count: int, folder: Path, sample: PrefixSample) -> list[dict[str, Any]]:
    """Write all shards, empty ones too, and return what the manifest says of them; `sample` sees the targets."""
    shards = []
    slices = ranking.slices()
    ahead = next(slices, None)
    for shard in range(count):
        path = folder / shard_name(shard, count)
        bounds: list[float | int] = []
        with ParquetWriter(str(path), ranking.schema) as writer:
            while ahead is not None and ahead[0].shard == shard:
                slice_, table = ahead
                writer.write(table)
                sample.add(table.column("target"))
                if table.num_rows:
                    bounds += value_bounds(slice_.keys)
                ahead = next(slices, None)
        shards.append(
            {
                "file": path.name,
                "rows": writer.rows,
                "sha256": file_digest(path),
                "min": min(bounds, default=None),
                "max": max(bounds, default=None),
            }
        )
    return shards
