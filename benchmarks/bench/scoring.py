"""Benchmarks of `filter-cli score`: rules alone against peers, everything on, many rows, two workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.data import write_tsv
from bench.measure import BenchmarkError, Measurement, Run, best_of, cpu, wall
from bench.peers import HARDRULES, OPUSFILTER, Peer, run_hardrules, run_opusfilter
from bench.results import Figure, Target
from bench.workspace import Workspace

RATE = "pairs per CPU-second"
MANY_ROWS = 2_000_000
MEMORY = Target(bound=600, kind="under")
BUSY = 0.1  # cores that others may use before a wall-clock ratio says nothing


def rules(space: Workspace) -> list[Figure]:
    """All rules and features without language id, TSV to Parquet, against OpusFilter and hardrules."""
    ours = space.best_score("--no-models", "--profile", space.rules_only).measured
    rate = space.rows / ours.cpu_s
    figures = [
        Figure(
            name="rules and features, no language id, TSV to Parquet",
            unit=RATE,
            value=rate,
            target=Target(bound=15_000, kind="at_least"),
            measured={"bisift": ours},
        )
    ]
    source, target = space.moses
    peers: tuple[tuple[Peer, Callable[[], Run]], ...] = (
        (OPUSFILTER, lambda: run_opusfilter(space.folder, source, target)),
        (HARDRULES, lambda: run_hardrules(space.folder, space.tsv)),
    )
    return figures + [_against(peer, measure, rate, space) for peer, measure in peers]


def _against(peer: Peer, measure: Callable[[], Run], rate: float, space: Workspace) -> Figure:
    name, target = f"the same, times {peer.title}", Target(bound=10, kind="at_least")
    try:
        theirs = best_of(min(2, space.repeats), measure, key=cpu).measured
    except BenchmarkError as error:
        return Figure(name=name, unit="×", value=None, target=target, note=str(error))
    their_rate = space.rows / theirs.cpu_s
    note = f"{peer.name}: {their_rate:,.0f} {RATE}; {peer.note}"
    return Figure(name=name, unit="×", value=rate / their_rate, target=target, note=note, measured={peer.name: theirs})


def full(space: Workspace) -> list[Figure]:
    """Rules, language id and both models."""
    measured = space.best_score().measured
    rate = Figure(
        name="rules, language id and both models (aim 6,500)",
        unit=RATE,
        value=space.rows / measured.cpu_s,
        target=Target(bound=5_000, kind="at_least"),
        measured={"bisift": measured},
    )
    return [rate, *_memory(measured, space.rows)]


def large(space: Workspace) -> list[Figure]:
    """Everything on over two million rows: does memory stay flat?"""
    tsv = space.folder / "many.tsv"
    write_tsv(tsv, space.corpus.head(MANY_ROWS).pairs)
    try:
        measured = space.score(tsv=tsv).measured
    finally:
        space.remove([tsv, space.folder / "scored.parquet"])
    rate = Figure(
        name=f"everything on, {MANY_ROWS:,} rows",
        unit=RATE,
        value=MANY_ROWS / measured.cpu_s,
        target=Target(bound=5_000, kind="at_least"),
        measured={"bisift": measured},
    )
    return [rate, *_memory(measured, MANY_ROWS)]


def _memory(measured: Measurement, rows: int) -> list[Figure]:
    return [
        Figure(name=f"peak of allocated memory (RssAnon), {rows:,} rows", unit="MiB", value=measured.rss_anon_mib),
        Figure(name=f"peak resident set (VmHWM), {rows:,} rows", unit="MiB", value=measured.vm_hwm_mib, target=MEMORY),
    ]


def workers(space: Workspace) -> list[Figure]:
    """Two workers against one, everything on, wall-clock."""
    one, two = (
        best_of(space.repeats, partial(space.score, "--workers", str(count)), key=wall).measured for count in (1, 2)
    )
    busy = max(one.other_cores, two.other_cores)
    return [
        Figure(
            name=f"two workers, times one worker, wall-clock, {space.rows:,} rows",
            unit="×",
            value=one.wall_s / two.wall_s,
            target=Target(bound=1.8, kind="at_least"),
            valid=busy <= BUSY,
            note="" if busy <= BUSY else f"others kept {busy:.2f} cores busy: repeat on an idle machine",
            measured={"1 worker": one, "2 workers": two},
        ),
        Figure(name="CPU-seconds of two workers, times those of one", unit="×", value=two.cpu_s / one.cpu_s),
    ]
