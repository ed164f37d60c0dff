"""Strictly parsed values: sizes, NAME=VALUE pairs, probabilities, paths. What does not fit is a usage error."""

from __future__ import annotations

import math
import re
from typing import Any

import click
from click.shell_completion import CompletionItem

UNITS = {"B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    UNITS[f"{_letter}B"] = 1000**_power
    UNITS[f"{_letter}iB"] = 1024**_power


class Size(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number of bytes with its unit, such as 512MiB or 1.5GiB; KB and MB are powers of 1000, KiB and MiB of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]+)", value, re.ASCII)
        if match is None or match[2] not in UNITS:
            self.fail(f"{value!r} is no size; give a number and a unit, such as 512MiB or 1GiB", param, ctx)
        size = int(float(match[1]) * UNITS[match[2]])
        if size < 1:
            self.fail(f"{value!r} is less than one byte", param, ctx)
        return size


class NamedFile(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """NAME=FILE: a model's name and the file to take it from."""

    name = "name=file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            self.fail(f"{value!r} is not NAME=FILE, such as quality=my-quality.onnx", param, ctx)
        return name, path

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class Share(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """NAME=0.3: a generator and its share, a finite number above 0. The last `=` parts them: names may be paths."""

    name = "name=share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.rpartition("=")
        share = _number(text)
        if not (name and equals) or share is None or share <= 0:
            self.fail(f"{value!r} is not NAME=SHARE with a share above 0, such as human=0.3", param, ctx)
        return name, share


class Quota(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """COLUMN=N: a column to group by, and how many rows each of its values may have."""

    name = "column=n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        column, equals, text = value.partition("=")
        if not (column and equals) or not text.isascii() or not text.isdecimal() or int(text) < 1:
            self.fail(f"{value!r} is not COLUMN=N with a number of pairs, such as origin=1000", param, ctx)
        return column, int(text)


class Probability(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number above 0 and below 1."""

    name = "probability"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = value if isinstance(value, float) else _number(value)
        if number is None or not 0 < number < 1:
            self.fail(f"{value!r} is not a number above 0 and below 1", param, ctx)
        return number


class Place(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A path, glob or URI, or `-`; not checked here, since only the reader knows what it may be."""

    name = "path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class RuleId(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """The id of a rule; the profile checks it, the shell completes it."""

    name = "rule"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from bisift.filter.rules import RULES

        return [CompletionItem(rule.id) for rule in RULES if rule.id.startswith(incomplete)]


def unique_names(ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, Any], ...]) -> Any:
    """Refuse a name that is given twice (a click callback)."""
    names = [name for name, _ in value]
    for name in names:
        if names.count(name) > 1:
            raise click.BadParameter(f"{name!r} is given twice", ctx, param)
    return value


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
