"""`trainer-cli evaluate`: BLEU and chrF of systems on one test set, with signatures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bisift.commands import Command, option
from bisift.trainer.cli.common import (
    need_torch,
    progress,
    read_input,
    search_config,
    search_options,
    translator_of,
)


@click.command(
    cls=Command,
    short_help="Score checkpoints and translations with BLEU and chrF.",
    examples=(
        "trainer-cli evaluate runs/first/checkpoints/best.pt --source test.en --reference test.de",
        "trainer-cli evaluate a.pt b.pt --source test.en --reference test.de --json",
        "trainer-cli evaluate --system baseline=old.de --system new=new.de --reference test.de",
    ),
)
@click.argument("checkpoints", nargs=-1, metavar="[CHECKPOINT]...")
@option("--source", metavar="FILE", section="Files", help="Segments that the checkpoints translate, one a line.")
@option("--reference", required=True, metavar="FILE", section="Files", help="Their references.")
@option(
    "--system",
    "systems",
    multiple=True,
    metavar="NAME=FILE",
    section="Files",
    help="A finished translation to score, too (repeatable).",
)
@option("--lowercase", is_flag=True, section="Metrics", help="Compare without case.")
@option(
    "--tokenize",
    default="13a",
    show_default=True,
    metavar="NAME",
    section="Metrics",
    help="BLEU's tokenizer: 13a, intl, zh, ja-mecab, ko-mecab, char, none.",
)
@option(
    "--resamples",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="N",
    section="Metrics",
    help="Resamples of the paired bootstrap, with several systems.",
)
@option("--json", "as_json", is_flag=True, section="Metrics", help="Print the scores as one JSON object on stdout.")
@search_options
def evaluate(checkpoints: tuple[str, ...], systems: tuple[str, ...], reference: str, **settings: Any) -> None:
    """Translate the source with each CHECKPOINT and score it; with several systems, test against the first of them."""
    if checkpoints and not settings["source"]:
        raise click.UsageError("a checkpoint needs --source")
    if not checkpoints and not systems:
        raise click.UsageError("give a checkpoint, or --system NAME=FILE")
    need_torch()

    from bisift.trainer.evaluation import as_json as plain
    from bisift.trainer.evaluation import check_parallel, compare, metrics

    metrics(tokenize=settings["tokenize"])
    references = read_input(reference)
    outputs: dict[str, list[str]] = {}
    for system in systems:
        name, equals, path = system.partition("=")
        if not (name and equals and path) or name in outputs:
            raise click.BadParameter(f"{system!r} is not NAME=FILE with a name of its own", param_hint="--system")
        outputs[name] = read_input(path)
        check_parallel(references, outputs[name], (reference, path))
    if checkpoints:
        sources = read_input(settings["source"])
        check_parallel(references, sources, (reference, settings["source"]))
        for path in checkpoints:
            translator = translator_of(path, settings)
            with progress(len(sources)) as show:
                outputs[path] = translator.translate(sources, search_config(settings), show)
    scores = compare(
        outputs,
        references,
        lowercase=settings["lowercase"],
        tokenize=settings["tokenize"],
        resamples=settings["resamples"],
    )
    if settings["as_json"]:
        click.echo(json.dumps({"segments": len(references), "systems": plain(scores)}, ensure_ascii=False))
        return
    click.echo(_table(scores))


def _table(scores: dict[str, list[Any]]) -> str:
    """A line a system, a column a metric, and the signatures below."""
    width = max(len(_short(name)) for name in scores)
    lines = []
    for name, found in scores.items():
        cells = []
        for score in found:
            cell = f"{score.metric} {score.score:6.2f}"
            if score.interval is not None:
                cell += f" ± {score.interval:.2f}"
            if score.p_value is not None:
                cell += f" (p = {score.p_value:.3f})"
            cells.append(cell)
        lines.append(f"{_short(name):<{width}}  " + "   ".join(cells))
    lines += [f"{score.metric}: {score.signature}" for score in next(iter(scores.values()))]
    return "\n".join(lines)


def _short(name: str) -> str:
    return "/".join(Path(name).parts[-3:])
