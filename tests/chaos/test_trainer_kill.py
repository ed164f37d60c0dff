"""Training killed at random moments, or out of disk: the next run ends with the same curve and the same weights."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bisift.trainer.checkpoint import Checkpoint
from tests.ranked import clean, write_ranked

KILLS = 10
CONFIG = """
model: {size: tiny, layers: 1, width: 32, inner: 64, dropout: 0.2}
vocabulary: {size: 330}
optimizer: {learning_rate: 3e-3, warmup: 10}
curriculum: {name: ordered, stages: 4, epochs: 0.5}
batch_tokens: 600
micro_batches: 2
max_length: 100
pool: 8
updates: 150
save_every: 7
log_every: 1
precision: fp32
threads: 1
device: cpu
"""


def command(folder: Path, output: Path, *settings: str) -> list[str]:
    places = [f"data={folder}/ranked", f"output={output}", f"cache={folder}/cache", *settings]
    return [sys.executable, "-m", "bisift.trainer", "train", str(folder / "run.yaml"), *places]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("kill")
    write_ranked(made / "ranked", clean(300))
    (made / "run.yaml").write_text(CONFIG)
    whole = run(command(made, made / "whole"))
    assert whole.returncode == 0, whole.stderr
    return made


def curve(output: Path) -> list[tuple[int, float, float]]:
    events = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [(one["update"], one["loss"], one["gradient_norm"]) for one in events]


def last(output: Path) -> Checkpoint:
    return Checkpoint.load(sorted((output / "checkpoints").glob("update-*.pt"))[-1])


def test_killed_at_random_steps_the_curve_and_the_weights_are_the_same(folder: Path) -> None:
    rng = random.Random(5)
    output = folder / "killed"
    log = output / "log.jsonl"
    killed = 0
    for _ in range(KILLS):
        before = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(command(folder, output), stderr=subprocess.DEVNULL)
        while process.poll() is None and not (log.exists() and log.stat().st_size > before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    again = run(command(folder, output))
    assert again.returncode == 0, again.stderr
    assert killed >= KILLS // 2
    assert curve(output) == curve(folder / "whole")
    ours, theirs = last(output), last(folder / "whole")
    assert ours.state == theirs.state
    assert all(torch.equal(ours.weights[name], weight) for name, weight in theirs.weights.items())
    assert not list((output / "checkpoints").glob(".*"))


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_run_with_one_line(folder: Path, tmp_path: Path, number: int, code: int, word: str) -> None:
    process = subprocess.Popen(command(folder, tmp_path / "out"), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / "out" / "log.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "ed: give the same command again to go on" in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_a_second_run_on_one_output_is_refused(folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(command(folder, tmp_path / "out", "updates=5000"), stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not (tmp_path / "out" / "log.jsonl").exists():
            time.sleep(0.01)
        second = run(command(folder, tmp_path / "out"))
        assert second.returncode == 2
        assert "another run is training there" in second.stderr
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="a small file system needs root and mount")
def test_a_full_disk_leaves_the_last_checkpoint_whole(folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(small)]).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        arguments = command(folder, small / "out", "keep=50", "log_every=50")
        full = run(arguments)
        assert full.returncode == 1
        assert "the checkpoint could not be written" in full.stderr.splitlines()[-1]
        assert "Traceback" not in full.stderr
        assert last(small / "out").state["update"] >= 7
        assert not list((small / "out" / "checkpoints").glob(".*"))
        assert run(["mount", "-o", "remount,size=200m", str(small)]).returncode == 0
        assert run(arguments).returncode == 0
        ours, theirs = last(small / "out"), last(folder / "whole")
        assert all(torch.equal(ours.weights[name], weight) for name, weight in theirs.weights.items())
    finally:
        run(["umount", str(small)])
