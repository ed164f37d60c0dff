"""The quality network: from row features to whether the target is faithful, and how humans would rate it.

quality = P(faithful) x (1 + q) / 2. P(faithful) is the calibrated probability that the target is a whole translation of
its source and no made noise (models/noise.py), at a prior of NOISE_PRIOR noise; q, 0 to 1, estimates the quantile of a
human rating among the ratings of its language pair. So junk is near 0, and what is faithful lies between 0.5 and 1.

Suffixes: B batch, E examples, F features.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from bisift.filter.lexical import STATISTICS
from bisift.models.export import CLIP, OPSET, write

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

NOISE_PRIOR = 0.3
HIDDEN = (128, 64)
_DROP_TABLE = 0.15
_NEWTON_STEPS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to train; `batch` examples of each of the three sorts (noise, its clean pairs, ratings) a step."""

    seed: int = 1
    steps: int = 6000
    batch: int = 256
    rate: float = 4e-3
    contrast: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Row features of clean and spoilt pairs and of rated ones.

    `kind_E`: 0 clean, else the kind of noise; `clean_E`: the row that a spoilt pair was made from.
    """

    features_EF: F32
    kind_E: I64
    clean_E: I64
    weight_E: F64
    rated_RF: F32
    quantile_R: F64


class Quality(nn.Module):
    """From raw row features to the calibrated quality; `heads` gives the two logits before calibration."""

    def __init__(self, mean_F: F32, deviation_F: F32) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean_F))
        self.register_buffer("deviation", torch.from_numpy(deviation_F))
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("shift", torch.zeros(2))
        width = len(mean_F)
        self.layers = nn.Sequential(
            nn.Linear(width, HIDDEN[0]),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(HIDDEN[0], HIDDEN[1]),
            nn.ReLU(),
            nn.Linear(HIDDEN[1], 2),
        )

    def heads(self, features_BF: Tensor) -> Tensor:
        """Logits of being faithful and of the rating's quantile, shape (B, 2)."""
        standard_BF = ((features_BF - self.get_buffer("mean")) / self.get_buffer("deviation")).clamp(-CLIP, CLIP)
        logits_B2: Tensor = self.layers(standard_BF)
        return logits_B2

    def forward(self, features_BF: Tensor) -> Tensor:
        """Quality, shape B."""
        both_B2 = torch.sigmoid(self.heads(features_BF) * self.get_buffer("scale") + self.get_buffer("shift"))
        return both_B2[:, 0] * (1 + both_B2[:, 1]) / 2


def train(examples: Examples, settings: Settings) -> Quality:
    """Train on one thread; the same seed gives the same weights.

    Loss: binary cross-entropy of clean against spoilt, a pairwise logistic loss of a spoilt pair against the clean one
    it was made from (same-source contrast), and cross-entropy of the rating's quantile.
    """
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    everything = np.concatenate([examples.features_EF, examples.rated_RF])
    mean_F = everything.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation_F = (everything.std(axis=0, dtype=np.float64) + 1e-6).astype(np.float32)
    network = Quality(mean_F, deviation_F)
    optimiser = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.steps)
    rng = np.random.default_rng(settings.seed)
    spoilt = np.flatnonzero(examples.kind_E > 0)
    share = np.cumsum(examples.weight_E[spoilt] / examples.weight_E[spoilt].sum())
    size = settings.batch
    label_B = torch.cat([torch.zeros(size), torch.ones(size)])
    network.train()
    for _ in range(settings.steps):
        noise = spoilt[np.searchsorted(share, rng.random(size)).clip(max=len(spoilt) - 1)]
        rated = rng.integers(len(examples.quantile_R), size=size)
        batch = np.concatenate(
            [examples.features_EF[noise], examples.features_EF[examples.clean_E[noise]], examples.rated_RF[rated]]
        )
        blind = rng.random(len(batch)) < _DROP_TABLE  # a language pair that the table does not know
        batch[blind, : len(STATISTICS)] = 0
        logits_B2 = network.heads(torch.from_numpy(batch))
        faithful_B, rating_B = logits_B2[: 2 * size, 0], logits_B2[2 * size :, 1]
        quantile_B = torch.from_numpy(examples.quantile_R[rated].astype(np.float32))
        loss = (
            functional.binary_cross_entropy_with_logits(faithful_B, label_B)
            + settings.contrast * functional.softplus(faithful_B[:size] - faithful_B[size:]).mean()
            + functional.binary_cross_entropy_with_logits(rating_B, quantile_B)
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval()


def heads(network: Quality, features_EF: F32) -> F64:
    """Uncalibrated logits, shape (E, 2)."""
    with torch.no_grad():
        logits: F64 = network.heads(torch.from_numpy(features_EF)).double().numpy()
    return logits


def calibrate(network: Quality, held_out: Examples) -> None:
    """Fit scale and shift of both heads (Platt 1999) on examples that did not train, in place.

    Spoilt pairs weigh NOISE_PRIOR in all. The rating's head is fitted to the quantile itself.
    """
    clean = held_out.kind_E == 0
    weight = np.where(clean, (1 - NOISE_PRIOR) / clean.sum(), 0.0)
    spoilt = held_out.weight_E * ~clean
    weight += NOISE_PRIOR * spoilt / spoilt.sum()
    faithful = _platt(heads(network, held_out.features_EF)[:, 0], clean.astype(np.float64), weight)
    count = len(held_out.quantile_R)
    rating = _platt(heads(network, held_out.rated_RF)[:, 1], held_out.quantile_R, np.full(count, 1 / count))
    network.get_buffer("scale").copy_(torch.tensor([faithful[0], rating[0]]))
    network.get_buffer("shift").copy_(torch.tensor([faithful[1], rating[1]]))


def _platt(logit: F64, wanted: F64, weight: F64) -> tuple[float, float]:
    """Weighted logistic regression of `wanted` (0..1) on one logit, by Newton's method; returns slope and offset."""
    design = np.column_stack([logit, np.ones(len(logit))])
    theta = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(design @ theta, -30, 30)))
        gradient = design.T @ (weight * (wanted - probability)) - 1e-6 * (theta - [1.0, 0.0])
        curvature = (design * (weight * probability * (1 - probability))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        theta = theta + np.clip(step, -1, 1)
    return max(float(theta[0]), 1e-3), float(theta[1])


def predict(network: Quality, features_EF: F32) -> F64:
    """Quality of each row, shape E."""
    with torch.no_grad():
        quality: F64 = network(torch.from_numpy(features_EF)).double().numpy()
    return quality


def write_quality(path: str | Path, network: Quality, metadata: Mapping[str, Any]) -> None:
    """Write the ONNX file: input `features` (pairs x F, raw), output `quality` (pairs)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecation
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, len(network.get_buffer("mean"))),),
            buffer,  # type: ignore[arg-type]
            input_names=["features"],
            output_names=["quality"],
            dynamic_axes={"features": {0: "pairs"}, "quality": {0: "pairs"}},
            opset_version=OPSET,
            dynamo=False,
        )
    write(path, onnx.load_from_string(buffer.getvalue()), kind="quality", metadata=metadata)
