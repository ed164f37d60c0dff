"""One input read from front to back, whatever its format."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from bisift.filter.readers.base import Chunk, ReadOptions, Records, gather
from bisift.filter.readers.inputs import Input, languages_of, sniff
from bisift.filter.readers.streams import STDIN, Stream, open_stream


def read(origin: Input, options: ReadOptions, *, after_row: int = 0) -> Iterator[Chunk]:
    """Yield the records after the first `after_row` in chunks of at most `options.chunk_rows`, all of one schema.

    Row numbers count records (pairs and rejects) from 1, each once, and do not depend on the chunks. Memory holds a
    chunk and a line (PO, TMX: an entry; Parquet: 65,536 rows or a row group; MO: the file), whatever the input's size.

    Raises:
        InputError: the input is of another kind, lacks a column, or cannot be read to its end.
        ConfigError: the options do not go with the format.
    """
    options.check()
    declared = languages_of(origin)
    options = dataclasses.replace(
        options,
        source_lang=options.source_lang or declared[0],
        target_lang=options.target_lang or declared[1],
    )
    if origin.format == "parquet":
        from bisift.filter.readers.parquet import read_parquet

        yield from read_parquet(origin.paths[0], origin.origin, options, after_row)
        return
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open_stream(path)) for path in origin.paths]
        kind = sniff(streams[0]) if origin.format == "auto" and origin.paths == (STDIN,) else origin.format
        yield from gather(_open(kind, streams, options), origin.origin, options, streams[0].fraction, after_row)


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
