"""Benchmark of starting: how long a person waits for a help page and for one pair."""

from __future__ import annotations

from functools import partial

from bench.measure import best_of, run, wall
from bench.results import Figure, Target
from bench.workspace import LANGUAGES, Workspace

TIMES = 7
PAIR = ("--source", "Mind the gap between the train.", "--target", "Attenzione allo spazio tra il treno.", *LANGUAGES)


def startup(space: Workspace) -> list[Figure]:
    """The help page, and one pair explained and scored, each from a cold start; the best of several."""
    one = space.folder / "one.tsv"
    one.write_text("Mind the gap between the train.\tAttenzione allo spazio tra il treno.\n")
    output = space.folder / "one.parquet"
    commands: tuple[tuple[str, float, tuple[object, ...]], ...] = (
        ("filter-cli --help", 0.3, ("--help",)),
        ("filter-cli explain of one pair, models loaded", 2.0, ("explain", *PAIR)),
        ("filter-cli score of one pair, models loaded", 2.0, ("score", one, *LANGUAGES, "-o", output, "--restart")),
    )
    figures = []
    for name, bound, arguments in commands:
        command = [str(space.cli), *map(str, arguments)]
        measured = best_of(TIMES, partial(run, command), key=wall).measured
        figures.append(
            Figure(
                name=f"{name}, best of {TIMES}",
                unit="s",
                value=measured.wall_s,
                target=Target(bound=bound, kind="under"),
                measured={"bisift": measured},
            )
        )
    return figures
