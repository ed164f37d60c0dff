"""What a person sees: the progress bar on a real (pseudo-)terminal, plain text elsewhere, the summary's shares."""

from __future__ import annotations

import io
import os
import pty
import re
import threading
from dataclasses import dataclass

import pytest

from bisift.filter.terminal import Summary, Terminal, duration, share


@dataclass(frozen=True)
class Step:
    pairs: int
    rejects: int = 0
    fraction: float | None = None
    phase: str = "scoring"


def on_a_terminal(steps: list[Step], environment: dict[str, str]) -> str:
    """Return what `steps`, then a red line, write to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    chunks: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 1 << 16):
                chunks.append(chunk)
        except OSError:  # EIO: the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stream:
        terminal = Terminal(stream, environment)
        with terminal.progress() as progress:
            for step in steps:
                if progress is not None:
                    progress(step)
        terminal.line(terminal.paint("end", fg="red"))
    reader.join()
    os.close(ours)
    return b"".join(chunks).decode()


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_terminal_shows_pairs_share_and_colours() -> None:
    shown = on_a_terminal([Step(10, fraction=0.1), Step(5000, rejects=7, fraction=0.5)], {"TERM": "xterm-256color"})
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "5,000 pairs" in text
    assert "50%" in text
    assert "7 rejected" in text
    assert "\x1b[31mend" in shown


def test_an_unknown_length_shows_no_share() -> None:
    shown = on_a_terminal([Step(10), Step(20)], {"TERM": "xterm-256color"})
    assert "20 pairs" in shown
    assert "%" not in shown


def test_a_new_phase_replaces_the_old_one() -> None:
    shown = on_a_terminal([Step(10, fraction=1.0), Step(10, phase="finishing")], {"TERM": "xterm-256color"})
    assert "finishing" in shown


def test_no_color_keeps_the_bar_and_drops_the_colours() -> None:
    shown = on_a_terminal([Step(10, fraction=0.1)], {"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert "10 pairs" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)
    assert shown.endswith("end\r\n")


def test_a_dumb_terminal_gets_plain_lines() -> None:
    assert on_a_terminal([Step(10, fraction=0.1)], {"TERM": "dumb"}) == "end\r\n"


def test_a_log_file_gets_plain_lines() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream, {"TERM": "xterm"})
    with terminal.progress() as progress:
        assert progress is None
    terminal.warn(terminal.paint("careful", fg="red"))
    assert stream.getvalue() == "warning: careful\n"


def test_a_stderr_that_went_away_ends_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    Terminal(stream, {}).line("nobody reads this")
    with pytest.raises(BrokenPipeError):  # noqa: PT012 - the stream really is broken
        stream.write("x")
        stream.flush()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_summary_is_aligned_and_sorted_by_count() -> None:
    stream = io.StringIO()
    summary = Summary(Terminal(stream, {}), 2000)
    summary.add("rows read", 2000)
    summary.add("dropped", 30, level=1, colour="yellow")
    summary.add_all({"b": 1, "c": 8, "a": 8}, level=2)
    summary.show()
    assert stream.getvalue().splitlines() == [
        "rows read  2,000  100.0%",
        "  dropped     30    1.5%",
        "    a          8    0.4%",
        "    c          8    0.4%",
        "    b          1    0.1%",
    ]


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [(0, 10, "0.0%"), (1, 100000, "<0.1%"), (99999, 100000, ">99.9%"), (10, 10, "100.0%"), (1, 3, "33.3%"), (0, 0, "")],
)
def test_a_share_never_rounds_to_none_or_all(count: int, total: int, text: str) -> None:
    assert share(count, total) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (4.21, "4.2 s"), (59.96, "1 min 00 s"), (75, "1 min 15 s"), (7384, "2 h 03 min")],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text
