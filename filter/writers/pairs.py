"""Where selected pairs go: all columns as Parquet or JSONL, or the two texts alone, as trainers read them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa

from bisift.errors import ConfigError
from bisift.filter.writers import STANDARD, Writer, open_writer, output_files, output_kind
from bisift.filter.writers.text import COMPRESSIONS, REPLACED, JsonlFormat, PlainFormat, TextWriter

WHOLE = ("parquet", "jsonl")
"""The formats that hold all columns; the others hold the two texts alone."""

_TEXTS = pa.schema([pa.field("source", pa.string()), pa.field("target", pa.string())])


class PairsWriter(Protocol):
    """Writes SCORED tables; a context manager that publishes at its end."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that are written, none for stdout."""

    @property
    def replaced(self) -> int:
        """Control characters that became spaces."""

    def write(self, table: pa.Table) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def pairs_format(output: str, form: str | None) -> str:
    """Return the format of an output: the one asked for, or that of its ending.

    Raises:
        ConfigError: neither says it, or they contradict each other.
    """
    if output == STANDARD:
        if form in ("moses", "parquet"):
            raise ConfigError(f"{form} cannot go to stdout: name a file, or use --to tsv")
        return form or "tsv"
    try:
        ending: str | None = output_kind(output)[0]
    except ConfigError:
        if form is None or form == "parquet":
            raise
        ending = None
    ending = "parquet" if ending == "parts" else ending
    if form is not None and ending not in (None, form):
        raise ConfigError(f"{output}: its ending says {ending}, --to says {form}")
    return form or str(ending)


def open_pairs_writer(output: str, schema: pa.Schema, form: str) -> PairsWriter:
    """Return the writer of a format that `pairs_format` returned."""
    if form == "moses":
        return MosesWriter(output)
    compression = output.lower().rpartition(".")[2]
    compression = compression if compression in COMPRESSIONS and form != "parquet" else ""
    if form == "tsv":
        return _Single(TextWriter(output, _TEXTS, PlainFormat(_TEXTS), compression))
    if form == "jsonl":
        return _Single(TextWriter(output, schema, JsonlFormat(schema), compression))
    return _Single(open_writer(output, schema))


class _Single:
    """One of the writers of tables."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    @property
    def files(self) -> Sequence[Path]:
        output = self._writer.output
        if output == STANDARD:
            return []
        return [Path(output)] if isinstance(self._writer, TextWriter) else output_files(output)

    @property
    def replaced(self) -> int:
        return self._writer.counts[REPLACED]

    def write(self, table: pa.Table) -> None:
        self._writer.write(table)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


class MosesWriter:
    """Writes OUTPUT.en and OUTPUT.it (OUTPUT.en.gz for OUTPUT.gz): line i of both is one pair.

    The languages are those of the first pair; all pairs must have them.
    """

    def __init__(self, output: str) -> None:
        stem, _, last = output.rpartition(".")
        self._stem, self._compression = (stem, last) if last in COMPRESSIONS else (output, "")
        self._output = output
        self._languages: tuple[str, str] | None = None
        self._sides: list[TextWriter] = []
        self._open = contextlib.ExitStack()

    @property
    def files(self) -> Sequence[Path]:
        return [Path(side.output) for side in self._sides]

    @property
    def replaced(self) -> int:
        return sum(side.counts[REPLACED] for side in self._sides)

    def write(self, table: pa.Table) -> None:
        for source, target in _language_pairs(table):
            if source is None or target is None:
                raise ConfigError("moses names its files by language, and some pairs declare none; use --to tsv")
            if self._languages is None:
                self._start(source, target)
            elif self._languages != (source, target):
                one, other = "-".join(self._languages), f"{source}-{target}"
                raise ConfigError(f"moses holds one language pair, and these are {one} and {other}; use --to tsv")
        for side, name in zip(self._sides, ("source", "target"), strict=False):
            side.write(table.select([name]))

    def _start(self, source: str, target: str) -> None:
        if source == target:
            raise ConfigError(f"moses names its files by language, and both sides are {source}; use --to tsv")
        self._languages = (source, target)
        ending = f".{self._compression}" if self._compression else ""
        for name, language in (("source", source), ("target", target)):
            schema = pa.schema([pa.field(name, pa.string())])
            path = f"{self._stem}.{language}{ending}"
            side = TextWriter(path, schema, PlainFormat(schema), self._compression)
            self._sides.append(self._open.enter_context(side))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._sides:
            raise ConfigError(
                f"{self._output}: no pair was selected, so the languages of the moses files are not known"
            )
        self._open.__exit__(kind, error, trace)


def _language_pairs(table: pa.Table) -> list[tuple[str | None, str | None]]:
    found = table.group_by(["source_lang", "target_lang"]).aggregate([])
    return [(row["source_lang"], row["target_lang"]) for row in found.to_pylist()]
