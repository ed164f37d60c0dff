"""Turns a chunk of pairs into the input arrays that models may ask for, in slices whose shapes are fixed by their rows.

Suffixes: N rows of the chunk, B rows of a slice, L token width, F features, K table entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisift.errors import ModelError
from bisift.filter.langid import known_languages
from bisift.filter.lexical import MAX_TOKENS, STATISTICS, Lexicon, Words, padded
from bisift.filter.ngrams import language_salt, ngram_sums
from bisift.filter.text import DIGIT, I64, LETTER, Text

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

INPUTS = ("source_ids", "target_ids", "features")
"""What a model may name as inputs: word ids (int32, B × L, 0 is padding) and row features (float32, B × F, in the order
of its `feature_names`)."""

WIDTHS = (8, 16, 24, 32, 48, 64, MAX_TOKENS)
SLICE_TOKENS = 4096

_MARKS = {
    "comma": ",،、，،",
    "stop": ".。．।…",
    "question": "?!？！؟",
    "colon": ":;：；؛",
    "quote": "\"'“”„«»‘’「」『』",
    "bracket": "()[]{}（）【】",
    "dash": "-–—‐‑―",
}
FORM = (*(f"form_{name}" for name in (*_MARKS, "digit", "upper", "chars", "letters")), "form_source_chars")
"""How closely the target keeps the source's form: log1p of a count in the target minus log1p of that in the source;
`form_source_chars` is log1p of the source's code points."""


AGREEMENT = ("source_agreement", "target_agreement")
"""Probability that a side is in its declared language, less that of another one; 0 where none is declared or found."""

_INDISTINCT = (frozenset(["no", "nb", "nn", "da"]), frozenset(["hr", "sr", "bs", "sh"]), frozenset(["id", "ms"]))
"""Languages that identification takes for each other even in long text."""


def _mark_table() -> npt.NDArray[np.uint8]:
    table = np.zeros(0x10000, dtype=np.uint8)
    for number, characters in enumerate(_MARKS.values(), start=1):
        table[[ord(character) for character in characters]] = number
    return table


_MARK_TABLE = _mark_table()


def language_keys(pairs: pa.Table, features: pa.Table, side: str = "target") -> list[str | None]:
    """Language of one side of each pair: the declared one, else the identified one; region stripped, lower case."""
    declared = pairs.column(f"{side}_lang")
    if f"{side}_language" in features.column_names:
        declared = pc.coalesce(declared, features.column(f"{side}_language").cast(pa.string()))
    return _short_codes(declared.to_pylist())


def _short_codes(values: Sequence[str | None]) -> list[str | None]:
    short = {value: value.replace("_", "-").split("-")[0].lower() or None for value in set(values) if value is not None}
    return [None if value is None else short[value] for value in values]


@lru_cache(maxsize=4096)
def _same_language(declared: str | None, found: str | None) -> int:
    """1 for the same language, -1 for another, 0 where identification cannot tell."""
    if declared is None or found is None or declared not in known_languages():
        return 0
    if declared == found:
        return 1
    return 0 if any(declared in group and found in group for group in _INDISTINCT) else -1


def _agreement(pairs: pa.Table, features: pa.Table, side: str) -> F32:
    """AGREEMENT of one side, shape N."""
    declared = _short_codes(pairs.column(f"{side}_lang").to_pylist())
    found = features.column(f"{side}_language").to_pylist()
    sure_N = pc.fill_null(features.column(f"{side}_language_probability").cast(pa.float32()), 0.0).to_numpy()
    sign_N = np.fromiter(map(_same_language, declared, found), dtype=np.float32, count=len(found))
    agreement_N: F32 = (sign_N * sure_N).astype(np.float32)
    return agreement_N


class Encoder:
    """Computes each kind of input once a chunk, when a model asks for it."""

    def __init__(
        self,
        lexicon: Lexicon,
        source: Text,
        target: Text,
        languages: Sequence[str | None],
        features: pa.Table | None = None,
        pairs: pa.Table | None = None,
    ) -> None:
        self._lexicon = lexicon
        self._source = source
        self._target = target
        self.languages = languages
        self._features = features
        self._pairs = pairs
        self.rows = target.rows

    @cached_property
    def words(self) -> tuple[Words, Words]:
        return self._lexicon.words(self._source), self._lexicon.words(self._target)

    @cached_property
    def statistics(self) -> dict[str, F32]:
        return self._lexicon.statistics(*self.words)

    @cached_property
    def form(self) -> dict[str, F32]:
        source_ND, target_ND = _form_counts(self._source), _form_counts(self._target)
        difference_ND = np.log1p(target_ND) - np.log1p(source_ND)
        values = dict(zip(FORM, difference_ND.T, strict=False))
        values[FORM[-1]] = np.log1p(self._source.length_N)
        return {name: values[name].astype(np.float32) for name in FORM}

    def ngram_score(self, table_K: npt.NDArray[np.int8]) -> F32:
        """Sum of the weights of a row's n-grams over the root of their number, in units of the table; shape N."""
        sum_N, count_N = ngram_sums(self._target, language_salt(self.languages), table_K)
        return (sum_N / np.sqrt(np.maximum(count_N, 1))).astype(np.float32)

    def features(self, names: Sequence[str], language_pairs: frozenset[str] | None = None) -> F32:
        """The named row features, shape N × F; null counts as 0.

        With `language_pairs` ("en-it"), the lexical statistics of rows in other language pairs are 0: the table knows
        too little of them to tell a bad translation from an unknown language.

        Raises:
            ModelError: a name that is neither a lexical statistic, nor a form feature, nor a feature column.
        """
        out_NF = np.zeros((self.rows, len(names)), dtype=np.float32)
        known_N = self.in_pairs(language_pairs)
        for column, name in enumerate(names):
            if name in STATISTICS:
                out_NF[:, column] = np.where(known_N, self.statistics[name], np.float32(0))
            elif name in FORM:
                out_NF[:, column] = self.form[name]
            elif name in AGREEMENT and self._features is not None and self._pairs is not None:
                out_NF[:, column] = _agreement(self._pairs, self._features, name.split("_")[0])
            elif self._features is not None and name in self._features.column_names:
                values = self._features.column(name).cast(pa.float32())
                out_NF[:, column] = pc.fill_null(values, 0.0).to_numpy()
            else:
                raise ModelError(f"the model asks for feature {name!r}, which this version does not measure")
        return out_NF

    def in_pairs(self, language_pairs: frozenset[str] | None) -> npt.NDArray[np.bool_]:
        """Rows whose declared or identified languages are among the pairs; all of them without a list."""
        if language_pairs is None or self._features is None or self._pairs is None:
            return np.ones(self.rows, dtype=bool)
        source = language_keys(self._pairs, self._features, "source")
        keys = zip(source, self.languages, strict=True)
        return np.fromiter((f"{a}-{b}" in language_pairs for a, b in keys), dtype=bool, count=self.rows)

    def slices(
        self, inputs: Sequence[str], feature_names: Sequence[str], language_pairs: frozenset[str] | None = None
    ) -> Iterator[tuple[I64, dict[str, npt.NDArray[np.generic]]]]:
        """Yield the rows of each slice and its input arrays, padded to the slice's fixed number of rows.

        Raises:
            ModelError: an input that is not among INPUTS.
        """
        unknown = [name for name in inputs if name not in INPUTS]
        if unknown:
            raise ModelError(f"the model asks for input {unknown[0]!r}; there are {', '.join(INPUTS)}")
        features_NF = self.features(feature_names, language_pairs) if "features" in inputs else None
        source, target = self.words
        longest_N = np.maximum(source.count_N, target.count_N)
        bucket_N = np.searchsorted(WIDTHS[:-1], longest_N)
        for bucket, width in enumerate(WIDTHS):
            rows = np.flatnonzero(bucket_N == bucket)
            size = SLICE_TOKENS // width // 16 * 16  # whole vectors, so that no row is in the tail of a loop
            for start in range(0, len(rows), size):
                rows_B = rows[start : start + size]
                feed: dict[str, npt.NDArray[np.generic]] = {}
                for name in inputs:
                    if name == "source_ids":
                        values: npt.NDArray[np.generic] = padded(source.id_K, source, rows_B, width)
                    elif name == "target_ids":
                        values = padded(target.id_K, target, rows_B, width)
                    else:
                        assert features_NF is not None
                        values = features_NF[rows_B]
                    feed[name] = _pad_rows(values, size)
                yield rows_B, feed


def _pad_rows(values: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.generic]:
    if len(values) == size:
        return values
    padded = np.zeros((size, *values.shape[1:]), dtype=values.dtype)
    padded[: len(values)] = values
    return padded


def _form_counts(text: Text) -> I64:
    """Counts behind FORM, shape (N, len(FORM) - 1)."""
    codes_C = text.codes_C
    mark_C = _MARK_TABLE[np.minimum(codes_C, 0xFFFF)]
    kinds = len(_MARKS) + 1
    marked = np.flatnonzero(mark_C)
    marks_NK = np.bincount(text.row_C[marked] * kinds + mark_C[marked], minlength=text.rows * kinds)
    upper_N = np.bincount(text.row_C[codes_C != text.lower_C], minlength=text.rows)
    letters_N = text.kinds_NK[:, LETTER:].sum(axis=1)
    digits_N = text.kinds_NK[:, DIGIT]
    marks_NK = marks_NK.reshape(text.rows, kinds)[:, 1:]
    return np.column_stack([marks_NK, digits_N, upper_N, text.length_N, letters_N])
