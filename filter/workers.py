"""Worker processes that keep order: one thread a process feeds it one task at a time, so no pipe can jam.

A worker ends when its pipe closes, so a parent killed at any moment leaves no orphans behind.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from bisift.errors import BisiftError

Task = tuple[Any, ...]
Handler = Callable[..., Any]


def _serve(connection: Connection, make: Callable[..., Handler], arguments: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        handler = make(*arguments)
        while True:
            task = connection.recv()
            try:
                connection.send((True, handler(*task)))
            except Exception as error:
                connection.send((False, error))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # the handler could not be made: say so instead of dying without a word
        connection.send((False, error))


class Workers:
    """A pool of `count` processes, each with a handler of its own made by `make(*arguments)`."""

    def __init__(self, count: int, make: Callable[..., Handler], arguments: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self._count = count
        self._all: list[tuple[BaseProcess, Connection]] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
            process.start()
            theirs.close()
            self._all.append((process, ours))
        self._mine = threading.local()
        unclaimed = iter(self._all)
        self._threads = ThreadPoolExecutor(count, initializer=lambda: setattr(self._mine, "worker", next(unclaimed)))

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # ends the workers, which wakes the threads that wait for them
            for process, _ in self._all:
                process.terminate()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process, connection in self._all:
            connection.close()
            process.join()

    def _run(self, task: Task) -> Any:
        process, connection = self._mine.worker
        try:
            connection.send(task)
            done, value = connection.recv()
        except (EOFError, OSError) as error:
            process.join(timeout=5)
            raise BisiftError(
                f"a worker process died (exit {process.exitcode}): out of memory? "
                "what is done is kept; run again with fewer --workers or smaller --chunk-rows"
            ) from error
        if not done:
            raise value
        return value

    def map(self, tasks: Iterable[Task]) -> Iterator[Any]:
        """Yield the results in the order of `tasks`, which are drawn at most two a worker ahead."""
        pending: deque[Future[Any]] = deque()
        stream = iter(tasks)
        for task in itertools.islice(stream, 2 * self._count):
            pending.append(self._threads.submit(self._run, task))
        while pending:
            yield pending.popleft().result()
            for task in itertools.islice(stream, 1):
                pending.append(self._threads.submit(self._run, task))
