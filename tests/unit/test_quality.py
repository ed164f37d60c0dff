from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch

from bisift.filter.features import Sides, measure
from bisift.filter.inference import Scorer
from bisift.models import quality, registry

WIDTH = 20  # more than the lexical statistics, which training blanks now and then


def made_examples(seed: int, count: int = 600) -> quality.Examples:
    """Clean pairs have a large last feature; the rating is the sigmoid of the one before it."""
    rng = np.random.default_rng(seed)
    kind = np.repeat([0, 1], count)
    features = rng.normal(size=(2 * count, WIDTH)).astype(np.float32)
    features[:, -1] = np.where(kind == 0, 2, -2) + rng.normal(size=2 * count) * 0.5
    rated = rng.normal(size=(count, WIDTH)).astype(np.float32)
    return quality.Examples(
        features_EF=features,
        kind_E=kind,
        clean_E=np.concatenate([np.arange(count), np.arange(count)]),
        weight_E=np.ones(2 * count),
        rated_RF=rated,
        quantile_R=1 / (1 + np.exp(-2 * rated[:, -2].astype(np.float64))),
    )


@pytest.fixture(scope="module")
def network() -> quality.Quality:
    trained = quality.train(made_examples(1), quality.Settings(steps=300, batch=64))
    quality.calibrate(trained, made_examples(2))
    return trained


def test_training_separates_noise_and_follows_ratings(network: quality.Quality) -> None:
    unseen = made_examples(3)
    value = quality.predict(network, unseen.features_EF)
    assert value[unseen.kind_E == 0].min() > value[unseen.kind_E == 1].mean()
    assert value[unseen.kind_E == 0].mean() > 0.6
    assert value[unseen.kind_E == 1].mean() < 0.1
    rating = quality.heads(network, unseen.rated_RF)[:, 1]
    assert np.corrcoef(rating, unseen.quantile_R)[0, 1] > 0.9


def test_training_is_reproducible() -> None:
    settings = quality.Settings(steps=20, batch=16)
    first, second = (quality.train(made_examples(1), settings).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_calibration_makes_the_rating_head_fit_the_quantiles(network: quality.Quality) -> None:
    unseen = made_examples(4)
    logits = quality.heads(network, unseen.rated_RF)[:, 1]
    scale, shift = network.get_buffer("scale")[1].item(), network.get_buffer("shift")[1].item()
    predicted = 1 / (1 + np.exp(-(logits * scale + shift)))
    assert abs(predicted.mean() - unseen.quantile_R.mean()) < 0.05


def test_the_onnx_file_computes_what_torch_computes(network: quality.Quality, tmp_path: Path) -> None:
    path = tmp_path / "quality.onnx"
    names = [f"f{number}" for number in range(WIDTH)]
    quality.write_quality(path, network, {"feature_names": names})
    model = registry.resolve("quality", path)
    assert model.metadata["feature_names"] == str(names).replace("'", '"')
    features = made_examples(5).features_EF
    found = onnxruntime.InferenceSession(str(path)).run(["quality"], {"features": features})[0]
    np.testing.assert_allclose(found, quality.predict(network, features), atol=1e-5)


PAIRS = {
    ("en", "de"): (
        "The committee will meet again on 14 March to vote on the budget.",
        "Der Ausschuss tritt am 14. März erneut zusammen, um über den Haushalt abzustimmen.",
    ),
    ("en", "it"): (
        "This package contains the documentation of the library.",
        "Questo pacchetto contiene la documentazione della libreria.",
    ),
    ("en", "cs"): (
        "The police said that two people were injured in the accident.",
        "Policie uvedla, že při nehodě byli zraněni dva lidé.",
    ),
    ("en", "ru"): (
        "The president said on Monday that the talks would continue.",
        "Президент заявил в понедельник, что переговоры будут продолжены.",
    ),
    ("en", "zh"): ("The company said it will open 20 new stores next year.", "该公司表示，明年将开设20家新店。"),
    ("en", "ja"): (
        "This function returns a list of all files in the directory.",
        "この関数はディレクトリ内のすべてのファイルのリストを返します。",
    ),
}
SHORT = [
    ("OK", "Va bene", "en", "it"),
    ("Yes", "Ja", "en", "de"),
    ("Berlin", "Berlin", "en", "de"),
    ("42", "42", "en", "fr"),
]


def score(rows: list[tuple[str, str, str | None, str | None]]) -> list[float]:
    names = ("source", "target", "source_lang", "target_lang")
    pairs = pa.table({name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(names)})
    sides = Sides.of(pairs)
    values: list[float] = Scorer.load().score(pairs, sides, measure(pairs, sides)).column("quality").to_pylist()
    return values


def test_shipped_weights_tell_good_from_bad_in_several_languages() -> None:
    rows = [(source, target, a, b) for (a, b), (source, target) in PAIRS.items()]
    good = score(list(rows))
    swapped = score([(s, rows[(n + 1) % len(rows)][1], a, b) for n, (s, _, a, b) in enumerate(rows)])
    copied = score([(s, s, a, b) for s, _, a, b in rows])
    halves = score([(s, t[: len(t) // 2], a, b) for s, t, a, b in rows])
    assert min(good) > 0.5
    assert max(swapped) < 0.3
    assert max(copied) < 0.3
    assert all(half < whole for half, whole in zip(halves, good, strict=True))


def test_short_segments_are_no_junk() -> None:
    assert min(score(list(SHORT))) > 0.3
