"""Short runs of the trainer for tests, on made pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from bisift.trainer.checkpoint import Checkpoint
from bisift.trainer.config import from_values
from bisift.trainer.loop import TrainResult, train
from tests.ranked import clean, write_ranked

TINY = {"size": "tiny", "layers": 1, "width": 32, "inner": 32, "dropout": 0.1}


def write_data(folder: Path) -> Path:
    """Write a ranking of 300 pairs and a validation set of eight into a folder."""
    write_ranked(folder / "ranked", clean(300))
    (folder / "val.src").write_text("".join(f"{source}\n" for source, _ in clean(8)))
    (folder / "val.ref").write_text("".join(f"{target}\n" for _, target in clean(8)))
    return folder


def values(data: Path, output: Path, **settings: Any) -> dict[str, Any]:
    return {
        "data": str(data / "ranked"),
        "output": str(output),
        "cache": str(data / "cache"),
        "model": TINY,
        "vocabulary": {"size": 330},
        "optimizer": {"learning_rate": 3e-3, "warmup": 4},
        "batch_tokens": 300,
        "micro_batches": 2,
        "max_length": 100,
        "pool": 4,
        "updates": 12,
        "save_every": 5,
        "log_every": 2,
        "precision": "fp32",
        "threads": 1,
        "device": "cpu",
        **settings,
    }


def run(data: Path, output: Path, *, restart: bool = False, **settings: Any) -> TrainResult:
    return train(from_values(values(data, output, **settings), "test"), restart=restart)


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return Checkpoint.load(result.checkpoint).weights


def same(one: TrainResult, other: TrainResult) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(output: Path) -> list[tuple[int, float]]:
    events = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [(one["update"], one["loss"]) for one in events if one["event"] == "train"]
