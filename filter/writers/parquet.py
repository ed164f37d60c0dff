"""Parquet files and folders of Parquet parts, the same bytes however the rows arrive."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bisift.contract import METADATA_KEY
from bisift.errors import ConfigError
from bisift.filter.writers.base import Writer, disk_errors
from bisift.manifest import MANIFEST_NAME, atomic_path

ROW_GROUP = 65_536
PART_ROWS = 16 * ROW_GROUP
_PART = re.compile(r"part-\d{5,}\.parquet")
# A dictionary makes columns of few values small; these are integers and strings that hardly repeat a value.
_TEXT = ("source", "target")
_DISTINCT = (*_TEXT, "row", "rank")


def part_files(folder: Path) -> list[Path]:
    """Return the parts in a folder in row order."""
    return sorted(path for path in folder.glob("part-*.parquet") if _PART.fullmatch(path.name))


class RowGroups:
    """One Parquet file of row groups of exactly 65,536 rows, its bytes a function of the rows and the schema alone."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self.rows = 0
        self._file = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[field.name for field in schema if _has_dictionary(field)],
            write_statistics=[name for name in schema.names if name not in _TEXT],
        )

    def write(self, table: pa.Table) -> None:
        self._pending.append(table)
        self._pending_rows += table.num_rows
        self.rows += table.num_rows
        if self._pending_rows < ROW_GROUP:
            return
        held = pa.concat_tables(self._pending)
        whole = held.num_rows - held.num_rows % ROW_GROUP
        for start in range(0, whole, ROW_GROUP):
            self._write_group(held.slice(start, ROW_GROUP))
        self._pending, self._pending_rows = [held.slice(whole)], held.num_rows - whole

    def _write_group(self, group: pa.Table) -> None:
        # One chunk a column: where a chunk ends, a page may end, and a chunk's dictionary may list what it never uses.
        columns = [_canonical(column) for column in group.columns]
        self._file.write_table(pa.Table.from_arrays(columns, schema=group.schema), row_group_size=ROW_GROUP)

    def close(self) -> None:
        if self._pending_rows:
            self._write_group(pa.concat_tables(self._pending))
            self._pending, self._pending_rows = [], 0
        self._file.close()

    def abandon(self) -> None:
        """Close the file without writing what is held: it will be removed."""
        with contextlib.suppress(OSError):
            self._file.close()


def _has_dictionary(field: pa.Field) -> bool:
    kind = field.type
    repeats = pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_dictionary(kind)
    return repeats and field.name not in _DISTINCT


def _canonical(column: pa.ChunkedArray) -> pa.Array:
    if not pa.types.is_dictionary(column.type):
        return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    plain = pc.cast(column, column.type.value_type).combine_chunks()
    return pc.cast(pc.dictionary_encode(plain), column.type)


class ParquetWriter(Writer):
    """Writes one Parquet file."""

    def __init__(self, output: str, schema: pa.Schema) -> None:
        super().__init__(output, schema)
        with disk_errors(output):
            self._file = RowGroups(self._open.enter_context(atomic_path(output)), schema)

    def _write(self, table: pa.Table) -> None:
        self._file.write(table)

    def _finish(self) -> None:
        self._file.close()

    def _abandon(self) -> None:
        self._file.abandon()


class PartsWriter(Writer):
    """Writes a folder of parts of 1,048,576 rows, published together; at least one, so that the schema is there."""

    def __init__(self, output: str, schema: pa.Schema) -> None:
        super().__init__(output, schema)
        self._folder = Path(output)
        _refuse_foreign(self._folder)
        self._parts = 0
        with disk_errors(output):
            self._file = self._next()

    def _next(self) -> RowGroups:
        path = self._folder / f"part-{self._parts:05d}.parquet"
        self._parts += 1
        return RowGroups(self._open.enter_context(atomic_path(path)), self.schema)

    def _write(self, table: pa.Table) -> None:
        while table.num_rows:
            if self._file.rows == PART_ROWS:
                self._file.close()
                self._file = self._next()
            head = table.slice(0, PART_ROWS - self._file.rows)
            self._file.write(head)
            table = table.slice(head.num_rows)

    def _finish(self) -> None:
        self._file.close()
        (self._folder / MANIFEST_NAME).unlink(missing_ok=True)  # of what is replaced now
        for stale in part_files(self._folder)[self._parts :]:
            stale.unlink()

    def _abandon(self) -> None:
        self._file.abandon()


def _refuse_foreign(folder: Path) -> None:
    for path in part_files(folder):
        try:
            ours = METADATA_KEY in (pq.read_schema(path).metadata or {})
        except (pa.ArrowInvalid, OSError):
            ours = False
        if not ours:
            raise ConfigError(f"{path}: not written by bisift and would be replaced; name another folder")
