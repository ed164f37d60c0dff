"""Losses over a large vocabulary. Shape suffixes: M target places, C of them at a time, D width, V vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bisift.errors import ConfigError

_CHUNK_LOGITS = 1 << 21
"""Logits held at a time on a CPU, so that they stay in its cache; other devices take 2^27."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Label smoothing (Szegedy et al. 2016, arXiv 1512.00567) and R-Drop's factor (Liang et al. 2021, 2106.14448)."""

    smoothing: float = 0.1
    rdrop: float = 0.0

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"loss: smoothing {self.smoothing}: from 0 to below 1")
        if not (math.isfinite(self.rdrop) and self.rdrop >= 0):
            raise ConfigError(f"loss: rdrop {self.rdrop}: at least 0")


class _CrossEntropy(torch.autograd.Function):
    """Label-smoothed cross-entropy of hidden states and output weights; the logits never exist as a whole.

    loss = Σ w (log Σ exp z - (1 - ε) z_y - ε mean z); d loss / d z = w (softmax z - (1 - ε) [y] - ε / V). The gradients
    are formed with the loss, a chunk of rows at a time, as every loss is differentiated once.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_MD: Tensor, weight_VD: Tensor, target_M: Tensor, weight_M: Tensor | None, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        V = len(weight_VD)
        device = hidden_MD.device
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else hidden_MD.dtype
        needs_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss, likelihood = (torch.zeros((), device=device) for _ in range(2))
        with torch.autocast(device.type, enabled=False):
            hidden_MD, low_VD = hidden_MD.to(dtype), weight_VD.to(dtype)
            grad_MD = torch.empty_like(hidden_MD) if needs_grad else None
            grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_grad else None
            rows = max(1, (_CHUNK_LOGITS if device.type == "cpu" else 1 << 27) // V)
            for start in range(0, len(hidden_MD), rows):
                part = slice(start, start + rows)
                target_C1 = target_M[part, None]
                logit_CV = functional.linear(hidden_MD[part], low_VD).float()
                right_C = logit_CV.gather(1, target_C1)[:, 0]
                p_CV = logit_CV.softmax(1)
                total_C = logit_CV.amax(1) - p_CV.amax(1).log()  # of all exponentials, with one pass of exp
                miss_C = total_C - right_C
                smooth_C = (
                    miss_C if not smoothing else (1 - smoothing) * miss_C + smoothing * (total_C - logit_CV.mean(1))
                )
                likelihood += miss_C.sum()
                loss += smooth_C.sum() if weight_M is None else (smooth_C * weight_M[part]).sum()
                if grad_MD is None or grad_VD is None:
                    continue
                p_CV.sub_(smoothing / V)
                p_CV.scatter_add_(1, target_C1, torch.full_like(target_C1, smoothing - 1, dtype=p_CV.dtype))
                if weight_M is not None:
                    p_CV.mul_(weight_M[part, None])
                grad_CV = p_CV.to(dtype)
                torch.mm(grad_CV, low_VD, out=grad_MD[part])
                if dtype == torch.float32:
                    grad_VD.addmm_(grad_CV.t(), hidden_MD[part])
                else:
                    grad_VD += torch.mm(grad_CV.t(), hidden_MD[part])
        if grad_MD is not None and grad_VD is not None:
            ctx.save_for_backward(grad_MD, grad_VD)
        ctx.mark_non_differentiable(likelihood)
        return loss, likelihood

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_MD, grad_VD = ctx.saved_tensors
        # In float32: the factor, one over the tokens of an update, is small.
        return grad_MD.float() * grads[0], grad_VD * grads[0], None, None, None


def cross_entropy(
    hidden_MD: Tensor, weight_VD: Tensor, target_M: Tensor, weight_M: Tensor | None, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Return the summed label-smoothed loss, weighted by `weight_M`, and the summed negative log-likelihood."""
    loss, likelihood = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_MD, weight_VD, target_M, weight_M, smoothing
    )
    return loss, likelihood


def rdrop(
    one_MD: Tensor, other_MD: Tensor, weight_VD: Tensor, target_M: Tensor, weight_M: Tensor | None, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """The mean loss of two passes that differ in dropout, and `rdrop` / 4 times their symmetric divergence.

    L = ½ (CE₁ + CE₂) + α/4 (KL(p₁‖p₂) + KL(p₂‖p₁)): half of equations 2 and 3, so that it compares with one pass.
    """
    one, likelihood = cross_entropy(one_MD, weight_VD, target_M, weight_M, config.smoothing)
    other, _ = cross_entropy(other_MD, weight_VD, target_M, weight_M, config.smoothing)
    first_MV, second_MV = (
        functional.linear(hidden, weight_VD).float().log_softmax(-1) for hidden in (one_MD, other_MD)
    )
    apart_M = ((first_MV.exp() - second_MV.exp()) * (first_MV - second_MV)).sum(-1)
    if weight_M is not None:
        apart_M = apart_M * weight_M
    return 0.5 * (one + other) + config.rdrop / 4 * apart_M.sum(), likelihood
