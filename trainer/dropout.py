"""Dropout whose masks are a function of seed, update and micro-batch, so that a resumed run draws the same ones.

On a CPU, drawing random numbers costs a sixth of a training step. Masks are therefore slices, at seeded places, of one
pool of random factors that is drawn anew every `REFRESH` updates. On other devices torch's own dropout is used, seeded
the same way.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

REFRESH = 500
_LEAST = 1 << 22


class Masks:
    """Random factors, 0 with probability `rate` and else 1 / (1 - rate), in the order in which layers ask for them."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._pool: Tensor | None = None
        self._drawn: tuple[int, int] | None = None
        self._seed = 0
        self._places = np.random.default_rng(0)

    def begin(self, seed: int, update: int, batch: int, device: torch.device) -> None:
        """Set what the next masks are a function of; `batch` is the micro-batch's number over all ranks."""
        if not self.rate:
            return
        self._places = np.random.default_rng([seed, update, batch])
        if device.type != "cpu":
            torch.manual_seed(int(self._places.integers(1 << 62)))
        elif self._drawn != (drawn := (seed, update // REFRESH)):
            self._drawn, self._pool = drawn, None

    def take(self, shape: torch.Size) -> Tensor:
        """Return factors of a shape, float32, on the CPU."""
        count = math.prod(shape)
        # Where a mask stands depends on its size alone, never on what the pool grew to before a run was resumed.
        size = max(_LEAST, 1 << (2 * count - 1).bit_length())
        if self._pool is None or len(self._pool) < size:
            self._pool = self._draw(size)
        start = int(self._places.integers(size - count + 1))
        return self._pool[start : start + count].view(shape)

    def _draw(self, size: int) -> Tensor:
        """Draw a pool; a larger one begins with the smaller one's factors."""
        assert self._drawn is not None
        random = np.random.Generator(np.random.SFC64(self._drawn)).random(size, dtype=np.float32)
        return torch.from_numpy(random).ge_(self.rate).mul_(1 / (1 - self.rate))


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) with masks from a shared pool on the CPU."""

    def __init__(self, masks: Masks) -> None:
        super().__init__()
        self.masks = masks

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.masks.rate:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.masks.rate)
        return x * self.masks.take(x.shape)
