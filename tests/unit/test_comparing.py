"""`compare`: pairs matched by content, flips and changes counted, samples escaped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from scipy import stats

from bisift.errors import InputError
from bisift.filter.cli import cli
from bisift.filter.comparing import compare, render
from tests.unit.test_ranking import scored, write


def changed(table: pa.Table, **columns: list[Any]) -> pa.Table:
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table


def test_what_changed_is_counted(tmp_path: Path) -> None:
    old = scored(1_000)
    quality = np.random.default_rng(3).random(1_000, dtype=np.float32)
    reasons = old.column("drop_reason").to_pylist()
    reasons[1], reasons[2], reasons[0], reasons[6] = "length_ratio", "length_ratio", None, "empty"
    new = changed(old, quality=quality.tolist(), drop_reason=reasons).take(pa.array(range(999, -1, -1)))
    found = compare(write(tmp_path / "a.parquet", old), write(tmp_path / "b.parquet", new))
    assert (found.pairs, found.only_first, found.only_second) == (1_000, 0, 0)
    assert found.flips == {("kept", "length_ratio"): 2, ("kept", "empty"): 1, ("empty", "kept"): 1}
    assert (found.kept_first, found.kept_second) == (800, 798)
    before = np.array(old.column("quality"), np.float64)
    difference = quality.astype(np.float64) - before
    change = found.scores["quality"]
    assert change.mean_absolute_difference == pytest.approx(np.abs(difference).mean())
    assert abs(change.largest_difference) == pytest.approx(np.abs(difference).max())
    assert change.spearman == pytest.approx(stats.spearmanr(before, quality).statistic)
    assert found.scores["ai_probability"].changed == 0
    assert "ai_probability_document" not in found.scores  # null everywhere
    samples = found.samples["kept", "length_ratio"]
    assert {sample["row"] for sample in samples} == {2, 3}
    for sample in samples:
        assert sample["first"]["quality"] == pytest.approx(before[sample["row"] - 1])
        assert sample["second"]["quality"] == pytest.approx(float(quality[sample["row"] - 1]))


def test_copies_are_matched_in_turn_and_others_are_counted(tmp_path: Path) -> None:
    one = scored(3).take(pa.array([0, 1, 1, 2]))
    other = scored(5).take(pa.array([4, 1, 0, 1, 1]))
    found = compare(write(tmp_path / "a.parquet", one), write(tmp_path / "b.parquet", other))
    assert (found.pairs, found.only_first, found.only_second) == (3, 1, 2)
    assert found.flips == {}


def test_inputs_in_text_are_compared_too(tmp_path: Path) -> None:
    table = scored(50)
    new = changed(table, drop_reason=["empty"] * 50)
    more = pa.concat_tables([table, scored(9, seed=5)])
    found = compare(write(tmp_path / "a.jsonl", more), write(tmp_path / "b.tsv.gz", new), samples=2)
    assert (found.pairs, found.only_first) == (50, 9)
    assert found.flips == {("kept", "empty"): 40, ("length_ratio", "empty"): 5}
    assert [len(samples) for samples in found.samples.values()] == [2, 2]


def test_nothing_in_common_is_an_error_and_no_rows_are_not(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.parquet", scored(3)), write(tmp_path / "b.parquet", scored(3, seed=9))
    with pytest.raises(InputError, match="have no pair in common"):
        compare(one, other)
    empty = write(tmp_path / "c.parquet", scored(0))
    assert compare(empty, write(tmp_path / "d.parquet", scored(0))).pairs == 0


def test_the_page_holds_samples_harmlessly(tmp_path: Path) -> None:
    evil = "</td><script>alert('שלום')</script> & 你好"
    table = scored(4, source=evil, target=evil, target_lang='it" onclick="x', drop_reason=None)
    new = changed(table, drop_reason=["empty", None, None, None])
    found = compare(write(tmp_path / "a.parquet", table), write(tmp_path / "b.parquet", new))
    page = render(found)
    assert "<script" not in page
    assert 'onclick="x"' not in page
    assert page.count("&lt;script&gt;alert(&#x27;שלום&#x27;)") == 2
    assert page.count('dir="auto"') == 2


def test_the_command(tmp_path: Path) -> None:
    one = write(tmp_path / "a.parquet", scored(10))
    other = write(tmp_path / "b.parquet", changed(scored(10), drop_reason=[None] * 10))
    result = CliRunner().invoke(cli, ["compare", one, other, "--json", "-o", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["flips"] == [
        {"first": "empty", "second": "kept", "pairs": 1},
        {"first": "length_ratio", "second": "kept", "pairs": 1},
    ]
    assert (tmp_path / "page.html").exists()
    text = CliRunner().invoke(cli, ["compare", one, other])
    assert "verdict changed" in text.stderr
