"""Batches: the same order however they are read, little padding, and nothing lost but what cannot be trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisift.errors import BisiftError, ConfigError, ContractError, InputError
from bisift.trainer.batches import Batches, Position, Update
from bisift.trainer.curricula import Ordered, Shuffled, View
from bisift.trainer.loader import Sources, check_scores, load, make_view, tag_edges
from bisift.trainer.marks import Tags, Weights
from bisift.trainer.shards import Ranking
from bisift.trainer.tokens import Tokens
from bisift.trainer.vocabulary import (
    BOS,
    EOS,
    PAD,
    TAGS,
    Vocabulary,
    VocabularyConfig,
    tag_id,
    train_vocabulary,
    vocabulary_of,
)
from tests.ranked import clean, write_ranked

TEXTS = clean(600)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return train_vocabulary([text for pair in TEXTS for text in pair], VocabularyConfig(size=400), seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ranked(tmp_path_factory.mktemp("batches") / "ranked", TEXTS)


def make(folder: Path, vocabulary: Vocabulary, **settings: Any) -> Batches:
    ranking = Ranking.open([str(folder)])
    base: dict[str, Any] = {
        "tokens": Tokens(ranking, vocabulary, folder.parent / "cache"),
        "order": Shuffled(),
        "view": View(ranking.rows),
        "seed": 3,
        "batch_tokens": 400,
        "micro_batches": 2,
        "pool": 5,
        "max_length": 100,
    }
    return Batches(**base | settings)


def rows(updates: Iterator[Update], count: int) -> list[list[list[int]]]:
    return [[batch.row_B.tolist() for batch in update.batches] for update in islice(updates, count)]


def test_order_is_the_same_for_any_number_of_ranks_and_workers(folder: Path, vocabulary: Vocabulary) -> None:
    batches = make(folder, vocabulary)
    expected = rows(load(batches, Position()), 40)
    assert all(len(update) == 2 for update in expected)
    for workers in (1, 2):
        assert rows(load(batches, Position(), workers=workers), 40) == expected
    for workers in (0, 2):
        ranks = [rows(load(batches, Position(), rank=rank, ranks=2, workers=workers), 40) for rank in (0, 1)]
        assert [one + other for one, other in zip(*ranks, strict=True)] == expected
    whole = [update.tokens for update in islice(load(batches, Position()), 40)]
    assert [update.tokens for update in islice(load(batches, Position(), rank=1, ranks=2), 40)] == whole


@pytest.mark.parametrize("done", [1, 4, 7, 23])
def test_reading_goes_on_at_any_update(folder: Path, vocabulary: Vocabulary, done: int) -> None:
    batches = make(folder, vocabulary, order=Ordered(stages=3))
    updates = list(islice(load(batches, Position()), 30))
    after = Position(**json.loads(json.dumps(updates[done - 1].after.to_json())))
    again = rows(load(batches, after), 30 - done)
    assert again == [[batch.row_B.tolist() for batch in update.batches] for update in updates[done:]]
    assert [one.after for one in islice(load(batches, after), 30 - done)] == [one.after for one in updates[done:]]


def test_ranks_must_divide_the_micro_batches(folder: Path, vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError, match="micro_batches 2 cannot be dealt to 3 ranks: make it a multiple of 3"):
        load(make(folder, vocabulary), Position(), ranks=3)


def test_a_pass_draws_every_pair_once_and_sizes_are_kept(folder: Path, vocabulary: Vocabulary) -> None:
    batches = make(folder, vocabulary, pool=10)
    seen: list[int] = []
    for update in load(batches, Position()):
        for batch in update.batches:
            assert len(batch.real_M) <= 200
            seen += batch.row_B.tolist()
        assert update.tokens == sum(len(batch.real_M) for batch in update.batches) == update.weight
        if update.after.draw > len(TEXTS):
            break
    counts = np.bincount(seen[: len(TEXTS)], minlength=len(TEXTS))
    assert counts.sum() == len(TEXTS)
    # A pool that the pass ends in is mixed with the next: all but its pairs have been drawn just once.
    assert (counts == 1).mean() > 0.7


def test_padding_is_under_a_tenth(folder: Path, vocabulary: Vocabulary) -> None:
    updates = list(islice(load(make(folder, vocabulary, pool=100, micro_batches=1), Position()), 100))
    padded = sum(update.padded for update in updates)
    real = sum(update.real for update in updates)
    assert 1 - real / padded < 0.1
    places = sum(batch.source_BS.numel() + batch.target_BT[:, 1:].numel() for one in updates for batch in one.batches)
    held = sum(int((b.source_BS != PAD).sum()) + len(b.real_M) for one in updates for b in one.batches)
    assert (places, held) == (padded, real)


def test_a_batch_holds_the_text_of_its_rows(folder: Path, vocabulary: Vocabulary) -> None:
    (update,) = islice(load(make(folder, vocabulary), Position()), 1)
    batch = update.batches[1]
    for place, row in enumerate(batch.row_B.tolist()):
        source = [piece for piece in batch.source_BS[place].tolist() if piece != PAD]
        target = [piece for piece in batch.target_BT[place].tolist() if piece != PAD]
        assert (source[-1], target[0], target[-1]) == (EOS, BOS, EOS)
        assert vocabulary.decode([source[:-1], target[1:-1]]) == list(TEXTS[row])


def test_order_leaves_in_curriculum_order_from_pool_to_pool(folder: Path, vocabulary: Vocabulary) -> None:
    batches = make(folder, vocabulary, order=Ordered(stages=6), pool=2)
    highest = [max(max(part) for part in update) for update in rows(load(batches, Position()), 10)]
    assert max(highest[:2]) < 100
    assert make_view(Ranking.open([str(folder)]), Ordered(), keep_human=False) == View(len(TEXTS))


def test_long_and_empty_pairs_are_left_out_and_counted(tmp_path: Path, vocabulary: Vocabulary) -> None:
    texts = [*clean(30), ("x " * 500_000, "one very long source"), ("", "no source"), ("no target", ""), ("🙂", "א")]
    batches = make(write_ranked(tmp_path / "odd", texts), vocabulary, pool=3)
    seen = {row for update in rows(load(batches, Position()), 20) for part in update for row in part}
    assert seen == set(range(len(texts))) - {30, 31, 32}
    places = [update.after for update in islice(load(batches, Position()), 20)]
    ends = {place.pool - 1: place.draw for place in places}
    row_K = batches.order.positions(np.arange(max(ends.values())), batches.view, batches.seed)
    for place in places[: -len(places) // 2]:
        end = ends[place.pool]
        assert place.skipped == np.isin(row_K[:end], [30, 31, 32]).sum()  # those of its own pool are counted, too
        assert place.draw < place.drawn <= end
    assert places[0].skipped > 0
    tagged = make(tmp_path / "odd", vocabulary, pool=3, tags=Tags(by="origin"))
    assert 31 not in {row for update in rows(load(tagged, Position()), 20) for part in update for row in part}


def test_a_ranking_of_nothing_but_long_pairs_is_an_error(tmp_path: Path, vocabulary: Vocabulary) -> None:
    batches = make(write_ranked(tmp_path / "long", [("a " * 300 + str(n), "b " * 300) for n in range(5)]), vocabulary)
    with pytest.raises(InputError, match=r"none of 16,384 .* at most 100 pieces on each, end .*: raise max_length"):
        next(load(batches, Position()))


def test_short_targets_do_not_make_huge_sources(tmp_path: Path, vocabulary: Vocabulary) -> None:
    texts = [(f"{'long words ' * 9}{number}", "b") for number in range(300)]
    batches = make(write_ranked(tmp_path / "skewed", texts), vocabulary, micro_batches=1)
    for update in islice(load(batches, Position()), 20):
        assert all(batch.source_BS.numel() <= 2 * 400 for batch in update.batches)


def test_tags_and_weights_reach_the_batch(folder: Path, vocabulary: Vocabulary) -> None:
    ranking = Ranking.open([str(folder)])
    tags, weights = Tags(by="quality", bins=4), Weights(by="human", least=0.2)
    batches = make(folder, vocabulary, tags=tags, weights=weights, edges=tag_edges(ranking, tags))
    (update,) = islice(load(batches, Position()), 1)
    total = 0.0
    for batch in update.batches:
        assert batch.weight_M is not None
        width = batch.target_BT.shape[1] - 1
        for place, row in enumerate(batch.row_B.tolist()):
            assert batch.source_BS[place, 0] == tag_id(3 - row * 4 // len(TEXTS))
            machine = row % 3 != 0
            expected = max(0.2, 1 - row % 10 / 10) if machine else 1.0
            found = batch.weight_M[batch.real_M // width == place].tolist()
            assert found == pytest.approx([expected] * len(found))
        total += float(batch.weight_M.double().sum())
    assert update.weight == pytest.approx(total)
    assert update.weight < update.tokens


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_shard_is_the_same_with_workers(tmp_path: Path, vocabulary: Vocabulary, workers: int) -> None:
    batches = make(write_ranked(tmp_path / "r", clean(40), shards=1), vocabulary)
    (path,) = (tmp_path / "r").glob("shard-*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ContractError, match=r"^\S+parquet: its SHA-256 is not the manifest's"):
        next(load(batches, Position(), workers=workers))


def test_a_missing_score_is_found_before_the_first_update(tmp_path: Path, vocabulary: Vocabulary) -> None:
    texts = clean(30)
    names = ["gpt" if number == 7 else "human" for number in range(30)]
    quality = [None if number in (0, 7) else 0.5 for number in range(30)]
    write_ranked(tmp_path / "r", texts, order="random", generator=names, quality=quality)
    batches = make(tmp_path / "r", vocabulary)
    ranking = batches.tokens.ranking
    trusted, other = (ranking.column("source").to_pylist().index(texts[number][0]) for number in (0, 7))
    with pytest.raises(ConfigError, match=rf"^\S+parquet: rank {other}: quality is null, .*rank again"):
        check_scores(ranking, None, Weights())
    check_scores(ranking, Tags(by="origin"), Weights(by="human"))
    with pytest.raises(ConfigError, match=f"rank {min(trusted, other)}: quality is null"):
        tag_edges(ranking, Tags(by="quality"))


def test_human_pairs_need_no_score_to_weigh_one(tmp_path: Path, vocabulary: Vocabulary) -> None:
    unscored: dict[str, Any] = {"generator": ["human"] * 9, "quality": [None] * 9}
    folder = write_ranked(tmp_path / "r", clean(9), order="random", **unscored)
    update = next(load(make(folder, vocabulary, weights=Weights()), Position()))
    assert update.weight == update.tokens


def test_human_pairs_first_and_generators_apart(folder: Path) -> None:
    ranking = Ranking.open([str(folder)])
    view = make_view(ranking, Ordered(), keep_human=True)
    assert view.row_N is not None
    assert view.human == 200
    assert view.row_N.tolist() == [n for n in range(600) if n % 3 == 0] + [n for n in range(600) if n % 3]


def test_no_human_pairs_to_keep(tmp_path: Path) -> None:
    ranking = Ranking.open([str(write_ranked(tmp_path / "r", clean(6), generator=["gpt"] * 6))])
    with pytest.raises(ConfigError, match="keep_human: no pair is by generator 'human': leave it out, or"):
        make_view(ranking, Shuffled(), keep_human=True)


def test_windows_are_merged_by_percentile(tmp_path: Path, vocabulary: Vocabulary) -> None:
    for name, texts in (("a", clean(10)), ("b", clean(40, seed=9))):
        write_ranked(tmp_path / name, texts)
    (tmp_path / "current.json").write_text('{"windows": ["a", "b"]}')
    sources = Sources.of(str(tmp_path), follow=True)
    view = make_view(Ranking.open(sources.folders), Ordered(), keep_human=False, merged=True)
    assert view.row_N is not None
    first = view.row_N[:25]
    assert sorted(first[first < 10]) == list(range(5))
    assert sorted(first[first >= 10]) == list(range(10, 30))


def test_encoded_row_groups_are_kept_and_a_full_disk_is_one_line(
    tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = make(write_ranked(tmp_path / "r", clean(40)), vocabulary)
    next(load(batches, Position()))
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.arrow")}
    again = make(tmp_path / "r", vocabulary)
    for path in (tmp_path / "r").glob("shard-*"):
        assert path.exists()
    next(load(again, Position()))
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*")} == kept

    cut = sorted((tmp_path / "cache").glob("*.arrow"))[0]
    cut.write_bytes(cut.read_bytes()[:-100])
    whole = rows(load(again, Position()), 5)
    assert rows(load(make(tmp_path / "r", vocabulary), Position()), 5) == whole

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bisift.trainer.tokens.pa.OSFile", full)
    other = train_vocabulary([text for pair in TEXTS for text in pair], VocabularyConfig(size=390), seed=1)
    with pytest.raises(BisiftError, match="No space left on device: name another folder with cache=DIR"):
        next(load(make(tmp_path / "r", other), Position()))


@pytest.mark.parametrize("error", [InputError("shard 3: changed"), KeyboardInterrupt()])
def test_an_error_while_texts_are_read_is_no_error_of_the_vocabulary(error: BaseException) -> None:
    def texts() -> Iterator[str]:
        yield from (source for source, _ in TEXTS)
        raise error

    with pytest.raises(type(error)) as raised:
        train_vocabulary(texts(), VocabularyConfig(size=400), seed=1)
    assert raised.value is error


def test_too_little_text_for_any_vocabulary() -> None:
    for texts in (["a b c"], [" ", ""]):
        with pytest.raises(InputError, match="it is too little: more pairs are needed"):
            train_vocabulary(texts, VocabularyConfig(size=310), seed=1)


def test_long_texts_and_any_seed_make_a_vocabulary() -> None:
    texts = [" ".join(source for source, _ in TEXTS[:100])] * 2
    assert len(texts[0].encode()) > 4_192
    assert len(train_vocabulary(texts, VocabularyConfig(size=330), seed=2**63 - 1)) == 330


def test_vocabulary_is_made_from_the_shards_and_knows_every_text(folder: Path) -> None:
    config = VocabularyConfig(size=380, pairs=100)
    one, two = (vocabulary_of(Ranking.open([str(folder)]), config, seed=1) for _ in range(2))
    assert one.proto == two.proto
    assert len(one) == 380
    for text in ("Unseen: 漢字 🙂 שלום ﬁ", "<tag0> <s> </s>", "tab\tand  spaces"):
        (ids,) = one.encode([text])
        assert one.decode([ids]) == [" ".join(text.split(" ")).replace("  ", " ")]
        assert not set(ids) & {PAD, BOS, EOS, *map(tag_id, range(TAGS))}
    with pytest.raises(InputError, match=r"no vocabulary of 5,000 pieces .*: lower vocabulary\.size to 4"):
        vocabulary_of(Ranking.open([str(folder)]), VocabularyConfig(size=5_000), seed=1)
    with pytest.raises(ConfigError, match="no type 'unigrm'; did you mean 'unigram'"):
        VocabularyConfig(type="unigrm").check()
    assert math.isclose(sum(len(ids) for ids in one.encode(["a", ""])), len(one.encode(["a"])[0]))
