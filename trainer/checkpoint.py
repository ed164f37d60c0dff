"""Checkpoints: one file with all that a run needs to go on, or a translation to begin; it is there whole or not."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisift.errors import BisiftError, ConfigError, InputError, ModelError
from bisift.manifest import atomic_path
from bisift.trainer.config import TrainConfig, from_values
from bisift.trainer.model import ModelConfig, Transformer
from bisift.trainer.vocabulary import Vocabulary

FORMAT = 1
BEST_NAME = "best.pt"
_NAME = re.compile(r"update-(\d{8})\.pt")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights, vocabulary and configuration, and the state of a run (None in averaged and exported ones).

    `weights` are those to translate with: the moving average where the run keeps one; `trained` then holds the others.
    """

    config: dict[str, Any]
    vocabulary: bytes
    weights: dict[str, Tensor]
    trained: dict[str, Tensor] | None = None
    optimizer: dict[str, Any] | None = None
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def train_config(self) -> TrainConfig:
        return from_values(self.config, "checkpoint")

    def model(self, device: torch.device | None = None) -> Transformer:
        """Return the network, ready to translate.

        Raises:
            ModelError: weights and configuration do not fit each other.
        """
        vocabulary = Vocabulary(self.vocabulary)
        model = Transformer(self.train_config.model, len(vocabulary))
        check_fit(model, self.weights, "checkpoint")
        model.load_state_dict(self.weights)
        return model.to(device or torch.device("cpu")).eval()

    def save(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            BisiftError: the disk refuses; whatever stood under that name before still does.
        """
        value = {
            "format": FORMAT,
            "config": self.config,
            "vocabulary": torch.frombuffer(bytearray(self.vocabulary), dtype=torch.uint8),
            "weights": self.weights,
            "trained": self.trained,
            "optimizer": self.optimizer,
            "state": self.state,
        }
        try:
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                torch.save(value, file)
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as a RuntimeError that names a line of its own source.
            detail = error.strerror if isinstance(error, OSError) else "the disk is full or refuses"
            raise BisiftError(
                f"{path}: the checkpoint could not be written ({detail}); the one before it is whole: make room and "
                "give the command again (without --restart)"
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint; nothing in it is executed (weights_only).

        Raises:
            InputError: there is no such file.
            ModelError: it is no checkpoint of this program, or damaged (the checksums of the archive are compared).
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(damaged)
            value = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except Exception as error:  # whatever a damaged archive makes of the unpickler
            raise ModelError(f"{path}: not a checkpoint of trainer-cli, or damaged") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ModelError(f"{path}: not a checkpoint of trainer-cli, or of another version")
        return cls(
            config=value["config"],
            vocabulary=value["vocabulary"].numpy().tobytes(),
            weights=value["weights"],
            trained=value["trained"],
            optimizer=value["optimizer"],
            state=value["state"],
        )


def check_fit(model: Transformer, weights: dict[str, Tensor], where: str) -> None:
    """Raise ModelError where a weight is missing, left over or of another shape."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in wanted.keys() | found.keys():
        if wanted.get(name) != found.get(name):
            raise ModelError(
                f"{where}: weight {name} is {found.get(name)}, not {wanted.get(name)}: "
                "it is of another model or vocabulary"
            )


def check_same(one: ModelConfig, other: ModelConfig, where: str) -> None:
    """Raise ModelError where `other`, the model of `where`, does not compute what `one` does with the same weights."""
    if (one.shape, one.positions) != (other.shape, other.positions):
        raise ModelError(f"{where}: its model has {_described(other)}; wanted: {_described(one)}")


def _described(config: ModelConfig) -> str:
    layers, width, inner, heads = config.shape
    return f"model.layers={layers} width={width} inner={inner} heads={heads} positions={config.positions}"


class Folder:
    """The checkpoints of a run: the latest `keep`, and the best by BLEU."""

    def __init__(self, output: Path, keep: int) -> None:
        self.path = output / "checkpoints"
        self._keep = keep

    def latest(self) -> Path | None:
        """The checkpoint to go on from."""
        found = self.all()
        return found[-1] if found else None

    def all(self) -> list[Path]:
        """All by update, the best one aside."""
        if not self.path.is_dir():
            return []
        return sorted(path for path in self.path.iterdir() if _NAME.fullmatch(path.name))

    def save(self, checkpoint: Checkpoint, update: int) -> Path:
        """Write a checkpoint and remove those beyond `keep`."""
        path = self.path / f"update-{update:08d}.pt"
        if not path.exists():
            checkpoint.save(path)
        for old in self.all()[: -self._keep]:
            old.unlink(missing_ok=True)
        return path

    def mark_best(self, path: Path) -> None:
        """Copy a checkpoint to best.pt, which outlives it.

        Raises:
            BisiftError: the disk refuses.
        """
        try:
            with atomic_path(self.path / BEST_NAME) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            raise BisiftError(f"{self.path / BEST_NAME}: {error.strerror or error}: make room") from error

    def tidied(self) -> Path | None:
        """Remove what a killed run left of a checkpoint that it was writing, and return the latest that is whole."""
        for path in self.path.glob(".*.tmp"):
            path.unlink()
        return self.latest()

    def clear(self) -> None:
        """Remove the run's checkpoints, and no other file."""
        for path in (*self.path.glob(".*.tmp"), *self.all(), self.path / BEST_NAME):
            path.unlink(missing_ok=True)


def average(paths: Sequence[str | Path]) -> Checkpoint:
    """Return a checkpoint whose weights are the mean of those of several (Popel & Bojar 2018, arXiv 1804.00247).

    Raises:
        ConfigError: there are none.
        ModelError: they are of different models or vocabularies.
    """
    if not paths:
        raise ConfigError("no checkpoints to average")
    first = Checkpoint.load(paths[0])
    total = {name: tensor.double() for name, tensor in first.weights.items()}
    for path in paths[1:]:
        other = Checkpoint.load(path)
        if other.vocabulary != first.vocabulary:
            raise ModelError(
                f"{path}: has another vocabulary than {paths[0]}: only one run's checkpoints can be averaged"
            )
        check_same(first.train_config.model, other.train_config.model, str(path))
        if other.state.get("tag", -1) != first.state.get("tag", -1):
            raise ModelError(f"{path}: was trained with other tags than {paths[0]}")
        check_fit(first.model(), other.weights, str(path))
        for name, tensor in other.weights.items():
            total[name] += tensor.double()
    mean = {name: (tensor / len(paths)).to(first.weights[name].dtype) for name, tensor in total.items()}
    state = {"averaged": [str(path) for path in paths], "tag": first.state.get("tag", -1)}
    return replace(first, weights=mean, trained=None, optimizer=None, state=state)
