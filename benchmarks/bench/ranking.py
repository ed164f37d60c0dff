"""Benchmark of `filter-cli rank`: three million scored rows in bounded memory, against a sort that holds everything."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.measure import best_of, cpu, run
from bench.results import Figure, Target
from bench.workspace import Workspace

ROWS = 3_000_000
SHARDS = 8
GROUP_ROWS = 65_536
LIMIT = Target(bound=1024, kind="under")

# The same work with nothing but pyarrow: read all, sort by one column, write as many shards.
SORT = f"""
import sys, pyarrow.parquet as pq
table = pq.read_table(sys.argv[1]).sort_by([("quality", "descending")])
rows = -(-table.num_rows // {SHARDS})
for shard in range({SHARDS}):
    part = table.slice(shard * rows, rows)
    pq.write_table(part, sys.argv[2] + f"/{{shard}}.parquet", compression="zstd", row_group_size={GROUP_ROWS})
"""


def rank(space: Workspace) -> list[Figure]:
    """Rank three million rows into eight shards; the limit is pyarrow's sort of the same table by one column."""
    rows = ROWS * space.rows // 100_000  # --rows scales this benchmark, too
    scored, output, plain = (space.folder / name for name in ("many-scored.parquet", "ranked", "sorted"))
    write_scored(scored, pq.read_table(space.scored), rows)
    try:
        command: list[str | Path] = [
            space.cli,
            "rank",
            scored,
            "-o",
            output,
            "--order",
            "quality",
            "--shards",
            str(SHARDS),
        ]
        ours = best_of(min(2, space.repeats), lambda: run(command), key=cpu).measured
        shutil.rmtree(output)
        plain.mkdir()
        limit = space.script(SORT, scored, plain).measured
    finally:
        space.remove([scored])
        for folder in (output, plain):
            shutil.rmtree(folder, ignore_errors=True)
    name = f"rank of {rows:,} rows"
    return [
        Figure(name=f"{name}: peak of allocated memory (RssAnon)", unit="MiB", value=ours.rss_anon_mib, target=LIMIT),
        Figure(
            name=f"{name}: peak resident set (VmHWM)",
            unit="MiB",
            value=ours.vm_hwm_mib,
            target=LIMIT,
            note=f"pyarrow's sort in memory: {limit.vm_hwm_mib:,.0f} MiB",
        ),
        Figure(
            name=f"{name}: CPU-seconds, times pyarrow's sort",
            unit="×",
            value=ours.cpu_s / limit.cpu_s,
            note=f"{ours.cpu_s:.1f} s against {limit.cpu_s:.1f} s, which holds all rows, knows no ties and no digests",
            measured={"bisift": ours, "pyarrow": limit},
        ),
    ]


def write_scored(path: Path, base: pa.Table, rows: int, *, pairs_a_document: int = 0) -> None:
    """Write `rows` kept rows made of `base`, each with an identity, a row number and scores of its own.

    `pairs_a_document`: so many rows after each other are a document; 0 for none.
    """
    rng = np.random.default_rng(7)
    base = base.filter(base.column("drop_reason").is_null())
    with pq.ParquetWriter(path, base.schema, compression="zstd") as writer:
        for start in range(0, rows, GROUP_ROWS):
            count = min(GROUP_ROWS, rows - start)
            part = base.take(np.arange(start, start + count) % base.num_rows)
            fresh = {
                "pair_id": pa.Array.from_buffers(pa.binary(16), count, [None, pa.py_buffer(rng.bytes(16 * count))]),
                "row": pa.array(np.arange(start + 1, start + count + 1)),
                "quality": pa.array(rng.random(count, dtype=np.float32)),
                "ai_probability": pa.array(rng.random(count, dtype=np.float32)),
            }
            if pairs_a_document:
                document = np.arange(start, start + count) // pairs_a_document
                fresh["document_id"] = pc.binary_join_element_wise(
                    "https://example.org/", pa.array(document.astype(str)), ""
                )
                fresh["ai_probability_document"] = pa.array((document % 997 / 997).astype(np.float32))
            for name, values in fresh.items():
                index = part.schema.get_field_index(name)
                part = part.set_column(index, part.schema.field(index), values)
            writer.write_table(part, row_group_size=GROUP_ROWS)
