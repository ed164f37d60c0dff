"""`score` killed, interrupted or out of disk: a second run finishes with the same bytes, and nobody is left behind."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.corpus import pairs

CLI = str(Path(sys.executable).with_name("filter-cli"))
FULL = Path(__file__).resolve().parents[3] / "shared" / "data" / "corpora" / "debian-en-it.parquet"
KILLS = 6


def command(source: Path, output: Path, *more: str) -> list[str]:
    return [CLI, "score", str(source), "--source-lang", "en", "--target-lang", "de", "-o", str(output), *more]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*arguments], capture_output=True, text=True, check=False, timeout=500, **settings)  # type: ignore[call-overload, no-any-return]


def in_group(group: int) -> list[str]:
    """Processes of a group that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(entry.name)
    return found


def kill_after(arguments: list[str], seconds: float, number: int) -> int:
    """Start, wait, send a signal to the main process alone, and wait until all its workers are gone."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.wait(60)
    deadline = time.monotonic() + 30
    while left := in_group(process.pid):
        assert time.monotonic() < deadline, f"workers left behind: {left}"
        time.sleep(0.05)
    return process.returncode


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kill") / "in.tsv"
    path.write_text("".join(f"{pair.source}\t{pair.target}\n" for pair in pairs(12_000)) + "bad row\n")
    return path


@pytest.fixture(scope="module")
def expected(source: Path) -> tuple[str, str, float]:
    output = source.with_name("expected.parquet")
    began = time.monotonic()
    assert run(*command(source, output)).returncode == 0
    return digest(output), digest(source.with_name("expected.parquet.rejects.jsonl")), time.monotonic() - began


def test_killed_at_random_moments_the_rest_is_done_and_the_bytes_are_the_same(
    tmp_path: Path, source: Path, expected: tuple[str, str, float]
) -> None:
    rng = random.Random(3)
    killed = 0
    for number in range(KILLS):
        output = tmp_path / f"{number}.parquet"
        workers, chunk = rng.choice(("1", "2")), rng.choice(("150", "400", "1000"))
        arguments = command(source, output, "--workers", workers, "--chunk-rows", chunk)
        killed += kill_after(arguments, rng.uniform(0.3, max(expected[2], 1.0)), signal.SIGKILL) == -signal.SIGKILL
        again = run(*command(source, output, "--workers", rng.choice(("1", "2")), "--chunk-rows", "700"))
        assert again.returncode == 0, again.stderr
        assert (digest(output), digest(tmp_path / f"{number}.parquet.rejects.jsonl")) == expected[:2]
        assert not list(tmp_path.glob("*.state"))
    assert killed >= KILLS // 2


def test_ctrl_c_says_one_line_and_the_next_run_goes_on(
    tmp_path: Path, source: Path, expected: tuple[str, str, float]
) -> None:
    output = tmp_path / "out.parquet"
    arguments = command(source, output, "--chunk-rows", "50")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and len(list(tmp_path.glob("out.parquet.state/part-*.arrow"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(errors.strip().splitlines()) == 1
    assert not output.exists()
    again = run(*arguments)
    assert again.returncode == 0
    assert "by an earlier run" in again.stderr
    assert digest(output) == expected[0]


def test_other_settings_do_not_go_on_with_a_killed_run(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.parquet"
    arguments = command(source, output, "--no-models", "--chunk-rows", "50")
    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("out.parquet.state/part-*.arrow")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    other = run(*arguments, "--disable", "too_long")
    assert other.returncode == 2
    assert "--restart" in other.stderr
    assert run(*arguments, "--disable", "too_long", "--restart").returncode == 0


def test_two_runs_on_one_output_the_second_is_refused(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out.parquet"
    process = subprocess.Popen(command(source, output, "--chunk-rows", "50"), stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("out.parquet.state/part-*.arrow")):
        time.sleep(0.01)
    second = run(*command(source, output))
    assert second.returncode == 2
    assert "another run" in second.stderr
    process.wait(120)
    assert process.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="a small file system needs root and mount")
def test_a_full_disk_is_one_line_and_space_heals_it(
    tmp_path: Path, source: Path, expected: tuple[str, str, float]
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        arguments = command(source, folder / "out.parquet")
        full = run(*arguments)
        assert full.returncode == 1
        assert len(full.stderr.strip().splitlines()) == 1, full.stderr
        assert not (folder / "out.parquet").exists()
        assert run("mount", "-o", "remount,size=100m", str(folder)).returncode == 0
        again = run(*arguments)
        assert again.returncode == 0, again.stderr
        assert digest(folder / "out.parquet") == expected[0]
    finally:
        run("umount", str(folder))


@pytest.mark.shared_data
@pytest.mark.skipif("BISIFT_FULL" not in os.environ, reason="minutes: set BISIFT_FULL=1")
@pytest.mark.skipif(not FULL.exists(), reason="no development data beside the checkout")
def test_twenty_kills_of_the_whole_corpus(tmp_path: Path) -> None:
    whole = tmp_path / "expected.parquet"
    began = time.monotonic()
    assert run(*command(FULL, whole, "--workers", "2")).returncode == 0
    seconds = time.monotonic() - began
    rng = random.Random(20)
    kills = 0
    output = tmp_path / "out.parquet"
    for _ in range(20):
        arguments = command(FULL, output, "--workers", "2", "--chunk-rows", rng.choice(("1000", "5000")))
        kills += kill_after(arguments, rng.uniform(0.5, seconds), signal.SIGKILL) == -signal.SIGKILL
        assert run(*arguments).returncode == 0
        assert digest(output) == digest(whole)
        for path in tmp_path.glob("out.parquet*"):
            path.unlink()
    assert pq.read_metadata(whole).num_rows == 111_207
    print(f"{kills} of 20 runs were killed before they ended")
