"""One process or many: torchrun's environment, gradients over ranks, and the whole weights of a sharded model."""

from __future__ import annotations

import contextlib
import gc
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from bisift.errors import BisiftError, ConfigError
from bisift.trainer.model import Transformer

T = TypeVar("T")
_WHOLE = states.StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True, slots=True)
class Group:
    """This process's place among those that train together."""

    rank: int
    ranks: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def agree(self, value: T) -> T:
        """Return rank 0's value."""
        if self.ranks == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def lead(self, make: Callable[[], T]) -> T:
        """Return in every rank what rank 0 makes. Where it fails, it raises alone; the others end without a word."""
        if self.ranks == 1:
            return make()
        held: list[Any] = [None, False]
        failed: BisiftError | None = None
        if self.leads:
            try:
                held = [make(), True]
            except BisiftError as error:
                failed = error
        value, made = self.agree(held)
        if failed is not None:
            raise failed
        if not made:
            raise SystemExit(1)
        return cast("T", value)

    def gather(self, value: T) -> list[T]:
        """Return every rank's value."""
        if self.ranks == 1:
            return [value]
        held: list[Any] = [None] * self.ranks
        dist.all_gather_object(held, value)
        return held

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over ranks."""
        if self.ranks > 1:
            dist.all_reduce(values)
        return values


@contextlib.contextmanager
def group(device: str) -> Iterator[Group]:
    """Join the processes that torchrun started; alone where it did not.

    Raises:
        ConfigError: the device is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {device!r}: auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: no usable GPU here; use device=cpu, or auto")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    place = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    if ranks == 1:
        yield Group(0, 1, place)
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Group(rank, ranks, place)
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        # A DDP model that outlives the group frees it while it holds the interpreter's lock, for which the group's own
        # threads may wait: neither ends. So everything that the group was used for goes first.
        gc.collect()
        dist.destroy_process_group()


def parallel(model: Transformer, where: Group, sharding: str) -> nn.Module:
    """Wrap a model for several ranks: `ddp` copies it (arXiv 2006.15704), `fsdp` shards it (arXiv 2304.11277)."""
    if where.ranks == 1:
        return model
    if sharding == "ddp":
        return DistributedDataParallel(model)
    mesh = init_device_mesh(where.device.type, (where.ranks,))
    for layer in (*model.encoder, *model.decoder):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@contextlib.contextmanager
def accumulating(model: nn.Module, *, last: bool) -> Iterator[None]:
    """Exchange gradients between ranks only in the last micro-batch of an update."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    if isinstance(model, DistributedDataParallel) and not last:
        with model.no_sync():
            yield
    else:
        yield


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The whole weights on the CPU, in rank 0 alone (a collective call)."""
    return cast("dict[str, Tensor]", states.get_model_state_dict(model, options=_WHOLE))


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load whole weights, which every rank has (a collective call)."""
    states.set_model_state_dict(
        model, cast("dict[str, Any]", weights), options=states.StateDictOptions(full_state_dict=True)
    )


def optimizer_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The whole state of the optimizer by names of weights, in rank 0 alone (a collective call)."""
    return cast("dict[str, Any]", states.get_optimizer_state_dict(model, optimizer, options=_WHOLE))


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's whole state, which every rank has (a collective call)."""
    states.set_optimizer_state_dict(model, optimizer, state, options=states.StateDictOptions(full_state_dict=True))
