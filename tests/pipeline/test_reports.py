"""What a job shows: counts and metrics at the end, progress on a terminal alone, and one line for any failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bisift.errors import BisiftError, ConfigError, InputError
from bisift.filter.readers import ChangedInputError
from bisift.pipelines.runners import explained
from tests.corpus import pairs
from tests.pipeline.jobs import LANGUAGES, job, write_tsv


def test_the_end_shows_counts_and_metrics(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(60)))
    given = ("--input", source, "--output", tmp_path / "out", "--runner=FnApiRunner", *LANGUAGES, "--no-models")
    result = job("score", *given)
    assert result.returncode == 0
    assert result.stdout == ""
    lines = [line.split() for line in result.stderr.splitlines()]
    assert ["rows", "read", "60", "100.0%"] in lines
    assert ["rows_read", "60"] in lines
    assert any(words[0] == "chunk_rows" and "times," in words for words in lines)
    assert lines[-1][:3] == ["scored", "60", "pairs"]
    again = job("score", *given)
    assert "is finished and would be the same: nothing to do" in again.stderr


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(2_500)))
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "bisift.pipelines.run", "--input", str(source), "--output", str(tmp_path / "out")]
    command += ["--runner=FnApiRunner", "--range-bytes=9KiB", "--chunk-rows=50", *LANGUAGES]
    process = subprocess.Popen(command, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        shown += data
        if not data:
            break
    os.close(ours)
    assert process.wait(60) == 0
    assert b"scoring" in shown
    assert b"partitioning" in shown
    assert b"pairs/s" in shown
    assert b"%" in shown


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (InputError("a.tsv: gone [while running 'Score/Read']"), InputError, "a.tsv: gone"),
        (
            RuntimeError("Traceback ...\nbisift.errors.ConfigError: no rule 'x' [while running 'Y']\n\n"),
            ConfigError,
            "no rule 'x'",
        ),
        (
            RuntimeError("bundle failed:Traceback\\nbisift.filter.readers.inputs.ChangedInputError: a: changed\\n"),
            InputError,
            "a: changed",
        ),
        (
            RuntimeError(
                '<RPC that terminated with:\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = "Socket closed"\n>'
            ),
            BisiftError,
            "the runner cannot be reached any more (Socket closed); run again to go on",
        ),
        (ValueError("odd"), BisiftError, "the job failed: odd (BISIFT_DEBUG=1 shows all); run again to go on"),
    ],
)
def test_failures_become_one_line(raised: Exception, kind: type[BisiftError], message: str) -> None:
    found = explained(raised)
    assert isinstance(found, kind)
    assert str(found) == message
    assert issubclass(ChangedInputError, InputError)
