"""Parquet, TMX, and gettext's PO and MO: formats with a structure of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bisift.errors import InputError
from bisift.filter.readers.columns import unusable
from bisift.filter.readers.inputs import is_remote
from bisift.filter.readers.lineformats import check_columns, from_mapping
from bisift.filter.readers.stream import Stream
from bisift.filter.readers.types import Bad, Found, Input, ReadOptions, Record

XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def parquet(origin: Input, options: ReadOptions) -> Iterator[Found]:
    """Rows of a Parquet file, one row group at a time.

    Raises:
        InputError: it is no Parquet file, or a column is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow.fs import FileSystem

    path = origin.paths[0]
    try:
        if is_remote(path):
            filesystem, inner = FileSystem.from_uri(path)
            file = pq.ParquetFile(filesystem.open_input_file(inner))
        else:
            file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is no Parquet file: {error}") from error
    names = file.schema_arrow.names
    check_columns(origin, names, options)
    wanted = {"source", "target", "source_lang", "target_lang", "document_id", "generator", "translation"}
    wanted |= {options.source_column, options.target_column, options.document_column, options.generator_column}  # type: ignore[arg-type]
    wanted |= set(options.keep_columns)
    columns = [name for name in names if name in wanted]
    try:
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(8192, [group], columns):
                for row in batch.to_pylist():
                    yield Found(from_mapping(row, repr(row).encode("utf-8", "backslashreplace"), options), None)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read to its end: {error}; fetch it again") from error


def tmx(stream: Stream, options: ReadOptions) -> Iterator[Found]:
    """Translation units: every pair of variants in the asked languages; entities, DTDs and network are off.

    Raises:
        InputError: the languages are not given, or the XML breaks.
    """
    from lxml import etree

    if not options.source_lang or not options.target_lang:
        raise InputError(f"{stream.path}: a TMX needs --source-lang and --target-lang")
    try:
        units = etree.iterparse(
            stream.data, events=("end",), tag="{*}tu", resolve_entities=False, no_network=True, load_dtd=False
        )
        for _, unit in units:
            yield from _unit(unit, options.source_lang, options.target_lang)
            unit.clear()
            while unit.getprevious() is not None:
                del unit.getparent()[0]
    except etree.XMLSyntaxError as error:
        if stream.position() == 0:
            return
        raise InputError(f"{stream.path}: broken XML: {error}; repair or fetch it again") from error


def _unit(unit: Any, source_lang: str, target_lang: str) -> Iterator[Found]:
    sides: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for variant in unit.iterchildren("{*}tuv"):
        language = variant.get(XML_LANG) or variant.get("lang") or ""
        segment = variant.find("{*}seg")
        if segment is None:
            continue
        text = "".join(_texts(segment))
        for is_source, asked in ((True, source_lang), (False, target_lang)):
            if _same_language(language, asked):
                sides[is_source].append((text, language))
    if not sides[True] or not sides[False]:
        from lxml import etree

        yield Found(Bad("missing_side", etree.tostring(unit)), None)
        return
    for source, _ in sides[True]:
        for target, _ in sides[False]:
            problem = unusable(source) or unusable(target)
            value = Record(source, target, source_lang, target_lang)
            yield Found(Bad(problem, source.encode("utf-8", "replace")) if problem else value, None)


def _texts(segment: Any) -> Iterator[str]:
    """Text of a segment without the native codes in bpt, ept, ph and it."""
    yield segment.text or ""
    for child in segment:
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] in ("hi", "sub"):
            yield from _texts(child)
        yield child.tail or ""


def _same_language(found: str, asked: str) -> bool:
    found, asked = found.lower().replace("_", "-"), asked.lower().replace("_", "-")
    return found == asked or found.split("-")[0] == asked or found == asked.split("-")[0]


def gettext(stream: Stream, options: ReadOptions) -> Iterator[Found]:
    """Entries of a PO or MO catalog; plural forms give the singular and the last.

    Raises:
        InputError: it is no catalog.
    """
    import tempfile

    import polib

    content = stream.data.read()
    if not content:
        return
    compiled = content[:4] in (b"\xde\x12\x04\x95", b"\x95\x04\x12\xde")
    try:
        with tempfile.NamedTemporaryFile(suffix=".mo" if compiled else ".po") as copy:
            copy.write(content)
            copy.flush()
            entries: Any = polib.mofile(copy.name) if compiled else polib.pofile(copy.name)
    except (OSError, ValueError, IndexError, KeyError, UnicodeError, TypeError, AttributeError, LookupError) as error:
        reason = str(error).split("(", 1)[-1][:80]
        raise InputError(f"{stream.path}: is no gettext catalog ({reason})") from error
    except Exception as error:
        if type(error).__name__ != "error":  # struct.error, of a cut MO file
            raise
        raise InputError(f"{stream.path}: is no gettext catalog ({error})") from error
    for entry in entries:
        if not entry.msgid:
            continue
        raw = str(entry).encode("utf-8", "replace")
        if entry.obsolete or entry.fuzzy:
            yield Found(Bad("obsolete" if entry.obsolete else "fuzzy", raw), None)
            continue
        forms = [(entry.msgid, entry.msgstr)]
        if entry.msgid_plural:
            plural = [text for _, text in sorted(entry.msgstr_plural.items())] or [""]
            forms = [(entry.msgid, plural[0]), (entry.msgid_plural, plural[-1])]
        for source, target in forms:
            problem = ("untranslated" if not target else None) or unusable(source) or unusable(target)
            yield Found(Bad(problem, raw) if problem else Record(source, target), None)
