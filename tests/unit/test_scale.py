"""The arithmetic of docs/scale.md: by hand, against counting made rows, and against the constants of the pipelines."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import scale  # noqa: E402
from bench import scale as model  # noqa: E402
from bench.results import RESULTS  # noqa: E402

MEASURED = model.Measured(
    score_rate=5000,
    score_mib=500,
    rank_rate=100_000,
    text=256,
    parquet=200,
    memory=600,
    ipc=300,
    slice_bytes=15_000,
    slice_cpu=0.001,
)
ASSUMED = model.Assumed(overhead=2, busy=0.5, hours=10, vcpu_price=0.1, gib_price=0, shuffle_price=0)


def made(rows: float, **assumed: float) -> model.Model:
    return model.Model(rows, MEASURED, dataclasses.replace(ASSUMED, **assumed))


def test_hours_workers_and_cost_by_hand() -> None:
    one = made(3.6e8).without_slices
    assert one.score_hours == pytest.approx(3.6e8 / 5000 * 2 / 3600)  # 40
    assert one.rank_hours == pytest.approx(2)
    assert one.slice_hours == 0
    assert one.paid_hours == pytest.approx(84)
    assert one.workers == 9
    assert one.cost == pytest.approx(8.4)


def test_slower_cores_cost_more_time() -> None:
    assert made(1e9, speed=0.5).paid_hours == pytest.approx(2 * made(1e9).paid_hours)


@pytest.mark.parametrize("rows", [1e3, 1e6, 1e9, 1e11])
def test_workers_are_enough_and_not_too_many(rows: float) -> None:
    one = made(rows)
    assert (one.workers - 1) * ASSUMED.hours < one.paid_hours <= one.workers * ASSUMED.hours


def test_memory_and_shuffle_are_paid_for() -> None:
    plain = made(1e9)
    assert made(1e9, gib_price=0.1).cost == pytest.approx(plain.cost + plain.paid_hours * 1.5 * 0.1)
    shuffled = sum(plain.score_shuffles().values()) + sum(plain.rank_shuffles().values())
    assert made(1e9, shuffle_price=3).cost == pytest.approx(plain.cost + 3 * shuffled / 1e9)


def test_pieces_by_hand() -> None:
    one = made(2**30)  # 256 GiB of text
    assert one.ranges == 2**38 / 2**24
    assert one.key_buckets == 4096
    assert one.unit_rows == 2**28 // 600
    assert one.units == math.ceil(2**30 / one.unit_rows)
    assert one.shards == math.ceil(2**30 * 300 / 2**28)
    assert one.sort_buckets == one.shards + math.ceil(2**30 * 600 / 2**28) - 1
    assert made(1).key_buckets == made(1).ranges == made(1).units == 1


@pytest.mark.parametrize(("rows", "places"), [(1, 1), (1, 100), (50, 1), (700, 300), (10_000, 7), (65_536, 20_000)])
def test_occupied_places_are_those_that_are_counted(rows: int, places: int) -> None:
    rng = np.random.default_rng(3)
    counted = [len(np.unique(rng.integers(0, places, rows))) for _ in range(40)]
    assert model.occupied(rows, places) == pytest.approx(np.mean(counted), rel=0.02)


def test_the_keys_that_score_shuffles_are_those_that_are_counted() -> None:
    """500,000 made rows, in ranges, with their documents: what is sent to the buckets, block by block."""
    rows, element, pairs = 500_000, 40, 5
    one = made(rows, element_bytes=element, document_pairs=pairs, repeated=0)
    ranges, buckets = int(one.ranges), int(one.key_buckets)
    assert (ranges, buckets) == (8, 2)
    rng = np.random.default_rng(5)
    range_N = np.arange(rows) * ranges // rows
    bucket_3N = rng.integers(0, buckets, (3, rows))  # of the pair, of its source, of its target
    blocks = sum(len(np.unique(range_N * buckets + bucket_N)) for bucket_N in bucket_3N)
    sent = rows * (32 + 12 + 12) + element * blocks
    found = one.score_shuffles()
    assert found["keys of pairs and of both sides"] == pytest.approx(sent, rel=1e-3)
    document_N = np.arange(rows) // pairs
    sums = len(np.unique(document_N * buckets + bucket_3N[0]))
    asked = len(np.unique(range_N * rows + document_N))
    blocks = 2 * ranges * buckets  # of questions and of answers
    assert found["documents"] == pytest.approx(sums * 24 + asked * (8 + 12) + blocks * element, rel=0.01)
    assert "documents" not in made(rows, document_pairs=0).score_shuffles()


def test_the_slices_of_rank_are_those_that_are_counted() -> None:
    one = made(3 << 16, rank_memory_mib=4, shard_mib=1)
    rng = np.random.default_rng(7)
    units_N, buckets_N = np.arange(3 << 16) >> 16, rng.integers(0, int(one.sort_buckets), 3 << 16)
    assert one.slices == pytest.approx(len(np.unique(units_N * one.sort_buckets + buckets_N)), rel=0.01)
    assert one.rank_shuffles()["the cuts, with each unit"] == 3 * one.sort_buckets * 16


def test_small_rankings_hand_on_all_keys() -> None:
    assert made(1e6).rank_shuffles()["sampled keys"] == 8e6
    assert made(1e7).rank_shuffles()["sampled keys"] == 5e6


@pytest.mark.parametrize("place", list(made(1e9).places()))
def test_a_place_is_full_where_the_limit_says(place: str) -> None:
    limit = made(1e9).limits()[place]
    assert 1e6 < limit < 1e13
    assert made(limit).places()[place] <= made(limit).room
    assert made(1.1 * limit).places()[place] > made(limit).room


def test_what_never_fits_and_what_always_fits() -> None:
    tight = made(1e9, process_mib=100)
    assert tight.room < 0
    assert all(limit <= 1 for limit in tight.limits().values())
    assert made(1e9, hottest=0).limits()["score: the most frequent side, and its sort"] == math.inf


@pytest.mark.skipif(not (ROOT / "pipelines" / "rank.py").exists(), reason="the pipelines are not there yet")
def test_the_constants_are_those_of_the_pipelines() -> None:
    names = ("ranges", "scorejob", "units", "duplicates", "documents", "ranking")
    job = {name: importlib.import_module(f"bisift.pipelines.{name}") for name in names}
    ordering = importlib.import_module("bisift.filter.ordering")
    assert job["ranges"].RANGE_BYTES == model.RANGE_BYTES
    assert (job["scorejob"].BUCKET_BYTES, job["scorejob"].MAX_BUCKETS) == (model.BUCKET_BYTES, model.MAX_BUCKETS)
    assert job["units"].UNIT_ROWS == model.UNIT_ROWS
    assert job["duplicates"].PAIR_BLOCK.itemsize == model.PAIR_BYTES
    assert job["duplicates"].SIDE_BLOCK.itemsize == model.SIDE_BYTES
    assert job["duplicates"].SUM_BLOCK.itemsize == model.SUM_BYTES
    assert job["documents"].PROBABILITY_BLOCK.itemsize == model.ANSWER_BYTES
    assert (ordering.SAMPLE_FROM, 1 / (ordering.SAMPLE_MASK + 1)) == (model.SAMPLE_FROM, model.SAMPLE_SHARE)
    assert 1 / job["units"].HELD == model.MEMORY_SHARE


def test_the_figures_that_are_kept_are_read() -> None:
    found = model.read_measured(RESULTS)
    assert 1_000 < found.score_rate < found.rank_rate
    assert found.parquet < found.ipc < found.memory
    assert found.slice_bytes > found.ipc
    assert set(found.commits) == {"full", "rank", "sizes"}


def test_a_missing_figure_names_its_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--results", str(tmp_path)]) == 1
    assert "python benchmarks/run.py rank" in capsys.readouterr().err
    record = json.loads((RESULTS / "rank.jsonl").read_text().splitlines()[-1])
    (tmp_path / "rank.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(model.ScaleError, match=r"run\.py sizes"):
        model.read_measured(tmp_path)


def test_the_command_prints_a_column_for_each_number_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--rows", "5e8", "--rows", "2e12", "--hours", "6", "--vcpu-price", "0"]) == 0
    out = capsys.readouterr().out
    assert "| rows | 500M | 2T |" in out
    assert "workers of 1 vCPU for 6 h" in out
    assert "nan" not in out


@pytest.mark.parametrize(
    "words", [["--rows", "0"], ["--rows", "nan"], ["--hours", "-1"], ["--speed", "0"], ["--busy", "inf"]]
)
def test_senseless_numbers_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        scale.main(words)
    assert raised.value.code == 2


def test_the_page_is_written_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    page.write_text(f"before\n{scale.BEGIN}\nold\n{scale.END}\nafter\n")
    scale.write_docs(page, "new")
    assert page.read_text() == f"before\n{scale.BEGIN}\nnew\n{scale.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(model.ScaleError, match="marks"):
        scale.write_docs(page, "new")


def test_the_page_of_the_docs_has_the_marks_and_names_every_assumption() -> None:
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert text.index(scale.BEGIN) < text.index(scale.END)
    assert [
        field.name for field in dataclasses.fields(model.Assumed) if f"--{field.name.replace('_', '-')}" not in text
    ] == []
