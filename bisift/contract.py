"""The data contract: Arrow schemas that only grow, and the one function that enforces them.

PAIR is what readers yield, SCORED what `score` writes, RANKED what `rank` writes. Text is kept and hashed
exactly as it was read. Columns of a switched-off part are null; the schema never depends on switches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from bisift.errors import ContractError

CONTRACT_VERSION = 1
METADATA_KEY = b"bisift"
EXTRA_PREFIX = "extra_"
ORDERS = ("quality", "human", "combined", "random", "mixed")

REASON = pa.dictionary(pa.int8(), pa.string())
LANGUAGE = pa.string()


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """One measured column: its name, Arrow type and what it says (unit and range)."""

    name: str
    type: pa.DataType
    help: str


def _count(name: str, help: str) -> Feature:
    return Feature(name=name, type=pa.int32(), help=help)


def _ratio(name: str, help: str) -> Feature:
    return Feature(name=name, type=pa.float32(), help=help)


def _text(name: str, help: str) -> Feature:
    return Feature(name=name, type=pa.string(), help=help)


FEATURES: tuple[Feature, ...] = (
    _count("source_chars", "code points of the source"),
    _count("target_chars", "code points of the target"),
    _count("source_words", "words of the source: runs without white space; a Han, kana or Thai letter each"),
    _count("target_words", "words of the target, counted likewise"),
    _count("source_longest_word", "code points of the longest run without white space (Han, kana, Thai: 1)"),
    _count("target_longest_word", "the same of the target"),
    _ratio("length_ratio", "longer over shorter side, (a + 15) / (b + 15); code points, Han and kana counted thrice"),
    _ratio("source_letters", "share of letters and marks among the code points that are not white space"),
    _ratio("target_letters", "the same of the target"),
    _ratio("source_digits", "share of digits among the code points that are not white space"),
    _ratio("target_digits", "the same of the target"),
    _ratio("source_punctuation", "share of punctuation and symbols among the code points that are not white space"),
    _ratio("target_punctuation", "the same of the target"),
    _ratio("copy_similarity", "1 - normalised Indel distance of the lower-cased sides, first 1,000 code points"),
    _ratio("number_match", "shared numbers over the larger count (multisets of digit runs); 1 without numbers"),
    _ratio("url_match", "shared URLs over the larger count; 1 without URLs"),
    _ratio("email_match", "shared e-mail addresses over the larger count; 1 without"),
    _ratio("placeholder_match", "shared placeholders (%s, {name}, ${x}) over the larger count; 1 without"),
    _count("source_markup", "HTML tags and entities in the source"),
    _count("target_markup", "HTML tags and entities in the target"),
    _count("source_mojibake", "signs of text decoded wrongly in the source (U+FFFD, UTF-8 read as Latin-1)"),
    _count("target_mojibake", "the same of the target"),
    _text("source_language", "language identified from the first 160 code points; null when empty or switched off"),
    _text("target_language", "the same of the target"),
    _ratio("source_language_probability", "probability of source_language"),
    _ratio("target_language_probability", "probability of target_language"),
    _ratio("lexical_forward", "mean log p(target token | source), IBM model 1"),
    _ratio("lexical_backward", "mean log p(source token | target), IBM model 1"),
    _ratio("lexical_coverage", "share of target tokens with a known translation in the source"),
)

PAIR = pa.schema(
    [
        pa.field("pair_id", pa.binary(16), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("source_lang", LANGUAGE),
        pa.field("target_lang", LANGUAGE),
        pa.field("document_id", pa.string()),
        pa.field("generator", pa.string()),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
    ]
)

SCORED = pa.schema(
    [
        *PAIR,
        pa.field("ai_probability", pa.float32()),
        pa.field("ai_language_known", pa.bool_()),
        pa.field("ai_probability_document", pa.float32()),
        pa.field("quality", pa.float32()),
        *(pa.field(feature.name, feature.type) for feature in FEATURES),
        pa.field("source_repeated", pa.bool_(), nullable=False),
        pa.field("target_repeated", pa.bool_(), nullable=False),
        pa.field("failed_rules", pa.uint64(), nullable=False),
        pa.field("drop_reason", REASON),
    ]
)

RANKED = pa.schema(
    [
        *SCORED,
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("percentile", pa.float32(), nullable=False),
        pa.field("order", pa.string(), nullable=False),
    ]
)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` with exactly the columns of `schema` (then its `extra_*` columns), cast to its types.

    A nullable column that is missing is added as null. Order of columns is the schema's; the schema metadata
    of `table` is kept.

    Raises:
        ContractError: a required column is missing or holds null, a column cannot be cast, a float column
            holds NaN, or a column is in neither the schema nor an extra.
    """
    arrays: list[pa.ChunkedArray | pa.Array] = []
    fields: list[pa.Field] = []
    names = set(table.column_names)
    for field in schema:
        fields.append(field)
        if field.name not in names:
            if not field.nullable:
                raise ContractError(f"column {field.name!r} is missing: was this file written by bisift?")
            arrays.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        if column.type != field.type:
            column = _cast(column, field)
        _check(column, field)
        arrays.append(column)
    for field in table.schema:
        if field.name in schema.names:
            continue
        if not field.name.startswith(EXTRA_PREFIX):
            raise ContractError(f"column {field.name!r} is not in the contract: name it {EXTRA_PREFIX}{field.name}")
        fields.append(field)
        arrays.append(table.column(field.name))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=table.schema.metadata))


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        if pa.types.is_dictionary(field.type):
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            return column.cast(field.type.value_type).dictionary_encode().cast(field.type)
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ContractError(f"column {field.name!r} is {column.type}, not {field.type}: {error}") from error


def _check(column: pa.ChunkedArray, field: pa.Field) -> None:
    if not field.nullable and column.null_count:
        raise ContractError(f"column {field.name!r} holds {column.null_count} nulls: every row must have a value")
    if pa.types.is_floating(field.type) and pc.any(pc.is_nan(column)).as_py():
        raise ContractError(f"column {field.name!r} holds NaN: a score must be a number or null")


def pair_ids(
    source_lang: Sequence[str | None], target_lang: Sequence[str | None], source: Sequence[str], target: Sequence[str]
) -> pa.Array:
    """Return the 16-byte identity of each pair: big-endian xxh3_128 of the four texts joined by 0x1F.

    A null language counts as empty. All four sequences have N elements; the result is fixed_size_binary(16) of N.
    """
    digest = xxhash.xxh3_128_digest
    return pa.array(
        [
            digest(f"{a or ''}\x1f{b or ''}\x1f{s}\x1f{t}".encode())
            for a, b, s, t in zip(source_lang, target_lang, source, target, strict=True)
        ],
        type=pa.binary(16),
    )


def with_provenance(
    schema: pa.Schema, *, models: Mapping[str, str], profile_digest: str | None, prior: float | None
) -> pa.Schema:
    """Return `schema` with the metadata that every output carries: contract version, model digests, profile, prior."""
    value = {
        "contract": CONTRACT_VERSION,
        "models": dict(sorted(models.items())),
        "profile_digest": profile_digest,
        "prior": prior,
    }
    return schema.with_metadata({METADATA_KEY: json.dumps(value, sort_keys=True).encode()})


def provenance(schema: pa.Schema) -> dict[str, object]:
    """Return the metadata written by `with_provenance`.

    Raises:
        ContractError: the schema carries none, or one of a newer contract.
    """
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise ContractError("no bisift metadata: this file was not written by filter-cli score or rank")
    value: dict[str, object] = json.loads(raw)
    version = value.get("contract")
    if not isinstance(version, int) or version > CONTRACT_VERSION:
        raise ContractError(f"contract version {version} is newer than {CONTRACT_VERSION}: upgrade bisift")
    return value
