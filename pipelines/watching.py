"""A watched folder or prefix as an unbounded source: each file once, and those that changed after they were read."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.coders import StrUtf8Coder
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Duration, Timestamp

from bisift import remote
from bisift.errors import InputError
from bisift.filter.readers import Input, ReadOptions, describe, expand, is_half_of_pair, is_pair
from bisift.pipelines.windows import Ledger

_UNFINISHED = (".part", ".tmp")
_HIDDEN = (".", "_")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that is to be read, or (`was`: its version then) one that is no longer what it was when it was read.

    `problem` says why it cannot be opened.
    """

    origin: Input
    problem: str | None = None
    was: str | None = None

    @property
    def version(self) -> str:
        """What tells a file from a changed one: size in bytes and modification time in ns."""
        return version(self.origin.size, self.origin.modified)


def version(size: int | None, modified: int | None) -> str:
    """Return the size in bytes and the modification time in ns as one word."""
    return f"{size}@{modified}"


class Watch(beam.PTransform):
    """Look at `patterns` every `every_s` seconds; yield (path, Arrival) with the time of the look as event time.

    What the published windows of `output` hold is not read again. `for_s`: end after so many seconds, None: never.
    """

    def __init__(
        self, patterns: Sequence[str], options: ReadOptions, output: str, every_s: float, for_s: float | None
    ) -> None:
        super().__init__()
        self._list = _List(patterns, options, output)
        self._every_s = every_s
        self._for_s = for_s

    def expand(self, root: Any) -> Any:
        start = Timestamp.now()
        stop = MAX_TIMESTAMP if self._for_s is None else start + Duration(self._for_s)
        return (
            root
            | "Ticks" >> PeriodicImpulse(start, stop, fire_interval=self._every_s)
            | "List" >> beam.ParDo(self._list).with_output_types(tuple[str, Any])
            | "Once" >> beam.ParDo(_Once())
        )


class _List(beam.DoFn):
    """Offers what is there and not published yet, at every tick anew: a runner may drop what it has processed."""

    def __init__(self, patterns: Sequence[str], options: ReadOptions, output: str) -> None:
        self._patterns = patterns
        self._options = options
        self._output = output

    def setup(self) -> None:
        self._ledger = Ledger(self._output)

    def process(self, _: Any) -> Iterator[tuple[str, Arrival]]:
        self._ledger.refresh()
        for arrival in ready(self._patterns, self._options):
            known = self._ledger.versions.get(arrival.origin.origin)
            if known != arrival.version:
                yield arrival.origin.origin, replace(arrival, was=known)


_VERSION = beam.DoFn.StateParam(ReadModifyWriteStateSpec("version", StrUtf8Coder()))


class _Once(beam.DoFn):
    """Passes the first version of each path on as a file to read, and a later one as a change, once."""

    def process(self, element: tuple[str, Arrival], state: Any = _VERSION) -> Iterator[Arrival]:
        arrival = element[1]
        known = state.read() or arrival.was
        if known == arrival.version:
            return
        state.write(arrival.version)
        yield replace(arrival, was=known)


def ready(patterns: Sequence[str], options: ReadOptions) -> Iterator[Arrival]:
    """Yield the files of folders, globs and URIs that may be read: those with finished names, Moses files in pairs."""
    paths = sorted({path for pattern in patterns for path in _listed(pattern) if _finished(path)})
    place = 0
    while place < len(paths):
        pair = paths[place : place + 2]
        together = options.format == "moses" or (options.format == "auto" and is_pair(pair))
        if together and len(pair) == 2:
            place += 2
            yield from _arrivals(pair, options)
            continue
        place += 1
        if not together and not (options.format == "auto" and is_half_of_pair(pair[0])):
            yield from _arrivals(pair[:1], options)


def _listed(pattern: str) -> list[str]:
    if remote.is_remote(pattern):
        return remote.listed(pattern)
    if os.path.isdir(pattern):
        pattern = os.path.join(glob.escape(pattern), "*")
    return [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]


def _finished(path: str) -> bool:
    name = remote.redact(path).rpartition("/")[2]
    return not name.startswith(_HIDDEN) and not name.endswith(_UNFINISHED)


def _arrivals(paths: Sequence[str], options: ReadOptions) -> Iterator[Arrival]:
    try:
        yield Arrival(expand(paths, options)[0])
    except InputError as error:
        try:
            size, modified = describe(paths[0])
        except InputError:
            return  # gone between two looks
        yield Arrival(Input(paths[0], tuple(paths), "auto", size, modified), problem=str(error))
