"""`filter-cli compare`: two scored versions of the same pairs."""

from __future__ import annotations

import json

import click

from bisift.commands import Command, option
from bisift.filter.cli import params
from bisift.filter.terminal import Summary, Terminal, duration

OUTPUT = "Output"


@click.command(
    cls=Command,
    short_help="Say what changed between two scorings of the same pairs.",
    examples=(
        "filter-cli compare old.parquet new.parquet",
        "filter-cli compare default-profile.parquet my-profile.parquet -o changes.html",
        "filter-cli compare old/ new/ --json | jq .flips",
    ),
)
@click.argument("first", type=params.Place(), metavar="FIRST")
@click.argument("second", type=params.Place(), metavar="SECOND")
@option("-o", "--output", type=params.Place(), metavar="FILE.html", section=OUTPUT, help="One HTML file, with samples.")
@option(
    "--samples",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    metavar="N",
    section=OUTPUT,
    help="Pairs to show of each kind of changed verdict.",
)
@option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="S", section=OUTPUT, help="Of samples.")
@option("--json", "as_json", is_flag=True, section=OUTPUT, help="Print the comparison as one JSON object on stdout.")
def compare(first: str, second: str, output: str | None, samples: int, seed: int, as_json: bool) -> None:
    """Compare the scores and verdicts of FIRST and SECOND, pair by pair.

    Both are files or folders that score, rank or dedup wrote, of the same text: before and after a new model, profile
    or version. Pairs are matched by their content and languages (pair_id).
    """
    from bisift.filter.comparing import compare as run
    from bisift.filter.comparing import render
    from bisift.filter.report.markup import write_page

    terminal = Terminal()
    found = run(first, second, samples, seed)
    for warning in found.warnings:
        terminal.warn(warning)
    if output is not None:
        write_page(render(found), output, (first, second))
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
        return
    for text in found.provenance.values():
        terminal.line(text)
    summary = Summary(terminal, found.pairs)
    summary.add("pairs in both", found.pairs)
    summary.add("only in the first", found.only_first, level=1)
    summary.add("only in the second", found.only_second, level=1)
    summary.add("kept before", found.kept_first, level=1)
    summary.add("kept now", found.kept_second, level=1)
    summary.add("verdict changed", sum(found.flips.values()), level=1, colour="yellow")
    for (before, now), count in found.flips.items():
        summary.add(f"{before} -> {now}", count, level=2)
    summary.show()
    for name, change in found.scores.items():
        correlation = "-" if change.spearman is None else f"{change.spearman:.4f}"
        terminal.line(
            f"{name}: mean {change.mean_first:.4f} -> {change.mean_second:.4f}, mean absolute difference "
            f"{change.mean_absolute_difference:.4f}, {change.changed:,} changed, Spearman {correlation}"
        )
    place = f" -> {output}" if output is not None else ""
    terminal.line(f"compared {found.pairs:,} pairs in {duration(found.seconds)}{place}")
