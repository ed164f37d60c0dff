"""Units: what a ranking reads and partitions at once, some row groups of Parquet or a whole text file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift.filter.ordering import F64, POSITION, Keys, order_keys
from bisift.filter.ranked import decoded
from bisift.filter.ranking import RankOptions
from bisift.filter.scored import Part, Scored, conformed
from bisift.filter.scored_text import open_text
from bisift.pipelines.spilling import Block, load

UNIT_ROWS = 1 << 16
HELD = 4
"""The share of the memory that a unit, or a bucket, takes where rows are shuffled by value."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Row groups of one scored file (None: all of a text file)."""

    path: Path | str
    form: str
    groups: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Unit:
    """Pieces that are ranked together; `positions` of their ranked rows are for mixed alone."""

    name: str
    pieces: tuple[Piece, ...]
    positions: Block | bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RankJob:
    """What the steps of a ranking must know.

    `schema`: of the scored rows. `spill`: folder that all workers see, for what is shuffled; None: by value.
    `row_bytes`: of a row in memory, about.
    """

    options: RankOptions
    schema: pa.Schema
    output: str
    spill: str | None
    row_bytes: int


def units(source: Scored, job: RankJob) -> Iterator[Unit]:
    """Yield the units of all inputs, of 65,536 rows or a row group.

    Where rows are shuffled by value, units are as large as the memory allows: a unit hands on a slice for each bucket,
    and what a slice costs beside its rows would be most of the work in a large corpus (docs/scale.md).
    """
    most = UNIT_ROWS
    if job.spill is None:
        most = max(most, job.options.memory // HELD // job.row_bytes)
    held: list[Piece] = []
    rows = number = 0
    for piece, count in _pieces(source):
        if held and rows + count > most:
            yield Unit(f"{number:08d}", tuple(held))
            held, rows, number = [], 0, number + 1
        held.append(piece)
        rows += count
    if held:
        yield Unit(f"{number:08d}", tuple(held))


def _pieces(source: Scored) -> Iterator[tuple[Piece, int]]:
    """Yield the pieces of all inputs and their rows; those of text files are not known, and count as a whole unit's."""
    for entry in source.inputs:
        for part in entry.parts:
            path = Path(os.path.abspath(part.path)) if isinstance(part.path, Path) else part.path
            if part.form != "parquet":
                yield Piece(path, part.form, None), part.rows or 1 << 62
                continue
            window: list[int] = []
            rows = 0
            for group, count in enumerate(part.row_groups()):
                if window and rows + count > UNIT_ROWS:
                    yield Piece(path, part.form, tuple(window)), rows
                    window, rows = [], 0
                window.append(group)
                rows += count
            if window:
                yield Piece(path, part.form, tuple(window)), rows


class OverUnits(beam.DoFn):
    """A step that reads the rows of units."""

    def __init__(self, job: RankJob) -> None:
        self._job = job

    def rows(self, unit: Unit, columns: Sequence[str] | None, *, all_rows: bool = False) -> pa.Table:
        """Return the rows of a unit that are ranked (or all), with their positions where it has them."""
        wanted = self._job.schema.names if columns is None else list(dict.fromkeys((*columns, "drop_reason")))
        fields = [self._job.schema.field(name) for name in wanted]
        schema = pa.schema(fields, metadata=self._job.schema.metadata)
        tables = [schema.empty_table()]
        for piece in unit.pieces:
            form, stored = ("parquet", schema) if piece.form == "parquet" else open_text(Path(piece.path))
            part = Part(piece.path, form, stored, None)
            for table in part.tables(wanted, groups=piece.groups):
                table = conformed(table, schema, piece.path)
                if not (all_rows or self._job.options.keep_dropped):
                    table = table.filter(pc.is_null(table.column("drop_reason")))
                tables.append(decoded(table))
        table = pa.concat_tables([decoded(tables[0]), *tables[1:]])
        if unit.positions is not None:
            position_N: F64 = np.frombuffer(load(unit.positions), np.float64)
            table = table.append_column(POSITION, pa.array(position_N))
        return table

    def keys(self, table: pa.Table, order: str | None = None) -> Keys:
        """Return the keys of rows in the job's order, or another."""
        options = self._job.options
        return order_keys(table, order or options.order, seed=options.seed, keep_dropped=options.keep_dropped)
