"""`filter-cli dedup`: near duplicates, marked or left out."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from bisift.commands import Command, option
from bisift.filter.cli import params
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import on_interruption

WHAT, OUTPUT = "What counts", "Output"


def comparing(command: Any) -> Any:
    """Add the options that decide which pairs are marked."""
    for decorate in reversed(
        (
            option(
                "--by",
                type=click.Choice(("combined", "quality", "human", "random")),
                default="combined",
                show_default=True,
                section=WHAT,
                help="Which of two pairs is the better one: as the orders of rank.",
            ),
            option(
                "--threshold",
                type=click.FloatRange(0.5, 1),
                default=0.8,
                show_default=True,
                metavar="J",
                section=WHAT,
                help="Jaccard similarity from which two pairs are near duplicates.",
            ),
            option(
                "--max-variants",
                type=click.IntRange(min=1),
                metavar="N",
                section=WHAT,
                help="Drop a pair whose source stands with more than N different targets (many_targets), or its target "
                "with more than N sources (many_sources).",
            ),
        )
    ):
        command = decorate(command)
    return command


@click.command(
    cls=Command,
    short_help="Mark near duplicates among scored pairs.",
    examples=(
        "filter-cli dedup scored.parquet -o unique.parquet",
        "filter-cli dedup a.parquet b.parquet --remove --clusters clusters.jsonl -o unique/",
        "filter-cli dedup scored/ --max-variants 5 --by quality -o marked.parquet",
    ),
)
@click.argument("inputs", nargs=-1, required=True, type=params.Place(), metavar="SCORED...")
@option(
    "-o",
    "--output",
    required=True,
    type=params.Place(),
    metavar="OUTPUT",
    section=OUTPUT,
    help="By its ending, as of score; all columns, and four more (extra_...).",
)
@option("--remove", is_flag=True, section=OUTPUT, help="Leave every dropped pair out, those of rules too.")
@option(
    "--clusters",
    type=params.Place(),
    metavar="FILE",
    section=OUTPUT,
    help="Write the 100 largest clusters with their texts, as JSON lines.",
)
@option("--json", "as_json", is_flag=True, section=OUTPUT, help="Print the result as one JSON object on stdout.")
@comparing
def dedup(inputs: tuple[str, ...], output: str, as_json: bool, **settings: Any) -> None:
    """Mark the pairs of SCORED... that a better pair nearly equals: drop_reason near_duplicate.

    Compared are the sets of words and of neighbouring words of both sides. The best pair of each cluster stays. Pairs
    that a rule dropped take no part. Which file or row comes first changes nothing. Of the pairs that MinHash puts into
    one bucket each is compared with the 16 best alone, so that time grows no faster than the number of pairs.
    """
    on_interruption("nothing was published; give the same command again")

    from bisift.filter.dedup import DedupOptions, dedup_files

    terminal = Terminal()
    result = dedup_files(inputs, output, DedupOptions(**settings))
    for warning in result.warnings:
        terminal.warn(warning)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)), err=output == "-")
        return
    summary = Summary(terminal, result.rows_in)
    summary.add("pairs", result.rows_in)
    summary.add("compared (kept by the rules)", result.compared, level=1)
    summary.add_all(result.marked, level=2)
    summary.add("written", result.rows, level=1)
    summary.show()
    terminal.line(f"{result.clusters:,} clusters, the largest of {result.largest:,} pairs")
    if result.clusters_file:
        terminal.line(f"clusters: {result.clusters_file}")
    terminal.line(f"compared {result.compared:,} pairs in {duration(result.seconds)} -> {result.output}")
