"""How commands end: one line and the right exit code for everything that may go wrong, as a shell sees it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bisift.commands import Command, Commands
from bisift.errors import ConfigError, ContractError, InputError, ModelError
from bisift.outcome import describe, on_interruption


def failing(error: BaseException) -> click.Group:
    """Return a program with one command, `run`, that raises `error`."""

    @click.group(cls=Commands)
    def program() -> None: ...

    @program.command(cls=Command)
    def run() -> None:
        on_interruption("state kept")
        raise error

    return program


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("unknown key 'a';\n did you mean 'b'?"), 2, "error: unknown key 'a'; did you mean 'b'?"),
        (InputError("a.tsv: row 3"), 1, "error: a.tsv: row 3"),
        (ContractError("no column"), 1, "error: no column"),
        (ModelError("no weights"), 1, "error: no weights"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 1, "error: /data/x: No space left on device"),
        (OSError("no errno"), 1, "error: no errno"),
        (KeyboardInterrupt(), 130, "interrupted: state kept"),
    ],
)
def test_an_error_is_one_line_and_its_code(error: BaseException, code: int, line: str) -> None:
    result = CliRunner().invoke(failing(error), ["run"])
    assert result.exit_code == code
    assert result.stderr == line + "\n"
    assert result.stdout == ""


def test_out_of_memory_says_what_to_do() -> None:
    assert "--workers" in describe(MemoryError())


def test_a_bug_is_one_line_that_says_how_to_see_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BISIFT_DEBUG", raising=False)
    result = CliRunner().invoke(failing(ZeroDivisionError("division by zero")), ["run"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ZeroDivisionError: division by zero (")
    assert "BISIFT_DEBUG=1" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("error", [InputError("a.tsv: row 3"), KeyboardInterrupt()])
def test_debugging_shows_the_traceback(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BISIFT_DEBUG", "1")
    result = CliRunner().invoke(failing(error), ["run"])
    assert "Traceback (most recent call last)" in result.stderr
    assert result.exit_code == (1 if isinstance(error, InputError) else 130)


def test_a_broken_pipe_that_is_not_stdout_is_an_error() -> None:
    result = CliRunner().invoke(failing(BrokenPipeError(errno.EPIPE, "Broken pipe")), ["run"])
    assert result.exit_code == 1
    assert result.stderr == "error: Broken pipe\n"


PROGRAM = textwrap.dedent(
    """
    import sys, time, click
    from bisift.errors import BisiftError
    from bisift.commands import Command, Commands
    from bisift.outcome import on_interruption

    @click.group(cls=Commands)
    def program(): ...

    @program.command(cls=Command)
    def wait():
        on_interruption("state kept")
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            print("cleaned up", flush=True)

    @program.command(cls=Command)
    def pour():
        while True:
            print("x" * 1000)

    @program.command(cls=Command)
    def wrapped():
        try:
            while True:
                sys.stdout.buffer.write(b"x" * 1000)
        except OSError as error:
            raise BisiftError("stdout: Broken pipe") from error

    program(prog_name="program")
    """
)


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    """Return the start of a command line that runs PROGRAM."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "interrupted: state kept\n"), (signal.SIGTERM, 143, "terminated: state kept\n")],
)
def test_signals_clean_up_and_say_so(program: list[str], number: int, code: int, line: str) -> None:
    with subprocess.Popen([*program, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == "cleaned up\n"
    assert err == line


@pytest.mark.parametrize("command", ["pour", "wrapped"])
def test_a_reader_that_leaves_ends_the_command_quietly(program: list[str], command: str) -> None:
    with subprocess.Popen([*program, command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == b"x" * 10
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_help_into_a_closed_pipe_is_quiet(program: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([*program, "--help"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert result.returncode == 0
    assert result.stderr == b""


def test_sigterm_is_as_before_when_the_command_is_over() -> None:
    before = signal.getsignal(signal.SIGTERM)
    CliRunner().invoke(failing(InputError("x")), ["run"])
    assert signal.getsignal(signal.SIGTERM) is before
