"""The configuration of a run: YAML, then `key=value` on the command line; every key is checked before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from bisift.config import at_least, build, load_yaml, parse_yaml
from bisift.errors import ConfigError
from bisift.manifest import value_digest
from bisift.trainer.curricula import Order, Shuffled, build_order, checked, describe
from bisift.trainer.losses import LossConfig
from bisift.trainer.marks import Tags, Weights
from bisift.trainer.model import ModelConfig
from bisift.trainer.optimizer import OptimizerConfig
from bisift.trainer.precision import PRECISIONS
from bisift.trainer.vocabulary import VocabularyConfig

_FREE = (
    "cache",
    "compile",
    "data",
    "device",
    "keep",
    "log_every",
    "output",
    "precision",
    "save_every",
    "sharding",
    "tensorboard",
    "threads",
    "updates",
    "workers",
)
"""What a resumed run may change, since it changes nothing about the updates that are done (a cosine's end does)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    """Segments to translate after every `every` updates, one a line, and their references.

    Training stops after `patience` validations without a better BLEU (0: never). `limit` takes the first segments only.
    """

    source: str
    reference: str
    every: int = 1_000
    beam: int = 1
    patience: int = 0
    limit: int | None = None

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        at_least(self, 1, "every", "beam", "limit", where="validation: ")
        at_least(self, 0, "patience", where="validation: ")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """All that a run is: `data` is a ranked folder (with `follow`: a stream's folder with current.json).

    `batch_tokens` are target tokens an update over all ranks, in `micro_batches` parts; `pool` is in batches. `threads`
    are torch's (None: its default). `sharding`: `ddp` or `fsdp`, for several ranks.
    """

    data: str
    output: str
    follow: bool = False
    cache: str | None = None
    init_from: str | None = None
    keep_human: bool = False
    curriculum: Order = field(default_factory=Shuffled)
    tags: Tags | None = None
    weights: Weights | None = None
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig | None = None
    batch_tokens: int = 4_096
    micro_batches: int = 1
    pool: int = 100
    max_length: int = 256
    updates: int = 10_000
    seed: int = 1
    save_every: int = 1_000
    keep: int = 5
    log_every: int = 50
    tensorboard: bool = False
    workers: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool | None = None
    threads: int | None = None
    sharding: str = "ddp"

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        for name in ("data", "output"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty: name a folder")
        at_least(
            self, 1, "batch_tokens", "micro_batches", "pool", "updates", "save_every", "keep", "log_every", "threads"
        )
        at_least(self, 2, "max_length")
        at_least(self, 0, "workers")
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed {self.seed}: from 0 to 2^63 - 1")
        if self.batch_tokens // self.micro_batches < self.max_length:
            raise ConfigError(
                f"a micro-batch of {self.batch_tokens // self.micro_batches} tokens cannot hold a pair of max_length "
                f"{self.max_length}: raise batch_tokens, or lower max_length or micro_batches"
            )
        if self.sharding not in ("ddp", "fsdp"):
            raise ConfigError(f"sharding {self.sharding!r}: ddp or fsdp")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision {self.precision!r}: one of {', '.join(PRECISIONS)}")
        if self.sharding == "fsdp" and self.optimizer.ema:
            raise ConfigError("optimizer.ema needs sharding=ddp; average checkpoints instead (trainer-cli average)")

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain values, as it can be loaded again."""
        found: dict[str, Any] = {}
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Order):
                value = describe(value)
            elif dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = dataclasses.asdict(value)
            found[entry.name] = value
        return found

    @property
    def identity(self) -> str:
        """A digest of what decides every update; a run resumes only under the same one."""
        return value_digest(self._decisive())

    def differing(self, other: Mapping[str, Any]) -> list[str]:
        """Return the keys that decide an update and have another value in `other`, a configuration as plain values."""
        skipped = () if self.validation_stops else ("validation",)
        return [key for key, value in self._decisive().items() if value != other.get(key) and key not in skipped]

    def _decisive(self) -> dict[str, Any]:
        known = {key: value for key, value in self.to_json().items() if key not in _FREE}
        if not self.validation_stops:
            known["validation"] = None
        if self.optimizer.schedule == "cosine":
            known["updates"] = self.updates
        return known

    @property
    def validation_stops(self) -> bool:
        """Whether validation may end the run."""
        return self.validation is not None and self.validation.patience > 0


_PARTS: dict[str, type[Any]] = {
    "tags": Tags,
    "weights": Weights,
    "vocabulary": VocabularyConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "optimizer": OptimizerConfig,
    "validation": ValidationConfig,
}


def load_config(path: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file and apply overrides such as `optimizer.learning_rate=5e-4`.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is wrong.
    """
    values = load_yaml(path)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not (name and equals):
            raise ConfigError(f"{override!r}: expected KEY=VALUE, such as batch_tokens=8192")
        try:
            value = parse_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{override!r}: not a YAML value: {' '.join(str(error).split())}") from error
        _set(values, name.split("."), value, override)
    return from_values(values, path)


def from_values(values: Mapping[str, Any], where: str) -> TrainConfig:
    """Make a configuration from plain values.

    Raises:
        ConfigError: a key is unknown, or a value is wrong.
    """
    made = dict(values)
    for name, kind in _PARTS.items():
        if made.get(name) is None:
            if name in made and name not in ("tags", "weights", "validation"):
                del made[name]
            continue
        if not isinstance(made[name], dict):
            raise ConfigError(f"{where}: {name}: expected a mapping, got {made[name]!r}")
        made[name] = checked(build(kind, made[name], f"{where}: {name}"), where)
    if made.get("curriculum") is not None:
        made["curriculum"] = build_order(made["curriculum"], f"{where}: curriculum")
    else:
        made.pop("curriculum", None)
    return checked(build(TrainConfig, made, where), where)


def _set(values: dict[str, Any], names: list[str], value: Any, override: str) -> None:
    for name in names[:-1]:
        inner = values.setdefault(name, {})
        if inner is None:
            inner = values[name] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{override!r}: {name} is no mapping")
        values = inner
    values[names[-1]] = value
