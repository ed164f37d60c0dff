"""What a rank trains on, read ahead by worker processes if asked: the same updates in the same order for any number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow.compute as pc
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bisift.errors import BisiftError, ConfigError
from bisift.trainer.batches import Batches, Position, Update
from bisift.trainer.curricula import HUMAN, Mixture, Order, View, innermost
from bisift.trainer.marks import F32, Tags, Weights, lacking, quality_edges, scores_of
from bisift.trainer.shards import I64, Ranking, windows


@dataclass(frozen=True, slots=True)
class Sources:
    """The ranked folders that are trained on, from the draw on that they were first seen at."""

    folders: tuple[str, ...]
    start: Position

    @classmethod
    def of(cls, data: str, *, follow: bool) -> Sources:
        """Find the folders now: `data` itself, or what its current.json lists.

        Raises:
            InputError, ContractError: current.json cannot be read.
        """
        return cls(tuple(windows(data)) if follow else (data,), Position())


class _Stream(IterableDataset[Update | BisiftError]):
    """A rank's part of every update. An error comes as the last value: torch would wrap what a worker raises."""

    def __init__(self, batches: Batches, position: Position, rank: int, ranks: int) -> None:
        self._batches = batches
        self._position = position
        self._rank = rank
        self._ranks = ranks

    def __iter__(self) -> Iterator[Update | BisiftError]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        try:
            yield from self._batches.updates(
                self._position, rank=self._rank, ranks=self._ranks, worker=worker, workers=workers
            )
        except BisiftError as error:
            yield error


def check_ranks(micro_batches: int, ranks: int) -> None:
    """Raise ConfigError where the micro-batches of an update cannot be dealt evenly to the ranks."""
    if micro_batches % ranks:
        raise ConfigError(
            f"micro_batches {micro_batches} cannot be dealt to {ranks} ranks: make it a multiple of {ranks}"
        )


def load(batches: Batches, position: Position, *, rank: int = 0, ranks: int = 1, workers: int = 0) -> Iterator[Update]:
    """Yield a rank's part of every update from `position` on, without end; `workers` processes read ahead.

    Raises:
        ConfigError: the micro-batches of an update cannot be dealt evenly to the ranks.
        InputError, ContractError: while iterating, a shard cannot be read.
    """
    check_ranks(batches.micro_batches, ranks)
    if not workers:
        return batches.updates(position, rank=rank, ranks=ranks)
    stream = _Stream(batches, position, rank, ranks)
    return _raising(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4))


def _raising(loader: DataLoader[Update | BisiftError]) -> Iterator[Update]:
    failed: BisiftError | None = None
    for one in loader:
        if isinstance(one, BisiftError):
            failed = one
            break  # the workers end with the loop: held by a traceback, they would be waited for
        yield one
    if failed is not None:
        raise failed


def check_scores(ranking: Ranking, tags: Tags | None, weights: Weights | None) -> None:
    """Look for scores that tags and weights read; only row groups whose footer tells of nulls are read.

    Raises:
        ConfigError: a row lacks one.
    """
    if not (names := scores_of(tags, weights)):
        return
    for shard in ranking.shards:
        for group in shard.groups_with_nulls(names):
            table = shard.read(group, ["generator", *names])
            human_N = pc.equal(table.column("generator").fill_null(""), HUMAN).to_numpy()
            for name in names:
                lacking_N = lacking(name, table.column(name).is_null().to_numpy(), human_N, tags)
                if lacking_N.any():
                    rank = shard.first_rank + shard.group_starts[group] + int(lacking_N.argmax())
                    raise ConfigError(
                        f"{shard.name}: rank {rank:,}: {name} is null, which tags or weights need: score without "
                        "--no-models and rank again, or leave them out"
                    )


def make_view(ranking: Ranking, order: Order, *, keep_human: bool, merged: bool = False) -> View:
    """Return the rows as `order` needs them. Only what it needs is read: nothing, or the column `generator`.

    `merged`: the ranking is of several folders, whose rows are merged by their percentile.
    """
    mixture = innermost(order)
    if not keep_human and not merged and not isinstance(mixture, Mixture):
        return View(ranking.rows)
    rows = np.arange(ranking.rows)
    if merged:
        rows = np.argsort(_percentiles(ranking), kind="stable")
    if not keep_human and not isinstance(mixture, Mixture):
        return View(ranking.rows, row_N=rows)
    generator_N = np.asarray(ranking.column("generator").fill_null("").to_numpy(zero_copy_only=False), dtype=object)
    if isinstance(mixture, Mixture):
        if keep_human:
            raise ConfigError("keep_human does not go with a mixture: give the generator human a share")
        names, code_N = np.unique(generator_N[rows].astype(str), return_inverse=True)
        ends = np.cumsum(np.bincount(code_N)).tolist()
        groups = {str(name): (start, end) for name, start, end in zip(names, [0, *ends], ends, strict=False)}
        return View(ranking.rows, row_N=rows[np.argsort(code_N, kind="stable")], groups=groups)
    is_human_N = generator_N[rows] == HUMAN
    if not is_human_N.any():
        raise ConfigError(
            "keep_human: no pair is by generator 'human': leave it out, or say which are (filter-cli score --generator)"
        )
    rows = np.concatenate([rows[is_human_N], rows[~is_human_N]])
    return View(ranking.rows, human=int(is_human_N.sum()), row_N=rows)


def _percentiles(ranking: Ranking) -> I64:
    """Each row's place within its own folder, as a number that compares across folders."""
    rank_N = np.concatenate([np.arange(shard.rows) + shard.first_rank for shard in ranking.shards])
    start_N = np.cumsum(np.append(0, np.diff(rank_N) != 1))
    total = np.bincount(start_N)
    return cast("I64", ((rank_N + 0.5) / total[start_N] * 2**52).astype(np.int64))


def tag_edges(ranking: Ranking, tags: Tags | None) -> F32 | None:
    """Where the bins of quality end, if tags ask for them: the column `quality` is read.

    Raises:
        ConfigError: a row has no quality.
    """
    if tags is None or tags.by != "quality":
        return None
    check_scores(ranking, tags, None)
    return quality_edges(ranking.column("quality").to_numpy().astype(np.float32), tags.bins)


def cache_folder(output: Path, cache: str | None) -> Path:
    """Where encoded row groups are kept."""
    return Path(cache) if cache else output / "tokens"
