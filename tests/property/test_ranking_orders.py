"""Every order against a plain Python reference, and shards that depend on the rows alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from bisift.contract import ORDERS, RANKED, SCORED, with_provenance
from bisift.filter.ranking import RankOptions, rank, rank_files
from bisift.filter.writers import open_writer

Row = dict[str, Any]
SCHEMA = with_provenance(
    pa.schema([*SCORED, pa.field("extra_url", pa.string())]), models={}, profile_digest=None, prior=None
)

unit = st.one_of(st.sampled_from([0.0, 0.25, 1.0]), st.floats(0, 1, width=32))
pair = st.fixed_dictionaries(
    {
        "pair_id": st.one_of(st.sampled_from([b"a" * 16, b"a" * 15 + b"b"]), st.binary(min_size=16, max_size=16)),
        "source": st.sampled_from(["one", "two"]),
        "generator": st.sampled_from([None, "human", "gpt"]),
        "origin": st.sampled_from(["x.tsv", "y.tsv"]),
        "row": st.integers(1, 30),
        "quality": unit,
        "ai_probability": unit,
        "ai_probability_document": st.one_of(st.none(), unit),
        "drop_reason": st.sampled_from([None, None, "empty", "length_ratio"]),
        "extra_url": st.sampled_from([None, "u"]),
    }
)
CONSTANT = {"target": "t", "source_repeated": False, "target_repeated": False, "failed_rules": 0}
anything = st.lists(pair, max_size=40)
distinct = st.lists(pair, max_size=40, unique_by=lambda row: (row["origin"], row["row"]))


def table_of(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist([{**CONSTANT, **row} for row in rows], schema=SCHEMA)


def human(row: Row) -> float:
    document = row["ai_probability_document"]
    return float(row["ai_probability"] if document is None else document)


def combined(row: Row) -> float:
    return float(np.float32(row["quality"] * (1.0 - human(row))))


def identity(row: Row) -> tuple[bytes, str, int]:
    return row["pair_id"], row["origin"], row["row"]


def reference(rows: Sequence[Row], order: str, seed: int = 0, shares: dict[str, float] | None = None) -> list[Row]:
    """design.md's orders, word for word."""
    keys: dict[str, Callable[[Row], float]] = {
        "quality": lambda row: -float(row["quality"]),
        "human": human,
        "combined": lambda row: -combined(row),
        "random": lambda row: xxhash.xxh64_intdigest(row["pair_id"], seed),
    }
    if order != "mixed":
        return sorted(rows, key=lambda row: (keys[order](row), *identity(row)))
    shares = shares or {}
    groups: dict[str, list[Row]] = {}
    for row in reference(rows, "combined"):
        groups.setdefault(row["generator"] or row["origin"], []).append(row)
    rest = sum(len(group) for name, group in groups.items() if name not in shares)
    left = 1.0 - sum(shares[name] for name in sorted(shares))
    placed = []
    for name, group in groups.items():
        share = shares[name] if name in shares else left * len(group) / rest
        placed += [((k + 0.5) / share, *identity(row), row) for k, row in enumerate(group)]
    return [row for *_, row in sorted(placed, key=lambda entry: entry[:4])]


@settings(max_examples=60, deadline=None)
@given(distinct, st.sampled_from(ORDERS), st.integers(0, 3), st.booleans(), st.integers(1, 5))
def test_every_order_is_the_reference(rows: list[Row], order: str, seed: int, keep_dropped: bool, shards: int) -> None:
    kept = [row for row in rows if row["drop_reason"] is None]
    expected = reference(kept, order, seed)
    if keep_dropped:
        expected += reference([row for row in rows if row["drop_reason"] is not None], order, seed)
    tables = list(rank([table_of(rows)], order=order, seed=seed, keep_dropped=keep_dropped, shards=shards))
    assert all(table.schema.names == [*RANKED.names, "extra_url"] for table in tables)
    got = [row for table in tables for row in table.to_pylist()]
    assert [{name: row[name] for name in expected[0]} for row in got] == expected
    assert [row["rank"] for row in got] == list(range(len(expected)))
    assert [row["percentile"] for row in got] == [float(np.float32(i / len(expected))) for i in range(len(expected))]
    assert {row["order"] for row in got} <= {order}


@settings(max_examples=40, deadline=None)
@given(distinct, st.floats(0.05, 0.6))
def test_mixed_follows_the_shares(rows: list[Row], share: float) -> None:
    kept = [row for row in rows if row["drop_reason"] is None]
    if not any(row["generator"] == "human" for row in kept):
        return
    shares = {"human": share}
    got = [row for table in rank([table_of(rows)], order="mixed", shares=shares) for row in table.to_pylist()]
    assert [identity(row) for row in got] == [identity(row) for row in reference(kept, "mixed", shares=shares)]


def shards_of(inputs: Sequence[pa.Table], folder: Path, **options: Any) -> list[bytes]:
    names = []
    for number, table in enumerate(inputs):
        names.append(str(folder / f"in-{number}.parquet"))
        with open_writer(names[-1], table.schema) as writer:
            writer.write(table)
    rank_files(names, str(folder / "out"), RankOptions(**options))
    return [path.read_bytes() for path in sorted((folder / "out").glob("shard-*.parquet"))]


@settings(max_examples=40, deadline=None)
@given(
    anything, st.sampled_from(ORDERS), st.booleans(), st.integers(1, 4), st.randoms(use_true_random=False), st.data()
)
def test_bytes_depend_on_the_rows_as_a_multiset(
    rows: list[Row], order: str, keep_dropped: bool, shards: int, shuffler: Random, data: st.DataObject
) -> None:
    options: dict[str, Any] = {"order": order, "keep_dropped": keep_dropped, "shards": shards}
    shuffled = rows[:]
    shuffler.shuffle(shuffled)
    cut = data.draw(st.integers(0, len(rows)))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        whole = shards_of([table_of(rows)], Path(one), **options)
        parts = shards_of([table_of(shuffled[:cut]), table_of(shuffled[cut:])], Path(other), memory=1 << 20, **options)
    assert whole == parts
    assert len(whole) == shards


@pytest.mark.parametrize("order", ORDERS)
def test_equal_scores_spread_over_the_shards(tmp_path: Path, order: str) -> None:
    rng = np.random.default_rng(0)
    row = {"generator": "g", "quality": 0.5, "ai_probability": 0.5, "source": "s", "origin": "o"}
    table = table_of([{**row, "pair_id": rng.bytes(16), "row": i} for i in range(4_000)])
    shards_of([table], tmp_path, order=order, shards=4)
    rows = [pa.parquet.read_metadata(path).num_rows for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert rows == [1_000] * 4
