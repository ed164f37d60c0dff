"""What pushed the scores: sums, Shapley's axioms, tokens of many scripts, models of other shapes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from bisift.contract import PAIR, conform, pair_ids
from bisift.errors import ModelError
from bisift.filter.attribution import GROUPS, Attribution, Split, attribute, shapley
from bisift.filter.features import Sides, measure
from bisift.filter.inference import EVIDENCE_UNIT, Scorer
from bisift.filter.lexical import MAX_TOKENS
from bisift.models import registry, typical
from bisift.models.export import write

PAIRS = (
    ("Mind the gap.", "Attenti al vuoto.", "en", "it"),
    ("The red house is small, isn't it?", "Das rote Haus ist klein, nicht wahr?", "en", "de"),
    ("We met 12 people on 3 May 2021.", "Wir haben am 3. Mai 2021 12 Personen getroffen.", None, None),
    ("The weather is fine today.", "今天天气很好。", "en", "zh"),
    ("The weather is fine today.", "今日はとてもいい天気です。", "en", "ja"),
    ("The book is on the table.", "الكتاب على الطاولة.", "en", "ar"),
    ("The book is on the table.", "הספר על השולחן.", "en", "he"),
    ("Well done! 🎉🎉", "Gut gemacht! 🎉👩‍👩‍👧", "en", "de"),
    ("zyzzyva qwertyish flurb", "blorptak zyzzyva", "en", "de"),
    ("Hello", "Hello", "en", "de"),
    ("a\tb\u202e\u0000c", "\u200b\ufeff…", "en", "de"),
)


def one(source: str, target: str, source_lang: str | None = "en", target_lang: str | None = "de") -> pa.Table:
    pair = {
        "pair_id": pair_ids([source_lang], [target_lang], [source], [target]),
        "source": [source],
        "target": [target],
        "source_lang": pa.array([source_lang], pa.string()),
        "target_lang": pa.array([target_lang], pa.string()),
        "origin": ["-"],
        "row": [1],
    }
    return conform(pa.table(pair), PAIR)


def attributed(scorer: Scorer, pairs: pa.Table) -> tuple[Attribution, dict[str, float]]:
    """The attribution of one pair, and the scores that `score` gives it."""
    sides = Sides.of(pairs)
    features = measure(pairs, sides)
    return attribute(scorer, pairs, sides, features), scorer.score(pairs, sides, features).to_pylist()[0]


def total(split: Split) -> float:
    return sum(split.baseline.values()) + sum(part.log_odds for part in split.contributions)


def shares(split: Split) -> dict[str, float]:
    return {part.group: part.log_odds for part in split.contributions}


def write_linear(path: Path, weights: dict[str, float], output: str = "network", **metadata: object) -> str:
    """A model that is a weighted sum of features; a weight of 0 is a feature that the graph reads and ignores."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["sum"]),
            helper.make_node("Squeeze", ["sum", "axis"], [output]),
        ],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["pairs", len(weights)])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["pairs"])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, [len(weights), 1], list(weights.values())),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    kind = "detector" if output == "network" else "quality"
    write(path, model, kind=kind, metadata={"feature_names": [*weights], **metadata})
    return str(path)


CALIBRATION = {
    "languages": {"de": [2.0, 0.0, 0.25]},
    "pooled": [1.0, -0.5],
    "unknown_factor": 0.2,
    "document_exponent": 0.5,
}


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer.load(prior=0.3)


def test_shapley_values_of_known_games() -> None:
    glove = np.array([0.0, 0, 0, 1, 0, 1, 0, 1])  # a left glove (player 0) and two right ones: a pair is worth 1
    assert shapley(glove) == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert shapley(np.array([3.0])).tolist() == []
    assert shapley(np.array([1.0, 5.0])).tolist() == [4.0]


def test_shapley_axioms_hold_for_random_games() -> None:
    rng = np.random.default_rng(3)
    mask = np.arange(32)
    value = rng.normal(size=32)
    share = shapley(value)
    assert share.sum() == pytest.approx(value[31] - value[0])  # efficiency
    assert shapley(value + 2 * mask) == pytest.approx(share + 2 * 2.0 ** np.arange(5))  # additivity
    dummy = value[mask & ~4]  # what ignores player 2
    assert shapley(dummy)[2] == 0
    swapped = (mask & ~3) | (mask & 1) << 1 | (mask & 2) >> 1
    symmetric = shapley(value + value[swapped])
    assert symmetric[0] == pytest.approx(symmetric[1])


@pytest.mark.parametrize("pair", PAIRS)
def test_the_parts_add_up_to_the_scores_that_score_gives(shipped: Scorer, pair: tuple[str, str, str, str]) -> None:
    found, scores = attributed(shipped, one(*pair))
    detector, quality = found.ai_probability, found.quality
    assert total(detector) == pytest.approx(detector.log_odds, abs=1e-9)
    assert detector.score == pytest.approx(scores["ai_probability"], abs=1e-6)
    prior = detector.baseline["prior"]
    assert detector.log_odds - prior == pytest.approx(scores["evidence"] / EVIDENCE_UNIT, abs=1e-6)
    assert prior == pytest.approx(np.log(0.3 / 0.7))
    assert quality is not None
    assert total(quality) == pytest.approx(quality.log_odds, abs=1e-9)
    assert 1 / (1 + np.exp(-quality.log_odds)) == pytest.approx(scores["quality"], abs=1e-6)
    assert quality.score == pytest.approx(scores["quality"], abs=1e-6)
    for split in (detector, quality):
        names = [entry.feature for part in split.contributions for entry in part.inputs]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("pair", PAIRS)
def test_tokens_add_up_to_the_statistics_and_ngrams_to_their_term(
    shipped: Scorer, pair: tuple[str, str, str, str]
) -> None:
    table = one(*pair)
    found, _ = attributed(shipped, table)
    sides = Sides.of(table)
    statistics = shipped.encoder(table, sides, measure(table, sides)).statistics
    for token in found.tokens.target:
        assert pair[1][token.start : token.start + len(token.token)] == token.token
        assert (token.source is None) == (token.link_probability is None) == (token.style is None)
        if token.source is not None and token.source_start is not None:
            assert pair[0][token.source_start :].startswith(token.source)
    seen = [token.log_probability for token in found.tokens.target if token.log_probability is not None]
    if seen:
        assert np.mean(seen) == pytest.approx(statistics["lexical_forward"][0], abs=1e-5)
        backward = [token.log_probability for token in found.tokens.source if token.log_probability is not None]
        assert len(backward) == len(found.tokens.source)
        assert np.mean(backward) == pytest.approx(statistics["lexical_backward"][0], abs=1e-5)
        style = [token.style for token in found.tokens.target if token.style is not None]
        assert np.mean(style or [0]) == pytest.approx(statistics["style"][0], abs=1e-6)
        missing = np.mean([token.source is None for token in found.tokens.target])
        assert missing == pytest.approx(statistics["unexplained_target"][0])
        missing = np.mean([not token.explained for token in found.tokens.source])
        assert missing == pytest.approx(statistics["unexplained_source"][0])
    if found.ngrams is not None:
        parts = shares(found.ai_probability)
        assert sum(entry.log_odds for entry in found.ngrams.ngrams) == pytest.approx(parts["n-grams"], abs=1e-9)
        by_token = sum(token.ngrams or 0.0 for token in found.tokens.target) + found.ngrams.between_tokens
        assert by_token == pytest.approx(parts["n-grams"], abs=1e-9)


def test_the_ngram_term_is_the_calibrated_score_of_the_ngrams(shipped: Scorer) -> None:
    table = one(*PAIRS[1])
    found, _ = attributed(shipped, table)
    sides = Sides.of(table)
    encoder = shipped.encoder(table, sides, measure(table, sides))
    weights = shipped.detector.ngram_table
    assert weights is not None
    score = float(encoder.ngram_score(weights)[0]) * shipped.detector.ngram_scale
    slope = shipped.calibration.languages["de"][1]
    assert found.ngrams is not None
    assert found.ngrams.log_odds == pytest.approx(slope * score, rel=1e-5)
    assert max(len(entry.text) for entry in found.ngrams.ngrams) == 4
    texts = {entry.text: entry.count for entry in found.ngrams.ngrams}
    assert texts["ein"] == 1
    assert texts["t"] == PAIRS[1][1].count("t")


def test_digits_are_one_digit_in_ngrams(shipped: Scorer) -> None:
    found, _ = attributed(shipped, one("5 and 7.", "5 und 7."))
    assert found.ngrams is not None
    assert {entry.text: entry.count for entry in found.ngrams.ngrams}["0"] == 2
    assert [token.token for token in found.tokens.target] == ["5", "und", "7", "."]


def test_links_name_their_source_token_in_any_script(shipped: Scorer) -> None:
    found, _ = attributed(shipped, one("The weather is fine today.", "今天天气很好。", "en", "zh"))
    assert [token.token for token in found.tokens.target] == list("今天天气很好。")
    assert "today" in {token.source for token in found.tokens.target}
    found, _ = attributed(shipped, one("The house is red.", "הבית אדום. Zyzzyvaflurb", "en", "he"))
    last = found.tokens.target[-1]
    assert (last.token, last.source, last.in_vocabulary) == ("Zyzzyvaflurb", None, False)
    known = found.tokens.target[0]
    assert known.token == "הבית"


@pytest.mark.parametrize(("source", "target"), [("", ""), ("A house.", ""), ("", "Ein Haus."), (" ", "\u3000")])
def test_a_side_without_words_says_nothing_beyond_the_prior(shipped: Scorer, source: str, target: str) -> None:
    found, scores = attributed(shipped, one(source, target))
    assert found.ai_probability.baseline == {"prior": found.ai_probability.log_odds}
    assert found.ai_probability.contributions == ()
    assert found.ai_probability.score == pytest.approx(scores["ai_probability"]) == pytest.approx(0.3)
    assert "no words" in found.notes[0]
    assert found.quality is not None
    assert found.quality.score == pytest.approx(scores["quality"], abs=1e-6)
    assert total(found.quality) == pytest.approx(found.quality.log_odds, abs=1e-9)
    assert all(token.log_probability is None for token in found.tokens.target)
    assert [token.token for token in found.tokens.target] == target.replace(".", " .").split()


def test_a_side_of_a_megabyte_is_looked_at_as_far_as_the_models_look(shipped: Scorer) -> None:
    found, scores = attributed(shipped, one("The house is red. " * 60_000, "Das Haus ist rot. " * 60_000))
    assert found.tokens.target_count == 300_000
    assert len(found.tokens.source) == len(found.tokens.target) == MAX_TOKENS
    assert found.ai_probability.score == pytest.approx(scores["ai_probability"], abs=1e-6)
    assert found.ngrams is not None
    assert sum(entry.count for entry in found.ngrams.ngrams) <= 1016
    found, _ = attributed(shipped, one("x" * 1_000_000, "字" * 1_000_000, "en", "zh"))
    assert found.tokens.source_count == 1
    assert len(found.tokens.target) == 254  # as far as n-grams reach
    assert sum(token.log_probability is not None for token in found.tokens.target) == MAX_TOKENS
    assert sum(token.ngrams or 0.0 for token in found.tokens.target) == pytest.approx(
        shares(found.ai_probability)["n-grams"]
    )


def test_a_typical_pair_of_unknown_words_starts_near_what_the_models_say_on_average(shipped: Scorer) -> None:
    found, _ = attributed(shipped, one(*PAIRS[1]))
    assert abs(found.ai_probability.baseline["typical_pair"]) < 0.3
    assert found.quality is not None
    assert 0.7 < 1 / (1 + np.exp(-found.quality.baseline["typical_pair"])) < 0.9
    assert list(found.quality.baseline) == ["typical_pair"]


def test_the_same_pair_is_split_alike_by_every_load(shipped: Scorer) -> None:
    first, second = attributed(shipped, one(*PAIRS[2]))[0], attributed(Scorer.load(prior=0.3), one(*PAIRS[2]))[0]
    assert dataclasses.asdict(first) == dataclasses.asdict(second)


def test_a_language_without_calibration_has_no_ngrams(shipped: Scorer) -> None:
    found, scores = attributed(shipped, one("Mind the gap.", "주의하세요.", "en", "ko"))
    assert not scores["ai_language_known"]
    assert found.ngrams is None
    assert "n-grams" not in shares(found.ai_probability)
    assert all(token.ngrams is None for token in found.tokens.target)
    assert any("no n-gram weights for ko" in note for note in found.notes)


def test_statistics_that_quality_does_not_read_of_a_language_pair_push_nothing(shipped: Scorer) -> None:
    found, _ = attributed(shipped, one("Mind the gap.", "주의하세요.", "en", "ko"))
    assert found.quality is not None
    parts = {part.group: part for part in found.quality.contributions}
    for group in ("predictability", "coverage", "links", "word order"):
        assert parts[group].log_odds == 0
        assert all(entry.value == entry.typical == entry.effect == 0 for entry in parts[group].inputs)
    assert any(note.startswith("quality: the lexical table does not know") for note in found.notes)


def test_a_linear_detector_is_split_into_its_terms(tmp_path: Path) -> None:
    weights = {"form_comma": 3.0, "style": 0.0, "source_chars": 0.01, "form_stop": -1.0, "number_match": 2.0}
    path = write_linear(tmp_path / "detector.onnx", weights, calibration=CALIBRATION)
    scorer = Scorer.load(models={"detector": path}, quality=False)
    found, scores = attributed(scorer, one("Yes, I know 5 of them", "Ja, ich kenne, ja, 6 davon."))
    usual = registry.typical()
    parts = {part.group: part for part in found.ai_probability.contributions}
    assert list(parts) == ["links", "length", "punctuation", "numbers"]
    assert parts["links"].log_odds == 0  # ignored by the graph
    assert parts["length"].log_odds == pytest.approx(2 * 0.01 * (21 - usual["source_chars"]), abs=1e-5)
    comma = np.log1p(3) - np.log1p(1)
    assert parts["punctuation"].log_odds == pytest.approx(2 * (3 * comma - np.log1p(1)), abs=1e-5)
    assert [entry.feature for entry in parts["punctuation"].inputs] == ["form_comma", "form_stop"]
    assert parts["punctuation"].inputs[0].effect == pytest.approx(6 * comma, abs=1e-5)
    assert parts["numbers"].inputs[0].value == 0
    assert found.ai_probability.baseline["language"] == 0.25
    start = sum(weight * usual[name] for name, weight in weights.items())
    assert found.ai_probability.baseline["typical_pair"] == pytest.approx(2 * start, abs=1e-5)
    assert found.ai_probability.score == pytest.approx(scores["ai_probability"], abs=1e-6)
    assert found.quality is None
    assert found.ngrams is None


def test_evidence_beyond_its_limit_is_cut_and_says_so(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "detector.onnx", {"source_chars": -5.0}, calibration=CALIBRATION)
    scorer = Scorer.load(models={"detector": path}, quality=False)
    found, scores = attributed(scorer, one("A house.", "Ein Haus."))
    assert found.ai_probability.log_odds == -8
    assert shares(found.ai_probability)["limit"] == pytest.approx(80 - 0.25 - 8, abs=1e-4)
    assert total(found.ai_probability) == pytest.approx(-8, abs=1e-9)
    assert found.ai_probability.score == pytest.approx(scores["ai_probability"], abs=1e-6)


def test_quality_of_0_or_1_stays_finite(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "quality.onnx", {"copied_words": 1.0}, output="quality")
    scorer = Scorer.load(models={"quality": path})
    for target, wanted in (("Ein Haus.", 0.0), ("A house.", 1.0)):
        found, scores = attributed(scorer, one("A house.", target))
        assert scores["quality"] == wanted
        assert found.quality is not None
        assert np.isfinite(found.quality.log_odds)
        assert found.quality.score == pytest.approx(wanted, abs=1e-6)
        assert total(found.quality) == pytest.approx(found.quality.log_odds, abs=1e-9)


def test_every_feature_that_a_model_may_name_has_a_group_and_a_typical_value() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == set(typical.NAMES) == set(registry.typical())
    assert all(np.isfinite(value) for value in registry.typical().values())


def test_changed_or_missing_typical_values_are_a_model_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (registry.DIGESTS, registry.TYPICAL):
        shutil.copy(registry.WEIGHTS / name, tmp_path)
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    assert registry.typical()["url_match"] == 1
    changed = json.loads((tmp_path / registry.TYPICAL).read_text())
    changed["features"]["style"] = 1.0
    (tmp_path / registry.TYPICAL).write_text(json.dumps(changed))
    with pytest.raises(ModelError, match="digest"):
        registry.typical()
    (tmp_path / registry.TYPICAL).unlink()
    with pytest.raises(ModelError, match=r"typical\.json: no values of a typical pair"):
        registry.typical()


@pytest.mark.shared_data
def test_typical_values_are_those_of_the_data(tmp_path: Path) -> None:
    from bisift.models.train import main

    data = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"{data}: no development data")
    lexical = registry.WEIGHTS / registry.SHIPPED["lexical"]
    arguments = ["typical", "--data", str(data), "--lexical", str(lexical), "--output", str(tmp_path / "t.json")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "t.json").read_text())["features"] == pytest.approx(registry.typical(), abs=2e-4)
