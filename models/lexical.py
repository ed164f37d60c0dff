"""Trains the lexical-translation table: IBM model 1 in both directions (Brown et al. 1993, section 4.1) by EM.

The unit is a link, a (source word, target word) of one language pair that occurs together in at least MIN_TOGETHER
sentences. Suffixes: P sentence pairs, T tokens, C cells (a source token and a target token of one pair), K links.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bisift.filter.lexical import OOV_IDS
from bisift.filter.text import I64, U64, mix64, ragged_index

I32 = npt.NDArray[np.int32]
F64 = npt.NDArray[np.float64]

MIN_TOGETHER = 3
LEAST_COMPANY = 0.01
"""Words that meet in a smaller share of the more frequent one's occurrences are no link: chance company."""

MAX_LENGTH = 60  # tokens a side of a training pair; longer ones add cells quadratically and little knowledge
ITERATIONS = 5
NULL = 1e-3  # p(word | NULL) inside EM: takes up words that nothing on the other side explains
STYLE_PRIOR = 4.0  # pseudo-counts that pull machine and human use of a link towards each other
_COUNTERS = 1 << 26
_BLOCK = 1 << 25


@dataclass(frozen=True, kw_only=True, slots=True)
class Bitext:
    """P pairs as word ids: ragged rows of ids, the language pair of each as a small integer, and who wrote it.

    `writer_P`: 1 machine, 0 human, -1 unknown or not to be compared.
    """

    source_ids: I32
    source_offsets: I64
    target_ids: I32
    target_offsets: I64
    languages_P: I64
    writer_P: npt.NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """K links with their fitted parameters: ids, p(target | source), p(source | target), log machine / human use."""

    source_K: I32
    target_K: I32
    forward_K: F64
    backward_K: F64
    style_K: F64
    count_K: F64


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """Cells of a block of pairs: link, index of the source token, index of the target token."""

    link_C: I32
    source_C: I32
    target_C: I32


def fit(bitext: Bitext) -> Links:
    """Run EM over `bitext` and return the links of all language pairs; the same words in two pairs are two links."""
    counter, number, links = _candidates(bitext)
    parts = list(_cells(bitext, counter, number))
    del counter, number
    source_K = np.zeros(links, np.int32)
    target_K = np.zeros(links, np.int32)
    language_K = np.zeros(links, np.int64)
    pair_of_source = np.repeat(np.arange(len(bitext.languages_P), dtype=np.int32), np.diff(bitext.source_offsets))
    for part in parts:
        source_K[part.link_C] = bitext.source_ids[part.source_C]
        target_K[part.link_C] = bitext.target_ids[part.target_C]
        language_K[part.link_C] = bitext.languages_P[pair_of_source[part.source_C]]
    given_source_K = _groups(language_K, source_K)
    forward_K = _expectation_maximisation([(part.link_C, part.target_C) for part in parts], given_source_K)
    backward_K = _expectation_maximisation(
        [(part.link_C, part.source_C) for part in parts], _groups(language_K, target_K)
    )
    count_K, machine_K, human_K = np.zeros(links), np.zeros(links), np.zeros(links)
    for part in parts:
        posterior_C = _posterior(forward_K, part.link_C, part.target_C)
        writer_C = bitext.writer_P[pair_of_source[part.source_C]]
        count_K += np.bincount(part.link_C, weights=posterior_C, minlength=links)
        machine_K += np.bincount(part.link_C, weights=posterior_C * (writer_C == 1), minlength=links)
        human_K += np.bincount(part.link_C, weights=posterior_C * (writer_C == 0), minlength=links)
    style_K = _log_ratio(machine_K, human_K, given_source_K)
    return Links(
        source_K=source_K,
        target_K=target_K,
        forward_K=forward_K,
        backward_K=backward_K,
        style_K=style_K,
        count_K=count_K,
    )


def _blocks(bitext: Bitext) -> Iterator[tuple[I64, I64, I64]]:
    """Yield the cells of runs of pairs: index of source token, index of target token, pair."""
    source_P = np.minimum(np.diff(bitext.source_offsets), MAX_LENGTH)
    target_P = np.minimum(np.diff(bitext.target_offsets), MAX_LENGTH)
    cells_P = np.cumsum(source_P * target_P)
    start = 0
    while start < len(cells_P):
        before = int(cells_P[start - 1]) if start else 0
        stop = max(int(np.searchsorted(cells_P, before + _BLOCK, side="right")), start + 1)
        pairs = np.arange(start, stop)
        target_T = ragged_index(bitext.target_offsets[pairs], target_P[pairs])
        pair_T = np.repeat(pairs, target_P[pairs])
        width_T = source_P[pair_T]
        target_C = np.repeat(target_T, width_T)
        pair_C = np.repeat(pair_T, width_T)
        yield ragged_index(bitext.source_offsets[pair_T], width_T), target_C, pair_C
        start = stop


def _keys(bitext: Bitext, source_C: I64, target_C: I64, pair_C: I64) -> U64:
    """One 64-bit key a link: language pair, source id, target id (ids need 20 bits)."""
    language_C = bitext.languages_P[pair_C].astype(np.uint64)
    source_part = bitext.source_ids[source_C].astype(np.uint64) << np.uint64(20)
    key_C: U64 = np.bitwise_or(language_C << np.uint64(40), source_part)
    key_C |= bitext.target_ids[target_C].astype(np.uint64)
    return key_C


def _candidates(bitext: Bitext) -> tuple[I32, I32, int]:
    """Count the hashed links and number those that occur often enough: counter and link by slot (-1: none), links."""
    counter = np.zeros(_COUNTERS, dtype=np.int32)
    for source_C, target_C, pair_C in _blocks(bitext):
        usable = np.flatnonzero((bitext.source_ids[source_C] > OOV_IDS) & (bitext.target_ids[target_C] > OOV_IDS))
        slot_C = _slots(bitext, source_C[usable], target_C[usable], pair_C[usable])
        np.add.at(counter, slot_C, np.int32(1))
    chosen = np.flatnonzero(counter >= MIN_TOGETHER)
    number = np.full(_COUNTERS, -1, dtype=np.int32)
    number[chosen] = np.arange(len(chosen), dtype=np.int32)
    return counter, number, len(chosen)


def _cells(bitext: Bitext, counter: I32, number: I32) -> Iterator[Cells]:
    """Yield, block by block, the cells whose two words keep company often enough."""
    source_seen = _occurrences(bitext.source_ids, bitext.source_offsets, bitext.languages_P)
    target_seen = _occurrences(bitext.target_ids, bitext.target_offsets, bitext.languages_P)
    for source_C, target_C, pair_C in _blocks(bitext):
        usable = np.flatnonzero((bitext.source_ids[source_C] > OOV_IDS) & (bitext.target_ids[target_C] > OOV_IDS))
        source_C, target_C, pair_C = source_C[usable], target_C[usable], pair_C[usable]
        slot_C = _slots(bitext, source_C, target_C, pair_C)
        link_C = number[slot_C]
        often = np.maximum(source_seen[source_C], target_seen[target_C])
        kept = np.flatnonzero((link_C >= 0) & (counter[slot_C] >= LEAST_COMPANY * often))
        yield Cells(
            link_C=link_C[kept],
            source_C=source_C[kept].astype(np.int32),
            target_C=target_C[kept].astype(np.int32),
        )


def _slots(bitext: Bitext, source_C: I64, target_C: I64, pair_C: I64) -> I64:
    keys = mix64(_keys(bitext, source_C, target_C, pair_C))
    slot_C: I64 = (keys & np.uint64(_COUNTERS - 1)).astype(np.int64)
    return slot_C


def _occurrences(ids: I32, offsets: I64, languages_P: I64) -> I64:
    """How often each token's word occurs in its language pair; shape of `ids`."""
    language = np.repeat(languages_P, np.diff(offsets))
    _, word, count = np.unique(language << 20 | ids, return_inverse=True, return_counts=True)
    seen: I64 = count[word]
    return seen


def _groups(language_K: I64, word_K: I32) -> I64:
    groups: I64 = np.unique(language_K << 20 | word_K, return_inverse=True)[1].astype(np.int64)
    return groups


def _expectation_maximisation(parts: list[tuple[I32, I32]], given_K: I64) -> F64:
    """p(word | given word) of each link, starting uniform within each given word.

    `parts`: link and explained token of each cell; all cells of a token are in one part.
    """
    fertility = np.bincount(given_K)
    probability_K = 1.0 / fertility[given_K]
    for _ in range(ITERATIONS):
        count_K = np.zeros(len(given_K))
        for link_C, explained_C in parts:
            weight_C = _posterior(probability_K, link_C, explained_C)
            count_K += np.bincount(link_C, weights=weight_C, minlength=len(given_K))
        total_G = np.bincount(given_K, weights=count_K)
        probability_K = count_K / np.maximum(total_G[given_K], 1e-12)
    return probability_K


def _posterior(probability_K: F64, link_C: I32, explained_C: I32) -> F64:
    """Probability that each cell is the one that explains its token."""
    weight_C = probability_K[link_C]
    token_C = explained_C - (explained_C.min() if explained_C.size else 0)
    posterior_C: F64 = weight_C / (np.bincount(token_C, weights=weight_C)[token_C] + NULL)
    return posterior_C


def _log_ratio(machine_K: F64, human_K: F64, given_K: I64) -> F64:
    """Smoothed log of a link's share in machine use over its share in human use of the given word."""
    machine_G = np.bincount(given_K, weights=machine_K)[given_K]
    human_G = np.bincount(given_K, weights=human_K)[given_K]
    pooled_K = (machine_K + human_K) / np.maximum(machine_G + human_G, 1e-9)
    machine_share = (machine_K + STYLE_PRIOR * pooled_K) / (machine_G + STYLE_PRIOR)
    human_share = (human_K + STYLE_PRIOR * pooled_K) / (human_G + STYLE_PRIOR)
    ratio_K: F64 = np.log((machine_share + 1e-9) / (human_share + 1e-9))
    return ratio_K
