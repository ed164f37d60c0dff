"""`filter-cli score`: from files of parallel text to scored pairs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from bisift.commands import Command, option
from bisift.filter.cli import params
from bisift.filter.cli.judging import check, judging
from bisift.filter.cli.reading import read_options, reading
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import REJECTED, on_interruption

if TYPE_CHECKING:
    from bisift.filter.publishing import ScoreResult
    from bisift.filter.scoring import ScoreOptions

RUN = "Run"
STANDARD = "-"


@click.command(
    cls=Command,
    short_help="Score every pair of some files.",
    examples=(
        "filter-cli score crawl.tsv.gz --source-lang en --target-lang it -o scored.parquet",
        "filter-cli score corpus.en corpus.it -o scored.parquet --workers 4",
        "filter-cli score 'memories/*.tmx' --source-lang en --target-lang de -o scored/",
        "zcat pairs.gz | filter-cli score - --source-lang en --target-lang fr -o - | gzip > scored.tsv.gz",
        "filter-cli score crawl.csv --source-column title --target-column titolo --keep-column url -o scored.jsonl.zst",
    ),
)
@click.argument("inputs", nargs=-1, required=True, type=params.Place(), metavar="INPUT...")
@option(
    "-o",
    "--output",
    required=True,
    type=params.Place(),
    metavar="OUTPUT",
    section="Output",
    help="By its ending: .parquet, .tsv[.gz|.zst|.xz|.bz2], .jsonl[...], a directory/ of Parquet parts, "
    "or - for TSV on stdout.",
)
@option(
    "--rejects",
    type=params.Place(),
    metavar="FILE",
    section="Output",
    help="Where rows that cannot be read go (default: OUTPUT.rejects.jsonl; none for -o -).",
)
@option("--strict", is_flag=True, section="Output", help="Exit with 3 when any row was rejected.")
@option("--json", "as_json", is_flag=True, section="Output", help="Print the result as one JSON object on stdout.")
@reading
@judging
@option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    section=RUN,
    help="Processes to score with; the output does not depend on it.",
)
@option(
    "--chunk-rows",
    type=click.IntRange(min=1),
    metavar="N",
    section=RUN,
    help="Rows a chunk; more take more memory, and the output does not depend on it.",
)
@option(
    "--restart", is_flag=True, section=RUN, help="Begin anew instead of going on with an unfinished run of this output."
)
def score(inputs: tuple[str, ...], output: str, strict: bool, as_json: bool, **settings: Any) -> None:
    """Score every pair of INPUT... and write all of them, with their features, verdicts and both scores, to OUTPUT.

    An INPUT is a file, a glob, a URI (s3:// gs:// hdfs://) or - for stdin: TSV, CSV, JSONL, Parquet, TMX, PO or MO,
    compressed or not, or a Moses pair (corpus.en corpus.it). Nothing is removed: a pair that breaks a rule says which
    in drop_reason. Rows that cannot be read go to the rejects and never stop the run.

    An interrupted run (Ctrl-C: exit 130, SIGTERM: exit 143, or a crash) goes on where it stopped when the same command
    is given again.
    """
    if output == STANDARD and as_json:
        raise click.UsageError("--json and -o - both want stdout: write OUTPUT to a file, or leave --json out")
    options = _options(settings)
    on_interruption(_interruption_note(inputs, output))

    from bisift.filter.scoring import score_files

    terminal = Terminal()
    with terminal.progress() as progress:
        result = score_files(inputs, output, options, progress)
    for warning in result.warnings:
        terminal.warn(warning)
    if as_json:
        click.echo(json.dumps(_to_json(result)))
    elif not result.already_done:
        _show(result, terminal)
    terminal.line(_closing_line(result))
    if strict and result.rejected:
        click.get_current_context().exit(REJECTED)


def _options(settings: dict[str, Any]) -> ScoreOptions:
    check(settings)

    from bisift.filter.scoring import ScoreOptions

    read = read_options(settings)
    settings = {name: value for name, value in settings.items() if value is not None}
    settings["use_models"] = not settings.pop("no_models")
    return ScoreOptions(read=read, **settings)


def _interruption_note(inputs: tuple[str, ...], output: str) -> str:
    if STANDARD in inputs:
        return "stdin cannot be resumed: run it again from the start"
    if output == STANDARD:
        return "output to stdout is not complete: run it again from the start"
    return "what is done is kept; give the same command again to go on"


def _to_json(result: ScoreResult) -> dict[str, Any]:
    return {**dataclasses.asdict(result), "pairs_per_second": round(_rate(result), 1)}


def _rate(result: ScoreResult) -> float:
    """Pairs per second of this run: what an earlier one had done does not count."""
    return (result.rows_in - result.resumed_rows) / result.seconds if result.seconds > 0 else 0.0


def _show(result: ScoreResult, terminal: Terminal) -> None:
    summary = Summary(terminal, result.rows_in)
    summary.add("rows read", result.rows_in)
    summary.add("kept", result.kept, level=1, colour="green")
    summary.add("dropped, by the first rule failed", result.dropped, level=1, colour="yellow")
    summary.add_all(result.by_reason, level=2)
    summary.add("rejected", result.rejected, level=1, colour="red")
    summary.add_all(result.rejects_by_reason, level=2)
    summary.show()
    if result.rejected:
        terminal.line(f"rejects: {result.rejects_file or 'not written (--rejects FILE keeps them)'}")


def _closing_line(result: ScoreResult) -> str:
    if result.already_done:
        return f"{result.output} is finished and would be the same: nothing to do (--restart makes it anew)"
    resumed = f" ({result.resumed_rows:,} of them by an earlier run)" if result.resumed_rows else ""
    return (
        f"scored {result.rows_out:,} pairs{resumed} in {duration(result.seconds)} "
        f"({_rate(result):,.0f} pairs/s, {result.device}) -> {result.output}"
    )
