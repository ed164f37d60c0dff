"""Inputs: globs, pairing, formats, compression told by content, stdin, and what identifies a file."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bisift.errors import ConfigError, InputError
from bisift.filter.readers import Chunk, Input, ReadOptions, expand, read

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"".join(f"source {number}\ttarget {number}\n".encode() for number in range(20_000))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00note"


def one(path: Path | str, **options: Any) -> list[Chunk]:
    settings = ReadOptions(**options)
    (origin,) = expand([str(path)], settings)
    return list(read(origin, settings))


def rows(chunks: list[Chunk]) -> int:
    return sum(chunk.pairs.num_rows for chunk in chunks)


@pytest.mark.parametrize("kind", COMPRESS)
def test_compression_is_told_by_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "plain.tsv"
    path.write_bytes(COMPRESS[kind](TEXT))
    chunks = one(path)
    assert rows(chunks) == 20_000
    assert chunks[-1].fraction == 1.0
    path.write_bytes(COMPRESS[kind](TEXT[:1000]) + COMPRESS[kind](TEXT[1000:]))
    assert rows(one(path)) == 20_000
    wrong = tmp_path / f"plain.tsv.{kind}"
    wrong.write_bytes(TEXT)
    assert rows(one(wrong)) == 20_000


def test_a_zstd_file_may_begin_with_a_skippable_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.zst"
    path.write_bytes(SKIPPABLE + zstd.compress(TEXT))
    assert rows(one(path)) == 20_000


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_an_error_that_says_what_to_do(tmp_path: Path, kind: str, share: float) -> None:
    data = COMPRESS[kind](TEXT)
    path = tmp_path / "a.tsv"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"a\.tsv: the \w+ data end too early .*download it again"):
        one(path)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_damaged_file_is_an_error(tmp_path: Path, kind: str) -> None:
    data = bytearray(COMPRESS[kind](TEXT))
    data[len(data) // 2 :] = bytes(byte ^ 0x55 for byte in data[len(data) // 2 :])
    path = tmp_path / "a.tsv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tsv: the \w+ data (are damaged|end too early)"):
        one(path)


def test_a_truncated_compressed_tmx_is_not_taken_for_broken_xml(tmp_path: Path) -> None:
    unit = '<tu><tuv xml:lang="en"><seg>a{0}</seg></tuv><tuv xml:lang="it"><seg>b{0}</seg></tuv></tu>'
    body = "".join(unit.format(number) for number in range(5000))
    path = tmp_path / "a.tmx"
    path.write_bytes(gzip.compress(f"<tmx><body>{body}</body></tmx>".encode())[:-500])
    with pytest.raises(InputError, match="gzip data end too early"):
        one(path)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.tsv", "x", "tsv"),
        ("a.CSV.gz", "x", "csv"),
        ("a.ndjson", "x", "jsonl"),
        ("a.tmx.zst", "x", "tmx"),
        ("a.mo", "x", "po"),
        ("a.txt", "a\tb\n", "tsv"),
        ("a.json", '{"source": "a", "target": "b"}\n', "jsonl"),
        ("a.json", '{"source": \n', "tsv"),
        ("a.dat", '\ufeff <?xml version="1.0"?><tmx/>', "tmx"),
        ("a", '# x\nmsgid ""\nmsgstr ""\n', "po"),
        ("a", "PAR1", "parquet"),
        ("a", "", "tsv"),
    ],
)
def test_auto_tells_the_format_by_name_then_content(tmp_path: Path, name: str, content: str, kind: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert expand([str(path)], ReadOptions())[0].format == kind
    assert expand([str(path)], ReadOptions(format="csv"))[0].format == "csv"


def test_globs_are_sorted_and_inputs_keep_their_order(tmp_path: Path) -> None:
    for name in ("b.tsv", "a.tsv", "c[1].tsv", "d.tsv"):
        (tmp_path / name).write_text("a\tb\n")
    found = expand([str(tmp_path / "d.tsv"), str(tmp_path / "[ab].tsv"), str(tmp_path / "c[1].tsv")], ReadOptions())
    assert [Path(origin.origin).name for origin in found] == ["d.tsv", "a.tsv", "b.tsv", "c[1].tsv"]
    with pytest.raises(InputError, match=r"\*\.nix: no file matches"):
        expand([str(tmp_path / "*.nix")], ReadOptions())
    with pytest.raises(InputError, match=r"none\.tsv: no such file"):
        expand([str(tmp_path / "none.tsv")], ReadOptions())


def moses(folder: Path, *names: str, **options: Any) -> list[Input]:
    for name in names:
        (folder / name).write_text("a\n")
    return expand([str(folder / name) for name in names], ReadOptions(**options))


@pytest.mark.parametrize(
    "names", [("c.en", "c.it"), ("c.en.gz", "c.it.gz"), ("c.pt_BR", "c.zh-Hant"), ("x.tok.en", "x.tok.it.zst")]
)
def test_files_that_differ_in_a_language_are_a_moses_pair(tmp_path: Path, names: tuple[str, str]) -> None:
    (origin,) = moses(tmp_path, *names)
    assert (origin.format, origin.origin) == ("moses", str(tmp_path / names[0]))
    assert [Path(path).name for path in origin.paths] == list(names)


@pytest.mark.parametrize(
    "names", [("c.en", "d.it"), ("c.en", "c.tsv"), ("c.en", "c.en.gz"), ("c.mo", "c.po"), ("c", "d")]
)
def test_other_files_are_not_a_pair(tmp_path: Path, names: tuple[str, str]) -> None:
    assert len(moses(tmp_path, *names)) == 2


def test_moses_by_option(tmp_path: Path) -> None:
    found = moses(tmp_path, "x.src", "x.tgt", "c.it", "c.en", format="moses", source_lang="en", target_lang="it")
    assert [[Path(path).name for path in origin.paths] for origin in found] == [["x.src", "x.tgt"], ["c.en", "c.it"]]
    with pytest.raises(ConfigError, match=r"Moses files come in pairs"):
        moses(tmp_path, "a.en", "a.it", "a.fr", format="moses")
    with pytest.raises(ConfigError, match="the endings say en and it, the options fr and any"):
        moses(tmp_path, "c.en", "c.it", source_lang="fr")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tvs"}, "unknown format 'tvs'; did you mean 'tsv'"),
        ({"header": "maybe"}, "unknown header option"),
        ({"generator": "x", "generator_column": "y"}, "exclude each other"),
        ({"source_column": "2", "target_column": "2"}, "the same column: 2"),
        ({"source_lang": "en", "target_lang": "en"}, "the same language: en"),
        ({"keep_columns": ("0",)}, "counted from 1"),
        ({"chunk_rows": 0}, "at least 1"),
    ],
)
def test_contradicting_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand([], ReadOptions(**options))


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\n")
    (origin,) = expand([str(path)], ReadOptions())
    status = path.stat()
    expected = {"paths": [str(path)], "format": "tsv", "size": 4, "mtime": status.st_mtime_ns}
    assert json.loads(json.dumps(origin.identity)) == expected
    os.utime(path, ns=(0, 5))
    assert expand([str(path)], ReadOptions())[0].identity["mtime"] == 5


class Pipe(io.RawIOBase):
    """A pipe that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._data.read(min(1, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfa\tb\nc\td\n",
        gzip.compress(b"a\tb\nc\td\n"),
        b'{"source": "a", "target": "b"}\n{"source": "c", "target": "d"}\n',
        b'msgid "a"\nmsgstr "b"\nmsgid "c"\nmsgstr "d"\n',
    ],
)
def test_stdin_is_looked_at_too(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Pipe(data), 1)))
    (origin,) = expand(["-"], ReadOptions())
    assert (origin.identity["size"], origin.identity["mtime"]) == (None, None)
    (chunk,) = read(origin, ReadOptions())
    assert chunk.pairs.select(["source", "target", "origin"]).to_pylist() == [
        {"source": "a", "target": "b", "origin": "-"},
        {"source": "c", "target": "d", "origin": "-"},
    ]
    assert chunk.fraction is None


def test_stdin_has_limits() -> None:
    with pytest.raises(ConfigError, match="only once"):
        expand(["-", "-"], ReadOptions())
    with pytest.raises(ConfigError, match="Parquet cannot be read from stdin"):
        expand(["-"], ReadOptions(format="parquet"))
    with pytest.raises(ConfigError, match="Moses pair cannot be read from stdin"):
        expand(["-", "x"], ReadOptions(format="moses"))
