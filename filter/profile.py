"""Profiles: which rules judge, and with which thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bisift.config import load_yaml, nearest
from bisift.errors import ConfigError
from bisift.filter.rules import BITS, LANGUAGE_RULES, RULES, Rule
from bisift.manifest import value_digest

DEFAULT = "default"
_LARGEST = 2**53


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
        return any(self.enabled(rule) for rule in LANGUAGE_RULES)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, independent of its spelling."""
        return value_digest({"rules": dict(self.thresholds)})

    def to_yaml(self) -> str:
        """The profile as a commented YAML file that loads back to the same digest."""
        rules = [(f"  {rule.id}: {_spelled(rule, self.thresholds[rule.id])}", _comment(rule)) for rule in RULES]
        width = max(len(line) for line, _ in rules)
        lines = [
            "# Rules in the order in which they judge; the first that fails is the drop_reason.",
            "# A number is a threshold; off switches a rule off, on gives it its default.",
            "rules:",
            *(f"{line:<{width}}  # {comment}" for line, comment in rules),
        ]
        return "\n".join(lines) + "\n"


def _spelled(rule: Rule, value: float | None) -> str:
    if value is None:
        return "off"
    if not rule.has_threshold:
        return "on"
    text = repr(int(value) if value.is_integer() else value)
    return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 reads 1e-05 as text


def _comment(rule: Rule) -> str:
    reads = f"; fails {rule.fails} it: {', '.join(rule.columns)}" if rule.columns else ""
    return f"{rule.help}{reads} ({default_of(rule)})"


def default_of(rule: Rule) -> str:
    """The rule's default in words: `default 0.9`, `default on`, `default off, else 0.5`."""
    if not rule.has_threshold:
        return f"default {'on' if rule.on else 'off'}"
    return f"default {rule.threshold:g}" if rule.on else f"default off, else {rule.threshold:g}"


def load_profile(path: str = DEFAULT, *, disable: Sequence[str] = ()) -> Profile:
    """Load a profile, the built-in one by the name `default`, and switch the rules in `disable` off.

    A rule that the file does not name keeps its default.

    Raises:
        ConfigError: an unknown rule or key, or a threshold that the rule cannot have.
    """
    thresholds: dict[str, float | None] = {rule.id: float(rule.threshold) if rule.on else None for rule in RULES}
    if path != DEFAULT:
        content = load_yaml(path)
        for key in content:
            if key != "rules":
                raise ConfigError(f"{path}: unknown key {key!r}{nearest(key, ['rules'])}")
        given = content.get("rules")
        if not isinstance(given, dict):
            raise ConfigError(f"{path}: rules: expected a mapping of rules to thresholds, on or off")
        for name, value in given.items():
            rule = _known(str(name), path)
            thresholds[rule.id] = _threshold(rule, value, f"{path}: {rule.id}")
    for name in disable:
        thresholds[_known(name, "--disable").id] = None
    return Profile(thresholds)


def _known(name: str, where: str) -> Rule:
    if name not in BITS:
        raise ConfigError(f"{where}: no rule {name!r}{nearest(name, BITS)}")
    return next(rule for rule in RULES if rule.id == name)


def _threshold(rule: Rule, value: Any, where: str) -> float | None:
    if value is False or value is None:
        return None
    if value is True:
        return float(rule.threshold)
    if not rule.has_threshold:
        raise ConfigError(f"{where}: expected on or off, got {value!r}")
    allowed = f"a number of at least {rule.lowest:g}"
    if math.isfinite(rule.highest):
        allowed = f"a number from {rule.lowest:g} to {rule.highest:g}"
    if not isinstance(value, int | float) or not rule.lowest <= value <= min(rule.highest, _LARGEST):
        raise ConfigError(f"{where}: expected {allowed}, on or off, got {value!r}")
    return float(value) + 0.0  # no negative zero, which would have another digest
