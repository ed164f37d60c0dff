"""What is shuffled between steps: bytes by value, or where they lie in a file that all workers see.

By value, a runner on one machine would hold all that is shuffled in memory; on a cluster there is no such file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa

from bisift import remote
from bisift.pipelines import storage


class Block(NamedTuple):
    """Some bytes of a local file."""

    path: str
    offset: int
    size: int


def spilled(blocks: Iterable[tuple[str, bytes]], folder: str | None, name: str) -> Iterator[tuple[str, Block | bytes]]:
    """Yield keyed blocks of bytes: as they are, or from a file of that name in the folder.

    Raises:
        BisiftError: the disk refuses.
    """
    if folder is None:
        yield from blocks
        return
    path = remote.join(folder, name)
    places: list[tuple[str, Block]] = []
    with storage.failing(path), storage.created(path) as local, open(local, "wb") as file:
        for key, block in blocks:
            places.append((key, Block(path, file.tell(), len(block))))
            file.write(block)
    yield from places


def load(block: Block | bytes) -> bytes:
    """Return the bytes themselves, wherever they are.

    Raises:
        BisiftError: the file is not there any more.
    """
    if isinstance(block, bytes):
        return block
    path, offset, size = block
    with storage.failing(path), open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def to_bytes(table: pa.Table) -> bytes:
    """Return a table as a compressed Arrow IPC stream: a pickled slice would carry all that it was cut from."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return sink.getvalue()


def to_table(block: Block | bytes) -> pa.Table:
    """Return the table in a block that `to_bytes` made."""
    return pa.ipc.open_stream(pa.py_buffer(load(block))).read_all()
