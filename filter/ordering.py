"""The orders of a ranking as pure functions on columns, shared by the ranking on one machine and in pipelines.

A row's place is decided by (dropped, primary, pair_id, origin, row), ascending; `primary` is an unsigned integer made
from the order's score. `packed` is a 64-bit prefix of that: it partitions rows into shards and never contradicts the
full order, so rows with equal `packed` always meet in one shard and are told apart there.

| order | primary | low 32 bits of packed |
|---|---|---|
| quality, human, combined | float32 score, best first, as 32 bits | first 32 bits of pair_id, a hash of the content |
| random | xxh64 of pair_id (16 bytes) with the seed; packed is the hash itself | |
| mixed | float64 position | a hash of the upper half: rows of one position are never cut apart |

With dropped rows kept, packed is shifted right by one bit and its top bit says dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisift.config import nearest
from bisift.contract import ORDERS
from bisift.errors import ConfigError
from bisift.filter.text import I64, U32, U64, Bool, mix64

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Values = F32 | F64 | U64

SAMPLE_MASK = 15
SAMPLE_FROM = 1 << 20
POSITION = "_position"
IDENTITY = ("pair_id", "origin", "row")
_SCORES: dict[str, tuple[str, ...]] = {
    "quality": ("quality",),
    "human": ("ai_probability", "ai_probability_document"),
    "combined": ("quality", "ai_probability", "ai_probability_document"),
    "random": (),
    "mixed": (),  # by POSITION, which is made from combined and the generator
}
_LOW, _HIGH = np.uint64(0xFFFFFFFF), np.uint64(32)
_SIGN32, _TOP64, _ONE = np.uint32(1 << 31), np.uint64(1 << 63), np.uint64(1)


def check_order(order: str, shares: Mapping[str, float]) -> None:
    """Check an order and its shares.

    Raises:
        ConfigError: an unknown order, shares without `mixed`, a share not above 0, or shares that sum to over 1.
    """
    if order not in ORDERS:
        raise ConfigError(f"unknown order {order!r}{nearest(order, ORDERS)}")
    if shares and order != "mixed":
        raise ConfigError(f"shares are for the order mixed, not {order}")
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise ConfigError(f"share of {name!r} is {share}: it must be above 0 and at most 1")
    if sum(shares.values()) > 1 + 1e-9:
        raise ConfigError(f"the shares sum to {sum(shares.values()):g}: at most 1 can be shared out")


def key_columns(order: str) -> tuple[str, ...]:
    """Return the columns of SCORED that decide a row's place in an order."""
    return (*IDENTITY, *_SCORES[order], "drop_reason")


def scores(table: pa.Table, order: str) -> F32:
    """Return the score of each row that an order sorts by: quality, the probability of `human`, or combined.

    combined = quality × (1 − p), computed in float64 from the float32 columns and rounded to float32 once, so that
    every runner gets the same bits; p is ai_probability_document, or ai_probability where that is null.

    Raises:
        ConfigError: a score is null.
    """
    if order == "quality":
        return _floats(table, "quality", order)
    probability = pc.coalesce(table.column("ai_probability_document"), table.column("ai_probability"))
    ai_N = _filled(probability, "ai_probability", order)
    if order == "human":
        return ai_N
    quality_N = _floats(table, "quality", order)
    return (quality_N.astype(np.float64) * (1.0 - ai_N.astype(np.float64))).astype(np.float32)


def _floats(table: pa.Table, name: str, order: str) -> F32:
    return _filled(table.column(name), name, order)


def _filled(column: pa.ChunkedArray, name: str, order: str) -> F32:
    if column.null_count:
        raise ConfigError(
            f"order {order} needs {name}, which is null in {column.null_count:,} rows: "
            "score again with the models on, or use --order random"
        )
    values: F32 = column.to_numpy().astype(np.float32, copy=False)
    return values + np.float32(0)  # -0.0 becomes 0.0: equal scores must be equal bits


def ascending_bits(values_N: F32) -> U32:
    """Map float32 values to uint32 in the same order (sign bit flipped, or all bits of negatives)."""
    bits_N = values_N.view(np.uint32)
    return np.where(bits_N & _SIGN32, ~bits_N, bits_N | _SIGN32)


def random_keys(pair_id_N: U64, seed: int) -> U64:
    """Return xxh64 (with `seed`) of each 16-byte identity; `pair_id_N` is N × 2, little-endian words.

    The algorithm for inputs of 16 bytes, from the xxHash specification 0.1.1, section XXH64.
    """
    prime1, prime2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
    prime3, prime4, prime5 = (
        np.uint64(0x165667B19E3779F9),
        np.uint64(0x85EBCA77C2B2AE63),
        np.uint64(0x27D4EB2F165667C5),
    )

    def rotate(value_N: U64, bits: int) -> U64:
        return (value_N << np.uint64(bits)) | (value_N >> np.uint64(64 - bits))

    start = (seed + int(prime5) + 16) & 0xFFFFFFFFFFFFFFFF
    hash_N = np.full(len(pair_id_N), start, dtype=np.uint64)
    for word in range(2):
        hash_N ^= rotate(pair_id_N[:, word] * prime2, 31) * prime1
        hash_N = rotate(hash_N, 27) * prime1 + prime4
    hash_N = (hash_N ^ (hash_N >> np.uint64(33))) * prime2
    hash_N = (hash_N ^ (hash_N >> np.uint64(29))) * prime3
    return hash_N ^ (hash_N >> np.uint64(32))


@dataclass(frozen=True, slots=True)
class Keys:
    """What decides the places of N rows. `value_N` is the order's score in its own unit, for people to read."""

    packed_N: U64
    primary_N: U64
    dropped_N: Bool
    value_N: Values

    def take(self, order_N: I64) -> Keys:
        """Return the keys of some rows, in the order of `order_N`."""
        return Keys(
            packed_N=self.packed_N[order_N],
            primary_N=self.primary_N[order_N],
            dropped_N=self.dropped_N[order_N],
            value_N=self.value_N[order_N],
        )


def order_keys(table: pa.Table, order: str, *, seed: int = 0, keep_dropped: bool = False) -> Keys:
    """Return the keys of N rows; `table` has the columns `key_columns(order)`, and for mixed `POSITION` as well.

    Raises:
        ConfigError: the order needs a score that is null.
    """
    words_N2 = identity_words(table.column("pair_id"))
    value_N: Values
    if order == "random":
        packed_N = primary_N = random_keys(words_N2, seed)
        value_N = packed_N
    elif order == "mixed":
        position_N: F64 = table.column(POSITION).to_numpy()
        value_N = position_N
        primary_N = position_N.view(np.uint64)  # positions are above 0: their bits are in their order
        high_N = ascending_bits(position_N.astype(np.float32)).astype(np.uint64)
        packed_N = (high_N << _HIGH) | (mix64(high_N) & _LOW)
    else:
        score_N = scores(table, order)
        value_N = score_N
        bits_N = ascending_bits(score_N)
        primary_N = (bits_N if order == "human" else ~bits_N).astype(np.uint64)
        packed_N = (primary_N << _HIGH) | (words_N2[:, 0].byteswap() >> _HIGH)
    dropped_N = is_dropped(table)
    if keep_dropped:
        packed_N = (packed_N >> _ONE) | np.where(dropped_N, _TOP64, np.uint64(0))
    return Keys(packed_N=packed_N, primary_N=primary_N, dropped_N=dropped_N, value_N=value_N)


def is_dropped(table: pa.Table) -> Bool:
    """Say of each row whether a rule dropped it."""
    dropped: Bool = table.column("drop_reason").is_valid().to_numpy()
    return dropped


def identity_words(column: pa.ChunkedArray) -> U64:
    """Return the identities as N × 2 little-endian words."""
    array = (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([*column.chunks, pa.array([], pa.binary(16))])
    )
    raw = np.frombuffer(array.buffers()[1], np.uint64) if len(array) else np.zeros(0, np.uint64)
    return raw.reshape(-1, 2)[array.offset : array.offset + len(array)]


def sort_indices(table: pa.Table, keys: Keys) -> I64:
    """Return the places of N rows in full order; rows alike in all keys are ordered by their other columns.

    Those are taken in the order of their names, nested ones left out.
    """
    order_N = np.argsort(keys.packed_N, kind="stable")
    packed_N = keys.packed_N[order_N]
    same_N = packed_N[1:] == packed_N[:-1]
    if not same_N.any():
        return order_N
    tied_N = np.append(same_N, False) | np.insert(same_N, 0, False)
    rows_T = order_N[tied_N]
    tied = table.take(rows_T)
    columns = {"packed": packed_N[tied_N], "primary": keys.primary_N[rows_T]}
    for name in (*IDENTITY, *sorted(set(tied.column_names) - set(IDENTITY))):
        column = tied.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not pa.types.is_nested(column.type):
            columns[f"column_{name}"] = column
    ranks_T = pc.sort_indices(pa.table(columns), sort_keys=[(name, "ascending") for name in columns]).to_numpy()
    order_N[tied_N] = rows_T[ranks_T]
    return order_N


class KeySample:
    """The packed keys that cuts are made of: all of them below 2^20 rows, else those with `key & 15 == 0`.

    The keys' low bits are a hash of the content, so the sample is the same however the rows arrive; samples of parts
    merge into the sample of the whole.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._keys: list[U64] = []

    def add(self, packed_N: U64) -> None:
        """Add the keys of N rows."""
        self._extend(len(packed_N), [packed_N])

    def merge(self, other: KeySample) -> None:
        """Add the rows of another sample."""
        self._extend(other.rows, other._keys)

    def _extend(self, rows: int, keys: list[U64]) -> None:
        thinned = self.rows >= SAMPLE_FROM
        self.rows += rows
        if self.rows < SAMPLE_FROM:
            self._keys += keys
            return
        if not thinned:
            self._keys = [sampled(part) for part in self._keys]
        self._keys += [sampled(part) for part in keys]

    def sorted(self) -> U64:
        """Return the sample in ascending order."""
        return np.sort(np.concatenate(self._keys)) if self._keys else np.zeros(0, np.uint64)


def sampled(packed_N: U64) -> U64:
    """Return the keys that the sample keeps of 2^20 rows or more."""
    sampled_M: U64 = packed_N[(packed_N & np.uint64(SAMPLE_MASK)) == 0]
    return sampled_M


def cuts(packed_N: U64, shards: int) -> U64:
    """Return the shards − 1 ascending keys at which a new shard begins, from the packed keys of all rows."""
    sample = KeySample()
    sample.add(packed_N)
    return cuts_of(sample.sorted(), shards)


def cuts_of(sample_M: U64, shards: int) -> U64:
    """Return the cuts from a sorted sample: cut i is element ⌊i·M / shards⌋. Without rows, all cuts are 0."""
    places = np.arange(1, shards, dtype=np.int64) * len(sample_M) // shards
    cuts_S: U64 = sample_M[places] if len(sample_M) else np.zeros(shards - 1, np.uint64)
    return cuts_S


def shard_of(packed_N: U64, cuts_S: U64) -> I64:
    """Return the shard of each row: how many cuts are at or below its key."""
    shard_N: I64 = np.searchsorted(cuts_S, packed_N, side="right")
    return shard_N


def group_names(table: pa.Table) -> pa.ChunkedArray:
    """Return the group that mixed interleaves each row with: its generator, or its origin where that is null."""
    return pc.coalesce(table.column("generator"), table.column("origin"))


def group_shares(counts: Mapping[str, int], named: Mapping[str, float]) -> dict[str, float]:
    """Return each group's share of the mix: the named ones as given, the rest in proportion to their rows.

    Raises:
        ConfigError: a named group has no rows, or the named shares leave nothing for the others.
    """
    unknown = [name for name in named if name not in counts]
    if unknown:
        raise ConfigError(f"--share {unknown[0]}: no generator of that name{nearest(unknown[0], sorted(counts))}")
    rest = {name: rows for name, rows in counts.items() if name not in named}
    left = 1.0 - sum(named[name] for name in sorted(named))
    if rest and left <= 1e-9:
        raise ConfigError(f"the shares sum to 1 and leave nothing for {sorted(rest)[0]!r}: give it a share, too")
    rows = sum(rest.values())
    return {**named, **{name: left * count / rows for name, count in rest.items()}}


def positions(place_N: I64, share_N: F64) -> F64:
    """Return where mixed puts the pair that stands at `place_N` (from 0) within its group: (k + 0.5) / share."""
    return (place_N + 0.5) / share_N
