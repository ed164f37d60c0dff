"""Ranges: the pieces of inputs that are read, scored and written alone, numbered so that each row's number is true.

Plain TSV and JSONL are cut by bytes, Parquet by row groups; all other inputs are one range, which is read in pieces.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from bisift.errors import InputError
from bisift.filter.readers import Input, ReadOptions, Span, check_unchanged, count_lines, read, spans
from bisift.pipelines.gathering import Gather

RANGE_BYTES = 16 << 20
WHOLE = Span()


@dataclass(frozen=True, slots=True)
class Range:
    """A span of input number `number`; `last_row`: rows after it are not wanted.

    `lines` begin in the span and `before` ahead of it (plain TSV and JSONL). `problem` says why the input cannot be
    opened; it is then a single range, and a reject.
    """

    number: int
    origin: Input
    span: Span = WHOLE
    last_row: int | None = None
    lines: int = 0
    before: int = 0
    problem: str | None = None

    @property
    def name(self) -> str:
        """Names of ranges sort in the order of the rows."""
        return piece_name(self.number, self.span.begin)

    @property
    def whole(self) -> bool:
        """Whether it must be read from its beginning, in pieces."""
        return self.span.end is None and self.problem is None

    @property
    def counted(self) -> bool:
        """Whether its lines must be counted before the rows after it can be numbered."""
        return self.span.end is not None and self.origin.format != "parquet"


def piece_name(number: int, begin: int) -> str:
    """Name a piece of an input by where it begins: a byte, or the rows before it."""
    return f"{number:05d}-{begin:012d}"


def limited(origins: Sequence[Input], options: ReadOptions, limit: int | None) -> Iterator[Range]:
    """Yield a range for each input of which the first `limit` rows of all have some."""
    left = limit
    for number, origin in enumerate(origins):
        if left is None:
            yield Range(number, origin)
            continue
        if left <= 0:
            return
        rows = 0
        try:
            for chunk in read(origin, options):
                rows = chunk.last_row
                if rows >= left:
                    break
        except InputError:
            rows += 1  # the reject that says so
        yield Range(number, origin, last_row=min(rows, left))
        left -= rows


class Ranges(beam.PTransform):
    """From whole inputs to numbered ranges: cut, count lines, add up, and spread over the workers."""

    def __init__(self, options: ReadOptions, size: int, *, strict: bool) -> None:
        super().__init__()
        self._cut = _Cut(options, size, strict=strict)

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        return (
            inputs
            | "Cut" >> beam.ParDo(self._cut)
            | "SpreadForCounting" >> beam.Reshuffle()
            | "CountLines" >> beam.ParDo(_CountLines())
            | "Number" >> Gather(numbered)
            | "Spread" >> beam.Reshuffle()
        )


class _Cut(beam.DoFn):
    def __init__(self, options: ReadOptions, size: int, *, strict: bool) -> None:
        self._options = options
        self._size = size
        self._strict = strict

    def process(self, element: Range) -> Iterator[Any]:
        check_unchanged(element.origin)
        try:
            for span in spans(element.origin, self._options, self._size):
                yield replace(element, span=span)
        except InputError as error:
            if self._strict:
                raise
            yield replace(element, problem=str(error))


class _CountLines(beam.DoFn):
    def process(self, element: Range) -> Iterator[Any]:
        yield replace(element, lines=count_lines(element.origin, element.span)) if element.counted else element


def numbered(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield the ranges in order, each with the number of lines before it in its input."""
    ordered = sorted(ranges, key=lambda one: one.name)
    for _, group in itertools.groupby(ordered, key=lambda one: one.number):
        before = 0
        for one in group:
            yield replace(one, before=before)
            before += one.lines
