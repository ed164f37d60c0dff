"""Rows as piece ids: a row group is encoded when first asked for and kept on disk, memory-mapped, for all processes."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.errors import BisiftError
from bisift.manifest import atomic_path, value_digest
from bisift.trainer.curricula import HUMAN
from bisift.trainer.shards import I64, Ranking
from bisift.trainer.vocabulary import Vocabulary

_COLUMNS = ("source", "target", "generator", "quality", "ai_probability")
IDS = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Block:
    """One row group of N rows: piece ids of both sides, and the scores that marks read (NaN: null)."""

    source_ids: IDS
    source_start_N: I64
    target_ids: IDS
    target_start_N: I64
    quality_N: F32
    ai_N: F32
    human_N: npt.NDArray[np.bool_]

    def lengths(self, row_K: I64) -> tuple[I64, I64]:
        """Pieces of the source and the target of some rows, without begin and end."""
        starts = self.source_start_N, self.target_start_N
        return starts[0][row_K + 1] - starts[0][row_K], starts[1][row_K + 1] - starts[1][row_K]


class Tokens:
    """The pairs of a ranking as piece ids, in files below `cache` that any process may use."""

    def __init__(self, ranking: Ranking, vocabulary: Vocabulary, cache: Path) -> None:
        self.ranking = ranking
        self._vocabulary = vocabulary
        self._cache = cache
        self._blocks: dict[tuple[int, int], Block] = {}

    def blocks(self, row_K: I64) -> Iterator[tuple[npt.NDArray[np.int64], Block, I64]]:
        """Yield for each row group that holds some of the rows: which of them, the block, and the rows in it."""
        order_K = np.argsort(row_K, kind="stable")
        done = 0
        while done < len(order_K):
            shard, group, first = self.ranking.find(int(row_K[order_K[done]]))
            block = self._block(shard, group)
            end = int(np.searchsorted(row_K[order_K], first + len(block.human_N), side="left"))
            where = order_K[done:end]
            yield where, block, row_K[where] - first
            done = end

    def lengths(self, row_K: I64) -> tuple[I64, I64]:
        """Return the number of source and target pieces of rows, both of shape K."""
        source_K, target_K = np.empty_like(row_K), np.empty_like(row_K)
        for where, block, local in self.blocks(row_K):
            source_K[where], target_K[where] = block.lengths(local)
        return source_K, target_K

    def _block(self, shard: int, group: int) -> Block:
        if (shard, group) not in self._blocks:
            self._blocks[shard, group] = self._load(shard, group)
        return self._blocks[shard, group]

    def _load(self, shard: int, group: int) -> Block:
        """Return a row group from its file, which is written where it is missing or was cut."""
        identity = {"vocabulary": self._vocabulary.digest, "shard": self.ranking.shards[shard].sha256, "group": group}
        path = self._cache / f"{value_digest(identity)[:32]}.arrow"
        try:
            if (block := _opened(path)) is None:
                self._cache.mkdir(parents=True, exist_ok=True)
                with _locked(path.with_suffix(".lock")):
                    if (block := _opened(path)) is None:  # no other process wrote it meanwhile
                        with atomic_path(path) as temporary:
                            self._write(temporary, shard, group)
                        block = _opened(path)
                        assert block is not None
            return block
        except OSError as error:
            raise BisiftError(f"{path}: {error.strerror or error}: name another folder with cache=DIR") from error

    def _write(self, path: Path, shard: int, group: int) -> None:
        table = self.ranking.shards[shard].read(group, _COLUMNS)
        width = np.uint16 if len(self._vocabulary) <= 1 << 16 else np.uint32
        sides = [
            _ragged(self._vocabulary.encode(table.column(name).to_pylist()), width) for name in ("source", "target")
        ]
        human = [name == HUMAN for name in table.column("generator").to_pylist()]
        columns = [*sides, table.column("quality"), table.column("ai_probability"), pa.array(human, pa.bool_())]
        names = ["source", "target", "quality", "ai_probability", "human"]
        encoded = pa.table(dict(zip(names, columns, strict=True))).combine_chunks()
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, encoded.schema) as writer:
            writer.write_table(encoded)


def _ragged(rows: list[list[int]], width: type[np.uint16] | type[np.uint32]) -> pa.Array:
    start_N = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    flat = np.fromiter(itertools.chain.from_iterable(rows), dtype=width, count=int(start_N[-1]))
    return pa.LargeListArray.from_arrays(pa.array(start_N, pa.int64()), pa.array(flat))


def _opened(path: Path) -> Block | None:
    """Map a file that holds a block; None where it is missing or cut."""
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    sides = [table.column(name).combine_chunks() for name in ("source", "target")]
    starts = [side.offsets.to_numpy() for side in sides]
    values = [side.values.to_numpy() for side in sides]
    scores = [table.column(name).to_numpy() for name in ("quality", "ai_probability")]
    return Block(
        source_ids=values[0],
        source_start_N=starts[0],
        target_ids=values[1],
        target_start_N=starts[1],
        quality_N=scores[0].astype(np.float32),
        ai_N=scores[1].astype(np.float32),
        human_N=table.column("human").to_numpy().astype(bool),
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time encode a row group; the others find it done."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
