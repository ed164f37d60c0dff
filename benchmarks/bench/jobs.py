"""Benchmark of the Beam jobs: what a runner costs on top of filter-cli's own loop, in CPU-seconds of the same call."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Measurement, Run, best_of, cpu, run
from bench.results import ROOT, Figure, Target
from bench.workspace import LANGUAGES, Workspace

DOCUMENT_PAIRS = 20
GROWTH_ROWS = (1_000_000, 3_000_000)
SIMULATED_ROWS = (100_000, 1_000_000, 10_000_000)
PRISM = ROOT.parent / "shared" / "prism" / "install.py"
RATIO = "×"

# Reading, scoring and writing alone: the job without the steps that need the whole input.
PARTS_ONLY = """
import sys
import apache_beam as beam
from bisift.filter.readers import ReadOptions, expand
from bisift.filter.inference import resolve_models
from bisift.filter.scoring import ScoreOptions, scorer_settings
from bisift.pipelines import runners
from bisift.pipelines.options import parse_beam_options
from bisift.pipelines.ranges import Range, Ranges
from bisift.pipelines.scoring import PARTS, ScoreJob, ScoreRanges, SharedScorer
from bisift.pipelines.sinks import Finish

source, output, runner = sys.argv[1:4]
read = ReadOptions(source_lang="en", target_lang="it")
settings = scorer_settings(ScoreOptions(read=read))
digests = {kind: model.digest for kind, model in resolve_models().items()}
job = ScoreJob(settings=settings, digests=digests, read=read, output=output, state=output, spill=output)
ranges = [Range(number, origin) for number, origin in enumerate(expand([source], read))]

def build(root):
    numbered = root | beam.Create(ranges) | Ranges(read, job.range_bytes, strict=True)
    made = numbered | ScoreRanges(job, SharedScorer(settings))
    _ = made[PARTS] | beam.GroupByKey() | beam.ParDo(Finish(job))

runners.run(build, parse_beam_options(runner, 1, []))
"""


def pipelines(space: Workspace) -> list[Figure]:
    """Jobs on FnApiRunner and Prism against filter-cli: reading, scoring and writing; whole jobs; with ranking."""
    jobs = _Jobs(space)
    alone = jobs.best(space.cli, "score", jobs.source, "-o", jobs.folder / "alone.parquet", "--restart")
    score, rank = jobs.filter_cli()
    loop = score.cpu_s
    parts, whole, chained = jobs.parts("FnApiRunner"), jobs.job("score", "FnApiRunner"), jobs.job("run", "FnApiRunner")
    rows = f"{space.rows:,} rows"
    figures = [
        _ratio(f"FnApiRunner: read, score, write, {rows}", parts, loop, 1.10),
        _ratio(f"FnApiRunner: with duplicates and documents, {rows}", whole, loop, 1.35),
        _ratio(f"FnApiRunner: score and rank, times filter-cli score, {rows}", chained, loop, 1.7),
        _ratio(f"FnApiRunner: score and rank, times filter-cli score and rank, {rows}", chained, loop + rank.cpu_s),
        Figure(name=f"FnApiRunner: peak of RssAnon, score and rank, {rows}", unit="MiB", value=chained.rss_anon_mib),
        Figure(
            name=f"filter-cli score, {rows}",
            unit="CPU-s",
            value=loop,
            note=f"without document ids {alone.cpu_s:.1f}; rank {rank.cpu_s:.1f}",
            measured={"filter-cli score": score, "filter-cli rank": rank},
        ),
    ]
    name = f"Prism: read, score, write, its own CPU included, {rows}"
    target = Target(bound=1.7, kind="at_most")
    if not PRISM.exists():
        return [*figures, Figure(name=name, unit=RATIO, value=None, target=target, note="no ../shared/prism here")]
    run([sys.executable, PRISM])
    return [
        *figures,
        _ratio(name, jobs.parts("PrismRunner"), loop, 1.7),
        _ratio(f"Prism: with duplicates and documents, {rows}", jobs.job("score", "PrismRunner"), loop),
    ]


def growth(space: Workspace) -> list[Figure]:
    """Memory of score and rank on FnApiRunner at one and at three million rows."""
    peaks = []
    for rows in GROWTH_ROWS:
        jobs = _Jobs(space, rows * space.rows // 100_000)  # --rows scales this benchmark, too
        peaks.append(jobs.job("run", "FnApiRunner", repeats=1))
        jobs.remove()
    small, large = (rows * space.rows // 100_000 for rows in GROWTH_ROWS)
    return [
        Figure(
            name=f"peak of RssAnon, {large:,} rows",
            unit="MiB",
            value=peaks[1].rss_anon_mib,
            target=Target(bound=700, kind="under"),
            measured={f"{small:,}": peaks[0], f"{large:,}": peaks[1]},
        ),
        Figure(
            name=f"peak of RssAnon at {large:,} rows, times that at {small:,}",
            unit=RATIO,
            value=peaks[1].rss_anon_mib / peaks[0].rss_anon_mib,
            target=Target(bound=1.2, kind="at_most"),
            note=f"{peaks[0].rss_anon_mib:,.0f} MiB at {small:,} rows",
        ),
    ]


def simulation(space: Workspace) -> list[Figure]:
    """What a row costs, and memory, from a hundred thousand to ten million generated rows, scored and ranked.

    Without models and language id, which cost the same for each row, so that what grows with the rows would show.
    """
    bare: tuple[str | Path, ...] = ("--no-models", "--profile", space.rules_only, "--order", "random")
    found = {}
    for full in SIMULATED_ROWS:
        jobs = _Jobs(space, full * space.rows // 100_000)  # --rows scales this benchmark, too
        found[jobs.rows] = jobs.job("run", "FnApiRunner", *bare, repeats=1)
        jobs.remove()
    figures = [
        Figure(
            name=f"score and rank of {rows:,} generated rows, rules alone",
            unit="CPU-s a million rows",
            value=1e6 * one.cpu_s / rows,
            note=f"RssAnon {one.rss_anon_mib:,.0f} MiB",
            measured={f"{rows:,}": one},
        )
        for rows, one in found.items()
    ]
    _, middle, last = found
    for name, value in (
        ("CPU-seconds a row", found[last].cpu_s / last / (found[middle].cpu_s / middle)),
        ("peak of RssAnon", found[last].rss_anon_mib / found[middle].rss_anon_mib),
    ):
        target = Target(bound=1.2, kind="at_most")
        figures.append(
            Figure(name=f"{name} at {last:,} rows, times {middle:,}", unit=RATIO, value=value, target=target)
        )
    return figures


def _ratio(name: str, measured: Measurement, loop: float, bound: float | None = None) -> Figure:
    target = Target(bound=bound, kind="at_most") if bound is not None else None
    note = f"{measured.cpu_s:.1f} CPU-s against {loop:.1f}"
    return Figure(
        name=name, unit=RATIO, value=measured.cpu_s / loop, target=target, note=note, measured={"job": measured}
    )


class _Jobs:
    """The sample with documents of twenty pairs, and the ways to run jobs on it."""

    def __init__(self, space: Workspace, rows: int | None = None) -> None:
        self._space = space
        self.folder = space.folder / "jobs"
        self.folder.mkdir(exist_ok=True)
        self.source = self.folder / "pairs.tsv"
        self.rows = rows or space.rows
        pairs = enumerate(itertools.islice(space.corpus.varied(), self.rows))
        with open(self.source, "w", encoding="utf-8") as file:
            file.write("source\ttarget\tdocument_id\n")
            file.writelines(
                f"{source}\t{target}\tdocument {number // DOCUMENT_PAIRS}\n" for number, (source, target) in pairs
            )

    def best(self, *command: str | Path, repeats: int | None = None) -> Measurement:
        given = [*command, *LANGUAGES] if "rank" not in command else [*command]
        return best_of(repeats or self._space.repeats, lambda: self._fresh(given), key=cpu).measured

    def _fresh(self, command: Sequence[str | Path]) -> Run:
        for name in ("out", "parts", "ranked"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return run(command, env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")})

    def filter_cli(self) -> tuple[Measurement, Measurement]:
        """Score and rank with filter-cli."""
        scored = self.folder / "scored.parquet"
        score = self.best(self._space.cli, "score", self.source, "-o", scored, "--restart")
        return score, self.best(self._space.cli, "rank", scored, "-o", self.folder / "ranked")

    def job(self, module: str, runner: str, *options: str | Path, repeats: int | None = None) -> Measurement:
        """Run a job's command."""
        command: list[str | Path] = [
            sys.executable,
            "-m",
            f"bisift.pipelines.{module}",
            "--input",
            self.source,
            "--output",
        ]
        return self.best(*command, self.folder / "out", f"--runner={runner}", *options, repeats=repeats)

    def parts(self, runner: str) -> Measurement:
        """Run a score job without duplicates and documents."""
        given = [sys.executable, "-c", PARTS_ONLY, self.source, self.folder / "parts", runner]
        return best_of(self._space.repeats, lambda: self._fresh(given), key=cpu).measured

    def remove(self) -> None:
        """Delete what was made."""
        shutil.rmtree(self.folder)
