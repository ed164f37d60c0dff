"""`python -m bisift.pipelines.rank`: from scored pairs to globally ranked shards, as a Beam job."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from bisift.filter.cli.ordering import check, ordering
from bisift.filter.ranking import RankOptions
from bisift.filter.terminal import Summary, Terminal, duration
from bisift.outcome import on_interruption
from bisift.pipelines.metrics import show
from bisift.pipelines.options import Job, beam_options, job_options
from bisift.pipelines.rankjob import RankJobResult
from bisift.pipelines.rankjob import rank as rank_job


@click.command(
    cls=Job,
    examples=(
        "python -m bisift.pipelines.rank --input scored/ --output ranked/ --runner=FnApiRunner --order human",
        "python -m bisift.pipelines.rank --input s3://bucket/scored/ --output s3://bucket/ranked/ --shards 4096 \\\n"
        "    --runner=FlinkRunner --flink_master=flink:8081 --parallelism=64",
    ),
)
@job_options(many_inputs="Files or folders that score or rank wrote; behind a URI, folders with their manifest.")
@ordering
def rank(inputs: tuple[str, ...], output: str, as_json: bool, **settings: Any) -> None:
    """Rank the pairs of all inputs together and write them into shards, best first, to DIR/.

    What filter-cli rank does, on the workers of a Beam runner: the same shards, to the byte.
    """
    check(settings)
    on_interruption("nothing was published; give the same command again")
    options = beam_options(settings)
    report(rank_job(inputs, output, RankOptions(**settings), options), as_json=as_json)


def report(result: RankJobResult, *, as_json: bool) -> None:
    """Write what was ranked: counts, metrics and a closing line; as JSON on stdout where asked."""
    terminal = Terminal()
    for warning in result.warnings:
        terminal.warn(warning)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    if result.dry_run:
        terminal.line("the job is built: nothing was ranked here")
        return
    rows = sum(shard["rows"] for shard in result.shards)
    if not as_json:
        summary = Summary(terminal, result.rows["kept"] + result.rows["dropped"])
        summary.add("scored pairs", result.rows["kept"] + result.rows["dropped"])
        summary.add("ranked", rows, level=1, colour="green")
        summary.show()
        show(result.metrics, terminal)
    rate = rows / result.seconds if result.seconds else 0.0
    terminal.line(
        f"ranked {rows:,} pairs in {duration(result.seconds)} ({rate:,.0f} pairs/s) "
        f"-> {len(result.shards):,} shards in {result.output}"
    )


if __name__ == "__main__":
    rank(prog_name="python -m bisift.pipelines.rank")
