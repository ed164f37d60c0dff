"""Parts: the scored chunks of an unfinished run, on disk, so that a killed run goes on where it stopped.

A part is one Arrow IPC file: the scored pairs of a chunk, the keys the finishing pass needs, and (in the schema
metadata) how far the input was read and what was rejected. It appears under its name whole or not at all; the
contiguous run of parts from 0 is the state of the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from bisift.errors import BisiftError, ConfigError
from bisift.filter.readers import Reject
from bisift.manifest import read_json, write_json

HEADER_KEY = b"bisift.part"


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What a part covers: records up to `last_row` of input number `input`, of which `pairs` were readable."""

    input: int
    last_row: int
    pairs: int
    rejects: tuple[Reject, ...]

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> Header:
        value = json.loads(raw)
        return cls(**{**value, "rejects": tuple(Reject(**reject) for reject in value["rejects"])})


def write_part(path: Path, table: pa.Table, header: bytes) -> None:
    """Write one part; `header` is a `Header` in JSON."""
    schema = table.schema.with_metadata({HEADER_KEY: header})
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema, options=options) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    os.replace(temporary, path)


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part, or only some of its columns (the others are not decompressed)."""
    with pa.memory_map(str(path)) as file:
        options = pa.ipc.IpcReadOptions()
        if columns is not None:
            names = pa.ipc.open_file(file).schema.names
            options = pa.ipc.IpcReadOptions(included_fields=[names.index(column) for column in columns])
        return pa.ipc.open_file(file, options=options).read_all()


def read_header(path: Path) -> Header:
    """Read what a part covers."""
    with pa.memory_map(str(path)) as file:
        return Header.from_json(pa.ipc.open_file(file).schema.metadata[HEADER_KEY])


class State:
    """The state folder of one run: a lock, the run's identity and its parts.

    `identity` is everything the output's bytes depend on; workers and chunk size are not in it.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, restart: bool) -> None:
        """Open or make the folder and take its lock.

        Raises:
            ConfigError: the folder belongs to another configuration, or another run works on it.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(folder / "lock", "w")  # noqa: SIM115 - held as long as the state is open
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ConfigError(f"{folder}: another run is writing this output; wait for it or stop it") from error
        try:
            self._claim(json.loads(json.dumps(identity)), restart=restart)
        except BaseException:
            self._lock.close()
            raise

    def _claim(self, identity: dict[str, Any], *, restart: bool) -> None:
        file = self.folder / "run.json"
        if restart or not file.exists() or not self.path(0).exists():  # without parts there is nothing to go on with
            for old in self.folder.glob("part-*"):
                old.unlink()
            write_json(file, identity)
        else:
            known = read_json(file)
            if known != identity:
                changed = ", ".join(sorted(key for key in {*known, *identity} if known.get(key) != identity.get(key)))
                raise ConfigError(
                    f"{self.folder}: holds an unfinished run with other settings ({changed}); "
                    "give the same ones to go on, or --restart to begin anew"
                )
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self.path(0).exists():
            self.discard()  # nothing is done yet, so there is nothing to keep
        self._lock.close()

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:08d}.arrow"

    def parts(self) -> list[Path]:
        """The contiguous parts from 0; later ones, whose predecessors are missing, are removed."""
        found = sorted(self.folder.glob("part-*.arrow"))
        whole = [path for number, path in enumerate(found) if path == self.path(number)]
        for path in found[len(whole) :]:
            path.unlink()
        return whole

    def discard(self) -> None:
        """Remove the folder: the run's output is published."""
        shutil.rmtree(self.folder, ignore_errors=True)


def headers(paths: Sequence[Path]) -> Iterator[Header]:
    """Read the headers of parts in order.

    Raises:
        BisiftError: a part is broken (a full or failing disk).
    """
    for path in paths:
        try:
            yield read_header(path)
        except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
            raise BisiftError(
                f"{path}: this part of the state is broken ({error}); run again with --restart"
            ) from error


@contextlib.contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn a failing disk (full, read-only, vanished) into one line that names the path."""
    try:
        yield
    except OSError as error:
        raise BisiftError(f"{path}: {error.strerror or error}; what is done is kept, run again to go on") from error
