"""TSV, CSV, JSONL and Moses: what is read, what is rejected and why, and what ends a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bisift.contract import PAIR, pair_ids
from bisift.errors import ConfigError, InputError
from bisift.filter.readers import REASONS, ReadOptions, Reject, expand, read


def read_all(*paths: Path, after_row: int = 0, **options: Any) -> tuple[list[dict[str, Any]], list[Reject]]:
    settings = ReadOptions(**options)
    pairs: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for origin in expand([str(path) for path in paths], settings):
        for chunk in read(origin, settings, after_row=after_row):
            assert chunk.pairs.schema.names[: len(PAIR)] == PAIR.names
            pairs += chunk.pairs.to_pylist()
            rejects += chunk.rejects
    assert all(reject.reason in REASONS for reject in rejects)
    return pairs, rejects


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def texts(pairs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(pair["source"], pair["target"]) for pair in pairs]


def test_tsv_rows_become_pairs_with_identity_and_origin(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "Hello\tCiao\tx\r\n\t\n")
    pairs, rejects = read_all(path, source_lang="en", target_lang="it", generator="human")
    assert not rejects
    assert pairs[0] == {
        "pair_id": pair_ids(["en"], ["it"], ["Hello"], ["Ciao"])[0].as_py(),
        "source": "Hello",
        "target": "Ciao",
        "source_lang": "en",
        "target_lang": "it",
        "document_id": None,
        "generator": "human",
        "origin": str(path),
        "row": 1,
    }
    assert texts(pairs)[1] == ("", "")  # an empty string can be read


def test_nothing_but_lf_ends_a_line_and_text_stays_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "\ufeff a\u2028b \tc\rd\u0085\x0b\n\u00e9\tx\r\r\n")
    assert texts(read_all(path)[0]) == [(" a\u2028b ", "c\rd\u0085\x0b"), ("\u00e9", "x\r")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"only one", "too_few_columns"),
        (b"", "blank_line"),
        (b" \r", "blank_line"),
        (b"a\xff\tb", "invalid_utf8"),
        (b"a\0\tb", "nul_byte"),
        (b"a\xff\0\tb", "nul_byte"),
        (b"a\t" + b"b" * 99, "line_too_long"),
    ],
)
def test_a_tsv_line_that_cannot_be_read_is_rejected_alone(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path, "a.tsv", b"\xef\xbb\xbfa\tb\n" + line + b"\nc\td")
    pairs, rejects = read_all(path, max_line_bytes=100)
    assert texts(pairs) == [("a", "b"), ("c", "d")]
    assert [pair["row"] for pair in pairs] == [1, 3]
    assert [(r.file, r.row, r.byte_offset, r.reason) for r in rejects] == [(str(path), 2, 7, reason)]
    assert rejects[0].raw.startswith(line[:1].decode())
    json.dumps(rejects[0].raw).encode()


def test_a_reject_holds_the_first_kibibyte_escaped(tmp_path: Path) -> None:
    rejects = read_all(write(tmp_path, "a.tsv", b"a\0\xff" + b"\xc3\xa9" * 2000 + b"\n"))[1]
    assert rejects[0].raw.startswith("a\\x00\\xff\u00e9")
    assert rejects[0].raw.endswith("\\xc3")
    assert rejects[0].raw.count("\u00e9") == 510


@pytest.mark.parametrize("size", [3, 100, 1 << 18, (1 << 18) + 1, 3 << 18])
def test_lines_around_the_limit_and_the_block(tmp_path: Path, size: int) -> None:
    fits, over = b"a\t" + b"b" * (size - 2), b"a\t" + b"b" * (size - 1)
    path = write(tmp_path, "a.tsv", b"\n".join([fits, over, b"c\td", over, over, fits]))
    pairs, rejects = read_all(path, max_line_bytes=size)
    assert [pair["row"] for pair in pairs] == [1, 3, 6]
    assert [r.byte_offset for r in rejects] == [size + 1, 2 * size + 7, 3 * size + 9]
    assert {r.reason for r in rejects} == {"line_too_long"}


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_header_names_columns_and_pairs_own_names_are_used(tmp_path: Path, name: str) -> None:
    mark = "\t" if name == "a.tsv" else ","
    rows = [
        ["target_lang", "url", "target", "source", "document_id", "generator"],
        ["it", "u1", "Ciao", "Hello", "d1", ""],
        ["", "u2", "Si", "Yes", "", "gpt"],
    ]
    path = write(tmp_path, name, "".join(mark.join(row) + "\n" for row in rows))
    pairs, rejects = read_all(path, target_lang="xx", generator="human", keep_columns=("url", "1"))
    assert not rejects
    assert texts(pairs) == [("Hello", "Ciao"), ("Yes", "Si")]
    keys = ("target_lang", "document_id", "generator", "extra_url", "extra_target_lang", "row")
    assert [tuple(pair[key] for key in keys) for pair in pairs] == [
        ("it", "d1", "human", "u1", "it", 1),
        ("xx", None, "gpt", "u2", "", 2),
    ]


def test_columns_by_name_and_number_override(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "source\ttarget\tother\tdoc\na\tb\tc\td\n")
    pairs, _ = read_all(path, target_column="3", document_column="doc")
    assert (pairs[0]["target"], pairs[0]["document_id"]) == ("c", "d")
    path = write(tmp_path, "b.tsv", "x\ta\tb\nshort\tc\n")
    pairs, rejects = read_all(path, source_column="2", target_column="3", keep_columns=("1",))
    assert (texts(pairs), pairs[0]["extra_1"]) == ([("a", "b")], "x")
    assert rejects[0].reason == "too_few_columns"


@pytest.mark.parametrize("header", ["auto", "yes", "no"])
def test_header_option(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, "a.tsv", "source\ttarget\na\tb\n")
    assert len(read_all(path, header=header)[0]) == (2 if header == "no" else 1)


def test_a_wrong_column_is_one_helpful_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "title\ten\tit\na\tb\tc\n")
    with pytest.raises(InputError, match=r"a\.tsv: column 5 asked, the file has 3: title, en, it$"):
        read_all(path, header="yes", source_column="5")
    with pytest.raises(InputError, match=r"a\.tsv: column 5 asked, the file has 3$"):
        read_all(path, target_column="5")
    with pytest.raises(InputError, match="no column 'titel'; did you mean 'title'"):
        read_all(path, source_column="titel")
    with pytest.raises(ConfigError, match="by name, but without a header"):
        read_all(path, source_column="title", header="no")
    with pytest.raises(InputError, match="both column 2"):
        read_all(path, source_column="2")
    with pytest.raises(InputError, match=r"header cannot be read \(invalid_utf8\)"):
        read_all(write(tmp_path, "b.tsv", b"\xff\tx\na\tb\n"), header="yes")


def test_one_column_alone_is_a_reject_but_a_file_of_them_is_an_error(tmp_path: Path) -> None:
    assert len(read_all(write(tmp_path, "few.tsv", "x\n" * 9))[1]) == 9
    with pytest.raises(InputError, match=r"column 2 asked, the file has 1 .another separator"):
        read_all(write(tmp_path, "many.tsv", "x\n" * 10))


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.po", "a.tmx", "a"])
def test_an_empty_file_has_no_records(tmp_path: Path, name: str) -> None:
    assert read_all(write(tmp_path, name, "")) == ([], [])


def test_only_a_header_has_no_records(tmp_path: Path) -> None:
    assert read_all(write(tmp_path, "a.tsv", "source\ttarget\n")) == ([], [])
    assert read_all(write(tmp_path, "a.csv", "x,y"), header="yes") == ([], [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a.tsv: is no text but a PNG image"),
        ("a\tb\n".encode("utf-16"), "UTF-16 text"),
        (b"PAR1....", "a Parquet file: give --format parquet"),
        (bytes(range(256)) * 9, "control bytes"),
    ],
)
def test_a_binary_file_is_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_all(write(tmp_path, "a.tsv", data))


def test_csv_quoting(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", '"a, ""b""\nc",d\r\n5" disk,x\n"e","f\r\ng"\r\nh\ri,j\n')
    pairs, rejects = read_all(path)
    assert not rejects
    assert texts(pairs) == [('a, "b"\nc', "d"), ('5" disk', "x"), ("e", "f\r\ng"), ("h\ri", "j")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"one", "too_few_columns"),
        (b"", "blank_line"),
        (b"a,\xff", "invalid_utf8"),
        (b'"a\xff\n",b', "invalid_utf8"),
        (b'"a\0",b', "nul_byte"),
        (b'x\ry,"b"', "broken_csv"),
        (b"a," + b"b" * 99, "line_too_long"),
    ],
)
def test_a_csv_record_that_cannot_be_read_is_rejected_alone(tmp_path: Path, line: bytes, reason: str) -> None:
    pairs, rejects = read_all(write(tmp_path, "a.csv", b"a,b\n" + line + b"\nc,d\n"), max_line_bytes=100)
    assert texts(pairs) == [("a", "b"), ("c", "d")]
    assert [(r.row, r.byte_offset, r.reason) for r in rejects] == [(2, 4, reason)]


def test_an_open_quote_costs_its_own_line_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'a,b\n"open,c\nd,e\n"f","g\nh"\ni,j\n')
    pairs, rejects = read_all(path, max_line_bytes=9)
    assert [r.reason for r in rejects] == ["unclosed_quote"]
    assert texts(pairs) == [("a", "b"), ("d", "e"), ("f", "g\nh"), ("i", "j")]
    path = write(tmp_path, "b.csv", 'a,b\n"open,c\n' + "d,e\n" * 50)
    pairs, rejects = read_all(path)
    assert (len(pairs), [(r.row, r.reason) for r in rejects]) == (51, [(2, "unclosed_quote")])


def test_jsonl_keys(tmp_path: Path) -> None:
    row = {
        "source": "a",
        "target": "b",
        "source_lang": "en",
        "document_id": 7,
        "generator": "",
        "n": {"x": 1},
        "z": "\u00e9",
    }
    path = write(tmp_path, "a.jsonl", "\ufeff" + json.dumps(row) + "\r\n" + json.dumps({"source": "c", "target": "d"}))
    pairs, rejects = read_all(path, keep_columns=("n", "z"), generator="human")
    assert not rejects
    keys = ("source", "source_lang", "document_id", "generator", "extra_n", "extra_z")
    assert [tuple(pair[key] for key in keys) for pair in pairs] == [
        ("a", "en", "7", "human", '{"x": 1}', "\u00e9"),
        ("c", None, None, "human", None, None),
    ]
    pairs, _ = read_all(path, source_column="z", target_column="2", max_line_bytes=1000)
    assert texts(pairs) == [("\u00e9", "b")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "blank_line"),
        (b"{", "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"source": ' + b"9" * 5000 + b"}", "broken_json"),
        (b"[1]", "not_an_object"),
        (b'{"source": "a"}', "missing_field"),
        (b'{"source": "a", "target": null}', "null"),
        (b'{"source": 1, "target": "b"}', "not_a_string"),
        (b'{"source": "\\ud800", "target": "b"}', "lone_surrogate"),
        (b'{"source": "a", "target": "b", "document_id": "\\udfff"}', "lone_surrogate"),
        (b'{"source": "\\u0000", "target": "b"}', "nul_byte"),
        (b'{"source": "\0", "target": "b"}', "nul_byte"),
        (b'{"source": "\xff", "target": "b"}', "invalid_utf8"),
        (b'{"source": "' + b"a" * 200_000 + b'", "target": "b"}', "line_too_long"),
        (b'{"translation": null}', "null"),
        (b'{"translation": "a"}', "not_a_string"),
        (b'{"translation": {"en": "a"}}', "missing_language"),
        (b'{"translation": {"en": "a", "it": 1}}', "not_a_string"),
        (b'{"translation": {"en": "a", "en-US": "b", "it": "c"}}', "ambiguous_languages"),
    ],
)
def test_a_json_line_that_cannot_be_read_is_rejected_alone(tmp_path: Path, line: bytes, reason: str) -> None:
    good = b'{"source": "a", "target": "b"}\n'
    language = "it" if b"en-US" in line else None
    pairs, rejects = read_all(
        write(tmp_path, "a.jsonl", good + line + b"\n" + good), max_line_bytes=200_000, target_lang=language
    )
    assert [pair["row"] for pair in pairs] == [1, 3]
    assert [(r.row, r.byte_offset, r.reason) for r in rejects] == [(2, len(good), reason)]


def test_translation_objects(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"translation": {"en": "a", "it": "b"}}\n')
    pairs, _ = read_all(path)
    assert (texts(pairs), pairs[0]["source_lang"], pairs[0]["target_lang"]) == ([("a", "b")], "en", "it")
    pairs, _ = read_all(path, source_lang="it", target_lang="en-GB")
    assert (texts(pairs), pairs[0]["source_lang"], pairs[0]["target_lang"]) == ([("b", "a")], "it", "en-GB")
    assert texts(read_all(path, source_lang="it")[0]) == [("b", "a")]
    path = write(tmp_path, "b.jsonl", '{"translation": {"en": "a", "it": "b", "fr": "c"}}\n')
    assert texts(read_all(path, source_lang="fr", target_lang="it")[0]) == [("c", "b")]
    assert read_all(path)[1][0].reason == "ambiguous_languages"
    assert read_all(path, source_lang="en")[1][0].reason == "ambiguous_languages"
    assert read_all(path, source_lang="en", target_lang="en-US")[1][0].reason == "missing_language"


def test_jsonl_without_the_key_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"en": "a", "it": "b"}\n' * 10)
    with pytest.raises(InputError, match=r"no keys 'source' and 'target'.*en, it"):
        read_all(path)
    with pytest.raises(InputError, match="no column 'itt'; did you mean 'it'"):
        read_all(path, source_column="en", target_column="itt")


def test_moses_pairs_take_languages_from_the_endings(tmp_path: Path) -> None:
    en, it = write(tmp_path, "c.en", "a\n\nc\r\n"), write(tmp_path, "c.it", "x\ny\nz")
    pairs, rejects = read_all(en, it)
    assert not rejects
    assert texts(pairs) == [("a", "x"), ("", "y"), ("c", "z")]
    assert {(pair["source_lang"], pair["target_lang"], pair["origin"]) for pair in pairs} == {("en", "it", str(en))}
    pairs, _ = read_all(tmp_path / "c.*", source_lang="it-IT", target_lang="en")
    assert (texts(pairs)[0], pairs[0]["source_lang"]) == (("x", "a"), "it-IT")


def test_moses_rejects_name_the_broken_side(tmp_path: Path) -> None:
    en = write(tmp_path, "c.en", b"a\nb\nc\xff\nd\n" + b"e" * 50 + b"\nf")
    it = write(tmp_path, "c.it", b"a\nb\0\nc\nd\ne\nf")
    pairs, rejects = read_all(en, it, max_line_bytes=20)
    assert [pair["row"] for pair in pairs] == [1, 4, 6]
    assert [(r.file, r.row, r.byte_offset, r.reason) for r in rejects] == [
        (str(it), 2, 2, "nul_byte"),
        (str(en), 3, 4, "invalid_utf8"),
        (str(en), 5, 9, "line_too_long"),
    ]


@pytest.mark.parametrize("after_row", [0, 2, 5])
def test_moses_of_unequal_length_names_both_counts(tmp_path: Path, after_row: int) -> None:
    en, it = write(tmp_path, "c.en", "a\n" * 3), write(tmp_path, "c.it", "a\n" * 5)
    with pytest.raises(InputError, match=r"c\.en has 3 lines, .*c\.it has 5 lines"):
        read_all(en, it, after_row=after_row)
    with pytest.raises(InputError, match=r"c\.it has 5 lines, .*c\.en has 3 lines"):
        read_all(it, en, after_row=after_row)


def test_resume_gives_the_rest_in_any_chunks(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "".join(f"a{i}\tb{i}\n" if i % 3 else "bad\n" for i in range(50)))
    pairs, rejects = read_all(path)
    for after in (1, 7, 49, 50, 60):
        rest = read_all(path, after_row=after, chunk_rows=4)
        assert rest == ([p for p in pairs if p["row"] > after], [r for r in rejects if r.row > after])


def test_chunks_say_how_far_the_input_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "a\tb\n" * 200_000)
    options = ReadOptions(chunk_rows=50_000)
    (origin,) = expand([str(path)], options)
    chunks = list(read(origin, options))
    assert [chunk.last_row for chunk in chunks] == [50_000, 100_000, 150_000, 200_000]
    fractions = [chunk.fraction or 0.0 for chunk in chunks]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 0.6
    assert fractions[-1] == 1.0
    assert len({chunk.pairs.schema for chunk in chunks}) == 1
    assert isinstance(chunks[0].pairs, pa.Table)


def test_a_huge_line_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    with open(path, "wb") as file:
        file.write(b"a\tb\n")
        for _ in range(160):
            file.write(b"x" * (1 << 20))
        file.write(b"\nc\td\n")
    code = (
        "import resource, sys\nfrom bisift.filter.readers import *\no = ReadOptions()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "chunks = list(read(expand([sys.argv[1]], o)[0], o))\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "print(chunks[0].pairs.num_rows, len(chunks[0].rejects[0].raw), grown < 40 << 10)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["2", "1024", "True"]


def test_importing_the_readers_is_light() -> None:
    heavy = "{'lxml', 'polib', 'backports.zstd', 'pyarrow.parquet', 'pyarrow.fs', 'pyarrow.csv'}"
    code = f"import sys, bisift.filter.readers; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
