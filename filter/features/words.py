"""What is measured of words, and of words and letters that both sides share.

Suffixes: C code points of all rows joined, N rows, W words, T tokens, R rows picked out, P positions picked out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Indel
from rapidfuzz.process import cpdist

from bisift.filter import text
from bisift.filter.features import classes
from bisift.filter.features.classes import IS_LETTER, IS_LOWER, IS_UPPER, KIND_OF_CLASS
from bisift.filter.features.keys import count_keys, row_keys, shared
from bisift.filter.features.sides import Side, Sides
from bisift.filter.text import I64, U32, U64, Bool, ragged_index

F32 = npt.NDArray[np.float32]

COMPARED_CHARS = 400
"""Code points of a side that `copy_similarity` compares."""
TRIGRAM_CHARS = 256
"""Code points of a side whose trigrams are compared."""
MIN_RUNNING_WORDS = 4
"""Words that are no names from which on a copy counts as untranslated."""
MIN_TITLE_WORDS = 8

_BUCKETS = 1024
_BLOCK_ROWS = 4096
_KEY_1, _KEY_2, _KEY_3 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_STANDS_ALONE = np.isin(KIND_OF_CLASS, (text.HAN, text.KANA, text.THAI))
_IN_WORD = IS_LETTER | np.isin(KIND_OF_CLASS, (text.DIGIT, text.MARK)).astype(np.uint8)
_IS_SPACED = IS_LETTER & ~_STANDS_ALONE


def longest_word(side: Side) -> I64:
    """Length of the longest run of letters, digits and marks in each row; SEA scripts, which have no spaces, aside.

    Punctuation ends a run, so that URLs, paths and qualified names are no long words.
    """
    tokens = side.text.tokens
    length_T = tokens.length_T * _IN_WORD[side.class_C[tokens.start_T]]
    if side.kinds_KN[text.SEA].any():
        place = np.flatnonzero(side.class_C == text.SEA)
        length_T[np.searchsorted(tokens.start_T, place, side="right") - 1] = 0
    return _largest(length_T, tokens.row_T, side.rows)


def _largest(values_W: I64, row_W: I64, rows: int) -> I64:
    """Largest value of each row; 0 in a row without any."""
    out_N = np.zeros(rows, dtype=np.int64)
    if row_W.size:
        first = np.flatnonzero(np.concatenate([[True], row_W[1:] != row_W[:-1]]))
        out_N[row_W[first]] = np.maximum.reduceat(values_W, first)
    return out_N


def title_case(sides: Sides) -> F32:
    """Share of words (two letters or more) with a capital before a small letter, on the side with fewer.

    0 where a side has under MIN_TITLE_WORDS words; text in capitals is no title case.
    """

    def share_N(side: Side) -> npt.NDArray[np.float64]:
        longer = side.words.length_T > 1
        start_W, row_W = side.words.start_T[longer], side.words.row_T[longer]
        initial_W = side.class_C[start_W]
        title_W = IS_UPPER[initial_W] & IS_LOWER[side.class_C[start_W + 1]]
        title_N = np.bincount(row_W[title_W > 0], minlength=side.rows)
        words_N = np.bincount(row_W[IS_LETTER[initial_W] > 0], minlength=side.rows)
        return np.where(words_N >= MIN_TITLE_WORDS, title_N / np.maximum(words_N, 1), 0)

    return np.minimum(share_N(sides.source_side), share_N(sides.target_side)).astype(np.float32)


def _running_words(side: Side) -> I64:
    """Words that begin with a letter other than a capital; three Han, kana or Thai letters make one."""
    plain_W = _IS_SPACED[side.initial_W] > IS_UPPER[side.initial_W]
    alone_N = side.kinds_KN[text.HAN] + side.kinds_KN[text.KANA] + side.kinds_KN[text.THAI]
    running_N: I64 = np.bincount(side.words.row_T[plain_W], minlength=side.rows) + alone_N // 3
    return running_N


def spaced_letters(side: Side) -> I64:
    """Longest run of words that are single letters in each row."""
    words = side.words
    single = np.flatnonzero((words.length_T == 1) & (_IS_SPACED[side.initial_W] > 0))
    out_N = np.zeros(side.rows, dtype=np.int64)
    if single.size:
        row = words.row_T[single]
        new = np.concatenate([[True], (np.diff(single) != 1) | (row[1:] != row[:-1])])
        first = np.flatnonzero(new)
        np.maximum.at(out_N, row[first], np.diff(np.append(first, single.size)))
    return out_N


def glued_words(side: Side) -> I64:
    """Places in each row where two lower-case letters meet an upper-case and a lower-case one."""
    class_C = side.class_C
    upper = np.flatnonzero(IS_UPPER[class_C])
    upper = upper[(upper >= 2) & (upper < len(class_C) - 1)]
    lower_C = IS_LOWER
    glued = upper[
        (lower_C[class_C[upper - 1]] & lower_C[class_C[upper - 2]] & lower_C[class_C[upper + 1]]).astype(bool)
    ]
    row = side.rows_of(glued)
    inside = (side.rows_of(glued - 2) == row) & (side.rows_of(glued + 1) == row)
    return np.bincount(row[inside], minlength=side.rows)


def breadcrumbs(side: Side) -> I64:
    """Separators of navigation paths between spaces in each row; » counts only where no « opens a quotation."""
    class_C = side.class_C
    marks = (class_C == classes.GREATER) | (class_C == classes.PIPE) | (class_C == classes.RIGHT_GUILLEMET)
    place = np.flatnonzero(marks)
    place = place[(place > 0) & (place < len(class_C) - 1)]
    spaced = (KIND_OF_CLASS[class_C[place - 1]] == text.SPACE) & (KIND_OF_CLASS[class_C[place + 1]] == text.SPACE)
    place = place[spaced]
    row = side.rows_of(place)
    inside = (side.rows_of(place - 1) == row) & (side.rows_of(place + 1) == row)
    closes_quote = (class_C[place] == classes.RIGHT_GUILLEMET) & (side.count_N(classes.LEFT_GUILLEMET)[row] > 0)
    return np.bincount(row[inside & ~closes_quote], minlength=side.rows)


def type_token(side: Side) -> F32:
    """Distinct tokens over tokens; 1 without tokens."""
    tokens_N = np.bincount(side.text.tokens.row_T, minlength=side.rows)
    distinct_N = count_keys(row_keys(side.text.tokens.row_T, side.text.token_hash_T), side.rows)
    return np.where(tokens_N > 0, distinct_N / np.maximum(tokens_N, 1), 1).astype(np.float32)


def copied_words(sides: Sides) -> F32:
    """Share of the target's distinct words (tokens that begin with a letter) that the source has; 0 without words."""

    def keys(side: Side) -> U64:
        tokens = side.text.tokens
        word_T = side.letter_C[tokens.start_T] > 0
        return row_keys(tokens.row_T[word_T], side.text.token_hash_T[word_T])

    rows = sides.source_side.rows
    source_K, target_K = keys(sides.source_side), keys(sides.target_side)
    return (shared(source_K, target_K, rows) / np.maximum(count_keys(target_K, rows), 1)).astype(np.float32)


def trigram_overlap(sides: Sides) -> F32:
    """Share of the target's letter trigrams (lower-cased) that the source has; 0 without any.

    The source's are held in 1,024 buckets a row, so a trigram that it lacks is found by chance with a probability of at
    most a fifth (and under a tenth below 100 code points).
    """
    rows = sides.source_side.rows
    source_row, source_bucket = _trigrams(sides.source_side)
    target_row, target_bucket = _trigrams(sides.target_side)
    found_N = np.zeros(rows, dtype=np.int64)
    table = np.zeros(_BLOCK_ROWS * _BUCKETS, dtype=np.uint8)
    for start in range(0, rows, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, rows)
        s0, s1 = np.searchsorted(source_row, (start, stop))
        t0, t1 = np.searchsorted(target_row, (start, stop))
        cells = (source_row[s0:s1] - start) * _BUCKETS + source_bucket[s0:s1]
        table[cells] = 1
        hit = table[(target_row[t0:t1] - start) * _BUCKETS + target_bucket[t0:t1]] > 0
        found_N[start:stop] = np.bincount(target_row[t0:t1][hit] - start, minlength=stop - start)
        table[cells] = 0
    total_N = np.bincount(target_row, minlength=rows)
    return (found_N / np.maximum(total_N, 1)).astype(np.float32)


def _trigrams(side: Side) -> tuple[I64, I64]:
    """Row and bucket of each trigram of letters within the first TRIGRAM_CHARS code points, in text order."""
    letter_C = side.letter_C
    if len(letter_C) < 3:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    row_C = side.text.row_C
    inside = (letter_C[:-2] & letter_C[1:-1] & letter_C[2:]).astype(bool)
    inside &= row_C[2:] == row_C[:-2]
    place = np.flatnonzero(inside)
    row = row_C[place]
    if side.rows and int(side.text.length_N.max()) > TRIGRAM_CHARS:
        near = place - side.text.offsets[row] <= TRIGRAM_CHARS - 3
        place, row = place[near], row[near]
    codes_C: U32 = side.text.lower_C
    mixed = codes_C[place] * _KEY_1 ^ codes_C[place + 1] * _KEY_2 ^ codes_C[place + 2] * _KEY_3
    mixed = (mixed ^ (mixed >> np.uint32(15))) * _KEY_2
    return row, (mixed >> np.uint32(22)).astype(np.int64)


def copy_similarity(sides: Sides) -> F32:
    """1 - normalised Indel distance of the lower-cased sides (2 LCS / (a + b)); 0 if one is empty."""
    source, target = (
        [text[:COMPARED_CHARS].lower() for text in side.texts] for side in (sides.source_side, sides.target_side)
    )
    similar_N = cpdist(source, target, scorer=Indel.normalized_similarity, dtype=np.float32)
    similar_N[(sides.source_side.solid_N == 0) | (sides.target_side.solid_N == 0)] = 0
    return np.asarray(similar_N, dtype=np.float32)


def untranslated(sides: Sides, similarity_N: F32) -> F32:
    """The similarity, or 1 where both sides have the same letters; 0 where there is little that could be translated.

    Little: fewer than MIN_RUNNING_WORDS words that begin with a small letter on a side: names, numbers, commands stay.
    """
    enough_N = np.minimum(_running_words(sides.source_side), _running_words(sides.target_side)) >= MIN_RUNNING_WORDS
    same_N = np.where(_same_letters(sides), np.float32(1), similarity_N)
    return np.where(enough_N, same_N, np.float32(0))


def _same_letters(sides: Sides) -> Bool:
    """Whether both sides have the same letters in the same order, case and all else aside; False without letters."""
    source, target = sides.source_side, sides.target_side
    same_N = (source.letters_N == target.letters_N) & (source.letters_N > 0)
    rows = np.flatnonzero(same_N)
    if rows.size:
        count_R = source.letters_N[rows]
        left, right = (_letters_of(side, rows, count_R) for side in (source, target))
        first = np.cumsum(count_R) - count_R
        same_N[rows] = np.bitwise_and.reduceat(left == right, first)
    return np.asarray(same_N)


def _letters_of(side: Side, rows: I64, count_R: I64) -> U32:
    """The letters of the rows, joined and lower-cased."""
    letters_C = np.flatnonzero(side.letter_C)
    before_N = np.cumsum(side.letters_N) - side.letters_N
    return side.text.lower_C[letters_C[ragged_index(before_N[rows], count_R)]]
