"""Which field of a record plays which part: by option, by name, or by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bisift.config import nearest
from bisift.errors import InputError
from bisift.filter.readers.types import Bad, ReadOptions, Record


@dataclass(frozen=True, slots=True)
class Layout:
    """Field numbers from 0 of each part; None where there is none."""

    source: int
    target: int
    source_lang: int | None
    target_lang: int | None
    document: int | None
    generator: int | None
    extras: tuple[int, ...]

    @property
    def needed(self) -> int:
        """How many fields a record must have."""
        return 1 + max(self.source, self.target, self.document or 0, self.generator or 0, *self.extras, 0)


def asks_by_name(options: ReadOptions) -> bool:
    """Whether any column option is a name, so that there must be a header."""
    asked = (options.source_column, options.target_column, options.document_column, options.generator_column)
    return any(column is not None and not column.isdigit() for column in (*asked, *options.keep_columns))


def layout(where: str, names: Sequence[str] | None, count: int, options: ReadOptions) -> Layout:
    """Resolve the options against the fields of a file; `names` is None without a header.

    Raises:
        InputError: a column is asked for that the file does not have.
    """

    def field(asked: str) -> int:
        if asked.isdigit():
            number = int(asked)
            if not 1 <= number <= count:
                listed = f": {', '.join(names)}" if names else ""
                raise InputError(f"{where}: column {number} asked, the file has {count}{listed}")
            return number - 1
        if names is None or asked not in names:
            raise InputError(f"{where}: no column {asked!r}{nearest(asked, names or [])}")
        return names.index(asked)

    def chosen(asked: str | None, name: str) -> int | None:
        if asked is not None:
            return field(asked)
        return names.index(name) if names is not None and name in names else None

    source = chosen(options.source_column, "source")
    target = chosen(options.target_column, "target")
    if count < 2 and (source is None or target is None):
        raise InputError(f"{where}: a pair needs two columns, the file has {count}: is it separated by tabs?")
    return Layout(
        source=0 if source is None else source,
        target=1 if target is None else target,
        source_lang=chosen(None, "source_lang"),
        target_lang=chosen(None, "target_lang"),
        document=chosen(options.document_column, "document_id"),
        generator=chosen(options.generator_column, "generator"),
        extras=tuple(field(column) for column in options.keep_columns),
    )


def record(fields: Sequence[object], where: Layout, raw: bytes) -> Record | Bad:
    """Make a record of the fields, or say what is wrong with them."""

    def text(index: int | None) -> str | None:
        value = None if index is None or index >= len(fields) else fields[index]
        return value if isinstance(value, str) and value != "" else None

    if len(fields) < where.needed:
        return Bad("too_few_columns", raw)
    source, target = fields[where.source], fields[where.target]
    problem = unusable(source) or unusable(target)
    if problem:
        return Bad(problem, raw)
    return Record(
        str(source),
        str(target),
        text(where.source_lang),
        text(where.target_lang),
        text(where.document),
        text(where.generator),
        tuple(fields[index] for index in where.extras),
    )


def unusable(value: object) -> str | None:
    """Why a value cannot be a side of a pair, or None."""
    if value is None:
        return "null"
    if not isinstance(value, str):
        return "not_a_string"
    if "\x00" in value:
        return "nul_byte"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "lone_surrogate"
    return None
