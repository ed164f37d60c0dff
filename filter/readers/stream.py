"""Bytes of an input: decompressed by content, counted, cut into lines of bounded length."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import sys
from collections.abc import Iterator
from typing import BinaryIO, cast

from bisift.errors import InputError
from bisift.filter.readers.inputs import open_binary

BOM = b"\xef\xbb\xbf"


class Stream:
    """One opened file: `data` gives its decompressed bytes, `position` how many compressed ones are read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._raw = open_binary(path)
        self._base = io.BufferedReader(cast(io.RawIOBase, self._raw), 1 << 20)
        self.data = self._decompressed()

    def _decompressed(self) -> BinaryIO:
        magic = self._base.peek(6)[:6]
        file = cast(BinaryIO, self._base)
        if magic[:2] == b"\x1f\x8b":
            return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 20))
        if magic[:3] == b"BZh":
            return cast(BinaryIO, io.BufferedReader(bz2.BZ2File(file), 1 << 20))
        if magic == b"\xfd7zXZ\x00":
            return cast(BinaryIO, io.BufferedReader(lzma.LZMAFile(file), 1 << 20))
        if magic[:4] == b"\x28\xb5\x2f\xfd":
            if sys.version_info >= (3, 14):
                from compression import zstd
            else:
                from backports import zstd
            return cast(BinaryIO, io.BufferedReader(zstd.ZstdFile(file), 1 << 20))
        return file

    def position(self) -> int | None:
        """Compressed bytes read, or None where the file cannot tell."""
        try:
            return self._raw.tell()
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        self.data.close()


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Turn a file that cannot be read to its end into one line.

    Raises:
        InputError: truncated or damaged compression, or a failing disk.
    """
    try:
        yield
    except EOFError as error:
        raise InputError(f"{path}: ends in the middle (truncated); fetch it again") from error
    except (OSError, lzma.LZMAError, ValueError) as error:
        raise InputError(f"{path}: cannot be read to its end: {error}; fetch it again") from error
    except Exception as error:
        if type(error).__name__ in ("ZstdError", "error"):  # zstd's and zlib's own kinds
            raise InputError(f"{path}: cannot be read to its end: {error}; fetch it again") from error
        raise


def lines(stream: Stream, limit: int) -> Iterator[tuple[bytes, int, bool]]:
    """Yield (line without its end, offset, whether it is too long); a BOM at the start is taken off.

    A line ends at LF alone, and one CR before it goes too. Of a line over `limit` bytes only the first are held.
    """
    data, offset = stream.data, 0
    first = True
    while True:
        line = data.readline(limit + 2)
        if not line:
            return
        size = len(line)
        long = False
        if not line.endswith(b"\n") and size > limit:
            rest = data.readline(1 << 16)
            long = size > limit + 1 or rest not in (b"", b"\n")
            while rest:
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
                rest = data.readline(1 << 16)
        if first:
            first = False
            if line.startswith(BOM):
                line = line[3:]
            if line.count(b"\x00") * 4 > len(line) or line.startswith((b"\x89PNG", b"PK\x03\x04", b"%PDF")):
                raise InputError(f"{stream.path}: is no text; give parallel text, or its --format")
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        yield line, offset, long or len(line) > limit
        offset += size
