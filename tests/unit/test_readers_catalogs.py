"""PO and MO: what is read, what is rejected and why, and agreement with polib on real catalogs."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import polib
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


CATALOG = r"""# A comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Language: it\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

#: file.py:1
#, python-format
msgctxt "menu"
msgid "Open \"%s\"\n"
msgstr ""
"Apri "
"\"%s\"\n"

msgid "a file"
msgid_plural "%d files"
msgstr[0] "un file"
msgstr[1] "%d file"
#, fuzzy
#| msgid "old"
msgid "guess"
msgstr "forse"

msgid "later"
msgstr ""

msgid "c:\\dir\ttab"
msgstr "è\\"

#~ msgid "gone"
#~ msgstr "andato"
"""


def po(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.po"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_po_entries(tmp_path: Path) -> None:
    path = po(tmp_path, CATALOG)
    pairs, rejects = read_all(path)
    assert texts(pairs) == [
        ('Open "%s"\n', 'Apri "%s"\n'),
        ("a file", "un file"),
        ("%d files", "%d file"),
        ("c:\\dir\ttab", "\u00e8\\"),
    ]
    assert {pair["target_lang"] for pair in pairs} == {"it"}
    assert reasons(rejects) == [(4, "fuzzy"), (5, "untranslated"), (7, "obsolete")]
    assert CATALOG.encode()[rejects[1].byte_offset or 0 :].startswith(b'msgid "later"')
    assert rejects[0].raw.startswith('#, fuzzy\n#| msgid "old"')
    assert read_all(path, target_lang="it_IT", source_lang="en")[0][0]["target_lang"] == "it_IT"


def by_polib(entries: Any) -> list[tuple[str, str]]:
    """Pairs as polib reads them."""
    found = []
    for entry in entries:
        if entry.obsolete or "fuzzy" in getattr(entry, "flags", []):
            continue
        forms = [(entry.msgid, entry.msgstr)]
        if entry.msgid_plural:
            plural = [text for _, text in sorted(entry.msgstr_plural.items())]
            forms = [(entry.msgid, plural[0]), (entry.msgid_plural, plural[-1])]
        found += [form for form in forms if form[1]]
    return found


def catalogs() -> list[Path]:
    """Real catalogs that a test dependency carries."""
    django = Path(pytest.importorskip("django").__file__).parent
    return sorted(django.glob("c*/**/locale/[ijr]*/LC_MESSAGES/*.po"))


def test_po_and_mo_agree_with_polib_on_real_catalogs() -> None:
    paths = catalogs()
    assert len(paths) > 20
    for path in paths:
        assert texts(read_all(path)[0]) == by_polib(polib.pofile(str(path))), path
        compiled = path.with_suffix(".mo")
        pairs, rejects = read_all(compiled)
        assert sorted(texts(pairs)) == sorted(by_polib(polib.mofile(str(compiled)))), compiled
        assert {reject.reason for reject in rejects} <= {"untranslated"}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b'msgid "a"\n', "broken_entry"),
        (b'msgstr "a"\n', "broken_entry"),
        (b'msgid "a"\nmsgid_plural "as"\nmsgstr "b"\n', "broken_entry"),
        (b'msgid "a"\nmsgstr[0] "b"\n', "broken_entry"),
        (b'msgid "a"\nmsgid_plural "as"\nmsgstr[1] "b"\n', "broken_entry"),
        (b'msgid "a"\nmsgstr "b" "c"\n', "broken_entry"),
        (b'msgid "a"\nmsgstr "b\\"\n', "broken_entry"),
        (b'msgid "a"\nmsgstr "\xff"\n', "invalid_utf8"),
        (b'msgid "a"\nmsgstr "\0"\n', "nul_byte"),
        (b'msgid "a"\nmsgstr "\\000"\n', "nul_byte"),
        (b'msgid "a"\nmsgstr "' + b"x" * 300 + b'"\n', "line_too_long"),
        (b'msgid "a"\nmsgstr "b"\n' + b'"x"\n' * 60, "line_too_long"),
    ],
)
@pytest.mark.parametrize("blank", [b"", b"\n"])
def test_a_po_entry_that_cannot_be_read_is_rejected_alone(
    tmp_path: Path, entry: bytes, reason: str, blank: bytes
) -> None:
    good = b'msgctxt "x"\nmsgid "a"\nmsgstr "b"\n'
    pairs, rejects = read_all(po(tmp_path, good + blank + entry + blank + good), max_line_bytes=200)
    assert [pair["row"] for pair in pairs] == [1, 3]
    assert [(r.row, r.byte_offset, r.reason) for r in rejects] == [(2, len(good + blank), reason)]


def test_po_in_another_encoding_and_with_line_separators(tmp_path: Path) -> None:
    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset={}\\n"\n\n'
    entry = 'msgid "a\u00a0"\nmsgstr "\u00e8"\n'
    latin = po(tmp_path, (header.format("ISO-8859-1") + entry).encode("latin-1"))
    assert texts(read_all(latin)[0]) == [("a\u00a0", "\u00e8")]
    for charset in ("CHARSET", "rot13", "utf-16", "unicode_escape", "idna"):
        odd = po(tmp_path, header.format(charset) + entry + '\nmsgid "\u2028"\nmsgstr "\x85"\n')
        assert texts(read_all(odd)[0]) == [("a\u00a0", "\u00e8"), ("\u2028", "\x85")]


def mo(entries: list[tuple[bytes, bytes]], order: str = "<") -> bytes:
    start = 28 + 16 * len(entries)
    tables, data = [b"", b""], b""
    for side in (0, 1):
        for entry in entries:
            tables[side] += struct.pack(order + "2I", len(entry[side]), start + len(data))
            data += entry[side] + b"\0"
    head = struct.pack(order + "7I", 0x950412DE, 0, len(entries), 28, 28 + 8 * len(entries), 0, start)
    return head + tables[0] + tables[1] + data


@pytest.mark.parametrize("order", ["<", ">"])
def test_mo_entries(tmp_path: Path, order: str) -> None:
    entries = [
        (b"", b"Content-Type: text/plain; charset=UTF-8\nLanguage: it\n"),
        (b"menu\x04Open", b"Apri"),
        (b"file\0files", b"un file\0file"),
        (b"later", b""),
        (b"bad", b"\xff"),
        (b"odd", b"a\0b"),
    ]
    path = tmp_path / "a.mo"
    path.write_bytes(mo(entries, order))
    pairs, rejects = read_all(path)
    assert texts(pairs) == [("Open", "Apri"), ("file", "un file"), ("files", "file")]
    assert {pair["target_lang"] for pair in pairs} == {"it"}
    assert reasons(rejects) == [(4, "untranslated"), (5, "invalid_utf8"), (6, "broken_entry")]
    assert read_all(path, target_lang="fr")[0][0]["target_lang"] == "fr"
    data = bytearray(mo(entries, order))
    struct.pack_into(order + "I", data, 28 + 8, 1 << 30)
    path.write_bytes(data)
    assert reasons(read_all(path)[1])[0] == (1, "broken_entry")


def test_a_cut_mo_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mo"
    for size, message in ((10, "ends in its header"), (40, "ends before its tables")):
        path.write_bytes(mo([(b"a", b"b")] * 9)[:size])
        with pytest.raises(InputError, match=message):
            read_all(path)


def test_po_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no columns to choose: 2"):
        read_all(po(tmp_path, CATALOG), target_column="2")
