"""TSV, CSV, JSONL and Moses: formats in which a record is a line (CSV: a quoted field may hold line ends)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence

from bisift.errors import InputError
from bisift.filter.readers.columns import Layout, asks_by_name, layout, record, unusable
from bisift.filter.readers.stream import Stream, lines, readable
from bisift.filter.readers.types import Bad, Found, Input, ReadOptions, Record

csv.field_size_limit(1 << 30)


def tsv(stream: Stream, options: ReadOptions) -> Iterator[Found]:
    """Tab-separated lines; a tab always separates, nothing is quoted."""
    where: Layout | None = None
    for line, offset, long in lines(stream, options.max_line_bytes):
        if where is None and line and not long and not _problem(line):
            fields = line.decode().split("\t")
            named = _has_header(fields, options)
            where = layout(stream.path, fields if named else None, len(fields), options)
            if named:
                continue
        yield Found(_split(line, long, where), offset)


def _split(line: bytes, long: bool, where: Layout | None) -> Record | Bad:
    if long:
        return Bad("line_too_long", line)
    problem = _problem(line)
    if problem or where is None:
        return Bad(problem or "blank_line", line)
    return record(line.decode().split("\t"), where, line)


def _problem(line: bytes) -> str | None:
    if b"\x00" in line:
        return "nul_byte"
    if not line.strip():
        return "blank_line"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "invalid_utf8"
    return None


def _has_header(fields: Sequence[str], options: ReadOptions) -> bool:
    if options.header != "auto":
        return options.header == "yes"
    return asks_by_name(options) or {"source", "target"} <= set(fields)


def comma_separated(stream: Stream, options: ReadOptions) -> Iterator[Found]:
    """CSV with quoting; a row is a data record. Invalid bytes travel as surrogates and become rejects."""

    def text() -> Iterator[str]:
        for line, _, long in lines(stream, options.max_line_bytes):
            yield (line[: options.max_line_bytes] + b"\x00" if long else line).decode("utf-8", "surrogateescape") + "\n"

    where: Layout | None = None
    rows = csv.reader(text(), strict=False)
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Found(Bad("broken_csv", str(error).encode()), None)
            continue
        raw = ",".join(fields).encode("utf-8", "surrogateescape")
        problem = _problem(raw) if fields else "blank_line"
        if problem:
            yield Found(Bad("line_too_long" if len(raw) >= options.max_line_bytes else problem, raw), None)
            continue
        if where is None:
            named = _has_header(fields, options)
            where = layout(stream.path, fields if named else None, len(fields), options)
            if named:
                continue
        yield Found(record(fields, where, raw), None)


def json_lines(stream: Stream, options: ReadOptions) -> Iterator[Found]:
    """JSONL: an object a line, with the pair's names, the columns asked for, or a `translation` object."""
    for line, offset, long in lines(stream, options.max_line_bytes):
        problem = "line_too_long" if long else _problem(line)
        if problem:
            yield Found(Bad(problem, line), offset)
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            yield Found(Bad("broken_json", line), offset)
            continue
        if not isinstance(value, dict):
            yield Found(Bad("not_an_object", line), offset)
            continue
        yield Found(from_mapping(value, line, options), offset)


def from_mapping(value: dict[str, object], raw: bytes, options: ReadOptions) -> Record | Bad:
    """Make a record of named values: a JSON object or a Parquet row."""
    nested = value.get("translation")
    if isinstance(nested, dict) and options.source_column is None:
        asked = [options.source_lang, options.target_lang]
        names = [str(name) for name in nested]
        pair = [asked[i] or (names[i] if len(names) == 2 else None) for i in range(2)]
        if None in pair or not all(name in nested for name in pair):
            return Bad("missing_side", raw)
        value = {
            **value,
            "source": nested[str(pair[0])],
            "target": nested[str(pair[1])],
            "source_lang": pair[0],
            "target_lang": pair[1],
        }
    columns = {
        "source": options.source_column or "source",
        "target": options.target_column or "target",
        "source_lang": "source_lang",
        "target_lang": "target_lang",
        "document_id": options.document_column or "document_id",
        "generator": options.generator_column or "generator",
    }
    names = [columns[key] for key in columns]
    if names[0] not in value or names[1] not in value:
        return Bad("missing_side", raw)
    fields = [value.get(name) for name in (*names, *options.keep_columns)]
    for side in (2, 3, 4, 5):
        if fields[side] is not None and unusable(fields[side]):
            return Bad(unusable(fields[side]) or "", raw)
    extras = tuple(range(6, len(fields)))
    return record(fields, Layout(0, 1, 2, 3, 4, 5, extras), raw)


def moses(source: Stream, target: Stream, options: ReadOptions) -> Iterator[Found]:
    """Two files, line by line; a blank line is an empty side.

    Raises:
        InputError: one file has more lines.
    """
    theirs = lines(target, options.max_line_bytes)
    count = 0
    for line, offset, long in lines(source, options.max_line_bytes):
        with readable(target.path):
            other = next(theirs, None)
        if other is None:
            rest = count + 1 + sum(1 for _ in lines(source, options.max_line_bytes))
            raise InputError(f"{source.path} has {rest} lines, {target.path} {count}: they must be parallel")
        count += 1
        raw = line + b"\t" + other[0]
        problem = "line_too_long" if long or other[2] else _problem(b"." + raw)
        yield Found(Bad(problem, raw) if problem else Record(line.decode(), other[0].decode()), offset)
    rest = sum(1 for _ in theirs)
    if rest:
        raise InputError(f"{source.path} has {count} lines, {target.path} {count + rest}: they must be parallel")


def check_columns(origin: Input, names: Sequence[str], options: ReadOptions) -> None:
    """Check the columns asked for against a file that names its columns.

    Raises:
        InputError: one is not there.
    """
    if "translation" not in names or options.source_column is not None:
        asked = [options.source_column or "source", options.target_column or "target"]
        asked += [c for c in (options.document_column, options.generator_column, *options.keep_columns) if c]
        missing = [name for name in asked if name not in names]
        if missing:
            raise InputError(f"{origin.origin}: no column {missing[0]!r}; the file has: {', '.join(names)}")
