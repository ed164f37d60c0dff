"""`filter-cli explain`: why one pair was judged as it was."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from bisift.commands import Command, option
from bisift.filter.cli import params
from bisift.filter.cli.judging import judging, scorer_settings
from bisift.filter.terminal import Terminal

if TYPE_CHECKING:
    from bisift.filter.explain import Explanation

PAIR = "Pair"
BAR_WIDTH = 20
COLOURS = {"failed": "red", "passed": "green"}


@click.command(
    cls=Command,
    short_help="Say why one pair was judged as it was.",
    examples=(
        'filter-cli explain --source "Mind the gap." --target "Attenti al vuoto." --source-lang en --target-lang it',
        "filter-cli explain scored.parquet --row 17",
        "filter-cli explain scored.parquet --row 17 --json | jq .drop_reason",
    ),
)
@click.argument("scored", required=False, type=params.Place(), metavar="[SCORED]")
@option("--source", metavar="TEXT", section=PAIR, help="Source text of a pair to score now.")
@option("--target", metavar="TEXT", section=PAIR, help="Target text.")
@option("--source-lang", metavar="LANG", section=PAIR, help="Language of the source.")
@option("--target-lang", metavar="LANG", section=PAIR, help="Language of the target.")
@option(
    "--row",
    type=click.IntRange(min=1),
    metavar="N",
    section=PAIR,
    help="The pair of SCORED whose column row is N: its line in the input, rejects counted, headers not.",
)
@option("--origin", metavar="INPUT", section=PAIR, help="Which input the row is of, where SCORED holds several.")
@judging
@option("--json", "as_json", is_flag=True, section="Output", help="Print one JSON object.")
def explain(
    scored: str | None,
    source: str | None,
    target: str | None,
    source_lang: str | None,
    target_lang: str | None,
    row: int | None,
    origin: str | None,
    as_json: bool,
    **judge: Any,
) -> None:
    """Show every feature of one pair with the threshold and the verdict of its rule, and what pushed both scores.

    The pair is given by --source and --target and scored now, or it is a row of a SCORED file or folder, as score or
    rank wrote it: then --profile only says which thresholds to show, and the models score the pair again to split its
    scores into what pushed them.
    """
    if scored is None and (source is None or target is None):
        raise click.UsageError("give --source and --target, or a SCORED file and --row")
    if scored is None and (row is not None or origin is not None):
        raise click.UsageError("--row and --origin need a SCORED file")
    if scored is not None and any(text is not None for text in (source, target, source_lang, target_lang)):
        raise click.UsageError("a SCORED file excludes --source, --target, --source-lang and --target-lang")
    if scored is not None and row is None:
        raise click.UsageError("say which pair of SCORED: --row N")

    from bisift.filter.explain import explain_pair, explain_row

    settings = scorer_settings(judge)
    if scored is not None and row is not None:
        explanation = explain_row(scored, row, origin, settings)
    else:
        assert source is not None
        assert target is not None
        explanation = explain_pair(source, target, source_lang, target_lang, settings)
    if as_json:
        click.echo(json.dumps(explanation.to_json(), ensure_ascii=False, indent=2))
    else:
        terminal = Terminal(sys.stdout)
        width = shutil.get_terminal_size().columns if terminal.interactive else None
        click.echo("\n".join(_lines(explanation, terminal.paint, width)), color=terminal.colour)


def _lines(explanation: Explanation, paint: Callable[..., str], width: int | None) -> Iterator[str]:
    from bisift.filter.cli.attributed import attribution_lines, plain

    for side in ("source", "target"):
        language = explanation.pair[f"{side}_lang"] or "language not declared"
        yield f"{paint(side, bold=True)} ({language}): {plain(explanation.pair[side])}"
    yield ""
    for name, value in explanation.scores.items():
        yield _score_line(name, value, paint)
    yield ""
    if explanation.drop_reason is None:
        yield paint("kept", fg="green", bold=True)
    else:
        yield paint(f"dropped: {explanation.drop_reason}", fg="red", bold=True)
    yield ""
    yield from _table(explanation, paint, width)
    notes = list(explanation.notes)
    if explanation.attribution is not None:
        yield ""
        yield from attribution_lines(explanation.attribution, paint, width)
        notes += explanation.attribution.notes
    if notes:
        yield ""
    for note in notes:
        yield f"{paint('note:', fg='yellow')} {note}"


def _score_line(name: str, value: float | bool | None, paint: Callable[..., str]) -> str:
    if value is None or isinstance(value, bool):
        return f"{name:<24}  {_text(value)}"
    filled = round(value * BAR_WIDTH)
    return f"{name:<24}  {value:.3f}  {paint('█' * filled, fg='cyan')}{'·' * (BAR_WIDTH - filled)}"


def _table(explanation: Explanation, paint: Callable[..., str], width: int | None) -> Iterator[str]:
    rows = [
        (item.rule or "", item.feature, _text(item.value), item.threshold or "", item.verdict or "")
        for item in explanation.measurements
    ]
    rows.insert(0, ("rule", "feature", "value", "threshold", "verdict"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    gap = " " if width is not None and sum(widths) + 8 > width else "  "
    for number, row in enumerate(rows):
        line = gap.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        if number == 0:
            yield paint(line, bold=True)
        else:
            yield line.removesuffix(row[-1]) + paint(row[-1], fg=COLOURS.get(row[-1]))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
