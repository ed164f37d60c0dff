"""AdamW, its learning rate as a function of the update, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bisift.config import at_least, nearest
from bisift.errors import ConfigError

SCHEDULES = ("inverse-square-root", "cosine", "constant")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) and its schedule; `learning_rate` is what warm-up ends with.

    `clip` bounds the gradient's norm (0: no bound). `ema` is the decay of the moving average of the weights that is
    validated and saved for translation (0: none).
    """

    learning_rate: float = 1e-3
    schedule: str = "inverse-square-root"
    warmup: int = 1_000
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-9
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.0

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"optimizer: no schedule {self.schedule!r}{nearest(self.schedule, SCHEDULES)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"optimizer: learning_rate {self.learning_rate}: a number above 0")
        at_least(self, 0, "warmup", "clip", "weight_decay", where="optimizer: ")
        if not 0 < self.epsilon < math.inf:
            raise ConfigError(f"optimizer: epsilon {self.epsilon}: a number above 0")
        if not all(0 <= value < 1 for value in (self.beta1, self.beta2, self.ema)):
            raise ConfigError("optimizer: beta1, beta2 and ema must be from 0 to below 1")

    def rate(self, update: int, updates: int) -> float:
        """The learning rate of an update, from 1, of a run of `updates`.

        Linear warm-up; then by the inverse square root (Vaswani et al. 2017, section 5.3), or half a cosine that
        would be 0 after the last one (arXiv 1608.03983), or constant.
        """
        if update <= self.warmup:
            return self.learning_rate * update / self.warmup
        if self.schedule == "inverse-square-root":
            return self.learning_rate * math.sqrt(max(self.warmup, 1) / update)
        if self.schedule == "cosine":
            done = min(1.0, (update - self.warmup) / max(1, updates + 1 - self.warmup))
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        return self.learning_rate

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """Return the optimizer; matrices decay, vectors do not."""
        named = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [one for one in named if one.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [one for one in named if one.ndim <= 1], "weight_decay": 0.0},
        ]
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=betas, eps=self.epsilon, fused=True)


class Average:
    """An exponential moving average of the weights; it forgets faster in the first updates."""

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = decay
        self.weights = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take the weights after update `number`, from 1, in."""
        share = 1 - min(self._decay, number / (number + 10))
        torch._foreach_lerp_(self.weights, [parameter.detach() for parameter in self._parameters], share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the weights that are trained; twice leaves all as it was."""
        for mean, parameter in zip(self.weights, self._parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(mean)
            mean.copy_(kept)
