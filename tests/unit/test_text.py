"""Decoded sides: kinds, words, tokens and hashes of code points."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bisift.filter import text
from bisift.filter.features import classes
from bisift.filter.text import Spans, Text, kinds_of, ragged_index


def spelled(side: Text, spans: Spans) -> list[list[str]]:
    """The text of each run, by row."""
    rows: list[list[str]] = [[] for _ in range(side.rows)]
    for start, end, row in zip(spans.start_T, spans.end_T, spans.row_T, strict=True):
        rows[row].append("".join(map(chr, side.codes_C[start:end])))
    return rows


def test_a_column_and_strings_decode_alike() -> None:
    column = pa.chunked_array([["añb", None], ["", "😀漢"]])
    decoded, same = Text.of(column), Text.of_strings(["añb", "", "", "😀漢"])
    assert decoded.codes_C.tolist() == same.codes_C.tolist() == [ord(c) for c in "añb😀漢"]
    assert decoded.offsets.tolist() == same.offsets.tolist() == [0, 3, 3, 3, 5]
    assert decoded.length_N.tolist() == [3, 0, 0, 2]


@pytest.mark.parametrize(
    ("character", "kind"),
    [
        ("a", text.LATIN),
        ("Ж", text.CYRILLIC),
        ("漢", text.HAN),
        ("𠀀", text.HAN),
        ("の", text.KANA),
        ("한", text.HANGUL),
        ("ก", text.THAI),
        ("क", text.DEVANAGARI),
        ("த", text.INDIC),
        ("٣", text.DIGIT),
        ("\u0301", text.MARK),
        ("。", text.PUNCTUATION),
        ("😀", text.SYMBOL),
        ("\u00a0", text.SPACE),
        ("\u200d", text.OTHER),
        ("\U000e0001", text.OTHER),
    ],
)
def test_kind_of_a_character(character: str, kind: int) -> None:
    assert kinds_of(np.array([ord(character)], dtype=np.uint32)).tolist() == [kind]


def test_words_and_tokens_never_leave_their_row() -> None:
    side = Text.of_strings(["Don't stop", "", "me now漢字", "x"])
    assert spelled(side, side.words) == [["Don't", "stop"], [], ["me", "now", "漢", "字"], ["x"]]
    assert spelled(side, side.tokens) == [["Don", "'", "t", "stop"], [], ["me", "now", "漢", "字"], ["x"]]


def test_the_same_token_hashes_alike_anywhere_and_lower_cased() -> None:
    long = "Donaudampfschifffahrtsgesellschaft"
    side = Text.of_strings([f"a {long}", f"{long.upper()} b A"])
    hashes = side.token_hash_T
    assert hashes[1] == hashes[2]
    assert hashes[0] == hashes[4]
    assert len(set(hashes.tolist())) == 3
    assert side.hash_spans(side.tokens, lower=False)[1] != side.hash_spans(side.tokens, lower=False)[2]


def test_ragged_index_joins_runs() -> None:
    assert ragged_index(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


def test_every_class_has_the_kind_of_its_code_points() -> None:
    table = classes.class_table()
    assert np.array_equal(classes.KIND_OF_CLASS[table], text.kind_table())
    assert table.max() < classes.CLASSES
