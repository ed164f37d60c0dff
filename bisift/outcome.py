"""How a command ends: every exception becomes one line on stderr and an exit code, never a traceback.

Exit codes: 0 done; 1 failed (input, contract, model, disk); 2 usage or configuration; 3 finished, but rows went to
the rejects (`score --strict`); 130 interrupted (Ctrl-C); 143 terminated (SIGTERM). A reader that closes the pipe on
stdout ends a command quietly with 0. With BISIFT_DEBUG=1 the traceback precedes the line.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import click

from bisift.errors import BisiftError

REJECTED, INTERRUPTED, TERMINATED = 3, 128 + signal.SIGINT, 128 + signal.SIGTERM
_NOTE = "bisift.interruption_note"


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what cleans up after Ctrl-C cleans up after this, too."""


def on_interruption(note: str) -> None:
    """Say what the running command prints after `interrupted:` when Ctrl-C or SIGTERM ends it."""
    click.get_current_context().meta[_NOTE] = note


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn what ends a command early into one line on stderr and click's `Exit`.

    Raises:
        click.exceptions.Exit: the code to exit with.
    """
    try:
        yield
    except click.exceptions.Exit:
        raise
    except click.UsageError as error:
        _usage(error)
        raise click.exceptions.Exit(error.exit_code) from None
    except Exception as error:
        if _is_broken_pipe(error) and _stdout_is_closed():
            _silence_stdout()
            raise click.exceptions.Exit(0) from None
        _traceback()
        _line("error", describe(error))
        raise click.exceptions.Exit(error.exit_code if isinstance(error, BisiftError) else 1) from None
    except KeyboardInterrupt as error:
        _traceback()
        terminated = isinstance(error, _Terminated)
        context = click.get_current_context(silent=True)
        note = context.meta.get(_NOTE) if context is not None else None
        _line("terminated" if terminated else "interrupted", note or "nothing was published")
        raise click.exceptions.Exit(TERMINATED if terminated else INTERRUPTED) from None


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does (in the main thread; elsewhere signals cannot be handled)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def describe(error: Exception) -> str:
    """Say in one line what went wrong, and what to do about it where that is known."""
    if isinstance(error, BisiftError):
        return _flat(str(error))
    if isinstance(error, click.ClickException):
        return _flat(error.format_message())
    if isinstance(error, MemoryError):
        return "out of memory: use fewer --workers, smaller --chunk-rows or less --memory; what is done is kept"
    if isinstance(error, OSError):
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return place + _flat(error.strerror or str(error) or type(error).__name__)
    return (
        f"{type(error).__name__}: {_flat(str(error))} (this is a bug in bisift: "
        "run again with BISIFT_DEBUG=1 and report what it prints)"
    )


def _flat(text: str) -> str:
    return " ".join(text.split())


def _usage(error: click.UsageError) -> None:
    if error.ctx is not None:
        usage = error.ctx.get_usage()
        _write(f"{usage}\nTry '{error.ctx.command_path} --help' for help.\n\n")
    _line("error", _flat(error.format_message()))


def _line(kind: str, text: str) -> None:
    _write(f"{kind}: {text}\n")


def _write(text: str) -> None:
    # A reader of stderr that went away must not change how the command ends.
    with contextlib.suppress(OSError, ValueError):
        click.echo(text, err=True, nl=False)


def debugging() -> bool:
    """Whether BISIFT_DEBUG asks for all that is known of an error."""
    return os.environ.get("BISIFT_DEBUG", "") not in ("", "0")


def _traceback() -> None:
    if debugging():
        import traceback

        _write(traceback.format_exc())


def _is_broken_pipe(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, BrokenPipeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _stdout_is_closed() -> bool:
    """Whether the reader of stdout is gone: a broken pipe elsewhere (a store, a worker) is an error like any other."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _silence_stdout() -> None:
    """Point stdout nowhere, so that what is still buffered cannot fail when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
