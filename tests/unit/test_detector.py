"""Training the detector on a toy language, from data files to scores: what is learned, held out and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.errors import ModelError
from bisift.filter.inference import Scorer
from bisift.filter.text import Text
from bisift.models import auroc, calibration, detector_train, evaluate, registry, train
from bisift.models.data import load_wmt

WORDS = [f"{first}{second}" for first in ("ba", "ko", "mi", "tu", "re", "sa") for second in ("l", "n", "r", "s", "m")]


def translate(words: list[str], rng: np.random.Generator, *, machine: bool) -> str:
    """Human translators reorder and say `ou` for `u`; machines keep the order."""
    out = [word[::-1] + ("u" if machine else "ou") for word in words]
    if not machine:
        rng.shuffle(out)
    return " ".join(out) + "."


def write_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    sources: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    for number in range(2400):
        pair = ("en-de", "en-cs", "en-is")[number % 3]
        year = 2024 if number < 1200 else 2022
        words = rng.choice(WORDS, rng.integers(4, 12)).tolist()
        sources.append(
            {
                "source_id": number,
                "year": year,
                "lang_pair": pair,
                "domain": "news",
                "doc": f"doc{number // 30}" if year == 2024 else None,
                "segment": number // 3,
                "source": " ".join(words) + ".",
            }
        )
        for system, kind in (("refA", "human"), ("SysA", "nmt"), ("SysB", "llm"), ("ONLINE-W", "nmt")):
            target = translate(words, rng, machine=kind != "human")
            rows.append({"source_id": number, "system": system, "kind": kind, "target": target})
    (folder / "wmt").mkdir(parents=True)
    (folder / "corpora").mkdir()
    (folder / "ratings").mkdir()
    types = {"source_id": pa.int32(), "year": pa.int16(), "segment": pa.int32()}
    for name, values in (("sources", sources), ("translations", rows)):
        table = pa.table({key: pa.array([row[key] for row in values], types.get(key)) for key in values[0]})
        pq.write_table(table, folder / "wmt" / f"{name}.parquet")
    captions = {language: pa.array(["ba ko"]) for language in ("en", "de", "fr", "cs")}
    pq.write_table(pa.table(captions), folder / "corpora" / "multi30k-train.parquet")
    ratings = {"split": ["train"], "lang_pair": ["en-de"], "source": ["ba"], "target": ["ab"]}
    pq.write_table(pa.table(ratings), folder / "ratings" / "ratings.parquet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_data(folder / "data")
    common = ["--data", str(folder / "data"), "--split", "house"]
    assert train.main(["lexical", *common, "--output", str(folder / "lexical.npz")]) == 0
    patch = pytest.MonkeyPatch()
    patch.setattr(detector_train, "CALIBRATION_CONTRASTS", 500)
    files = ["--lexical", str(folder / "lexical.npz"), "--vectors", str(folder / "lexical.vectors.npz")]
    output = ["--output", str(folder / "detector.onnx"), "--steps", "40", "--ngram-steps", "60"]
    assert train.main(["detector", *common, *files, *output]) == 0
    patch.undo()
    return folder


def scorer(folder: Path, prior: float | None = None) -> Scorer:
    models = {"detector": str(folder / "detector.onnx"), "lexical": str(folder / "lexical.npz")}
    return Scorer.load(models=models, prior=prior, quality=False)


class Sides:
    def __init__(self, source: list[str], target: list[str]) -> None:
        self.source, self.target = Text.of(pa.array(source)), Text.of(pa.array(target))


def score(model: Scorer, source: list[str], target: list[str], language: str) -> pa.Table:
    pairs = pa.table({"target_lang": pa.array([language] * len(source), pa.string())})
    return model.score(pairs, Sides(source, target), pa.table({}))


def examples(count: int) -> tuple[list[str], list[str], list[str]]:
    rng = np.random.default_rng(9)
    words = [rng.choice(WORDS, 8).tolist() for _ in range(count)]
    human = [translate(row, rng, machine=False) for row in words]
    return [" ".join(row) + "." for row in words], human, [translate(row, rng, machine=True) for row in words]


def test_machine_text_scores_higher_than_human_text(trained: Path) -> None:
    source, human, machine = examples(100)
    low = score(scorer(trained), source, human, "de")["evidence"].to_numpy()
    high = score(scorer(trained), source, machine, "de")["evidence"].to_numpy()
    assert auroc.auroc(high.astype(float), low.astype(float)) > 0.95


def test_what_transfers_reaches_an_unknown_language_and_is_shrunk(trained: Path) -> None:
    source, human, machine = examples(100)
    model = scorer(trained)
    high, low = score(model, source, machine, "xx"), score(model, source, human, "xx")
    assert not any(high["ai_language_known"].to_pylist())
    assert auroc.auroc(high["evidence"].to_numpy().astype(float), low["evidence"].to_numpy().astype(float)) > 0.8
    known = score(model, source, machine, "de")["evidence"].to_numpy()
    assert 0 < np.abs(high["evidence"].to_numpy()).mean() < np.abs(known).mean()


def test_the_house_split_holds_out_texts_generators_and_pairs(trained: Path) -> None:
    wmt = load_wmt(trained / "data", "house")
    assert wmt.test_S.any()
    assert not (wmt.train_S & wmt.test_S).any()
    assert not (wmt.train_S & wmt.calibration_S).any()
    assert not wmt.train_S[wmt.pair_S == "en-is"].any()
    assert set(wmt.system_R[wmt.held_R]) == {"ONLINE-W"}
    everything = load_wmt(trained / "data", "all")
    assert not everything.test_S.any()
    assert not everything.held_R.any()


def test_evaluate_prints_the_table_and_appends_the_result(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--model", str(trained / "detector.onnx"), "--lexical", str(trained / "lexical.npz")]
    results = trained / "results.jsonl"
    assert evaluate.main(["detector", "--data", str(trained / "data"), *files, "--results", str(results)]) == 0
    assert "| held out generators |" in capsys.readouterr().out
    line = json.loads(results.read_text())
    assert line["auroc"]["seen"]["1"] > 0.9
    assert line["auroc"]["held_out_languages"]["10"] > 0.7


def test_weights_that_saw_the_test_are_not_evaluated(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--model", str(registry.WEIGHTS / "detector.onnx"), "--lexical", str(registry.WEIGHTS / "lexical.npz")]
    assert evaluate.main(["detector", "--data", str(trained / "data"), *files]) == ModelError.exit_code
    assert "use house" in capsys.readouterr().err


def test_auroc_equals_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(3)
    machine, human = rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 30).astype(float)
    pairs = (machine[:, None] > human).mean() + (machine[:, None] == human).mean() / 2
    assert auroc.auroc(machine, human) == pytest.approx(pairs)


def test_calibration_shrinks_a_small_language_to_the_pool() -> None:
    rng = np.random.default_rng(4)
    machine = np.repeat([False, True], 2000)
    network = rng.normal(size=4000) + np.where(machine, 1.0, -1.0)
    ngrams = rng.normal(size=4000)
    language = np.array(["de"] * 3990 + ["fr"] * 10)
    language[:5], language[5:10] = "fr", "de"
    fitted = calibration.fit(network, ngrams, machine, language, ["de", "fr", "cs"])
    assert fitted.languages["de"][0] == pytest.approx(2.0, abs=0.25)  # two unit normals two apart: slope 2
    assert fitted.languages["fr"] == pytest.approx(fitted.languages["cs"], abs=0.3)
    odds = calibration.log_odds(fitted, network, ngrams, language)
    assert calibration.expected_calibration_error(1 / (1 + np.exp(-odds)), machine) < 0.03


def test_document_exponent_is_0_for_independent_and_1_for_repeated_evidence() -> None:
    rng = np.random.default_rng(5)
    machine = np.tile([False, True], 2000)
    count = np.repeat([1, 4, 16, 64], 1000)
    sign = np.where(machine, 0.5, -0.5)
    noise = rng.normal(size=4000)
    independent = count * sign + np.sqrt(count) * noise
    assert calibration.document_exponent(independent, count, machine, np.ones(4000)) < 0.15
    repeated = count * (sign + noise)
    assert calibration.document_exponent(repeated, count, machine, np.ones(4000)) > 0.85
