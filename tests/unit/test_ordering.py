"""The orders' keys: against xxhash and plain Python, and the promise that packed keys never contradict an order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from bisift.contract import SCORED
from bisift.errors import ConfigError
from bisift.filter import ordering
from bisift.filter.ordering import (
    POSITION,
    KeySample,
    ascending_bits,
    check_order,
    cuts,
    cuts_of,
    group_shares,
    order_keys,
    positions,
    random_keys,
    scores,
    shard_of,
    sort_indices,
)

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
UNIT = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, width=32))


def scored(**columns: Sequence[object]) -> pa.Table:
    rows = len(next(iter(columns.values())))
    columns = {"pair_id": [bytes([i]) * 16 for i in range(rows)], "origin": ["a"] * rows, **columns}
    columns = {"row": list(range(rows)), "drop_reason": [None] * rows, **columns}
    types = {field.name: field.type for field in SCORED} | {POSITION: pa.float64()}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


@given(st.lists(FINITE, min_size=2, max_size=2))
def test_float_bits_are_in_the_order_of_the_floats(pair: list[float]) -> None:
    low, high = ascending_bits(np.array(pair, np.float32) + np.float32(0))
    assert (low < high) == (np.float32(pair[0]) < np.float32(pair[1]))
    assert (low == high) == (np.float32(pair[0]) == np.float32(pair[1]))


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1), st.integers(0, 2**64 - 1))
def test_random_is_xxh64(ids: list[bytes], seed: int) -> None:
    words_N2 = np.frombuffer(b"".join(ids), np.uint64).reshape(-1, 2)
    assert random_keys(words_N2, seed).tolist() == [xxhash.xxh64_intdigest(value, seed) for value in ids]


def test_combined_is_rounded_to_float32_once() -> None:
    quality, ai = np.float32(0.7), np.float32(0.1)
    got = scores(scored(quality=[quality], ai_probability=[ai], ai_probability_document=[None]), "combined")
    assert got[0] == np.float32(float(quality) * (1.0 - float(ai)))
    assert got.dtype == np.float32


def test_human_takes_the_document_first() -> None:
    table = scored(ai_probability=[0.25, 0.5, None], ai_probability_document=[None, 0.75, 1.0])
    assert scores(table, "human").tolist() == [0.25, 0.75, 1.0]


@pytest.mark.parametrize(
    ("order", "column"), [("quality", "quality"), ("human", "ai_probability"), ("combined", "quality")]
)
def test_a_missing_score_names_the_column_and_the_remedy(order: str, column: str) -> None:
    columns: dict[str, list[object]] = {"quality": [0.5, 0.5], "ai_probability": [0.5, 0.5]}
    columns[column][1] = None
    table = scored(**columns, ai_probability_document=[None, None])
    with pytest.raises(ConfigError, match=rf"{column}, which is null in 1 rows: .*models"):
        scores(table, order)


def test_zero_has_one_sign() -> None:
    keys = order_keys(scored(quality=[0.0, -0.0], pair_id=[b"0" * 16] * 2), "quality")
    assert keys.packed_N[0] == keys.packed_N[1]


@given(
    st.lists(st.tuples(UNIT, st.binary(min_size=16, max_size=16), st.booleans()), min_size=1, max_size=40),
    st.sampled_from(["quality", "human", "random", "mixed"]),
    st.booleans(),
    st.integers(1, 5),
)
def test_packed_keys_never_contradict_the_order(
    rows: list[tuple[float, bytes, bool]], order: str, keep_dropped: bool, shards: int
) -> None:
    values = [value for value, _, _ in rows]
    table = scored(
        quality=values,
        ai_probability=values,
        ai_probability_document=[None] * len(rows),
        pair_id=[pair for _, pair, _ in rows],
        drop_reason=["empty" if dropped else None for _, _, dropped in rows],
        _position=[1e6 + value * 1e-6 for value in values],
    )
    keys = order_keys(table, order, keep_dropped=keep_dropped)
    places = sort_indices(table, keys)
    expected = sorted(
        range(len(rows)),
        key=lambda i: (keep_dropped and rows[i][2], int(keys.primary_N[i]), rows[i][1], i),
    )
    assert places.tolist() == expected
    shard_N = shard_of(keys.packed_N, cuts(keys.packed_N, shards))[places]
    assert (np.diff(shard_N) >= 0).all()


def test_rows_alike_in_every_key_are_ordered_by_their_other_columns() -> None:
    table = scored(
        quality=[0.5] * 3,
        pair_id=[b"0" * 16] * 3,
        row=[1] * 3,
        generator=["b", None, "a"],
        source=["t", "s", "s"],
    )
    places = sort_indices(table, order_keys(table, "quality"))
    assert table.take(places)["generator"].to_pylist() == ["a", "b", None]


def test_cuts_are_elements_of_the_sorted_keys() -> None:
    keys = np.arange(100, dtype=np.uint64)[::-1]
    assert cuts(keys, 3).tolist() == [33, 66]
    assert shard_of(np.array([0, 32, 33, 65, 66, 99], np.uint64), cuts(keys, 3)).tolist() == [0, 0, 1, 1, 2, 2]
    assert cuts(keys[:1], 4).tolist() == [99, 99, 99]
    assert cuts(keys[:0], 4).tolist() == [0, 0, 0]
    assert cuts(keys, 1).tolist() == []


@pytest.mark.parametrize("rows", [ordering.SAMPLE_FROM - 1, ordering.SAMPLE_FROM, ordering.SAMPLE_FROM + 9])
def test_samples_of_parts_merge_into_the_sample_of_the_whole(rows: int) -> None:
    keys = np.random.default_rng(1).integers(0, 2**64, rows, dtype=np.uint64)
    expected = np.sort(keys if rows < ordering.SAMPLE_FROM else keys[keys % 16 == 0])
    one, other = KeySample(), KeySample()
    one.add(keys[:10])
    one.add(keys[10:1000])
    other.add(keys[1000:])
    one.merge(other)
    assert np.array_equal(one.sorted(), expected)
    assert np.array_equal(cuts_of(one.sorted(), 7), cuts(keys, 7))


def test_shares_are_row_shares_where_none_is_named() -> None:
    assert group_shares({"a": 30, "b": 10}, {}) == {"a": 0.75, "b": 0.25}
    assert group_shares({"a": 30, "b": 10, "c": 60}, {"c": 0.2}) == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})
    assert group_shares({"a": 1}, {"a": 0.5}) == {"a": 0.5}


def test_shares_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave nothing for 'b'"):
        group_shares({"a": 1, "b": 1}, {"a": 1.0})
    with pytest.raises(ConfigError, match="did you mean 'human'"):
        group_shares({"human": 1}, {"humans": 0.5})
    for shares in ({"a": 0.0}, {"a": 1.5}, {"a": float("nan")}, {"a": 0.6, "b": 0.6}):
        with pytest.raises(ConfigError, match="share"):
            check_order("mixed", shares)
    with pytest.raises(ConfigError, match="for the order mixed"):
        check_order("quality", {"a": 0.5})
    with pytest.raises(ConfigError, match="did you mean 'quality'"):
        check_order("qualty", {})
    check_order("mixed", {"a": 0.1, "b": 0.2, "c": 0.7})


def test_positions() -> None:
    assert positions(np.array([0, 1, 2]), np.array([0.5, 0.5, 0.25])).tolist() == [1.0, 3.0, 10.0]
