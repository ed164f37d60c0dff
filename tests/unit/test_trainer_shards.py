"""Ranked shards as the trainer reads them, and what it says of those that are not what their manifest promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bisift.errors import ContractError, InputError
from bisift.trainer import shards
from bisift.trainer.shards import Ranking, windows
from tests.ranked import clean, write_ranked
from tests.s3 import BUCKET, loopback_bucket


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_ranked(tmp_path / "ranked", clean(50))


def read_all(ranking: Ranking) -> list[str]:
    return [
        text
        for shard, group in ranking.groups()
        for text in ranking.shards[shard].read(group, ["source"]).column("source").to_pylist()
    ]


def test_rows_are_the_ranks(folder: Path) -> None:
    ranking = Ranking.open([str(folder)])
    assert (ranking.rows, ranking.order) == (50, "quality")
    assert read_all(ranking) == [source for source, _ in clean(50)]
    for row in (0, 1, 24, 49):
        shard, group, first = ranking.find(row)
        table = ranking.shards[shard].read(group, ["source"])
        assert table.column("source")[row - first].as_py() == clean(50)[row][0]
    assert ranking.column("quality").to_pylist() == sorted(ranking.column("quality").to_pylist(), reverse=True)


def test_a_shard_is_opened_only_when_it_is_asked_for(folder: Path) -> None:
    ranking = Ranking.open([str(folder)])
    for path in sorted(folder.glob("shard-*"))[1:]:
        path.unlink()
    shard, group, _ = ranking.find(0)
    assert ranking.shards[shard].read(group, ["target"]).num_rows
    with pytest.raises(InputError, match=r"shard-0000[12]-of-00003\.parquet: No such file"):
        read_all(ranking)


def test_texts_come_from_all_over_and_no_more_is_read_than_asked(tmp_path: Path) -> None:
    folder = write_ranked(tmp_path / "r", clean(400), shards=10)
    ranking = Ranking.open([str(folder)])
    some = list(ranking.texts(100))
    assert 200 <= len(some) < 400
    places = sorted(clean(400).index(pair) for pair in clean(400) if pair[0] in set(some))
    assert places[0] < 100
    assert places[-1] > 250
    opened = sum("group_starts" in vars(shard) for shard in ranking.shards)
    assert 2 <= opened <= 5
    assert sorted(ranking.texts(1_000)) == sorted(text for pair in clean(400) for text in pair)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_other_folders_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/manifest\.json: No such file or directory; .*filter-cli rank"):
        Ranking.open([str(tmp_path / "nowhere")])
    edit(folder, kind="scored")
    with pytest.raises(ContractError, match=r"is of kind 'scored': run filter-cli rank first$"):
        Ranking.open([str(folder)])
    edit(folder, kind="ranked", contract=99)
    with pytest.raises(ContractError, match=r"contract version 99 is newer than 1: upgrade bisift$"):
        Ranking.open([str(folder)])
    edit(folder, contract=1, shards=[{"file": "x"}])
    with pytest.raises(ContractError, match="lists no shards with file, rows and sha256"):
        Ranking.open([str(folder)])
    (folder / "manifest.json").write_text("[1]")
    with pytest.raises(ContractError, match="expected a JSON object"):
        Ranking.open([str(folder)])


def test_row_groups_with_nulls_are_told_by_their_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quality = [None if number == 30 else 1 - number / 100 for number in range(50)]
    (tmp_path / "r").mkdir()
    ranking = Ranking.open([str(write_ranked(tmp_path / "r", clean(50), order="random", quality=quality))])
    monkeypatch.setattr(shards.Shard, "_check_digest", lambda self: pytest.fail("a shard was read"))
    assert sorted(shard.groups_with_nulls(["quality", "ai_probability"]) for shard in ranking.shards) == [[], [], [0]]
    assert all(shard.groups_with_nulls(["ai_probability"]) == [] for shard in ranking.shards)


def test_a_ranking_without_pairs_is_refused(tmp_path: Path) -> None:
    empty = write_ranked(tmp_path / "empty", [])
    with pytest.raises(InputError, match=r"empty: no pairs to train on"):
        Ranking.open([str(empty)])


def test_empty_shards_are_passed_over(tmp_path: Path) -> None:
    assert read_all(Ranking.open([str(write_ranked(tmp_path / "r", clean(2), shards=9))])) == [s for s, _ in clean(2)]


def test_a_shard_that_was_changed_or_cut_is_found(folder: Path) -> None:
    path = sorted(folder.glob("shard-*"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ContractError, match=r"its SHA-256 is not the manifest's"):
        read_all(Ranking.open([str(folder)]))


def test_manifest_and_shards_of_different_rankings_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    sha = manifest["shards"][0]["sha256"]
    monkeypatch.setattr(shards, "file_digest", lambda path: sha)
    for entry in manifest["shards"]:
        entry["sha256"] = sha
    counts = [entry["rows"] for entry in manifest["shards"]]
    manifest["shards"][0]["rows"] += 1
    edit(folder, shards=manifest["shards"])
    with pytest.raises(ContractError, match=rf"holds {counts[0]} rows and its manifest says {counts[0] + 1}"):
        read_all(Ranking.open([str(folder)]))
    manifest["shards"][0]["rows"] -= 1
    edit(folder, shards=manifest["shards"][::-1])
    with pytest.raises(ContractError, match="its ranks do not run on"):
        read_all(Ranking.open([str(folder)]))


def test_a_scored_file_is_no_shard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sorted(folder.glob("shard-*"))[0]
    pq.write_table(pq.read_table(path).drop_columns(["rank"]), path)
    monkeypatch.setattr(shards.Shard, "_check_digest", lambda self: None)
    with pytest.raises(ContractError, match="column 'rank' is missing"):
        read_all(Ranking.open([str(folder)]))


def test_windows_of_a_stream(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"current\.json: No such file"):
        windows(str(tmp_path))
    (tmp_path / "current.json").write_text('{"windows": []}')
    with pytest.raises(ContractError, match="lists no windows"):
        windows(str(tmp_path))
    (tmp_path / "current.json").write_text('{"windows": ["a", "b"]}')
    assert windows(str(tmp_path)) == [str(tmp_path / "a"), str(tmp_path / "b")]


@pytest.fixture
def store(folder: Path) -> Iterator[str]:
    """The ranking in a bucket on loopback: its URI."""
    with loopback_bucket() as (client, query):
        for path in folder.iterdir():
            client.put_object(Bucket=BUCKET, Key=f"ranked/{path.name}", Body=path.read_bytes())
        yield f"s3://{BUCKET}/ranked?{query}"


def test_s3(store: str) -> None:
    assert read_all(Ranking.open([store])) == [source for source, _ in clean(50)]
    with pytest.raises(InputError, match=r"^s3://corpus/none/manifest\.json: "):
        Ranking.open([store.replace("/ranked", "/none")])
