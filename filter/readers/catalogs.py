"""Message catalogs of gettext: PO, read entry by entry, and MO. polib is the reference that tests compare with."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from bisift.errors import ConfigError, InputError
from bisift.filter.readers.base import Broken, ReadOptions, Record, Records
from bisift.filter.readers.columns import asked
from bisift.filter.readers.lines import Line, Lines
from bisift.filter.readers.streams import Stream

MO_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}
MO_LIMIT = 1 << 30
"""Bytes of the largest MO file that is read: its tables point anywhere, so it is held as a whole."""

_LINE = re.compile(rb'(?:(msgctxt|msgid_plural|msgid|msgstr(?:\[\d{1,3}\])?)\s*)?"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "b": "\b", "f": "\f", "a": "\a"}
# Text that every encoding which PO can use reads as ASCII does; idna, utf-7 and Python's own escapes do not.
_PROBE = b"xn--mxa." + bytes(code for code in range(0x20, 0x7F) if code != 0x5C) + b"\\n\\u0041"


def open_catalog(stream: Stream, options: ReadOptions) -> Records:
    """Return the reader of a PO or MO file, told by its first bytes.

    Raises:
        ConfigError: columns are asked for.
        InputError: neither text nor a MO file.
    """
    if asked(options):
        raise ConfigError(f"{stream.name}: PO and MO have no columns to choose: {', '.join(asked(options).values())}")
    head = stream.peek()
    if head[:4] in MO_MAGIC:
        return Mo(stream, MO_MAGIC[head[:4]], options)
    return Po(stream, options)


@dataclass(slots=True)
class _Entry:
    """An entry of a PO file while its lines come in; `fields` are the strings by keyword, still escaped."""

    offset: int
    raw: list[bytes] = field(default_factory=list)
    size: int = 0
    fields: dict[bytes, list[bytes]] = field(default_factory=dict)
    current: bytes = b""
    reason: str | None = None
    fuzzy: bool = False
    obsolete: bool = False

    @property
    def translated(self) -> bool:
        return self.current.startswith(b"msgstr")


class Po:
    """Entries of a PO file: singular and last plural form are a record each, the header is none.

    Broken lines reject their own entry. Encoding and, where it is not asked for, the target language are the header's.
    """

    columns: tuple[str, ...] = ("source", "target", "target_lang")

    def __init__(self, stream: Stream, options: ReadOptions) -> None:
        stream.check_text()
        self._limit = options.max_line_bytes
        self._lines = Lines(stream, options.max_line_bytes)
        self._encoding = "utf-8"
        self._language: str | None = None
        self._asked = options.target_lang

    def records(self, skip: int) -> Iterator[Record]:
        """Yield the records after the first `skip`."""
        number = 0
        for entry in self._entries():
            for record in self._records(entry):
                if number >= skip:
                    yield record
                number += 1

    def _entries(self) -> Iterator[_Entry]:
        entry: _Entry | None = None
        for line in self._lines:
            text = line.data.strip()
            obsolete = text.startswith(b"#~") and not text.startswith(b"#~|")
            if obsolete:
                text = text[2:].strip()
            if entry is not None and _begins(entry, text):
                yield entry
                entry = None
            if text:
                entry = entry or _Entry(line.offset)
                self._add(entry, line, text, obsolete=obsolete)
        if entry is not None:
            yield entry

    def _add(self, entry: _Entry, line: Line, text: bytes, *, obsolete: bool) -> None:
        entry.size += len(line.data) + 1
        if line.too_long or entry.size > self._limit:
            entry.reason = "line_too_long"
            entry.raw = entry.raw or [line.data]
            return
        entry.raw.append(line.data)
        if text.startswith(b"#"):
            flags = text[2:].replace(b",", b" ").split() if text.startswith(b"#,") else []
            entry.fuzzy |= b"fuzzy" in flags
            return
        entry.obsolete |= obsolete
        match = _LINE.fullmatch(text)
        if match is None or (match[1] is None and not entry.current):
            entry.reason = entry.reason or "broken_entry"
            return
        if match[1] is not None:
            entry.current = match[1]
            if entry.current in entry.fields:
                entry.reason = entry.reason or "broken_entry"
            entry.fields[entry.current] = []
        entry.fields[entry.current].append(match[2])

    def _records(self, entry: _Entry) -> Iterator[Record]:
        if not entry.fields and entry.reason is None:
            return  # comments alone
        raw = b"\n".join(entry.raw)
        reason = entry.reason or ("nul_byte" if b"\0" in raw else None)
        fields: dict[str, str] = {}
        if reason is None:
            try:
                fields = {name.decode(): self._text(parts) for name, parts in entry.fields.items()}
            except UnicodeError:
                reason = "invalid_utf8"
        forms = sorted((int(name[7:-1]), text) for name, text in fields.items() if name.startswith("msgstr["))
        plural = "msgid_plural" in fields
        whole = "msgid" in fields and (bool(forms) and "msgstr" not in fields if plural else "msgstr" in fields)
        if reason is None and (not whole or (forms and not plural) or (plural and forms[0][0] != 0)):
            reason = "broken_entry"
        if reason is None and not fields["msgid"] and "msgctxt" not in fields:
            self._encoding, self._language = _header(fields.get("msgstr", ""))
            return
        if reason is None and (entry.obsolete or entry.fuzzy):
            reason = "obsolete" if entry.obsolete else "fuzzy"
        if reason is not None:
            yield Broken(entry.offset, reason, raw)
            return
        pairs = [(fields["msgid"], fields["msgstr"])] if not plural else []
        if plural:
            pairs = [(fields["msgid"], forms[0][1]), (fields["msgid_plural"], forms[-1][1])]
        yield from _checked(pairs, self._asked or self._language, entry.offset, raw)

    def _text(self, parts: list[bytes]) -> str:
        return _ESCAPE.sub(_unescape, b"".join(parts).decode(self._encoding))


class Mo:
    """Entries of a MO file (docs: GNU gettext, The Format of GNU MO Files), in its order."""

    columns: tuple[str, ...] = ("source", "target", "target_lang")

    def __init__(self, stream: Stream, order: str, options: ReadOptions) -> None:
        self._asked = options.target_lang
        parts: list[bytes] = []
        size = 0
        while data := stream.read(1 << 20):
            parts.append(data)
            size += len(data)
            if size > MO_LIMIT:
                raise InputError(f"{stream.name}: a MO file over {MO_LIMIT >> 30} GiB: give the PO file")
        self._data = b"".join(parts)
        if size < 20:
            raise InputError(f"{stream.name}: the MO file ends in its header: copy or download it again")
        self._order = order
        revision, self._count, self._ids, self._texts = struct.unpack_from(order + "4I", self._data, 4)
        if revision >> 16 > 1:
            raise InputError(f"{stream.name}: MO revision {revision >> 16} is not known")
        if max(self._ids, self._texts) + 8 * self._count > size:
            raise InputError(f"{stream.name}: the MO file ends before its tables: copy or download it again")

    def records(self, skip: int) -> Iterator[Record]:
        """Yield the records after the first `skip`."""
        number = 0
        encoding, language = "utf-8", None
        for index in range(self._count):
            offset, key = self._string(self._ids, index)
            _, value = self._string(self._texts, index)
            if key == b"":
                encoding, language = _header((value or b"").decode("utf-8", "replace"))
                continue
            for record in _mo_records(key, value, encoding, self._asked or language, offset):
                if number >= skip:
                    yield record
                number += 1

    def _string(self, table: int, index: int) -> tuple[int, bytes | None]:
        length, offset = struct.unpack_from(self._order + "2I", self._data, table + 8 * index)
        inside = offset + length <= len(self._data)
        return offset, self._data[offset : offset + length] if inside else None


def _mo_records(
    key: bytes | None, value: bytes | None, encoding: str, language: str | None, offset: int
) -> Iterator[Record]:
    if key is None or value is None:
        yield Broken(offset, "broken_entry", key or b"")
        return
    ids = key.rpartition(b"\x04")[2].split(b"\0")
    texts = value.split(b"\0")
    pairs = [(ids[0], texts[0])] if len(ids) == 1 else [(ids[0], texts[0]), (ids[1], texts[-1])]
    if len(ids) > 2 or (len(ids) == 1 and len(texts) > 1):
        yield Broken(offset, "broken_entry", key)
        return
    try:
        decoded = [(source.decode(encoding), target.decode(encoding)) for source, target in pairs]
    except UnicodeError:
        yield Broken(offset, "invalid_utf8", key)
        return
    yield from _checked(decoded, language, offset, key)


def _checked(pairs: list[tuple[str, str]], language: str | None, offset: int, raw: bytes) -> Iterator[Record]:
    for source, target in pairs:
        if not target and source:
            yield Broken(offset, "untranslated", raw)
        elif "\0" in source or "\0" in target:
            yield Broken(offset, "nul_byte", raw)
        else:
            yield source, target, language


def _begins(entry: _Entry, text: bytes) -> bool:
    """Whether a line begins the next entry: it cannot belong to this one, or this one is broken."""
    if not text:  # a blank line means nothing to gettext, but is where a reader finds its feet again
        return entry.reason is not None
    broken = entry.reason is not None
    if text.startswith(b"#"):
        return entry.translated or broken
    if text.startswith(b"msgctxt"):
        return bool(entry.fields) or broken
    if text.startswith(b"msgid") and not text.startswith(b"msgid_plural"):
        return entry.translated or b"msgid" in entry.fields or broken
    return text.startswith(b"msgstr") and not text.startswith(b"msgstr[") and entry.translated


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8))
    return _ESCAPES.get(code, code)


def _header(text: str) -> tuple[str, str | None]:
    """Return the encoding and the language that a header entry declares."""
    charset = re.search(r"^Content-Type:.*?charset=([\w:.-]+)", text, re.MULTILINE | re.IGNORECASE)
    language = re.search(r"^Language:[ \t]*([\w@.-]+)", text, re.MULTILINE)
    encoding = charset[1] if charset else "utf-8"
    try:
        usable = _PROBE.decode(encoding) == _PROBE.decode("ascii")
    except (LookupError, ValueError):
        usable = False
    return (encoding if usable else "utf-8"), (language[1] if language else None)
