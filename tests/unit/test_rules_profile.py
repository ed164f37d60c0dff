"""Profiles: thresholds from YAML, checked, digested and written back."""

from __future__ import annotations

from pathlib import Path

import pytest

from bisift.errors import ConfigError
from bisift.filter.profile import Profile, load_profile
from bisift.filter.rules import RULES


def loaded(tmp_path: Path, content: str) -> Profile:
    path = tmp_path / "p.yaml"
    path.write_text(content, encoding="utf-8")
    return load_profile(str(path))


def test_the_default_holds_every_rule() -> None:
    profile = load_profile()
    assert list(profile.thresholds) == [rule.id for rule in RULES]
    assert profile.threshold("length_ratio") == 3
    assert not profile.enabled("numbers")
    assert profile.language_id


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    profile = loaded(tmp_path, "rules:\n  too_long: 30\n  numbers: on\n  html: off\n  duplicate_pair: false\n")
    changed = {"too_long": 30.0, "numbers": 0.5, "html": None, "duplicate_pair": None}
    assert profile.thresholds == {**load_profile().thresholds, **changed}


@pytest.mark.parametrize(
    "content",
    ["rules: {too_long: 512, urls: 1.0e-05, html: off, numbers: on}", "rules: {repeated_source: on, brackets: 0}"],
)
def test_written_profiles_load_back_to_the_same_digest(tmp_path: Path, content: str) -> None:
    profile = loaded(tmp_path, content)
    again = loaded(tmp_path, profile.to_yaml())
    assert again == profile
    assert again.digest == profile.digest != load_profile().digest


def test_the_default_loads_back_to_its_digest(tmp_path: Path) -> None:
    assert loaded(tmp_path, load_profile().to_yaml()).digest == load_profile().digest


def test_spelling_does_not_change_the_digest(tmp_path: Path) -> None:
    spelled = loaded(tmp_path, "# mine\nrules:\n  too_long: 1024.0\n  brackets: 16\n  control_chars: -0.0\n")
    assert spelled.digest == load_profile().digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rules: {to_long: 5}", "no rule 'to_long'; did you mean 'too_long'?"),
        ("rule: {too_long: 5}", "unknown key 'rule'; did you mean 'rules'?"),
        ("rules: {too_long: -30}", "too_long: expected a number of at least 0, on or off, got -30"),
        ("rules: {too_long: '30'}", "too_long: expected a number of at least 0, on or off, got '30'"),
        ("rules: {too_long: fit-30}", "got 'fit-30'"),
        ("rules: {too_long: .nan}", "too_long: expected a number of at least 0"),
        ("rules: {too_long: .inf}", "too_long: expected a number of at least 0"),
        ("rules: {too_long: [1]}", "too_long: expected a number of at least 0"),
        ("rules: {many_digits: 30}", "many_digits: expected a number from 0 to 1, on or off, got 30"),
        ("rules: {length_ratio: 0.5}", "length_ratio: expected a number of at least 1"),
        ("rules: {duplicate_pair: 3}", "duplicate_pair: expected on or off, got 3"),
        ("rules: {empty: 2}", "empty: expected on or off, got 2"),
        ("rules: {1: 2}", "no rule '1'"),
        ("rules: [too_long]", "rules: expected a mapping"),
        ("rules:", "rules: expected a mapping"),
        ("- a", "expected a mapping"),
        ("rules: {a", "not valid YAML"),
        ("rules: {too_long: 5, too_long: 6}", "key 'too_long' is given twice"),
    ],
)
def test_a_wrong_profile_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, content)
    assert message in str(error.value)
    assert "p.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_profile("nowhere.yaml")


def test_a_huge_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too_long"):
        loaded(tmp_path, f"rules: {{too_long: 1{'0' * 400}}}")


def test_disable_switches_rules_off() -> None:
    profile = load_profile(disable=("html", "wrong_language_source", "wrong_language_target"))
    assert not profile.enabled("html")
    assert not profile.language_id
    assert profile.digest != load_profile().digest
    with pytest.raises(ConfigError, match="--disable: no rule 'htlm'; did you mean 'html'"):
        load_profile(disable=("htlm",))
