"""Scores of a row are the same bits whatever rows stand beside it, in whatever order and chunks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisift.filter.features import Sides, measure
from bisift.filter.inference import Scorer
from bisift.filter.ngrams import MAX_CHARS, ORDERS, language_salt, ngram_sums, ngrams
from bisift.filter.text import Text

SENTENCES = [
    ("The house is small, and nobody lives in it.", "Das Haus ist klein, und niemand wohnt darin."),
    ("“Why?” she asked — 12 times.", "「なぜ?」と彼女は12回尋ねた。"),
    ("See https://example.org/a?b=1 for 3.14", "Viz https://example.org/a?b=1 pro 3,14"),
    ("", ""),
    ("word " * 300, "slovo " * 280),
    ("x", "дом " * 40),
    ("no spaces" * 50, "长" * 400),
    ("\t \u2028 ", "नमस्ते दुनिया"),
]
LANGUAGES = ["de", "ja", "cs", None, "en", "xx", "zh", "hi"]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
rows = st.lists(
    st.one_of(
        st.sampled_from([(*pair, language) for pair, language in zip(SENTENCES, LANGUAGES, strict=True)]),
        st.tuples(texts, texts, st.sampled_from(LANGUAGES)),
    ),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.load()


def score(scorer: Scorer, chunk: list[tuple[str, str, str | None]]) -> pa.Table:
    source, target, languages = (list(column) for column in zip(*chunk, strict=True))
    pairs = pa.table(
        {
            "source": pa.array(source, pa.string()),
            "target": pa.array(target, pa.string()),
            "source_lang": pa.array(["en"] * len(chunk), pa.string()),
            "target_lang": pa.array(languages, pa.string()),
        }
    )
    sides = Sides.of(pairs)
    return scorer.score(pairs, sides, measure(pairs, sides)).combine_chunks()


def bits(table: pa.Table) -> list[tuple[object, ...]]:
    columns = []
    for column in table.columns:
        values = column.to_numpy(zero_copy_only=False) if column.null_count == 0 else np.zeros(len(column))
        columns.append(values.view(np.uint32) if values.dtype == np.float32 else values)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk=rows, seed=st.integers(0, 1000), cut=st.integers(1, 40))
def test_order_and_chunks_change_no_bit(
    scorer: Scorer, chunk: list[tuple[str, str, str | None]], seed: int, cut: int
) -> None:
    whole = bits(score(scorer, chunk))
    order = np.random.default_rng(seed).permutation(len(chunk))
    shuffled = bits(score(scorer, [chunk[place] for place in order]))
    assert [whole[place] for place in order] == shuffled
    parts = [bits(score(scorer, chunk[start : start + cut])) for start in range(0, len(chunk), cut)]
    assert whole == [row for part in parts for row in part]


def test_a_row_among_thousands_has_the_bits_that_it_has_alone(scorer: Scorer) -> None:
    rng = np.random.default_rng(1)
    words = ["house", "Haus", "the", "das", "12", "дом", "是", ",", "small", "klein"]
    many: list[tuple[str, str, str | None]] = [
        (" ".join(rng.choice(words, rng.integers(0, 70))), " ".join(rng.choice(words, rng.integers(0, 70))), "de")
        for _ in range(3000)
    ]
    whole = bits(score(scorer, many))
    for place in (0, 1, 1499, 2999, *rng.integers(0, 3000, 20).tolist()):
        assert bits(score(scorer, [many[place]])) == [whole[place]]


@settings(max_examples=50, deadline=None)
@given(column=st.lists(texts, min_size=1, max_size=8), language=st.sampled_from(["de", "zh", None]))
def test_ngram_sums_equal_a_count_in_plain_python(column: list[str], language: str | None) -> None:
    table = np.random.default_rng(2).integers(-127, 128, 1 << 12).astype(np.int8)
    salt = language_salt([language] * len(column))
    total, count = ngram_sums(Text.of(pa.array(column)), salt, table)
    assert count.tolist() == [sum(max(len(text) - order, 0) for order in range(ORDERS)) for text in column]
    parts = list(ngrams(Text.of(pa.array(column)), salt, 12))
    for place, text in enumerate(column):
        ids = np.concatenate([ids[rows == place] for ids, rows in parts])
        assert (len(ids), table[ids].sum(dtype=np.int64)) == (count[place], total[place])
        alone, _ = ngram_sums(Text.of(pa.array([text])), salt[:1], table)
        assert total[place] == alone[0]


def test_ngrams_of_a_long_row_are_capped() -> None:
    table = np.ones(1 << 12, np.int8)
    _, count = ngram_sums(Text.of(pa.array(["ab" * 500_000])), language_salt(["de"]), table)
    assert count[0] <= ORDERS * (MAX_CHARS + ORDERS)
