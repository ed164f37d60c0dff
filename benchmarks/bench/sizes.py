"""Benchmark of sizes: bytes a row as text, scored, and as the Arrow IPC slices that a shuffle moves."""

from __future__ import annotations

import io
import time

import pyarrow as pa
import pyarrow.parquet as pq

from bench.results import Figure
from bench.workspace import Workspace

SMALL, LARGE = 64, 16_384
"""Rows of the slices that are written as IPC: each carries the schema again."""

TEXT, PARQUET, MEMORY = "text, TSV", "scored, Parquet", "scored, Arrow in memory"
IPC = {rows: f"scored, Arrow IPC (lz4) in slices of {rows:,} rows" for rows in (SMALL, LARGE)}
SLICE_CPU = f"writing and reading a slice of {SMALL} rows"


def sizes(space: Workspace) -> list[Figure]:
    """Bytes a row of the sample in every form that jobs read, keep, shuffle and write; CPU time of a slice."""
    table = pq.read_table(space.scored)
    rows = table.num_rows
    bytes_a_row = {
        TEXT: space.tsv.stat().st_size / rows,
        PARQUET: space.scored.stat().st_size / rows,
        MEMORY: table.nbytes / rows,
        **{name: ipc(table, count)[0] for count, name in IPC.items()},
    }
    seconds = min(ipc(table, SMALL)[1] for _ in range(max(space.repeats, 1)))
    return [
        *(Figure(name=name, unit="bytes a row", value=value) for name, value in bytes_a_row.items()),
        Figure(name=SLICE_CPU, unit="CPU-milliseconds", value=1000 * seconds),
    ]


def ipc(table: pa.Table, count: int, most: int = 200) -> tuple[float, float]:
    """Write and read IPC streams of `count` rows each, `most` at most; return bytes a row and CPU-seconds a stream."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    starts = range(0, min(table.num_rows, count * most), count)
    total = rows = 0
    began = time.process_time()
    for start in starts:
        sink = io.BytesIO()
        part = table.slice(start, count)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(part)
        data = sink.getvalue()
        total, rows = total + len(data), rows + pa.ipc.open_stream(pa.py_buffer(data)).read_all().num_rows
    return total / rows, (time.process_time() - began) / len(starts)
