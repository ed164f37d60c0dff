"""`select`: thresholds, quotas, the best, the most diverse, samples, and every format."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.contract import with_provenance
from bisift.errors import ConfigError
from bisift.filter.coverage import most_diverse
from bisift.filter.dedup import DedupOptions, dedup_files
from bisift.filter.ranking import RankOptions, rank, rank_files
from bisift.filter.selecting import SelectOptions, select, select_files
from bisift.filter.writers.pairs import pairs_format
from tests.unit.test_ranking import SCHEMA, scored, write

ROWS = 3_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("scored")
    return [write(folder / f"{seed}.parquet", _made(seed)) for seed in (1, 2)]


def _made(seed: int) -> pa.Table:
    table = scored(ROWS, seed=seed)
    words = pa.array(np.random.default_rng(seed).integers(1, 9, ROWS).astype(np.int32))
    table = table.set_column(table.schema.get_field_index("target_words"), "target_words", words)
    for name, language in (("source_lang", "en"), ("target_lang", "it")):
        table = table.set_column(table.schema.get_field_index(name), name, pa.repeat(language, ROWS))
    return table


def rows(files: list[str], **options: Any) -> list[dict[str, Any]]:
    return [row for table in select(files, **options) for row in table.to_pylist()]


def every(files: list[str]) -> list[dict[str, Any]]:
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def key(row: dict[str, Any]) -> tuple[str, int]:
    return row["origin"], row["row"]


def test_thresholds_are_compared_as_float32(files: list[str]) -> None:
    quality = every(files)[1]["quality"]  # a float32, met exactly by its shortest decimal
    given = float(str(np.float32(quality)))
    expected = [
        row
        for row in every(files)
        if row["drop_reason"] is None and row["quality"] >= quality and row["ai_probability"] <= np.float32(0.7)
    ]
    assert rows(files, min_quality=given, max_ai_probability=0.7) == expected
    assert key(every(files)[1]) in {key(row) for row in rows(files, min_quality=given)}


def test_nothing_is_taken_by_default_but_dropped_rows(files: list[str]) -> None:
    assert rows(files) == [row for row in every(files) if row["drop_reason"] is None]
    assert rows(files, keep_dropped=True) == every(files)


@pytest.mark.parametrize("by", ["combined", "quality", "human"])
def test_the_best_are_the_first_of_the_ranking(files: list[str], by: str) -> None:
    best = [key(row) for table in rank(files, order=by) for row in table.to_pylist()]
    assert {key(row) for row in rows(files, by=by, top_pairs=701)} == set(best[:701])
    assert {key(row) for row in rows(files[::-1], by=by, share=0.25)} == set(best[: len(best) // 4])
    tokens = {key(row): row["target_words"] for row in every(files)}
    sums = list(itertools.accumulate(tokens[place] for place in best))
    for budget in (1, 2_000, sums[100], sums[100] - 1, sums[-1] + 5):
        chosen = rows(files, by=by, top_tokens=budget)
        fitting = sum(total <= budget for total in sums)
        assert {key(row) for row in chosen} == set(best[:fitting])


def test_quotas_take_the_best_of_each_value(files: list[str]) -> None:
    chosen = rows(files, quotas=[("generator", 100), ("origin", 120)], by="quality")
    kept = sorted((row for row in every(files) if row["drop_reason"] is None), key=lambda row: -row["quality"])
    expected: list[dict[str, Any]] = []
    for column, quota in (("generator", 100), ("origin", 120)):
        seen: Counter[Any] = Counter()
        expected = []
        for row in kept:
            seen[row[column]] += 1
            if seen[row[column]] <= quota:
                expected.append(row)
        kept = expected
    assert {key(row) for row in chosen} == {key(row) for row in expected}
    assert max(Counter(row["generator"] for row in chosen).values()) <= 100


def test_samples_are_seeded_and_stratified(files: list[str]) -> None:
    chosen = rows(files, sample=20, per="drop_reason", seed=3)
    assert Counter(row["drop_reason"] for row in chosen) == {None: 20, "empty": 20, "length_ratio": 20}
    again = rows(files[::-1], sample=20, per="drop_reason", seed=3)
    assert {key(row) for row in again} == {key(row) for row in chosen}
    assert {key(row) for row in rows(files, sample=20, per="drop_reason", seed=4)} != {key(row) for row in chosen}
    assert len(rows(files, sample=50)) == 50
    assert len(rows(files, sample=10, per="extra_url")) == sum(row["drop_reason"] is None for row in every(files))


def naive_diverse(texts: list[str], count: int) -> list[int]:
    grams = [
        {tuple(words[i : i + n]) for n in (1, 2, 3) for i in range(len(words) - n + 1)}
        for words in (text.split() for text in texts)
    ]
    chosen: list[int] = []
    held: set[tuple[str, ...]] = set()
    for _ in range(count):
        left = [place for place in range(len(texts)) if place not in chosen]
        best = max(left, key=lambda place: (len(grams[place] - held), -place))
        chosen.append(best)
        held |= grams[best]
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_lazy_greedy_is_greedy(seed: int) -> None:
    draw = random.Random(seed)
    texts = [" ".join(draw.choices("abcdefgh", k=draw.randrange(7))) for _ in range(60)]
    column = pa.chunked_array([texts[:13], texts[13:]])
    for count in (0, 1, 20, 59):
        assert most_diverse(column, count).tolist() == naive_diverse(texts, count)
    assert sorted(most_diverse(column, 60).tolist()) == list(range(60))


def test_diverse_takes_from_those_above_the_thresholds(files: list[str]) -> None:
    chosen = rows(files, diverse=100, min_quality=0.5)
    assert len(chosen) == 100
    assert all(row["quality"] >= 0.5 and row["drop_reason"] is None for row in chosen)
    assert {key(row) for row in rows(files[::-1], diverse=100, min_quality=0.5)} == {key(row) for row in chosen}


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "jsonl.zst"])
def test_whole_columns_can_be_read_again(files: list[str], tmp_path: Path, ending: str) -> None:
    output = str(tmp_path / f"chosen.{ending}")
    result = select_files(files, output, SelectOptions(top_pairs=200))
    assert (result.rows_in, result.rows, result.files) == (2 * ROWS, 200, [output])
    assert result.tokens == sum(row["target_words"] for row in rows([output]))
    assert rows([output]) == rows(files, top_pairs=200)


def test_text_formats_hold_the_texts_alone(files: list[str], tmp_path: Path) -> None:
    chosen = rows(files, top_pairs=50)
    for form, name in (("tsv", "a.tsv"), ("tsv", "b.txt"), (None, "c.tsv")):
        select_files(files, str(tmp_path / name), SelectOptions(top_pairs=50), form)
        lines = (tmp_path / name).read_text(encoding="utf-8").splitlines()
        assert lines == [f"{row['source']}\t{row['target']}" for row in chosen]
    result = select_files(files, str(tmp_path / "corpus"), SelectOptions(top_pairs=50), "moses")
    assert result.files == [str(tmp_path / "corpus.en"), str(tmp_path / "corpus.it")]
    assert (tmp_path / "corpus.it").read_text(encoding="utf-8").splitlines() == [row["target"] for row in chosen]


def test_line_breaks_become_spaces(tmp_path: Path) -> None:
    table = scored(2, source_lang="en", target_lang="he", target="שורה\nאחת\tשתיים\r", drop_reason=None)
    result = select_files([write(tmp_path / "a.parquet", table)], str(tmp_path / "m.gz"), SelectOptions(), "moses")
    assert result.characters_replaced == 6
    assert gzip.decompress((tmp_path / "m.he.gz").read_bytes()).decode() == "שורה אחת שתיים \n" * 2


def test_moses_wants_one_declared_language_pair(files: list[str], tmp_path: Path) -> None:
    none = write(tmp_path / "none.parquet", scored(5))
    other = write(tmp_path / "other.parquet", scored(5, seed=9, source_lang="en", target_lang="de"))
    same = write(tmp_path / "same.parquet", scored(5, seed=9, source_lang="en", target_lang="en"))
    for inputs, message in (([none], "declare none"), ([*files, other], "en-it and en-de"), ([same], "both sides")):
        with pytest.raises(ConfigError, match=message):
            select_files(inputs, str(tmp_path / "m"), SelectOptions(), "moses")
    with pytest.raises(ConfigError, match="no pair was selected"):
        select_files(files, str(tmp_path / "m"), SelectOptions(min_quality=1.0, max_ai_probability=0.0), "moses")
    assert not list(tmp_path.glob("*m.*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_pairs": 5, "share": 0.5}, "--top-pairs and --share exclude each other"),
        ({"min_quality": 1.5}, "--min-quality 1.5: it must be from 0 to 1"),
        ({"by": "qualty"}, "unknown order 'qualty'"),
        ({"per": "origin"}, "--per is for --sample"),
        ({"sample": 5, "per": "source"}, "'source' is no column to group by"),
        ({"quotas": [("origin", 5), ("origin", 6)]}, "given twice"),
        ({"quotas": [("extra_none", 5)]}, "no column 'extra_none'"),
    ],
)
def test_wrong_options(files: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rows(files, **options)


def test_scores_that_are_null_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", scored(10, quality=None, ai_probability=None))
    assert len(rows([file], sample=3)) == 3
    for options in ({"min_quality": 0.1}, {"max_ai_probability": 0.9}, {"top_pairs": 1}):
        with pytest.raises(ConfigError, match="score again with the models on"):
            rows([file], **options)


def test_scores_of_different_models_are_not_compared(files: list[str], tmp_path: Path) -> None:
    schema = with_provenance(SCHEMA, models={"quality": "f" * 64}, profile_digest="1" * 64, prior=0.5)
    other = write(tmp_path / "other.parquet", scored(5, schema=schema))
    assert len(rows([files[0], other])) > 5
    with pytest.raises(ConfigError, match="different models"):
        rows([files[0], other], top_pairs=5)
    with pytest.raises(ConfigError, match="different models"):
        dedup_files([files[0], other], str(tmp_path / "out.parquet"), DedupOptions())


@pytest.mark.parametrize("made", [0, 1])
def test_hardly_any_rows(tmp_path: Path, made: int) -> None:
    file = write(tmp_path / "a.parquet", scored(made, drop_reason=None))
    for options in ({}, {"top_pairs": 3}, {"diverse": 3}, {"sample": 3, "per": "origin"}, {"quotas": [("origin", 2)]}):
        assert len(rows([file], **options)) == made
    select_files([file], str(tmp_path / "out.jsonl"), SelectOptions())
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == made


@pytest.mark.parametrize(
    ("output", "form", "expected"),
    [
        ("-", None, "tsv"),
        ("-", "jsonl", "jsonl"),
        ("a/", None, "parquet"),
        ("corpus.gz", "moses", "moses"),
        ("corpus.en-it", "moses", "moses"),
        ("a.tsv.xz", None, "tsv"),
    ],
)
def test_formats(output: str, form: str | None, expected: str) -> None:
    assert pairs_format(output, form) == expected


@pytest.mark.parametrize(
    ("output", "form", "message"),
    [
        ("-", "moses", "cannot go to stdout"),
        ("-", "parquet", "cannot go to stdout"),
        ("a.txt", None, "unknown ending"),
        ("a.parquet", "tsv", "its ending says parquet, --to says tsv"),
    ],
)
def test_wrong_formats(output: str, form: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pairs_format(output, form)


def test_hugging_face_datasets_reads_jsonl(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    result = select_files(files, str(tmp_path / "a.jsonl"), SelectOptions(top_pairs=300), "jsonl")
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "a.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.num_rows == result.rows == 300
    assert [row["target"] for row in loaded] == [row["target"] for row in rows(files, top_pairs=300)]


OPUSTRAINER = shutil.which("opustrainer-train")


@pytest.mark.skipif(OPUSTRAINER is None, reason="opustrainer-train is not on PATH: pip install it into another venv")
def test_opustrainer_reads_tsv(files: list[str], tmp_path: Path) -> None:
    result = select_files(files, str(tmp_path / "a.tsv"), SelectOptions(top_pairs=300))
    (tmp_path / "train.yml").write_text(
        json.dumps(
            {
                "datasets": {"chosen": str(tmp_path / "a.tsv")},
                "stages": ["all"],
                "all": ["chosen 1.0", "until chosen 1"],
                "seed": 1,
            }
        )
    )
    command = [str(OPUSTRAINER), "-c", str(tmp_path / "train.yml"), "-d", "--sync", "--no-shuffle", "cat"]
    fed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True).stdout
    lines = (tmp_path / "a.tsv").read_text(encoding="utf-8").splitlines()
    assert result.rows == len(lines) == 300
    assert set(fed.splitlines()) == set(lines)


def test_sacrebleu_reads_moses(files: list[str], tmp_path: Path) -> None:
    result = select_files(files, str(tmp_path / "corpus"), SelectOptions(top_pairs=300), "moses")
    source, target = result.files
    (tmp_path / "other.it").write_text(Path(target).read_text(encoding="utf-8") + "one more\n", encoding="utf-8")

    def score(hypotheses: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sacrebleu", target, "-i", str(hypotheses), "-m", "chrf", "-b"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert score(target).stdout.strip() == "100.0"
    assert float(score(source).stdout) < 100  # other words, as many lines
    assert score(tmp_path / "other.it").returncode != 0
    assert len(Path(target).read_text(encoding="utf-8").splitlines()) == result.rows == 300


def manifest_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def with_rejects(file: str, rejected: int) -> None:
    """Put a manifest beside a scored file, as score does."""
    reasons = Counter(row["drop_reason"] for row in every([file]))
    kept = reasons.pop(None)
    rows = {"in": ROWS + rejected, "kept": kept, "dropped": ROWS - kept, "rejected": rejected, "by_reason": reasons}
    Path(f"{file}.manifest.json").write_text(json.dumps({"contract": 1, "kind": "scored", "rows": rows}))


def test_counts_add_up_through_the_chain(tmp_path: Path) -> None:
    inputs = [write(tmp_path / f"{seed}.parquet", _made(seed)) for seed in (1, 2)]
    for file, rejected in zip(inputs, (7, 0), strict=True):
        with_rejects(file, rejected)
    reasons = Counter(row["drop_reason"] for row in every(inputs))
    kept = reasons.pop(None)
    marked, left, best = (f"{tmp_path}/{name}" for name in ("marked/", "left.jsonl.gz", "best.parquet"))
    dedup = dedup_files(inputs, marked, DedupOptions(max_variants=1))
    once = manifest_of(tmp_path / "marked" / "manifest.json")
    assert dedup.manifest == f"{tmp_path}/marked/manifest.json"
    assert once["rows"]["by_reason"] == dict(sorted({**reasons, **dedup.marked}.items()))
    assert once["left_out"] == {}
    assert [shard["rows"] for shard in once["shards"]] == [2 * ROWS]
    chosen = select_files([marked], left, SelectOptions(min_quality=0.5))
    twice = manifest_of(tmp_path / "left.jsonl.gz.manifest.json")
    assert twice["left_out"] == twice["rows"]["by_reason"]
    assert twice["left_out"]["not_selected"] == kept - sum(dedup.marked.values()) - chosen.rows
    last = select_files([left], best, SelectOptions(top_pairs=50))  # reads as many rows as the manifest says
    assert (last.rows_in, last.rows) == (chosen.rows, 50)
    ranking = rank_files([best], str(tmp_path / "ranked"), RankOptions(shards=1))
    for rows in (once["rows"], twice["rows"], manifest_of(Path(str(last.manifest)))["rows"]):
        assert rows["in"] == rows["kept"] + rows["dropped"] + rows["rejected"] == 2 * ROWS + 7
    assert (ranking.kept, ranking.dropped, ranking.rejected) == (50, 2 * ROWS - 50, 7)
    assert ranking.by_reason["not_selected"] == kept - sum(dedup.marked.values()) - 50
    again = rank_files([str(tmp_path / "ranked")], str(tmp_path / "again"), RankOptions(keep_dropped=True))
    assert (again.kept, again.dropped, again.rejected) == (50, 2 * ROWS - 50, 7)
    assert manifest_of(Path(again.manifest))["left_out"] == dict(ranking.by_reason)


def test_what_is_removed_is_counted(files: list[str], tmp_path: Path) -> None:
    result = dedup_files(files, str(tmp_path / "left.tsv"), DedupOptions(max_variants=1, remove=True))
    found = manifest_of(tmp_path / "left.tsv.manifest.json")
    assert found["left_out"] == found["rows"]["by_reason"]
    assert found["rows"] | {"by_reason": {}} == {
        "in": 2 * ROWS,
        "kept": result.rows,
        "dropped": 2 * ROWS - result.rows,
        "rejected": 0,
        "by_reason": {},
    }
    assert len(rows([str(tmp_path / "left.tsv")])) == result.rows
    review = select_files(files, str(tmp_path / "review.jsonl"), SelectOptions(sample=20, per="drop_reason"))
    found = manifest_of(tmp_path / "review.jsonl.manifest.json")
    assert review.rows == found["rows"]["in"] - sum(found["left_out"].values()) == 60
    assert len(rows([str(tmp_path / "review.jsonl")], keep_dropped=True)) == 60


def test_no_manifest_of_something_else_stays(files: list[str], tmp_path: Path) -> None:
    output = tmp_path / "chosen.tsv"
    dedup_files(files, str(output), DedupOptions())
    assert (tmp_path / "chosen.tsv.manifest.json").exists()
    assert select_files(files, str(output), SelectOptions(top_pairs=5)).manifest is None  # the texts alone
    assert not (tmp_path / "chosen.tsv.manifest.json").exists()
