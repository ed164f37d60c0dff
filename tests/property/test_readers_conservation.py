"""Whatever the bytes: every record is a pair or a reject, numbered once, in any chunks, from any row on."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisift.errors import BisiftError
from bisift.filter.readers import REASONS, ReadOptions, expand, read

LINE = [
    b"a",
    b"\t",
    b",",
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\xff",
    b" ",
    "\u00e9\u2028".encode(),
    b"x" * 40,
    b"\xef\xbb\xbf",
]
PIECES: dict[str, list[bytes]] = {
    "tsv": [*LINE, b"a\tb\n", b"source\ttarget\n", b"\t\t"],
    "csv": [*LINE, b'"', b'""', b'"a\nb",', b'"a",b\n', b"a,b\n", b"source,target\n"],
    "moses": [*LINE, b"a\n", b"b\n"],
    "jsonl": [
        b'{"source": "a", "target": "b"}\n',
        b'{"source": "\\ud800", "target": "b"}\n',
        b'{"source": "\\u0000", "target": "b"}\n',
        b'{"source": null, "target": "b", "generator": []}\n',
        b'{"source": 1, "target": "b"}\n',
        b'{"translation": {"en": "a", "it": "b"}}\n',
        b'{"translation": {"en": "a", "it": 1, "fr": "c"}}\n',
        b'{"translation": 3}\n',
        b"[1]\n",
        b"{",
        b'"',
        b"\\",
        *LINE,
    ],
    "tmx": [
        b'<tu><tuv xml:lang="en"><seg>a</seg></tuv><tuv lang="IT-it"><seg>b<bpt>x</bpt>c</seg></tuv></tu>',
        b'<tu><tuv xml:lang="en"><seg>a</seg></tuv></tu>',
        b"<tu><tuv><seg>&x;</seg></tuv></tu>",
        b'<tu><tuv xml:lang="en"/></tu>',
        b"<tu/>",
        b"<!-- c -->",
        b"<?p i?>",
        b"&amp;",
        b"<tu>",
        b"</tu>",
        b"\n",
    ],
    "po": [
        b'msgid "a"\n',
        b'msgstr "b"\n',
        b'"more"\n',
        b"#, fuzzy\n",
        b'#~ msgid "o"\n',
        b'#~ msgstr "p"\n',
        b'#| msgid "old"\n',
        b'msgid_plural "as"\n',
        b'msgstr[0] "x"\n',
        b'msgstr[1] ""\n',
        b'msgctxt "c"\n',
        b"# c\n",
        b"junk\n",
        b'"',
        b'msgid ""\nmsgstr "Content-Type: text/plain; charset=latin-1\\n"\n\n',
        b'msgid "a\\n\\"q\\" \\x41"\nmsgstr "b\\t"\n\n',
        *LINE,
    ],
}
WRAP = {"tmx": (b'<!DOCTYPE tmx [<!ENTITY x "y">]><tmx><header srclang="en"/><body>', b"</body></tmx>")}


def bodies(kind: str) -> st.SearchStrategy[bytes]:
    head, tail = WRAP.get(kind, (b"", b""))
    pieces = st.lists(st.sampled_from(PIECES[kind]), max_size=25).map(b"".join).map(lambda body: head + body + tail)
    return pieces | st.binary(max_size=60)


def options_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    choices: dict[str, st.SearchStrategy[Any]] = {"max_line_bytes": st.sampled_from([30, 1 << 20])}
    if kind in ("tsv", "csv"):
        choices["header"] = st.sampled_from(["auto", "yes", "no"])
        choices["keep_columns"] = st.sampled_from([(), ("1",), ("3",), ("source",)])
    if kind in ("tmx", "jsonl"):
        choices["source_lang"] = st.sampled_from([None, "en", "it-IT"])
        choices["target_lang"] = st.sampled_from([None, "it", "en-GB"])
    return st.fixed_dictionaries(choices)


def records(paths: list[str], options: ReadOptions, after_row: int = 0) -> list[tuple[int, object]] | str:
    """All records in order, with their row number; or the error that ended the input."""
    found: list[tuple[int, object]] = []
    schemas = set()
    last = after_row
    try:
        (origin,) = expand(paths, options)
        for chunk in read(origin, options, after_row=after_row):
            here: list[tuple[int, object]] = [(pair["row"], pair) for pair in chunk.pairs.to_pylist()]
            here += [(reject.row, reject) for reject in chunk.rejects]
            here.sort(key=lambda record: record[0])
            assert 0 < len(here) <= options.chunk_rows
            assert [row for row, _ in here] == list(range(last + 1, chunk.last_row + 1))
            assert all(reject.reason in REASONS and len(reject.raw) < 5000 for reject in chunk.rejects)
            json.dumps([reject.raw for reject in chunk.rejects], ensure_ascii=False).encode()
            last = chunk.last_row
            schemas.add(chunk.pairs.schema)
            found += here
    except BisiftError as error:
        return str(error)
    assert len(schemas) <= 1
    return found


@pytest.mark.parametrize("kind", PIECES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_records_are_conserved(kind: str, data: st.DataObject) -> None:
    body = data.draw(bodies(kind), "body")
    other = data.draw(st.just(body) | bodies(kind), "other side") if kind == "moses" else b""
    options = ReadOptions(format=kind, chunk_rows=1000, **data.draw(options_of(kind), "options"))
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, "a.en")), str(Path(folder, "a.it"))][: 2 if kind == "moses" else 1]
        for path, content in zip(paths, (body, other), strict=False):
            Path(path).write_bytes(content)
        whole = records(paths, options)
        for size in (1, 7):
            assert records(paths, dataclasses.replace(options, chunk_rows=size)) == whole
        if isinstance(whole, str):
            assert "\n" not in whole
            return
        for after in range(len(whole) + 2):
            assert records(paths, dataclasses.replace(options, chunk_rows=7), after) == whole[after:]


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(st.sampled_from([b"a\tb", b"", b"x", b"\xff\tb", b"\0", b"y" * 40, b"\r"]), max_size=30))
def test_every_tsv_line_is_a_record(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tsv")
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        found = records([str(path)], ReadOptions(max_line_bytes=30, header="no"))
    if isinstance(found, str):
        assert "column 2 asked" in found or "is no text" in found
        assert b"a\tb" not in lines or "is no text" in found
        return
    assert len(found) == len(lines)
    assert [isinstance(record, dict) for _, record in found] == [line == b"a\tb" for line in lines]
