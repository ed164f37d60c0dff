"""`filter-cli report`: what is in scored files, as one page."""

from __future__ import annotations

import json

import click

from bisift.commands import Command, option
from bisift.filter.cli import params
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import on_interruption

OUTPUT = "Output"


@click.command(
    cls=Command,
    short_help="Show what is in scored files, and what thresholds would cost.",
    examples=(
        "filter-cli report scored.parquet -o report.html",
        "filter-cli report 'scored/*.parquet' --samples 20 --seed 7 -o report.html",
        "filter-cli report scored.parquet -o report.html --json | jq .rules",
    ),
)
@click.argument("inputs", nargs=-1, required=True, type=params.Place(), metavar="SCORED...")
@option(
    "-o",
    "--output",
    required=True,
    type=params.Place(),
    metavar="FILE.html",
    section=OUTPUT,
    help="The page, or - for stdout. It loads nothing and holds samples of the text.",
)
@option(
    "--samples",
    type=click.IntRange(0, 50),
    default=5,
    show_default=True,
    metavar="N",
    section=OUTPUT,
    help="Pairs to show of each drop_reason and of the kept ones.",
)
@option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="S", section=OUTPUT, help="Of samples.")
@option(
    "--json",
    "as_json",
    is_flag=True,
    section=OUTPUT,
    help="Print the figures as one JSON object on stdout (stderr with -o -).",
)
def report(inputs: tuple[str, ...], output: str, samples: int, seed: int, as_json: bool) -> None:
    """Write one HTML page about the pairs of SCORED...: distributions, rules, diversity, samples, and a desk on which
    two sliders show what a quality and an ai_probability threshold would leave, with the select command that takes it.

    SCORED is a file or a folder that score, rank, select or dedup wrote.
    """
    on_interruption("nothing was published; give the same command again")

    from bisift.filter.report.facts import gather
    from bisift.filter.report.markup import write_page
    from bisift.filter.report.page import render

    terminal = Terminal()
    found = gather(inputs, samples, seed)
    for warning in found.warnings:
        terminal.warn(warning)
    write_page(render(found), output, inputs)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False), err=output == "-")
        return
    summary = Summary(terminal, found.pairs)
    summary.add("pairs", found.pairs)
    summary.add("kept", found.kept, level=1, colour="green")
    for rule in found.rules[:5]:
        if rule.first:
            summary.add(rule.id, rule.first, level=1)
    summary.show()
    terminal.line(f"reported {found.pairs:,} pairs in {duration(found.seconds)} -> {output}")
