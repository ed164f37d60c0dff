"""Scored TSV and JSONL read back into Arrow with the contract's types."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from bisift.contract import EXTRA_PREFIX, RANKED, SCORED
from bisift.errors import ContractError, InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_OPENERS: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"\x28\xb5\x2f\xfd", zstd.open),
    (b"\xfd7zXZ\x00", lzma.open),
    (b"BZh", bz2.open),
)
_BLOCK = 16 << 20  # bytes parsed at once: more than the longest row, two sides of 1 MiB that may double in JSON
_DAMAGED = (OSError, EOFError, lzma.LZMAError, zstd.ZstdError, pa.ArrowInvalid, ValueError)


def _open(path: Path) -> IO[bytes]:
    """Open a file, decompressed where its first bytes say that it is compressed."""
    with open(path, "rb") as file:
        start = file.read(6)
    for magic, opener in _OPENERS:
        if start.startswith(magic):
            opened: IO[bytes] = opener(path, "rb")
            return opened
    return open(path, "rb")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise InputError(f"{path}: cannot be read as scored text: {error}") from error


def open_text(path: Path) -> tuple[str, pa.Schema]:
    """Return the format (`tsv` or `jsonl`) of a scored text file, and the schema of its columns.

    Known columns have the contract's types (text where that is a dictionary). An extra column of TSV is text; one of
    JSONL has the type of its first value.

    Raises:
        InputError: the file cannot be read.
        ContractError: it is not scored output.
    """
    with _readable(path), _open(path) as file:
        first = file.readline(_BLOCK)
        if not first and ".jsonl" in path.name:  # no rows, so no names either
            return "jsonl", SCORED
        form = "jsonl" if first.lstrip().startswith(b"{") else "tsv"
        if form == "jsonl":
            types = {
                name: _json_type(value) if name.startswith(EXTRA_PREFIX) else pa.null()
                for name, value in json.loads(first).items()
            }
        else:
            types = {name: pa.string() for name in first.decode().rstrip("\n").split("\t")}
    known = {field.name: field for field in RANKED}
    for name in types:
        if name not in known and not name.startswith(EXTRA_PREFIX):
            raise ContractError(f"{path}: column {name[:80]!r} is not in the contract: is this scored output?")
    missing = [field.name for field in RANKED if not field.nullable and field.name not in types][:1]
    if missing and missing[0] not in ("rank", "percentile", "order"):
        raise ContractError(f"{path}: column {missing[0]!r} is missing: is this scored output?")
    return form, pa.schema(
        [pa.field(name, known[name].type if name in known else kind) for name, kind in types.items()]
    )


def _json_type(value: Any) -> pa.DataType:
    kind = pa.array([value]).type
    return pa.string() if pa.types.is_null(kind) else kind


def text_tables(path: Path, form: str, schema: pa.Schema, names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the columns `names` of a scored text file.

    Raises:
        InputError: the file is damaged or a value is not of its column's type.
    """
    types = {name: _parsed_type(schema.field(name).type) for name in names}
    with _readable(path), _open(path) as file:
        if not file.read(1):
            return
        file.seek(0)
        opened = _open_tsv(file, types) if form == "tsv" else _open_jsonl(file, types)
        for batch in opened:
            yield _typed(pa.Table.from_batches([batch]).select(list(names)), schema)


def _parsed_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_binary(kind):
        return pa.string()
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _open_tsv(file: IO[bytes], types: dict[str, pa.DataType]) -> Any:
    return pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter="\t", quote_char=False, double_quote=False, ignore_empty_lines=False
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[""],
            strings_can_be_null=True,
            true_values=["true"],
            false_values=["false"],
        ),
    )


def _open_jsonl(file: IO[bytes], types: dict[str, pa.DataType]) -> Any:
    return pyarrow.json.open_json(
        file,
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=_BLOCK),
        parse_options=pyarrow.json.ParseOptions(
            explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
        ),
    )


def _typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    for index, name in enumerate(table.column_names):
        if pa.types.is_fixed_size_binary(schema.field(name).type):
            table = table.set_column(index, name, _unhex(table.column(name), schema.field(name).type))
        elif name in ("source", "target"):  # an empty side of a pair is a text, not a null
            table = table.set_column(index, name, pc.fill_null(table.column(name), ""))
    return table


def _unhex(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    digits = column.combine_chunks()
    if digits.null_count or not pc.all(pc.equal(pc.binary_length(digits), 2 * kind.byte_width), min_count=0).as_py():
        raise ValueError("a pair_id is not 32 hexadecimal digits")
    joined = pc.binary_join(pa.ListArray.from_arrays(np.array([0, len(digits)], np.int32), digits), "")[0].as_py()
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(digits), [None, pa.py_buffer(bytes.fromhex(joined or ""))])
