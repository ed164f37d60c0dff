"""Each rule on pairs in several scripts: what fails exactly that rule, and near misses that fail none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from bisift.filter.features import Sides, measure
from bisift.filter.profile import load_profile
from bisift.filter.rules import RULES, judge

CASES: dict[str, dict[str, list[list[str | None]]]] = yaml.safe_load(
    Path(__file__).with_name("rules.yaml").read_text(encoding="utf-8")
)
OFF = {"numbers", "terminal_mark"}
ELSEWHERE = {"duplicate_pair", "repeated_source", "repeated_target", "low_quality", "machine_made"}


def expanded(text: str | None) -> str | None:
    """Replace {ab #, *3} with "ab 0, ab 1, ab 2, "."""

    def numbered(match: re.Match[str]) -> str:
        return "".join(match[1].replace("#", str(number)) for number in range(int(match[2])))

    return text and re.sub(r"\{([^{}]*)\*(\d+)\}", numbered, text)


def failed(pair: list[str | None], profile: Any) -> set[str]:
    source, target, source_lang, target_lang = [*map(expanded, pair), None, None][:4]
    columns = {"source": source, "target": target, "source_lang": source_lang, "target_lang": target_lang}
    pairs = pa.table({name: pa.array([value], pa.string()) for name, value in columns.items()})
    bits = int(judge(measure(pairs, Sides.of(pairs)), None, profile)[0])
    return {rule.id for number, rule in enumerate(RULES) if bits >> number & 1}


def profile_for(rule: str, tmp_path: Path) -> Any:
    """The default, with the rule switched on."""
    path = tmp_path / "profile.yaml"
    path.write_text(f"rules: {{{rule}: on}}\n")
    return load_profile(str(path))


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(rule, pair, id=f"{rule}-{number}")
        for rule, groups in CASES.items()
        for number, pair in enumerate(groups[kind])
    ]


@pytest.mark.parametrize(("rule", "pair"), cases("fails"))
def test_fails_exactly_its_rule(rule: str, pair: list[str | None], tmp_path: Path) -> None:
    found = failed(pair, profile_for(rule, tmp_path))
    # a side without words has no letters either, and one of marks and digits alone few
    implied = {"empty": {"few_letters", "too_short"}, "few_letters": {"many_marks", "many_digits"}}.get(rule, set())
    assert rule in found
    assert found - implied == {rule}


@pytest.mark.parametrize(("rule", "pair"), cases("passes"))
def test_a_near_miss_passes_all_rules(rule: str, pair: list[str | None], tmp_path: Path) -> None:
    assert failed(pair, profile_for(rule, tmp_path)) == set()


def test_every_rule_has_its_cases() -> None:
    assert set(CASES) == {rule.id for rule in RULES} - ELSEWHERE
    assert {rule.id for rule in RULES if not rule.on} - ELSEWHERE == OFF
