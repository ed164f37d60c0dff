"""Makes the lexical table: gathers text, chooses the vocabulary, fits the links, hashes both into a `Lexicon`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter.lexical import FLOOR, LOG_STEP, OOV_IDS, STYLE_STEP, Lexicon, pair_slots, word_slots
from bisift.filter.text import I64, U8, U64
from bisift.models.data import Wmt
from bisift.models.embeddings import Pieces
from bisift.models.lexical import F64, I32, Bitext, Links, fit
from bisift.models.vocabulary import Corpus, choose

MACHINE_SAMPLES = 4
OTHER_SAMPLE = 20_000  # pairs of each corpus beside WMT
NULL_SHARE = 0.05
PAIR_BITS = 21
LEAST_PROBABILITY = 3e-3
LEAST_COUNT = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A table, and the vector of each of its word ids, shape (V, D)."""

    lexicon: Lexicon
    vectors_VD: npt.NDArray[np.float32]


class PairTable(TypedDict):
    """The arrays of a `Lexicon` that depend on the links."""

    pair_key: npt.NDArray[np.uint16]
    forward: U8
    backward: U8
    style: npt.NDArray[np.int8]


def encode_log(probability: F64) -> U8:
    """Quantise probabilities to the codes of `Lexicon.forward`."""
    code: U8 = np.clip(np.rint(-np.log(np.maximum(probability, FLOOR)) / LOG_STEP), 0, 255).astype(np.uint8)
    return code


def pair_table(links: Links, *, bits: int = PAIR_BITS) -> PairTable:
    """Hash the best links into the four pair arrays of a `Lexicon`.

    Where two links fall on one slot (the same words in two language pairs always do), the more useful one stays: count
    times the stronger probability.
    """
    size = 1 << bits
    strongest_K = np.maximum(links.forward_K, links.backward_K)
    kept = np.flatnonzero((strongest_K > LEAST_PROBABILITY) & (links.count_K > LEAST_COUNT))
    useful = links.count_K[kept] * strongest_K[kept]
    order = kept[np.argsort(useful, kind="stable")]  # the last writer of a slot wins
    slot, fingerprint = pair_slots(links.source_K[order], links.target_K[order], size)
    table = PairTable(
        pair_key=np.zeros(size, np.uint16),
        forward=np.full(size, 255, np.uint8),
        backward=np.full(size, 255, np.uint8),
        style=np.zeros(size, np.int8),
    )
    table["pair_key"][slot] = fingerprint
    table["forward"][slot] = encode_log(links.forward_K[order])
    table["backward"][slot] = encode_log(links.backward_K[order])
    table["style"][slot] = np.clip(np.rint(links.style_K[order] / STYLE_STEP), -127, 127).astype(np.int8)
    return table


def hash_vocabulary(vocabulary: U64) -> tuple[npt.NDArray[np.uint32], I32]:
    """Place each word (id > OOV_IDS) in one of its two slots by cuckoo hashing (Pagh and Rodler 2004)."""
    words = vocabulary[OOV_IDS + 1 :]
    size = 1 << int(np.ceil(np.log2(max(2.2 * len(words), 16))))
    first, second = (slot.tolist() for slot in word_slots(words, size))
    owner = [-1] * size
    for word in range(len(words)):
        current, slot = word, first[word]
        for _ in range(500):
            current, owner[slot] = owner[slot], current
            if current < 0:
                break
            slot = second[current] if slot == first[current] else first[current]
    owner_S = np.array(owner)
    filled = owner_S >= 0
    word_key = np.zeros(size, np.uint32)
    word_id = np.zeros(size, np.int32)
    word_key[filled] = (words[owner_S[filled]] >> np.uint64(32)).astype(np.uint32)
    word_id[filled] = owner_S[filled] + OOV_IDS + 1
    return word_key, word_id


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gathered:
    """Hashed tokens of all training pairs: two sides' hashes and tokens a pair, language pair and writer of each."""

    source_hash: U64
    source_count: I64
    target_hash: U64
    target_count: I64
    languages_P: I64
    writer_P: npt.NDArray[np.int8]

    def with_ids(self, lexicon: Lexicon) -> Bitext:
        return Bitext(
            source_ids=lexicon.word_ids(self.source_hash),
            source_offsets=_offsets(self.source_count),
            target_ids=lexicon.word_ids(self.target_hash),
            target_offsets=_offsets(self.target_count),
            languages_P=self.languages_P,
            writer_P=self.writer_P,
        )


def _gather(
    corpus: Corpus,
    wmt: Wmt,
    mask_S: npt.NDArray[np.bool_],
    others: Iterable[tuple[str, pa.Array, pa.Array]],
    rng: np.random.Generator,
) -> _Gathered:
    """Sample and tokenise the WMT segments of `mask_S` and `others` (pair, sources, targets)."""
    rows = sample_rows(wmt, mask_S, rng)
    names: list[str] = sorted(set(wmt.pair_S))
    source_hash, source_offsets = corpus.add(wmt.source.take(pa.array(wmt.source_R[rows])))
    target_hash, target_offsets = corpus.add(wmt.target.take(pa.array(rows)))
    sources, targets = [(source_hash, np.diff(source_offsets))], [(target_hash, np.diff(target_offsets))]
    languages = [np.array([names.index(pair) for pair in wmt.pair_S])[wmt.source_R[rows]]]
    writers = [np.where(wmt.human_R[rows], 0, 1)]
    for pair, source, target in others:
        sampled = pa.array(np.sort(rng.permutation(len(source))[:OTHER_SAMPLE]))
        source, target = source.take(sampled), target.take(sampled)
        if pair not in names:
            names.append(pair)
        for side, column in ((sources, source), (targets, target)):
            hashes, offsets = corpus.add(column)
            side.append((hashes, np.diff(offsets)))
        languages.append(np.full(len(source), names.index(pair)))
        writers.append(np.full(len(source), -1))
    return _Gathered(
        source_hash=np.concatenate([hashes for hashes, _ in sources]),
        source_count=np.concatenate([counts for _, counts in sources]),
        target_hash=np.concatenate([hashes for hashes, _ in targets]),
        target_count=np.concatenate([counts for _, counts in targets]),
        languages_P=np.concatenate(languages).astype(np.int64),
        writer_P=np.concatenate(writers).astype(np.int8),
    )


def train(wmt: Wmt, others: Iterable[tuple[str, pa.Array, pa.Array]], pieces: Pieces | None, seed: int) -> Trained:
    """Train vocabulary, vectors and table on the training part of `wmt` and on `others` (pair, sources, targets)."""
    rng = np.random.default_rng(seed)
    corpus = Corpus()
    gathered = _gather(corpus, wmt, wmt.train_S, others, rng)
    vocabulary, vectors = choose(corpus, pieces, rng)
    word_key, word_id = hash_vocabulary(vocabulary)
    empty = np.full(len(vocabulary), 255, np.uint8)
    none = PairTable(
        pair_key=np.zeros(1, np.uint16),
        forward=np.zeros(1, np.uint8),
        backward=np.zeros(1, np.uint8),
        style=np.zeros(1, np.int8),
    )
    lexicon = Lexicon(word_key=word_key, word_id=word_id, null_forward=empty, null_backward=empty, **none)
    bitext = gathered.with_ids(lexicon)
    full = dataclasses.replace(
        lexicon,
        null_forward=encode_log(_null(bitext.target_ids, len(vocabulary))),
        null_backward=encode_log(_null(bitext.source_ids, len(vocabulary))),
        **pair_table(fit(bitext)),
    )
    return Trained(lexicon=full, vectors_VD=vectors)


def refit(lexicon: Lexicon, wmt: Wmt, mask_S: npt.NDArray[np.bool_], seed: int) -> Lexicon:
    """The same vocabulary with a table trained on the WMT segments of `mask_S` alone: for cross-fitting."""
    return refit_on(lexicon, wmt, mask_S, (), seed)


def refit_on(
    lexicon: Lexicon,
    wmt: Wmt,
    mask_S: npt.NDArray[np.bool_],
    others: Iterable[tuple[str, pa.Array, pa.Array]],
    seed: int,
) -> Lexicon:
    """The same vocabulary with a table trained on the WMT segments of `mask_S` and on `others`."""
    gathered = _gather(Corpus(), wmt, mask_S, others, np.random.default_rng(seed))
    return dataclasses.replace(lexicon, **pair_table(fit(gathered.with_ids(lexicon))))


def sample_rows(wmt: Wmt, mask_S: npt.NDArray[np.bool_], rng: np.random.Generator) -> I64:
    """All human and at most MACHINE_SAMPLES machine translations of each chosen source, without held-out generators."""
    rows = np.flatnonzero(mask_S[wmt.source_R] & ~wmt.held_R)
    machine = rng.permutation(rows[~wmt.human_R[rows]])
    machine = machine[np.argsort(wmt.source_R[machine], kind="stable")]
    source = wmt.source_R[machine]
    first = np.searchsorted(source, source)
    sampled = machine[np.arange(len(machine)) - first < MACHINE_SAMPLES]
    return np.sort(np.concatenate([rows[wmt.human_R[rows]], sampled]))


def _null(ids: I32, size: int) -> F64:
    """p(word | NULL): a small share of the word's frequency, so that a real link always explains more."""
    share: F64 = NULL_SHARE * np.bincount(ids, minlength=size) / len(ids) + FLOOR
    return share


def _offsets(counts: I64) -> I64:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
