"""What the lexical table and the n-gram weights say of each token of one pair.

Suffixes: C code points of the target, T target tokens, S source tokens, K entries of the n-gram table.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bisift.filter.lexical import OOV_IDS, PROBABILITY, STYLE_STEP, Lexicon, Words, link_values, log_mean
from bisift.filter.ngrams import MAX_CHARS, ORDERS, language_salt, ngrams
from bisift.filter.text import DIGIT, Text

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TargetToken:
    """A token of the target; `start` counts code points.

    `log_probability` is the natural log of p(token | source), whose mean is the feature lexical_forward, and null for
    tokens that the table does not look at (beyond `lexical.MAX_TOKENS`, or beside an empty side). `source`,
    `link_probability` (t(t|s)) and `style` (log ratio of machine to human use, whose mean over the linked tokens is the
    feature style) are those of the best link, and null where nothing explains the token. `ngrams` is the token's share
    of the n-gram evidence.
    """

    token: str
    start: int
    in_vocabulary: bool
    source: str | None
    source_start: int | None
    link_probability: float | None
    log_probability: float | None
    style: float | None
    ngrams: float | None


@dataclass(frozen=True, slots=True)
class SourceToken:
    """A token of the source; the mean of `log_probability`, log p(token | target), is the feature lexical_backward."""

    token: str
    start: int
    in_vocabulary: bool
    explained: bool
    log_probability: float | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of both sides in text order, as far as a model looks; the counts are those of the whole sides."""

    source_count: int
    target_count: int
    source: tuple[SourceToken, ...]
    target: tuple[TargetToken, ...]


@dataclass(frozen=True, slots=True)
class Ngram:
    """A character n-gram as it is hashed (digits as 0), how often it stands there, and what it adds to the log-odds."""

    text: str
    count: int
    log_odds: float


@dataclass(frozen=True, slots=True)
class NgramEvidence:
    """The n-gram evidence, which is a sum over the n-grams; also over the code points, each n-gram shared out evenly.

    `between_tokens` is the part of spaces and of whatever else is in no token.
    """

    log_odds: float
    between_tokens: float
    ngrams: tuple[Ngram, ...]


def ngram_evidence(
    target: Text, language: str | None, table_K: npt.NDArray[np.int8], factor: float
) -> tuple[NgramEvidence, F64]:
    """`factor` times `Encoder.ngram_score` of a one-row text, split: by n-gram, and by token (shape T)."""
    ngram_C = np.zeros(target.codes_C.size + 1)
    codes_C = np.where(target.kind_C == DIGIT, np.uint32(ord("0")), target.codes_C)
    orders = [ids for ids, _ in ngrams(target, language_salt([language]), len(table_K).bit_length() - 1)]
    unit = factor / math.sqrt(max(sum(len(ids) for ids in orders), 1))
    counts: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for length, ids in enumerate(orders, start=1):
        weight = table_K[ids].astype(np.int64)
        for offset in range(length):
            ngram_C[1 + offset : 1 + offset + len(ids)] += weight * (unit / length)
        for start, value in enumerate(weight.tolist()):
            text = _string(codes_C[start : start + length])
            counts[text] += 1
            sums[text] += value
    listed = [Ngram(text, count, sums[text] * unit) for text, count in counts.items()]
    log_odds = sums.total() * unit
    before_C = np.cumsum(ngram_C)
    ngram_T = before_C[target.tokens.end_T] - before_C[target.tokens.start_T]
    listed.sort(key=lambda entry: (-abs(entry.log_odds), entry.text))
    return NgramEvidence(log_odds, log_odds - float(ngram_T.sum()), tuple(listed)), ngram_T


def tokens_of(lexicon: Lexicon, source: Text, target: Text, words: tuple[Words, Words], ngram_T: F64 | None) -> Tokens:
    """The tokens of one pair (one-row texts and their words); `ngram_T`: what each token's n-grams add."""
    source_count, target_count = (int(side.count_N[0]) for side in words)
    links = lexicon.slice_links(*words, np.zeros(1, dtype=np.int64)) if source_count and target_count else None
    found_source = []
    backward_S = None if links is None else log_mean(links.backward_BS, links.target_B)[0]
    for place in range(source_count):
        found_source.append(
            SourceToken(
                token=_token(source, place),
                start=int(source.tokens.start_T[place]),
                in_vocabulary=int(words[0].id_K[place]) > OOV_IDS,
                explained=links is not None and bool(links.explained_BS[0, place]),
                log_probability=None if backward_S is None else float(backward_S[place]),
            )
        )
    found_target = []
    forward_T = np.zeros(0) if links is None else log_mean(links.forward_BT, links.source_B)[0]
    best = {} if links is None else {token: number for number, token in enumerate(links.target_L.tolist())}
    start_T = target.tokens.start_T
    reached = 0 if ngram_T is None else int(np.searchsorted(start_T, MAX_CHARS + ORDERS))
    for place in range(max(target_count, reached)):
        linked = probability = style = None
        if links is not None and place in best:
            entry_L = links.entry_L[best[place]][None]
            linked = int(links.source_L[best[place]])
            probability = float(PROBABILITY[entry_L[0] & 255])
            style = float(link_values(entry_L)[2][0] * STYLE_STEP)
        found_target.append(
            TargetToken(
                token=_token(target, place),
                start=int(start_T[place]),
                in_vocabulary=place < target_count and int(words[1].id_K[place]) > OOV_IDS,
                source=None if linked is None else _token(source, linked),
                source_start=None if linked is None else int(source.tokens.start_T[linked]),
                link_probability=probability,
                log_probability=float(forward_T[place]) if place < len(forward_T) else None,
                style=style,
                ngrams=None if ngram_T is None else float(ngram_T[place]),
            )
        )
    return Tokens(len(source.tokens.start_T), len(start_T), tuple(found_source), tuple(found_target))


def _token(text: Text, place: int) -> str:
    return _string(text.codes_C[text.tokens.start_T[place] : text.tokens.end_T[place]])


def _string(codes: npt.NDArray[np.uint32]) -> str:
    return codes.tobytes().decode("utf-32-le")
