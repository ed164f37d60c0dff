"""Benchmarks of what the data owner does with scored files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from bench.measure import best_of, cpu, run
from bench.ranking import write_scored
from bench.results import Figure, Target
from bench.workspace import Workspace

SELECT_ROWS = 3_000_000


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
