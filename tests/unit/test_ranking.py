"""`rank`: shards and manifest, spilling, and folders that hold something else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.contract import RANKED, SCORED, with_provenance
from bisift.errors import BisiftError, ConfigError, ContractError, InputError
from bisift.filter import ranking, shards, sorting
from bisift.filter.ordering import Keys, sort_indices
from bisift.filter.ranking import RankOptions, RankStep, rank, rank_files
from bisift.filter.spill import Buckets
from bisift.filter.text import I64
from bisift.filter.writers import open_writer
from bisift.manifest import file_digest

MODELS = {"quality": "0" * 64}
SCHEMA = with_provenance(
    pa.schema([*SCORED, pa.field("extra_url", pa.string())]), models=MODELS, profile_digest="1" * 64, prior=0.5
)


def scored(rows: int, seed: int = 0, schema: pa.Schema = SCHEMA, **constant: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    made = [
        {
            "pair_id": rng.bytes(16),
            "source": f"source {i}",
            "target": f"target {i}",
            "generator": ("human", "gpt", None)[i % 3],
            "origin": f"{seed}.tsv",
            "row": i + 1,
            "quality": float(rng.random(dtype=np.float32)),
            "ai_probability": float(rng.random(dtype=np.float32)),
            "source_repeated": False,
            "target_repeated": False,
            "failed_rules": 0,
            "drop_reason": ("empty", "length_ratio")[i % 2] if i % 5 == 0 else None,
            "extra_url": f"https://example.org/{i}",
            **constant,
        }
        for i in range(rows)
    ]
    return pa.Table.from_pylist(made, schema=schema)


def write(path: Path, table: pa.Table) -> str:
    with open_writer(str(path), table.schema) as writer:
        writer.write(table)
    return str(path)


def ranked(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("shard-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_shards_and_manifest(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.parquet", scored(100)), write(tmp_path / "b.parquet", scored(51, seed=1))
    (tmp_path / "b.parquet.manifest.json").write_text(json.dumps({"rows": {"kept": 40, "dropped": 11, "rejected": 7}}))
    result = rank_files([one, two], str(tmp_path / "out"), RankOptions(order="quality", shards=3))
    names = [f"shard-0000{i}-of-00003.parquet" for i in range(3)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", *names]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    rows = ranked(tmp_path / "out")
    assert [row["rank"] for row in rows] == list(range(120))
    assert [row["quality"] for row in rows] == sorted((row["quality"] for row in rows), reverse=True)
    assert manifest["rows"] == {
        "in": 158,
        "kept": 120,
        "dropped": 31,
        "rejected": 7,
        "by_reason": {"empty": 16, "length_ratio": 15},
    }
    assert (result.rows_in, result.rows, result.kept, result.dropped, result.rejected) == (151, 120, 120, 31, 7)
    assert (manifest["contract"], manifest["kind"], manifest["order"]) == (1, "ranked", "quality")
    assert (manifest["seed"], manifest["shares"]) == (0, {})
    assert (manifest["models"], manifest["profile_digest"]) == (MODELS, "1" * 64)
    assert [(entry["path"], entry["rows"]) for entry in manifest["inputs"]] == [(one, 100), (two, 51)]
    for shard, name in zip(manifest["shards"], names, strict=True):
        table = pq.read_table(tmp_path / "out" / name)
        assert table.schema.equals(
            pa.schema([*RANKED, SCHEMA.field("extra_url")], metadata=SCHEMA.metadata), check_metadata=True
        )
        values = table["quality"].to_pylist()
        assert shard["sha256"] == file_digest(tmp_path / "out" / name)
        assert (shard["file"], shard["rows"]) == (name, len(values))
        assert (np.float32(shard["min"]), np.float32(shard["max"])) == (min(values), max(values))


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_shards_are_written(tmp_path: Path, rows: int) -> None:
    source = write(tmp_path / "a.parquet", scored(rows, drop_reason=None))
    result = rank_files([source], str(tmp_path / "out"), RankOptions(order="quality"))
    assert [shard["rows"] for shard in result.shards] == [0] * 7 + [rows]
    assert all(shard["min"] is None and shard["max"] is None for shard in result.shards[:7])
    assert len(ranked(tmp_path / "out")) == rows
    assert pq.read_schema(tmp_path / "out" / "shard-00000-of-00008.parquet").names == [*RANKED.names, "extra_url"]


def test_row_groups_are_full(tmp_path: Path) -> None:
    table = scored(1, drop_reason=None)
    source = write(tmp_path / "a.parquet", table.take([0] * 70_000))
    rank_files([source], str(tmp_path / "out"), RankOptions(order="quality", shards=1))
    metadata = pq.read_metadata(tmp_path / "out" / "shard-00000-of-00001.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [65_536, 4_464]


def test_dropped_rows_follow_all_kept_ones(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", scored(100))
    kept = rank_files([source], str(tmp_path / "kept"), RankOptions(order="mixed"))
    all_ = rank_files([source], str(tmp_path / "all"), RankOptions(order="mixed", keep_dropped=True))
    rows = ranked(tmp_path / "all")
    assert (kept.rows, all_.rows, all_.rows_in, all_.dropped) == (80, 100, 100, 20)
    assert [row["drop_reason"] is None for row in rows] == [True] * 80 + [False] * 20
    assert [row["pair_id"] for row in rows[:80]] == [row["pair_id"] for row in ranked(tmp_path / "kept")]


@pytest.mark.parametrize("order", ["quality", "mixed"])
def test_spilling_changes_no_byte(tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spilled: list[int] = []
    spill = Buckets._spill

    def watched(self: Buckets, piece: pa.Table) -> int:
        spilled.append(piece.num_rows)
        return spill(self, piece)

    monkeypatch.setattr(Buckets, "_spill", watched)
    source = write(tmp_path / "a.parquet", scored(6_000))
    options = {"order": order, "shards": 3}
    rank_files([source], str(tmp_path / "one"), RankOptions(**options))  # type: ignore[arg-type]
    assert spilled == []
    rank_files([source], str(tmp_path / "two"), RankOptions(**options, memory=1 << 20))  # type: ignore[arg-type]
    assert sum(spilled) > 1_000
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_slice_that_comes_out_too_large_is_split_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def watched(table: pa.Table, keys: Keys) -> I64:
        sizes.append(table.nbytes)
        return sort_indices(table, keys)

    monkeypatch.setattr(sorting, "sort_indices", watched)
    short, long_ = scored(1_100, drop_reason=None), scored(1_100, seed=1, drop_reason=None, target="long " * 400)
    source = write(tmp_path / "a.parquet", pa.concat_tables([short, long_]))
    rank_files([source], str(tmp_path / "out"), RankOptions(order="quality", shards=1, memory=1 << 20))
    assert max(sizes) < 4 * (1 << 20) // 16
    rows = ranked(tmp_path / "out")
    assert [row["quality"] for row in rows] == sorted((row["quality"] for row in rows), reverse=True)


def test_many_copies_of_one_pair_are_ranked_although_no_cut_separates_them(tmp_path: Path) -> None:
    table = scored(3_000, pair_id=b"0" * 16, quality=0.5, drop_reason=None)
    source = write(tmp_path / "a.parquet", table)
    rank_files([source], str(tmp_path / "out"), RankOptions(order="quality", shards=2, memory=1 << 20))
    assert [row["row"] for row in ranked(tmp_path / "out")] == list(range(1, 3_001))


@pytest.mark.parametrize("order", ["quality", "mixed"])
def test_rows_of_one_identity_are_ordered_by_their_content(tmp_path: Path, order: str) -> None:
    # One file scored twice under two document ids: pair, origin and row are the same.
    same: dict[str, Any] = {
        "pair_id": b"0" * 16,
        "origin": "a",
        "row": 1,
        "quality": 0.5,
        "ai_probability": 0.5,
        "drop_reason": None,
    }
    tables = [scored(1, generator="g", document_id=name, **same) for name in "abc"]
    folders = []
    for places in ((0, 1, 2), (2, 0, 1)):
        folders.append(tmp_path / "".join(map(str, places)))
        source = write(tmp_path / f"{folders[-1].name}.parquet", pa.concat_tables([tables[i] for i in places]))
        rank_files([source], str(folders[-1]), RankOptions(order=order, shards=1))
    assert [row["document_id"] for row in ranked(folders[0])] == ["a", "b", "c"]
    assert ranked(folders[0]) == ranked(folders[1])


def test_extras_of_any_type_survive(tmp_path: Path) -> None:
    kind, tags = pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.string())
    schema = pa.schema([*SCHEMA, pa.field("extra_kind", kind), pa.field("extra_tags", tags)], metadata=SCHEMA.metadata)
    paths = []
    for number, name in enumerate("ab"):
        table = scored(2_000, seed=number, schema=schema, drop_reason=None, extra_kind=name, extra_tags=[name, name])
        paths.append(write(tmp_path / f"{name}.parquet", table))
    rank_files(paths, str(tmp_path / "out"), RankOptions(memory=1 << 20))
    rows = ranked(tmp_path / "out")
    assert [row["extra_kind"] for row in rows] == ["ab"[int(row["origin"][0])] for row in rows]
    assert all(row["extra_tags"] == [row["extra_kind"]] * 2 for row in rows)
    assert [row for table in rank(paths) for row in table.to_pylist()] == rows
    assert [row for table in rank(pq.read_table(path) for path in paths) for row in table.to_pylist()] == rows


def test_ranked_folders_can_be_ranked_again(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", scored(100))
    rank_files([source], str(tmp_path / "first"), RankOptions(order="quality", shards=2))
    rank_files([source], str(tmp_path / "direct"), RankOptions(order="human", shards=3))
    rank_files([str(tmp_path / "first")], str(tmp_path / "second"), RankOptions(order="human", shards=3))
    assert ranked(tmp_path / "second") == ranked(tmp_path / "direct")
    counts = [json.loads((tmp_path / name / "manifest.json").read_text())["rows"] for name in ("first", "second")]
    assert counts[0] == counts[1]


def test_the_python_twin_yields_the_same_rows(tmp_path: Path) -> None:
    table = scored(300)
    source = write(tmp_path / "a.parquet", table)
    rank_files([source], str(tmp_path / "out"), RankOptions(order="mixed", shares={"gpt": 0.5}))
    expected = ranked(tmp_path / "out")
    for inputs in (source, [source], [table], iter([table.slice(0, 7), table.slice(7)])):
        tables = list(rank(inputs, order="mixed", shares={"gpt": 0.5}))
        assert [row for part in tables for row in part.to_pylist()] == expected
    assert list(rank([])) == []


def test_progress_reaches_the_end_of_each_phase(tmp_path: Path) -> None:
    steps: list[RankStep] = []
    source = write(tmp_path / "a.parquet", scored(100))
    rank_files([source], str(tmp_path / "out"), RankOptions(order="quality"), steps.append)
    last = {step.phase: (step.pairs, step.fraction) for step in steps}
    assert last == {"reading scores": (100, 1.0), "partitioning": (100, 1.0), "writing": (80, 1.0)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "best"}, "unknown order 'best'"),
        ({"shards": 0}, "at least 1"),
        ({"seed": -1}, "seed -1"),
        ({"memory": 5}, "1 MiB"),
        ({"shares": {"human": 0.5}}, "for the order mixed"),
        ({"order": "mixed", "shares": {"nobody": 0.5}}, "no generator of that name"),
    ],
)
def test_wrong_options_are_usage_errors(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    source = write(tmp_path / "a.parquet", scored(10))
    with pytest.raises(ConfigError, match=message):
        rank_files([source], str(tmp_path / "out"), RankOptions(**options))
    assert not (tmp_path / "out").exists()


def test_an_order_without_its_score_is_a_usage_error(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", scored(10, quality=None))
    with pytest.raises(ConfigError, match="order combined needs quality"):
        rank_files([source], str(tmp_path / "out"), RankOptions(order="combined"))
    assert rank_files([source], str(tmp_path / "out"), RankOptions(order="human")).rows == 8


def test_inputs_of_different_models_are_refused(tmp_path: Path) -> None:
    other = with_provenance(SCHEMA, models={"quality": "2" * 64}, profile_digest="1" * 64, prior=0.5)
    one, two = write(tmp_path / "a.parquet", scored(3)), write(tmp_path / "b.parquet", scored(3, schema=other))
    with pytest.raises(ConfigError, match=r"models differs: .*a\.parquet has quality 000.*b\.parquet has quality 222"):
        rank_files([one, two], str(tmp_path / "out"), RankOptions(order="quality"))


def test_only_a_ranking_is_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", scored(10))
    out = tmp_path / "out"
    rank_files([source], str(out), RankOptions(order="quality", shards=5))
    (out / "notes.txt").write_text("mine")
    rank_files([source], str(out), RankOptions(order="quality", shards=2))
    assert sorted(path.name for path in out.glob("shard*")) == [f"shard-0000{i}-of-00002.parquet" for i in (0, 1)]
    assert (out / "notes.txt").exists()
    with pytest.raises(ConfigError, match="holds the input"):
        rank_files([str(out)], str(out), RankOptions(order="quality"))
    foreign = {"notes.txt": "mine", "manifest.json": '{"kind": "scored"}', "shard-00000-of-00001.parquet": ""}
    for name, content in foreign.items():
        folder = tmp_path / f"other-{name}"
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(ConfigError, match=r"name an(other| empty)"):
            rank_files([source], str(folder), RankOptions(order="quality"))
        assert [path.name for path in folder.iterdir()] == [name]
    for output, message in ((source, "is a file"), ("gs://bucket/out", "local")):
        with pytest.raises(ConfigError, match=message):
            rank_files([source], output, RankOptions(order="quality"))


@pytest.mark.parametrize("last", ["shard-00001-of-00002.parquet", "manifest.json"])
def test_a_run_that_dies_leaves_no_manifest_and_can_be_repeated(
    tmp_path: Path, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.parquet", scored(10))
    out = tmp_path / "out"
    rank_files([source], str(out), RankOptions(order="quality", shards=4))
    replace = os.replace

    def die(old: Path, new: Path) -> None:
        if new == out / last:
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            rank_files([source], str(out), RankOptions(order="quality", shards=2))
    assert not (out / "manifest.json").exists()
    rank_files([source], str(out), RankOptions(order="quality", shards=2))
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json",
        "shard-00000-of-00002.parquet",
        "shard-00001-of-00002.parquet",
    ]


def test_a_failure_while_sorting_leaves_the_older_ranking_alone(tmp_path: Path) -> None:
    source, bad = write(tmp_path / "a.parquet", scored(10)), write(tmp_path / "b.parquet", scored(10, quality=None))
    out = tmp_path / "out"
    rank_files([source], str(out), RankOptions(order="quality", shards=2))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError):
        rank_files([bad], str(out), RankOptions(order="quality", shards=2))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", scored(10))
    out = tmp_path / "out"
    with shards.workspace(out), pytest.raises(ConfigError, match="another run"):
        rank_files([source], str(out), RankOptions(order="quality"))
    assert not out.exists()


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", scored(10))
    (tmp_path / "file").write_text("")
    with pytest.raises(BisiftError, match="file/out: cannot be written"):
        rank_files([source], str(tmp_path / "file" / "out"), RankOptions(order="quality"))


def test_tables_that_break_the_contract_are_refused() -> None:
    table = scored(3)
    with pytest.raises(ContractError, match="'row' is missing"):
        list(rank([table.drop_columns("row")]))
    with pytest.raises(ContractError, match="differ in extra columns"):
        list(rank([table, table.drop_columns("extra_url")]))


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.parquet: no such file"):
        rank_files([str(tmp_path / "none.parquet")], str(tmp_path / "out"), ranking.RankOptions(order="quality"))
