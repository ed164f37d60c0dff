"""Running a job to its end: on which runner, with what progress on a terminal, and its errors in one line."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, TestOptions
from apache_beam.runners.runner import PipelineState

from bisift import errors
from bisift.errors import BisiftError
from bisift.filter.terminal import Step, Terminal
from bisift.outcome import debugging

POLL_SECONDS = 0.5
_GONE = re.compile(r'StatusCode.UNAVAILABLE\s+details = "(.*)"')
_WHERE = " [while running "
_OURS = re.compile(
    r"(?:bisift\.errors|bisift\.filter\.readers\.inputs)\.(\w+Error): (.*?)(?: \[while running [^\n]*)?$", re.MULTILINE
)


class LostRunnerError(BisiftError):
    """The runner went away while a job ran."""


def run(
    build: Callable[[beam.Pipeline], None], options: PipelineOptions, steps: Callable[[], Step] | None = None
) -> Any:
    """Build a pipeline, run it and return its result when it is done, None for a dry run and for a template.

    `steps` says how far the job is; it is asked twice a second, and shown on a terminal.

    Raises:
        BisiftError: what a step raised, in one line; or the runner failed.
    """
    try:
        with _watched(steps), _quiet():
            pipeline = beam.Pipeline(options=options)
            build(pipeline)
            result = pipeline.run()
            if is_dry_run(options) or is_template(options):
                return None
            state = result.wait_until_finish()
    except Exception as error:
        raise explained(error) from error
    if state not in (None, PipelineState.DONE):
        raise BisiftError(f"the runner says {state}: see its log; run again to go on")
    return result


def is_dry_run(options: PipelineOptions) -> bool:
    """Say whether a job is only built: it then touches neither output nor state."""
    return bool(options.view_as(TestOptions).dry_run)


def is_template(options: PipelineOptions) -> bool:
    """Say whether a job is built here and run later by Dataflow, as the launcher of a Flex Template asks for."""
    return options.view_as(GoogleCloudOptions).template_location is not None


def explained(error: Exception) -> BisiftError:
    """Return what a step raised on purpose, dug out of what the runner made of it, or one line about the rest."""
    found: BaseException | None = error
    texts = []
    while found is not None:
        if isinstance(found, BisiftError):
            return type(found)(str(found).partition(_WHERE)[0])
        texts.append(str(found))
        found = found.__cause__ or found.__context__
    for text in texts:
        matches = _OURS.findall(text.replace("\\n", "\n"))
        if matches:
            name, message = matches[-1]
            kind = getattr(errors, name, errors.InputError)
            return kind(message.strip())
    gone = _GONE.search(texts[0])
    if gone is not None:
        return LostRunnerError(f"the runner cannot be reached any more ({gone[1]}); run again to go on")
    lines = [line.strip() for line in texts[0].splitlines() if line.strip()] or [type(error).__name__]
    shown = max(lines[-1], lines[0], key=lambda line: "Error" in line)
    return BisiftError(f"the job failed: {shown[:500]} (BISIFT_DEBUG=1 shows all); run again to go on")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave Beam's log to those who debug: what goes wrong is raised, and told once."""
    if debugging():
        yield
        return
    # Two stay: Beam logs at the end of the process, too, and its threads see later that a runner went away.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    threading.excepthook = _thread_failed
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # workers print their tracebacks, and those in processes of their own their logs
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), _descriptor_to(nowhere):
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def _descriptor_to(file: TextIO) -> Iterator[None]:
    """Let what processes inherit as stderr be `file`."""
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Tell what ended a thread, but for a runner that went away: the main thread tells that."""
    if not issubclass(failure.exc_type, grpc.RpcError):
        threading.__excepthook__(failure)


@contextlib.contextmanager
def _watched(steps: Callable[[], Step] | None) -> Iterator[None]:
    """Show how far the job is while it runs."""
    with contextlib.ExitStack() as stack:
        stream = sys.stderr
        with contextlib.suppress(OSError, ValueError):  # not everything that stands for stderr is a file
            stream = stack.enter_context(open(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding))
        show = stack.enter_context(Terminal(stream).progress())
        if steps is None or show is None:
            yield
            return
        ended = threading.Event()

        def watch() -> None:
            while True:
                with contextlib.suppress(OSError, BisiftError):
                    show(steps())
                if ended.wait(POLL_SECONDS):
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class Stopwatch:
    """Wall-clock seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)
