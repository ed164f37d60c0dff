"""One input read from front to back, whatever its format."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from bisift.filter.readers.base import Chunk, ReadOptions, Records, Splittable, gather
from bisift.filter.readers.inputs import Input, languages_of, sniff
from bisift.filter.readers.lines import BLOCK
from bisift.filter.readers.streams import STDIN, Stream, open_stream

_LINES = ("tsv", "jsonl")  # formats whose lines are their records


def read(origin: Input, options: ReadOptions, *, after_row: int = 0, partial: bool = False) -> Iterator[Chunk]:
    """Yield the records after the first `after_row` in chunks of at most `options.chunk_rows`, all of one schema.

    Row numbers count records (pairs and rejects) from 1, each once, and do not depend on the chunks. Memory holds a
    chunk and a line (PO, TMX: an entry; Parquet: 65,536 rows or a row group; MO: the file), whatever the input's size.
    `partial`: where the input breaks, yield the records of the chunk that stand before, and raise then.

    Raises:
        InputError: the input is of another kind, lacks a column, or cannot be read to its end.
        ConfigError: the options do not go with the format.
    """
    options = _for_input(origin, options)
    if origin.format == "parquet":
        from bisift.filter.readers.parquet import read_parquet

        yield from read_parquet(origin.paths[0], origin.origin, options, after_row)
        return
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open_stream(path)) for path in origin.paths]
        kind = sniff(streams[0]) if origin.format == "auto" and origin.paths == (STDIN,) else origin.format
        reader = _open(kind, streams, options)
        records = reader.records(after_row)
        fraction = streams[0].fraction
        yield from gather(reader.columns, records, origin.origin, options, fraction, after_row, partial=partial)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of an input that can be read alone: bytes of plain TSV or JSONL, rows of Parquet, or (no end) all."""

    begin: int = 0
    end: int | None = None


def spans(origin: Input, options: ReadOptions, size: int) -> list[Span]:
    """Cut an input into spans of about `size` bytes (Parquet: of whole row groups), after a look at its beginning.

    Raises:
        InputError: the input is of another kind, lacks a column, or cannot be opened.
        ConfigError: the options do not go with the format.
    """
    options = _for_input(origin, options)
    if origin.format == "parquet":
        from bisift.filter.readers.parquet import row_windows

        return [Span(begin, end) for begin, end in row_windows(origin.paths[0], origin.origin, options)]
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open_stream(path)) for path in origin.paths]
        _open(origin.format, streams, options)
        if origin.format not in _LINES or streams[0].compressed or not origin.size:
            return [Span()]
        starts = range(0, origin.size, size)
        return [Span(start, min(start + size, origin.size)) for start in starts]


def count_lines(origin: Input, span: Span) -> int:
    """Return how many lines begin within a span of plain TSV or JSONL.

    Raises:
        InputError: the input cannot be read.
    """
    assert span.end is not None
    with open_stream(origin.paths[0]) as stream:
        first = max(span.begin - 1, 0)  # a line begins after each LF, and at byte 0
        stream.jump(first)
        left, count = span.end - 1 - first, int(not span.begin)
        while left > 0 and (data := stream.read(min(left, BLOCK))):
            count += data.count(b"\n")
            left -= len(data)
    return count


def read_span(origin: Input, options: ReadOptions, span: Span, lines_before: int = 0) -> Iterator[Chunk]:
    """Yield the records of a span as `read` does with `partial`; `lines_before` is how many lines begin before it.

    Raises:
        InputError, ConfigError: as `read`.
    """
    if span.end is None:
        yield from read(origin, options, partial=True)
        return
    options = _for_input(origin, options)
    if origin.format == "parquet":
        from bisift.filter.readers.parquet import read_parquet

        yield from read_parquet(origin.paths[0], origin.origin, options, span.begin, span.end)
        return
    with open_stream(origin.paths[0]) as stream:
        reader = cast(Splittable, _open(origin.format, [stream], options))
        before = max(lines_before - reader.header, 0)
        records = reader.between(span.begin, span.end)
        yield from gather(reader.columns, records, origin.origin, options, stream.fraction, before, partial=True)


def _for_input(origin: Input, options: ReadOptions) -> ReadOptions:
    """Check the options, and fill in the languages that the names of a Moses pair declare."""
    options.check()
    declared = languages_of(origin)
    return dataclasses.replace(
        options,
        source_lang=options.source_lang or declared[0],
        target_lang=options.target_lang or declared[1],
    )


def _open(kind: str, streams: list[Stream], options: ReadOptions) -> Records:
    if kind == "moses":
        from bisift.filter.readers.moses import Moses

        return Moses(streams[0], streams[1], options)
    if kind == "jsonl":
        from bisift.filter.readers.jsonl import JsonLines

        return JsonLines(streams[0], options)
    if kind == "tmx":
        from bisift.filter.readers.tmx import Tmx

        return Tmx(streams[0], options)
    if kind == "po":
        from bisift.filter.readers.catalogs import open_catalog

        return open_catalog(streams[0], options)
    from bisift.filter.readers.delimited import Delimited, csv_rows, tsv_rows

    if kind == "parquet":  # told by the content of stdin
        streams[0].check_text()
    return Delimited(streams[0], options, csv_rows if kind == "csv" else tsv_rows)
