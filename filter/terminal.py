"""What a person sees on stderr: a progress bar, a summary table, one closing line. stdout stays free for data."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

RATE_WINDOW = 10.0
"""Seconds over which pairs/s on the progress bar is measured."""
REFRESH_PER_SECOND = 4


class Step(Protocol):
    """How far a run is: pairs and rejects so far, the share of the work done (None: unknown) and the phase's name."""

    @property
    def pairs(self) -> int: ...
    @property
    def rejects(self) -> int: ...
    @property
    def fraction(self) -> float | None: ...
    @property
    def phase(self) -> str: ...


class Terminal:
    """stderr, as a terminal or as a plain log.

    Progress is shown on a terminal alone; colours likewise, and not with NO_COLOR set (https://no-color.org) or on a
    dumb terminal. A stderr that cannot be written to any more never ends a run.
    """

    def __init__(self, stream: TextIO | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.interactive = self.stream.isatty() and environment.get("TERM") != "dumb"
        self.colour = self.interactive and not environment.get("NO_COLOR")

    def line(self, text: str = "") -> None:
        """Write one line."""
        with contextlib.suppress(OSError):
            click.echo(text, file=self.stream, color=self.colour)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self.line(self.paint("warning:", fg="yellow") + f" {text}")

    def paint(self, text: str, **style: Any) -> str:
        """Return `text` in a colour (click.style's arguments), or as it is where colours are off."""
        return click.style(text, **style) if self.colour else text

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[Step], None] | None]:
        """Show a bar while the body runs; yields what to call with each step, or None where no bar is shown."""
        if not self.interactive:
            yield None
            return
        bar = _bar(self.stream, colour=self.colour)
        with bar:
            yield _Meter(bar).show


class _Meter:
    """Feeds the bar: one task a phase, pairs/s over the last seconds."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._phase: str | None = None
        self._task: TaskID | None = None
        self._recent: deque[tuple[float, int]] = deque()

    def show(self, step: Step) -> None:
        if self._task is None or step.phase != self._phase:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._phase, self._recent = step.phase, deque()
            self._task = self._bar.add_task(step.phase, total=None, rate="", pairs="", rejects="")
        now = time.monotonic()
        self._recent.append((now, step.pairs))
        while now - self._recent[0][0] > RATE_WINDOW and len(self._recent) > 2:
            self._recent.popleft()
        since, before = self._recent[0]
        rate = (step.pairs - before) / (now - since) if now > since else 0.0
        self._bar.update(
            self._task,
            total=None if step.fraction is None else 1.0,
            completed=step.fraction or 0.0,
            pairs=f"{step.pairs:,} pairs",
            rate=f"{rate:,.0f} pairs/s" if rate > 0 else "",
            rejects=f"{step.rejects:,} rejected" if step.rejects else "",
        )


def _bar(stream: TextIO, *, colour: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[pairs]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[rejects]}", style="red"),
        console=Console(file=stream, force_terminal=True, no_color=not colour),
        transient=True,
        refresh_per_second=REFRESH_PER_SECOND,
    )


class Summary:
    """A table of counts and their shares of a total, right-aligned, indented by level."""

    def __init__(self, terminal: Terminal, total: int) -> None:
        self._terminal = terminal
        self._total = total
        self._rows: list[tuple[int, str, int, str | None]] = []

    def add(self, label: str, count: int, *, level: int = 0, colour: str | None = None) -> None:
        """Add one line; a count of 0 is never coloured."""
        self._rows.append((level, label, count, colour if count else None))

    def add_all(self, counts: Mapping[str, int], *, level: int) -> None:
        """Add one line a reason, the most frequent first."""
        for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            self.add(label, count, level=level)

    def show(self) -> None:
        """Write the table."""
        width = max(2 * level + len(label) for level, label, _, _ in self._rows)
        digits = max(len(f"{count:,}") for _, _, count, _ in self._rows)
        for level, label, count, colour in self._rows:
            name = f"{'':{2 * level}}{label}"
            text = f"{name:<{width}}  {count:>{digits},}  {share(count, self._total):>6}"
            self._terminal.line(self._terminal.paint(text, fg=colour) if colour else text)


def share(count: int, total: int) -> str:
    """Return a percentage that says 0% and 100% only where that is exact.

    >>> share(1, 100_000), share(0, 10), share(10, 10), share(99_999, 100_000)
    ('<0.1%', '0.0%', '100.0%', '>99.9%')
    """
    if not total:
        return ""
    percent = 100 * count / total
    if 0 < percent < 0.05:
        return "<0.1%"
    if 99.95 <= percent < 100:
        return ">99.9%"
    return f"{percent:.1f}%"


def duration(seconds: float) -> str:
    """Return seconds as people read them.

    >>> duration(4.21), duration(75), duration(7384)
    ('4.2 s', '1 min 15 s', '2 h 03 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
