"""Features: what is measured of every pair, a column each, vectorised over chunks.

A value depends on its own pair alone, whatever else is in the chunk. What is capped says so where it is computed: copy
similarity reads 400 code points of a side, trigrams 256, repetition and regular expressions 4,096, language
identification 160; every other cost is linear in the length of a segment.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.contract import FEATURES
from bisift.filter import text
from bisift.filter.features import classes, items, languages, words
from bisift.filter.features.classes import KIND_OF_CLASS
from bisift.filter.features.repetition import repetition
from bisift.filter.features.sides import Side, Sides
from bisift.filter.text import I64

__all__ = ["CHEAP", "Side", "Sides", "measure"]

F32 = npt.NDArray[np.float32]
Column: TypeAlias = npt.NDArray[np.generic] | pa.Array

CHEAP = tuple(feature for feature in FEATURES if not feature.name.startswith("lexical_"))
"""The features that `measure` yields; the models fill the lexical ones."""

LENGTH_SMOOTHING = 15
_SKIPPED_AT_END = classes.members(
    classes.QUOTE, classes.RIGHT_GUILLEMET, classes.APOSTROPHE, classes.ROUND_CLOSE, classes.SQUARE_CLOSE
) | (KIND_OF_CLASS == text.SPACE).astype(np.uint8)
_MAX_SKIPPED = 4
_TERMINALS = (classes.STOP, classes.QUESTION, classes.EXCLAMATION, classes.COLON)
_PAIRED = (
    (classes.ROUND_OPEN, classes.ROUND_CLOSE),
    (classes.SQUARE_OPEN, classes.SQUARE_CLOSE),
    (classes.CURLY_OPEN, classes.CURLY_CLOSE),
)
_BRACKETS = tuple(mark for pair in _PAIRED for mark in pair)
_DIFFERENCES = {
    "commas": (classes.COMMA,),
    "stops": (classes.STOP,),
    "questions": (classes.QUESTION,),
    "exclamations": (classes.EXCLAMATION,),
    "colons": (classes.COLON,),
    "quotes": (classes.QUOTE, classes.LEFT_GUILLEMET, classes.RIGHT_GUILLEMET),
    "brackets": _BRACKETS,
    "dashes": (classes.DASH,),
    "capitals": classes.UPPER,
    "digits": (text.DIGIT,),
}


def measure(pairs: pa.Table, sides: Sides, *, language_id: bool = True) -> pa.Table:
    """Return the features of N pairs: the columns of CHEAP, in order.

    Args:
        pairs: the PAIR table that `sides` were made of.
        sides: both sides, decoded.
        language_id: whether to identify languages; without, their six columns are null.
    """
    assert pairs.num_rows == sides.source_side.rows
    columns: dict[str, Column] = {}
    for name, side in (("source", sides.source_side), ("target", sides.target_side)):
        columns |= {f"{name}_{key}": value for key, value in _one_side(side, language_id=language_id).items()}
    columns |= _both_sides(sides)
    for key, values in _defects(sides).items():
        columns[key] = values
    return pa.table([pa.array(columns[f.name]).cast(f.type) for f in CHEAP], names=[f.name for f in CHEAP])


def _one_side(side: Side, *, language_id: bool) -> dict[str, Column]:
    kinds_KN = side.kinds_KN
    solid_N = np.maximum(side.solid_N, 1)
    weighted_N = np.maximum(side.solid_N + side.wide_N, 1)
    found, probability, other = languages.language_columns(side, language_id=language_id)
    return {
        "chars": side.text.length_N,
        "words": side.words_N,
        "longest_word": words.longest_word(side),
        "mean_word": side.solid_N / np.maximum(side.words_N, 1),
        "letters": (side.letters_N + kinds_KN[text.MARK]) / solid_N,
        "digits": kinds_KN[text.DIGIT] / weighted_N,
        "punctuation": (kinds_KN[text.PUNCTUATION] + kinds_KN[text.SYMBOL]) / weighted_N,
        "capitals": side.uppers_N / np.maximum(side.letters_N, 1),
        "type_token": words.type_token(side),
        "repetition": repetition(side),
        "markup": items.markup(side),
        "mojibake": items.mojibake(side),
        "language": found,
        "language_probability": probability,
        "other_language": other,
        "script": languages.script(side),
    }


def _both_sides(sides: Sides) -> dict[str, Column]:
    source, target = sides.source_side, sides.target_side
    similarity_N = words.copy_similarity(sides)
    url_N = items.may_have_url(source) | items.may_have_url(target)
    email_N = (source.count_N(classes.AT) + target.count_N(classes.AT)) > 0
    placeholder_N = items.may_have_placeholder(source) | items.may_have_placeholder(target)
    columns: dict[str, Column] = {
        "length_ratio": _length_ratio(source, target),
        "copy_similarity": similarity_N,
        "untranslated": words.untranslated(sides, similarity_N),
        "trigram_overlap": words.trigram_overlap(sides),
        "copied_words": words.copied_words(sides),
        "number_match": items.number_match(sides),
        "url_match": items.match_share(sides, url_N, items.URL),
        "email_match": items.match_share(sides, email_N, items.EMAIL),
        "placeholder_match": items.match_share(sides, placeholder_N, items.PLACEHOLDER),
        "terminal_match": (_terminal(source) == _terminal(target)).astype(np.float32),
        "title_case": words.title_case(sides),
        "chars_difference": _difference(source.text.length_N, target.text.length_N),
        "words_difference": _difference(source.words_N, target.words_N),
    }
    for key, marks in _DIFFERENCES.items():
        columns[f"{key}_difference"] = _difference(source.count_N(*marks), target.count_N(*marks))
    return columns


def _defects(sides: Sides) -> dict[str, Column]:
    """Counts of defects: the larger of both sides, or what one side has beyond the other."""
    both = (sides.source_side, sides.target_side)
    worse = {
        "escaped_unicode": items.escaped_unicode,
        "control_chars": lambda side: side.count_N(classes.CONTROL, classes.CONTROL_SPACE),
        "spaced_letters": words.spaced_letters,
        "brackets": lambda side: side.count_N(*_BRACKETS),
        "breadcrumbs": words.breadcrumbs,
        "templates": items.templates,
    }
    beyond = {"glued_words": words.glued_words, "unbalanced_brackets": _unbalanced}
    columns: dict[str, Column] = {key: np.maximum(*map(count, both)) for key, count in worse.items()}
    return columns | {key: np.abs(np.subtract(*map(count, both))) for key, count in beyond.items()}


def _difference(source_N: I64, target_N: I64) -> F32:
    return (np.log1p(target_N) - np.log1p(source_N)).astype(np.float32)


def _length_ratio(source: Side, target: Side) -> F32:
    """Longer over shorter side, both plus LENGTH_SMOOTHING, so that short segments may differ more."""
    a_N, b_N = (side.text.length_N + side.wide_N + LENGTH_SMOOTHING for side in (source, target))
    ratio_N: F32 = (np.maximum(a_N, b_N) / np.minimum(a_N, b_N)).astype(np.float32)
    return ratio_N


def _terminal(side: Side) -> I64:
    """Class of the mark that ends each row, closing quotation marks and brackets aside; 0 where none does."""
    if not side.class_C.size:
        return np.zeros(side.rows, dtype=np.int64)
    start_N, place_N = side.text.offsets[:-1], side.text.offsets[1:] - 1
    for _ in range(_MAX_SKIPPED):
        inside_N = place_N >= start_N
        place_N = place_N - (inside_N & (_SKIPPED_AT_END[side.class_C[np.maximum(place_N, 0)]] > 0))
    class_N = np.where(place_N >= start_N, side.class_C[np.maximum(place_N, 0)], 0)
    return np.where(np.isin(class_N, _TERMINALS), class_N, 0)


def _unbalanced(side: Side) -> I64:
    total_N = np.zeros(side.rows, dtype=np.int64)
    for opening, closing in _PAIRED:
        total_N += np.abs(side.counts_GN[opening] - side.counts_GN[closing])
    return total_N
