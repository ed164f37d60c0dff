"""JSONL: an object a line, with the pair's names, the keys asked for, or a `translation` object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bisift.config import nearest
from bisift.errors import InputError, RecordError
from bisift.filter.readers import columns
from bisift.filter.readers.base import METADATA, Broken, ReadOptions, Record, is_number
from bisift.filter.readers.languages import choose
from bisift.filter.readers.lines import Line, Lines, head_lines
from bisift.filter.readers.streams import Stream

TRANSLATION = "translation"


class JsonLines:
    """Records of objects.

    Raises:
        InputError: no text, or none of the first objects has a key that is needed.
    """

    header = 0

    def __init__(self, stream: Stream, options: ReadOptions) -> None:
        stream.check_text()
        self._options = options
        self._lines = Lines(stream, options.max_line_bytes)
        asked = columns.asked(options)
        self._keys = {name: asked.get(name, name) for name in ("source", "target", *METADATA)} | asked
        self._nested = "source" not in asked and "target" not in asked
        self.columns = tuple(self._keys)
        self._check(stream, options)

    def _check(self, stream: Stream, options: ReadOptions) -> None:
        seen: list[dict[str, Any]] = []
        for line in head_lines(stream, options.max_line_bytes):
            try:
                seen.append(_parse(line))
            except RecordError:
                continue
        for name in columns.asked(options):
            key = self._keys[name]
            if seen and not any(_has(value, key) for value in seen):
                names = list(dict.fromkeys(key for value in seen for key in value))
                raise InputError(f"{stream.name}: no column {key!r}{nearest(key, columns.shown(names))}")
        pairs = sum(1 for value in seen if self._has_pair(value))
        if len(seen) >= columns.EVIDENCE and not pairs:
            names = list(dict.fromkeys(key for value in seen for key in value))
            raise InputError(
                f"{stream.name}: no keys 'source' and 'target': name them; "
                f"the first lines have {', '.join(columns.shown(names))}"
            )

    def _has_pair(self, value: dict[str, Any]) -> bool:
        nested = self._nested and TRANSLATION in value
        return nested or all(_has(value, self._keys[side]) for side in ("source", "target"))

    def records(self, skip: int) -> Iterator[Record]:
        """Yield the lines after the first `skip`."""
        self._lines.skip(skip)
        yield from self._records()

    def between(self, begin: int, end: int) -> Iterator[Record]:
        """Yield the lines that begin at byte `begin` to `end`, the end left out."""
        self._lines.between(begin, end)
        yield from self._records()

    def _records(self) -> Iterator[Record]:
        for line in self._lines:
            try:
                yield self._record(_parse(line))
            except RecordError as error:
                yield Broken(line.offset, str(error), line.data)

    def _record(self, value: dict[str, Any]) -> Record:
        if self._nested and TRANSLATION in value and not ("source" in value and "target" in value):
            value = {**value, **translation(value[TRANSLATION], self._options)}
        texts = []
        for name, key in self._keys.items():
            field = _field(value, key, required=name in ("source", "target"))
            text = field if isinstance(field, str) or field is None else _as_text(field)
            if text is not None and not text.isascii() and not _is_unicode(text):
                raise RecordError("lone_surrogate")
            if text is not None and "\0" in text:
                raise RecordError("nul_byte")
            texts.append(text)
        return tuple(texts)


def translation(value: object, options: ReadOptions) -> dict[str, object]:
    """Return the pair in a `translation` object, with the languages that its keys name.

    Raises:
        RecordError: it does not hold the asked languages, or more than two and none are asked.
    """
    if not isinstance(value, dict):
        raise RecordError("null" if value is None else "not_a_string")
    names = list(value)
    sources = choose(names, options.source_lang, options.target_lang)
    targets = choose(names, options.target_lang, options.source_lang)
    if options.source_lang is None and options.target_lang is None:
        sources, targets = [0], list(range(1, len(names)))
    if not sources or not targets:
        raise RecordError("missing_language")
    source, target = _closest(names, sources, options.source_lang), _closest(names, targets, options.target_lang)
    if source is None or target is None:
        raise RecordError("ambiguous_languages")
    if source == target:
        raise RecordError("missing_language")
    return {
        "source": value[source],
        "target": value[target],
        "source_lang": options.source_lang or source,
        "target_lang": options.target_lang or target,
    }


def _closest(names: list[str], found: list[int], asked: str | None) -> str | None:
    """The one name found, or of several that which was asked for to the letter."""
    if len(found) == 1:
        return names[found[0]]
    return asked if asked in names else None


def _parse(line: Line) -> dict[str, Any]:
    if line.too_long:
        raise RecordError("line_too_long")
    if b"\0" in line.data:
        raise RecordError("nul_byte")
    try:
        text = line.data.decode()
    except UnicodeDecodeError as error:
        raise RecordError("invalid_utf8") from error
    if not text or text.isspace():
        raise RecordError("blank_line")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError("broken_json") from error
    if not isinstance(value, dict):
        raise RecordError("not_an_object")
    return value


def _has(value: dict[str, Any], key: str) -> bool:
    return key in value or (is_number(key) and int(key) <= len(value))


def _field(value: dict[str, Any], key: str, *, required: bool) -> Any:
    if key in value:
        field = value[key]
    elif is_number(key) and 0 < int(key) <= len(value):
        field = list(value.values())[int(key) - 1]
    elif required:
        raise RecordError("missing_field")
    else:
        return None
    if required and not isinstance(field, str):
        raise RecordError("null" if field is None else "not_a_string")
    return field


def _as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
