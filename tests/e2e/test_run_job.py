"""A folder of mixed inputs, one of them broken, through `run` to ranked shards, and back through filter-cli."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq

from tests.pipeline.jobs import CLI, LANGUAGES, job, manifest, table, write_mixture


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([CLI, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    return result


def test_from_a_folder_of_inputs_to_shards_report_and_selection(tmp_path: Path) -> None:
    inputs = write_mixture(tmp_path / "in", 150)
    lines = "".join(f"broken {number} {number * 7919}\tkaputt {number}\n" for number in range(20_000))
    whole = gzip.compress(lines.encode())
    (tmp_path / "in" / "z.tsv.gz").write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "corpus"
    given = ("--input", tmp_path / "in" / "*", "--output", output, "--runner=FnApiRunner", *LANGUAGES)
    result = job("run", *given, "--shards=4", "--json", "--range-bytes=8KiB")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    rows, rejects = found["scored"]["rows"], found["scored"]["rejects_by_reason"]
    assert rows["in"] == rows["kept"] + rows["dropped"] + rows["rejected"]
    assert rows["dropped"] == sum(rows["by_reason"].values())
    assert (
        rows["rejected"] == sum(rejects.values()) == len((output / "scored" / "rejects.jsonl").read_text().splitlines())
    )
    assert rejects["unreadable_file"] == 1
    assert len(manifest(output / "scored")["inputs"]) == len(inputs) + 1
    assert sum(entry["rows"] for entry in manifest(output / "scored")["inputs"]) == rows["in"]
    assert found["ranked"]["rows"] == rows
    assert sum(pq.read_metadata(path).num_rows for path in (output / "ranked").glob("shard-*")) == rows["kept"]

    scored = table(output / "scored")
    assert scored.num_rows == rows["kept"] + rows["dropped"]
    assert scored.column("drop_reason").null_count == rows["kept"]
    selected = tmp_path / "best.parquet"
    cli("select", output / "scored", "--by", "combined", "--top-pairs", "50", "-o", selected)
    assert pq.read_metadata(selected).num_rows == 50
    cli("select", output / "ranked", "--share", "1.0", "--by", "combined", "-o", tmp_path / "all.parquet")
    assert pq.read_metadata(tmp_path / "all.parquet").num_rows == rows["kept"]
    cli("report", output / "scored", "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{rows['kept']:,}" in page
    assert f"{rows['dropped']:,}" in page
