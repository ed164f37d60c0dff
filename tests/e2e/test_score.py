"""`score` and `rank` end to end: formats, workers and chunk sizes change nothing; counts add up; outputs are safe."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from html import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.contract import SCORED
from bisift.errors import ConfigError, InputError
from bisift.filter import score
from bisift.filter.publishing import ScoreResult
from bisift.filter.ranking import RankOptions, rank_files
from bisift.filter.readers import ReadOptions
from bisift.filter.scoring import ScoreOptions, score_files
from bisift.models import registry
from tests.corpus import Pair, pairs

CLI = Path(sys.executable).with_name("filter-cli")
LANGUAGES = {"source_lang": "en", "target_lang": "de"}
ROWS = 700
CORPUS = Path(__file__).resolve().parents[3] / "shared" / "data" / "corpora" / "debian-en-it.parquet"


def options(**settings: object) -> ScoreOptions:
    names = ReadOptions.__slots__
    read = {name: settings.pop(name) for name in list(settings) if name in names}
    return ScoreOptions(read=ReadOptions(**{**LANGUAGES, **read}), **settings)  # type: ignore[arg-type]


def cli(*arguments: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
    command = [str(CLI), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **kwargs)  # type: ignore[call-overload, no-any-return]


def write_tsv(path: Path, rows: list[Pair]) -> Path:
    lines = ["source\ttarget\tdocument_id", *(f"{row.source}\t{row.target}\t{row.document}" for row in rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def rows() -> list[Pair]:
    return list(pairs(ROWS))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, rows: list[Pair]) -> tuple[Path, ScoreResult]:
    folder = tmp_path_factory.mktemp("scored")
    source = write_tsv(folder / "in.tsv", rows)
    result = score_files([str(source)], str(folder / "out.parquet"), options())
    return folder / "out.parquet", result


def test_every_row_is_there_with_every_column(scored: tuple[Path, ScoreResult], rows: list[Pair]) -> None:
    path, result = scored
    table = pq.read_table(path)
    assert table.column_names == SCORED.names
    assert table["source"].to_pylist() == [row.source for row in rows]
    assert table["row"].to_pylist() == list(range(1, ROWS + 1))
    assert (result.rows_in, result.rows_out, result.rejected) == (ROWS, ROWS, 0)
    assert result.kept + result.dropped == ROWS
    assert result.dropped == table["drop_reason"].is_valid().to_pylist().count(True) == sum(result.by_reason.values())
    manifest = json.loads(Path(f"{path}.manifest.json").read_text())
    assert manifest["rows"] == {
        "in": ROWS,
        "kept": result.kept,
        "dropped": result.dropped,
        "rejected": 0,
        "by_reason": result.by_reason,
    }
    assert manifest["shards"] == [{"file": "out.parquet", "rows": ROWS, "sha256": digest(path)}]


def test_duplicates_and_repeated_sides_are_those_of_a_plain_loop(
    scored: tuple[Path, ScoreResult], rows: list[Pair]
) -> None:
    table = pq.read_table(scored[0])
    sources: set[str] = set()
    targets: set[str] = set()
    seen: set[tuple[str, str]] = set()
    reasons = table["drop_reason"].to_pylist()
    for number, row in enumerate(rows):
        assert table["source_repeated"][number].as_py() == (row.source in sources)
        assert table["target_repeated"][number].as_py() == (row.target in targets)
        if (row.source, row.target) in seen:
            assert reasons[number] is not None
        else:
            assert reasons[number] != "duplicate_pair"
        sources.add(row.source)
        targets.add(row.target)
        seen.add((row.source, row.target))
    assert reasons.count("duplicate_pair") > 30


def test_a_document_pools_its_pairs_wherever_they_stand(scored: tuple[Path, ScoreResult], rows: list[Pair]) -> None:
    table = pq.read_table(scored[0])
    exponent = json.loads(registry.resolve("detector").metadata["calibration"])["document_exponent"]
    evidence: dict[str, list[float]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for row, own in zip(rows, table["ai_probability"].to_pylist(), strict=True):
        if (row.source, row.target) not in seen:  # duplicates are left out
            evidence[row.document].append(math.log(own / (1 - own)))
        seen.add((row.source, row.target))
    for row, value in zip(rows, table["ai_probability_document"].to_pylist(), strict=True):
        own = evidence[row.document]
        assert value == pytest.approx(1 / (1 + math.exp(-sum(own) / len(own) ** exponent)), abs=1e-4)


def test_a_document_of_repeated_pairs_alone_has_no_score(tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    pairs_by_document = [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 2), ("c", 3), ("z", 3)]
    lines = [
        f"The train number {n} is late.\tDer Zug Nummer {n} ist zu spät.\t{name}\n" for name, n in pairs_by_document
    ]
    source.write_text("source\ttarget\tdocument_id\n" + "".join(lines))
    score_files([str(source)], str(tmp_path / "out.parquet"), options())
    table = pq.read_table(tmp_path / "out.parquet")
    known = [value is not None for value in table["ai_probability_document"].to_pylist()]
    assert known == [name in ("a", "c") for name, _ in pairs_by_document]


@pytest.mark.parametrize(("workers", "chunk_rows"), [(1, 64), (1, 699), (2, 100), (2, 8192)])
def test_workers_and_chunks_change_no_byte(
    tmp_path: Path, rows: list[Pair], scored: tuple[Path, ScoreResult], workers: int, chunk_rows: int
) -> None:
    source = write_tsv(tmp_path / "in.tsv", rows)
    os.rename(source, scored[0].with_name("in.tsv"))  # origin is part of the bytes
    output = tmp_path / "out.parquet"
    given = options(workers=workers, chunk_rows=chunk_rows)
    score_files([str(scored[0].with_name("in.tsv"))], str(output), given)
    assert digest(output) == digest(scored[0])
    for order in ("human", "quality"):
        shards = []
        for number, path in enumerate((output, scored[0])):
            folder = tmp_path / f"{order}-{number}"
            rank_files([str(path)], str(folder), RankOptions(order=order, shards=3))
            shards.append([digest(shard) for shard in sorted(folder.glob("*.parquet"))])
        assert len(shards[0]) == 3
        assert shards[0] == shards[1]


def encodings(folder: Path, rows: list[Pair], target: str = "de") -> dict[str, list[str]]:
    """The same pairs (no empty sides) in each format."""
    from backports import zstd

    lines = [f"{row.source}\t{row.target}" for row in rows]
    (folder / "a.tsv.zst").write_bytes(zstd.compress("\n".join(lines).encode()))
    (folder / "a.en").write_text("\n".join(row.source for row in rows) + "\n")
    (folder / f"a.{target}").write_text("\n".join(row.target for row in rows) + "\n")
    with gzip.open(folder / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"source": row.source, "target": row.target}) + "\n" for row in rows)
    columns = {"source": [row.source for row in rows], "target": [row.target for row in rows]}
    pq.write_table(pa.table(columns), folder / "a.parquet")
    units = "".join(
        f'<tu><tuv xml:lang="en-US"><seg>{escape(row.source, quote=False)}</seg></tuv>'
        f'<tuv xml:lang="{target}"><seg>{escape(row.target, quote=False)}</seg></tuv></tu>\n'
        for row in rows
    )
    (folder / "a.tmx").write_text(f'<tmx version="1.4"><header srclang="en"/><body>{units}</body></tmx>')
    (folder / "a.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
        + "\n".join(
            f"msgid {json.dumps(r.source, ensure_ascii=False)}\nmsgstr {json.dumps(r.target, ensure_ascii=False)}\n"
            for r in rows
        )
    )
    names = ["a.parquet", "a.tsv.zst", "a.jsonl.gz", "a.tmx", "a.po"]
    return {name: [str(folder / name)] for name in names} | {
        "moses": [str(folder / "a.en"), str(folder / f"a.{target}")]
    }


def test_every_format_gives_the_same_scores_row_for_row(tmp_path: Path, rows: list[Pair]) -> None:
    whole = [row for row in rows if row.target]
    found = {}
    for name, inputs in encodings(tmp_path, whole).items():
        output = tmp_path / f"{name}.out.parquet"
        result = score_files(inputs, str(output), options())
        assert (result.rows_out, result.rejected) == (len(whole), 0), name
        found[name] = pq.read_table(output).drop_columns(["origin"])
    for name, table in found.items():
        assert table.equals(found["a.parquet"]), name


def test_the_python_function_yields_what_the_command_writes(scored: tuple[Path, ScoreResult]) -> None:
    tables = list(score([str(scored[0].with_name("in.tsv"))], options()))
    assert pa.concat_tables(tables).to_pylist() == pq.read_table(scored[0]).to_pylist()


def test_several_inputs_count_their_rows_apart_and_share_duplicates(tmp_path: Path, rows: list[Pair]) -> None:
    first, second = write_tsv(tmp_path / "1.tsv", rows[:50]), write_tsv(tmp_path / "2.tsv", rows[:50])
    result = score_files([str(tmp_path / "*.tsv")], f"{tmp_path}/out/", options())
    table = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    assert Counter(table["origin"].to_pylist()) == {str(first): 50, str(second): 50}
    assert table["row"].to_pylist() == [*range(1, 51), *range(1, 51)]
    assert all(reason is not None for reason in table["drop_reason"].to_pylist()[50:])
    assert result.rows_in == 100
    inputs = json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]
    assert [(entry["path"], entry["rows"]) for entry in inputs] == [(str(first), 50), (str(second), 50)]


def test_a_limit_counts_rejects_too(tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("a\tb\nbroken\nc\td\ne\tf\n")
    for chunk_rows in (1, 2, 100):
        output = tmp_path / f"{chunk_rows}.parquet"
        result = score_files([str(source)], str(output), options(limit=3, chunk_rows=chunk_rows, use_models=False))
        assert (result.rows_in, result.rows_out, result.rejected) == (3, 2, 1)


def test_switched_off_models_leave_null_columns_and_the_same_schema(tmp_path: Path, rows: list[Pair]) -> None:
    source = write_tsv(tmp_path / "in.tsv", rows[:20])
    given = options(use_models=False, disable=("wrong_language_source", "wrong_language_target"))
    score_files([str(source)], str(tmp_path / "out.parquet"), given)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.equals(SCORED)
    for name in ("ai_probability", "ai_language_known", "ai_probability_document", "quality", "source_language"):
        assert table[name].null_count == 20


def test_a_finished_run_says_so_and_another_configuration_is_refused(tmp_path: Path, rows: list[Pair]) -> None:
    source, output = write_tsv(tmp_path / "in.tsv", rows[:20]), tmp_path / "out.parquet"
    given = options(use_models=False)
    score_files([str(source)], str(output), given)
    before = output.stat().st_mtime_ns
    assert score_files([str(source)], str(output), options(use_models=False, workers=2)).already_done
    assert output.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="--restart"):
        score_files([str(source)], str(output), options(use_models=False, disable=("numbers", "too_long")))
    write_tsv(source, rows[:21])
    with pytest.raises(ConfigError, match="--restart"):
        score_files([str(source)], str(output), given)
    assert score_files([str(source)], str(output), options(use_models=False, restart=True)).rows_out == 21


def test_a_foreign_output_is_not_overwritten(tmp_path: Path, rows: list[Pair]) -> None:
    source, output = write_tsv(tmp_path / "in.tsv", rows[:5]), tmp_path / "out.parquet"
    output.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="--restart"):
        score_files([str(source)], str(output), options(use_models=False))
    assert output.read_bytes() == b"mine"


def test_a_file_cut_in_the_middle_publishes_nothing_and_heals(tmp_path: Path, rows: list[Pair]) -> None:
    plain = write_tsv(tmp_path / "plain.tsv", rows * 40)  # several blocks of the reader
    source, output = tmp_path / "in.tsv.gz", tmp_path / "out.parquet"
    whole = gzip.compress(plain.read_bytes())
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"in\.tsv\.gz"):
        score_files([str(source)], str(output), options(use_models=False, chunk_rows=500))
    assert not output.exists()
    assert list(tmp_path.glob("out.parquet.state/part-*"))
    source.write_bytes(whole)
    assert score_files([str(source)], str(output), options(use_models=False, restart=True)).rows_out == 40 * ROWS


def test_stdin_to_stdout(rows: list[Pair]) -> None:
    text = "".join(f"{row.source}\t{row.target}\n" for row in rows[:10])
    result = cli("score", "-", "-o", "-", "--source-lang", "en", "--target-lang", "de", "--no-models", input=text)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 11
    assert lines[0].split("\t")[:3] == ["pair_id", "source", "target"]


@pytest.mark.parametrize("content", ["", "source\ttarget\n", "one\ttwo\n"])
def test_empty_header_only_and_one_row(tmp_path: Path, content: str) -> None:
    source = tmp_path / "in.tsv"
    source.write_text(content)
    expected = 1 if content.startswith("one") else 0
    result = score_files([str(source)], str(tmp_path / "out.parquet"), options())
    assert result.rows_out == expected == pq.read_table(tmp_path / "out.parquet").num_rows
    ranked = rank_files(
        [str(tmp_path / "out.parquet")], str(tmp_path / "ranked"), RankOptions(order="random", shards=2)
    )
    assert len(list((tmp_path / "ranked").glob("shard-*"))) == 2
    assert ranked.rows_in == expected


def test_strict_exit_code_and_rejects_file(tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_bytes(b"good one\tgut\nbad\n\xff\tx\n")
    result = cli("score", source, "-o", tmp_path / "o.tsv", "--no-models", "--strict", "--json")
    assert result.returncode == 3
    assert json.loads(result.stdout)["rejects_by_reason"] == {"too_few_columns": 1, "invalid_utf8": 1}
    rejects = [json.loads(line) for line in (tmp_path / "o.tsv.rejects.jsonl").read_text().splitlines()]
    assert [(reject["file"], reject["row"], reject["byte_offset"]) for reject in rejects] == [
        (str(source), 2, 13),
        (str(source), 3, 17),
    ]


def test_a_megabyte_of_one_word_and_no_spaces_is_scored(tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("x" * 500_000 + "\t" + "語" * 100_000 + "\nfine\tgut\n")
    result = score_files([str(source)], str(tmp_path / "out.parquet"), options())
    assert (result.rows_out, result.rejected) == (2, 0)
    assert pq.read_table(tmp_path / "out.parquet")["drop_reason"][0].as_py() is not None


@pytest.mark.shared_data
@pytest.mark.skipif("BISIFT_FULL" not in os.environ, reason="minutes: set BISIFT_FULL=1")
@pytest.mark.skipif(not CORPUS.exists(), reason="no development data beside the checkout")
def test_the_whole_corpus_in_every_format_then_ranked(tmp_path: Path) -> None:
    table = pq.read_table(CORPUS)
    whole = [Pair(a, b, "") for a, b in zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True)]
    expected = None
    given = {"target_lang": "it", "workers": 2}
    for name, inputs in encodings(tmp_path, whole, target="it").items():
        output = tmp_path / f"{name}.out.parquet"
        result = score_files(inputs, str(output), options(**given))
        assert (result.rows_in, result.rows_out, result.rejected) == (len(whole), len(whole), 0), name
        found = pq.read_table(output).drop_columns(["origin"])
        expected = expected or found
        assert found.equals(expected), name
    for order in ("quality", "human"):
        digests = []
        for workers, chunk_rows in ((1, 1000), (2, 8192), (2, 30_000)):
            output = tmp_path / "again.parquet"
            again = options(**given | {"workers": workers, "chunk_rows": chunk_rows, "restart": True})
            score_files([str(tmp_path / "a.parquet")], str(output), again)
            rank_files([str(output)], str(tmp_path / "ranked"), RankOptions(order=order, shards=8))
            digests.append([digest(shard) for shard in sorted((tmp_path / "ranked").glob("*.parquet"))])
        assert len(digests[0]) == 8
        assert digests[0] == digests[1] == digests[2]
