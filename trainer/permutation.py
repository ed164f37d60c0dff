"""Seeded orders as functions of a position: any part of a run's order is had without what came before it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

_ROUNDS = 7


def mix(value: U64) -> U64:
    """Return a well-mixed hash of each value (the finaliser of SplitMix64, Steele et al. 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def uniform(number_K: I64, seed: int) -> F64:
    """Return a number in [0, 1) for each draw number."""
    key = mix(np.asarray([seed], dtype=np.uint64))
    return (mix(mix(number_K.astype(np.uint64)) ^ key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shuffled(number_K: I64, size: int, seed: int) -> I64:
    """Return for each draw number its place in endless passes over `size` rows, each pass in an order of its own.

    A Feistel network on the next power of four, walked until it falls below `size` (Black & Rogaway 2002, "Ciphers with
    arbitrary finite domains"): a permutation that takes no memory and can be entered anywhere.
    """
    epoch_K, place_K = np.divmod(number_K, size)
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    key_K = mix(mix(epoch_K.astype(np.uint64)) ^ mix(np.asarray([seed], dtype=np.uint64)))
    value_K = place_K.astype(np.uint64)
    todo = np.arange(len(value_K))
    while len(todo):
        left, right, key = value_K[todo] >> half, value_K[todo] & mask, key_K[todo]
        for number in range(_ROUNDS):
            left, right = right, left ^ (mix(right ^ mix(key + np.uint64(number))) & mask)
        value_K[todo] = (left << half) | right
        todo = todo[value_K[todo] >= size]
    return value_K.astype(np.int64)


def interleave(number_K: I64, share_G: F64) -> tuple[I64, I64]:
    """Return the group of each draw and its number within that group, so that every prefix keeps the shares.

    A group's k-th draw (from 0) stands at (k + 1/2) / share, and draws are taken by that position; ties go to the
    earlier group. No share starves: what one draw leaves over is carried to the next.
    """
    count_KG = counts(number_K, share_G)
    group_K = _positions(count_KG, share_G).argmin(1)
    return group_K, np.take_along_axis(count_KG, group_K[:, None], 1)[:, 0]


def counts(number_K: I64, share_G: F64) -> I64:
    """Return how many of the draws before each draw number fell to each group, shape (K, G)."""
    count_KG = np.floor(np.maximum(number_K - len(share_G), 0)[:, None] * share_G + 0.5).astype(np.int64)
    count_KG[:, share_G == 0] = 0
    todo = np.flatnonzero(count_KG.sum(1) < number_K)
    while len(todo):
        group_K = _positions(count_KG[todo], share_G).argmin(1)
        count_KG[todo, group_K] += 1
        todo = todo[count_KG[todo].sum(1) < number_K[todo]]
    return count_KG


def _positions(count_KG: I64, share_G: F64) -> F64:
    """Where each group's next draw stands."""
    position_KG = np.full(count_KG.shape, np.inf)
    np.divide(count_KG + 0.5, share_G, out=position_KG, where=share_G > 0)
    return position_KG
