"""The options that say how inputs are read, shared by the commands that read parallel text."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from bisift.commands import option
from bisift.filter.cli import params

if TYPE_CHECKING:
    from bisift.filter.readers import ReadOptions

INPUT = "Input"
FORMATS = ("auto", "tsv", "csv", "moses", "jsonl", "parquet", "tmx", "po")


def reading(command: Any) -> Any:
    """Add the options that say how inputs are read."""
    for decorate in reversed(
        (
            option(
                "--format",
                "format",
                default="auto",
                show_default=True,
                type=click.Choice(FORMATS),
                section=INPUT,
                help="Format of the inputs; auto tells it by name and content.",
            ),
            option(
                "--header",
                default="auto",
                show_default=True,
                type=click.Choice(("auto", "yes", "no")),
                section=INPUT,
                help="Whether TSV and CSV begin with column names; auto: yes when a column option is a name or the "
                "first line names source and target.",
            ),
            option("--source-lang", metavar="LANG", section=INPUT, help="Language of the sources, such as en."),
            option("--target-lang", metavar="LANG", section=INPUT, help="Language of the targets, such as it."),
            option("--source-column", metavar="C", section=INPUT, help="Name or number (from 1) of the source column."),
            option("--target-column", metavar="C", section=INPUT, help="Name or number of the target column."),
            option(
                "--document-column", metavar="C", section=INPUT, help="Column that says which document a pair is from."
            ),
            option(
                "--generator", metavar="NAME", section=INPUT, help="Who wrote the targets; human marks trusted pairs."
            ),
            option("--generator-column", metavar="C", section=INPUT, help="Column that says who wrote the target."),
            option(
                "--keep-column",
                "keep_columns",
                multiple=True,
                metavar="C",
                section=INPUT,
                help="Copy a column to the output as extra_NAME (repeatable).",
            ),
            option(
                "--limit", type=click.IntRange(min=1), metavar="N", section=INPUT, help="Read only the first N rows."
            ),
            option(
                "--max-line-bytes",
                type=params.Size(),
                metavar="SIZE",
                section=INPUT,
                help="A longer line is a reject (default: 1MiB).",
            ),
        )
    ):
        command = decorate(command)
    return command


def read_options(settings: dict[str, Any]) -> ReadOptions:
    """Take what `reading` added, and --chunk-rows, out of `settings`.

    Raises:
        click.UsageError: options contradict each other.
    """
    if settings["generator"] is not None and settings["generator_column"] is not None:
        raise click.UsageError("--generator and --generator-column exclude each other")

    from bisift.filter.readers import ReadOptions

    names = [field.name for field in dataclasses.fields(ReadOptions) if field.name in settings]
    given = {name: settings.pop(name) for name in names}
    return ReadOptions(**{name: value for name, value in given.items() if value is not None})
