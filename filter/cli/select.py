"""`filter-cli select`: the pairs that are wanted, out of scored ones."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from bisift.commands import Command, option
from bisift.filter.cli import params
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import on_interruption

THRESHOLDS, BEST, OUTPUT = "Thresholds", "Which of those that pass", "Output"


@click.command(
    cls=Command,
    short_help="Take the pairs that are wanted out of scored ones.",
    examples=(
        "filter-cli select scored.parquet --min-quality 0.6 --max-ai-probability 0.4 -o chosen.parquet",
        "filter-cli select scored/ --top-tokens 10000000 --to moses -o corpus",
        "filter-cli select scored.parquet --quota origin=50000 --share 0.5 --by quality -o balanced.jsonl.gz",
        "filter-cli select scored.parquet --diverse 100000 --min-quality 0.5 -o diverse.parquet",
        "filter-cli select scored.parquet --sample 200 --per drop_reason -o to-review.jsonl",
        "filter-cli select ranked/ --top-pairs 1000000 --to tsv -o - | head",
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
    help="File, folder/ (Parquet) or - (stdout).",
)
@option(
    "--to",
    "--format",
    "form",
    type=click.Choice(("parquet", "tsv", "moses", "jsonl")),
    section=OUTPUT,
    help="By default what OUTPUT ends in. parquet, jsonl: all columns. tsv: source and target alone, no header. "
    "moses: OUTPUT.en and OUTPUT.it.",
)
@option(
    "--json",
    "as_json",
    is_flag=True,
    section=OUTPUT,
    help="Print the result as one JSON object on stdout (stderr with -o -).",
)
@option(
    "--min-quality",
    type=click.FloatRange(0, 1),
    metavar="Q",
    section=THRESHOLDS,
    help="Only pairs of at least this quality.",
)
@option(
    "--max-ai-probability",
    type=click.FloatRange(0, 1),
    metavar="P",
    section=THRESHOLDS,
    help="Only pairs of at most this ai_probability.",
)
@option("--keep-dropped", is_flag=True, section=THRESHOLDS, help="Take pairs that a rule dropped, too.")
@option(
    "--by",
    type=click.Choice(("combined", "quality", "human")),
    default="combined",
    show_default=True,
    section=BEST,
    help="What best means: as the orders of rank.",
)
@option(
    "--quota",
    "quotas",
    multiple=True,
    type=params.Quota(),
    metavar="COLUMN=N",
    section=BEST,
    help="At most the N best pairs of every value of origin, generator, source_lang, target_lang, document_id or an "
    "extra_ column (repeatable: each takes from what the one before left).",
)
@option("--top-pairs", type=click.IntRange(min=1), metavar="N", section=BEST, help="The N best pairs.")
@option(
    "--top-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    section=BEST,
    help="The best pairs up to N target tokens (words; a CJK character each).",
)
@option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="F",
    section=BEST,
    help="The best share of the pairs, such as 0.2.",
)
@option(
    "--diverse",
    type=click.IntRange(min=1),
    metavar="N",
    section=BEST,
    help="N pairs whose targets together hold the most distinct n-grams of 1 to 3 tokens.",
)
@option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    section=BEST,
    help="N pairs at random (with --per: N of every value).",
)
@option(
    "--per",
    metavar="COLUMN",
    section=BEST,
    help="What --sample is stratified by: as --quota, or drop_reason (then dropped pairs are taken, too).",
)
@option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="S", section=BEST, help="Of --sample.")
def select(inputs: tuple[str, ...], output: str, form: str | None, as_json: bool, **settings: Any) -> None:
    """Write the pairs of SCORED... that pass the thresholds to OUTPUT, in the order in which they stand.

    SCORED is a file or a folder that score or rank wrote. Quotas come after the thresholds, and the best, the most
    diverse or a sample are taken of what they leave. Equal scores are decided as rank does, so the result does not
    depend on the order of the inputs.
    """
    on_interruption("nothing was published; give the same command again")

    from bisift.filter.selecting import SelectOptions, select_files

    terminal = Terminal()
    result = select_files(inputs, output, SelectOptions(**settings), form)
    for warning in result.warnings:
        terminal.warn(warning)
    if result.characters_replaced:
        terminal.warn(f"{result.characters_replaced:,} tabs and line breaks inside texts became spaces")
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)), err=output == "-")
        return
    summary = Summary(terminal, result.rows_in)
    summary.add("pairs", result.rows_in)
    summary.add("selected", result.rows, level=1, colour="green")
    summary.show()
    summary = Summary(terminal, result.tokens_in)
    summary.add("target tokens", result.tokens_in)
    summary.add("selected", result.tokens, level=1, colour="green")
    summary.show()
    places = ", ".join(result.files) or "stdout"
    terminal.line(f"selected {result.rows:,} of {result.rows_in:,} pairs in {duration(result.seconds)} -> {places}")
