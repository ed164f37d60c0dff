"""`trainer-cli translate`: a file in, its translation out."""

from __future__ import annotations

import time
from typing import Any

import click
from click.core import ParameterSource

from bisift.commands import Command, option
from bisift.outcome import on_interruption
from bisift.trainer.cli.common import (
    STANDARD,
    need_torch,
    progress,
    read_input,
    search_config,
    search_options,
    translator_of,
    warn_of_cuts,
    write_output,
)


@click.command(
    cls=Command,
    short_help="Translate a file, line by line.",
    examples=(
        "trainer-cli translate runs/first/checkpoints/best.pt -i news.en -o news.de",
        "trainer-cli translate best.pt --beam 1 < news.en > news.de",
        "trainer-cli translate best.pt --samples 16 --mbr -i news.en -o news.de",
    ),
)
@click.argument("checkpoint", type=click.Path(), metavar="CHECKPOINT")
@option(
    "-i",
    "--input",
    "source",
    default=STANDARD,
    show_default=True,
    metavar="FILE",
    section="Files",
    help="Segments, one a line.",
)
@option(
    "-o",
    "--output",
    default=STANDARD,
    show_default=True,
    metavar="FILE",
    section="Files",
    help="As many lines; with --samples N and no --mbr, N times as many.",
)
@option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    section="Sampling",
    help="Sample N translations instead of searching.",
)
@option("--mbr", is_flag=True, section="Sampling", help="Of the samples, write the one most like the others (chrF).")
@option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="T",
    section="Sampling",
    help="Below 1: closer to the likeliest.",
)
@option(
    "--epsilon",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.02,
    show_default=True,
    metavar="P",
    section="Sampling",
    help="Never draw a piece of less probability.",
)
@option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=1,
    show_default=True,
    metavar="S",
    section="Sampling",
    help="Seed of the samples.",
)
@search_options
def translate(checkpoint: str, source: str, output: str, **settings: Any) -> None:
    """Translate with CHECKPOINT. Without --mbr, samples stand on N lines a segment, one after the other."""
    context = click.get_current_context()
    for name in ("mbr", "temperature", "epsilon", "seed"):
        if not settings["samples"] and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} is about samples: give --samples N, too")
    on_interruption("nothing was written")
    need_torch()

    from bisift.trainer.decoding import SampleConfig
    from bisift.trainer.evaluation import minimum_risk

    search = search_config(settings)
    lines = read_input(source)
    translator = translator_of(checkpoint, settings)
    started = time.perf_counter()
    if settings["samples"]:
        names = ("samples", "temperature", "epsilon", "seed")
        drawn = translator.samples(lines, SampleConfig(**{name: settings[name] for name in names}), search)
        out = (
            [minimum_risk(texts) for texts in drawn] if settings["mbr"] else [text for texts in drawn for text in texts]
        )
    else:
        with progress(len(lines)) as show:
            out = translator.translate(lines, search, show)
    write_output(output, out)
    seconds = time.perf_counter() - started
    rate = len(lines) / seconds if seconds else 0.0
    click.echo(f"translated {len(lines):,} segments in {seconds:.1f} s ({rate:,.0f} segments/s) -> {output}", err=True)
    warn_of_cuts(translator, lines, search)
