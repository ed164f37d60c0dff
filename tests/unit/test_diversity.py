"""Lexical diversity: against an independent implementation, and samples of prefixes."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bisift.filter.diversity import PREFIXES, Diversity, PrefixSample, Tokens, distinct, mtld, type_token
from tests.corpus import pairs

TEXTS = {
    "english": " ".join(pair.source for pair in pairs(150)).lower(),
    "german": " ".join(pair.target for pair in pairs(90, seed=3)).lower(),
    "one word": "again " * 37,
}


def plain_words(name: str) -> list[str]:
    """Words without punctuation that are one token each."""
    text = "".join(character if character.isalnum() else " " for character in TEXTS[name])
    return [word for word in text.split() if all(character < "\u0250" for character in word)]


# Of lexicalrichness 0.5.1: words, MTLD at 0.72 and at 0.66, mean segmental type-token ratio of 31 words.
PEER = {
    "english": (1228, 25.116918391703365, 30.719199499687306, 0.6674937965260545),
    "german": (668, 25.185106283412033, 32.35083090757051, 0.686635944700461),
    "one word": (37, 2.0555555555555554, 2.0555555555555554, 0.03225806451612903),
}


@pytest.mark.parametrize("name", TEXTS)
def test_mtld_and_type_token_ratio_are_those_of_an_independent_implementation(name: str) -> None:
    mine = Tokens.of(pa.array([" ".join(plain_words(name))])).hash_T
    found = (len(mine), mtld(mine), mtld(mine, 0.66), type_token(mine, 31))
    assert found == pytest.approx(PEER[name], abs=1e-6)


@pytest.mark.parametrize("name", TEXTS)
def test_the_independent_implementation_still_says_so(name: str) -> None:
    peer = pytest.importorskip("lexicalrichness", reason="pip install lexicalrichness").LexicalRichness(
        plain_words(name), preprocessor=None, tokenizer=None
    )
    assert (peer.words, peer.mtld(0.72), peer.mtld(0.66), peer.msttr(31)) == pytest.approx(PEER[name], abs=1e-6)


def test_distinct_counts_within_rows() -> None:
    both = Tokens.of(pa.array(["a b a b", "a b", "", "c"]))
    assert distinct(both, 1) == pytest.approx(3 / 7)
    assert distinct(both, 2) == pytest.approx(2 / 4)  # ab ba ab | ab: none across rows
    assert distinct(both, 4) == 1.0
    assert distinct(both.head(1), 2) is None


def test_what_is_too_short_has_no_measure() -> None:
    empty = Diversity.of(Tokens.of(pa.array(["", "...", "!?"])))
    assert (empty.tokens, empty.type_token, empty.mtld, empty.distinct) == (0, None, None, (None,) * 4)
    assert mtld(Tokens.of(pa.array(["all words differ"])).hash_T) == 3.0


def test_tokens_of_cjk_are_characters_and_case_is_folded() -> None:
    assert len(Tokens.of(pa.array(["日本語 TEXT"])).hash_T) == 4
    assert Tokens.of(pa.array(["Ab"])).hash_T == Tokens.of(pa.array(["aB"])).hash_T


def test_a_monotonous_head_is_seen() -> None:
    rows = ["the same words"] * 500 + [f"word{n} other{n} third{n}" for n in range(500)]
    found = []
    for step in (1_000, 7):
        sample = PrefixSample(1_000, seed=1)
        for start in range(0, 1_000, step):
            sample.add(pa.chunked_array([rows[start : start + step]]))
        found.append(sample.measure())
    assert found[0] == found[1]  # however the rows arrive
    prefixes = found[0]
    assert [prefix.share for prefix in prefixes] == list(PREFIXES)
    assert [prefix.pairs for prefix in prefixes] == [10, 20, 50, 100, 200, 500, 1_000]
    for prefix in prefixes[:-1]:
        assert prefix.ordered.tokens == prefix.random.tokens
        assert (prefix.ordered.distinct[0] or 0) < 0.2 < (prefix.random.distinct[0] or 0)
    assert prefixes[-1].ordered == prefixes[-1].random


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_few_rows(rows: int) -> None:
    sample = PrefixSample(rows)
    sample.add(pa.chunked_array([["one two"] * rows], pa.string()))
    assert len(sample.measure()) == (len(PREFIXES) if rows else 0)
