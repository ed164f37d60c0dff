"""Rules, reasons and their documentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bisift.contract import FEATURES, REASON, Feature
from bisift.filter.profile import Profile, load_profile
from bisift.filter.rules import BITS, DUPLICATE, RULES, judge, mark, reasons
from bisift.filter.rules_doc import BEGIN, END, refreshed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rules.md"


def profile(tmp_path: Path, **thresholds: object) -> Profile:
    """Only these rules, all others off."""
    path = tmp_path / "profile.yaml"
    content: dict[str, object] = {**dict.fromkeys(BITS, "off"), **thresholds}
    path.write_text("rules:\n" + "".join(f"  {name}: {value}\n" for name, value in content.items()))
    return load_profile(str(path))


def failed(tmp_path: Path, column: str, values: pa.Array, **thresholds: object) -> list[bool]:
    table = pa.table({column: values})
    verdicts: list[bool] = (judge(table, None, profile(tmp_path, **thresholds)) > 0).tolist()
    return verdicts


def test_bits_fit_and_every_column_exists() -> None:
    assert len(RULES) <= 63
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert [int(BITS[rule.id]).bit_length() - 1 for rule in RULES] == list(range(len(RULES)))
    known = {feature.name for feature in FEATURES} | {"quality", "ai_probability"}
    assert {column for rule in RULES for column in rule.columns} <= known
    for rule in RULES:
        assert rule.lowest <= rule.threshold <= rule.highest


def test_bits_never_move() -> None:
    """Rules are only appended: files that were written keep their meaning."""
    first = (
        "duplicate_pair empty too_long too_many_words too_short length_ratio longest_word few_letters many_digits "
        "many_marks untranslated wrong_language_source wrong_language_target wrong_script mojibake control_chars "
        "escaped_unicode html templates repetition spaced_letters glued_words breadcrumbs brackets unbalanced_brackets "
        "urls emails placeholders numbers title_case terminal_mark low_quality machine_made repeated_source "
        "repeated_target"
    )
    assert " ".join(rule.id for rule in RULES).startswith(first)


def test_a_value_at_the_threshold_passes_whatever_the_column_holds_besides(tmp_path: Path) -> None:
    ratio = pa.array([0.9, 0.90001, 0.8], pa.float32())
    assert failed(tmp_path, "untranslated", ratio, untranslated=0.9) == [False, True, False]
    with_null = pa.array([0.9, 0.90001, None], pa.float32())
    assert failed(tmp_path, "untranslated", with_null, untranslated=0.9) == [False, True, False]
    below = pa.array([0.7, 0.69999, None], pa.float32())
    assert failed(tmp_path, "url_match", below, urls=0.7) == [False, True, False]
    assert failed(tmp_path, "source_chars", pa.array([7, 8, None], pa.int32()), too_long=7) == [False, True, False]


def test_a_rule_fails_on_either_side(tmp_path: Path) -> None:
    table = pa.table({"source_chars": pa.array([1, 9, 1], pa.int32()), "target_chars": pa.array([1, 1, 9], pa.int32())})
    bits = judge(table, None, profile(tmp_path, too_long=5))
    assert bits.tolist() == [0, int(BITS["too_long"]), int(BITS["too_long"])]


def test_rules_on_scores_need_scores(tmp_path: Path) -> None:
    features = pa.table({"source_chars": pa.array([1, 1, 1], pa.int32())})
    scores = pa.table(
        {
            "quality": pa.array([0.1, 0.9, None], pa.float32()),
            "ai_probability": pa.array([0.5, 0.99, None], pa.float32()),
        }
    )
    chosen = profile(tmp_path, low_quality=0.5, machine_made="on")
    assert judge(features, None, chosen).tolist() == [0, 0, 0]
    assert judge(features, scores, chosen).tolist() == [
        int(BITS["low_quality"]),
        int(BITS["machine_made"]),
        0,
    ]


def test_mark_and_reasons() -> None:
    bits = np.array([0, int(BITS["html"]) | int(BITS["urls"]), 1 << (len(RULES) - 1), 0], dtype=np.uint64)
    mark(bits, DUPLICATE, np.array([False, True, False, False]))
    found = reasons(bits)
    assert found.type == REASON
    assert found.to_pylist() == [None, "duplicate_pair", RULES[-1].id, None]
    assert found.dictionary.to_pylist() == [rule.id for rule in RULES]
    assert reasons(bits[:0]).to_pylist() == []


def test_every_bit_has_its_reason() -> None:
    bits = np.array([1 << number for number in range(len(RULES))], dtype=np.uint64)
    assert reasons(bits).to_pylist() == [rule.id for rule in RULES]
    assert reasons(bits | BITS[RULES[-1].id]).to_pylist() == [rule.id for rule in RULES]


def test_the_page_of_rules_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert refreshed(page) == page, "run: python -m bisift.filter.rules_doc docs/rules.md"


def test_refreshing_keeps_what_stands_around_the_tables() -> None:
    page = refreshed(f"before\n{BEGIN}\nstale line\n{END}\nafter\n")
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "| 0 | `duplicate_pair` |" in page
    assert "stale line" not in page


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_feature_says_what_it_is(feature: Feature) -> None:
    assert len(feature.help) > 5
    assert not feature.help.endswith(".")
