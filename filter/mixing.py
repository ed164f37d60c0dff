"""The order mixed: where each pair stands in an interleaving of its generator's pairs with all others'."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift.filter.ordering import F64, IDENTITY, POSITION, Keys, group_names, group_shares, key_columns, positions
from bisift.filter.sorting import Sorting, Tables
from bisift.filter.text import I64, Bool

INDEX, GROUP = "_index", "_group"


class Mixer:
    """Finds the position of every row, and adds it to the rows as they are read again.

    Rows are sorted by combined with their number in the input beside them; the k-th row of each group is then known,
    and its position is kept as 8 bytes a row, in a file where that is over an eighth of the memory.
    """

    def __init__(self, tables: Tables, sorting: Sorting, shares: Mapping[str, float]) -> None:
        """Read the key columns of all rows.

        Raises:
            ConfigError: a score is null, or the shares do not fit the rows' generators.
        """
        self._tables = tables
        self._sorting = dataclasses.replace(sorting, order="combined", shards=1)
        self._codes: dict[str, int] = {}
        kept, dropped = self._count()
        rows = sum(kept.values()) + sum(dropped.values())
        self._position_R = self._storage(rows)
        self._assign(share_table(kept, dropped, shares))

    def tables(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield the rows as they were read, with their positions."""
        start = 0
        for table in self._tables(columns):
            position_N = np.asarray(self._position_R[start : start + table.num_rows])
            start += table.num_rows
            yield table.append_column(POSITION, pa.array(position_N))

    def _count(self) -> tuple[Counter[str], Counter[str]]:
        kept: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        for table in self._tables(("generator", "origin", "drop_reason")):
            count_groups(table, kept, dropped)
        self._codes = group_codes(kept, dropped)
        return kept, dropped

    def _storage(self, rows: int) -> F64:
        if rows * 8 <= self._sorting.memory // 8:
            return np.zeros(rows)
        return np.memmap(self._sorting.folder / "positions.bin", dtype=np.float64, mode="w+", shape=(rows,))

    def _keyed(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        names = pa.array(list(self._codes), pa.string())
        start = 0
        for table in self._tables((*key_columns("combined"), "generator")):
            codes = pc.index_in(group_names(table), value_set=names)
            index = pa.array(np.arange(start, start + table.num_rows))
            start += table.num_rows
            yield table.drop_columns("generator").append_column(GROUP, codes).append_column(INDEX, index)

    def _assign(self, share_2G: F64) -> None:
        placed_2G = np.zeros(share_2G.shape, dtype=np.int64)
        for slice_ in self._sorting.sort(self._keyed):
            table = slice_.table
            index_N = table.column(INDEX).to_numpy()
            group_N = table.column(GROUP).to_numpy().astype(np.int64)
            part_N = slice_.keys.dropped_N.astype(np.int64)
            code_N = part_N * share_2G.shape[1] + group_N
            self._position_R[index_N] = mixed_positions(table, slice_.keys, code_N, placed_2G.reshape(-1), share_2G)
            placed_2G += np.bincount(code_N, minlength=share_2G.size).reshape(share_2G.shape)


def count_groups(table: pa.Table, kept: Counter[str], dropped: Counter[str]) -> None:
    """Add to the rows of each group; `table` has the columns generator, origin and drop_reason."""
    names = group_names(table)
    is_kept = pc.is_null(table.column("drop_reason"))
    for counts, mask in ((kept, is_kept), (dropped, pc.invert(is_kept))):
        for entry in pc.value_counts(names.filter(mask)).to_pylist():
            counts[entry["values"]] += entry["counts"]


def group_codes(kept: Mapping[str, int], dropped: Mapping[str, int]) -> dict[str, int]:
    """Number the groups."""
    return {name: code for code, name in enumerate(sorted({*kept, *dropped}))}


def share_table(kept: Mapping[str, int], dropped: Mapping[str, int], shares: Mapping[str, float]) -> F64:
    """Return the shares of G groups by their code, of kept rows and of dropped ones; shape 2 × G.

    Raises:
        ConfigError: the shares do not fit the rows' generators.
    """
    codes = group_codes(kept, dropped)
    # Dropped rows follow all kept ones and are mixed on their own, so that they do not move a kept one.
    share_2G = np.ones((2, max(len(codes), 1)))
    for part, counts in enumerate((kept, dropped)):
        named = shares if part == 0 else {name: shares[name] for name in shares if name in counts}
        for name, share in group_shares(counts, named).items():
            share_2G[part, codes[name]] = share
    return share_2G


def mixed_positions(table: pa.Table, keys: Keys, code_N: I64, placed_C: I64, share_2G: F64) -> F64:
    """Return the positions of N consecutive rows of the order combined.

    Args:
        table: `IDENTITY` and `_group`, the code of each row's group.
        keys: of the rows.
        code_N: each row's place in `share_2G`, read row by row.
        placed_C: how many rows of each such place stand before these.
        share_2G: `share_table`.
    """
    place_N = _level(_running_count(code_N) + placed_C[code_N], _repeats(table, keys))
    return positions(place_N, share_2G.reshape(-1)[code_N])


def _running_count(code_N: I64) -> I64:
    """Return how many of the earlier rows have each row's code."""
    order_N = np.argsort(code_N, kind="stable")
    sorted_N = code_N[order_N]
    first_N = np.searchsorted(sorted_N, sorted_N, side="left")
    count_N = np.empty(len(code_N), dtype=np.int64)
    count_N[order_N] = np.arange(len(code_N)) - first_N
    return count_N


def _repeats(table: pa.Table, keys: Keys) -> Bool:
    """Say of each sorted row whether it equals the row before in all that the order looks at."""
    same_N = np.zeros(len(keys.packed_N), dtype=bool)
    same_N[1:] = (keys.packed_N[1:] == keys.packed_N[:-1]) & (keys.primary_N[1:] == keys.primary_N[:-1])
    if same_N.any():
        for name in (*IDENTITY, GROUP):
            column = table.column(name).combine_chunks()
            same_N[1:] &= pc.equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return same_N


def _level(place_N: I64, repeats_N: Bool) -> I64:
    """Give a row that repeats the one before its place: which of them came first must not depend on the input."""
    if not repeats_N.any():
        return place_N
    first_N = np.maximum.accumulate(np.where(repeats_N, 0, np.arange(len(place_N))))
    return place_N[first_N]
