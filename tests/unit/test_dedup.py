"""`dedup`: near duplicates against a naive search, independence of order, variants of a side, what is written."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.errors import ConfigError
from bisift.filter import near
from bisift.filter.dedup import DedupOptions, dedup_files
from bisift.filter.minhash import BANDS, Shingles, band_keys, jaccard
from bisift.filter.near import NearDuplicates
from bisift.filter.ranking import rank
from bisift.filter.text import I64, U32
from tests.unit.test_ranking import scored, write

LONG = "the little harbour train leaves every morning at seven from the old stone quay behind the fish market"
WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]


def texts(rows: int, seed: int) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Pairs of which many are copies of others with a few words changed."""
    draw = random.Random(seed)
    made: list[tuple[list[str], list[str]]] = []
    for _ in range(rows):
        if made and draw.random() < 0.6:
            source, target = (list(side) for side in draw.choice(made))
            for side in (source, target):
                for _ in range(draw.randrange(3)):
                    if side:
                        side[draw.randrange(len(side))] = draw.choice(WORDS)
        else:
            source, target = (draw.choices(WORDS, k=draw.randrange(26)) for _ in range(2))
        made.append((source, target))
    sides = tuple(pa.chunked_array([[" ".join(pair[side]) for pair in made]], pa.string()) for side in (0, 1))
    return sides[0], sides[1]


def sets_of(source: pa.ChunkedArray, target: pa.ChunkedArray) -> list[set[tuple[Any, ...]]]:
    found = []
    for pair in zip(source.to_pylist(), target.to_pylist(), strict=True):
        grams: set[tuple[Any, ...]] = set()
        for side, text in enumerate(pair):
            words = text.split()
            grams |= {(side, *words[i : i + n]) for n in (1, 2) for i in range(len(words) - n + 1)}
        found.append(grams)
    return found


def test_jaccard_is_that_of_the_sets() -> None:
    source, target = texts(60, seed=1)
    sets, shingles = sets_of(source, target), Shingles.of(source, target)
    assert np.diff(shingles.offsets).tolist() == [len(each) for each in sets]
    one, other = np.meshgrid(np.arange(60), np.arange(60))
    found = jaccard(shingles.hash_T, shingles.offsets, one.ravel(), other.ravel()).reshape(60, 60)
    naive = [[len(a & b) / (len(a | b) or 1) for a in sets] for b in sets]
    assert found == pytest.approx(np.array(naive), abs=1e-6)


def test_sides_and_order_of_words_count() -> None:
    pairs = [("one two", "three"), ("three", "one two"), ("two one", "three"), ("ONE, two!", "Three."), ("", "...")]
    shingles = Shingles.of(pa.chunked_array([[a for a, _ in pairs]]), pa.chunked_array([[b for _, b in pairs]]))
    likeness = jaccard(shingles.hash_T, shingles.offsets, np.zeros(5, np.int64), np.arange(5))
    assert likeness.tolist() == pytest.approx([1.0, 0.0, 3 / 5, 1.0, 0.0])
    keys = band_keys(shingles)
    assert (keys[0] == keys[3]).all()
    assert not keys[4].any()
    assert keys[:4].all()


@pytest.mark.parametrize(
    ("compared", "best", "shingles"), [(1, 16, 1), (7, 5, 100), (1 << 14, 16, 900), (1 << 14, 1, 1 << 20)]
)
@pytest.mark.parametrize("seed", range(3))
def test_the_best_close_row_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, compared: int, best: int, shingles: int
) -> None:
    monkeypatch.setattr(near, "_COMPARED", compared)
    monkeypatch.setattr(near, "BEST", best)
    monkeypatch.setattr(near, "_SHINGLES", shingles)
    source, target = texts(400, seed)
    place_N = np.random.default_rng(seed).permutation(400)
    with NearDuplicates(tmp_path) as search:
        for start in range(0, 400, 90):
            search.add(source.slice(start, 90), target.slice(start, 90))
        close_N, likeness_N = search.find(place_N)
    sets, keys_NB = sets_of(source, target), band_keys(Shingles.of(source, target))
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in np.argsort(place_N).tolist():  # the best first
        for band in range(BANDS) if sets[row] else ():
            buckets[band, int(keys_NB[row, band])].append(row)
    expected = []
    for row in range(400):
        met = {other for band in range(BANDS) for other in buckets.get((band, int(keys_NB[row, band])), ())[:best]}
        better = [
            (place_N[other], other)
            for other in met
            if place_N[other] < place_N[row] and len(sets[row] & sets[other]) / len(sets[row] | sets[other]) >= 0.8
        ]
        expected.append(min(better)[1] if better else -1)
    assert close_N.tolist() == expected
    assert sum(row >= 0 for row in expected) > 40
    assert ((likeness_N >= np.float32(0.8)) == (close_N >= 0)).all()


def template(rows: int) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Pairs of one template, each with words of its own (Jaccard 0.7); every tenth is the one before it, longer."""
    source: list[str] = []
    target: list[str] = []
    for row in range(rows):
        if row % 10 == 9:
            source.append(f"{source[-1]} too")
            target.append(target[-1])
        else:
            source.append(LONG.replace(" old", f" old{row}"))
            target.append(LONG.upper().replace(" OLD", f" alt{row} neu{row}"))
    return pa.chunked_array([source]), pa.chunked_array([target])


def compared(folder: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many comparisons `rows` of a template take, after a look at what is found."""
    counts: list[int] = []

    def counting(hash_T: U32, offsets: I64, one_M: I64, other_M: I64) -> Any:
        counts.append(len(one_M))
        return jaccard(hash_T, offsets, one_M, other_M)

    monkeypatch.setattr(near, "jaccard", counting)
    source, target = template(rows)
    shingles = Shingles.of(source, target)
    assert 0.6 < jaccard(shingles.hash_T, shingles.offsets, np.array([0]), np.array([1]))[0] < 0.8
    folder.mkdir()
    with NearDuplicates(folder) as search:
        search.add(source, target)
        close_N, _ = search.find(np.arange(rows))
    assert np.flatnonzero(close_N >= 0).tolist() == list(range(9, rows, 10))
    return sum(counts)


def test_many_rows_of_one_template_take_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once, twice = (compared(tmp_path / str(rows), rows, monkeypatch) for rows in (1_000, 2_000))
    assert 1_000 * near.BEST < once < twice < 2.2 * once  # the buckets are there; comparing all takes four times more


def _file(path: Path, rows: list[tuple[str, str]], **constant: Any) -> str:
    table = scored(len(rows), seed=len(rows), drop_reason=None, **constant)
    for side, name in enumerate(("source", "target")):
        column = pa.array([row[side] for row in rows], pa.string())
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
    return write(path, table)


def marks(path: Path) -> dict[tuple[str, int], tuple[Any, ...]]:
    names = ("drop_reason", "extra_near_duplicate_of", "extra_source_variants", "extra_target_variants")
    return {(row["origin"], row["row"]): tuple(row[name] for name in names) for row in pq.read_table(path).to_pylist()}


@pytest.mark.parametrize("compared", [1, 16])
def test_marks_do_not_depend_on_files_or_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: int) -> None:
    monkeypatch.setattr(near, "BEST", compared)
    source, target = texts(300, seed=5)
    rows = list(zip(source.to_pylist(), target.to_pylist(), strict=True))
    one, two = _file(tmp_path / "1.parquet", rows[:170]), _file(tmp_path / "2.parquet", rows[170:])
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    result = dedup_files([one, two], str(a), DedupOptions())
    dedup_files([two, one], str(b), DedupOptions())
    assert marks(a) == marks(b)
    assert (result.rows_in, result.rows, result.compared) == (300, 300, 300)
    marked = [mark for mark in marks(a).values() if mark[0]]
    assert result.marked == {"near_duplicate": len(marked)}
    assert {mark[0] for mark in marked} == {"near_duplicate"}
    best = [row["pair_id"].hex() for table in rank([one, two]) for row in table.to_pylist()]
    for row in pq.read_table(a).to_pylist():
        if row["extra_near_duplicate_of"]:  # the better one stands earlier in the order
            assert best.index(row["extra_near_duplicate_of"]) < best.index(row["pair_id"].hex())


def test_the_better_one_stays_and_dropped_rows_take_no_part(tmp_path: Path) -> None:
    table = scored(4, source=LONG, target=LONG.upper())
    for name, values in (("quality", [0.9, 0.2, 0.5, 0.4]), ("drop_reason", ["empty", None, None, None])):
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    output = tmp_path / "out.parquet"
    result = dedup_files(
        [write(tmp_path / "in.parquet", table)],
        str(output),
        DedupOptions(by="quality", clusters=str(tmp_path / "c.jsonl")),
    )
    rows = pq.read_table(output).to_pylist()
    assert [row["drop_reason"] for row in rows] == ["empty", "near_duplicate", None, "near_duplicate"]
    assert rows[1]["extra_near_duplicate_of"] == rows[3]["extra_near_duplicate_of"] == rows[2]["pair_id"].hex()
    assert [row["extra_near_duplicate_jaccard"] for row in rows] == [None, 1.0, None, 1.0]
    assert [row["extra_source_variants"] for row in rows] == [None, 1, 1, 1]
    (cluster,) = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (cluster["rows"], cluster["kept"]["source"], cluster["kept"]["row"]) == (3, LONG, 3)
    assert [marked["row"] for marked in cluster["marked"]] == [2, 4]
    assert (result.clusters, result.largest) == (1, 3)
    removed = dedup_files([str(tmp_path / "in.parquet")], str(tmp_path / "left.jsonl"), DedupOptions(remove=True))
    assert removed.rows == len((tmp_path / "left.jsonl").read_text(encoding="utf-8").splitlines()) == 1


def test_sides_with_many_others(tmp_path: Path) -> None:
    rows = [("boilerplate", f"a different target {n}") for n in range(4)] + [("another", "same"), ("other", "same")]
    rows += [("boilerplate", "a different target 0")]
    file, output = _file(tmp_path / "in.parquet", rows, quality=0.5), tmp_path / "out.parquet"
    dedup_files([file], str(output), DedupOptions(max_variants=1))
    found = pq.read_table(output).to_pylist()
    assert [row["extra_source_variants"] for row in found] == [4, 4, 4, 4, 1, 1, 4]
    assert [row["extra_target_variants"] for row in found] == [1, 1, 1, 1, 2, 2, 1]
    reasons = [row["drop_reason"] for row in found]
    assert reasons[1:6] == ["many_targets"] * 3 + ["many_sources"] * 2
    assert sorted([reasons[0], reasons[6]]) == ["many_targets", "near_duplicate"]


@pytest.mark.parametrize("rows", [[], [("", "")], [("one", "eins")], [("", ""), ("", "")], [("שלום", "你好")] * 3])
def test_hardly_any_text(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    result = dedup_files([_file(tmp_path / "in.parquet", rows)], str(tmp_path / "out.parquet"), DedupOptions())
    assert result.rows == len(rows)
    assert result.marked == ({"near_duplicate": 2} if len(rows) == 3 else {})


def test_what_it_wrote_can_be_ranked_but_not_marked_again(tmp_path: Path) -> None:
    source, target = texts(100, seed=8)
    file = _file(tmp_path / "in.parquet", list(zip(source.to_pylist(), target.to_pylist(), strict=True)))
    result = dedup_files([file], str(tmp_path / "out.parquet"), DedupOptions())
    ranked = sum(table.num_rows for table in rank(str(tmp_path / "out.parquet")))
    assert ranked == 100 - result.marked["near_duplicate"] < 100
    with pytest.raises(ConfigError, match="was marked before"):
        dedup_files([str(tmp_path / "out.parquet")], str(tmp_path / "again.parquet"), DedupOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "mixed"}, "unknown order"),
        ({"threshold": 0.3}, "from 0.5 to 1"),
        ({"max_variants": 0}, "at least 1"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dedup_files([_file(tmp_path / "in.parquet", [])], str(tmp_path / "out.parquet"), DedupOptions(**options))


def test_missing_scores_are_asked_for(tmp_path: Path) -> None:
    file = _file(tmp_path / "in.parquet", [("a", "b")], quality=None)
    with pytest.raises(ConfigError, match="score again with the models on"):
        dedup_files([file], str(tmp_path / "out.parquet"), DedupOptions())
    assert dedup_files([file], str(tmp_path / "out.parquet"), DedupOptions(by="random")).rows == 1
