"""Strict loading of YAML configuration into frozen dataclasses: an unknown key fails and suggests the nearest one."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import yaml

from bisift.errors import ConfigError

T = TypeVar("T")
_SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"`, or the list of what is known where nothing is near."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"key {key.value!r} is given twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node


def parse_yaml(text: str | IO[str]) -> Any:
    """Read plain values from YAML.

    Raises:
        yaml.YAMLError: it is no YAML, or a mapping has a key twice.
    """
    return yaml.load(text, _Loader)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, is no YAML, has a key twice, or is no mapping with text keys.
    """
    try:
        with open(path, encoding="utf-8") as file:
            value = parse_yaml(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{path}: expected a mapping of names to values")
    return value


def at_least(config: object, least: float, *names: str, where: str = "") -> None:
    """Raise ConfigError for a field of `names` that is below `least` or no finite number; None passes."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not least <= value < math.inf:
            raise ConfigError(f"{where}{name} {value}: a number of at least {least:g}")


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make the frozen dataclass `kind` from `values`.

    Names are checked, and simple types (int, float, bool, str), also in lists and dicts.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a wrong type, or a missing value.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(f"{where}: unknown key {name!r}{nearest(str(name), fields)}")
        checked[name] = _typed(value, hints[name], f"{where}: {name}")
    missing = [
        name
        for name, field in fields.items()
        if name not in checked and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}")
    return kind(**checked)


def _typed(value: Any, hint: Any, where: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        if option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if option is float and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
            return float(value)  # YAML 1.1 reads 1e-3 as text
        if option in (int, str, bool) and type(value) is option:
            return value
        if typing.get_origin(option) is list and isinstance(value, list):
            return [_typed(one, typing.get_args(option)[0], where) for one in value]
        if typing.get_origin(option) is dict and isinstance(value, dict):
            key_type, value_type = typing.get_args(option)
            return {
                _typed(key, key_type, f"{where}: key"): _typed(one, value_type, f"{where}: {key}")
                for key, one in value.items()
            }
        if option not in (int, float, str, bool, type(None)) and typing.get_origin(option) is None:
            return value  # nested values are checked by their own builder
    names = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise ConfigError(f"{where}: expected {names}, got {value!r}")
