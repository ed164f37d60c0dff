"""The pairs that cover most n-grams: lazy greedy maximisation of a submodular function."""

from __future__ import annotations

import heapq

import numpy as np
import pyarrow as pa

from bisift.filter.diversity import Tokens
from bisift.filter.text import I32, I64, Bool

ORDERS = (1, 2, 3)
_BLOCK_ROWS = 65_536


def most_diverse(target: pa.ChunkedArray, count: int) -> I64:
    """Choose `count` of M targets that together hold many distinct n-grams of 1 to 3 tokens; their places, best first.

    Greedy: each time the target that adds most n-grams not held yet, the earlier one of equals; at least 1 - 1/e of
    the most that can be reached (Nemhauser, Wolsey and Fisher 1978). Lazy: a target's gain only falls, so it is
    counted again only when it comes to the top (Minoux 1978). N-grams that stand in one target alone always count,
    so only their number is held.
    """
    rows = len(target)
    if count >= rows:
        return np.arange(rows, dtype=np.int64)
    grams_G, starts, alone_M = _shared_ngrams(target)
    held: Bool = np.zeros(int(grams_G.max()) + 1 if len(grams_G) else 0, dtype=bool)
    gain_M = alone_M + np.diff(starts)
    heap = [(-gain, place) for place, gain in enumerate(gain_M.tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        _, place = heap[0]
        mine = grams_G[starts[place] : starts[place + 1]]
        gain = int(alone_M[place]) + int(np.count_nonzero(~held[mine]))
        heapq.heapreplace(heap, (-gain, place))
        if heap[0][1] == place:  # still the best, with its true gain
            heapq.heappop(heap)
            held[mine] = True
            chosen.append(place)
    return np.array(chosen, dtype=np.int64)


def _shared_ngrams(target: pa.ChunkedArray) -> tuple[I32, I64, I64]:
    """Return the distinct n-grams of each row that other rows have too, as numbers from 0, with M + 1 offsets.

    And how many n-grams each row has alone.
    """
    hashes, places = [], []
    for start in range(0, len(target), _BLOCK_ROWS):
        tokens = Tokens.of(target.slice(start, _BLOCK_ROWS))
        for order in ORDERS:
            hash_G, row_G = tokens.ngrams(order)
            hashes.append(hash_G + np.uint64(order))
            places.append(row_G + start)
    hash_G = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
    row_G = np.concatenate(places) if places else np.zeros(0, np.int64)
    del hashes, places
    order_G = np.lexsort((row_G, hash_G))
    hash_G, row_G = hash_G[order_G], row_G[order_G]
    first_G = np.ones(len(hash_G), bool)  # of its n-gram in its row
    first_G[1:] = (hash_G[1:] != hash_G[:-1]) | (row_G[1:] != row_G[:-1])
    hash_G, row_G = hash_G[first_G], row_G[first_G]
    new_G = np.ones(len(hash_G), bool)
    new_G[1:] = hash_G[1:] != hash_G[:-1]
    number_G = np.cumsum(new_G) - 1
    alone_G = np.bincount(number_G)[number_G] == 1 if len(number_G) else np.zeros(0, bool)
    alone_M = np.bincount(row_G[alone_G], minlength=len(target))
    number_G, row_G = number_G[~alone_G], row_G[~alone_G]
    order_G = np.argsort(row_G, kind="stable")
    starts = np.zeros(len(target) + 1, np.int64)
    np.cumsum(np.bincount(row_G, minlength=len(target)), out=starts[1:])
    return number_G[order_G].astype(np.int32), starts, alone_M
