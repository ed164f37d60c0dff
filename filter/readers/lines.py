"""Lines of bounded length: a line ends at LF alone, and never more than a block and one line are held."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

from bisift.filter.readers.base import RAW_BYTES
from bisift.filter.readers.streams import HEAD_BYTES, Stream

BLOCK = 1 << 18
_PROBE = 1 << 14  # bytes read at once to find where a line begins
BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line without its LF, and where it begins; of one that is too long only the first bytes are held."""

    offset: int
    data: bytes
    too_long: bool


class Lines:
    """The lines of a stream, front to back; a BOM at the start is not part of the first."""

    def __init__(self, stream: Stream, limit: int) -> None:
        self.stream = stream
        self._limit = limit
        self._blocks = self._cut()
        self._pending: list[bytes] = []
        self._next = 0
        self._offset = 0
        self._too_long = False
        self._end = sys.maxsize

    def between(self, begin: int, end: int) -> None:
        """Go to the first line that begins at byte `begin` or later, and stop before the first at `end` or later."""
        self._end = end
        if not begin and self.stream.peek().startswith(BOM):
            self._end = max(end, len(BOM) + 1)  # the first line begins behind it
        if begin:
            self._blocks = self._cut(self._line_start(begin))

    def __iter__(self) -> Iterator[Line]:
        return map(Line._make, self.plain())

    def plain(self) -> Iterator[tuple[int, bytes, bool]]:
        """Yield the fields of `Line` without the names, which cost as much as finding the line."""
        while self._pending or self._fill():
            lines, self._pending = self._pending, []
            offset, too_long = self._offset, self._too_long
            for number in range(self._next, len(lines)):
                if offset >= self._end:
                    return
                line = lines[number]
                yield offset, line, too_long
                offset += len(line) + 1

    def skip(self, count: int) -> int:
        """Pass over up to `count` lines without looking at them, and return how many there were; before iterating."""
        left = count
        while left and (self._pending or self._fill()):
            here = len(self._pending) - self._next
            if here > left:
                passed = self._pending[self._next : self._next + left]
                self._offset += sum(map(len, passed)) + left
                self._next += left
                return count
            left -= here
            self._pending = []
        return count - left

    def _fill(self) -> bool:
        block = next(self._blocks, None)
        if block is None:
            return False
        self._offset, self._pending, self._too_long = block
        self._next = 0
        return True

    def _line_start(self, offset: int) -> int:
        """Return where the first line begins that does so at `offset` or later."""
        place = offset - 1
        self.stream.jump(place)
        while data := self.stream.read(_PROBE):
            if (end := data.find(b"\n")) >= 0:
                return place + end + 1
            place += len(data)
        return place

    def _cut(self, begin: int = 0) -> Iterator[tuple[int, list[bytes], bool]]:
        """Yield blocks of whole lines with the offset of the first; a line that is too long is a block of its own."""
        read, limit = self.stream.read, self._limit
        offset, rest = begin, b""
        if begin:
            self.stream.jump(begin)
        elif self.stream.peek().startswith(BOM):
            offset = len(read(len(BOM)))
        while data := read(BLOCK):
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            if lines:
                longest = max(map(len, lines))
                if longest <= limit:
                    yield offset, lines, False
                    offset += sum(map(len, lines)) + len(lines)
                else:
                    for line in lines:
                        yield offset, [line], len(line) > limit
                        offset += len(line) + 1
            if len(rest) > limit:
                kept, length = rest[:RAW_BYTES], len(rest)
                rest = b""
                while data := read(BLOCK):
                    head, end, rest = data.partition(b"\n")
                    length += len(head)
                    if end:
                        break
                yield offset, [kept], True
                offset += length + 1
                lines = rest.split(b"\n")
                rest = lines.pop()
                for line in lines:
                    yield offset, [line], len(line) > limit
                    offset += len(line) + 1
        if rest:
            yield offset, [rest], len(rest) > limit


def without_return(data: bytes) -> bytes:
    """Take off the CR of a CRLF line end."""
    return data[:-1] if data[-1:] == b"\r" else data


def head_lines(stream: Stream, limit: int) -> list[Line]:
    """Return the whole lines of the stream's first block, without taking them; offsets count from the block."""
    head = stream.peek().removeprefix(BOM)
    lines = head.split(b"\n")
    if len(stream.peek()) == HEAD_BYTES or not lines[-1]:
        del lines[1 if len(lines) == 1 else -1 :]  # a first line that does not end here is still the first
    return [Line(0, line, len(line) > limit) for line in lines]
