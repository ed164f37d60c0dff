"""Streaming readers: files of parallel text in, Arrow chunks of pairs and rejects out, memory flat."""

from bisift.filter.readers.base import REASONS, Chunk, ReadOptions, Reject
from bisift.filter.readers.inputs import (
    ChangedInputError,
    Input,
    check_unchanged,
    describe,
    expand,
    is_half_of_pair,
    is_pair,
)
from bisift.filter.readers.reading import Span, count_lines, read, read_span, spans

__all__ = [
    "REASONS",
    "Chunk",
    "Input",
    "ChangedInputError",
    "ReadOptions",
    "Reject",
    "Span",
    "check_unchanged",
    "count_lines",
    "describe",
    "expand",
    "is_half_of_pair",
    "is_pair",
    "read",
    "read_span",
    "spans",
]
