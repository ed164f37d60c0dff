"""Benchmarks of what the data owner does with scored files."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.measure import best_of, cpu, run
from bench.ranking import write_scored
from bench.results import Figure, Target
from bench.workspace import Workspace

SELECT_ROWS = 3_000_000
DEDUP_ROWS = 3_000_000


def select(space: Workspace) -> list[Figure]:
    """Take pairs out of three million scored rows, Parquet to Parquet, by thresholds and by number."""
    rows = SELECT_ROWS * space.rows // 100_000
    scored, output = space.folder / "many-scored.parquet", space.folder / "selected.parquet"
    write_scored(scored, pq.read_table(space.scored), rows)
    choices: dict[str, tuple[str, ...]] = {
        "thresholds that a quarter passes": ("--min-quality", "0.5", "--max-ai-probability", "0.5"),
        "the better half": ("--share", "0.5"),
    }
    figures: list[Figure] = []
    for what, options in choices.items():
        command: list[str | Path] = [space.cli, "select", scored, "-o", output, *options]
        best = best_of(space.repeats, partial(run, command), key=cpu).measured
        share = pq.read_metadata(output).num_rows / rows
        figures.append(
            Figure(
                name=f"select of {rows:,} rows, {what}",
                unit="rows per CPU-second",
                value=rows / best.cpu_s,
                target=Target(bound=500_000, kind="at_least") if not figures else None,
                note=f"{share:.0%} selected, {best.vm_hwm_mib:,.0f} MiB",
                measured={"select": best},
            )
        )
    space.remove([scored, output])
    return figures


def dedup(space: Workspace) -> list[Figure]:
    """Mark near duplicates: rate on real text, recall against exact Jaccard, memory with three million rows."""
    output = space.folder / "deduplicated.parquet"
    best = best_of(space.repeats, partial(run, [space.cli, "dedup", space.scored, "-o", output]), key=cpu).measured
    figures = [
        Figure(
            name="dedup, scored Parquet to marked Parquet",
            unit="pairs per CPU-second",
            value=space.rows / best.cpu_s,
            target=Target(bound=20_000, kind="at_least"),
            measured={"dedup": best},
        )
    ]
    found, exact = _recall(pq.read_table(space.scored, columns=["source", "target"]).slice(0, 20_000))
    figures.append(
        Figure(
            name="dedup: recall of rows with exact Jaccard at least 0.8, 20,000 pairs",
            unit="",
            value=found / max(exact, 1),
            target=Target(bound=0.95, kind="at_least"),
            note=f"{exact:,} rows have a better one that is so close",
        )
    )
    rows = DEDUP_ROWS * space.rows // 100_000
    many = space.folder / "many-scored.parquet"
    _write_distinct(many, pq.read_table(space.scored), rows)
    large = run([space.cli, "dedup", many, "-o", output]).measured
    space.remove([many, output])
    for name, value in (("RssAnon", large.rss_anon_mib), ("VmHWM", large.vm_hwm_mib)):
        target = Target(bound=1024, kind="under")
        figures.append(Figure(name=f"dedup of {rows:,} rows: peak {name}", unit="MiB", value=value, target=target))
    figures.append(
        Figure(
            name=f"dedup of {rows:,} rows", unit="pairs per CPU-second", value=rows / large.cpu_s, measured={"": large}
        )
    )
    return figures


def _recall(texts: pa.Table) -> tuple[int, int]:
    """Return how many rows with an earlier close one are found, of how many by comparing every row with every other."""
    from scipy import sparse

    from bisift.filter.minhash import Shingles
    from bisift.filter.near import THRESHOLD, NearDuplicates

    rows = texts.num_rows
    with tempfile.TemporaryDirectory() as folder, NearDuplicates(Path(folder)) as near:
        near.add(texts.column("source"), texts.column("target"))
        close_N, _ = near.find(np.arange(rows))
    shingles = Shingles.of(texts.column("source"), texts.column("target"))
    size_N = np.diff(shingles.offsets)
    _, column_T = np.unique(shingles.hash_T, return_inverse=True)
    sets = sparse.csr_matrix((np.ones(len(column_T), np.float32), column_T, shingles.offsets))
    exact_N = np.zeros(rows, bool)
    for start in range(0, rows, 1_000):
        shared = (sets[start : start + 1_000] @ sets.T).tocoo()
        one, other = shared.row + start, shared.col
        close = shared.data >= THRESHOLD * (size_N[one] + size_N[other] - shared.data)
        exact_N[one[close & (other < one)]] = True
    return int(np.count_nonzero(exact_N & (close_N >= 0))), int(np.count_nonzero(exact_N))


def _write_distinct(path: Path, base: pa.Table, rows: int) -> None:
    """Write `rows` scored rows made of copies of `base`; each copy has words of its own, so copies are not alike."""
    rng = np.random.default_rng(7)
    base = base.filter(base.column("drop_reason").is_null())
    with pq.ParquetWriter(path, base.schema, compression="zstd", compression_level=1) as file:
        for copy in range(-(-rows // base.num_rows)):
            part = base.slice(0, rows - copy * base.num_rows)
            for name in ("source", "target"):
                text = pc.replace_substring_regex(part.column(name), r"(\pL{3,})", rf"\1{copy}")
                part = part.set_column(part.schema.get_field_index(name), name, text)
            ids = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(16), part.num_rows, [None, pa.py_buffer(rng.bytes(16 * part.num_rows))]
            )
            part = part.set_column(part.schema.get_field_index("pair_id"), part.schema.field("pair_id"), ids)
            file.write_table(part.cast(base.schema), row_group_size=65_536)
