"""Parquet, batch by batch, with columns of PAIR's names, columns asked for, or a `translation` struct."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bisift import remote
from bisift.errors import InputError, RecordError
from bisift.filter.readers import columns
from bisift.filter.readers.base import METADATA, Chunk, ReadOptions, Reject, default, escape, filled, pair_table
from bisift.filter.readers.jsonl import TRANSLATION, translation

WINDOW_ROWS = 1 << 16
"""Rows of consecutive row groups that are read with one reader."""


def read_parquet(
    path: str, origin: str, options: ReadOptions, after_row: int, last_row: int | None = None
) -> Iterator[Chunk]:
    """Yield the rows after the first `after_row` in chunks of at most `options.chunk_rows`.

    `last_row`: stop there; an end of `row_windows`.

    Raises:
        InputError: no Parquet file, a column is missing or of a wrong type, or it cannot be read to its end.
    """
    with _opened(path, origin) as file:
        plan = _Plan(origin, file.schema_arrow, options)
        total = file.metadata.num_rows
        for row, groups in _windows(file.metadata, after_row):
            if last_row is not None and row >= last_row:
                return
            for batch in file.iter_batches(options.chunk_rows, groups, plan.names, use_threads=False):
                passed = min(max(after_row - row, 0), batch.num_rows)
                row += passed
                batch = batch.slice(passed)
                if batch.num_rows:
                    pairs, rejects = plan.convert(batch, row)
                    row += batch.num_rows
                    yield Chunk(pairs, rejects, row, row / total)


def row_windows(path: str, origin: str, options: ReadOptions) -> list[tuple[int, int]]:
    """Return runs of whole row groups that can be read alone: rows before each, and rows up to its end.

    Raises:
        InputError: no Parquet file, or a column is missing or of a wrong type.
    """
    with _opened(path, origin) as file:
        _Plan(origin, file.schema_arrow, options)
        starts = [row for row, _ in _windows(file.metadata, 0)]
        return list(zip(starts, [*starts[1:], file.metadata.num_rows], strict=False))


@contextlib.contextmanager
def _opened(path: str, origin: str) -> Iterator[pq.ParquetFile]:
    try:
        source: Any = remote.open_input(path)[0] if remote.is_remote(path) else path
        with pq.ParquetFile(source) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{origin}: cannot be read as Parquet: {remote.reason(error)}") from error


def _windows(metadata: Any, after_row: int) -> Iterator[tuple[int, list[int]]]:
    """Yield runs of row groups that end after `after_row`, each with the number of rows before it.

    A reader keeps what it has read of all its row groups, so one reader for the whole file would hold all of it; one
    for each small row group would make small chunks.
    """
    row = before = 0
    window: list[int] = []
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        row += rows
        if row <= after_row:
            before = row
            continue
        window.append(group)
        if row - before >= WINDOW_ROWS:
            yield before, window
            before, window = row, []
    if window:
        yield before, window


class _Plan:
    """Which columns of a file play which part."""

    def __init__(self, origin: str, schema: pa.Schema, options: ReadOptions) -> None:
        self._origin = origin
        self._options = options
        names = schema.names
        asked = columns.asked(options)
        plain = {"source", "target"} & {*asked, *names}
        self._nested: tuple[str, str, str, str] | None = None
        if TRANSLATION in names and pa.types.is_struct(schema.field(TRANSLATION).type) and len(plain) < 2:
            self._nested = _nested(origin, schema.field(TRANSLATION).type, options)
            names = [*names, "source", "target"]
        elif len(plain) < 2 and not asked.keys() >= {"source", "target"}:
            missing = "source" if "source" not in plain else "target"
            raise InputError(
                f"{origin}: no column {missing!r}: name it; the file has: {', '.join(columns.shown(names))}"
            )
        places = columns.by_name(origin, names, options)
        self._places = {name: names[place] for name, place in places.items()}
        for name in ("source", "target", *METADATA):
            column = self._places.get(name)
            if column in schema.names and not _is_text(schema.field(column).type):
                raise InputError(f"{origin}: column {column!r} is {schema.field(column).type}, not text")
        used = set(self._places.values()) | ({TRANSLATION} if self._nested else set())
        self.names = [name for name in schema.names if name in used]

    def convert(self, batch: pa.RecordBatch, before: int) -> tuple[pa.Table, tuple[Reject, ...]]:
        """Return the pairs of a batch of N rows, of which `before` stand ahead, and its rejects."""
        arrays = {name: self._array(batch, name) for name in self._places}
        reason_N: list[str | None] = [None] * batch.num_rows
        values: dict[str, Sequence[str | None]] = {}
        for name, array in arrays.items():
            if name in ("source", "target", *METADATA):
                values[name] = _texts(array, reason_N, required=name in ("source", "target"))
            elif pa.types.is_string(array.type):
                _texts(array, reason_N, required=False)
        good = [number for number, reason in enumerate(reason_N) if reason is None]
        rows_N = np.arange(before + 1, before + 1 + batch.num_rows)
        rejects = tuple(
            Reject(self._origin, before + number + 1, None, reason, _raw(arrays, number))
            for number, reason in enumerate(reason_N)
            if reason is not None
        )
        extras = {name: array for name, array in arrays.items() if name not in ("source", "target", *METADATA)}
        if rejects:
            values = {name: [column[number] for number in good] for name, column in values.items()}
            extras = {name: array.take(pa.array(good, pa.int64())) for name, array in extras.items()}
            rows_N = rows_N[good]
        metadata = {name: filled(values.get(name), self._default(name), len(good)) for name in METADATA}
        return pair_table(
            (values["source"], values["target"]), metadata, pa.array(rows_N), self._origin, extras
        ), rejects

    def _default(self, name: str) -> str | None:
        value = default(self._options, name)
        if self._nested and name in ("source_lang", "target_lang"):
            value = value or self._nested[2 if name == "source_lang" else 3]
        return value

    def _array(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        if self._nested and name in ("source", "target"):
            array = pc.struct_field(batch.column(TRANSLATION), self._nested[name == "target"])
        else:
            array = batch.column(self._places[name])
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if _is_text(array.type) and not pa.types.is_string(array.type):
            array = (
                array.cast(pa.binary()).view(pa.string())
                if not pa.types.is_null(array.type)
                else array.cast(pa.string())
            )
        return array


def _nested(origin: str, kind: pa.DataType, options: ReadOptions) -> tuple[str, str, str, str]:
    names = [field.name for field in kind]
    try:
        chosen = translation({name: name for name in names}, options)
    except RecordError as error:
        asked = f"{options.source_lang or 'any'} and {options.target_lang or 'any'}"
        raise InputError(
            f"{origin}: column {TRANSLATION!r} holds {', '.join(columns.shown(names))}, asked: {asked}"
        ) from error
    for key in ("source", "target"):
        if not _is_text(kind.field(str(chosen[key])).type):
            raise InputError(f"{origin}: {TRANSLATION}.{chosen[key]} is not text")
    return tuple(str(chosen[key]) for key in ("source", "target", "source_lang", "target_lang"))  # type: ignore[return-value]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.null())


def _texts(array: pa.Array, reason_N: list[str | None], *, required: bool) -> list[str | None]:
    """Return the values of a column, noting in `reason_N` why a row cannot be read."""
    try:
        values: list[str | None] = array.to_pylist()
    except UnicodeDecodeError:
        values = []
        for number, raw in enumerate(array.view(pa.binary()).to_pylist()):
            try:
                values.append(None if raw is None else raw.decode())
            except UnicodeDecodeError:
                values.append("")
                reason_N[number] = reason_N[number] or "invalid_utf8"
    if required and array.null_count:
        for number, value in enumerate(values):
            if value is None:
                reason_N[number] = reason_N[number] or "null"
    if pc.any(pc.match_substring(array.view(pa.binary()), b"\0")).as_py():
        for number, value in enumerate(values):
            if value is not None and "\0" in value:
                reason_N[number] = reason_N[number] or "nul_byte"
    return values


def _raw(arrays: dict[str, pa.Array], number: int) -> str:
    """What a row's texts hold, as JSON."""
    texts = {}
    for name in ("source", "target"):
        value = arrays[name].view(pa.binary())[number].as_py()
        texts[name] = None if value is None else escape(value)
    return escape(json.dumps(texts, ensure_ascii=False).encode())
