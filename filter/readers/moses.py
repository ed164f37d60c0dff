"""Moses: two files, one segment a line, line i of one translated by line i of the other."""

from __future__ import annotations

from collections.abc import Iterator

from bisift.errors import ConfigError, InputError
from bisift.filter.readers.base import Broken, ReadOptions, Record
from bisift.filter.readers.columns import asked
from bisift.filter.readers.lines import Line, Lines, without_return
from bisift.filter.readers.streams import Stream


class Moses:
    """Pairs of lines; a blank line is an empty side.

    Raises:
        InputError: no text.
        ConfigError: columns are asked for.
    """

    columns: tuple[str, ...] = ("source", "target")

    def __init__(self, source: Stream, target: Stream, options: ReadOptions) -> None:
        if asked(options):
            raise ConfigError(
                f"{source.name}: Moses files have no columns to choose: {', '.join(asked(options).values())}"
            )
        self._streams = (source, target)
        for stream in self._streams:
            stream.check_text()
        self._source, self._target = (Lines(stream, options.max_line_bytes) for stream in self._streams)

    def records(self, skip: int) -> Iterator[Record]:
        """Yield the pairs of lines after the first `skip`.

        Raises:
            InputError: one file has more lines than the other.
        """
        counts = [self._source.skip(skip), self._target.skip(skip)]
        sources, targets = iter(self._source), iter(self._target)
        while True:
            source, target = next(sources, None), next(targets, None)
            if source is None or target is None:
                break
            counts = [count + 1 for count in counts]
            yield self._pair(source, target)
        counts[0] += (source is not None) + sum(1 for _ in sources)
        counts[1] += (target is not None) + sum(1 for _ in targets)
        if counts[0] != counts[1]:
            names = (stream.name for stream in self._streams)
            listed = ", ".join(f"{name} has {count:,} lines" for name, count in zip(names, counts, strict=True))
            raise InputError(f"{listed}: the files of a Moses pair must be parallel, line by line")

    def _pair(self, source: Line, target: Line) -> Record:
        texts = []
        for line, stream in zip((source, target), self._streams, strict=True):
            reason = "line_too_long" if line.too_long else "nul_byte" if b"\0" in line.data else None
            try:
                texts.append(without_return(line.data).decode() if reason is None else "")
            except UnicodeDecodeError:
                reason = "invalid_utf8"
            if reason:
                return Broken(line.offset, reason, line.data, stream.name)
        return texts[0], texts[1]
