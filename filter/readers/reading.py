"""From an input to chunks: records gathered into Arrow tables, rejects beside them, every record counted once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from bisift.contract import EXTRA_PREFIX, PAIR, conform, pair_ids
from bisift.filter.readers import lineformats, structured
from bisift.filter.readers.stream import Stream, readable
from bisift.filter.readers.types import RAW_BYTES, Bad, Chunk, Found, Input, ReadOptions, Record, Reject


def read(origin: Input, options: ReadOptions, *, after_row: int = 0) -> Iterator[Chunk]:
    """Yield the input's records after row `after_row`, at most `chunk_rows` a chunk.

    Raises:
        InputError: the input cannot be used at all, or not be read to its end.
    """
    with contextlib.ExitStack() as stack:
        streams: list[Stream] = []
        if origin.format != "parquet":
            for path in origin.paths:
                with readable(path):
                    stream = Stream(path)
                stack.callback(stream.close)
                streams.append(stream)
        pairs: list[tuple[int, Record]] = []
        rejects: list[Reject] = []
        row = 0
        for row, found in enumerate(_safely(origin, _found(origin, streams, options)), start=1):
            if row <= after_row:
                continue
            if isinstance(found.value, Bad):
                raw = found.value.raw[:RAW_BYTES].decode("utf-8", "backslashreplace")
                rejects.append(Reject(origin.origin, row, found.offset, found.value.reason, raw))
            else:
                pairs.append((row, found.value))
            if len(pairs) + len(rejects) >= options.chunk_rows:
                yield Chunk(_table(origin, pairs, options), tuple(rejects), row, _fraction(origin, streams))
                pairs, rejects = [], []
        if pairs or rejects:
            yield Chunk(_table(origin, pairs, options), tuple(rejects), row, 1.0)


def _found(origin: Input, streams: list[Stream], options: ReadOptions) -> Iterator[Found]:
    if origin.format == "parquet":
        return structured.parquet(origin, options)
    if origin.format == "moses":
        return lineformats.moses(streams[0], streams[1], options)
    formats = {
        "tsv": lineformats.tsv,
        "csv": lineformats.comma_separated,
        "jsonl": lineformats.json_lines,
        "tmx": structured.tmx,
        "po": structured.gettext,
    }
    return formats[origin.format](streams[0], options)


def _safely(origin: Input, found: Iterator[Found]) -> Iterator[Found]:
    while True:
        with readable(origin.origin):
            value = next(found, None)
        if value is None:
            return
        yield value


def _fraction(origin: Input, streams: list[Stream]) -> float | None:
    positions = [stream.position() for stream in streams]
    if not origin.size or not positions or None in positions:
        return None
    return min(1.0, sum(position or 0 for position in positions) / origin.size)


def _table(origin: Input, pairs: list[tuple[int, Record]], options: ReadOptions) -> pa.Table:
    records = [record for _, record in pairs]
    default_source = options.source_lang or origin.languages[0]
    default_target = options.target_lang or origin.languages[1]
    source_lang = [record.source_lang or default_source for record in records]
    target_lang = [record.target_lang or default_target for record in records]
    source = [record.source for record in records]
    target = [record.target for record in records]
    columns = {
        "pair_id": pair_ids(source_lang, target_lang, source, target),
        "source": pa.array(source, pa.string()),
        "target": pa.array(target, pa.string()),
        "source_lang": pa.array(source_lang, pa.string()),
        "target_lang": pa.array(target_lang, pa.string()),
        "document_id": pa.array([record.document_id for record in records], pa.string()),
        "generator": pa.array([record.generator or options.generator for record in records], pa.string()),
        "origin": pa.array([origin.origin] * len(records), pa.string()),
        "row": pa.array([row for row, _ in pairs], pa.int64()),
    }
    for number, name in enumerate(options.keep_columns):
        values = [record.extras[number] if number < len(record.extras) else None for record in records]
        columns[EXTRA_PREFIX + name] = pa.array([None if v is None else str(v) for v in values], pa.string())
    return conform(pa.table(columns), PAIR)
