"""`trainer-cli average`: one checkpoint from several."""

from __future__ import annotations

from pathlib import Path

import click

from bisift.commands import Command, option
from bisift.errors import ConfigError
from bisift.trainer.cli.common import need_torch


@click.command(
    cls=Command,
    short_help="Average the weights of checkpoints.",
    examples=(
        "trainer-cli average runs/first -o averaged.pt",
        "trainer-cli average runs/first --last 10 -o averaged.pt",
        "trainer-cli average a.pt b.pt c.pt -o averaged.pt",
    ),
)
@click.argument("checkpoints", nargs=-1, required=True, metavar="RUN|CHECKPOINT...")
@option("-o", "--output", required=True, metavar="FILE", section="Files", help="The averaged checkpoint.")
@option(
    "--last",
    type=click.IntRange(min=1),
    metavar="N",
    section="Files",
    help="Of a run, its N latest (default: all that it kept).",
)
def average(checkpoints: tuple[str, ...], output: str, last: int | None) -> None:
    """Write a checkpoint with the mean weights of those given, or of those that a RUN's folder holds."""
    need_torch()

    from bisift.trainer.checkpoint import Folder
    from bisift.trainer.checkpoint import average as mean

    paths: list[Path] = []
    for given in checkpoints:
        if not Path(given).is_dir():
            paths.append(Path(given))
            continue
        found = Folder(Path(given), 1).all()
        if not found:
            raise ConfigError(f"{given}: holds no checkpoints: it is not the output of trainer-cli train")
        paths += found[-last:] if last else found
    mean(paths).save(Path(output))
    click.echo(f"averaged {len(paths):,} checkpoints -> {output}", err=True)
