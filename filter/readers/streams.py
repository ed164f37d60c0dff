"""Bytes of an input: local, remote or stdin, decompressed where the first bytes say that they are compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import IO, Any, TypeVar, cast

from bisift import remote
from bisift.errors import InputError

T = TypeVar("T")
STDIN = "-"
HEAD_BYTES = 1 << 16
_MAGIC_BYTES = 6


def _zstd(raw: _Source) -> IO[bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return cast(IO[bytes], zstd.ZstdFile(cast(Any, raw)))


# A zstd file may begin with a skippable frame (parallel zstd writes one), whose magic has 16 values.
_COMPRESSIONS: tuple[tuple[re.Pattern[bytes], str, Callable[[Any], IO[bytes]]], ...] = (
    (re.compile(rb"\x1f\x8b"), "gzip", lambda raw: cast(IO[bytes], gzip.GzipFile(fileobj=raw))),
    (re.compile(rb"BZh[1-9]"), "bzip2", bz2.BZ2File),
    (re.compile(rb"\xfd7zXZ\x00"), "xz", lzma.LZMAFile),
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), "zstd", _zstd),
)
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "a Parquet file: give --format parquet"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"\x7fELF", "a program"),
    (b"ARROW1\x00\x00", "an Arrow file: convert it to Parquet"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\xff\xfe", "UTF-16 text: convert it with iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text: convert it with iconv -f UTF-16 -t UTF-8"),
)
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1b")


class _Source:
    """Stored bytes, with those already looked at put back in front, and a count of what was taken."""

    def __init__(self, raw: IO[bytes], head: bytes) -> None:
        self._raw = raw
        self._head = head
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        if self._head:
            data, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
        else:
            data = self._raw.read(size)
        self.taken += len(data)
        return data

    def seekable(self) -> bool:
        return False


class Stream:
    """The decompressed bytes of one input, read once from front to back.

    Any damage (truncated or corrupt compression, a failing disk or network) is an InputError that names the input.
    """

    def __init__(self, name: str, raw: IO[bytes], size: int | None) -> None:
        self.name = name
        self._raw = raw
        self._size = size
        self._compression: str | None = None
        self._head = b""
        self._failure: InputError | None = None
        magic = self._guard(lambda: _read_up_to(raw, _MAGIC_BYTES))
        self._source = _Source(raw, magic)
        self._data: Any = self._source
        for pattern, compression, opener in _COMPRESSIONS:
            if pattern.match(magic):
                self._compression = compression
                self._data = opener(self._source)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.name != STDIN:
            self._raw.close()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none only at the end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._take(size)

    def _take(self, size: int) -> bytes:
        """Return the next bytes; those before a break first, the error with the next call."""
        if self._failure is not None:
            raise self._failure
        # One call after the other: a single one for all would lose what it had when it met the break.
        read = self._data.read1 if self.compressed else self._data.read
        parts: list[bytes] = []
        left = size
        try:
            while left > 0 and (data := self._guard(partial(read, left))):
                parts.append(data)
                left -= len(data)
        except InputError as error:
            if not parts:
                raise
            self._failure = error
        return b"".join(parts)

    def peek(self) -> bytes:
        """Return the first HEAD_BYTES bytes (all, where there are fewer) without taking them; call before `read`."""
        if not self._head:
            self._head = self._take(HEAD_BYTES)
        return self._head

    @property
    def compressed(self) -> bool:
        """Whether what is stored are not the bytes that `read` returns."""
        return self._compression is not None

    def jump(self, offset: int) -> None:
        """Go on reading at byte `offset`; only of what is stored as it is, and not of stdin."""
        assert not self.compressed, "bytes of compressed data cannot be addressed"
        self._guard(lambda: self._raw.seek(offset))
        self._head = b""
        self._source = self._data = _Source(self._raw, b"")

    def fraction(self) -> float | None:
        """How much of the stored bytes has been taken, or None when their number is not known."""
        if self._size is None:
            return None
        return min(1.0, self._source.taken / self._size) if self._size else 1.0

    def check_text(self) -> None:
        """Raise InputError when the first block is no text: a known binary format, or full of control bytes."""
        head = self.peek()
        for signature, kind in _SIGNATURES:
            if head.startswith(signature):
                raise InputError(f"{self.name}: is no text but {kind}")
        control = len(head) - len(head.translate(None, _CONTROL))
        # Single NUL bytes are damaged rows, which become rejects; a block full of them is another kind of file.
        if b"\0" in head and control >= 16 and control * 20 > len(head):
            raise InputError(f"{self.name}: is no text: {control:,} of its first {len(head):,} bytes are control bytes")

    def _guard(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except EOFError as error:
            raise InputError(
                f"{self.name}: the {self._compression} data end too early (a truncated file): copy or download it again"
            ) from error
        except Exception as error:
            damaged = isinstance(error, (zlib.error, lzma.LZMAError)) or type(error).__name__ == "ZstdError"
            if not damaged and not isinstance(error, OSError):
                raise
            if self._compression and (damaged or getattr(error, "errno", None) is None):
                raise InputError(
                    f"{self.name}: the {self._compression} data are damaged ({error}): copy or download it again"
                ) from error
            raise InputError(f"{self.name}: {remote.reason(error)}") from error


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """Read `size` bytes although a pipe may give fewer at a time."""
    parts: list[bytes] = []
    while size > 0 and (data := file.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def open_stream(path: str) -> Stream:
    """Open a path, URI or `-`.

    Raises:
        InputError: it cannot be opened, or is damaged at its very start.
    """
    if path == STDIN:
        return Stream(STDIN, sys.stdin.buffer, None)
    if remote.is_remote(path):
        file, size = remote.open_input(path)
        return Stream(remote.redact(path), file, size)
    try:
        local = open(path, "rb")  # noqa: SIM115 - closed by the stream
    except OSError as error:
        raise InputError(f"{path}: {remote.reason(error)}") from error
    try:
        status = os.fstat(local.fileno())
        return Stream(path, local, status.st_size if stat.S_ISREG(status.st_mode) else None)
    except BaseException:
        local.close()
        raise
