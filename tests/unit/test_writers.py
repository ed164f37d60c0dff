"""Writers: the same bytes however rows arrive, values that read back, and nothing published by halves."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.contract import SCORED, with_provenance
from bisift.errors import BisiftError, ConfigError, ContractError
from bisift.filter.scored import open_scored
from bisift.filter.writers import open_writer, output_files
from bisift.filter.writers import parquet as parquet_writers
from bisift.filter.writers import text as text_writers

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SCHEMA = with_provenance(
    pa.schema([*SCORED, pa.field("extra_url", pa.string()), pa.field("extra_n", pa.float64())]),
    models={"quality": "0" * 64},
    profile_digest="1" * 64,
    prior=0.5,
)
OUTPUTS = ["a.parquet", "parts/", "a.tsv", "a.tsv.gz", "a.tsv.zst", "a.tsv.xz", "a.tsv.bz2", "a.jsonl", "a.jsonl.zst"]


def scored(rows: int, **columns: Any) -> pa.Table:
    rng = np.random.default_rng(rows)
    values: dict[str, Any] = {
        "pair_id": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), rows, [None, pa.py_buffer(rng.bytes(16 * rows))]
        ),
        "source": [f'source "{i}" \\ 語 \u2028 é' for i in range(rows)],
        "target": ["" if i % 3 == 0 else f"target {i}" for i in range(rows)],
        "source_lang": ["en" if i % 2 else None for i in range(rows)],
        "origin": ["crawl.tsv"] * rows,
        "row": list(range(1, rows + 1)),
        "quality": rng.random(rows, dtype=np.float32),
        "ai_language_known": [None if i % 5 == 0 else i % 2 == 0 for i in range(rows)],
        "source_chars": rng.integers(0, 99, rows),
        "source_repeated": [False] * rows,
        "target_repeated": [i % 7 == 0 for i in range(rows)],
        "failed_rules": [(1 << 63) + i for i in range(rows)],
        "drop_reason": [("empty", "length_ratio", "untranslated")[i % 3] if i % 4 == 0 else None for i in range(rows)],
        "extra_url": [f"https://example.org/{i // 3}" for i in range(rows)],
        "extra_n": rng.random(rows),
        **columns,
    }
    arrays = [
        pa.array(values[field.name], field.type) if field.name in values else pa.nulls(rows, field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def write(output: str, *tables: pa.Table) -> list[bytes]:
    with open_writer(output, SCHEMA) as writer:
        for table in tables:
            writer.write(table)
    return [path.read_bytes() for path in output_files(output)]


def split(table: pa.Table, sizes: list[int]) -> Iterator[pa.Table]:
    start = 0
    for size in [*sizes, table.num_rows]:
        # Made anew: its dictionary lists only what the piece uses, as in chunks from separate workers.
        yield pa.Table.from_pylist(table.slice(start, size).to_pylist(), schema=SCHEMA)
        start += size


@pytest.mark.parametrize("name", OUTPUTS)
def test_bytes_depend_on_the_rows_alone(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_writers, "ROW_GROUP", 700)
    monkeypatch.setattr(parquet_writers, "PART_ROWS", 1_400)
    table = scored(3_000)
    whole = write(str(tmp_path / "one") + "/" + name, table)
    pieces = write(str(tmp_path / "two") + "/" + name, *split(table, [1, 0, 999, 3, 1_200]))
    assert whole == pieces
    assert len(whole) == (3 if name.endswith("/") else 1)


def test_pages_do_not_follow_the_chunks(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("source", pa.string()), pa.field("row", pa.int64())])
    table = pa.table({"source": [f"{i:060d}" for i in range(70_000)], "row": range(70_000)}, schema=schema)
    files = []
    for sizes in ([70_000], [1, 333, 20_001, 7, 49_658]):
        path = tmp_path / f"{len(sizes)}.parquet"
        with open_writer(str(path), schema) as writer:
            for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
                writer.write(table.slice(start, size))
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_a_compressor_sees_the_same_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorder(io.BytesIO):
        calls: list[int]

        def write(self, data: Any) -> int:
            self.calls.append(len(data))
            return len(data)

    calls = []
    table = scored(20_000)
    for sizes in ([], [1, 9_000, 37]):
        Recorder.calls = []
        monkeypatch.setattr(text_writers, "_compressed", lambda file, compression: Recorder())
        with open_writer(str(tmp_path / "a.tsv.zst"), SCHEMA) as writer:
            for start, size in zip([0, *np.cumsum(sizes)], [*sizes, 20_000], strict=True):
                writer.write(table.slice(start, size))
        calls.append(Recorder.calls)
    assert calls[0] == calls[1]
    assert len(calls[0]) > 2


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("rows", [0, 1, 500])
def test_what_is_written_reads_back(tmp_path: Path, name: str, rows: int) -> None:
    table = scored(rows)
    write(str(tmp_path) + "/" + name, table)
    expected = table.to_pylist()
    if ".tsv" in name:
        expected = [{**row, "extra_n": str(row["extra_n"])} for row in expected]  # extras of TSV are text
    tables = open_scored([f"{tmp_path}/{name}"]).tables()
    assert [row for back in tables for row in back.to_pylist()] == expected


def test_parquet_has_full_row_groups_and_keeps_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    small = scored(1_000)
    write(str(path), *[small] * 132)
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [65_536, 65_536, 928]
    assert file.schema_arrow.equals(SCHEMA, check_metadata=True)
    source = file.metadata.row_group(0).column(SCHEMA.get_field_index("source"))
    assert "RLE_DICTIONARY" not in source.encodings


def test_tsv_is_plain(tmp_path: Path) -> None:
    table = scored(2, source=["a\tb\r\nc", "é"], extra_n=[0.1, None], quality=np.array([0.1, 1e-7], np.float32))
    with open_writer(str(tmp_path / "a.tsv"), SCHEMA) as writer:
        writer.write(table)
    lines = (tmp_path / "a.tsv").read_text(encoding="utf-8").split("\n")
    assert lines[0].split("\t") == SCHEMA.names
    first = dict(zip(SCHEMA.names, lines[1].split("\t"), strict=True))
    assert first["pair_id"] == table["pair_id"][0].as_py().hex()
    assert (first["source"], first["source_lang"], first["quality"]) == ("a b  c", "", "0.1")
    assert (first["source_repeated"], first["extra_n"]) == ("false", "0.1")
    assert lines[3:] == [""]
    assert writer.counts == {"control_characters_replaced": 3}


def test_a_column_name_cannot_break_the_header(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("source", pa.string()), pa.field("extra_a\tb\n", pa.int64())])
    with open_writer(str(tmp_path / "a.tsv"), schema) as writer:
        writer.write(pa.Table.from_pylist([{"source": "s", "extra_a\tb\n": 1}], schema=schema))
    assert (tmp_path / "a.tsv").read_text() == "source\textra_a b \ns\t1\n"


def test_float32_text_reads_back_to_the_same_bits(tmp_path: Path) -> None:
    bits = np.random.default_rng(3).integers(0, 0x7F800000, 20_000, dtype=np.uint32)
    table = scored(len(bits), quality=bits.view(np.float32))
    write(str(tmp_path / "a.tsv"), table)
    column = SCHEMA.get_field_index("quality")
    texts = [line.split("\t")[column] for line in (tmp_path / "a.tsv").read_text("utf-8").split("\n")[1:-1]]
    assert np.array_equal(np.array(texts, np.float32).view(np.uint32), bits)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_jsonl_floats_are_no_integers(kind: type[np.floating[Any]]) -> None:
    """Readers such as Hugging Face datasets infer a column's type from its first rows."""
    values = np.array([0, 1, -3, 0.5, 1e-7, 16_777_216, 1e10, 1e20, np.nan, np.inf], kind)
    table = pa.table({"score": values, "count": np.arange(len(values))})
    lines, _ = text_writers.JsonlFormat(table.schema).lines(table)
    read = [json.loads(line) for line in lines.to_pylist()]
    assert [type(row["score"]) for row in read] == [float] * 8 + [type(None)] * 2
    assert np.array([row["score"] for row in read[:8]], kind).tolist() == values[:8].tolist()
    assert [row["count"] for row in read] == list(range(len(values)))


def test_jsonl_is_json_with_every_column(tmp_path: Path) -> None:
    text = 'a\t"b"\\\n\x01\u2028語😀'
    table = scored(2, source=[text, "plain"], extra_n=[float("nan"), 2.5], extra_url=[None, '"'])
    write(str(tmp_path / "a.jsonl"), table)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [list(row) for row in rows] == [SCHEMA.names] * 2
    assert rows[0]["source"] == text
    assert (rows[0]["extra_n"], rows[1]["extra_n"], rows[0]["extra_url"], rows[1]["extra_url"]) == (
        None,
        2.5,
        None,
        '"',
    )
    assert rows[1]["failed_rules"] == (1 << 63) + 1


def test_nested_and_binary_extras_become_json_and_hex(tmp_path: Path) -> None:
    schema = pa.schema([*SCORED, pa.field("extra_tags", pa.list_(pa.string())), pa.field("extra_raw", pa.binary())])
    table = scored(1).select(SCORED.names).append_column("extra_tags", pa.array([["a\tb", "c"]]))
    table = table.append_column("extra_raw", pa.array([b"\x00\xff"]))
    for name in ("a.tsv", "a.jsonl"):
        with open_writer(str(tmp_path / name), schema) as writer:
            writer.write(table)
    line = (tmp_path / "a.tsv").read_text("utf-8").split("\n")[1].split("\t")
    assert (json.loads(line[-2]), line[-1]) == (["a\tb", "c"], "00ff")
    row = json.loads((tmp_path / "a.jsonl").read_text("utf-8"))
    assert (row["extra_tags"], row["extra_raw"]) == (["a\tb", "c"], "00ff")


OPENERS = [("gz", gzip.open), ("bz2", bz2.open), ("xz", lzma.open), ("zst", zstd.open)]


@pytest.mark.parametrize(("ending", "opener"), OPENERS)
def test_compression_follows_the_ending(tmp_path: Path, ending: str, opener: Any) -> None:
    table = scored(50)
    plain = write(str(tmp_path / "a.tsv"), table)[0]
    write(str(tmp_path / f"a.tsv.{ending}"), table)
    with opener(tmp_path / f"a.tsv.{ending}", "rb") as file:
        assert file.read() == plain


def test_stdout_gets_tsv(monkeypatch: pytest.MonkeyPatch) -> None:
    class Out:
        buffer = io.BytesIO()

    monkeypatch.setattr(sys, "stdout", Out())
    with open_writer("-", SCHEMA) as writer:
        writer.write(scored(3))
    assert Out.buffer.getvalue().count(b"\n") == 4
    assert output_files("-") == []


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.lz4", "a", "a.parquet.gz", "gz"])
def test_an_unknown_ending_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"\.parquet, \.tsv or \.jsonl"):
        open_writer(str(tmp_path / name), SCHEMA)
    with pytest.raises(ConfigError, match="local"):
        open_writer("s3://bucket/a.parquet", SCHEMA)


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_exception_publishes_nothing_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    def fail() -> None:
        with open_writer(str(tmp_path) + "/out/" + name, SCHEMA) as writer:
            writer.write(scored(10))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_an_older_output_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("old")
    with open_writer(str(path), SCHEMA) as writer:
        writer.write(scored(1))
        assert path.read_text() == "old"
    assert path.read_text("utf-8").startswith("pair_id\t")


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_disk_that_refuses_is_one_line_with_the_path(tmp_path: Path, name: str) -> None:
    output = str(tmp_path) + "/" + name
    with file_size_limit(5_000), pytest.raises(BisiftError, match=f"^{output}: ") as caught:
        write(output, *[scored(2_000)] * 20)
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_output_that_cannot_be_created_is_one_line_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("a.parquet", "a.tsv", "parts/"):
        with pytest.raises(BisiftError, match="file/"):
            open_writer(f"{tmp_path}/file/{name}", SCHEMA)


def test_parts_replace_only_what_bisift_wrote(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "mine" / "part-00000.parquet")
    with pytest.raises(ConfigError, match="not written by bisift"):
        open_writer(f"{tmp_path}/mine/", SCHEMA)


def test_fewer_parts_leave_no_stale_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_writers, "PART_ROWS", 100)
    output = f"{tmp_path}/parts/"
    assert len(write(output, scored(250))) == 3
    (tmp_path / "parts" / "manifest.json").write_text("{}")
    assert len(write(output, scored(120))) == 2
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]


def test_rows_that_do_not_fit_the_schema_are_a_contract_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="do not fit"):
        write(str(tmp_path / "a.parquet"), scored(1).drop_columns("quality"))
    assert list(tmp_path.iterdir()) == []
