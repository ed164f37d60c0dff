"""Parquet and TMX: what is read, what is rejected and why, and what ends a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift.errors import ConfigError, InputError
from bisift.filter.readers import REASONS, ReadOptions, Reject, expand, read


def read_all(path: Path, after_row: int = 0, **options: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
    settings = ReadOptions(**options)
    pairs: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for origin in expand([str(path)], settings):
        for chunk in read(origin, settings, after_row=after_row):
            pairs += chunk.pairs.to_pylist()
            rejects += chunk.rejects
    assert all(reject.reason in REASONS for reject in rejects)
    return pairs, rejects


def texts(pairs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(pair["source"], pair["target"]) for pair in pairs]


def reasons(rejects: list[Reject]) -> list[tuple[int, str]]:
    return [(reject.row, reject.reason) for reject in rejects]


# Parquet


def table(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_text_of_any_type_with_nulls_rejected(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array(["a", None, "c\u00e9", "d\0", ""], pa.string())
    path = table(
        tmp_path / "a.parquet", {"source": values.cast(kind), "target": ["v", "w", "x", "y", None], "n": range(5)}
    )
    pairs, rejects = read_all(path, keep_columns=("n",), target_lang="it")
    assert texts(pairs) == [("a", "v"), ("c\u00e9", "x")]
    assert [(pair["row"], pair["extra_n"], pair["target_lang"]) for pair in pairs] == [(1, 0, "it"), (3, 2, "it")]
    assert reasons(rejects) == [(2, "null"), (4, "nul_byte"), (5, "null")]
    assert rejects[0].byte_offset is None
    assert rejects[0].raw == '{"source": null, "target": "w"}'


def test_parquet_uses_pairs_names_row_by_row(tmp_path: Path) -> None:
    columns = {
        "source": ["a", "b"],
        "target": ["c", "d"],
        "source_lang": pa.array(["en", None]).dictionary_encode(),
        "document_id": ["", "x"],
        "generator": ["gpt", None],
        "extra_url": ["u", "v"],
        "quality": [0.5, 0.1],
    }
    path = table(tmp_path / "a.parquet", columns)
    pairs, _ = read_all(path, source_lang="de", generator="human", keep_columns=("extra_url",))
    keys = ("source_lang", "document_id", "generator", "extra_url")
    assert [tuple(pair[key] for key in keys) for pair in pairs] == [("en", None, "gpt", "u"), ("de", "x", "human", "v")]
    pairs, _ = read_all(path, source_column="2", target_column="source", document_column="extra_url")
    assert (texts(pairs)[0], pairs[0]["document_id"]) == (("c", "a"), "u")


def test_parquet_translation_column(tmp_path: Path) -> None:
    values = [{"en": "a", "it": "b"}, None, {"en": "c", "it": None}]
    path = table(tmp_path / "a.parquet", {"id": [1, 2, 3], "translation": values})
    pairs, rejects = read_all(path, keep_columns=("id",))
    assert (texts(pairs), pairs[0]["source_lang"], pairs[0]["extra_id"]) == ([("a", "b")], "en", 1)
    assert reasons(rejects) == [(2, "null"), (3, "null")]
    pairs, _ = read_all(path, source_lang="it", target_lang="en-GB")
    assert (texts(pairs), pairs[0]["target_lang"]) == ([("b", "a")], "en-GB")
    with pytest.raises(InputError, match="holds en, it, asked: fr and any"):
        read_all(path, source_lang="fr")


def test_parquet_with_invalid_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    path = table(tmp_path / "a.parquet", {"source": ["a", "b", "c"], "target": raw, "k": raw})
    pairs, rejects = read_all(path, keep_columns=("k",))
    assert texts(pairs) == [("a", "a"), ("c", "c")]
    assert reasons(rejects) == [(2, "invalid_utf8")]
    assert rejects[0].raw == '{"source": "b", "target": "\\\\xff"}'


def test_parquet_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"sourze": ["a"], "target": [1]})
    with pytest.raises(InputError, match=r"a\.parquet: no column 'source': name it; the file has: sourze, target"):
        read_all(path)
    with pytest.raises(InputError, match="no column 'surze'; did you mean 'sourze'"):
        read_all(path, source_column="surze")
    with pytest.raises(InputError, match="column 'target' is int64, not text"):
        read_all(path, source_column="sourze")
    with pytest.raises(InputError, match="column 3 asked, the file has 2: sourze, target"):
        read_all(path, source_column="3")
    broken = tmp_path / "b.parquet"
    broken.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_all(broken)


@pytest.mark.parametrize("window", [1, 30, 1 << 16])
def test_parquet_resumes_in_any_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr("bisift.filter.readers.parquet.WINDOW_ROWS", window)
    source = [None if number % 7 == 0 else f"s{number}" for number in range(100)]
    path = table(tmp_path / "a.parquet", {"source": source, "target": ["t"] * 100}, row_group_size=13)
    pairs, rejects = read_all(path)
    assert len(pairs) + len(rejects) == 100
    for after in (0, 1, 12, 13, 14, 26, 99, 100, 101):
        for size in (1, 10, 1000):
            rest = read_all(path, after_row=after, chunk_rows=size)
            assert rest == ([p for p in pairs if p["row"] > after], [r for r in rejects if r.row > after])
    assert read_all(table(tmp_path / "empty.parquet", {"source": pa.array([], pa.string()), "target": []})) == ([], [])


def test_a_directory_stands_for_its_parquet_files(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden", "_tmp"):
        table(tmp_path / f"{name}.parquet", {"source": [name], "target": ["x"]})
    (tmp_path / "manifest.json").write_text("{}")
    assert [pair["source"] for pair in read_all(tmp_path)[0]] == ["a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a directory without Parquet files"):
        read_all(tmp_path / "empty")


# TMX

HEAD = '<?xml version="1.0"?>\n<tmx version="1.4"><header srclang="en"/><body>'


def tmx(folder: Path, body: str, head: str = HEAD, encoding: str = "utf-8") -> Path:
    path = folder / "a.tmx"
    path.write_bytes((head + body + "</body></tmx>").encode(encoding))
    return path


def unit(*variants: tuple[str, str], inside: str = "") -> str:
    joined = "".join(f'<tuv xml:lang="{language}"><seg>{text}</seg></tuv>' for language, text in variants)
    return f"<tu>{inside}{joined}</tu>\n"


def test_tmx_matches_languages_without_region_and_case(tmp_path: Path) -> None:
    path = tmx(
        tmp_path, unit(("IT-it", "b"), ("en_US", "a")) + unit(("en", "c"), ("it", ""), ("en-GB", "d"), ("fr", "x"))
    )
    pairs, rejects = read_all(path, source_lang="en", target_lang="it")
    assert not rejects
    assert texts(pairs) == [("a", "b"), ("c", ""), ("d", "")]
    assert [(pair["row"], pair["source_lang"], pair["target_lang"]) for pair in pairs] == [
        (n, "en", "it") for n in (1, 2, 3)
    ]
    assert texts(read_all(path, source_lang="en-GB", target_lang="it-IT")[0]) == [("c", ""), ("d", "")]


def test_tmx_without_asked_languages_takes_the_two_there_are(tmp_path: Path) -> None:
    three = unit(("en", "a"), ("it", "b"), ("fr", "c"))
    path = tmx(tmp_path, unit(("it", "b"), ("en-US", "a")) + unit(("en", "x")) + three)
    pairs, rejects = read_all(path)
    assert (texts(pairs), pairs[0]["source_lang"], pairs[0]["target_lang"]) == ([("a", "b")], "en-US", "it")
    assert reasons(rejects) == [(2, "missing_language"), (3, "ambiguous_languages")]
    pairs, rejects = read_all(path, target_lang="it")
    assert (texts(pairs), reasons(rejects)) == ([("a", "b")], [(2, "missing_language"), (3, "ambiguous_languages")])


def test_tmx_drops_native_codes_and_keeps_text(tmp_path: Path) -> None:
    bold = '<bpt i="1">&lt;b&gt;<sub>s</sub></bpt>bold<ept i="1">&lt;/b&gt;</ept>'
    segment = f"a {bold} <hi>high<ph>x</ph></hi>!<!-- no --><?no?> &amp;"
    path = tmx(tmp_path, unit(("en", segment), ("it", "<![CDATA[<c>]]>")))
    assert texts(read_all(path)[0]) == [("a bold high! &", "<c>")]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("<tu/>", "missing_language"),
        ('<tu><tuv xml:lang="en"/><tuv xml:lang="it"><seg>b</seg></tuv></tu>', "broken_unit"),
        ("<tu><tuv><seg>a</seg></tuv></tu>", "broken_unit"),
        ('<tu><tuv xml:lang="en"><seg>a</seg><seg>b</seg></tuv></tu>', "broken_unit"),
        (unit(("en", "x" * 101), ("it", "b")), "line_too_long"),
        (unit(("en", "a"), ("fr", "b")), "missing_language"),
    ],
)
def test_a_tmx_unit_that_cannot_be_read_is_rejected_alone(tmp_path: Path, broken: str, reason: str) -> None:
    good = unit(("en", "a"), ("it", "b"))
    pairs, rejects = read_all(
        tmx(tmp_path, good + broken + good), source_lang="en", target_lang="it", max_line_bytes=100
    )
    assert [pair["row"] for pair in pairs] == [1, 3]
    assert reasons(rejects) == [(2, reason)]
    assert rejects[0].raw.startswith("<tu")


def test_tmx_entities_are_never_expanded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden")
    bomb = "".join(f"<!ENTITY b{number} '{f'&b{number - 1};' * 20}'>" for number in range(1, 12))
    entities = f'<!ENTITY x SYSTEM "{tmp_path}/secret"><!ENTITY b0 "lol">{bomb}'
    head = f'<?xml version="1.0"?><!DOCTYPE tmx [{entities}]><tmx><body>'
    body = unit(("en", "&x;"), ("it", "b")) + unit(("en", "a"), ("it", "&b0;")) + unit(("en", "a"), ("it", "b"))
    pairs, rejects = read_all(tmx(tmp_path, body, head))
    assert texts(pairs) == [("a", "b")]
    assert reasons(rejects) == [(1, "broken_unit"), (2, "broken_unit")]
    assert "hidden" not in rejects[0].raw
    for unit_with_bomb in (unit(("en", "a"), ("it", "&b11;")), '<tu><tuv xml:lang="&b11;"/></tu>'):
        with pytest.raises(InputError, match="broken XML"):
            read_all(tmx(tmp_path, unit_with_bomb, head))


def test_tmx_columns_are_properties(tmp_path: Path) -> None:
    inside = '<prop type="site">example.org</prop><prop type="tool">mt</prop>'
    path = tmx(tmp_path, unit(("en", "a"), ("it", "b"), inside=inside).replace("<tu>", '<tu tuid="7">'))
    pairs, _ = read_all(path, document_column="site", generator_column="tool", keep_columns=("tuid", "none"))
    assert [pairs[0][key] for key in ("document_id", "generator", "extra_tuid", "extra_none")] == [
        "example.org",
        "mt",
        "7",
        None,
    ]
    with pytest.raises(ConfigError, match="TMX has languages, not columns"):
        read_all(path, source_column="1")


def test_tmx_in_utf16_and_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmx(
        tmp_path, unit(("en", "\u00e9"), ("it", "b")), HEAD.replace('"1.0"', '"1.0" encoding="utf-16"'), "utf-16"
    )
    assert texts(read_all(path)[0]) == [("\u00e9", "b")]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"a\.tmx: broken XML: .*line 2"):
        read_all(path)


def test_tmx_memory_is_flat(tmp_path: Path) -> None:
    path = tmx(tmp_path, unit(("en", "a" * 500), ("it", "b" * 500)) * 40_000)
    code = (
        "import resource, sys\nfrom bisift.filter.readers import *\no = ReadOptions(chunk_rows=500)\n"
        "chunks = read(expand([sys.argv[1]], o)[0], o); next(chunks)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(c.pairs.num_rows for c in chunks))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 12 << 10)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["39500", "True"]
