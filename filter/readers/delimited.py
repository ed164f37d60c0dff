"""TSV, where a tab always separates and nothing is quoted, and CSV with quoting, with or without a header."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter

from bisift.errors import ConfigError, InputError
from bisift.filter.readers import columns
from bisift.filter.readers.base import RAW_BYTES, Broken, ReadOptions, Record, Values
from bisift.filter.readers.lines import Line, Lines, head_lines
from bisift.filter.readers.streams import Stream

Row = tuple[int, bytes, list[str] | str]
"""Offset, raw bytes, and the fields or the reason why there are none."""


class Delimited:
    """Rows of fields. Where the columns are is told by the first block alone, whatever is read later.

    Raises:
        InputError: no text, or a column is asked for that the file does not have.
        ConfigError: columns are asked for by name in a file that is said to have no header.
    """

    def __init__(
        self, stream: Stream, options: ReadOptions, split: Callable[[Iterable[Line], int], Iterator[Row]]
    ) -> None:
        stream.check_text()
        self._split = split
        self._limit = options.max_line_bytes
        self._lines = Lines(stream, options.max_line_bytes)
        rows = [fields for _, _, fields in split(head_lines(stream, self._limit), self._limit)]
        self.header = int(bool(rows) and _has_header(rows[0], options))
        if self.header:
            places = columns.by_name(stream.name, _names(stream.name, rows[0]), options)
        elif columns.wants_names(options):
            if rows:
                raise ConfigError(f"{stream.name}: columns are asked for by name, but without a header they have none")
            places = dict.fromkeys(("source", "target", *columns.asked(options)), 0)
        else:
            widths = [len(fields) for fields in rows if not isinstance(fields, str)]
            places = columns.by_number(
                stream.name, options, max(widths, default=None), sure=len(widths) >= columns.EVIDENCE
            )
        self.columns = tuple(places)
        self._pick: Callable[[list[str]], Values] = itemgetter(*places.values())

    def records(self, skip: int) -> Iterator[Record]:
        """Yield the data rows after the first `skip`."""
        if self._split is tsv_rows:
            self._lines.skip(self.header + skip)
            yield from self._records(tsv_rows(self._lines.plain(), self._limit))
        else:
            yield from self._records(islice(self._split(self._lines, self._limit), self.header + skip, None))

    def between(self, begin: int, end: int) -> Iterator[Record]:
        """Yield the data rows whose lines begin at byte `begin` to `end`, the end left out; only of TSV."""
        self._lines.between(begin, end)
        rows = tsv_rows(self._lines.plain(), self._limit)
        yield from self._records(rows if begin else islice(rows, self.header, None))

    def _records(self, rows: Iterator[Row]) -> Iterator[Record]:
        pick = self._pick
        for offset, raw, fields in rows:
            if type(fields) is not list:
                yield Broken(offset, str(fields), raw)
                continue
            try:
                values = pick(fields)
            except IndexError:
                yield Broken(offset, "too_few_columns", raw)
                continue
            yield values


def tsv_rows(lines: Iterable[tuple[int, bytes, bool]], limit: int) -> Iterator[Row]:
    """Split each line at its tabs."""
    for offset, data, too_long in lines:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if too_long or not text or "\0" in text or text.isspace():
            reason = "line_too_long" if too_long else unreadable(data)
            if reason:
                yield offset, data, reason
                continue
        if text[-1] == "\r":
            text = text[:-1]
        yield offset, data, text.split("\t")


def unreadable(data: bytes) -> str | None:
    """Return why a line gives no fields, or None. White space is blank unless a tab makes empty fields of it."""
    if b"\0" in data:
        return "nul_byte"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "invalid_utf8"
    return "blank_line" if not text.strip() and "\t" not in text else None


def csv_rows(lines: Iterable[Line], limit: int) -> Iterator[Row]:
    """Parse records by RFC 4180; a quote that stays open rejects its first line alone, and reading goes on after it."""
    # The module's own limit (128 KiB a field) is for the whole process, and lower than that of a line.
    csv.field_size_limit(max(csv.field_size_limit(), limit + 1))
    source = _Again(lines)
    for line in source:
        offset, data, too_long = line
        if too_long:
            yield offset, data, "line_too_long"
        elif b'"' not in data:
            reason = unreadable(data)
            if reason == "blank_line" and b"," in data:
                reason = None
            yield offset, data, reason or data.decode().removesuffix("\r").split(",")
        else:
            record, fields = _quoted(line, source, limit)
            yield offset, b"\n".join(part.data for part in record)[:RAW_BYTES], fields
            if fields == "unclosed_quote":
                source.put_back(record[1:])


class _Again:
    """Lines that can be put back, to be read again."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._back: list[Line] = []

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        return self._back.pop() if self._back else next(self._lines)

    def put_back(self, lines: Sequence[Line]) -> None:
        self._back += reversed(lines)


def _quoted(first: Line, following: Iterator[Line], limit: int) -> tuple[list[Line], list[str] | str]:
    """Parse a record that begins with `first`; return the lines it took, and its fields or what is wrong with it."""
    record: list[Line] = []
    closed = True

    def feed() -> Iterator[str]:
        nonlocal closed
        size = 0
        for line in chain((first,), following):
            record.append(line)
            size += len(line.data) + 1
            if line.too_long or size > limit + 1:
                break
            yield line.data.decode("utf-8", "surrogateescape") + "\n"
        closed = False  # asked for a line that is not there

    try:
        fields = next(csv.reader(feed()))
    except csv.Error:
        return record, "broken_csv"
    if not closed:
        return record, "unclosed_quote"
    data = b"\n".join(line.data for line in record)
    return record, unreadable(data) or fields


def _has_header(first: list[str] | str, options: ReadOptions) -> bool:
    if options.header != "auto":
        return options.header == "yes"
    return columns.wants_names(options) or (isinstance(first, list) and {"source", "target"} <= set(first))


def _names(where: str, first: list[str] | str) -> list[str]:
    if isinstance(first, str):
        raise InputError(f"{where}: the header cannot be read ({first})")
    return first
