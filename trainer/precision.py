"""In which precision to compute here: decided by what the device has and how fast it is, never silently."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from bisift.config import nearest
from bisift.errors import ConfigError

PRECISIONS = ("auto", "fp32", "bf16")
_PAYS = 1.3


@dataclass(frozen=True, slots=True)
class Precision:
    """The precision of matrix products, why, and how many FLOP/s the device reaches in a large one."""

    name: str
    reason: str
    peak: float

    @property
    def autocast(self) -> bool:
        return self.name == "bf16"


def choose(wanted: str, device: torch.device) -> Precision:
    """Settle `auto`: bf16 where the device has it in hardware and a short trial shows that it pays.

    Raises:
        ConfigError: there is no such precision.
    """
    if wanted not in PRECISIONS:
        raise ConfigError(f"no precision {wanted!r}{nearest(wanted, PRECISIONS)}")
    if wanted != "auto":
        dtype = torch.bfloat16 if wanted == "bf16" else torch.float32
        return Precision(wanted, "as configured", rate(device, dtype))
    full = rate(device, torch.float32)
    if lacking := _lacks_bf16(device):
        return Precision("fp32", lacking, full)
    half = rate(device, torch.bfloat16)
    name = "bf16" if half > _PAYS * full else "fp32"
    return Precision(name, f"a matrix product in bf16 is {half / full:.1f} times as fast here", max(half, full))


def _lacks_bf16(device: torch.device) -> str:
    """Why bf16 is out of the question, or an empty string."""
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return "" if supported else "this GPU has no bf16"
    # Emulated, as on a CPU with AVX2 alone, it would take hundreds of times as long: not even a trial.
    capable = torch.cpu.get_capabilities()
    if any(capable.get(flag) for flag in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")):
        return ""
    return "this CPU has neither AMX nor AVX512-BF16"


def rate(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP/s in a product of two square matrices: the best of some trials of a few milliseconds."""
    size = size * 8 if device.type == "cuda" else size
    one, other = (torch.full((size, size), 0.5, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(4):
        _wait(device)
        started = time.perf_counter()
        torch.mm(one, other)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
