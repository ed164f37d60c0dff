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


def _column(type: pa.DataType, name: str, help: str) -> tuple[Feature, ...]:
    return (Feature(name=name, type=type, help=help),)


def _sides(type: pa.DataType, name: str, help: str) -> tuple[Feature, ...]:
    return (
        Feature(name=f"source_{name}", type=type, help=f"source: {help}"),
        Feature(name=f"target_{name}", type=type, help=f"target: {help}"),
    )


_I32, _F32 = pa.int32(), pa.float32()

# A share is 0..1. A difference is log(1 + target's count) - log(1 + source's count): 0 where the sides agree. Columns
# without a side hold the worse of both where they count defects. Null only where a value is undefined.
# Width-weighted: a Han letter counts as three code points, kana and Hangul as two.
FEATURES: tuple[Feature, ...] = (
    *_sides(_I32, "chars", "code points"),
    *_sides(_I32, "words", "runs without white space; a Han, kana or Thai letter counts as one"),
    *_sides(
        _I32,
        "longest_word",
        "length of the longest run of letters, digits and marks; Lao, Khmer, Burmese and Tibetan aside",
    ),
    *_sides(_F32, "mean_word", "mean code points of a word; 0 without words"),
    *_sides(_F32, "letters", "share of letters and marks among the code points that are no white space"),
    *_sides(_F32, "digits", "share of digits among the code points that are no white space, width-weighted"),
    *_sides(
        _F32,
        "punctuation",
        "share of punctuation and symbols among the code points that are no white space, width-weighted",
    ),
    *_sides(_F32, "capitals", "share of upper case among the letters"),
    *_sides(_F32, "type_token", "distinct tokens over tokens; 1 without tokens"),
    *_sides(
        _F32, "repetition", "share covered by a unit of 3-100 code points that stands three or more times in a row"
    ),
    *_sides(_I32, "markup", "HTML tags and entities"),
    *_sides(_I32, "mojibake", "signs of a wrong decoding: U+FFFD, UTF-8 read as Latin-1 or Windows-1252"),
    *_sides(pa.string(), "language", "language identified from the first 160 code points; null without letters"),
    *_sides(_F32, "language_probability", "probability of the identified language"),
    *_sides(
        _F32,
        "other_language",
        "probability of the identified language if it is none that the declared one may be taken for, else 0; "
        "null without a declared one that can be identified, or under 20 letters",
    ),
    *_sides(
        _F32,
        "script",
        "share of the letters in a script of the declared language; null without a known one, or under 10 letters",
    ),
    *_column(_F32, "length_ratio", "longer over shorter side, (a + 15) / (b + 15), in width-weighted code points"),
    *_column(_F32, "copy_similarity", "1 - normalised Indel distance of the lower-cased first 400 code points"),
    *_column(
        _F32,
        "untranslated",
        "copy_similarity, or 1 if the letters are the same; 0 for names, numbers and under 4 running words",
    ),
    *_column(
        _F32, "trigram_overlap", "share of the target's letter trigrams that the source has (first 256 code points)"
    ),
    *_column(_F32, "copied_words", "share of the target's distinct words that the source has; 0 without words"),
    *_column(_F32, "number_match", "numbers on both sides over the larger count; 1 without numbers"),
    *_column(_F32, "url_match", "URLs on both sides, compared by domain, over the larger count; 1 without URLs"),
    *_column(_F32, "email_match", "e-mail addresses on both sides over the larger count; 1 without"),
    *_column(_F32, "placeholder_match", "placeholders on both sides over the larger count; 1 without"),
    *_column(_F32, "terminal_match", "1 if both sides end with the same kind of punctuation (or none), else 0"),
    *_column(_F32, "title_case", "share of Capitalised words on the side with fewer of them; 0 under 8 words"),
    *_column(_F32, "chars_difference", "difference of code points"),
    *_column(_F32, "words_difference", "difference of words"),
    *_column(_F32, "commas_difference", "difference of commas"),
    *_column(_F32, "stops_difference", "difference of full stops and ellipses"),
    *_column(_F32, "questions_difference", "difference of question marks"),
    *_column(_F32, "exclamations_difference", "difference of exclamation marks"),
    *_column(_F32, "colons_difference", "difference of colons and semicolons"),
    *_column(_F32, "quotes_difference", "difference of quotation marks, apostrophes aside"),
    *_column(_F32, "brackets_difference", "difference of brackets"),
    *_column(_F32, "dashes_difference", "difference of dashes and hyphens"),
    *_column(_F32, "capitals_difference", "difference of upper-case letters"),
    *_column(_F32, "digits_difference", "difference of digits"),
    *_column(_I32, "escaped_unicode", "escapes such as \\u00e9 or \\xe9 left as text"),
    *_column(_I32, "control_chars", "control characters other than tab and line breaks, and noncharacters"),
    *_column(
        _I32, "glued_words", "places where words are glued together as in endStart, beyond those of the other side"
    ),
    *_column(_I32, "spaced_letters", "longest run of single letters with spaces between them, as in h e l l o"),
    *_column(_I32, "brackets", "brackets"),
    *_column(_I32, "unbalanced_brackets", "brackets without their partner (by count), beyond those of the other side"),
    *_column(_I32, "breadcrumbs", "separators of navigation paths: > | » between spaces"),
    *_column(_I32, "templates", "template literals: {{x}}, {% x %}, <% x %>, ${x}, +++"),
    *_column(_F32, "lexical_forward", "mean log p(target token | source), IBM model 1"),
    *_column(_F32, "lexical_backward", "mean log p(source token | target), IBM model 1"),
    *_column(_F32, "lexical_coverage", "share of target tokens with a known translation in the source"),
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
