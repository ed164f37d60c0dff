"""`filter-cli rank`: from scored pairs to globally ranked shards."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from bisift.commands import Command, option
from bisift.filter.cli import params
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import on_interruption

if TYPE_CHECKING:
    from bisift.filter.ranking import RankResult

ORDERS = ("quality", "human", "combined", "random", "mixed")
ORDER, RUN = "Order", "Run"


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
@option(
    "--shards",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    section="Output",
    help="How many shards to write; rank runs on from one to the next.",
)
@option("--json", "as_json", is_flag=True, section="Output", help="Print the result as one JSON object on stdout.")
@option(
    "--order",
    type=click.Choice(ORDERS),
    default="combined",
    show_default=True,
    section=ORDER,
    help="quality: best first. human: least machine-like first. combined: quality × (1 − ai_probability). "
    "random: by --seed. mixed: each generator by combined, interleaved by --share.",
)
@option("--seed", type=int, default=0, show_default=True, metavar="S", section=ORDER, help="Seed of --order random.")
@option(
    "--share",
    "shares",
    multiple=True,
    type=params.Share(),
    callback=params.unique_names,
    metavar="NAME=SHARE",
    section=ORDER,
    help="A generator's share of the rows in --order mixed, such as human=0.3 (repeatable; default: all equal).",
)
@option("--keep-dropped", is_flag=True, section=ORDER, help="Put dropped pairs after all kept ones.")
@option(
    "--memory",
    type=params.Size(),
    default="1GiB",
    show_default=True,
    metavar="SIZE",
    section=RUN,
    help="What does not fit is sorted on disk.",
)
def rank(inputs: tuple[str, ...], output: str, as_json: bool, **settings: Any) -> None:
    """Rank the pairs of SCORED... over all files together and write them into shards, best first, to DIR.

    SCORED is a file or a folder that score or rank wrote. The shards depend only on the pairs and on the order, seed,
    shares and number of shards, to the byte.
    """
    if settings["shares"] and settings["order"] != "mixed":
        raise click.UsageError("--share needs --order mixed")
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
