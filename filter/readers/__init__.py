"""Streaming readers: files of parallel text in, Arrow chunks of pairs and rejects out, memory flat."""

from bisift.filter.readers.base import REASONS, Chunk, ReadOptions, Reject
from bisift.filter.readers.inputs import Input, expand
from bisift.filter.readers.reading import read

__all__ = ["REASONS", "Chunk", "Input", "ReadOptions", "Reject", "expand", "read"]
