"""A hashed lexical-translation table (IBM model 1, Brown et al. 1993, both directions) and what it says of a pair.

Suffixes: N rows of a chunk, B rows of a slice, T target tokens, S source tokens, K tokens of one side of all rows,
H hits (source token, target token) found in the table, L best links. Sums over tokens are sums of integers, so no
value depends on chunk size, on padding or on other rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bisift.errors import ModelError
from bisift.filter.text import I64, U8, U32, U64, Text

I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
U16 = npt.NDArray[np.uint16]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

MAX_TOKENS = 96
"""Tokens of a side beyond these are not looked at: cells grow with their square, and more tell little more."""

OOV_IDS = 1024
"""Word ids 1..OOV_IDS stand for words outside the vocabulary, by their hash; 0 is padding."""

LOG_STEP = 0.0625
"""Quantised log probabilities: code q stands for exp(-q * LOG_STEP), so the smallest is exp(-15.9)."""

PROBABILITY = np.exp(-LOG_STEP * np.arange(256))
"""Probability that a code stands for."""

STYLE_STEP = 1 / 32
"""Quantised log ratio of machine to human use of a link."""

FLOOR = 1e-7
SAME_TEXT = 11
"""Code of p(t|s) and p(s|t) of two tokens with the same text (names, numbers, URLs): one half."""

_CELLS = 1 << 18  # token pairs looked up at once, so that the temporaries stay in the cache
_FIXED = 1 << 20
_NEAR = (1 << 14) - 1
_SAME_ENTRY = np.int32((64 << 24) | (128 << 16) | (SAME_TEXT << 8) | SAME_TEXT)  # stronger than any other
_A, _B, _M = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)

STATISTICS = (
    "lexical_forward",
    "lexical_backward",
    "lexical_coverage",
    "forward_deviation",
    "backward_deviation",
    "unexplained_target",
    "unexplained_source",
    "identical",
    "link_strength",
    "style",
    "style_deviation",
    "displacement",
    "inversions",
)
"""Columns of `Lexicon.statistics`. Forward and backward are the mean and standard deviation of the natural logs of
p(t|s) and p(s|t) a token; style is the mean log ratio of machine to human use of the best links; displacement is the
mean distance of a best link from the diagonal (0..1), inversions the share of links that cross the one before; the rest
are shares of tokens."""


@dataclass(frozen=True)
class Words:
    """Tokens of one side, cut to MAX_TOKENS a row: word ids, the low 32 bits of their hashes, and the rows' bounds."""

    id_K: I32
    hash_K: U32
    offsets: I64
    count_N: I64

    @property
    def rows(self) -> int:
        return len(self.count_N)


@dataclass(frozen=True)
class SliceLinks:
    """What the table says of a slice.

    Of each token the sum of its t(t|s) (see `log_mean`) and whether a link explains it; of each target token that has
    one its best link: row, both positions, entry (see `link_values`).
    """

    source_B: I64
    target_B: I64
    forward_BT: F64
    backward_BS: F64
    explained_BT: Bool
    explained_BS: Bool
    row_L: I32
    target_L: I32
    source_L: I32
    entry_L: I32


class Cubes:
    """Memory for the lookups of one slice after another: asking the system for it each time costs more than they do."""

    TYPES = (np.uint32, np.uint32, np.uint16, np.uint16, np.bool_, np.bool_)

    def __init__(self) -> None:
        self._buffers = [np.empty(0, dtype=kind) for kind in self.TYPES]

    def of(self, shape: tuple[int, int, int]) -> list[Any]:
        """One array of each of TYPES, of this shape, with whatever was there before; not safe between threads."""
        size = shape[0] * shape[1] * shape[2]
        if len(self._buffers[0]) < size:
            self._buffers = [np.empty(max(size, _CELLS), dtype=kind) for kind in self.TYPES]
        return [buffer[:size].reshape(shape) for buffer in self._buffers]


@dataclass(frozen=True)
class Lexicon:
    """The table as arrays: two-choice hashed vocabulary, and direct-mapped (source word, target word) entries.

    `word_key`, `word_id`: size a power of two. `null_forward`, `null_backward`: code of p(word | NULL) by id.
    `pair_key`: 16-bit fingerprint of a slot's pair (0: empty); `forward`, `backward`: codes of t(t|s) and t(s|t);
    `style`: log ratio of machine to human use in steps of STYLE_STEP.
    """

    word_key: U32
    word_id: I32
    null_forward: U8
    null_backward: U8
    pair_key: U16
    forward: U8
    backward: U8
    style: I8
    _cubes: Cubes = field(default_factory=Cubes, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Lexicon:
        """Read an uncompressed npz.

        Raises:
            ModelError: the file is no such table.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in cls._names()})
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{path}: not a lexical table: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the arrays as an uncompressed npz, which loads in a few milliseconds and is the same to the byte."""
        with open(path, "wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in self._names()})

    @classmethod
    def _names(cls) -> list[str]:
        return [entry.name for entry in fields(cls) if entry.init]

    def words(self, text: Text) -> Words:
        """Tokenise and look up the words of one side."""
        spans = text.tokens
        count_N = np.bincount(spans.row_T, minlength=text.rows)
        hash_K = text.token_hash_T
        if count_N.size and int(count_N.max()) > MAX_TOKENS:
            first_N = np.cumsum(count_N) - count_N
            hash_K = hash_K[np.arange(len(hash_K)) - first_N[spans.row_T] < MAX_TOKENS]
            count_N = np.minimum(count_N, MAX_TOKENS)
        offsets = np.zeros(text.rows + 1, dtype=np.int64)
        np.cumsum(count_N, out=offsets[1:])
        return Words(self.word_ids(hash_K), hash_K.astype(np.uint32), offsets, count_N)

    def word_ids(self, hash_K: U64) -> I32:
        """Id of each hashed word; words outside the vocabulary share OOV_IDS ids by their hash."""
        key_K = (hash_K >> np.uint64(32)).astype(np.uint32)
        first_K, second_K = word_slots(hash_K, len(self.word_key))
        id_K = np.where(self.word_key[first_K] == key_K, self.word_id[first_K], 0)
        missed = np.flatnonzero(id_K == 0)
        second = second_K[missed]
        other = (1 + (hash_K[missed] & np.uint64(OOV_IDS - 1))).astype(np.int32)
        found = (self.word_key[second] == key_K[missed]) & (self.word_id[second] > 0)
        id_K[missed] = np.where(found, self.word_id[second], other)
        return id_K.astype(np.int32, copy=False)

    def statistics(self, source: Words, target: Words) -> dict[str, F32]:
        """The STATISTICS of each pair, each of shape N; 0 for a pair that lacks tokens on either side."""
        out_NF = np.zeros((target.rows, len(STATISTICS)), dtype=np.float32)
        for rows_B in _slices(source.count_N, target.count_N):
            out_NF[rows_B] = self._slice_statistics(source, target, rows_B)
        return {name: out_NF[:, column] for column, name in enumerate(STATISTICS)}

    def _slice_statistics(self, source: Words, target: Words, rows_B: I64) -> F32:
        """Shape (B, len(STATISTICS))."""
        links = self.slice_links(source, target, rows_B)
        source_B, target_B, row_L, rows = links.source_B, links.target_B, links.row_L, len(rows_B)
        forward = _moments(links.forward_BT, source_B, target_B)
        backward = _moments(links.backward_BS, target_B, source_B)
        unexplained_target = 1 - links.explained_BT.sum(axis=1) / target_B
        unexplained_source = 1 - links.explained_BS.sum(axis=1) / source_B
        same_L, strength_L, style_L = link_values(links.entry_L)
        away_L = _away(links.source_L, links.target_L, source_B[row_L], target_B[row_L])
        crossed_L = np.zeros(len(row_L), dtype=np.int64)
        crossed_L[1:] = (row_L[1:] == row_L[:-1]) & (links.source_L[1:] < links.source_L[:-1])

        def mean(values_L: npt.NDArray[np.integer], scale: float = 1.0) -> F64:
            total_B = np.bincount(row_L, weights=values_L, minlength=rows)  # exact: integers below 2^53
            return np.asarray(total_B * scale / links_B, dtype=np.float64)

        links_B = np.maximum(np.bincount(row_L, minlength=rows), 1)
        style = mean(style_L, STYLE_STEP)
        columns = (
            forward[0],
            backward[0],
            1 - (unexplained_target + unexplained_source) / 2,
            forward[1],
            backward[1],
            unexplained_target,
            unexplained_source,
            np.bincount(row_L[same_L], minlength=rows) / target_B,
            mean(strength_L, -LOG_STEP),
            style,
            np.sqrt(np.maximum(mean(style_L * style_L, STYLE_STEP * STYLE_STEP) - style * style, 0)),
            mean(away_L) / (source_B * target_B),
            mean(crossed_L),
        )
        return np.stack(columns, axis=1).astype(np.float32)

    def slice_links(self, source: Words, target: Words, rows_B: I64) -> SliceLinks:
        """Look up a cube of B × T × S cells, then look at the hits alone. Every row has tokens on both sides."""
        source_B, target_B = source.count_N[rows_B], target.count_N[rows_B]
        id_BS, id_BT = padded(source.id_K, source, rows_B), padded(target.id_K, target, rows_B)
        rows, source_width, target_width = len(rows_B), id_BS.shape[1], id_BT.shape[1]
        hit_H, entry_H = self._hits(source, target, rows_B, id_BS, id_BT)
        token_H, source_H = np.divmod(hit_H, np.int32(source_width))  # token: row × target_width + position
        row_H, target_H = np.divmod(token_H, np.int32(target_width))
        forward_H, backward_H = entry_H & 255, (entry_H >> 8) & 255

        share_T = np.bincount(token_H, weights=PROBABILITY[forward_H], minlength=rows * target_width)
        source_token_H = row_H * np.int32(source_width) + source_H
        share_S = np.bincount(source_token_H, weights=PROBABILITY[backward_H], minlength=rows * source_width)
        share_T, share_S = share_T.reshape(rows, target_width), share_S.reshape(rows, source_width)

        # the best link of a target token: the same text, else the strongest, then the nearest to the diagonal
        strength_H = 447 - ((forward_H + backward_H) * 7 >> 3) + (entry_H >> 24)  # 9 bits
        count_s_B, count_t_B = source_B.astype(np.int32), target_B.astype(np.int32)
        away_H = _away(source_H, target_H, count_s_B[row_H], count_t_B[row_H])
        key_H = (strength_H << 22) | ((_NEAR - np.minimum(away_H, _NEAR)) << 8) | (MAX_TOKENS - 1 - source_H)
        first_L = np.flatnonzero(token_H[1:] != token_H[:-1]) + 1
        first_L = np.concatenate([np.zeros(min(len(token_H), 1), dtype=np.int64), first_L])
        best_L = np.maximum.reduceat(key_H, first_L) if first_L.size else np.zeros(0, dtype=np.int32)
        best_H = np.flatnonzero(key_H == np.repeat(best_L, np.diff(np.append(first_L, len(key_H)))))
        return SliceLinks(
            source_B=source_B,
            target_B=target_B,
            forward_BT=share_T + PROBABILITY[self.null_forward[id_BT]],
            backward_BS=share_S + PROBABILITY[self.null_backward[id_BS]],
            explained_BT=share_T > 0,
            explained_BS=share_S > 0,
            row_L=row_H[first_L],
            target_L=target_H[first_L],
            source_L=MAX_TOKENS - 1 - (best_L & 255),
            entry_L=entry_H[best_H],
        )

    def _hits(self, source: Words, target: Words, rows_B: I64, id_BS: I32, id_BT: I32) -> tuple[I32, I32]:
        """Flat indices (of B × T × S) of the cells that are in the table or whose tokens have the same text, ascending,
        and their entries."""
        part_BS = id_BS.astype(np.uint32) * _A
        part_BT = id_BT.astype(np.uint32) * _B + np.uint32(1)
        shape = (*id_BT.shape, id_BS.shape[1])
        mixed_BTS, slot_BTS, wanted_BTS, key_BTS, same_BTS, found_BTS = self._cubes.of(shape)
        np.bitwise_xor(part_BT[:, :, None], part_BS[:, None, :], out=mixed_BTS)
        mixed_BTS *= _M
        np.right_shift(mixed_BTS, np.uint32(15), out=slot_BTS)
        mixed_BTS ^= slot_BTS
        np.bitwise_and(mixed_BTS, np.uint32(len(self.pair_key) - 1), out=slot_BTS)
        np.right_shift(mixed_BTS, np.uint32(16), out=wanted_BTS, casting="unsafe")
        np.maximum(wanted_BTS, 1, out=wanted_BTS)  # 0 marks an empty slot
        # always in range: "clip" only spares a check
        self.pair_key.take(slot_BTS.view(np.int32), mode="clip", out=key_BTS)
        np.equal(key_BTS, wanted_BTS, out=found_BTS)
        hash_BS, hash_BT = padded(source.hash_K, source, rows_B), padded(target.hash_K, target, rows_B)
        np.equal(hash_BT[:, :, None], hash_BS[:, None, :], out=same_BTS)
        found_BTS |= same_BTS
        found_BTS &= (id_BT > 0)[:, :, None]
        found_BTS &= (id_BS > 0)[:, None, :]
        hit_H = np.flatnonzero(found_BTS).astype(np.int32)
        same_H = same_BTS.reshape(-1)[hit_H]
        return hit_H, np.where(same_H, _SAME_ENTRY, self._entries[slot_BTS.reshape(-1)[hit_H]])

    @cached_property
    def _entries(self) -> I32:
        """Forward, backward and style (plus 128) of each slot in the low three bytes."""
        entries = self.style.astype(np.int32)
        entries += 128
        entries <<= 8
        entries |= self.backward
        entries <<= 8
        entries |= self.forward
        return entries


def _slices(source_N: I64, target_N: I64) -> Iterator[I64]:
    """Rows with tokens on both sides, alike in size, in groups of which the padded cube has at most _CELLS cells.

    A row with more cells than that is a group of its own.
    """
    rows = np.flatnonzero((source_N > 0) & (target_N > 0))
    rows = rows[np.argsort(np.maximum(source_N[rows], target_N[rows]), kind="stable")]
    longest = np.maximum(source_N[rows], target_N[rows])
    start = 0
    while start < len(rows):
        stop = start + 1
        step = _CELLS // int(longest[start]) ** 2
        while step:
            group = rows[start : start + step]
            if int(source_N[group].max() * target_N[group].max()) * len(group) <= _CELLS:
                stop = max(start + len(group), stop)
                break
            step = step * 7 // 8
        yield rows[start:stop]
        start = stop


def padded(values_K: npt.NDArray[np.generic], words: Words, rows_B: I64, width: int | None = None) -> Any:
    """Values of the tokens of `rows_B` as (B, width), 0 beyond a row's end; width: the longest row's when None."""
    count_B = words.count_N[rows_B]
    position = np.arange(int(count_B.max()) if width is None else width)
    inside = position < count_B[:, None]
    if not values_K.size:
        return np.zeros(inside.shape, dtype=values_K.dtype)
    index = np.where(inside, words.offsets[rows_B][:, None] + position, 0)
    return np.where(inside, values_K[index], values_K.dtype.type(0))


def word_slots(hash_K: U64, size: int) -> tuple[I64, I64]:
    """The two slots in which a hashed word may stand."""
    mask = np.uint64(size - 1)
    return (hash_K & mask).astype(np.int64), ((hash_K >> np.uint64(20)) & mask).astype(np.int64)


def pair_slots(source_id: I32, target_id: I32, size: int) -> tuple[I64, U16]:
    """Slot and fingerprint of (source word, target word), as `Lexicon` looks them up. Fingerprint 0 is never found."""
    mixed = ((source_id.astype(np.uint32) * _A) ^ (target_id.astype(np.uint32) * _B + np.uint32(1))) * _M
    mixed ^= mixed >> np.uint32(15)
    return (mixed & np.uint32(size - 1)).astype(np.int64), (mixed >> np.uint32(16)).astype(np.uint16)


def link_values(entry_L: I32) -> tuple[Bool, I64, I64]:
    """Whether a link's tokens have the same text; its code of t(t|s) and its style in steps, both 0 if they have."""
    same_L = entry_L >> 24 > 0
    strength_L = np.where(same_L, 0, entry_L & 255).astype(np.int64)
    return same_L, strength_L, np.where(same_L, 0, ((entry_L >> 16) & 255) - 128).astype(np.int64)


def _away(source: Any, target: Any, source_count: Any, target_count: Any) -> Any:
    """Distance of a link from the diagonal, times both lengths."""
    return np.abs(source * target_count - target * source_count)


def log_mean(probability_BK: F64, given_B: I64) -> F64:
    """log p(t|s), the mean of t(t|s) over the `given_B` source tokens and NULL (equation 5 of Brown et al. without its
    constant), from their sum."""
    log_BK: F64 = np.log(probability_BK / (given_B + 1)[:, None] + FLOOR)
    return log_BK


def _moments(probability_BK: F64, given_B: I64, count_B: I64) -> tuple[F64, F64]:
    """Mean and standard deviation of `log_mean` over the first `count_B` tokens of each row."""
    log_BK = log_mean(probability_BK, given_B)
    inside_BK = np.arange(log_BK.shape[1]) < count_B[:, None]
    fixed_BK = np.where(inside_BK, np.rint(log_BK * _FIXED).astype(np.int64), 0)
    mean_B = fixed_BK.sum(axis=1) / (count_B * _FIXED)
    square_BK = np.where(inside_BK, np.rint(log_BK * log_BK * _FIXED).astype(np.int64), 0)
    square_B = square_BK.sum(axis=1) / (count_B * _FIXED)
    return mean_B, np.sqrt(np.maximum(square_B - mean_B * mean_B, 0))
