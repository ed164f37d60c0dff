"""filter-cli. Nothing heavy is imported before a command runs, so that every `--help` is quick."""

from __future__ import annotations

import click

from bisift import __version__
from bisift.commands import Commands
from bisift.filter.cli.compare import compare
from bisift.filter.cli.completion import completion
from bisift.filter.cli.dedup import dedup
from bisift.filter.cli.explain import explain
from bisift.filter.cli.rank import rank
from bisift.filter.cli.report import report
from bisift.filter.cli.rules import rules
from bisift.filter.cli.score import score
from bisift.filter.cli.select import select

PROGRAM = "filter-cli"


@click.group(
    name=PROGRAM,
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    examples=(
        "filter-cli score crawl.tsv.gz --source-lang en --target-lang it -o scored.parquet",
        "filter-cli rank scored.parquet --order combined --shards 8 -o ranked/",
        "filter-cli select scored.parquet --min-quality 0.6 --max-ai-probability 0.4 --to moses -o corpus",
        "filter-cli report scored.parquet -o report.html",
        'filter-cli explain --source "Mind the gap." --target "Attenti al vuoto." --source-lang en --target-lang it',
        "filter-cli rules > my-profile.yaml",
        'eval "$(filter-cli completion bash)"',
    ),
)
@click.version_option(__version__, "--version", prog_name="bisift", message="%(prog)s %(version)s")
def cli() -> None:
    """Score parallel text pair by pair, and rank it into shards to train on.

    For every pair: how likely its translation was written by a machine, how good it is, and which rules it breaks.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 finished with rejects (score --strict), 130 Ctrl-C, 143 SIGTERM.
    """


for command in (score, rank, select, dedup, report, compare, explain, rules, completion):
    cli.add_command(command)


def main() -> None:
    """Run filter-cli and exit with its code."""
    cli(prog_name=PROGRAM)
