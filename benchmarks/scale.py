"""What a corpus costs on a cluster: cores, hours, money, memory and shuffled bytes, from the latest benchmark figures.

    python benchmarks/scale.py                                       one column for each of 1e8, 1e9 and 1e10 rows
    python benchmarks/scale.py --rows 5e9 --hours 6 --vcpu-price 0.04
    python benchmarks/scale.py --docs                                write the tables into docs/scale.md

It is a model (bench/scale.py), not a measurement; each of its assumptions is an option.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.results import RESULTS, ROOT
from bench.scale import MIB, Assumed, Measured, Model, ScaleError, read_measured

DOCS = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- tables: written by `python benchmarks/scale.py --docs` -->", "<!-- end of tables -->"
SCALES = (1e8, 1e9, 1e10)


def quantity(value: float) -> str:
    """Write a number for a table: three digits, large ones in full, and from a million on with M, G, T or P.

    >>> [quantity(value) for value in (0.0123, 4.567, 89.1, 1234.4, 5.67e9)]
    ['0.0123', '4.57', '89.1', '1,234', '5.67G']
    """
    if math.isinf(value):
        return "never"
    for power, letter in ((15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if value >= 0.9995 * 10**power:
            return f"{value / 10**power:.3g}{letter}"
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def tables(models: Sequence[Model]) -> str:
    """Return the inputs, what follows for each number of rows, and which process is full first, as Markdown."""
    measured, assumed = models[0].measured, models[0].assumed
    options = [
        (field.metadata["help"], quantity(getattr(assumed, field.name)), f"`--{field.name.replace('_', '-')}`")
        for field in dataclasses.fields(Assumed)
    ]
    counts = [quantity(model.rows) for model in models]
    results = [(name, *map(quantity, values)) for name, values in _results(models)]
    limits = models[0].limits()
    held = [
        (name, *(quantity(model.places()[name] / MIB) for model in models), quantity(limits[name]))
        for name in sorted(limits, key=lambda name: limits[name])
    ]
    place = f"MiB in one process, of {quantity(models[0].room / MIB)} that are left for it"
    return "\n\n".join(
        (
            _table(("measured", "", "benchmark, commit"), _inputs(measured)),
            _table(("assumed", "", "option"), options),
            _table(("rows", *counts), results),
            _table((place, *counts, "full at rows"), held),
        )
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _inputs(measured: Measured) -> list[tuple[str, str, str]]:
    found = [
        ("score, rows a CPU-second", measured.score_rate, "full"),
        ("score, MiB of a process", measured.score_mib, "full"),
        ("rank, rows a CPU-second", measured.rank_rate, "rank"),
        ("text, bytes a row", measured.text, "sizes"),
        ("scored Parquet, bytes a row", measured.parquet, "sizes"),
        ("scored, bytes a row in memory", measured.memory, "sizes"),
        ("scored, bytes a row in a large IPC slice", measured.ipc, "sizes"),
        ("an IPC slice, bytes beside its rows", measured.slice_bytes, "sizes"),
        ("an IPC slice of few rows, CPU-milliseconds", 1000 * measured.slice_cpu, "sizes"),
    ]
    return [(name, quantity(value), f"{source} {measured.commits.get(source, '')}") for name, value, source in found]


def _results(models: Sequence[Model]) -> Iterable[tuple[str, list[float]]]:
    yield "core-hours: score", [one.score_hours for one in models]
    yield "core-hours: rank, but for its slices", [one.rank_hours for one in models]
    yield "core-hours: slices of rank", [one.slice_hours for one in models]
    yield "vCPU-hours to pay for", [one.paid_hours for one in models]
    yield f"workers of 1 vCPU for {quantity(models[0].assumed.hours)} h", [one.workers for one in models]
    yield "cost", [one.cost for one in models]
    yield "cost of a billion rows", [one.cost / one.rows * 1e9 for one in models]
    yield "the same, were slices free", [one.without_slices.cost / one.rows * 1e9 for one in models]
    yield "ranges, and so parts, of score", [one.ranges for one in models]
    yield "shards", [one.shards for one in models]
    yield "rows in a slice of rank", [one.rows / one.slices for one in models]
    for step, all_shuffles in (
        ("score", [one.score_shuffles() for one in models]),
        ("rank", [one.rank_shuffles() for one in models]),
    ):
        for name in all_shuffles[0]:
            values = [one[name] / model.rows for one, model in zip(all_shuffles, models, strict=True)]
            yield f"{step} shuffles, bytes a row: {name}", values
        total = [sum(one.values()) / model.rows for one, model in zip(all_shuffles, models, strict=True)]
        yield f"{step} shuffles, bytes a row", total
    yield "bytes stored: text", [one.rows * one.measured.text for one in models]
    yield "bytes stored: state of score, until it is done", [one.rows * one.measured.ipc for one in models]
    yield "bytes stored: scored, and ranked again", [2 * one.rows * one.measured.parquet for one in models]


def write_docs(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page.

    Raises:
        ScaleError: the page lacks the marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ScaleError(f"{page}: the marks of the tables are missing")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into the docs. Returns 1 where a figure is missing."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/scale.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=float, action="append", metavar="N", help="rows of a column (repeatable)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the figures are")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/scale.md")
    for field in dataclasses.fields(Assumed):
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(
            name, type=float, default=field.default, help=f"{field.metadata['help']} ({field.default:g})"
        )
    given = vars(parser.parse_args(arguments))
    rows, folder, docs = given.pop("rows") or list(SCALES), given.pop("results"), given.pop("docs")
    positive = ("hours", "overhead", "speed", "busy", "shard_mib", "rank_memory_mib")
    for name, value in (*given.items(), *(("rows", count) for count in rows)):
        above_0 = name in positive
        if not (math.isfinite(value) and (value > 0 if above_0 else value >= (name == "rows"))):
            bound = "above 0" if above_0 else f"of at least {int(name == 'rows')}"
            parser.error(f"--{name.replace('_', '-')}: {value:g} is not a number {bound}")
    try:
        measured, assumed = read_measured(folder), Assumed(**given)
        text = tables([Model(count, measured, assumed) for count in rows])
        if docs:
            write_docs(DOCS, text)
        else:
            print(text)
    except ScaleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
