"""Near duplicates over the whole input by keyed steps, decided by the search of one machine (filter/near.py).

A row is compared with the `BEST` best rows of each of its buckets, and with no others. So each unit is lent these rows'
sets of shingles by the units that hold them; then `NearDuplicates` runs over the unit's rows and the lent ones, whose
buckets it finds again from the sets: the best of all in a bucket are there, so it answers as if all rows were. What is
shuffled: where each row stands in the order, its band keys, which rows a unit needs, and the sets of those. Suffixes:
N rows of a unit that no rule dropped, W waiting ones (not the first of their bucket), R rows that are asked for, L rows
that are compared in a unit: its own, and lent ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter.dedup import BATCH_ROWS, variants
from bisift.filter.minhash import BANDS, Shingles, band_keys
from bisift.filter.near import BEST
from bisift.filter.ordering import F64, POSITION, Keys, identity_words, key_columns
from bisift.filter.scorer import text_keys
from bisift.filter.text import I64, U64, ragged_index
from bisift.pipelines.duplicates import by_bucket
from bisift.pipelines.placing import Placed
from bisift.pipelines.spilling import Block, load, spilled
from bisift.pipelines.units import OverUnits, RankJob, Unit

SOURCES, TARGETS, ASKED, LENT, UNIT = "source", "target", "asked", "lent", "unit"
_UNITS = "units"

BAND_BLOCK = np.dtype([("key", "<u8"), ("place", "<u8"), ("row", "<u4")])
SIDE_BLOCK = np.dtype([("side", "<u8"), ("other", "<u8"), ("row", "<u4")])
LENT_BLOCK = np.dtype([("place", "<i8"), ("pair_id", "<u8", 2), ("size", "<u4")])
"""A row that is lent; the hashes of all rows' sets, uint32, follow the rows."""
VARIANTS_BLOCK = np.dtype([("row", "<u4"), ("count", "<u4")])
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
Rows = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Placing:
    """Places in an order, from 0: a counter for all rows."""

    order: str

    def table(self, step: OverUnits, unit: Unit, facts: Any) -> pa.Table:
        """Return what the order needs of a unit's rows."""
        return step.rows(unit, key_columns(self.order))

    def counters(self, facts: Any) -> int:
        """Return one."""
        return 1

    def codes(self, table: pa.Table, keys: Keys, facts: Any) -> I64:
        """Return the only counter."""
        return np.zeros(table.num_rows, np.int64)

    def positions(self, table: pa.Table, keys: Keys, placed_C: I64, facts: Any) -> F64:
        """Return the places of N consecutive rows."""
        return np.arange(placed_C[0], placed_C[0] + table.num_rows, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Compared:
    """A unit with what the whole says of it.

    `rows`: those to be compared, uint32. `variants`: `VARIANTS_BLOCK` of the sides that stand with more than one other,
    by kind. `lent`: blocks of other units' rows (`lent_rows`).
    """

    unit: Unit
    rows: bytes
    variants: dict[str, list[bytes]]
    lent: list[Block | bytes] = field(default_factory=list)


class Compare(beam.PTransform):
    """From units to `Compared`; `buckets`: of each band and of each side's variants."""

    def __init__(self, job: RankJob, buckets: int) -> None:
        super().__init__()
        self._job = job
        self._buckets = buckets

    def expand(self, units: Any) -> Any:
        keyed = (
            units
            | "Plan" >> beam.Map(_planned)
            | "Order" >> Placed(self._job, Placing(self._job.options.order))
            | "Keys" >> beam.ParDo(_Keys(self._job, self._buckets)).with_outputs(_UNITS, main="blocks")
        )
        asked = keyed.blocks | "ByKey" >> beam.GroupByKey() | "Meet" >> beam.ParDo(_Meet(self._job))
        return (
            (keyed[_UNITS], asked)
            | "UnitsAndAsked" >> beam.Flatten()
            | "ByLender" >> beam.GroupByKey()
            | "Lend" >> beam.ParDo(_Lend(self._job))
            | "ByBorrower" >> beam.GroupByKey()
            | "Borrow" >> beam.Map(_borrow)
        )


def _planned(unit: Unit) -> tuple[Unit, None]:
    return unit, None


def places(unit: Unit) -> I64:
    """Return the places in the order of a unit's rows that no rule dropped."""
    assert unit.positions is not None
    return np.frombuffer(load(unit.positions), np.float64).astype(np.int64)


class _Keys(OverUnits):
    """From a unit to (bucket, (unit, block)): its rows' keys of each band, and its sides with what they stand with."""

    def __init__(self, job: RankJob, buckets: int) -> None:
        super().__init__(job)
        self._buckets = buckets

    def process(self, element: tuple[Unit, Any]) -> Iterator[Any]:
        unit, _ = element
        yield beam.pvalue.TaggedOutput(_UNITS, (unit.name, (UNIT, unit)))
        table = self.rows(unit, ("source", "target"))
        for bucket, block in spilled(self._blocks(table), self._job.spill, f"keys-{unit.name}.bin"):
            yield bucket, (unit.name, block)

    def _blocks(self, table: pa.Table) -> Iterator[tuple[str, bytes]]:
        row_N = np.arange(table.num_rows, dtype=np.uint32)
        sides = {kind: text_keys(table.column(kind)).to_numpy() for kind in (SOURCES, TARGETS)}
        for kind, other in ((SOURCES, TARGETS), (TARGETS, SOURCES)):
            side_N = np.zeros(table.num_rows, SIDE_BLOCK)
            side_N["side"], side_N["other"], side_N["row"] = sides[kind], sides[other], row_N
            yield from by_bucket(kind, side_N, sides[kind], self._buckets)
        band_N = np.zeros(table.num_rows, BAND_BLOCK)
        band_N["place"], band_N["row"] = table.column(POSITION).to_numpy(), row_N
        sets = [band_keys(shingles) for shingles in _shingles(table)]
        for band, key_N in enumerate(np.concatenate([np.zeros((0, BANDS), np.uint64), *sets]).T):
            band_N["key"] = key_N
            found_N = band_N[key_N != 0]
            yield from by_bucket(f"{band:02d}", found_N, found_N["key"] >> np.uint64(1), self._buckets)  # keys are odd


def _shingles(table: pa.Table) -> Iterator[Shingles]:
    for start in range(0, table.num_rows, BATCH_ROWS):
        batch = table.slice(start, BATCH_ROWS)
        yield Shingles.of(batch.column("source"), batch.column("target"))


class _Meet(beam.DoFn):
    """From (bucket, [(unit, block)]) to (unit, (kind, block)): rows that some units need of one, or its variants.

    A row that is needed is an uint64: the number of the unit that needs it, and the row. A unit asks itself, too: for
    its waiting rows, and for those that they are compared with.
    """

    def __init__(self, job: RankJob) -> None:
        self._spill = job.spill

    def process(self, element: tuple[str, Iterable[tuple[str, Block | bytes]]]) -> Iterator[Any]:
        kind = element[0].partition("-")[0]
        values = sorted(element[1], key=lambda one: one[0])
        names = [name for name, _ in values]
        of_side = kind in (SOURCES, TARGETS)
        blocks = [np.frombuffer(load(block), SIDE_BLOCK if of_side else BAND_BLOCK) for _, block in values]
        unit_N = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
        find = _many if of_side else _needed(np.array(names, np.uint64))
        found = ((names[unit], block.tobytes()) for unit, block in _by_unit(*find(np.concatenate(blocks), unit_N)))
        for name, block in spilled(found, self._spill, f"met-{element[0]}.bin"):
            yield name, (kind if of_side else ASKED, block)


def _many(all_N: Rows, unit_N: I64) -> tuple[I64, Rows]:
    """Return the variants of the rows whose side stands with more than one other: unit and `VARIANTS_BLOCK`."""
    count_N = variants(all_N["side"], all_N["other"])
    many_N = count_N > 1
    block = np.zeros(np.count_nonzero(many_N), VARIANTS_BLOCK)
    block["row"], block["count"] = all_N["row"][many_N], count_N[many_N]
    return unit_N[many_N], block


def _needed(number_U: U64) -> Callable[[Rows, I64], tuple[I64, U64]]:
    """Return what finds the rows that each unit needs for its waiting rows: whose they are, and for whom which."""

    def find(all_N: Rows, unit_N: I64) -> tuple[I64, U64]:
        order_N = np.lexsort((all_N["place"], all_N["key"]))  # by bucket, best first
        key_N, row_N, unit_N = all_N["key"][order_N], all_N["row"][order_N].astype(np.uint64), unit_N[order_N]
        first_N = np.ones(len(key_N), bool)
        first_N[1:] = key_N[1:] != key_N[:-1]
        start_N = np.flatnonzero(first_N)[np.cumsum(first_N) - 1]
        waiting_W = np.flatnonzero(~first_N)
        start_W, unit_W = start_N[waiting_W], unit_N[waiting_W]
        order_W = np.lexsort((waiting_W, unit_W, start_W))
        pair_W = start_W[order_W] * len(number_U) + unit_W[order_W]
        last = order_W[np.append(pair_W[1:] != pair_W[:-1], True)[: len(pair_W)]]  # of a bucket's rows in one unit
        before = np.minimum(waiting_W[last] - start_W[last], BEST)
        best = ragged_index(start_W[last], before)
        owner_R = np.concatenate((unit_W, unit_N[best]))
        for_R = np.concatenate((unit_W, np.repeat(unit_W[last], before)))
        return owner_R, (number_U[for_R] << _HALF) | np.concatenate((row_N[waiting_W], row_N[best]))

    return find


def _by_unit(unit_R: I64, block_R: Rows) -> Iterator[tuple[int, Rows]]:
    order_R = np.argsort(unit_R, kind="stable")
    cuts = np.flatnonzero(np.diff(unit_R[order_R])) + 1
    for rows in np.split(order_R, cuts) if len(order_R) else ():
        block = block_R[rows]
        yield int(unit_R[rows[0]]), block if block.dtype == VARIANTS_BLOCK else _distinct(block)


def _distinct(values: U64) -> U64:
    values = np.sort(values)  # numpy's unique hashes, which is ten times slower
    distinct: U64 = values[np.append(True, values[1:] != values[:-1])[: len(values)]]
    return distinct


class _Lend(OverUnits):
    """From a unit, and what is asked of it, to itself as `Compared` and to others the rows that they need."""

    def process(self, element: tuple[str, Iterable[tuple[str, Any]]]) -> Iterator[Any]:
        known: dict[str, list[Any]] = {}
        for kind, value in element[1]:
            known.setdefault(kind, []).append(value)
        (unit,) = known[UNIT]
        asked = [np.frombuffer(load(block), np.uint64) for block in known.get(ASKED, ())]
        asked_R = _distinct(np.concatenate([np.zeros(0, np.uint64), *asked]))
        for_R, row_R = asked_R >> _HALF, (asked_R & _LOW).astype(np.int64)
        own_R = for_R == int(unit.name)
        many = {kind: [load(block) for block in known.get(kind, ())] for kind in (SOURCES, TARGETS)}
        yield unit.name, (UNIT, Compared(unit, row_R[own_R].astype(np.uint32).tobytes(), many))
        lent = self._lent(unit, for_R[~own_R], row_R[~own_R]) if not own_R.all() else iter(())
        for name, block in spilled(lent, self._job.spill, f"lent-{unit.name}.bin"):
            yield name, (LENT, (unit.name, block))

    def _lent(self, unit: Unit, for_R: U64, row_R: I64) -> Iterator[tuple[str, bytes]]:
        """Yield (unit, block) of the rows that each unit needs."""
        wanted = np.flatnonzero(np.bincount(row_R))
        table = self.rows(unit, ("pair_id", "source", "target")).take(pa.array(wanted))
        sets = joined(list(_shingles(table)))
        lent = np.zeros(len(wanted), LENT_BLOCK)
        lent["place"], lent["size"] = table.column(POSITION).to_numpy(), np.diff(sets.offsets)
        lent["pair_id"] = identity_words(table.column("pair_id"))
        for rows in np.split(np.arange(len(for_R)), np.flatnonzero(np.diff(for_R)) + 1):
            here = np.searchsorted(wanted, row_R[rows])
            count = np.array(len(here), "<i8")
            block = count.tobytes() + lent[here].tobytes() + sets.take(here).hash_T.tobytes()
            yield f"{int(for_R[rows[0]]):08d}", block


def joined(sets: Sequence[Shingles]) -> Shingles:
    """Return the sets of all rows of some, joined."""
    sizes = [np.zeros(1, np.int64), *(np.diff(one.offsets) for one in sets)]
    return Shingles(
        np.concatenate([np.zeros(0, np.uint32), *(one.hash_T for one in sets)]), np.cumsum(np.concatenate(sizes))
    )


def lent_rows(blocks: Sequence[Block | bytes]) -> tuple[Rows, Shingles]:
    """Return the rows of all blocks that were lent, `LENT_BLOCK`, and their sets."""
    found = [_lent_rows(load(block)) for block in blocks]
    lent = np.concatenate([np.zeros(0, LENT_BLOCK), *(rows for rows, _ in found)])
    return lent, joined([sets for _, sets in found])


def _lent_rows(data: bytes) -> tuple[Rows, Shingles]:
    rows = int(np.frombuffer(data, "<i8", 1)[0])
    lent = np.frombuffer(data, LENT_BLOCK, rows, offset=8)
    hash_T = np.frombuffer(data, np.uint32, offset=8 + lent.nbytes)
    return lent, Shingles(hash_T, np.append(0, np.cumsum(lent["size"].astype(np.int64))))


def _borrow(element: tuple[str, Iterable[tuple[str, Any]]]) -> Compared:
    lent: list[tuple[str, Block | bytes]] = []
    for kind, value in element[1]:
        if kind == UNIT:
            compared: Compared = value
        else:
            lent.append(value)
    return replace(compared, lent=[block for _, block in sorted(lent, key=lambda one: one[0])])
