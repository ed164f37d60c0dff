"""`trainer-cli train`: from ranked shards to checkpoints."""

from __future__ import annotations

import dataclasses
import json
import os

import click

from bisift.commands import Command, option
from bisift.outcome import on_interruption
from bisift.trainer.cli.common import need_torch


@click.command(
    cls=Command,
    short_help="Train a model from ranked shards, or go on with a run.",
    examples=(
        "trainer-cli train run.yaml",
        "trainer-cli train run.yaml data=ranked/ output=runs/big model.size=big optimizer.learning_rate=5e-4",
        "trainer-cli train run.yaml curriculum='{name: competence, epochs: 5}'",
        "trainer-cli train run.yaml output=runs/tuned --init-from runs/first/checkpoints/best.pt",
        "torchrun --nproc-per-node 8 -m bisift.trainer train run.yaml micro_batches=8",
    ),
)
@click.argument("config", type=click.Path(), metavar="CONFIG")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@option("--init-from", metavar="CHECKPOINT", section="Run", help="Begin with its weights and vocabulary (fine-tuning).")
@option("--restart", is_flag=True, section="Run", help="Remove the run that stands in the output and begin anew.")
@option("--json", "as_json", is_flag=True, section="Run", help="Print the result as one JSON object on stdout.")
def train(config: str, overrides: tuple[str, ...], init_from: str | None, restart: bool, as_json: bool) -> None:
    """Train as the YAML file CONFIG says; KEY=VALUE changes a key of it, with dots for what is nested.

    Given again after an interruption, the same command goes on after the last checkpoint, as if nothing had happened.
    """
    again = "the command without --restart" if restart else "the same command"
    on_interruption(f"give {again} again to go on after the last checkpoint")
    need_torch()

    from bisift.trainer.config import load_config
    from bisift.trainer.loop import train as run

    if init_from is not None:
        overrides = (*overrides, f"init_from={json.dumps(init_from)}")
    result = run(load_config(config, overrides), restart=restart)
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result), allow_nan=False))
    best = (
        ""
        if result.best_bleu is None
        else f", best validation BLEU {result.best_bleu:.2f} after {result.best_update:,}"
    )
    skipped = f", {result.skipped:,} draws too long or empty left out" if result.skipped else ""
    click.echo(
        f"trained {result.updates - result.resumed_at:,} updates to {result.updates:,} "
        f"({result.target_tokens:,} target tokens{skipped}) in {result.seconds:.0f} s{best} -> {result.checkpoint}",
        err=True,
    )
