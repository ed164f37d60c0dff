"""Units: the pieces of scored files that are ranked alone, some row groups of Parquet or a whole text file."""

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


@dataclass(frozen=True, slots=True)
class Unit:
    """Row groups of one scored file (None: all of a text file); `positions` of its ranked rows are for mixed alone."""

    name: str
    path: Path | str
    form: str
    groups: tuple[int, ...] | None
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


def units(source: Scored) -> Iterator[Unit]:
    """Yield the units of all inputs, of 65,536 rows or a row group."""
    number = 0
    for entry in source.inputs:
        for part in entry.parts:
            for groups in _windows(part.row_groups()) if part.form == "parquet" else [None]:
                path = Path(os.path.abspath(part.path)) if isinstance(part.path, Path) else part.path
                yield Unit(f"{number:08d}", path, part.form, groups)
                number += 1


def _windows(rows: Sequence[int]) -> Iterator[tuple[int, ...]]:
    window: list[int] = []
    held = 0
    for group, count in enumerate(rows):
        if window and held + count > UNIT_ROWS:
            yield tuple(window)
            window, held = [], 0
        window.append(group)
        held += count
    if window:
        yield tuple(window)


class OverUnits(beam.DoFn):
    """A step that reads the rows of units."""

    def __init__(self, job: RankJob) -> None:
        self._job = job

    def rows(self, unit: Unit, columns: Sequence[str] | None, *, all_rows: bool = False) -> pa.Table:
        """Return the rows of a unit that are ranked (or all), with their positions where it has them."""
        wanted = self._job.schema.names if columns is None else list(dict.fromkeys((*columns, "drop_reason")))
        fields = [self._job.schema.field(name) for name in wanted]
        schema = pa.schema(fields, metadata=self._job.schema.metadata)
        form, stored = ("parquet", schema) if unit.form == "parquet" else open_text(Path(unit.path))
        part = Part(unit.path, form, stored, None)
        tables = [conformed(table, schema, unit.path) for table in part.tables(wanted, groups=unit.groups)]
        table = pa.concat_tables(tables) if tables else schema.empty_table()
        if not (all_rows or self._job.options.keep_dropped):
            table = table.filter(pc.is_null(table.column("drop_reason")))
        table = decoded(table)
        if unit.positions is not None:
            position_N: F64 = np.frombuffer(load(unit.positions), np.float64)
            table = table.append_column(POSITION, pa.array(position_N))
        return table

    def keys(self, table: pa.Table, order: str | None = None) -> Keys:
        """Return the keys of rows in the job's order, or another."""
        options = self._job.options
        return order_keys(table, order or options.order, seed=options.seed, keep_dropped=options.keep_dropped)
