"""`python -m bisift.pipelines.score`: from files of parallel text to scored Parquet, as a Beam job."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from bisift.commands import option
from bisift.filter.cli import params
from bisift.filter.cli.judging import check, judging
from bisift.filter.cli.reading import read_options, reading
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import REJECTED, on_interruption
from bisift.pipelines.options import Job, beam_options, job_options
from bisift.pipelines.scorejob import JobOptions, JobResult
from bisift.pipelines.scorejob import score as score_job

INPUTS = "Files, globs or URIs of parallel text, as filter-cli score takes them."


def scoring_options(command: Any) -> Any:
    """Add the options of scoring: how inputs are read and cut, how pairs are judged."""
    for add in reversed(
        (
            option(
                "--strict", is_flag=True, section="Job", help="Fail where an input breaks; exit with 3 after rejects."
            ),
            option(
                "--range-bytes",
                type=params.Size(),
                default="16MiB",
                show_default=True,
                metavar="SIZE",
                section="Job",
                help="Of plain TSV and JSONL, what one worker reads and writes at a time.",
            ),
            option("--chunk-rows", type=click.IntRange(min=1), metavar="N", section="Job", help="Rows scored at once."),
            option("--restart", is_flag=True, section="Job", help="Replace what lies in DIR/ and begin anew."),
            reading,
            judging,
        )
    ):
        command = add(command)
    return command


def job_settings(settings: dict[str, Any]) -> JobOptions:
    """Take what `scoring_options` added out of `settings`.

    Raises:
        click.UsageError: options contradict each other.
    """
    from bisift.filter.scoring import ScoreOptions

    check(settings)
    strict, range_bytes = settings.pop("strict"), settings.pop("range_bytes")
    read = read_options(settings)
    given: dict[str, Any] = {
        name: settings.pop(name)
        for name in ("profile", "disable", "models", "device", "prior", "limit", "restart")
        if name in settings
    }
    given["use_models"] = not settings.pop("no_models")
    options = ScoreOptions(read=read, **{name: value for name, value in given.items() if value is not None})
    return JobOptions(score=options, range_bytes=range_bytes, strict=strict)


@click.command(
    cls=Job,
    examples=(
        "python -m bisift.pipelines.score --input 'crawl/*.tsv' --output scored/ --runner=FnApiRunner \\\n"
        "    --source-lang en --target-lang it --workers 2",
        "python -m bisift.pipelines.score --input s3://bucket/crawl/*.tsv.gz --output s3://bucket/scored/ \\\n"
        "    --runner=FlinkRunner --flink_master=flink:8081 --parallelism=64 --source-lang en --target-lang it",
    ),
)
@job_options(many_inputs=INPUTS)
@scoring_options
def score(inputs: tuple[str, ...], output: str, as_json: bool, **settings: Any) -> None:
    """Score every pair of the inputs and write all of them, with their features, verdicts and scores, to DIR/.

    What filter-cli score does, range by range on the workers of a Beam runner: the same code, and the same rows. A job
    that was killed goes on where it stopped when the same command is given again.
    """
    on_interruption("what is done is kept; give the same command again to go on")
    options = job_settings(settings)
    result = score_job(inputs, output, options, beam_options(settings))
    report(result, as_json=as_json)
    if options.strict and result.rows.get("rejected"):
        click.get_current_context().exit(REJECTED)


def report(result: JobResult, *, as_json: bool) -> None:
    """Write what a job did: a table of counts, its metrics and a closing line; as JSON on stdout where asked."""
    from bisift.pipelines.metrics import show

    terminal = Terminal()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    if result.dry_run:
        terminal.line("the job is built: nothing was scored here")
        return
    if result.already_done:
        terminal.line(f"{result.output} is finished and would be the same: nothing to do (--restart makes it anew)")
        return
    rows = result.rows
    if not as_json:
        summary = Summary(terminal, rows["in"])
        summary.add("rows read", rows["in"])
        summary.add("kept", rows["kept"], level=1, colour="green")
        summary.add("dropped, by the first rule failed", rows["dropped"], level=1, colour="yellow")
        summary.add_all(rows["by_reason"], level=2)
        summary.add("rejected", rows["rejected"], level=1, colour="red")
        summary.add_all(result.rejects_by_reason, level=2)
        summary.show()
        show(result.metrics, terminal)
    pairs = rows["kept"] + rows["dropped"]
    rate = pairs / result.seconds if result.seconds else 0.0
    terminal.line(f"scored {pairs:,} pairs in {duration(result.seconds)} ({rate:,.0f} pairs/s) -> {result.output}")


if __name__ == "__main__":
    score(prog_name="python -m bisift.pipelines.score")
