"""TMX 1.1 to 1.4b through lxml: units are dropped from memory as they are read; entities, DTDs and network are off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import etree

from bisift.errors import ConfigError, InputError
from bisift.filter.readers.base import RAW_BYTES, Broken, ReadOptions, Record, is_number
from bisift.filter.readers.columns import asked
from bisift.filter.readers.languages import choose, same_language
from bisift.filter.readers.streams import Stream

XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_NATIVE_CODE = {"bpt", "ept", "ph", "it", "ut"}


class Tmx:
    """Pairs of variants: each variant in the source language with each in the target language of its unit.

    Without asked languages a unit must have two, of which the header's `srclang`, or else the first, is the source.
    Columns are names: those of a unit's `prop` types, or of its attributes. Byte offsets are not known.

    Raises:
        ConfigError: columns of text are asked for, or columns by number.
    """

    def __init__(self, stream: Stream, options: ReadOptions) -> None:
        columns = asked(options)
        if "source" in columns or "target" in columns or any(map(is_number, columns.values())):
            raise ConfigError(f"{stream.name}: TMX has languages, not columns: give the source and target language")
        self._stream = stream
        self._options = options
        self._extra = tuple(columns.values())
        self._header_lang: str | None = None
        self.columns = ("source", "target", "source_lang", "target_lang", *columns)

    def records(self, skip: int) -> Iterator[Record]:
        """Yield the pairs and rejects after the first `skip`.

        Raises:
            InputError: the XML is broken.
        """
        for number, record in enumerate(self._all()):
            if number >= skip:
                yield record

    def _all(self) -> Iterator[Record]:
        if not self._stream.peek():
            return
        events = etree.iterparse(
            self._stream,
            events=("end",),
            tag=("{*}tu", "{*}header"),
            resolve_entities=False,
            load_dtd=False,
            no_network=True,
        )
        try:
            for _, element in events:
                if etree.QName(element).localname == "header":
                    self._header_lang = element.get("srclang")
                    continue
                yield from self._unit(element)
                element.clear()
                parent = element.getparent()
                while parent is not None and element.getprevious() is not None:
                    del parent[0]
        except etree.XMLSyntaxError as error:
            message = " ".join(str(error.msg).split())
            raise InputError(f"{self._stream.name}: broken XML: {message}") from error

    def _unit(self, unit: Any) -> Iterator[Record]:
        try:
            languages, texts = self._variants(unit)
            sides = self._sides(languages)
            extras = tuple(_property(unit, name) for name in self._extra)
        except ValueError as error:
            yield Broken(None, str(error), etree.tostring(unit, with_tail=False)[:RAW_BYTES])
            return
        options = self._options
        for source, target in sides:
            yield (
                texts[source],
                texts[target],
                options.source_lang or languages[source],
                options.target_lang or languages[target],
                *extras,
            )

    def _variants(self, unit: Any) -> tuple[list[str], list[str]]:
        languages, texts = [], []
        for variant in unit.iterchildren("{*}tuv"):
            language = variant.get(XML_LANG) or variant.get("lang")
            segments = list(variant.iterchildren("{*}seg"))
            if not language or len(segments) != 1:
                raise ValueError("broken_unit")
            text = "".join(_texts(segments[0]))
            if len(text.encode()) > self._options.max_line_bytes:
                raise ValueError("line_too_long")
            languages.append(language)
            texts.append(text)
        return languages, texts

    def _sides(self, languages: list[str]) -> list[tuple[int, int]]:
        """Return which variants are source and target of each pair."""
        source, target = self._options.source_lang, self._options.target_lang
        if source is None and target is None:
            if len(languages) > 2:
                raise ValueError("ambiguous_languages")
            if len(languages) < 2:
                raise ValueError("missing_language")
            declared = self._header_lang
            swapped = declared is not None and not same_language(languages[0], declared)
            return [(1, 0)] if swapped and same_language(languages[1], str(declared)) else [(0, 1)]
        sources, targets = choose(languages, source, target), choose(languages, target, source)
        others = {languages[index].lower().split("-")[0] for index in (targets if target is None else sources)}
        if (source is None or target is None) and len(others) > 1:
            raise ValueError("ambiguous_languages")
        pairs = [(one, other) for one in sources for other in targets if one != other]
        if not pairs:
            raise ValueError("missing_language")
        return pairs


def _texts(element: Any) -> Iterator[str]:
    """Text of a segment; native codes (`bpt`, `ept`, `ph`, `it`, `ut`) are left out, highlighted text is kept.

    Raises:
        ValueError: an entity reference, whose text is not known.
    """
    yield element.text or ""
    for child in element:
        if isinstance(child.tag, str):
            if child.tag.rpartition("}")[2] not in _NATIVE_CODE:
                yield from _texts(child)
        elif child.tag is etree.Entity:
            raise ValueError("broken_unit")
        yield child.tail or ""


def _property(unit: Any, name: str) -> str | None:
    for prop in unit.iterchildren("{*}prop"):
        if prop.get("type") == name:
            return "".join(_texts(prop))
    value: str | None = unit.get(name)
    return value
