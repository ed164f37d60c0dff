"""`trainer-cli export`: a checkpoint for another engine."""

from __future__ import annotations

from pathlib import Path

import click

from bisift.commands import Command, option
from bisift.outcome import on_interruption
from bisift.trainer.cli.common import load_checkpoint, need_torch


@click.command(
    cls=Command,
    short_help="Write a model for CTranslate2 or ONNX.",
    examples=(
        "trainer-cli export best.pt --to ctranslate2 --quantization int8 -o model/",
        "trainer-cli export best.pt --to onnx -o model-onnx/",
    ),
)
@click.argument("checkpoint", type=click.Path(), metavar="CHECKPOINT")
@option("--to", required=True, type=click.Choice(("ctranslate2", "onnx")), section="Model", help="The engine.")
@option(
    "--quantization",
    default="float32",
    show_default=True,
    metavar="TYPE",
    section="Model",
    help="CTranslate2's: float32, int8, int8_float32, int16, float16, bfloat16.",
)
@option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    section="Model",
    help="A new folder: the model and vocabulary.model.",
)
def export(checkpoint: str, to: str, quantization: str, output: str) -> None:
    """Export CHECKPOINT. Input and output are sentencepiece pieces of vocabulary.model, which lies beside the model.

    If it was trained with quality tags, tag.json beside them names the piece to put before each source.
    """
    on_interruption("nothing was written")
    need_torch()

    from bisift.trainer.export import export as write

    path = write(load_checkpoint(checkpoint), Path(output.rstrip("/")), to=to, quantization=quantization)
    click.echo(f"exported {checkpoint} to {to} -> {path}", err=True)
