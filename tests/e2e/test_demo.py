"""`make demo` as a newcomer meets it: the texts hold what they promise, and the summary tells the truth about a run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ROOT / "examples" / "demo"
LANGUAGES = {"de", "pt-BR", "sr-Latn", "zh-Hans"}


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo run on four of the catalogs' languages: its folder and what it printed."""
    output = tmp_path_factory.mktemp("demo") / "output"
    command = [sys.executable, "examples/demo.py", "--output", str(output), "--languages", ",".join(sorted(LANGUAGES))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return output, result.stdout


def scored(output: Path, *, without: str = "") -> pa.Table:
    columns = ["source", "target", "source_lang", "target_lang", "drop_reason"]
    paths = [path for path in (output / "scored").glob("*.parquet") if path.stem != without]
    return pa.concat_tables(pq.read_table(path, columns=columns) for path in paths)


def ranked(output: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted((output / "ranked").glob("shard-*.parquet")))


def test_catalogs_hold_ten_thousand_pairs_in_many_languages(demo: ModuleType) -> None:
    languages = Counter(pair["target_lang"] for pair in demo.catalog_pairs(demo.catalog_root()))
    assert sum(languages.values()) >= 10_000
    assert len(languages) >= 50
    assert not any(language.startswith("en") for language in languages)


def test_made_texts_hold_sixty_pairs_in_eight_languages(finished: tuple[Path, str]) -> None:
    made = scored(finished[0], without="catalogs").to_pylist()
    languages = {row[side] for row in made for side in ("source_lang", "target_lang")} - {None}
    assert len(made) >= 60
    assert len(languages) >= 8


def test_every_input_row_is_kept_dropped_or_rejected(demo: ModuleType, finished: tuple[Path, str]) -> None:
    output, printed = finished
    rows = json.loads((output / "ranked" / "manifest.json").read_text())["rows"]
    table = scored(output)
    assert rows["in"] == rows["kept"] + rows["dropped"] + rows["rejected"]
    assert rows["kept"] + rows["dropped"] == table.num_rows
    assert rows["dropped"] == table.num_rows - table["drop_reason"].null_count == sum(rows["by_reason"].values())
    assert rows["rejected"] == sum(demo._reject_reasons(output).values())
    assert f"{rows['in']:,} rows read = {rows['kept']:,} kept" in printed


def test_planted_rubbish_is_dropped_or_rejected(finished: tuple[Path, str]) -> None:
    output = finished[0]
    dropped = {row["target"] for row in scored(output).to_pylist() if row["drop_reason"] is not None}
    assert "Bring warm clothes, because the nights are cold." in dropped
    assert "Школа закрыта на время летних каникул." in dropped
    assert "" in dropped
    raw = "".join(path.read_text() for path in (output / "scored").glob("*.rejects.jsonl"))
    for sign in ("This line has one column only", "Invalid bytes", "A NUL byte", "This record was cut off"):
        assert sign in raw


def test_shards_are_ranked_by_quality(finished: tuple[Path, str]) -> None:
    table = ranked(finished[0])
    quality = table["quality"].to_pylist()
    assert table["rank"].to_pylist() == list(range(table.num_rows))
    assert quality == sorted(quality, reverse=True)
    assert set(table["target_lang"].to_pylist()) >= LANGUAGES


def test_summary_shows_the_best_and_the_most_machine_like_pairs(finished: tuple[Path, str]) -> None:
    output, printed = finished
    table = ranked(output)
    best, machine = printed.split("The three best pairs")[1].split("The three most machine-like pairs")
    assert best.count("quality") == 3
    assert f"quality {table['quality'][0].as_py():.2f}" in best
    assert f"machine-written {max(table['ai_probability'].to_pylist()):.2f}" in machine.split("Try next")[0]


def test_a_folder_with_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, "examples/demo.py", "--output", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
