"""trainer-cli. Nothing heavy is imported before a command runs, so that every `--help` is quick."""

from __future__ import annotations

import click

from bisift import __version__
from bisift.commands import Commands
from bisift.trainer.cli.average import average
from bisift.trainer.cli.evaluate import evaluate
from bisift.trainer.cli.export import export
from bisift.trainer.cli.train import train
from bisift.trainer.cli.translate import translate

PROGRAM = "trainer-cli"


@click.group(
    name=PROGRAM,
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    examples=(
        "trainer-cli train run.yaml data=ranked/ output=runs/first",
        "trainer-cli evaluate runs/first/checkpoints/best.pt --source test.en --reference test.de",
        "trainer-cli translate runs/first/checkpoints/best.pt -i test.en -o test.hyp.de",
        "trainer-cli average runs/first -o averaged.pt",
        "trainer-cli export averaged.pt --to ctranslate2 --quantization int8 -o model/",
    ),
)
@click.version_option(__version__, "--version", prog_name="bisift", message="%(prog)s %(version)s")
def cli() -> None:
    """Train translation models from ranked shards in curriculum order, translate, and measure in BLEU.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
    """


for command in (train, translate, evaluate, average, export):
    cli.add_command(command)


def main() -> None:
    """Run trainer-cli and exit with its code."""
    cli(prog_name=PROGRAM)
