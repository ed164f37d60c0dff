"""Features depend on their own pair alone, to the bit, and agree with slow and plain definitions of them."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from bisift.filter.features import Sides, measure
from bisift.filter.features.repetition import COPIES, MAX_UNIT, MIN_COVERED, MIN_UNIT, repetition
from bisift.filter.profile import load_profile
from bisift.filter.rules import judge
from bisift.filter.text import LETTER, kinds_of

PIECES = [
    *("the ", "Haus ", "漢字", "かな", "สวัสดี", "שלום ", "١٢٣", "1,000.5 ", "2 ", "http://a.example.org/x ", "a@b.org "),
    *("%s ", "{x}", "{{y}}", "<b>", "&amp;", "(", ")", "[", "“", "”", "« ", " »", " > ", "\\u00e9", "Ã©", "\ufffd"),
    *(
        "\x00",
        "\x85",
        "\n",
        "e\u0301",
        "😀",
        "\U00020000",
        "camelCase",
        "h e l l o ",
        "ABC ",
        "...",
        "…",
        "?",
        " ",
        "-",
    ),
]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=30).map("".join)
LANG = st.sampled_from([None, "en", "ja", "zh-TW", "sr", "xx"])
ROWS = st.lists(st.tuples(TEXT, TEXT, LANG, LANG), min_size=1, max_size=12)


def pairs_of(rows: list[tuple[str, str, str | None, str | None]]) -> pa.Table:
    names = ("source", "target", "source_lang", "target_lang")
    columns = zip(*rows, strict=True)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 11))
def test_chunks_change_nothing(rows: list[tuple[str, str, str | None, str | None]], cut: int) -> None:
    pairs = pairs_of(rows)
    whole = measure(pairs, Sides.of(pairs))
    parts = [pairs.slice(start, cut) for start in range(0, len(rows), cut)]
    joined = pa.concat_tables([measure(part, Sides.of(part)) for part in parts])
    assert whole.to_pylist() == joined.to_pylist()
    profile = load_profile()
    failed = [judge(measure(part, Sides.of(part)), None, profile) for part in parts]
    assert judge(whole, None, profile).tolist() == np.concatenate(failed).tolist()


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_values_are_finite_and_shares_are_shares(rows: list[tuple[str, str, str | None, str | None]]) -> None:
    pairs = pairs_of(rows)
    features = measure(pairs, Sides.of(pairs))
    for name, column in zip(features.column_names, features.columns, strict=True):
        if pa.types.is_string(column.type):
            continue
        values = column.drop_null().to_numpy()
        assert np.isfinite(values).all(), name
        if not name.endswith("_difference"):
            assert (values >= 0).all(), name
        if pa.types.is_floating(column.type) and not name.endswith(("_difference", "length_ratio", "mean_word")):
            assert (values <= 1).all(), name


def plain_repetition(text: str) -> float:
    """The longest run of copies of a unit with a letter, found by comparing every position at every lag."""
    best = 0
    low = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    for lag in range(MIN_UNIT, MAX_UNIT + 1):
        run = 0
        for place in range(len(low) - lag + 1):
            if place < len(low) - lag and low[place] == low[place + lag]:
                run += 1
                continue
            unit = np.array([ord(c) for c in low[place - run : place - run + lag]], dtype=np.uint32)
            if run >= (COPIES - 1) * lag and (kinds_of(unit) >= LETTER).any():
                best = max(best, run + lag)
            run = 0
    return best / len(text) if best >= MIN_COVERED else 0.0


UNITS = st.text(st.sampled_from("abA ,漢é"), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(UNITS, st.integers(1, 9), UNITS), min_size=1, max_size=6))
def test_repetition_is_what_comparing_every_position_finds(rows: list[tuple[str, int, str]]) -> None:
    texts = [f"{before}{unit * times}{before}" for unit, times, before in rows]
    sides = Sides.of(pairs_of([(text, "", None, None) for text in texts]))
    assert repetition(sides.source_side).tolist() == [np.float32(plain_repetition(text)) for text in texts]


NUMBERS = st.lists(st.integers(0, 30).map(str), max_size=6)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_numbers_are_compared_as_multisets(rows: list[tuple[list[str], list[str]]]) -> None:
    pairs = pairs_of([(" a ".join(left), " b ".join(right), None, None) for left, right in rows])
    wanted = []
    for left, right in rows:
        larger = max(len(left), len(right))
        share = (Counter(left) & Counter(right)).total() / larger if larger else 1
        wanted.append(np.float32(1 if "".join(left) == "".join(right) else share))
    assert measure(pairs, Sides.of(pairs), language_id=False)["number_match"].to_pylist() == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8))
def test_words_are_what_split_finds(texts: list[str]) -> None:
    plain = [re.sub(r"[^\x20-\x7e]", "", text) for text in texts]
    pairs = pairs_of([(text, text, None, None) for text in plain])
    features = measure(pairs, Sides.of(pairs), language_id=False)
    assert features["source_words"].to_pylist() == [len(text.split()) for text in plain]
    runs = [[len(run) for run in re.findall(r"[A-Za-z0-9]+", text)] for text in plain]
    assert features["source_longest_word"].to_pylist() == [max(run, default=0) for run in runs]
    copied = [
        1.0 if re.search("[A-Za-z]", text) and any(re.findall(r"(?<![A-Za-z0-9])[A-Za-z]", text)) else 0.0
        for text in plain
    ]
    assert features["copied_words"].to_pylist() == copied
