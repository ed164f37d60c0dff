"""`python -m bisift.pipelines.stream`: from files or messages that keep arriving to ranked windows, as a Beam job."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import click

from bisift.commands import option
from bisift.filter.cli.ordering import check as check_order
from bisift.filter.cli.ordering import ordering
from bisift.filter.terminal import Terminal, duration
from bisift.outcome import on_interruption
from bisift.pipelines import storage
from bisift.pipelines.options import Job, beam_options, job_options
from bisift.pipelines.score import job_settings, scoring_options

INPUTS = (
    "Folders, globs or URIs to watch; or one pubsub://projects/PROJECT/subscriptions/NAME (DataflowRunner) or "
    "kafka://HOST:PORT/TOPIC."
)
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Seconds(click.ParamType[float]):
    """A duration such as 60s, 5m or 1h, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if not found:
            self.fail(f"{value!r} is no duration: give 60s, 5m or 1h", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


@click.command(
    cls=Job,
    examples=(
        "python -m bisift.pipelines.stream --input incoming/ --output windows/ --runner=PrismRunner \\\n"
        "    --window 60s --source-lang en --target-lang it",
        "python -m bisift.pipelines.stream --input pubsub://projects/p/subscriptions/pairs \\\n"
        "    --output gs://bucket/windows/ --runner=DataflowRunner --project=p --region=europe-west1 \\\n"
        "    --temp_location=gs://bucket/tmp",
    ),
)
@job_options(many_inputs=INPUTS)
@option(
    "--window",
    "window_s",
    type=Seconds(),
    default="60s",
    show_default=True,
    metavar="TIME",
    section="Job",
    help="What arrives in so much time is ranked and published together.",
)
@option(
    "--poll",
    "poll_s",
    type=Seconds(),
    default="5s",
    show_default=True,
    metavar="TIME",
    section="Job",
    help="Time between two looks at what is watched.",
)
@option("--stop-after", "for_s", type=Seconds(), metavar="TIME", section="Job", help="End by itself; default: never.")
@scoring_options
@ordering
def stream(inputs: tuple[str, ...], output: str, as_json: bool, **settings: Any) -> None:
    """Score pairs as they arrive, and publish each window of them as a ranked folder in DIR/, listed in current.json.

    Each file is read once, whatever happens; names that begin with . or _ or end in .part or .tmp are not read yet. A
    stream that was killed goes on when the same command is given again. Duplicates and documents are looked for within
    a window.
    """
    on_interruption("what is published stays; give the same command again to go on")

    from bisift.filter.ranking import RankOptions
    from bisift.pipelines.streaming import StreamOptions
    from bisift.pipelines.streaming import stream as run

    check_order(settings)
    beam = beam_options(settings)
    ranking = RankOptions(**{name.name: settings.pop(name.name) for name in dataclasses.fields(RankOptions)})
    times = {name: settings.pop(name) for name in ("window_s", "poll_s", "for_s")}
    job = job_settings(settings)
    options = StreamOptions(score=job.score, rank=ranking, range_bytes=job.range_bytes, **times)
    result = run(inputs, output, options, beam)
    terminal = Terminal()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    else:
        from bisift.pipelines.metrics import show

        show(result.metrics, terminal)
    where = storage.shown(result.output)
    terminal.line(f"{len(result.windows):,} windows are published after {duration(result.seconds)} in {where}")


if __name__ == "__main__":
    stream(prog_name="python -m bisift.pipelines.stream")
