"""Features: what is measured of every pair, a column each. Vectorised; regular expressions run on few rows only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rapidfuzz.distance import Indel
from rapidfuzz.process import cpdist

from bisift.contract import FEATURES
from bisift.filter.langid import identify
from bisift.filter.text import DIGIT, HAN, I64, KANA, LETTER, MARK, PUNCTUATION, SPACE, SYMBOL, Text

F32 = npt.NDArray[np.float32]

CHEAP = tuple(feature for feature in FEATURES if not feature.name.startswith("lexical_"))
COMPARED_CHARS = 1000
LENGTH_SMOOTHING = 15

_NUMBER = re.compile(r"\d+")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"')]+")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_PLACEHOLDER = re.compile(r"%\(\w{1,64}\)[a-z]|%[sdif]|\$?\{[^{}\s]{0,64}\}")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]{0,200}>|&(?:[a-z]{2,8}|#\d{1,6});")
_MOJIBAKE = re.compile("\ufffd|[ÂÃ][\u0080-\u00bf]|â€|Ð[\u0080-\u00bf]")


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of a chunk of N pairs, decoded once, with their texts."""

    source: Text
    target: Text
    sources: list[str]
    targets: list[str]

    @classmethod
    def of(cls, pairs: pa.Table) -> Sides:
        """Decode the `source` and `target` columns."""
        source, target = pairs.column("source"), pairs.column("target")
        return cls(Text.of(source), Text.of(target), source.to_pylist(), target.to_pylist())


def measure(pairs: pa.Table, sides: Sides, *, language_id: bool = True) -> pa.Table:
    """Return the features of N pairs, all of `contract.FEATURES` but the lexical ones, which the models fill.

    Without `language_id` the language columns are null.
    """
    columns: dict[str, npt.NDArray[np.generic] | pa.Array] = {}
    for name, text, texts in (("source", sides.source, sides.sources), ("target", sides.target, sides.targets)):
        columns |= {f"{name}_{key}": value for key, value in _one_side(text).items()}
        columns[f"{name}_markup"] = _count(texts, "<&", _MARKUP)
        columns[f"{name}_mojibake"] = _count(texts, "\ufffdÂÃâÐ", _MOJIBAKE)
        language: pa.Array = pa.nulls(len(texts), pa.string())
        probability: pa.Array = pa.nulls(len(texts), pa.float32())
        if language_id:
            language, probability = identify(texts)
        columns[f"{name}_language"], columns[f"{name}_language_probability"] = language, probability
    columns["length_ratio"] = _length_ratio(sides.source, sides.target)
    columns["copy_similarity"] = cpdist(
        [text[:COMPARED_CHARS].lower() for text in sides.sources],
        [text[:COMPARED_CHARS].lower() for text in sides.targets],
        scorer=Indel.normalized_similarity,
        dtype=np.float32,
    )
    digits_N = (sides.source.kinds_NK[:, DIGIT] + sides.target.kinds_NK[:, DIGIT]) > 0
    columns["number_match"] = _match(sides, lambda i: bool(digits_N[i]), _NUMBER, _number)
    for key, signs, pattern in (
        ("url_match", ("://", "www."), _URL),
        ("email_match", ("@",), _EMAIL),
        ("placeholder_match", ("%", "{"), _PLACEHOLDER),
    ):
        columns[key] = _match(sides, _holds(sides, signs), pattern, str)
    return pa.table({f.name: pa.array(columns[f.name]).cast(f.type) for f in CHEAP})


def _one_side(text: Text) -> dict[str, npt.NDArray[np.generic]]:
    kinds = text.kinds_NK
    solid_N = np.maximum(text.length_N - kinds[:, SPACE], 1)
    words = text.words
    longest_N = np.zeros(text.rows, dtype=np.int64)
    np.maximum.at(longest_N, words.row_T, words.length_T)
    return {
        "chars": text.length_N,
        "words": np.bincount(words.row_T, minlength=text.rows),
        "longest_word": longest_N,
        "letters": (kinds[:, LETTER:].sum(axis=1) + kinds[:, MARK]) / solid_N,
        "digits": kinds[:, DIGIT] / solid_N,
        "punctuation": (kinds[:, PUNCTUATION] + kinds[:, SYMBOL]) / solid_N,
    }


def _length_ratio(source: Text, target: Text) -> npt.NDArray[np.float64]:
    def size(text: Text) -> I64:
        weighted: I64 = text.length_N + 2 * (text.kinds_NK[:, HAN] + text.kinds_NK[:, KANA])
        return weighted + LENGTH_SMOOTHING

    a_N, b_N = size(source), size(target)
    ratio: npt.NDArray[np.float64] = np.maximum(a_N, b_N) / np.minimum(a_N, b_N)
    return ratio


def _count(texts: Sequence[str], signs: str, pattern: re.Pattern[str]) -> npt.NDArray[np.int64]:
    """Matches a text; the pattern runs only where one of the signs stands."""
    out = np.zeros(len(texts), dtype=np.int64)
    for number, text in enumerate(texts):
        if not any(sign in text for sign in signs):
            continue
        out[number] = sum(1 for _ in pattern.finditer(text))
    return out


def _holds(sides: Sides, signs: Sequence[str]) -> Callable[[int], bool]:
    return lambda i: any(sign in sides.sources[i] or sign in sides.targets[i] for sign in signs)


def _match(sides: Sides, wanted: Callable[[int], bool], pattern: re.Pattern[str], normal: Callable[[str], str]) -> F32:
    """Shared items over the larger count, as multisets; 1 where neither side has any."""
    out = np.ones(len(sides.sources), dtype=np.float32)
    for i in range(len(out)):
        if not wanted(i):
            continue
        left = Counter(normal(item) for item in pattern.findall(sides.sources[i]))
        right = Counter(normal(item) for item in pattern.findall(sides.targets[i]))
        larger = max(left.total(), right.total())
        if larger:
            out[i] = (left & right).total() / larger
    return out


def _number(digits: str) -> str:
    """Digits of any script as ASCII, without leading zeros."""
    ascii_digits = digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)
    return ascii_digits.lstrip("0") or "0"
