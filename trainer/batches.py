"""From a curriculum's order to token batches: pools of pairs, sorted by length, leave as batches in seeded order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bisift.errors import InputError
from bisift.trainer.curricula import Order, View
from bisift.trainer.marks import Tags, Weights, marks_of
from bisift.trainer.shards import I64
from bisift.trainer.tokens import Tokens
from bisift.trainer.vocabulary import BOS, EOS, PAD, tag_id

_DRAWS = 8_192
_SOURCE_CAP = 2
"""A batch holds at most so many times its target tokens as padded source tokens: a bound on memory."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a run's order: `batch` micro-batches of pool number `pool`, which begins with draw `draw`, are done.

    `skipped` draws, of pairs too long or with an empty side, were left out, this pool's with its first batch. `drawn`
    are the draws of the pools before and this pool's by the share of its batches that is done.
    """

    pool: int = 0
    draw: int = 0
    batch: int = 0
    skipped: int = 0
    drawn: int = 0

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """B pairs, padded. Targets begin with BOS and end with EOS; `real_M` are the M places of targets in B × T.

    `row_B` are the rows in the ranking, `weight_M` the loss weight of each target token (None: 1).
    """

    source_BS: Tensor
    target_BT: Tensor
    real_M: Tensor
    weight_M: Tensor | None
    row_B: I64

    def to(self, device: torch.device) -> MicroBatch:
        """Return the batch on a device, copied without waiting for it."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

        weight_M = None if self.weight_M is None else moved(self.weight_M)
        return MicroBatch(moved(self.source_BS), moved(self.target_BT), moved(self.real_M), weight_M, self.row_B)


@dataclass(frozen=True, slots=True)
class Update:
    """What one rank computes of one update, and what all ranks compute together.

    `tokens` are the target tokens of all ranks (with EOS), `weight` the sum of their loss weights, by which the summed
    gradient is divided. `padded` counts both sides' places with their padding, `real` those that hold a token.
    """

    batches: tuple[MicroBatch, ...]
    tokens: int
    weight: float
    real: int
    padded: int
    after: Position


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The rows of one micro-batch before they are read, with their lengths."""

    row_B: I64
    source_B: I64
    target_B: I64

    @property
    def real(self) -> int:
        return int(self.source_B.sum() + self.target_B.sum())

    @property
    def padded(self) -> int:
        return len(self.row_B) * int(self.source_B.max() + self.target_B.max())


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The endless stream of updates of a run; a function of its fields alone, whatever reads it.

    `batch_tokens` is the most target tokens an update has, over its `micro_batches`; `pool` is in batches. Pairs with
    an empty side, or more than `max_length` pieces on one (EOS and tag counted), are left out.
    """

    tokens: Tokens
    order: Order
    view: View
    seed: int
    batch_tokens: int
    micro_batches: int = 1
    pool: int = 100
    max_length: int = 256
    tags: Tags | None = None
    weights: Weights | None = None
    edges: npt.NDArray[np.float32] | None = None

    def updates(
        self, position: Position, *, rank: int = 0, ranks: int = 1, worker: int = 0, workers: int = 1
    ) -> Iterator[Update]:
        """Yield the part that rank `rank` has in each update; of them, those that fall to one of `workers`."""
        stream = self._stream(position)
        for number in itertools.count():
            chosen, after = [], position
            for _ in range(self.micro_batches):
                one, after = next(stream)
                chosen.append(one)
            if number % workers == worker:
                yield self._update(chosen, after, rank, ranks)

    def rows(self, position: Position) -> Iterator[I64]:
        """Yield the rows of each micro-batch without reading their text."""
        for chosen, _ in self._stream(position):
            yield chosen.row_B

    def _update(self, chosen: list[_Chosen], after: Position, rank: int, ranks: int) -> Update:
        tokens = sum(int(one.target_B.sum()) for one in chosen)
        weight = float(tokens)
        if self.weights is not None:
            weight = sum(float((self._marks(one.row_B)[1] * one.target_B).sum(dtype=np.float64)) for one in chosen)
        return Update(
            batches=tuple(self._read(one) for one in chosen[rank::ranks]),
            tokens=tokens,
            weight=weight,
            real=sum(one.real for one in chosen),
            padded=sum(one.padded for one in chosen),
            after=after,
        )

    def _stream(self, position: Position) -> Iterator[tuple[_Chosen, Position]]:
        while True:
            pool, draws, skipped = self._pool(position)
            if not position.batch:  # of a pool that is entered again they were counted
                position = replace(position, skipped=position.skipped + skipped)
            leaving = np.random.default_rng([self.seed, position.pool]).permutation(len(pool))
            for number in range(position.batch, len(pool)):
                drawn = position.draw + draws * (number + 1) // len(pool)
                yield pool[leaving[number]], replace(position, batch=number + 1, drawn=drawn)
            position = replace(position, pool=position.pool + 1, draw=position.draw + draws, batch=0)

    def _pool(self, position: Position) -> tuple[list[_Chosen], int, int]:
        """Draw pairs until a pool is full; return its micro-batches by length, the draws it took, those skipped."""
        wanted = self.pool * self.batch_tokens
        parts: list[tuple[I64, I64, I64]] = []
        total = draws = skipped = 0
        while total < wanted:
            number_K = np.arange(position.draw + draws, position.draw + draws + _DRAWS)
            row_K = self.order.positions(number_K, self.view, self.seed)
            if self.view.row_N is not None:
                row_K = self.view.row_N[row_K]
            source_K, target_K = self.tokens.lengths(row_K)
            fits_K = np.minimum(source_K, target_K) > 0
            # The end counts, and a tag also for rows that get none: where a pair falls must not depend on scores.
            source_K, target_K = source_K + 1 + (self.tags is not None), target_K + 1
            fits_K &= np.maximum(source_K, target_K) <= self.max_length
            sum_K = total + np.cumsum(np.where(fits_K, target_K, 0))
            taken = min(int(np.searchsorted(sum_K, wanted)) + 1, len(row_K))
            kept = np.flatnonzero(fits_K[:taken])
            parts.append((row_K[kept], source_K[kept], target_K[kept]))
            total, draws, skipped = int(sum_K[taken - 1]), draws + taken, skipped + taken - len(kept)
            if not total and draws >= max(self.view.rows, _DRAWS) * 2:
                raise InputError(
                    f"none of {draws:,} pairs drawn has text on both sides and at most {self.max_length} pieces on "
                    "each, end and tag counted: raise max_length, or look at the ranking with filter-cli report"
                )
        row_N, source_N, target_N = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return list(self._cut(row_N, source_N, target_N)), draws, skipped

    def _cut(self, row_N: I64, source_N: I64, target_N: I64) -> Iterator[_Chosen]:
        """Sort by source length in steps of an eighth, in each by target length up or down in turns, and cut."""
        step_N = (np.log(source_N) * 8).astype(np.int64)
        order_N = np.lexsort((np.arange(len(row_N)), np.where(step_N % 2, target_N, -target_N), step_N))
        row_N, source_N, target_N = row_N[order_N], source_N[order_N], target_N[order_N]
        limit = self.batch_tokens // self.micro_batches
        end_N = np.cumsum(target_N)
        start = 0
        while start < len(row_N):
            stop = int(np.searchsorted(end_N, end_N[start] - target_N[start] + limit, side="right"))
            longest = np.maximum.accumulate(source_N[start:stop]) * np.arange(1, stop - start + 1)
            stop = start + max(1, int(np.searchsorted(longest, _SOURCE_CAP * limit, side="right")))
            yield _Chosen(row_N[start:stop], source_N[start:stop], target_N[start:stop])
            start = stop

    def _marks(self, row_B: I64) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        tag_B, weight_B = np.full(len(row_B), -1, dtype=np.int8), np.ones(len(row_B), dtype=np.float32)
        for where, block, local in self.tokens.blocks(row_B):
            tag_B[where], weight_B[where] = marks_of(
                self.tags,
                self.weights,
                quality_N=block.quality_N[local],
                ai_N=block.ai_N[local],
                human_N=block.human_N[local],
                edges=self.edges,
            )
        return tag_B, weight_B

    def _read(self, chosen: _Chosen) -> MicroBatch:
        rows = len(chosen.row_B)
        source_BS = np.full((rows, int(chosen.source_B.max())), PAD, dtype=np.int64)
        target_BT = np.full((rows, int(chosen.target_B.max()) + 1), PAD, dtype=np.int64)
        tag_B, weight_B = self._marks(chosen.row_B)
        for where, block, local in self.tokens.blocks(chosen.row_B):
            for row, number in zip(where.tolist(), local.tolist(), strict=True):
                source = block.source_ids[block.source_start_N[number] : block.source_start_N[number + 1]]
                target = block.target_ids[block.target_start_N[number] : block.target_start_N[number + 1]]
                tagged = int(tag_B[row] >= 0)
                source_BS[row, tagged : tagged + len(source)] = source
                if tagged:
                    source_BS[row, 0] = tag_id(int(tag_B[row]))
                source_BS[row, tagged + len(source)] = EOS
                target_BT[row, 0] = BOS
                target_BT[row, 1 : len(target) + 1] = target
                target_BT[row, len(target) + 1] = EOS
        real_M = np.flatnonzero(target_BT[:, 1:] != PAD)
        weight_M = None
        if self.weights is not None:
            weight_M = torch.from_numpy(weight_B[real_M // (target_BT.shape[1] - 1)])
        return MicroBatch(
            torch.from_numpy(source_BS),
            torch.from_numpy(target_BT),
            torch.from_numpy(real_M),
            weight_M,
            chosen.row_B,
        )
