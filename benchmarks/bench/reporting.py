"""Benchmark of `filter-cli report`: a million scored rows; and ten million, which must not make the page larger."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from bench.measure import best_of, cpu, run
from bench.ranking import write_scored
from bench.results import Figure, Target
from bench.workspace import Workspace

ROWS = (1_000_000, 10_000_000)
PAIRS_A_DOCUMENT = 20
MIB = 1 << 20


def report(space: Workspace) -> list[Figure]:
    """Report on made rows in documents of twenty: the page, what it costs and how large it is."""
    scored, page = space.folder / "many-scored.parquet", space.folder / "report.html"
    figures: list[Figure] = []
    for full in ROWS:
        rows = full * space.rows // 100_000  # --rows scales this benchmark, too
        write_scored(scored, pq.read_table(space.scored), rows, pairs_a_document=PAIRS_A_DOCUMENT)
        command: list[str | Path] = [space.cli, "report", scored, "-o", page]
        repeats = space.repeats if full == ROWS[0] else 1
        best = best_of(repeats, partial(run, command), key=cpu).measured
        measures = (
            ("CPU-seconds", best.cpu_s, "s", 60),
            ("peak of allocated memory (RssAnon)", best.rss_anon_mib, "MiB", 500),
            ("peak resident set (VmHWM)", best.vm_hwm_mib, "MiB", 500),
            ("size of the page", page.stat().st_size / MIB, "MiB", 5),
        )
        for name, value, unit, bound in measures:
            aimed = full == ROWS[0] or name == "size of the page"
            figures.append(
                Figure(
                    name=f"report of {rows:,} rows: {name}",
                    unit=unit,
                    value=value,
                    target=Target(bound=bound, kind="under") if aimed else None,
                    measured={"report": best},
                )
            )
    space.remove([scored, page])
    return figures
