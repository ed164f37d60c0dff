"""TSV and JSONL, formatted column by column in Arrow: no Python per row.

Both formats are joins: every column becomes text, the columns of a row are joined with fixed pieces, and the joined
column's data buffer is what goes to the file. Floats get the shortest digits that read back to the same value.
"""

from __future__ import annotations

import abc
import bz2
import contextlib
import gzip
import json
import lzma
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift.filter.text import I64, U8
from bisift.filter.writers.base import STANDARD, Writer, disk_errors
from bisift.manifest import atomic_path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESSIONS = ("gz", "zst", "xz", "bz2")
REPLACED = "control_characters_replaced"
_BLOCK = 1 << 20
_SLICE_ROWS = 16_384
_TAB, _LF, _CR, _SPACE = 9, 10, 13, 32
_NEEDS_ESCAPE = re.compile(rb'["\\\x00-\x1f]')


class Format(abc.ABC):
    """How a table becomes lines of text."""

    header = b""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema

    @abc.abstractmethod
    def lines(self, table: pa.Table) -> tuple[pa.Array, int]:
        """Return the N lines of a table (each with its LF), and how many characters had to be replaced."""


class TsvFormat(Format):
    """Tab-separated values: a header, no quoting, nulls empty; a tab, CR or LF in a text becomes a space."""

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        names = [re.sub(r"[\t\r\n]", " ", name) for name in schema.names]
        self.header = ("\t".join(names) + "\n").encode()

    def lines(self, table: pa.Table) -> tuple[pa.Array, int]:
        replaced = 0
        pieces: list[pa.Array | str] = []
        for column in table.columns:
            array, is_text = _as_text(_flat(column))
            if is_text:
                array, count = _without_controls(array)
                replaced += count
            pieces += [array, "\t"]
        pieces[-1] = "\n"
        return _join(pieces, null=""), replaced


class PlainFormat(TsvFormat):
    """As TSV without a header, as trainers read it; a row of one column is a line of text."""

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self.header = b""


class JsonlFormat(Format):
    """One JSON object a line with every column in the schema's order; null is null, and so is a number not finite.

    A float that is whole is written as 1.0: readers that infer types from the first rows would take 1 for an integer.
    """

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(schema)
        self._keys = [json.dumps(name, ensure_ascii=False) for name in schema.names]

    def lines(self, table: pa.Table) -> tuple[pa.Array, int]:
        pieces: list[pa.Array | str] = []
        for key, column in zip(self._keys, table.columns, strict=True):
            array, is_text = _flat(column), False
            if pa.types.is_floating(array.type):
                array = _with_point(pc.if_else(pc.is_finite(array), array, None).cast(pa.string()))
            else:
                array, is_text = _as_text(array)
            pieces += [f"{', ' if pieces else '{'}{key}: ", _quoted(array) if is_text else array]
        return _join([*pieces, "}\n"], null="null"), 0


def _join(pieces: Sequence[pa.Array | str], null: str) -> pa.Array:
    return pc.binary_join_element_wise(
        *(
            pa.scalar(piece, pa.large_string()) if isinstance(piece, str) else piece.cast(pa.large_string())
            for piece in pieces
        ),
        pa.scalar("", pa.large_string()),
        null_handling="replace",
        null_replacement=null,
    )


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _as_text(array: pa.Array) -> tuple[pa.Array, bool]:
    """Return the column as strings, and whether it holds text (that may need cleaning or quotes)."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.cast(kind.value_type)
        kind = array.type
    if pa.types.is_fixed_size_binary(kind):
        return _hex(array), True
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array, True
    if pa.types.is_nested(kind):
        values = [None if value is None else json.dumps(value, default=_plain) for value in array.to_pylist()]
        return pa.array(values, pa.string()), False
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.array([None if value is None else value.hex() for value in array.to_pylist()], pa.string()), True
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return array.cast(pa.string()), not numeric


def _with_point(digits: pa.Array) -> pa.Array:
    whole = pc.match_substring_regex(digits, r"^-?\d+$")
    return pc.if_else(whole, pc.binary_join_element_wise(digits, "0", "."), digits) if pc.any(whole).as_py() else digits


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _hex(array: pa.Array) -> pa.Array:
    width = array.type.byte_width
    start, rows = array.offset * width, len(array)
    digits = array.buffers()[1].slice(start, rows * width).to_pybytes().hex().encode() if rows else b""
    offsets = np.arange(rows + 1, dtype=np.int64) * (2 * width)
    valid = array.is_valid()
    strings = pa.LargeStringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(digits))
    return strings if not array.null_count else pc.if_else(valid, strings, None)


def _text_bytes(array: pa.Array) -> tuple[U8, I64]:
    """Return the UTF-8 of all rows joined, and the N + 1 offsets of the rows in it."""
    array = array.cast(pa.large_string())
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return raw[offsets[0] : offsets[-1]], offsets - offsets[0]


def _with_bytes(array: pa.Array, raw: U8, offsets: I64) -> pa.Array:
    made = pa.LargeStringArray.from_buffers(len(array), pa.py_buffer(offsets), pa.py_buffer(raw))
    return pc.if_else(array.is_valid(), made, None) if array.null_count else made


def _without_controls(array: pa.Array) -> tuple[pa.Array, int]:
    raw, offsets = _text_bytes(array)
    found = (raw == _TAB) | (raw == _LF) | (raw == _CR)
    count = int(np.count_nonzero(found))
    if not count:
        return array, 0
    return _with_bytes(array, np.where(found, np.uint8(_SPACE), raw), offsets), count


def _quoted(array: pa.Array) -> pa.Array:
    raw, _ = _text_bytes(array)
    if _NEEDS_ESCAPE.search(raw.data):
        escape = json.JSONEncoder(ensure_ascii=False).encode
        return pa.array([None if text is None else escape(text) for text in array.to_pylist()], pa.large_string())
    quote, nothing = pa.scalar('"', pa.large_string()), pa.scalar("", pa.large_string())
    return pc.binary_join_element_wise(quote, array.cast(pa.large_string()), quote, nothing, null_handling="emit_null")


class _Blocks:
    """Passes bytes on in blocks of 1 MiB, so that a compressor sees the same calls however the rows arrive."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._held = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        self._held += data
        whole = len(self._held) - len(self._held) % _BLOCK
        if whole:
            with memoryview(self._held) as view:
                for start in range(0, whole, _BLOCK):
                    self._sink.write(view[start : start + _BLOCK])
            del self._held[:whole]

    def flush(self) -> None:
        self._sink.write(bytes(self._held))
        self._held.clear()


def _compressed(file: IO[bytes], compression: str) -> IO[bytes]:
    """Open a compressor on `file`, without names and times in its header."""
    makers: dict[str, Callable[[], Any]] = {
        "gz": lambda: gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0),
        "bz2": lambda: bz2.BZ2File(file, "wb"),
        "xz": lambda: lzma.LZMAFile(file, "wb", preset=1),  # noqa: SIM115 - closed by the writer
        "zst": lambda: zstd.ZstdFile(file, "wb"),
    }
    opened: IO[bytes] = makers[compression]()
    return opened


class TextWriter(Writer):
    """Writes TSV or JSONL to a file, compressed or not, or to stdout."""

    def __init__(self, output: str, schema: pa.Schema, form: Format, compression: str = "") -> None:
        super().__init__(output, schema)
        self._form = form
        self._closing: list[IO[bytes]] = []
        with disk_errors(output):
            if output == STANDARD:
                sink: IO[bytes] = sys.stdout.buffer
            else:
                sink = open(self._open.enter_context(atomic_path(Path(output))), "wb")  # noqa: SIM115
                self._closing.append(sink)
                if compression:
                    sink = _compressed(sink, compression)
                    self._closing.insert(0, sink)
            self._sink = sink
            self._blocks = _Blocks(sink)
            self._blocks.write(form.header)

    def _write(self, table: pa.Table) -> None:
        for start in range(0, table.num_rows, _SLICE_ROWS):
            lines, replaced = self._form.lines(table.slice(start, _SLICE_ROWS))
            raw, _ = _text_bytes(lines)
            self._blocks.write(raw.data)
            if replaced:
                self.counts[REPLACED] += replaced

    def _finish(self) -> None:
        self._blocks.flush()
        self._sink.flush()
        for file in self._closing:
            file.close()

    def _abandon(self) -> None:
        for file in self._closing:
            with contextlib.suppress(OSError, ValueError):
                file.close()
