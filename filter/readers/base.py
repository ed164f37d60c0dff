"""What every reader takes and gives: options, records, rejects, and the chunks they are gathered into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import pyarrow as pa
import pyarrow.compute as pc

from bisift.config import nearest
from bisift.contract import EXTRA_PREFIX, PAIR, conform, pair_ids
from bisift.errors import ConfigError, InputError

FORMATS = ("auto", "tsv", "csv", "moses", "jsonl", "parquet", "tmx", "po")
HEADERS = ("auto", "yes", "no")
METADATA = ("source_lang", "target_lang", "document_id", "generator")
RAW_BYTES = 1024

REASONS: dict[str, str] = {
    "ambiguous_languages": "a TMX unit or a translation object has more than two languages, and none were asked for",
    "blank_line": "a line without text (TSV, CSV, JSONL)",
    "broken_csv": "the line is not valid CSV",
    "broken_entry": "a PO or MO entry that is incomplete or has a syntax error",
    "broken_json": "the line is not valid JSON",
    "broken_unit": "a TMX unit without language, with no or several segments in a variant, or with an entity reference",
    "fuzzy": "a PO entry marked fuzzy: its translation is a guess",
    "invalid_utf8": "bytes that are not valid in the encoding of the text (UTF-8; PO and MO may declare another)",
    "line_too_long": "a line, CSV record, PO entry or TMX segment longer than max_line_bytes",
    "lone_surrogate": "a JSON escape that is half of a surrogate pair: no character",
    "missing_field": "a JSON object without the source or target key",
    "missing_language": "a TMX unit or translation object without one of the asked languages",
    "not_a_string": "source or target is neither a string nor null",
    "not_an_object": "the line is JSON, but no object",
    "nul_byte": "a NUL character in the text",
    "null": "source or target is null",
    "obsolete": "a PO entry marked obsolete",
    "scoring_failed": "scoring the pair raised an error, which `raw` begins with (pipelines only; please report it)",
    "too_few_columns": "the line has fewer columns than those asked for",
    "unclosed_quote": "a CSV quote that is not closed before the end of the file or max_line_bytes",
    "unreadable_file": "the input cannot be read from this record on; `raw` says why (pipelines only)",
    "untranslated": "a PO or MO entry without translation",
}
"""Every reject reason and what it means; the identifiers are stable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """How to read inputs.

    A column is a name or a number from 1, as typed. `source_lang`, `target_lang` and `generator` fill in where a
    record does not say it itself; column options choose which column is read. An empty language, document or
    generator counts as null. `keep_columns` become `extra_NAME` columns (`extra_3` for number 3 without a header).
    """

    format: str = "auto"
    header: str = "auto"
    source_lang: str | None = None
    target_lang: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    document_column: str | None = None
    generator: str | None = None
    generator_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    max_line_bytes: int = 1 << 20
    chunk_rows: int = 8192

    def check(self) -> None:
        """Raise ConfigError where options contradict each other or have no meaning."""
        if self.format not in FORMATS:
            raise ConfigError(f"unknown format {self.format!r}{nearest(self.format, FORMATS)}")
        if self.header not in HEADERS:
            raise ConfigError(f"unknown header option {self.header!r}{nearest(self.header, HEADERS)}")
        if self.generator is not None and self.generator_column is not None:
            raise ConfigError("a generator and a generator column exclude each other: give one")
        if self.source_column is not None and self.source_column == self.target_column:
            raise ConfigError(f"source and target are the same column: {self.source_column}")
        if self.source_lang is not None and self.source_lang == self.target_lang:
            raise ConfigError(f"source and target are the same language: {self.source_lang}")
        if any(column is not None and is_number(column) and int(column) < 1 for column in self.columns):
            raise ConfigError("columns are counted from 1")
        if self.max_line_bytes < 1 or self.chunk_rows < 1:
            raise ConfigError("max_line_bytes and chunk_rows must be at least 1")

    @property
    def columns(self) -> tuple[str | None, ...]:
        """All columns that were asked for, as typed."""
        return (
            self.source_column,
            self.target_column,
            self.document_column,
            self.generator_column,
            *self.keep_columns,
        )


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be read: `raw` holds its first 1,024 bytes, backslash-escaped where they are no text."""

    file: str
    row: int
    byte_offset: int | None
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of one input.

    `pairs` is PAIR, then the extra columns; `last_row` the row number of the last record here (pair or reject), that
    is how many records of the input are read so far; `fraction` (0 to 1) how much of the input that is, in bytes as
    stored or rows of Parquet, None when its size is not known.
    """

    pairs: pa.Table
    rejects: tuple[Reject, ...]
    last_row: int
    fraction: float | None

    def head(self, last_row: int) -> Chunk:
        """Return the records up to row `last_row`."""
        if self.last_row <= last_row:
            return self
        pairs = self.pairs.filter(pc.less_equal(self.pairs.column("row"), last_row))
        rejects = tuple(reject for reject in self.rejects if reject.row <= last_row)
        return Chunk(pairs, rejects, last_row, self.fraction)


class Broken(NamedTuple):
    """A record that a reader could not read; `file` only where it is not the input's first path."""

    offset: int | None
    reason: str
    raw: bytes
    file: str | None = None


Values = tuple[str | None, ...]
Record = Values | Broken


class Records(Protocol):
    """One opened input. `columns` names the values of each record: PAIR's names, then `extra_*`."""

    columns: tuple[str, ...]

    def records(self, skip: int) -> Iterator[Record]:
        """Yield the records after the first `skip`."""
        ...


class Splittable(Records, Protocol):
    """An input whose lines are its records, after `header` lines that are none."""

    header: int

    def between(self, begin: int, end: int) -> Iterator[Record]:
        """Yield the records of the lines that begin at byte `begin` to `end`, the end left out."""
        ...


def is_number(column: str) -> bool:
    """Tell a column's number from its name."""
    return column.isascii() and column.isdigit()


def extra_name(column: str) -> str:
    """Name of a kept column in the output; one that already is an extra keeps its name."""
    return column if column.startswith(EXTRA_PREFIX) else EXTRA_PREFIX + column


def escape(raw: bytes) -> str:
    """Return the first 1,024 bytes as text that any JSON writer accepts."""
    return raw[:RAW_BYTES].decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def gather(
    columns: Sequence[str],
    records: Iterator[Record],
    origin: str,
    options: ReadOptions,
    fraction: Callable[[], float | None],
    after_row: int,
    *,
    partial: bool,
) -> Iterator[Chunk]:
    """Gather records into chunks of at most `options.chunk_rows`, numbering them from `after_row` + 1.

    `partial`: where the input breaks, yield what was read before, and raise then.
    """
    row = after_row
    pairs: list[Values] = []
    rows: list[int] = []
    rejects: list[Reject] = []
    end = row + options.chunk_rows
    failure: InputError | None = None
    try:
        for record in records:
            row += 1
            if isinstance(record, Broken):
                file = record.file or origin
                rejects.append(Reject(file, row, record.offset, record.reason, escape(record.raw)))
            else:
                pairs.append(record)
                rows.append(row)
            if row == end:
                yield Chunk(_table(columns, pairs, rows, origin, options), tuple(rejects), row, fraction())
                pairs, rows, rejects = [], [], []
                end = row + options.chunk_rows
    except InputError as error:
        if not partial:
            raise
        failure = error
    if pairs or rejects:
        yield Chunk(_table(columns, pairs, rows, origin, options), tuple(rejects), row, fraction())
    if failure is not None:
        raise failure


def _table(
    columns: Sequence[str], pairs: Sequence[Values], rows: Sequence[int], origin: str, options: ReadOptions
) -> pa.Table:
    values: Sequence[Sequence[str | None]] = list(zip(*pairs, strict=True)) if pairs else [()] * len(columns)
    named = dict(zip(columns, values, strict=True))
    texts = (named.pop("source"), named.pop("target"))
    metadata = {name: filled(named.pop(name, None), default(options, name), len(rows)) for name in METADATA}
    extras = {name: pa.array(column, pa.string()) for name, column in named.items()}
    return pair_table(texts, metadata, rows, origin, extras)


def default(options: ReadOptions, name: str) -> str | None:
    """The option that fills in the PAIR column `name`."""
    return None if name == "document_id" else cast("str | None", getattr(options, name))


def filled(column: Sequence[str | None] | None, fallback: str | None, count: int) -> Sequence[str | None]:
    """Return the column with `fallback` for null and empty values, or only that where there is no column."""
    if column is None:
        return [fallback] * count
    return [value or fallback for value in column]


def pair_table(
    texts: tuple[Sequence[str | None], Sequence[str | None]],
    metadata: dict[str, Sequence[str | None]],
    rows: Sequence[int] | pa.Array,
    origin: str,
    extras: dict[str, pa.Array],
) -> pa.Table:
    """Make a PAIR table of N rows with its extras; no text may be null.

    Args:
        texts: sources and targets, N each.
        metadata: the columns named in METADATA, N each.
        rows: row numbers, N.
        origin: the input's name, the same for all rows.
        extras: `extra_*` columns, N each.
    """
    source, target = texts
    ids = pair_ids(metadata["source_lang"], metadata["target_lang"], source, target)  # type: ignore[arg-type]
    columns = {
        "pair_id": ids,
        "source": pa.array(source, pa.string()),
        "target": pa.array(target, pa.string()),
        **{name: pa.array(metadata[name], pa.string()) for name in METADATA},
        "origin": pa.repeat(pa.scalar(origin, pa.string()), len(rows)),
        "row": pa.array(rows, pa.int64()),
        **extras,
    }
    return conform(pa.table(columns), PAIR)
