"""Where scored and ranked tables go: Parquet, a folder of Parquet parts, TSV, JSONL (compressed or not), or stdout."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from bisift.errors import ConfigError
from bisift.filter.writers.base import STANDARD, Writer
from bisift.filter.writers.parquet import ParquetWriter, PartsWriter, part_files
from bisift.filter.writers.text import COMPRESSIONS, JsonlFormat, TextWriter, TsvFormat

__all__ = ["STANDARD", "Writer", "open_writer", "output_files", "output_kind"]

_FORMATS = (".tsv", ".jsonl")
_KNOWN = ".parquet, .tsv or .jsonl (these two also with .gz, .zst, .xz or .bz2), a folder/, or - for TSV on stdout"


def output_kind(output: str) -> tuple[str, str]:
    """Return format (`parquet`, `parts`, `tsv`, `jsonl`) and compression (`""`, `gz`, ...) of an output by its name.

    A name that ends in a slash, or an existing folder, is a folder of parts.

    Raises:
        ConfigError: the ending is unknown, or the output is not on this machine.
    """
    if output == STANDARD:
        return "tsv", ""
    if "://" in output:
        raise ConfigError(f"{output}: filter-cli writes to local files; python -m bisift.pipelines.score writes there")
    if output.endswith("/") or Path(output).is_dir():
        return "parts", ""
    name = output.lower()
    if name.endswith(".parquet"):
        return "parquet", ""
    stem, _, last = name.rpartition(".")
    compression = last if last in COMPRESSIONS else ""
    for ending in _FORMATS:
        if (stem if compression else name).endswith(ending):
            return ending[1:], compression
    raise ConfigError(f"{output}: unknown ending of an output; known: {_KNOWN}")


def open_writer(output: str, schema: pa.Schema) -> Writer:
    """Return the writer of an output, chosen by the ending of its name.

    `schema` is what is written: column order, types and metadata; every table given to `write` is cast to it.

    Raises:
        ConfigError: the ending is unknown, or the folder holds Parquet parts that bisift did not write.
        BisiftError: the output cannot be created.
    """
    form, compression = output_kind(output)
    if form == "parts":
        return PartsWriter(output, schema)
    if form == "parquet":
        return ParquetWriter(output, schema)
    return TextWriter(output, schema, TsvFormat(schema) if form == "tsv" else JsonlFormat(schema), compression)


def output_files(output: str) -> list[Path]:
    """Return the files that a finished writer has published for `output`, in row order; none for stdout."""
    form, _ = output_kind(output)
    if output == STANDARD:
        return []
    return part_files(Path(output)) if form == "parts" else [Path(output)]
