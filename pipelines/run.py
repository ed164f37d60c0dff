"""`python -m bisift.pipelines.run`: score, then rank: from files of parallel text to ranked shards."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from bisift import remote
from bisift.filter.cli.ordering import check, ordering
from bisift.filter.ranking import RankOptions
from bisift.outcome import REJECTED, on_interruption
from bisift.pipelines import rank, score
from bisift.pipelines.options import Job, beam_options, job_options
from bisift.pipelines.rankjob import rank as rank_job
from bisift.pipelines.scorejob import score as score_job

SCORED, RANKED = "scored", "ranked"


@click.command(
    cls=Job,
    examples=(
        "python -m bisift.pipelines.run --input 'crawl/*' --output corpus/ --runner=PrismRunner \\\n"
        "    --source-lang en --target-lang it --order combined --shards 16",
    ),
)
@job_options(many_inputs=score.INPUTS)
@score.scoring_options
@ordering
def run(inputs: tuple[str, ...], output: str, as_json: bool, **settings: Any) -> None:
    """Score every pair of the inputs into DIR/scored/, and rank them all into shards in DIR/ranked/."""
    check(settings)
    on_interruption("what is scored is kept; give the same command again to go on")
    options = beam_options(settings)
    job = score.job_settings(settings)
    ranking = RankOptions(**settings)
    ranking.check()
    folder = remote.join(output, SCORED)
    scored = score_job(inputs, folder, job, options)
    if not as_json:
        score.report(scored, as_json=False)
    if scored.dry_run:
        return
    ranked = rank_job([folder], remote.join(output, RANKED), ranking, options)
    if as_json:
        click.echo(json.dumps({SCORED: dataclasses.asdict(scored), RANKED: dataclasses.asdict(ranked)}))
    else:
        rank.report(ranked, as_json=False)
    if job.strict and scored.rows["rejected"]:
        click.get_current_context().exit(REJECTED)


if __name__ == "__main__":
    run(prog_name="python -m bisift.pipelines.run")
