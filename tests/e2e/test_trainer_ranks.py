"""Two processes under torchrun do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bisift.trainer.checkpoint import Checkpoint
from bisift.trainer.config import load_config
from bisift.trainer.loop import TrainResult, train
from tests.ranked import clean, write_ranked

CONFIG = """
data: {folder}/ranked
output: {folder}/one
cache: {folder}/cache
model: {{size: tiny, layers: 1, width: 32, inner: 64, dropout: 0.0}}
vocabulary: {{size: 330}}
optimizer: {{learning_rate: 1e-3, warmup: 2}}
batch_tokens: 800
micro_batches: 4
max_length: 100
pool: 10
updates: 5
save_every: 3
log_every: 1
precision: fp32
threads: 1
device: cpu
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    write_ranked(made / "ranked", clean(240))
    (made / "run.yaml").write_text(CONFIG.format(folder=made))
    return made


@pytest.fixture(scope="module")
def one(folder: Path) -> TrainResult:
    return train(load_config(str(folder / "run.yaml")))


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two(folder: Path, request: pytest.FixtureRequest) -> Path:
    """The run of two ranks."""
    output = folder / str(request.param)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "bisift.trainer", "train", str(folder / "run.yaml")]
    settings = [f"output={output}", f"sharding={request.param}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, *settings], capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert result.returncode == 0, result.stderr
    return output


def losses(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


def assert_close(ours: Checkpoint, theirs: Checkpoint) -> None:
    for name, weight in ours.weights.items():
        other = theirs.weights[name]
        if name.endswith(("query_key_value.bias", "key_value.bias")):
            # The bias of keys adds the same to all scores of a query: its gradient is rounding alone, which Adam scales
            # up as it does any other. It changes no output.
            parts = len(weight) // 32
            weight, other = (bias.view(parts, 32)[[0, 2] if parts == 3 else [1]] for bias in (weight, other))
        torch.testing.assert_close(other, weight, rtol=0, atol=1e-5, msg=name)


def test_two_ranks_are_one(two: Path, one: TrainResult) -> None:
    assert losses(two) == pytest.approx(losses(two.parent / "one"), abs=1e-5)
    ours, theirs = Checkpoint.load(one.checkpoint), Checkpoint.load(two / "checkpoints" / "update-00000005.pt")
    assert theirs.state["position"] == ours.state["position"]
    assert theirs.state["tokens"] == ours.state["tokens"]
    assert_close(ours, theirs)


def test_the_run_goes_on_in_one_process(two: Path, one: TrainResult) -> None:
    """Checkpoints hold whole weights and optimizer states, whatever wrote them."""
    (two / "checkpoints" / "update-00000005.pt").unlink()
    finished = train(load_config(str(two.parent / "run.yaml"), [f"output={two}"]))
    assert (finished.resumed_at, finished.updates) == (3, 5)
    assert losses(two) == pytest.approx(losses(two.parent / "one"), abs=1e-5)
    assert_close(Checkpoint.load(one.checkpoint), Checkpoint.load(finished.checkpoint))
