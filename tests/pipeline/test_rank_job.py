"""A ranking job on FnApiRunner writes filter-cli's shards, byte for byte: any order, cut, memory, way of shuffling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bisift.errors import ConfigError, InputError
from bisift.filter.ranking import RankOptions, rank_files
from bisift.filter.readers import ReadOptions
from bisift.filter.scoring import ScoreOptions, score_files
from bisift.pipelines import rankjob
from bisift.pipelines.rankjob import RankJobResult
from tests.corpus import pairs
from tests.pipeline.jobs import FNAPI, manifest, shard_digests, write_tsv


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three scored inputs: one twice the pairs of another, from three generators, one of them as text."""
    folder = tmp_path_factory.mktemp("scored")
    found = []
    for name, count, seed, generator in (("a", 500, 1, None), ("b", 300, 2, "human"), ("c", 200, 3, "gpt")):
        source = write_tsv(folder / f"{name}.tsv", list(pairs(count, seed)))
        output = folder / f"{name}.{'scored.jsonl' if name == 'c' else 'parquet'}"
        read = ReadOptions(source_lang="en", target_lang="de", generator=generator, keep_columns=("document_id",))
        score_files([str(source)], str(output), ScoreOptions(read=read))
        found.append(str(output))
    return found


def rank(inputs: list[str], output: Path, **settings: Any) -> RankJobResult:
    return rankjob.rank(inputs, str(output), RankOptions(**settings), FNAPI)


CASES: tuple[dict[str, Any], ...] = (
    {"order": "quality"},
    {"order": "human", "shards": 1},
    {"order": "combined", "keep_dropped": True},
    {"order": "random", "seed": 7},
    {"order": "mixed", "shares": {"human": 0.5, "gpt": 0.2}},
    {"order": "mixed", "keep_dropped": True, "shards": 5},
)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_shards_and_manifest_are_those_of_filter_cli(
    tmp_path: Path, scored: list[str], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    settings = {"shards": 3, **settings}
    rank_files(scored, str(tmp_path / "one"), RankOptions(**settings))
    monkeypatch.setattr("bisift.pipelines.placing.BUCKET_ROWS", 100)
    result = rank(scored, tmp_path / "job", **settings)
    assert shard_digests(tmp_path / "job") == shard_digests(tmp_path / "one")
    assert manifest(tmp_path / "job") == manifest(tmp_path / "one")
    assert result.metrics["counters"]["ranked"] == sum(shard["rows"] for shard in result.shards)
    assert sorted(path.name for path in (tmp_path / "job").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )


@pytest.mark.parametrize("by_value", [True, False])
def test_cuts_memory_and_shuffling_change_no_byte(
    tmp_path: Path, scored: list[str], monkeypatch: pytest.MonkeyPatch, by_value: bool
) -> None:
    rank_files(scored, str(tmp_path / "one"), RankOptions(order="mixed", shards=4))
    monkeypatch.setattr(rankjob, "sees_disk", lambda *_: not by_value)
    monkeypatch.setattr("bisift.pipelines.ranking._SLICE", 1 << 12)  # slices of 256 bytes of 1 MiB: a bucket a row
    monkeypatch.setattr("bisift.pipelines.placing.BUCKET_ROWS", 30)
    rank(scored[::-1], tmp_path / "job", order="mixed", shards=4, memory=1 << 20)
    assert shard_digests(tmp_path / "job") == shard_digests(tmp_path / "one")


def test_a_sample_decides_the_cuts_of_large_rankings(
    tmp_path: Path, scored: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisift.filter.ordering.SAMPLE_FROM", 100)
    monkeypatch.setattr("bisift.pipelines.ranking.SAMPLE_FROM", 100)
    rank_files(scored, str(tmp_path / "one"), RankOptions(order="quality", shards=3))
    rank(scored, tmp_path / "job", order="quality", shards=3)
    assert shard_digests(tmp_path / "job") == shard_digests(tmp_path / "one")


def test_no_rows_make_empty_shards(tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("")
    score_files([str(source)], str(tmp_path / "scored.parquet"), ScoreOptions(use_models=False))
    for order in ("random", "mixed"):
        rank_files([str(tmp_path / "scored.parquet")], str(tmp_path / "one"), RankOptions(order=order, shards=2))
        result = rank([str(tmp_path / "scored.parquet")], tmp_path / "job", order=order, shards=2)
        assert len(result.shards) == 2
        assert shard_digests(tmp_path / "job") == shard_digests(tmp_path / "one")


def test_a_second_ranking_replaces_the_first(tmp_path: Path, scored: list[str]) -> None:
    rank(scored, tmp_path / "job", order="random", shards=4)
    rank(scored, tmp_path / "job", order="quality", shards=2)
    assert len(list((tmp_path / "job").glob("shard-*"))) == 2
    assert manifest(tmp_path / "job")["order"] == "quality"


def test_what_cannot_be_ranked_is_one_line(tmp_path: Path, scored: list[str]) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(20)))
    score_files([str(source)], str(tmp_path / "bare.parquet"), ScoreOptions(use_models=False))
    with pytest.raises(ConfigError, match=r"^order quality needs quality, which is null in \d+ rows: score again"):
        rank([str(tmp_path / "bare.parquet")], tmp_path / "job", order="quality")
    assert not (tmp_path / "job" / "manifest.json").exists()
    with pytest.raises(ConfigError, match="cannot be ranked together"):
        rank([*scored, str(tmp_path / "bare.parquet")], tmp_path / "job", order="random")
    with pytest.raises(ConfigError, match="no generator of that name"):
        rank(scored, tmp_path / "job", order="mixed", shares={"humann": 0.5})
    with pytest.raises(InputError, match="no such file or folder"):
        rank([str(tmp_path / "nothing")], tmp_path / "job")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds mine\.txt"):
        rank(scored, tmp_path / "full")
    (tmp_path / "full" / "manifest.json").write_text(json.dumps({"kind": "scored"}))
    with pytest.raises(ConfigError, match="of kind 'scored'"):
        rank(scored, tmp_path / "full")
