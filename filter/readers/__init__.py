"""Streaming readers: files of parallel text in, Arrow chunks of pairs and rejects out, memory flat."""

from bisift.filter.readers.inputs import expand
from bisift.filter.readers.reading import read
from bisift.filter.readers.types import Chunk, Input, ReadOptions, Reject

__all__ = ["Chunk", "Input", "ReadOptions", "Reject", "expand", "read"]
