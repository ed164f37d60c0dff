"""`trainer-cli evaluate`: BLEU and chrF of systems on one test set, with signatures."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import click

from bisift.commands import Command, option
from bisift.trainer.cli.common import (
    STANDARD,
    need_torch,
    progress,
    read_input,
    search_config,
    search_options,
    translator_of,
    warn_of_cuts,
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
    help="A finished translation to score, too (repeatable). These come before the checkpoints.",
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
    """Translate the source with each CHECKPOINT and score it; several systems are tested against the baseline.

    The baseline is the first --system or, where there is none, the first CHECKPOINT.
    """
    finished = _finished(checkpoints, systems, reference, settings["source"])
    need_torch()

    from bisift.trainer.evaluation import as_json as plain
    from bisift.trainer.evaluation import check_parallel, compare, metrics

    metrics(tokenize=settings["tokenize"])
    search = search_config(settings)
    references = read_input(reference)
    outputs: dict[str, list[str]] = {}
    for name, path in finished.items():
        outputs[name] = read_input(path)
        check_parallel(references, outputs[name], (reference, path))
    if checkpoints:
        sources = read_input(settings["source"])
        check_parallel(references, sources, (reference, settings["source"]))
        for path in checkpoints:
            translator = translator_of(path, settings)
            with progress(len(sources)) as show:
                outputs[path] = translator.translate(sources, search, show)
            warn_of_cuts(translator, sources, search)
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
    click.echo(_table(scores, finished))


def _finished(
    checkpoints: tuple[str, ...], systems: tuple[str, ...], reference: str, source: str | None
) -> dict[str, str]:
    """Return the files of finished translations by name.

    Raises:
        click.UsageError: the options do not go together.
    """
    if checkpoints and not source:
        raise click.UsageError("a checkpoint needs --source")
    if source and not checkpoints:
        raise click.UsageError("--source is for checkpoints to translate: name one, or leave it out")
    if not checkpoints and not systems:
        raise click.UsageError("give a checkpoint, or --system NAME=FILE")
    pairs = [system.partition("=")[::2] for system in systems]
    for system, (name, path) in zip(systems, pairs, strict=True):
        if not (name and path):
            raise click.BadParameter(f"{system!r} is not NAME=FILE", param_hint="--system")
    names = [*(name for name, _ in pairs), *checkpoints]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"{name!r} stands for two systems: each needs a name of its own")
    if [reference, source, *(path for _, path in pairs)].count(STANDARD) > 1:
        raise click.UsageError("--reference, --source and --system: only one of them can be stdin")
    return dict(pairs)


def _table(scores: dict[str, list[Any]], given: Collection[str]) -> str:
    """A line a system, a column a metric, and the signatures below; names that were given stand as they are."""
    labels = {name: name if name in given else _short(name, scores) for name in scores}
    if len(scores) > 1:
        labels[next(iter(scores))] += " (baseline)"
    width = max(map(len, labels.values()))
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
        lines.append(f"{labels[name]:<{width}}  " + "   ".join(cells))
    lines += [f"{score.metric}: {score.signature}" for score in next(iter(scores.values()))]
    return "\n".join(lines)


def _short(path: str, names: Collection[str]) -> str:
    """As many of a path's last parts as no other name ends in."""
    parts = path.split("/")
    ends = ["/".join(parts[-count:]) for count in range(1, len(parts))]
    others = [f"/{name}" for name in names if name != path]
    return next((end for end in ends if not any(other.endswith(f"/{end}") for other in others)), path)
