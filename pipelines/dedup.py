"""`python -m bisift.pipelines.dedup`: near duplicates marked among scored pairs, as a Beam job."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from bisift.commands import option
from bisift.filter.cli.dedup import comparing
from bisift.filter.dedup import DedupOptions
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import on_interruption
from bisift.pipelines.dedupjob import DedupJobResult
from bisift.pipelines.dedupjob import dedup as dedup_job
from bisift.pipelines.metrics import show
from bisift.pipelines.options import Job, beam_options, job_options


@click.command(
    cls=Job,
    examples=(
        "python -m bisift.pipelines.dedup --input scored/ --output unique/ --runner=FnApiRunner --remove",
        "python -m bisift.pipelines.dedup --input s3://bucket/scored/ --output s3://bucket/marked/ --threshold 0.7 \\\n"
        "    --runner=FlinkRunner --flink_master=flink:8081 --parallelism=64",
    ),
)
@job_options(many_inputs="Files or folders that score wrote; behind a URI, folders with their manifest.")
@option("--remove", is_flag=True, section="Job", help="Leave every dropped pair out, those of rules too.")
@option(
    "--restart",
    is_flag=True,
    section="Job",
    help="Begin anew in a folder that other inputs or settings were written to.",
)
@comparing
def dedup(inputs: tuple[str, ...], output: str, as_json: bool, restart: bool, **settings: Any) -> None:
    """Mark the pairs of all inputs that a better pair nearly equals: drop_reason near_duplicate.

    What filter-cli dedup does, on the workers of a Beam runner: the same rows with the same marks.
    """
    on_interruption("nothing was published; give the same command again")
    options = beam_options(settings)
    report(dedup_job(inputs, output, DedupOptions(**settings), options, restart=restart), as_json=as_json)


def report(result: DedupJobResult, *, as_json: bool) -> None:
    """Write what was marked: counts, metrics and a closing line; as JSON on stdout where asked."""
    terminal = Terminal()
    for warning in result.warnings:
        terminal.warn(warning)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    if result.dry_run:
        terminal.line("the job is built: nothing was marked here")
        return
    if not as_json:
        summary = Summary(terminal, result.rows_in)
        summary.add("pairs", result.rows_in)
        summary.add("compared (kept by the rules)", result.compared, level=1)
        summary.add_all(result.marked, level=2)
        summary.add("written", result.written, level=1)
        summary.show()
        show(result.metrics, terminal)
    terminal.line(f"compared {result.compared:,} pairs in {duration(result.seconds)} -> {result.output}")


if __name__ == "__main__":
    dedup(prog_name="python -m bisift.pipelines.dedup")
