"""Which column plays which part: by option, by PAIR's own name, or by place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from bisift.config import nearest
from bisift.errors import InputError
from bisift.filter.readers.base import METADATA, ReadOptions, extra_name, is_number

EVIDENCE = 10
"""Readable records that must all lack a default column before the file, not the record, is said to be wrong."""


def shown(names: Iterable[str]) -> list[str]:
    """Return the names of a file's columns fit for one line: the first 30, without control characters, cut at 60."""
    return ["".join(c if c.isprintable() else " " for c in name[:60]) for name in islice(names, 30)]


def asked(options: ReadOptions) -> dict[str, str]:
    """Columns that the options ask for, by the name of the output column, as typed."""
    columns = {
        "source": options.source_column,
        "target": options.target_column,
        "document_id": options.document_column,
        "generator": options.generator_column,
    }
    found = {name: column for name, column in columns.items() if column is not None}
    return found | {extra_name(column): column for column in options.keep_columns}


def wants_names(options: ReadOptions) -> bool:
    """Whether a column option is a name, so that there must be a header."""
    return any(not is_number(column) for column in asked(options).values())


def by_name(where: str, names: Sequence[str], options: ReadOptions) -> dict[str, int]:
    """Return the place (from 0) of each output column in a file whose columns have `names`.

    Raises:
        InputError: a column that is asked for, or the second of two, is not there.
    """
    places: dict[str, int] = {}
    for name in ("source", "target", *METADATA):
        if name in names:
            places[name] = names.index(name)
    for name, column in asked(options).items():
        if is_number(column):
            if int(column) > len(names):
                raise too_few(where, int(column), len(names), names)
            place = int(column) - 1
            name = extra_name(names[place]) if name == extra_name(column) else name
        elif column in names:
            place = names.index(column)
        else:
            raise InputError(f"{where}: no column {column!r}{nearest(column, shown(names))}")
        places[name] = place
    return _with_defaults(where, places, len(names), names)


def by_number(where: str, options: ReadOptions, widest: int | None, *, sure: bool) -> dict[str, int]:
    """Return the place (from 0) of each output column in a file without a header.

    Args:
        where: the file, for messages.
        options: the columns asked for, all numbers.
        widest: columns of the widest of the first records; None without any.
        sure: whether enough records were seen to say that default columns are not there.

    Raises:
        InputError: a column is not there.
    """
    places = {name: int(column) - 1 for name, column in asked(options).items()}
    for place in places.values():
        if widest is not None and place >= widest:
            raise too_few(where, place + 1, widest, None)
    return _with_defaults(where, places, widest if widest is not None and sure else None, None)


def too_few(where: str, column: int, width: int, names: Sequence[str] | None) -> InputError:
    """The error for a column beyond the last."""
    listed = f": {', '.join(shown(names))}" if names else ""
    hint = "" if width > 1 else " (another separator? --format tsv, csv or moses)"
    return InputError(f"{where}: column {column} asked, the file has {width}{listed}{hint}")


def _with_defaults(
    where: str, places: dict[str, int], width: int | None, names: Sequence[str] | None
) -> dict[str, int]:
    for place, name in enumerate(("source", "target")):
        if name not in places:
            if width is not None and place >= width:
                raise too_few(where, place + 1, width, names)
            places[name] = place
    if places["source"] == places["target"]:
        raise InputError(f"{where}: source and target are both column {places['source'] + 1}: name both columns")
    return dict(sorted(places.items(), key=lambda item: item[0] not in ("source", "target")))
