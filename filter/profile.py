"""Profiles: which rules judge, and with which thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bisift.config import load_yaml, nearest
from bisift.errors import ConfigError
from bisift.filter.rules import BITS, RULES, WRONG_SOURCE, WRONG_TARGET
from bisift.manifest import value_digest


@dataclass(frozen=True)
class Profile:
    """Rule id to threshold; None = switched off. Every rule has an entry."""

    thresholds: Mapping[str, float | None]

    def enabled(self, rule: str) -> bool:
        return self.thresholds[rule] is not None

    def threshold(self, rule: str) -> float:
        """The rule's threshold; only of a rule that is enabled."""
        value = self.thresholds[rule]
        assert value is not None
        return value

    @property
    def language_id(self) -> bool:
        """Whether languages must be identified: off when both rules that need it are."""
        return self.enabled(WRONG_SOURCE) or self.enabled(WRONG_TARGET)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, independent of its spelling."""
        return value_digest({"rules": dict(self.thresholds)})

    def to_yaml(self) -> str:
        """The profile as a commented YAML file that loads back to the same digest."""
        lines = ["# Rules in the order in which they judge: a number is the threshold, off switches one off.", "rules:"]
        for rule in RULES:
            value = self.thresholds[rule.id]
            text = "off" if value is None else f"{value:g}"
            columns = f" {rule.fails} it in {' or '.join(rule.columns)};" if rule.columns else ""
            default = f" (default {rule.threshold:g}{'' if rule.on else ', off'})"
            lines.append(f"  {rule.id}: {text}  #{columns} {rule.help}{default}")
        return "\n".join(lines) + "\n"


def load_profile(path: str = "default", *, disable: Sequence[str] = ()) -> Profile:
    """Load a profile, the shipped one by the name `default`, and switch the rules in `disable` off.

    Raises:
        ConfigError: an unknown rule or key, or a threshold that is no finite number, `on` or `off`.
    """
    thresholds: dict[str, float | None] = {rule.id: float(rule.threshold) if rule.on else None for rule in RULES}
    if path != "default":
        content = load_yaml(path)
        for key in content:
            if key != "rules":
                raise ConfigError(f"{path}: unknown key {key!r}{nearest(key, ['rules'])}")
        given = content.get("rules") or {}
        if not isinstance(given, dict):
            raise ConfigError(f"{path}: rules: expected a mapping of rule to threshold")
        for name, value in given.items():
            _known(str(name), path)
            thresholds[name] = _threshold(name, value, path)
    for name in disable:
        _known(name, "--disable")
        thresholds[name] = None
    return Profile(thresholds)


def _known(rule: str, where: str) -> None:
    if rule not in BITS:
        raise ConfigError(f"{where}: no rule {rule!r}{nearest(rule, BITS)}")


def _threshold(name: str, value: Any, where: str) -> float | None:
    if value is False or value is None:
        return None
    if value is True:
        return next(rule.threshold for rule in RULES if rule.id == name)
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"{where}: {name}: expected a number of at least 0, on or off, got {value!r}")
    return float(value)
