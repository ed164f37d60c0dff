"""A score job on FnApiRunner gives the rows, rejects and counts of filter-cli, however its inputs are cut."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.errors import BisiftError, ConfigError, InputError
from bisift.filter.publishing import ScoreResult
from bisift.filter.scorer import ChunkScorer
from bisift.filter.scoring import score_files
from bisift.pipelines import scorejob
from bisift.pipelines.options import parse_beam_options
from bisift.pipelines.scorejob import JobResult
from bisift.pipelines.state import STATE
from tests.corpus import Pair, pairs
from tests.pipeline.jobs import (
    FNAPI,
    decoded,
    job_options,
    manifest,
    same_rows,
    score_options,
    table,
    write_mixture,
    write_tsv,
)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="module")
def expected(mixture: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScoreResult]:
    path = tmp_path_factory.mktemp("expected") / "out.parquet"
    return path, score_files(mixture, str(path), score_options())


def score(inputs: list[str], output: Path, **settings: Any) -> JobResult:
    return scorejob.score(inputs, str(output), job_options(**settings), FNAPI)


@pytest.mark.parametrize(
    ("range_bytes", "chunk_rows", "by_value"), [(2_000, 7, False), (5_000, 64, True), (1 << 24, 8_192, False)]
)
def test_rows_rejects_and_counts_are_those_of_filter_cli(
    tmp_path: Path,
    mixture: list[str],
    expected: tuple[Path, ScoreResult],
    monkeypatch: pytest.MonkeyPatch,
    range_bytes: int,
    chunk_rows: int,
    by_value: bool,
) -> None:
    if by_value:
        monkeypatch.setattr(scorejob, "sees_disk", lambda *_: False)
    monkeypatch.setattr(scorejob, "BUCKET_BYTES", 4_000)  # several buckets of keys
    monkeypatch.setattr("bisift.pipelines.scoring.PIECE_BYTES", 4_000)  # several pieces of what cannot be cut
    result = score(mixture, tmp_path / "out", range_bytes=range_bytes, chunk_rows=chunk_rows)
    path, single = expected
    assert same_rows(table(tmp_path / "out"), decoded(pq.read_table(path)))
    assert (tmp_path / "out" / "rejects.jsonl").read_bytes() == Path(f"{path}.rejects.jsonl").read_bytes()
    known, found = json.loads(Path(f"{path}.manifest.json").read_text()), manifest(tmp_path / "out")
    for name in ("rows", "rejects_by_reason", "models", "profile_digest", "prior", "inputs", "contract", "kind"):
        assert found[name] == known[name], name
    assert result.rows["in"] == single.rows_in == result.rows["kept"] + result.rows["dropped"] + result.rows["rejected"]
    counters = result.metrics["counters"]
    assert counters["rows_read"] == single.rows_in
    assert counters["kept"] == single.kept
    for reason, count in single.by_reason.items():
        assert counters[f"dropped:{reason}"] == count
    for reason, count in single.rejects_by_reason.items():
        assert counters[f"rejected:{reason}"] == count
    assert result.metrics["distributions"]["chunk_rows"]["sum"] == single.rows_out
    assert not (tmp_path / "out" / STATE).exists()


def test_models_and_documents_give_the_same_bits(tmp_path: Path) -> None:
    rows = list(pairs(400))
    repeats = [Pair(row.source, row.target, "repeats alone") for row in rows[:3]]
    source = write_tsv(tmp_path / "in.tsv", rows + repeats)
    score_files([str(source)], str(tmp_path / "one.parquet"), score_options(use_models=True))
    result = score([str(source)], tmp_path / "out", range_bytes=9_000, chunk_rows=50, use_models=True)
    found = table(tmp_path / "out")
    assert same_rows(found, decoded(pq.read_table(tmp_path / "one.parquet")))
    assert found.column("ai_probability_document").null_count == 3
    assert result.metrics["distributions"]["model_ms"]["count"] >= 8


@pytest.mark.parametrize("content", ["", "source\ttarget\n", "one\ttwo\n", "bad\n"])
def test_empty_header_only_one_row_and_nothing_readable(tmp_path: Path, content: str) -> None:
    source = tmp_path / "in.tsv"
    source.write_text(content)
    single = score_files([str(source)], str(tmp_path / "one.parquet"), score_options())
    result = score([str(source)], tmp_path / "out")
    assert (result.rows["in"], result.rows["kept"]) == (single.rows_in, single.kept)
    assert same_rows(table(tmp_path / "out"), decoded(pq.read_table(tmp_path / "one.parquet")))


def test_a_limit_counts_over_all_inputs(tmp_path: Path, mixture: list[str]) -> None:
    for limit in (1, 200, 390):
        single = score_files(mixture, str(tmp_path / f"{limit}.parquet"), score_options(limit=limit))
        result = score(mixture, tmp_path / f"{limit}", limit=limit)
        assert result.rows["in"] == single.rows_in == limit
        assert same_rows(table(tmp_path / f"{limit}"), decoded(pq.read_table(tmp_path / f"{limit}.parquet")))


def test_a_megabyte_line_and_text_in_any_script(tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("x" * 400_000 + "\t" + "語" * 200_000 + "\nשלום\tمرحبا\n🙂\t語\n" + "y" * (1 << 20) + "z\tw\n")
    score_files([str(source)], str(tmp_path / "one.parquet"), score_options())
    result = score([str(source)], tmp_path / "out", range_bytes=100_000)
    assert result.rejects_by_reason == {"line_too_long": 1}
    assert same_rows(table(tmp_path / "out"), decoded(pq.read_table(tmp_path / "one.parquet")))


def test_a_file_that_breaks_keeps_what_stands_before(tmp_path: Path) -> None:
    rows = "".join(f"source {number} {number * 7919}\ttarget {number}\n" for number in range(60_000))
    whole = gzip.compress(rows.encode())
    (tmp_path / "a.tsv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.tsv").write_text("good\tgut\n")
    result = score([str(tmp_path / "a.tsv.gz"), str(tmp_path / "b.tsv")], tmp_path / "out")
    assert result.rejects_by_reason == {"unreadable_file": 1}
    found = table(tmp_path / "out")
    assert 20_000 < found.num_rows < 60_000
    assert found.column("row").to_pylist()[:-1] == list(range(1, found.num_rows))
    (reject,) = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert (reject["file"], reject["row"]) == (str(tmp_path / "a.tsv.gz"), found.num_rows)
    assert "gzip data end too early" in reject["raw"]
    with pytest.raises(InputError, match=r"a\.tsv\.gz: the gzip data end too early"):
        score([str(tmp_path / "a.tsv.gz")], tmp_path / "strict", strict=True)


def test_a_file_of_another_kind_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"\x89PNG\r\n" + bytes(1000))
    (tmp_path / "b.tsv").write_text("good\tgut\n")
    result = score([str(tmp_path / "*.tsv")], tmp_path / "out")
    assert (result.rows["in"], result.rejects_by_reason) == (2, {"unreadable_file": 1})
    with pytest.raises(InputError, match="is no text but a PNG image"):
        score([str(tmp_path / "a.tsv")], tmp_path / "strict", strict=True)


def test_a_chunk_that_fails_is_halved_down_to_its_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(90)))
    before = ChunkScorer.score

    def fragile(self: ChunkScorer, table: pa.Table) -> pa.Table:
        if any("number 41." in text or "number 77." in text for text in table["source"].to_pylist()):
            raise ZeroDivisionError("made to fail")
        return before(self, table)

    monkeypatch.setattr(ChunkScorer, "score", fragile)
    result = score([str(source)], tmp_path / "out", range_bytes=1 << 20)
    assert result.rejects_by_reason == {"scoring_failed": 2}
    assert result.rows["in"] == 90
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [reject["row"] for reject in rejects] == [42, 78]
    assert rejects[0]["raw"].startswith("ZeroDivisionError: made to fail\n")


def test_errors_that_are_not_a_pairs_fault_end_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(9)))

    def broken(self: ChunkScorer, table: pa.Table) -> pa.Table:
        raise BisiftError("no such luck")

    monkeypatch.setattr(ChunkScorer, "score", broken)
    with pytest.raises(BisiftError, match=r"^no such luck$"):
        score([str(source)], tmp_path / "out")


def test_a_finished_job_says_so_and_another_configuration_is_refused(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(30)))
    first = score([str(source)], tmp_path / "out")
    before = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    assert score([str(source)], tmp_path / "out", range_bytes=100).already_done
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="--restart"):
        score([str(source)], tmp_path / "out", disable=("too_long",))
    write_tsv(source, list(pairs(31)))
    again = score([str(source)], tmp_path / "out", restart=True, range_bytes=1 << 20)
    assert (first.rows["in"], again.rows["in"]) == (30, 31)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 1


def test_foreign_files_and_outputs_that_are_no_folder_are_refused(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(5)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-1.parquet").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="not written by bisift"):
        score([str(source)], tmp_path / "out")
    assert (tmp_path / "out" / "part-1.parquet").read_bytes() == b"mine"
    with pytest.raises(ConfigError, match="is a file"):
        score([str(source)], source)
    with pytest.raises(ConfigError, match="stdin"):
        score(["-"], tmp_path / "new")


def test_parts_of_an_unfinished_job_are_not_scored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(200)))
    score_files([str(source)], str(tmp_path / "one.parquet"), score_options())

    def full(*_: object) -> None:
        raise BisiftError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("bisift.pipelines.sinks.Publish.__call__", full)
        with pytest.raises(BisiftError, match="disk full"):
            score([str(source)], tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(ConfigError, match="unfinished job with other settings"):
        score([str(source)], tmp_path / "out", range_bytes=999)
    monkeypatch.setattr(ChunkScorer, "score", lambda *_: pytest.fail("scored again"))
    result = score([str(source)], tmp_path / "out")
    assert result.rows["in"] == 200
    assert same_rows(table(tmp_path / "out"), decoded(pq.read_table(tmp_path / "one.parquet")))


def test_filter_cli_reads_what_a_job_wrote(tmp_path: Path, mixture: list[str]) -> None:
    from bisift.filter.ranking import RankOptions, rank_files

    result = score(mixture, tmp_path / "out")
    ranked = rank_files([str(tmp_path / "out")], str(tmp_path / "ranked"), RankOptions(order="random", shards=2))
    assert (ranked.rows_in, ranked.rejected) == (result.rows["in"] - result.rows["rejected"], result.rows["rejected"])
    assert manifest(tmp_path / "ranked")["rows"] == result.rows | {
        "by_reason": dict(sorted(result.rows["by_reason"].items()))
    }
    shutil.rmtree(tmp_path / "ranked")


def test_a_template_claims_the_output_and_leaves_its_state_for_the_job_that_runs_later(tmp_path: Path) -> None:
    """FnApiRunner knows no templates and runs the job at once; what a launcher's program does around it is the same."""
    source = str(write_tsv(tmp_path / "in.tsv", list(pairs(20))))
    template = parse_beam_options("FnApiRunner", 1, ["--template_location=gs://none/graph"])
    result = scorejob.score([source], str(tmp_path / "out"), job_options(), template)
    assert result.dry_run
    assert list((tmp_path / "out" / STATE).glob("part-*.arrow"))
