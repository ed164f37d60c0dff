"""Curricula: what each draws, that any part of it can be had alone, and that shares are kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bisift.errors import ConfigError
from bisift.trainer.curricula import CURRICULA, ORDERS, Order, Stage, Staged, View, build_order, describe
from bisift.trainer.marks import Tags, Weights, best_tag, marks_of, quality_edges
from bisift.trainer.permutation import I64, counts, interleave, shuffled

ROWS = 400
CONFIGS: list[dict[str, Any]] = [
    {"name": "shuffled"},
    {"name": "shuffled", "best": 0.3},
    {"name": "ordered", "stages": 4, "epochs": 0.5},
    {
        "name": "staged",
        "bands": [0.1, 0.5, 1.0],
        "stages": [{"epochs": 0.5, "shares": [1, 0, 0]}, {"epochs": 1, "shares": [0.2, 0.3, 0.5]}],
    },
    {"name": "competence", "epochs": 2.0},
    {"name": "annealed", "epochs": 1.0, "best": 0.25},
    {"name": "annealed", "epochs": 1.0, "best": 0.25, "half_life": 0.5},
    {"name": "mixture", "shares": {"human": 0.7, "gpt": 0.2, "": 0.1}},
    {"name": "reverse", "of": {"name": "ordered", "stages": 4}},
    {"name": "same-set", "epochs": 1.5, "of": {"name": "ordered", "stages": 4, "epochs": 0.5}},
]
VIEW = View(ROWS, human=40, groups={"": (0, 40), "gpt": (40, 200), "human": (200, ROWS)})


def draw(config: dict[str, Any], start: int, stop: int, view: View = VIEW, seed: int = 1) -> I64:
    return build_order(config, "test").positions(np.arange(start, stop), view, seed)


@pytest.mark.parametrize("config", CONFIGS, ids=[config["name"] for config in CONFIGS])
def test_any_part_of_an_order_can_be_had_alone(config: dict[str, Any]) -> None:
    whole = draw(config, 0, 3 * ROWS)
    assert whole.min() >= 0
    assert whole.max() < ROWS
    assert np.array_equal(np.concatenate([draw(config, at, at + 100) for at in range(0, 3 * ROWS, 100)]), whole)
    backwards = build_order(config, "test").positions(np.arange(3 * ROWS)[::-1], VIEW, 1)
    assert np.array_equal(backwards[::-1], whole)
    assert not np.array_equal(draw(config, 0, 3 * ROWS, seed=2), whole)


@pytest.mark.parametrize("config", CONFIGS, ids=[config["name"] for config in CONFIGS])
def test_configuration_and_order_describe_each_other(config: dict[str, Any]) -> None:
    order = build_order(config, "test")
    assert build_order(describe(order), "test") == order
    assert isinstance(order, Order)


def test_numbers_in_lists_are_read_as_single_ones_are() -> None:
    stages = [{"epochs": 1, "shares": [1, "1e-1"]}]
    order = build_order({"name": "staged", "bands": ["1e-1", 1], "stages": stages}, "test")
    assert repr(describe(order)["bands"]) == "[0.1, 1.0]"
    assert repr(describe(order)["stages"][0]["shares"]) == "[1.0, 0.1]"
    assert repr(describe(build_order({"name": "mixture", "shares": {"a": 1}}, "test"))["shares"]) == "{'a': 1.0}"


def test_every_curriculum_has_a_paper() -> None:
    assert {"tags", "weights", *ORDERS} == set(CURRICULA)
    assert {kind.name for kind in CURRICULA.values()} == set(CURRICULA)
    assert all(kind.paper and (kind.paper != "-" or kind.name == "shuffled") for kind in CURRICULA.values())


def test_shuffled_is_passes_over_the_best() -> None:
    view = View(ROWS)
    drawn = draw({"name": "shuffled", "best": 0.25}, 0, 300, view)
    for epoch in range(3):
        assert sorted(drawn[epoch * 100 : epoch * 100 + 100]) == list(range(100))
    assert not np.array_equal(drawn[:100], drawn[100:200])


def test_ordered_adds_the_next_best_cumulatively() -> None:
    drawn = draw({"name": "ordered", "stages": 4}, 0, 100 + 200 + 300 + 400 + 400, View(ROWS))
    start = 0
    for size in (100, 200, 300, 400, 400):
        assert sorted(drawn[start : start + size]) == list(range(size))
        start += size


def test_staged_keeps_shares_and_goes_through_each_band() -> None:
    order = Staged(bands=[0.1, 1.0], stages=[Stage(epochs=1, shares=[0.75, 0.25]), Stage(epochs=1, shares=[0, 1])])
    drawn = order.positions(np.arange(2 * ROWS), View(ROWS), 1)
    best = drawn[:ROWS][drawn[:ROWS] < 40]
    assert len(best) == 300
    for prefix in range(10, ROWS, 10):
        assert abs((drawn[:prefix] < 40).sum() - 0.75 * prefix) <= 1
    assert np.bincount(best, minlength=40).min() >= 7  # 300 draws in passes of 40
    rest = drawn[drawn >= 40]
    assert len(rest) == 500  # 100 in the first stage, 400 in the second, and no row twice before all were drawn
    assert sorted(rest[:360]) == list(range(40, ROWS))


def test_human_pairs_stay_in_every_stage() -> None:
    view = View(ROWS, human=40)
    order = Staged(bands=[0.1, 1.0], stages=[Stage(epochs=1, shares=[1, 0])])
    drawn = order.positions(np.arange(ROWS), view, 1)
    assert (drawn < 40).sum() == 40
    assert set(drawn) == set(range(40 + 36))
    first = draw({"name": "ordered", "stages": 4}, 0, 130, view)
    assert set(first) == set(range(40 + 90))
    worst = draw({"name": "reverse", "of": {"name": "ordered", "stages": 4}}, 0, 130, view)
    assert set(worst) == set(range(40)) | set(range(ROWS - 90, ROWS))


def test_competence_grows_as_the_paper_says() -> None:
    view = View(10_000)
    order = build_order({"name": "competence", "start": 0.1, "epochs": 2.0}, "test")
    drawn = order.positions(np.arange(40_000), view, 1)

    def bound(number: int) -> float:
        return 10_000 * min(1.0, math.sqrt(number / 10_000 * (1 - 0.01) / 2 + 0.01))

    for number in (0, 1_000, 5_000, 19_000):
        near = drawn[number : number + 500]
        assert bound(number) * 0.8 < near.max() <= bound(number + 500)
        assert bound(number) / 2 * 0.85 < near.mean() < bound(number + 500) / 2 * 1.15
    assert sorted(drawn[20_000:30_000]) == list(range(10_000))


def test_annealed_ends_with_the_best() -> None:
    drawn = draw({"name": "annealed", "epochs": 1, "best": 0.25}, 0, 2 * ROWS, View(ROWS))
    assert sorted(drawn[:ROWS]) == list(range(ROWS))
    assert sorted(drawn[ROWS : ROWS + 100]) == list(range(100))
    gradual = draw({"name": "annealed", "epochs": 1, "best": 0.1, "half_life": 1.0}, 0, 6 * ROWS, View(ROWS))
    maxima = [gradual[epoch * ROWS : (epoch + 1) * ROWS].max() for epoch in range(1, 6)]
    assert maxima == sorted(maxima, reverse=True)
    assert 150 < maxima[1] < 200 + 1  # half of the rows at the beginning of the second epoch of annealing
    assert maxima[-1] <= 40


def test_mixture_draws_generators_by_share() -> None:
    drawn = draw({"name": "mixture", "shares": {"human": 0.6, "gpt": 0.4, "": 0}}, 0, 1000)
    assert (drawn >= 200).sum() == 600
    assert (drawn < 40).sum() == 0
    with pytest.raises(ConfigError, match="no pair is by generator 'humans'; did you mean 'human'"):
        draw({"name": "mixture", "shares": {"humans": 1, "gpt": 1, "": 1}}, 0, 10)
    with pytest.raises(ConfigError, match="no pair is by generator 'gpt'; no pair names its generator"):
        draw({"name": "mixture", "shares": {"gpt": 1}}, 0, 10, View(ROWS, groups={"": (0, ROWS)}))
    with pytest.raises(ConfigError, match="give generator 'gpt' a share, too"):
        draw({"name": "mixture", "shares": {"human": 1, "": 1}}, 0, 10)


def test_same_set_is_the_same_multiset_in_another_order() -> None:
    base = {"name": "ordered", "stages": 4, "epochs": 0.5}
    drawn, control = draw(base, 0, 600), draw({"name": "same-set", "epochs": 1.5, "of": base}, 0, 600)
    assert sorted(drawn) == sorted(control)
    assert not np.array_equal(drawn, control)
    assert control[:50].mean() > drawn[:50].mean() + 20


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "shufled"}, "no curriculum 'shufled'; did you mean 'shuffled'"),
        ("shuffled", "expected a mapping with a name"),
        ({"name": "shuffled", "best": 0}, "best 0.0: above 0"),
        ({"name": "ordered", "stage": 3}, "unknown key 'stage'; did you mean 'stages'"),
        ({"name": "ordered", "stages": 0}, "stages 0: from 1 to 10,000"),
        ({"name": "ordered", "stages": 10**9}, "stages 1000000000: from 1 to 10,000"),
        ({"name": "ordered", 3: 4}, "curriculum: unknown key 3; known: stages, epochs"),
        ({"name": "staged", "bands": [0.5], "stages": []}, "bands"),
        ({"name": "staged", "bands": [1.0], "stages": []}, "no stages"),
        ({"name": "staged", "bands": 1, "stages": []}, "expected list, got 1"),
        ({"name": "staged", "bands": [math.nan, 1], "stages": []}, "ascending shares"),
        ({"name": "staged", "bands": ["a", "b"], "stages": []}, "bands: expected float, got 'a'"),
        ({"name": "staged", "bands": [[0.1], 1], "stages": []}, r"bands: expected float, got \[0.1\]"),
        ({"name": "staged", "bands": [1.0], "stages": 3}, "stages: expected list, got 3"),
        ({"name": "staged", "bands": [1.0], "stages": [{"epochs": 1, "shares": [0]}]}, "shares"),
        (
            {"name": "staged", "bands": [1.0], "stages": [{"epochs": 1, "shares": ["x"]}]},
            "shares: expected float, got 'x'",
        ),
        ({"name": "staged", "bands": [1], "stages": [{"epochs": 1, "shares": [math.nan]}]}, "shares"),
        ({"name": "staged", "bands": [1.0], "stages": [3]}, "expected mappings"),
        ({"name": "competence", "epochs": 0}, "epochs 0.0"),
        ({"name": "competence", "epochs": "x"}, "expected float"),
        ({"name": "mixture", "shares": {"a": -1}}, "at least 0"),
        ({"name": "mixture", "shares": 3}, "expected dict, got 3"),
        ({"name": "mixture", "shares": {1: 0.5}}, "shares: key: expected str, got 1"),
        ({"name": "reverse", "of": {"name": "mixture", "shares": {"a": 1}}}, "reverse: a mixture has no best"),
        (
            {"name": "reverse", "of": {"name": "same-set", "epochs": 1, "of": {"name": "mixture", "shares": {"a": 1}}}},
            "reverse: a mixture has no best",
        ),
        ({"name": "reverse", "of": {"name": "x"}}, "no curriculum 'x'"),
        ({"name": "reverse"}, "missing of"),
    ],
)
def test_a_wrong_curriculum_is_refused(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_order(config, "run.yaml: curriculum")


def test_tags_and_weights() -> None:
    quality = np.array([0.1, 0.4, 0.6, 0.9], dtype=np.float32)
    ai = np.array([0.5, 0.2, 0.9, 0.0], dtype=np.float32)
    human = np.array([False, False, True, False])
    edges = quality_edges(quality, 2)
    tag, weight = marks_of(Tags(by="quality", bins=2), None, quality_N=quality, ai_N=ai, human_N=human, edges=edges)
    assert (tag.tolist(), weight.tolist()) == ([0, 0, 1, 1], [1, 1, 1, 1])
    assert best_tag(Tags(by="quality", bins=2)) == 1
    tag, weight = marks_of(
        Tags(by="origin"), Weights(by="combined", least=0.1), quality_N=quality, ai_N=ai, human_N=human, edges=None
    )
    assert tag.tolist() == [0, 0, -1, 0]
    assert weight == pytest.approx([0.1, 0.32, 1, 0.9])
    assert best_tag(Tags(by="origin")) == -1
    quality[2] = np.nan
    _, weight = marks_of(None, Weights(), quality_N=quality, ai_N=ai, human_N=human, edges=None)
    assert weight == pytest.approx([0.1, 0.32, 1, 0.9])
    with pytest.raises(ConfigError, match="least 0: above 0"):
        Weights(least=0).check()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 100, 257])
def test_shuffled_places_are_a_permutation_of_each_pass(size: int) -> None:
    drawn = shuffled(np.arange(3 * size), size, 5)
    for epoch in range(3):
        assert sorted(drawn[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_interleaving_starves_no_share() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        share = rng.random(rng.integers(1, 8)) ** 3
        share /= share.sum()
        group, index = interleave(np.arange(2_000), share)
        total = counts(np.array([2_000]), share)[0]
        for number in range(len(share)):
            assert np.array_equal(index[group == number], np.arange((group == number).sum()))
            assert (group == number).sum() == total[number]
            taken = np.cumsum(group == number)
            assert np.abs(taken - np.arange(1, 2_001) * share[number]).max() <= len(share) / 2 + 1
