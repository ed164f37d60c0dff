"""What every writer keeps to: bytes that depend only on the rows in order, and nothing published unless all is."""

from __future__ import annotations

import abc
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from bisift.errors import BisiftError, ContractError

STANDARD = "-"


@contextlib.contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn what a disk refuses (full, read-only, no permission) into one line that names the path.

    A broken pipe passes: it is the reader of stdout that went away.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BisiftError(f"{path}: cannot be written: {error.strerror or error}") from error


class Writer(abc.ABC):
    """Writes tables to one output; a context manager that publishes at its end, and nothing after an exception."""

    def __init__(self, output: str, schema: pa.Schema) -> None:
        self.output = output
        self.schema = schema
        self.rows = 0
        self.counts: Counter[str] = Counter()
        self._open = contextlib.ExitStack()

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table` (any number), cast to the schema.

        Raises:
            ContractError: a column of the schema is missing or cannot be cast.
            BisiftError: the disk refuses.
        """
        with disk_errors(self.output):
            self._write(self._cast(table))
        self.rows += table.num_rows

    def close(self) -> None:
        """Flush to disk and publish.

        Raises:
            BisiftError: the disk refuses; then nothing is published.
        """
        try:
            with disk_errors(self.output):
                self._finish()
                self._open.close()
        except BaseException as error:
            self._discard(error)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._discard(error)

    def _cast(self, table: pa.Table) -> pa.Table:
        if table.schema.equals(self.schema):
            return table
        try:
            return table.select(self.schema.names).cast(self.schema)
        except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ContractError(f"{self.output}: these rows do not fit the schema that is written: {error}") from error

    def _discard(self, error: BaseException) -> None:
        """Let every open file remove its temporary, as after `error`."""
        self._abandon()
        with contextlib.suppress(OSError):
            self._open.__exit__(type(error), error, error.__traceback__)

    @abc.abstractmethod
    def _write(self, table: pa.Table) -> None: ...

    @abc.abstractmethod
    def _finish(self) -> None:
        """Write what is still held."""

    @abc.abstractmethod
    def _abandon(self) -> None:
        """Let go of the file handles; what they wrote is removed."""
