"""`filter-cli rank`: from scored pairs to globally ranked shards."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from bisift.commands import Command, option
from bisift.filter.cli import params
from bisift.filter.cli.ordering import check, ordering
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import on_interruption

if TYPE_CHECKING:
    from bisift.filter.ranking import RankResult


@click.command(
    cls=Command,
    short_help="Rank scored pairs into shards, best first.",
    examples=(
        "filter-cli rank scored.parquet -o ranked/",
        "filter-cli rank scored/ --order human --shards 64 -o human-first/",
        "filter-cli rank a.parquet b.parquet --order mixed --share human=0.5 --share gpt-4=0.5 -o mixed/",
        "filter-cli rank 'scored/*.parquet' --order random --seed 7 --memory 4GiB -o shuffled/",
    ),
)
@click.argument("inputs", nargs=-1, required=True, type=params.Place(), metavar="SCORED...")
@option(
    "-o",
    "--output",
    required=True,
    type=params.Place(),
    metavar="DIR",
    section="Output",
    help="Folder for shard-00000-of-0000N.parquet ... and manifest.json.",
)
@option("--json", "as_json", is_flag=True, section="Output", help="Print the result as one JSON object on stdout.")
@ordering
def rank(inputs: tuple[str, ...], output: str, as_json: bool, **settings: Any) -> None:
    """Rank the pairs of SCORED... over all files together and write them into shards, best first, to DIR.

    SCORED is a file or a folder that score or rank wrote. The shards depend only on the pairs and on the order, seed,
    shares and number of shards, to the byte.
    """
    check(settings)
    on_interruption("nothing was published; give the same command again")

    from bisift.filter.ranking import RankOptions, rank_files

    terminal = Terminal()
    with terminal.progress() as progress:
        result = rank_files(inputs, output, RankOptions(**settings), progress)
    for warning in result.warnings:
        terminal.warn(warning)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    else:
        _show(result, terminal)
        _show_diversity(result, terminal)
    rate = result.rows / result.seconds if result.seconds > 0 else 0.0
    terminal.line(
        f"ranked {result.rows:,} pairs in {duration(result.seconds)} ({rate:,.0f} pairs/s, cpu) "
        f"-> {len(result.shards):,} shards in {result.output}"
    )


def _show(result: RankResult, terminal: Terminal) -> None:
    summary = Summary(terminal, result.rows_in)
    summary.add("scored pairs", result.rows_in)
    summary.add("ranked", result.rows, level=1, colour="green")
    summary.add("left out, dropped by a rule", result.rows_in - result.rows, level=1, colour="yellow")
    summary.show()


def _show_diversity(result: RankResult, terminal: Terminal) -> None:
    if not result.diversity:
        return
    terminal.line(f"lexical diversity of the first pairs, order {result.order} (random order in brackets):")
    rows: list[tuple[str, ...]] = [("pairs", "", "MTLD", "distinct-1", "distinct-2")]
    for prefix in result.diversity:
        both = (
            (prefix.ordered.mtld, prefix.random.mtld),
            (prefix.ordered.distinct[0], prefix.random.distinct[0]),
            (prefix.ordered.distinct[1], prefix.random.distinct[1]),
        )
        rows.append(
            (
                f"{prefix.pairs:,}",
                f"{prefix.share:.0%}",
                *(f"{_figure(one)} ({_figure(other)})" for one, other in both),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        terminal.line("  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"
