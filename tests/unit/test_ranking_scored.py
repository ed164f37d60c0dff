"""Scored inputs: what is opened, what is checked, and what a person is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.contract import METADATA_KEY, SCORED, with_provenance
from bisift.errors import BisiftError, ConfigError, ContractError, InputError
from bisift.filter.scored import open_scored
from bisift.filter.writers import open_writer

MODELS = {"quality": "0" * 64}


def schema_of(*extras: pa.Field, **provenance: Any) -> pa.Schema:
    known: dict[str, Any] = {"models": MODELS, "profile_digest": "1" * 64, "prior": 0.5}
    return with_provenance(pa.schema([*SCORED, *extras]), **{**known, **provenance})


def write(path: Path, rows: int, schema: pa.Schema | None = None, **constant: Any) -> str:
    schema = schema or schema_of()
    base = {"source": "s", "target": "t", "origin": path.name, "failed_rules": 0}
    base |= {"source_repeated": False, "target_repeated": False, **constant}
    made = [{"pair_id": bytes([i]) * 16, "row": i + 1, **base} for i in range(rows)]
    with open_writer(str(path), schema) as writer:
        writer.write(pa.Table.from_pylist(made, schema=schema))
    return str(path)


def manifest(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({"contract": 1, "models": MODELS, "profile_digest": "1" * 64, "prior": 0.5, **values}))


def rows_of(*paths: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [row for table in open_scored(paths).tables(columns) for row in table.to_pylist()]


def test_files_folders_and_globs_are_one_stream(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 2)
    write(tmp_path / "b.tsv.gz", 1)
    manifest(tmp_path / "b.tsv.gz.manifest.json")
    (tmp_path / "dir").mkdir()
    write(tmp_path / "dir" / "part-00000.parquet", 3)
    write(tmp_path / "dir" / "unlisted.parquet", 9)
    manifest(tmp_path / "dir" / "manifest.json", shards=[{"file": "part-00000.parquet", "rows": 3}])
    opened = open_scored([f"{tmp_path}/?.*", f"{tmp_path}/dir"])
    assert [(Path(entry.path).name, entry.rows) for entry in opened.inputs] == [
        ("a.parquet", 2),
        ("b.tsv.gz", None),
        ("dir", 3),
    ]
    origins = [row["origin"] for table in opened.tables(["origin"]) for row in table.to_pylist()]
    assert origins == ["a.parquet"] * 2 + ["b.tsv.gz"] + ["part-00000.parquet"] * 3
    assert opened.warnings == ()


def test_chosen_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 1, quality=0.5)
    assert rows_of(path, columns=["quality", "row"]) == [{"quality": 0.5, "row": 1}]
    tables = list(open_scored([path]).tables(["quality", "row"], batch_rows=1))
    assert tables[0].column_names == ["quality", "row"]
    with pytest.raises(ConfigError, match="no column 'qualty'; did you mean 'quality'"):
        rows_of(path, columns=["qualty"])


def test_batches_are_no_longer_than_asked(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.tsv", "a.jsonl"):
        opened = open_scored([write(tmp_path / name, 25)])
        assert [table.num_rows for table in opened.tables(["row"], batch_rows=10)] == [10, 10, 5]


def test_what_differs_between_inputs_is_said(tmp_path: Path) -> None:
    one = write(tmp_path / "a.parquet", 1)
    two = write(tmp_path / "b.parquet", 1, schema_of(models={"quality": "2" * 64}, prior=0.25))
    opened = open_scored([one, two])
    assert opened.warnings == (
        f"models differs: {one} has quality 000000000000, {two} has quality 222222222222",
        f"prior differs: {one} has 0.5, {two} has 0.25",
    )
    value = json.loads(opened.schema.metadata[METADATA_KEY])
    assert (value["models"], value["profile_digest"], value["prior"]) == ({}, "1" * 64, None)


def test_text_without_a_manifest_is_read_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 1)
    opened = open_scored([path])
    assert opened.warnings == (f"{path}: no manifest, so its models and profile are not known",)


def test_extras_are_joined(tmp_path: Path) -> None:
    url, tag = pa.field("extra_url", pa.string()), pa.field("extra_tag", pa.string())
    one = write(tmp_path / "a.parquet", 1, schema_of(url, tag), extra_url="u", extra_tag="t")
    two = write(tmp_path / "b.parquet", 1, schema_of(url), extra_url="v")
    assert open_scored([one]).schema.names[-2:] == ["extra_url", "extra_tag"]
    assert open_scored([one, two]).schema.names[-2:] == ["extra_tag", "extra_url"]
    assert [(row["extra_tag"], row["extra_url"]) for row in rows_of(one, two)] == [("t", "u"), (None, "v")]
    three = write(tmp_path / "c.parquet", 1, schema_of(pa.field("extra_url", pa.int64())), extra_url=5)
    with pytest.raises(ConfigError, match="extra_url is int64, elsewhere string"):
        rows_of(one, three)


def test_rows_that_are_not_those_of_the_manifest_are_refused(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.tsv", "a.jsonl"):
        path = write(tmp_path / name, 3)
        manifest(tmp_path / f"{name}.manifest.json", rows={"kept": 3, "dropped": 1})
        with pytest.raises(InputError, match=rf"{name}: holds 3 rows, its manifest says 4"):
            rows_of(path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, 3)
    path.write_bytes(path.read_bytes()[:-20])
    gz = tmp_path / "a.tsv.gz"
    write(gz, 3)
    gz.write_bytes(gz.read_bytes()[:-9])
    jsonl = tmp_path / "a.jsonl"
    write(jsonl, 2)
    jsonl.write_bytes(jsonl.read_bytes()[:-30])
    value = tmp_path / "b.tsv"
    write(value, 1)
    value.write_text(value.read_text().replace("\tfalse", "\tno"))
    identity = tmp_path / "c.tsv"
    write(identity, 1)
    identity.write_text(identity.read_text().replace("\n00", "\n"))
    for broken in (path, gz, jsonl, value, identity):
        with pytest.raises(InputError, match=broken.name):
            rows_of(str(broken))


def test_what_bisift_did_not_write_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "a.parquet"
    pq.write_table(pa.table({"source": ["a"]}), foreign)
    text = tmp_path / "a.tsv"
    text.write_text("hello\tworld\n")
    newer = tmp_path / "b.parquet"
    metadata = {METADATA_KEY: b'{"contract": 99}'}
    pq.write_table(SCORED.empty_table().replace_schema_metadata(metadata), newer)
    for path, message in ((foreign, "no bisift metadata"), (text, "not in the contract"), (newer, "upgrade bisift")):
        with pytest.raises(ContractError, match=rf"{path.name}: .*{message}"):
            open_scored([str(path)])
    (tmp_path / "empty").mkdir()
    for name, error in (("none.parquet", InputError), ("*.zip", InputError), ("empty", InputError)):
        with pytest.raises(error, match=name.replace("*", r"\*")):
            open_scored([f"{tmp_path}/{name}"])


def test_a_folder_without_a_manifest_is_parts_but_never_shards(tmp_path: Path) -> None:
    write(tmp_path / "part-00000.parquet", 2)
    write(tmp_path / "part-00001.parquet", 1)
    opened = open_scored([str(tmp_path)])
    assert (opened.inputs[0].rows, opened.warnings) == (3, (f"{tmp_path}: no manifest.json, so it may be incomplete",))
    write(tmp_path / "shard-00000-of-00001.parquet", 1)
    with pytest.raises(InputError, match="did not finish"):
        open_scored([str(tmp_path)])


def test_a_listed_part_that_is_missing_is_named(tmp_path: Path) -> None:
    manifest(tmp_path / "manifest.json", shards=[{"file": "part-00000.parquet", "rows": 3}])
    with pytest.raises(BisiftError, match=r"part-00000\.parquet"):
        open_scored([str(tmp_path)])


def test_the_same_file_twice_is_a_usage_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 1)
    with pytest.raises(ConfigError, match="given twice"):
        open_scored([path, f"{tmp_path}/../{tmp_path.name}/a.parquet"])


def test_a_row_group_without_wanted_rows_is_not_read(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.parquet", 30))
    pq.write_table(pq.read_table(path), path, row_group_size=10)
    column = pq.read_metadata(path).row_group(1).column(SCORED.get_field_index("source"))
    with open(path, "r+b") as file:
        file.seek(column.dictionary_page_offset)
        file.write(b"\xff" * column.total_compressed_size)
    mask_N = np.zeros(30, bool)
    mask_N[[3, 20, 29]] = True
    tables = open_scored([str(path)]).tables(["source", "row"], mask_N=mask_N)
    assert [row["row"] for table in tables for row in table.to_pylist()] == [4, 21, 30]
    mask_N[10] = True
    with pytest.raises(InputError, match="damaged Parquet file"):
        list(open_scored([str(path)]).tables(["source", "row"], mask_N=mask_N))


def test_a_mask_goes_over_all_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.jsonl", 7), write(tmp_path / "b.parquet", 5), write(tmp_path / "c.tsv", 4)]
    mask_N = np.random.default_rng(0).random(16) < 0.5
    expected = [row for row, wanted in zip(rows_of(*paths), mask_N.tolist(), strict=True) if wanted]
    tables = open_scored(paths).tables(batch_rows=3, mask_N=mask_N)
    assert [row for table in tables for row in table.to_pylist()] == expected
    assert 4 < len(expected) < 12
