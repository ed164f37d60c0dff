"""`trainer-cli average`: one checkpoint from several."""

from __future__ import annotations

from pathlib import Path

import click

from bisift.commands import Command, option
from bisift.errors import BisiftError, ConfigError
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

    from bisift.trainer.checkpoint import BEST_NAME, Folder
    from bisift.trainer.checkpoint import average as mean
    from bisift.trainer.setup import CONFIG_NAME

    target = Path(output)
    if target.is_dir():
        raise ConfigError(f"{output}: is a folder: name a file, such as {target / 'averaged.pt'}")
    run = target.resolve().parent.parent
    in_run = (run / CONFIG_NAME).exists() and target.resolve().parent == Folder(run, 1).path
    if in_run and (target.name == BEST_NAME or target.match("update-????????.pt")):
        raise ConfigError(f"{output}: is the run's own, which goes on from it: name another file")
    paths: list[Path] = []
    for given in checkpoints:
        if not Path(given).is_dir():
            paths.append(Path(given))
            continue
        found = Folder(Path(given), 1).all()
        if not found:
            raise ConfigError(f"{given}: holds no checkpoints: it is not the output of trainer-cli train")
        paths += found[-last:] if last else found
    averaged = mean(paths)
    try:
        averaged.save(target)
    except BisiftError as error:
        reason = getattr(error.__cause__, "strerror", None) or "the disk is full or refuses"
        raise BisiftError(f"{output}: the average could not be written: {reason}") from error
    click.echo(f"averaged {len(paths):,} checkpoints -> {output}", err=True)
