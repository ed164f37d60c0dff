"""Faults of jobs: nothing is lost or doubled, or the job fails in one line and the same command heals it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bisift.errors import BisiftError
from bisift.filter.publishing import ScoreResult
from bisift.filter.ranking import RankOptions, rank_files
from bisift.filter.scorer import ChunkScorer
from bisift.filter.scoring import score_files
from bisift.pipelines import rankjob, scorejob
from bisift.pipelines.options import parse_beam_options
from tests.corpus import pairs
from tests.pipeline.jobs import (
    FNAPI,
    LANGUAGES,
    decoded,
    free_port,
    install_prism,
    job,
    job_options,
    manifest,
    needs_prism,
    same_rows,
    score_options,
    serving,
    shard_digests,
    table,
    worker_pool,
    write_tsv,
)

ROWS = 2_500


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tsv(tmp_path_factory.mktemp("faults") / "in.tsv", list(pairs(ROWS)))


@pytest.fixture(scope="module")
def expected(source: Path) -> tuple[Path, ScoreResult]:
    path = source.with_name("expected.parquet")
    return path, score_files([str(source)], str(path), score_options(use_models=True))


def is_whole(output: Path, expected: tuple[Path, ScoreResult]) -> bool:
    """Nothing is lost, nothing doubled, and no other file lies beside what the manifest lists."""
    listed = {shard["file"] for shard in manifest(output)["shards"]} | {"manifest.json"}
    return {path.name for path in output.iterdir()} == listed and same_rows(
        table(output), decoded(pq.read_table(expected[0]))
    )


def arguments(source: Path, output: Path, *more: str) -> list[str]:
    return [
        "--input",
        str(source),
        "--output",
        str(output),
        *LANGUAGES,
        "--range-bytes=20KiB",
        "--chunk-rows=100",
        *more,
    ]


def start(module: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"bisift.pipelines.{module}", *more]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)


def some_parts(output: Path, count: int = 2) -> Callable[[], bool]:
    return lambda: len(list((output / ".score-state").glob("part-*.arrow"))) >= count


def test_bundles_that_run_twice_change_nothing(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(300)))
    score_files([str(source)], str(tmp_path / "one.parquet"), score_options())
    rank_files([str(tmp_path / "one.parquet")], str(tmp_path / "one"), RankOptions(order="random", shards=2))
    twice = parse_beam_options("FnApiRunner", 1, ["--direct_runner_bundle_repeat=1"])
    scorejob.score([str(source)], str(tmp_path / "out"), job_options(), twice)
    assert same_rows(table(tmp_path / "out"), decoded(pq.read_table(tmp_path / "one.parquet")))
    assert len(list((tmp_path / "out").glob("part-*"))) == len(manifest(tmp_path / "out")["shards"])
    rankjob.rank([str(tmp_path / "out")], str(tmp_path / "ranked"), RankOptions(order="random", shards=2), twice)
    assert shard_digests(tmp_path / "ranked") == shard_digests(tmp_path / "one")


def test_a_killed_job_goes_on_where_it_stopped(
    tmp_path: Path, source: Path, expected: tuple[Path, ScoreResult]
) -> None:
    output = tmp_path / "out"
    process = start("score", *arguments(source, output, "--runner=FnApiRunner"))
    wait_for(some_parts(output, 4), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in (output / ".score-state").glob("part-*.arrow")}
    assert not (output / "manifest.json").exists()
    assert len(kept) >= 4
    again = job("score", *arguments(source, output, "--runner=FnApiRunner"))
    assert again.returncode == 0, again.stderr
    assert is_whole(output, expected)


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


@needs_prism
def test_a_killed_worker_of_a_pool_is_one_line_and_a_second_run_heals_it(
    tmp_path: Path, source: Path, expected: tuple[Path, ScoreResult]
) -> None:
    install_prism()
    port, output = free_port(), tmp_path / "out"
    with worker_pool(port, tmp_path / "pool.log") as pool:
        external = ("--runner=PrismRunner", "--environment_type=EXTERNAL", f"--environment_config=localhost:{port}")
        process = start("score", *arguments(source, output, *external))
        try:
            wait_for(some_parts(output), process)
            workers = children(pool.pid)
            assert workers
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            _, errors = process.communicate(timeout=90)
            code = process.returncode
        except subprocess.TimeoutExpired:  # Prism waits for a worker that will never answer
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code, errors = -signal.SIGKILL, ""
        assert code != 0
        assert len(errors.strip().splitlines()) <= 1, errors
        assert not (output / "manifest.json").exists()
        again = job("score", *arguments(source, output, *external))
    assert again.returncode == 0, again.stderr
    assert is_whole(output, expected)


@needs_prism
def test_prism_killed_is_one_line_and_a_second_run_heals_it(
    tmp_path: Path, source: Path, expected: tuple[Path, ScoreResult]
) -> None:
    port, output = free_port(), tmp_path / "out"
    command = [install_prism(), f"--job_port={port}", "--serve_http=false"]
    with serving(command, port, tmp_path / "prism.log") as server:
        process = start("score", *arguments(source, output, "--runner=PrismRunner", f"--job_endpoint=localhost:{port}"))
        wait_for(some_parts(output), process)
        server.kill()
        server.wait()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert len(errors.strip().splitlines()) == 1, errors
    assert errors.startswith("error: ")
    assert not (output / "manifest.json").exists()
    again = job("score", *arguments(source, output, "--runner=PrismRunner"))
    assert again.returncode == 0, again.stderr
    assert is_whole(output, expected)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="a small file system needs root and mount")
def test_a_full_disk_is_one_line_and_space_heals_it(
    small_disk: Path, source: Path, expected: tuple[Path, ScoreResult]
) -> None:
    output = small_disk / "out"
    with pytest.raises(BisiftError, match="No space left on device") as caught:
        scorejob.score([str(source)], str(output), job_options(use_models=True, range_bytes=20_000), FNAPI)
    assert "\n" not in str(caught.value)
    assert not (output / "manifest.json").exists()
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    scorejob.score([str(source)], str(output), job_options(use_models=True, range_bytes=20_000), FNAPI)
    assert is_whole(output, expected)


@pytest.mark.parametrize("fault", ["vanishes", "grows", "is cut"])
def test_an_input_that_changes_fails_the_job_and_a_second_run_heals_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path = write_tsv(tmp_path / "in.tsv", list(pairs(400)))
    content = path.read_bytes()
    before = ChunkScorer.score
    calls: list[None] = []

    def spoil(self: ChunkScorer, pairs: object) -> object:
        calls.append(None)
        if len(calls) == 5:
            if fault == "vanishes":
                path.unlink()
            else:
                path.write_bytes(content + b"one\tmore\n" if fault == "grows" else content[: len(content) // 2])
        return before(self, pairs)

    with monkeypatch.context() as patch:
        patch.setattr(ChunkScorer, "score", spoil)
        message = "vanished while" if fault == "vanishes" else "changed while"
        with pytest.raises(BisiftError, match=f"{message} it was read"):
            scorejob.score([str(path)], str(tmp_path / "out"), job_options(), FNAPI)
    assert not (tmp_path / "out" / "manifest.json").exists()
    if fault == "vanishes":
        path.write_bytes(content)
    score_files([str(path)], str(tmp_path / "one.parquet"), score_options())
    scorejob.score([str(path)], str(tmp_path / "out"), job_options(restart=True), FNAPI)
    assert same_rows(table(tmp_path / "out"), decoded(pq.read_table(tmp_path / "one.parquet")))
