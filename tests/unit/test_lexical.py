"""The lexical table: lookups and statistics against slow calculations, and EM on a toy corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bisift.errors import ModelError
from bisift.filter import lexical
from bisift.filter.lexical import LOG_STEP, OOV_IDS, STATISTICS, Lexicon
from bisift.filter.text import Text
from bisift.models.lexical import Bitext, Links, fit
from bisift.models.lexical_table import encode_log, hash_vocabulary, pair_table

ENGLISH = ["the", "house", "is", "small", "red", "a", "car", "."]
GERMAN = ["das", "haus", "ist", "klein", "rot", "ein", "auto", "."]


def hashes(words: list[str]) -> np.ndarray:
    text = Text.of(pa.array(words))
    return text.hash_spans(text.tokens)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    words = list(dict.fromkeys(ENGLISH + GERMAN))
    vocabulary = np.concatenate([np.zeros(OOV_IDS + 1, np.uint64), hashes(words)])
    word_key, word_id = hash_vocabulary(vocabulary)
    number = {word: OOV_IDS + 1 + place for place, word in enumerate(words)}
    links = Links(
        source_K=np.array([number[word] for word in ENGLISH], np.int32),
        target_K=np.array([number[word] for word in GERMAN], np.int32),
        forward_K=np.full(8, 0.8),
        backward_K=np.full(8, 0.6),
        style_K=np.linspace(-1, 1, 8),
        count_K=np.full(8, 10.0),
    )
    rare = encode_log(np.full(len(vocabulary), 1e-4))
    return Lexicon(
        word_key=word_key, word_id=word_id, null_forward=rare, null_backward=rare, **pair_table(links, bits=10)
    )


def statistics(lexicon: Lexicon, source: list[str], target: list[str]) -> dict[str, np.ndarray]:
    return lexicon.statistics(lexicon.words(Text.of(pa.array(source))), lexicon.words(Text.of(pa.array(target))))


def test_words_are_found_and_others_share_the_low_ids(lexicon: Lexicon) -> None:
    known = lexicon.words(Text.of(pa.array(["The house"])))
    assert known.id_K.tolist() == [OOV_IDS + 1, OOV_IDS + 2]
    other = lexicon.words(Text.of(pa.array(["zyzzyva"])))
    assert 1 <= other.id_K[0] <= OOV_IDS


def test_a_translation_is_explained_and_a_wrong_one_is_not(lexicon: Lexicon) -> None:
    found = statistics(lexicon, ["the house is small .", "the house is small ."], ["das haus ist klein .", "ein auto"])
    assert found["lexical_coverage"][0] == 1
    assert found["lexical_coverage"][1] == 0
    assert found["unexplained_target"].tolist() == [0, 1]
    assert found["lexical_forward"][0] > -2.5
    assert found["lexical_forward"][1] < -9


def test_forward_is_the_mean_log_of_model_1(lexicon: Lexicon) -> None:
    found = statistics(lexicon, ["the house"], ["das haus"])
    share = np.exp(-LOG_STEP * np.rint(-np.log(0.8) / LOG_STEP)) + np.exp(-LOG_STEP * np.rint(-np.log(1e-4) / LOG_STEP))
    assert found["lexical_forward"][0] == pytest.approx(np.log(share / 3), abs=1e-4)
    assert found["forward_deviation"][0] == pytest.approx(0, abs=1e-3)


def test_order_shows_in_displacement_and_inversions(lexicon: Lexicon) -> None:
    found = statistics(lexicon, ["house small car red"] * 2, ["haus klein auto rot", "rot auto klein haus"])
    assert found["displacement"].tolist() == [0, 0.5]
    assert found["inversions"].tolist() == [0, 0.75]


def test_equal_tokens_count_as_identical_though_no_table_knows_them(lexicon: Lexicon) -> None:
    found = statistics(lexicon, ["Zürich 1234"], ["zürich 1234 x"])
    assert found["identical"][0] == pytest.approx(2 / 3)
    assert found["unexplained_target"][0] == pytest.approx(1 / 3)


def test_style_is_the_mean_of_the_best_links(lexicon: Lexicon) -> None:
    found = statistics(lexicon, ["the", "."], ["das", "."])
    assert found["style"][0] == pytest.approx(-1, abs=1 / 64)
    assert found["style"][1] == 0  # the same text says nothing of style


def test_a_side_without_tokens_gives_zeros(lexicon: Lexicon) -> None:
    found = statistics(lexicon, ["", "the", "   "], ["das", "", ""])
    assert all(not found[name].any() for name in STATISTICS)


def test_other_slices_give_the_same_bits(lexicon: Lexicon, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    source = [" ".join(rng.choice(ENGLISH, rng.integers(0, 12))) for _ in range(300)]
    target = [" ".join(rng.choice(GERMAN, rng.integers(0, 12))) for _ in range(300)]
    whole = statistics(lexicon, source, target)
    monkeypatch.setattr(lexical, "_CELLS", 100)
    for start in range(0, 300, 77):
        part = statistics(lexicon, source[start : start + 77], target[start : start + 77])
        for name in STATISTICS:
            np.testing.assert_array_equal(part[name], whole[name][start : start + 77], err_msg=name)


def test_a_very_long_row_is_cut(lexicon: Lexicon) -> None:
    words = lexicon.words(Text.of(pa.array(["the " * 100_000, "a"])))
    assert words.count_N.tolist() == [lexical.MAX_TOKENS, 1]


def test_saved_and_loaded_is_the_same(lexicon: Lexicon, tmp_path: Path) -> None:
    lexicon.save(tmp_path / "a.npz")
    lexicon.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = Lexicon.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.pair_key, lexicon.pair_key)


def test_a_damaged_table_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no table")
    with pytest.raises(ModelError, match=r"bad\.npz"):
        Lexicon.load(tmp_path / "bad.npz")


def test_em_finds_the_dictionary_and_who_uses_it() -> None:
    # word i translates to 10 + i; machines say 30 instead of 10 for word 0
    rng = np.random.default_rng(0)
    source, target, writer = [], [], []
    for pair in range(400):
        words = rng.choice(8, 4, replace=False)
        machine = pair % 2 == 1
        source.append(words)
        target.append([30 if word == 0 and machine else 10 + word for word in words])
        writer.append(int(machine))
    offsets = np.arange(0, 1601, 4)
    links = fit(
        Bitext(
            source_ids=(np.concatenate(source) + OOV_IDS + 1).astype(np.int32),
            source_offsets=offsets,
            target_ids=(np.concatenate(target) + OOV_IDS + 1).astype(np.int32),
            target_offsets=offsets,
            languages_P=np.zeros(400, np.int64),
            writer_P=np.array(writer, np.int8),
        )
    )
    best = {}
    for place in np.argsort(links.forward_K):
        best[int(links.source_K[place]) - OOV_IDS - 1] = int(links.target_K[place]) - OOV_IDS - 1
    assert {word: best[word] for word in range(1, 8)} == {word: 10 + word for word in range(1, 8)}
    style = {
        int(target) - OOV_IDS - 1: value
        for source, target, value in zip(links.source_K, links.target_K, links.style_K, strict=True)
        if source == OOV_IDS + 1
    }
    assert style[30] > 1 > -1 > style[10]
