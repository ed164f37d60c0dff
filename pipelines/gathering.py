"""All elements of a collection at once, in one place: small facts about ranges, files and shards, never rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam

KEY = "all"


class Gather(beam.PTransform):
    """Call `function` once with the list of all elements (none, too) and emit what it returns.

    It stands in the place of a side input, which portable runners limit: one GroupByKey under one key.
    """

    def __init__(self, function: Callable[[list[Any]], Iterable[Any]]) -> None:
        super().__init__()
        self._function = function

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        nothing = elements.pipeline | "Nothing" >> beam.Create([None], reshuffle=False)
        return (
            ((elements, nothing) | beam.Flatten())
            | "Key" >> beam.ParDo(_Key()).with_output_types(tuple[str, Any])
            | beam.GroupByKey()
            | "Call" >> beam.ParDo(_Call(self._function))
        )


class _Key(beam.DoFn):
    def process(self, element: Any) -> Iterator[Any]:
        yield KEY, element


class _Call(beam.DoFn):
    def __init__(self, function: Callable[[list[Any]], Iterable[Any]]) -> None:
        self._function = function

    def process(self, element: tuple[str, Iterable[Any]]) -> Iterator[Any]:
        yield from self._function([value for value in element[1] if value is not None])
