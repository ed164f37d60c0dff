"""The inference seam: shipped weights, digests, given files, priors, documents, and what an ONNX file may ask."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from bisift.errors import ConfigError, ModelError
from bisift.filter.encoding import FORM, Encoder, language_keys
from bisift.filter.inference import EVIDENCE_UNIT, Calibration, Scorer
from bisift.filter.lexical import Lexicon
from bisift.filter.text import Text
from bisift.models import registry
from bisift.models.export import write

CALIBRATION = {
    "languages": {"de": [1.0, 0.0, 0.5]},
    "pooled": [1.0, -0.5],
    "unknown_factor": 0.2,
    "document_exponent": 0.5,
}


class Sides:
    def __init__(self, source: list[str], target: list[str]) -> None:
        self.source, self.target = Text.of(pa.array(source)), Text.of(pa.array(target))


def pairs(languages: list[str | None]) -> pa.Table:
    return pa.table({"target_lang": pa.array(languages, pa.string())})


def write_sum(path: Path, *, kind: str = "detector", feature: str = "form_comma", name: str = "features") -> Path:
    """A model whose only output is its only feature."""
    graph = helper.make_graph(
        [helper.make_node("Squeeze", [name, "axis"], ["network"])],
        "toy",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["pairs", 1])],
        [helper.make_tensor_value_info("network", TensorProto.FLOAT, ["pairs"])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    write(path, model, kind=kind, metadata={"calibration": CALIBRATION, "feature_names": [feature]})
    return path


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer.load(quality=False)


def test_shipped_weights_are_there_and_are_the_listed_ones() -> None:
    for kind in registry.KINDS:
        model = registry.resolve(kind)
        assert model.digest == registry.listed(model.path.name)
    assert sum(path.stat().st_size for path in registry.WEIGHTS.iterdir()) < 45e6
    assert max(path.stat().st_size for path in registry.WEIGHTS.iterdir()) < 40e6


def test_a_changed_or_missing_weight_is_a_model_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in registry.WEIGHTS.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    with open(tmp_path / "detector.onnx", "ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="digest"):
        registry.resolve("detector")
    (tmp_path / "detector.onnx").unlink()
    with pytest.raises(ModelError, match=r"detector\.onnx.*reinstall"):
        registry.resolve("detector")
    with pytest.raises(ModelError, match=r"detector\.onnx.*reinstall"):
        Scorer.load()
    (tmp_path / registry.DIGESTS).write_text("{}")
    with pytest.raises(ModelError, match="does not list"):
        registry.resolve("lexical")
    (tmp_path / registry.DIGESTS).unlink()
    with pytest.raises(ModelError, match="unreadable list"):
        registry.resolve("lexical")


def test_a_file_of_another_kind_or_none_at_all_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="kind 'quality'"):
        registry.resolve("detector", write_sum(tmp_path / "q.onnx", kind="quality"))
    (tmp_path / "text.onnx").write_text("no model at all, only text")
    with pytest.raises(ModelError, match=r"text\.onnx"):
        registry.resolve("detector", tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="give another file"):
        registry.resolve("detector", tmp_path / "absent.onnx")


def test_metadata_are_read_as_onnx_reads_them(tmp_path: Path) -> None:
    path = write_sum(tmp_path / "sum.onnx")
    expected = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert registry.resolve("detector", path).metadata == expected


def test_the_registry_loads_no_heavy_library() -> None:
    code = "import sys, bisift.models.registry; print({'torch', 'onnxruntime', 'onnx', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_unknown_kinds_devices_and_priors_are_configuration_errors() -> None:
    with pytest.raises(ConfigError, match="did you mean 'detector'"):
        Scorer.load(models={"detectors": "x.onnx"})
    with pytest.raises(ConfigError, match="device"):
        Scorer.load(device="tpu")
    with pytest.raises(ConfigError, match="prior"):
        Scorer.load(prior=1.0)


def test_a_detector_of_another_lexical_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    model = onnx.load(str(registry.WEIGHTS / "detector.onnx"))
    next(entry for entry in model.metadata_props if entry.key == "lexical_digest").value = "0" * 64
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="trained with the lexical table 000000000000"):
        Scorer.load(models={"detector": str(path)}, quality=False)


def test_any_model_that_names_known_inputs_runs(tmp_path: Path) -> None:
    scorer = Scorer.load(models={"detector": str(write_sum(tmp_path / "sum.onnx"))}, quality=False)
    table = scorer.score(pairs(["de", "de"]), Sides(["a b", "a b"], ["a, b, c, d", "a"]), pa.table({}))
    expected = [round((np.log(4) + 0.5) * EVIDENCE_UNIT), round(0.5 * EVIDENCE_UNIT)]
    np.testing.assert_allclose(table["evidence"].to_numpy(), expected, atol=2)


@pytest.mark.parametrize(
    ("change", "message"), [({"feature": "phase_of_moon"}, "feature"), ({"name": "moon"}, "input")]
)
def test_a_model_that_asks_for_what_is_not_there_is_a_model_error(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    scorer = Scorer.load(models={"detector": str(write_sum(tmp_path / "sum.onnx", **change))}, quality=False)
    with pytest.raises(ModelError, match=message):
        scorer.score(pairs(["de"]), Sides(["a"], ["b"]), pa.table({}))


def test_feature_columns_feed_a_model_and_null_counts_as_0(tmp_path: Path) -> None:
    path = write_sum(tmp_path / "sum.onnx", feature="my_column")
    scorer = Scorer.load(models={"detector": str(path)}, quality=False)
    features = pa.table({"my_column": pa.array([2.0, None], pa.float32())})
    table = scorer.score(pairs(["de", "de"]), Sides(["a", "a"], ["b", "b"]), features)
    np.testing.assert_allclose(table["evidence"].to_numpy() / EVIDENCE_UNIT, [2.5, 0.5], atol=1e-5)


def test_an_unknown_language_is_shrunk_and_keeps_its_order() -> None:
    calibration = Calibration.parse({"calibration": json.dumps(CALIBRATION)}, "toy")
    network = np.array([-1.0, 0.0, 2.0], np.float32)
    evidence, known = calibration.evidence(network, None, [None, "xx", "xx"])
    assert not known.any()
    np.testing.assert_allclose(evidence / EVIDENCE_UNIT, 0.2 * (network - 0.5), atol=1e-6)


@pytest.mark.parametrize("factor", [0, 0.3, -0.1])
def test_a_factor_outside_its_range_is_a_model_error(factor: float) -> None:
    with pytest.raises(ModelError, match="unknown_factor"):
        Calibration.parse({"calibration": json.dumps({**CALIBRATION, "unknown_factor": factor})}, "toy")


def test_language_keys_prefer_what_is_declared() -> None:
    features = pa.table({"target_language": pa.array(["it", "it", None, "pt"], pa.string())})
    assert language_keys(pairs(["en-US", None, None, "PT_br"]), features) == ["en", "it", None, "pt"]


def test_the_prior_shifts_log_odds_and_leaves_evidence_alone(shipped: Scorer) -> None:
    sides = Sides(["The house is small."] * 2, ["Das Haus ist klein.", "Klein ist das Haus ja!"])
    half = shipped.score(pairs(["de", "de"]), sides, pa.table({}))
    tenth = Scorer.load(prior=0.1, quality=False).score(pairs(["de", "de"]), sides, pa.table({}))
    assert half["evidence"].equals(tenth["evidence"])
    odds = [np.log(p / (1 - p)) for p in (half["ai_probability"].to_numpy(), tenth["ai_probability"].to_numpy())]
    np.testing.assert_allclose(odds[0] - odds[1], np.log(9), atol=1e-4)


def test_columns_and_types(shipped: Scorer) -> None:
    table = shipped.score(pairs(["de", None]), Sides(["A house.", ""], ["Ein Haus.", ""]), pa.table({}))
    assert {field.name: str(field.type) for field in table.schema} == {
        "ai_probability": "float",
        "ai_language_known": "bool",
        "quality": "float",
        "lexical_forward": "float",
        "lexical_backward": "float",
        "lexical_coverage": "float",
        "evidence": "int64",
    }
    assert table["ai_language_known"].to_pylist() == [True, False]
    probability = table["ai_probability"].to_numpy()
    assert ((probability > 0) & (probability < 1)).all()
    assert set(shipped.digests) == {"detector", "lexical"}


def test_documents_pool_evidence_with_a_discount(shipped: Scorer) -> None:
    one = np.array([EVIDENCE_UNIT // 2])
    count = np.array([1, 4, 16, 64])
    probability = shipped.document_probability(one * count, count)
    single = 1 / (1 + np.exp(-0.5))
    assert probability[0] == pytest.approx(single, abs=1e-6)
    assert (np.diff(probability) >= 0).all()
    assert probability[-1] <= 1


def test_no_pairs_give_no_rows(shipped: Scorer) -> None:
    assert shipped.score(pairs([]), Sides([], []), pa.table({})).num_rows == 0


def test_form_counts_the_difference_of_the_sides() -> None:
    lexicon = Lexicon.load(registry.WEIGHTS / "lexical.npz")
    source, target = Text.of(pa.array(["Yes, no, 12?"])), Text.of(pa.array(["Ja nein 12!! (A)"]))
    form = Encoder(lexicon, source, target, ["de"]).form
    values = {name: float(form[name][0]) for name in FORM}
    assert values["form_comma"] == pytest.approx(-np.log(3), abs=1e-6)
    assert values["form_question"] == pytest.approx(np.log(3) - np.log(2), abs=1e-6)
    assert values["form_bracket"] == pytest.approx(np.log(3), abs=1e-6)
    assert values["form_digit"] == 0
    assert values["form_upper"] == pytest.approx(np.log(3) - np.log(2), abs=1e-6)
