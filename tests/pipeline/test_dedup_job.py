"""A dedup job marks what filter-cli dedup marks, row by row: any unit, bucket, order, way of shuffling, runner."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bisift.contract import provenance
from bisift.errors import ConfigError
from bisift.filter.dedup import DedupOptions, dedup_files
from bisift.pipelines import dedupjob
from bisift.pipelines.dedupjob import DedupJobResult
from bisift.pipelines.options import parse_beam_options
from tests.pipeline.jobs import FNAPI, decoded, install_prism, job, manifest, needs_prism, same_rows, table
from tests.unit.test_dedup import texts
from tests.unit.test_ranking import scored, write

Texts = list[tuple[str, str]]
WIDE = [
    ("הרכבת הקטנה יוצאת בכל בוקר בשבע מהרציף הישן", "القطار الصغير يغادر كل صباح في السابعة من الرصيف القديم"),
    ("小さな列車は毎朝七時に古い岸壁から出発します", "小火车每天早上七点从旧码头出发，开往山谷里的村庄"),
    ("🙂 🚂 7:00", "🙂 🚂 7.00"),
]


def template(rows: int) -> Texts:
    """Rows of one frame that share buckets: some are close to each other, most are not."""
    draw = random.Random(3)
    frame = "the harbour train leaves every single morning at seven from the old stone quay for the village of"
    return [
        (f"{frame} {draw.choice('abcdef')} {draw.randrange(90)}", f"train {n % 7} {frame} {draw.randrange(40)}")
        for n in range(rows)
    ]


def rows_of(pairs: Texts, seed: int) -> pa.Table:
    """Scored rows with these texts; a fifth was dropped by rules."""
    made = scored(len(pairs), seed=seed)
    for name, values in (("source", [one for one, _ in pairs]), ("target", [other for _, other in pairs])):
        place = made.schema.get_field_index(name)
        made = made.set_column(place, made.schema.field(name), pa.chunked_array([pa.array(values, pa.string())]))
    return made


def parquet(path: Path, made: pa.Table) -> str:
    """Write rows in row groups of 40."""
    write(path, made)
    pq.write_table(pq.read_table(path), path, row_group_size=40)
    return str(path)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Copies with changed words, a template, other scripts, one side with many others, and a file given twice."""
    folder = tmp_path_factory.mktemp("scored")
    first = [*zip(*(side.to_pylist() for side in texts(230, seed=5)), strict=True), *WIDE]
    changed = [(source.replace("七", "八") + " !", target + " .") for source, target in WIDE]
    second = [*template(110), *changed, *(("one side", f"other {n}") for n in range(9)), *first[:30]]
    made = rows_of(first, 1)
    paths = [parquet(folder / "a.parquet", made), parquet(folder / "b.parquet", rows_of(second, 2))]
    again = made.slice(20, 60)  # the same pair_id, origin, row and scores
    text = write(folder / "c.scored.jsonl", again)
    Path(f"{text}.manifest.json").write_text(json.dumps(provenance(again.schema)))
    return [*paths, text, parquet(folder / "d.parquet", again)]


def mark(inputs: Sequence[str], output: Path, beam: Any = FNAPI, **settings: Any) -> DedupJobResult:
    restart = settings.pop("restart", False)
    return dedupjob.dedup(inputs, str(output), DedupOptions(**settings), beam, restart=restart)


def expected(inputs: Sequence[str], folder: Path, **settings: Any) -> pa.Table:
    dedup_files(inputs, str(folder / "one.parquet"), DedupOptions(**settings))
    return decoded(pq.read_table(folder / "one.parquet"))


def assert_same(folder: Path, one: pa.Table) -> None:
    assert same_rows(table(folder), one)
    beside = json.loads((folder.parent / "one.parquet.manifest.json").read_text())
    known = manifest(folder)
    assert {name: known[name] for name in beside if name != "shards"} == {
        name: value for name, value in beside.items() if name != "shards"
    }
    assert not [path.name for path in folder.iterdir() if path.name != "manifest.json" and path.suffix != ".parquet"]


CASES: tuple[tuple[int, bool, dict[str, Any]], ...] = (
    (40, False, {}),
    (130, False, {"by": "human", "threshold": 0.6, "max_variants": 3}),
    (80, True, {"by": "quality", "threshold": 0.5, "remove": True}),
)


@pytest.mark.parametrize(("unit_rows", "by_value", "settings"), CASES, ids=str)
def test_rows_and_counts_are_those_of_filter_cli(
    tmp_path: Path,
    inputs: list[str],
    monkeypatch: pytest.MonkeyPatch,
    unit_rows: int,
    by_value: bool,
    settings: dict[str, Any],
) -> None:
    monkeypatch.setattr("bisift.pipelines.units.UNIT_ROWS", unit_rows)
    monkeypatch.setattr("bisift.pipelines.units.HELD", 1 << 40)
    monkeypatch.setattr("bisift.pipelines.placing.BUCKET_ROWS", 100)
    monkeypatch.setattr(dedupjob, "BUCKET_ROWS", 200)
    monkeypatch.setattr(dedupjob, "sees_disk", lambda *_: not by_value)
    one = expected(inputs, tmp_path, **settings)
    result = mark(inputs, tmp_path / "job", **settings)
    assert_same(tmp_path / "job", one)
    assert result.marked["near_duplicate"] > 50
    assert len(manifest(tmp_path / "job")["shards"]) > 4
    assert result.metrics["counters"]["dropped:near_duplicate"] == result.marked["near_duplicate"]


def test_only_the_best_of_a_large_bucket_are_compared_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisift.pipelines.units.UNIT_ROWS", 40)
    source = parquet(tmp_path / "a.parquet", rows_of(template(400), 4))
    one = expected([source], tmp_path, by="random", threshold=0.9)
    monkeypatch.setattr("bisift.filter.near.BEST", 400)
    (tmp_path / "all").mkdir()
    every = expected([source], tmp_path / "all", by="random", threshold=0.9)
    monkeypatch.undo()
    monkeypatch.setattr("bisift.pipelines.units.UNIT_ROWS", 40)
    assert not one.equals(every)  # the bound of 16 decides here
    mark([source], tmp_path / "job", by="random", threshold=0.9)
    assert_same(tmp_path / "job", one)


@pytest.mark.parametrize("count", [0, 1])
def test_no_row_and_one_row(tmp_path: Path, count: int) -> None:
    source = write(tmp_path / "a.parquet", scored(count, drop_reason=None))
    one = expected([source], tmp_path)
    mark([source], tmp_path / "job")
    assert_same(tmp_path / "job", one)


def test_rows_of_which_rules_left_none_and_rows_without_a_token(tmp_path: Path) -> None:
    dropped = write(tmp_path / "a.parquet", scored(9, drop_reason="empty"))
    bare = write(tmp_path / "b.parquet", rows_of([("...", "!"), ("...", "?"), ("", "")], 1))
    for number, inputs in enumerate(([dropped], [dropped, bare])):
        folder = tmp_path / str(number)
        folder.mkdir()
        one = expected(inputs, folder)
        mark(inputs, folder / "job")
        assert_same(folder / "job", one)


def test_a_bundle_that_runs_twice_changes_nothing(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisift.pipelines.units.UNIT_ROWS", 80)
    one = expected(inputs, tmp_path)
    mark(inputs, tmp_path / "job", parse_beam_options("FnApiRunner", 1, ["--direct_runner_bundle_repeat=1"]))
    assert_same(tmp_path / "job", one)


@needs_prism
def test_prism(tmp_path: Path, inputs: list[str]) -> None:
    install_prism()
    one = expected(inputs, tmp_path, max_variants=2)
    made = job(
        "dedup", "--input", *inputs, "--output", tmp_path / "job", "--runner=PrismRunner", "--max-variants=2", "--json"
    )
    assert made.returncode == 0, made.stderr
    assert_same(tmp_path / "job", one)
    found = json.loads(made.stdout)
    reasons = pc.value_counts(one["drop_reason"].drop_null()).to_pylist()
    counts = {entry["values"]: entry["counts"] for entry in reasons}
    assert found["marked"] == {name: counts[name] for name in found["marked"]}
    assert found["marked"].keys() >= {"near_duplicate", "many_targets"}


def test_what_cannot_be_marked_is_one_line(tmp_path: Path, inputs: list[str]) -> None:
    with pytest.raises(ConfigError, match="unknown order"):
        mark(inputs, tmp_path / "job", by="mixed")
    bare = write(tmp_path / "bare.parquet", scored(5, quality=None, drop_reason=None))
    with pytest.raises(ConfigError, match=r"^order quality needs quality, which is null in 5 rows: score again"):
        mark([bare], tmp_path / "bare", by="quality")
    assert not (tmp_path / "bare" / "manifest.json").exists()
    one = write(tmp_path / "one.parquet", scored(3))
    mark([one], tmp_path / "job")
    with pytest.raises(ConfigError, match="it was marked before"):
        mark([str(tmp_path / "job")], tmp_path / "again")
    with pytest.raises(ConfigError, match="was made from other inputs or settings"):
        mark([one], tmp_path / "job", threshold=0.9)
    mark([one], tmp_path / "job", threshold=0.9, restart=True)
    with pytest.raises(ConfigError, match="holds the input"):
        mark([one], tmp_path, restart=True)
    assert Path(one).exists()
