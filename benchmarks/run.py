"""Run benchmarks: `python benchmarks/run.py [NAME...]`. What they measure and how to read it: docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.desk import dedup, select
from bench.jobs import growth, pipelines, simulation
from bench.language import language
from bench.measure import BenchmarkError
from bench.ranking import rank
from bench.readers import readers
from bench.reporting import report
from bench.results import DOCS, RESULTS, Figure, append, record, write_docs
from bench.scoring import full, large, rules, workers
from bench.sizes import sizes
from bench.startup import startup
from bench.streaming import stream
from bench.training import training
from bench.workspace import Workspace

BENCHMARKS: dict[str, Callable[[Workspace], list[Figure]]] = {
    "startup": startup,
    "workers": workers,
    "full": full,
    "rules": rules,
    "language": language,
    "readers": readers,
    "rank": rank,
    "select": select,
    "dedup": dedup,
    "report": report,
    "pipelines": pipelines,
    "sizes": sizes,
    "trainer": training,
    "large": large,
    "growth": growth,
    "simulation": simulation,
    "stream": stream,
}
LONG = ("large", "growth", "simulation", "stream")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks asked for, print and keep their figures. Returns 1 where one of them could not run."""
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("--large", action="store_true", help=f"with all others, run {', '.join(LONG)}, too")
    parser.add_argument("--rows", type=int, default=100_000, metavar="N", help="pairs to measure on (100,000)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of which the best counts (3)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where JSON lines are kept")
    parser.add_argument("--docs", action="store_true", help="only write the latest figures into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    if options.docs:
        write_docs(options.results, DOCS)
        return 0
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    if options.rows < 1 or options.repeats < 1:
        parser.error("--rows and --repeats must be at least 1")
    names = options.names or [name for name in BENCHMARKS if options.large or name not in LONG]
    failed = False
    with tempfile.TemporaryDirectory(prefix="bisift-bench-") as folder:
        space = Workspace(Path(folder), rows=options.rows, repeats=options.repeats)
        for name in names:
            failed |= not _run(name, space, options.results)
    return int(failed)


def _run(name: str, space: Workspace, results: Path) -> bool:
    """Run one benchmark; say whether it could."""
    load, start = os.getloadavg()[0], time.perf_counter()
    try:
        figures = BENCHMARKS[name](space)
    except BenchmarkError as error:
        print(f"{name:<8} could not run: {error}", file=sys.stderr)
        return False
    for figure in figures:
        print(figure.line(name), flush=True)
    data = f"{space.sample.name}; {space.rows:,} pairs"
    append(results, record(name, figures, data=data, load=load))
    print(f"{name:<8} took {time.perf_counter() - start:.0f} s, load {load:.2f} at its start", file=sys.stderr)
    return True


if __name__ == "__main__":
    sys.exit(main())
