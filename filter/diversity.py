"""Lexical diversity of tokens: type-token ratio at fixed length, MTLD, distinct-n; and of growing prefixes of an order.

Suffixes: N rows, T tokens. Tokens are the lower-cased runs of letters, digits and marks of `Text.tokens`, hashed;
in Han, kana and Thai each letter is one. Punctuation and symbols do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bisift.filter.text import I64, PUNCTUATION, SYMBOL, U64, Text, mix64

WINDOW = 1_000
"""Tokens of a segment of the type-token ratio at fixed length."""

MTLD_THRESHOLD = 0.72
MAX_ORDER = 4
PREFIXES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SAMPLE_PAIRS = 2_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of N texts: T hashes in text order and the row of each."""

    hash_T: U64
    row_T: I64

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> Tokens:
        """Tokenise a string column of N rows."""
        text = Text.of(column)
        kind_T = text.kind_C[text.tokens.start_T]
        word_T = (kind_T != PUNCTUATION) & (kind_T != SYMBOL)
        return cls(text.token_hash_T[word_T], text.tokens.row_T[word_T])

    def head(self, tokens: int) -> Tokens:
        """Return the first tokens."""
        return Tokens(self.hash_T[:tokens], self.row_T[:tokens])

    def ngrams(self, order: int) -> tuple[U64, I64]:
        """Return the hashes of all runs of `order` tokens within a row, and their rows."""
        count = max(len(self.hash_T) - order + 1, 0)
        hash_G = np.zeros(count, np.uint64)
        for place in range(order):
            hash_G = mix64(hash_G + self.hash_T[place : place + count])
        inside_G = self.row_T[:count] == self.row_T[order - 1 : order - 1 + count]
        return hash_G[inside_G], self.row_T[:count][inside_G]


@dataclass(frozen=True, slots=True)
class Diversity:
    """What is measured of some text; None where it is too short for the measure."""

    tokens: int
    type_token: float | None
    mtld: float | None
    distinct: tuple[float | None, ...]

    @classmethod
    def of(cls, tokens: Tokens) -> Diversity:
        """Measure tokens."""
        return cls(
            tokens=len(tokens.hash_T),
            type_token=type_token(tokens.hash_T),
            mtld=mtld(tokens.hash_T),
            distinct=tuple(distinct(tokens, order) for order in range(1, MAX_ORDER + 1)),
        )


def type_token(hash_T: U64, window: int = WINDOW) -> float | None:
    """Mean share of distinct tokens in consecutive segments of `window` tokens; a last shorter one is left out.

    The mean segmental type-token ratio (Johnson 1944, Studies in language behavior I, Psychological Monographs 56).
    """
    segments = len(hash_T) // window
    if not segments:
        return None
    sorted_SW = np.sort(hash_T[: segments * window].reshape(segments, window), axis=1)
    types = segments + int(np.count_nonzero(sorted_SW[:, 1:] != sorted_SW[:, :-1]))
    return types / (segments * window)


def mtld(hash_T: U64, threshold: float = MTLD_THRESHOLD) -> float | None:
    """Mean length of the runs of tokens whose type-token ratio stays above the threshold, in both directions.

    The measure of textual lexical diversity (McCarthy and Jarvis 2010, Behavior Research Methods 42).
    """
    if not len(hash_T):
        return None
    tokens = hash_T.tolist()
    return (_factor_length(tokens, threshold) + _factor_length(tokens[::-1], threshold)) / 2


def _factor_length(tokens: Sequence[int], threshold: float) -> float:
    types: set[int] = set()
    factors, length = 0.0, 0
    for token in tokens:
        length += 1
        types.add(token)
        if len(types) / length <= threshold:
            factors, length = factors + 1, 0
            types.clear()
    if length:
        factors += (1 - len(types) / length) / (1 - threshold)
    return len(tokens) / factors if factors else float(len(tokens))


def distinct(tokens: Tokens, order: int) -> float | None:
    """Share of distinct n-grams among all n-grams within rows: distinct-n (Li et al. 2016, arXiv 1510.03055)."""
    hash_G = np.sort(tokens.ngrams(order)[0])  # numpy's unique hashes, which is ten times slower
    return (1 + np.count_nonzero(hash_G[1:] != hash_G[:-1])) / len(hash_G) if len(hash_G) else None


@dataclass(frozen=True, slots=True)
class PrefixDiversity:
    """Diversity of the targets of a prefix of an order, and of as many tokens of the same rows in random order."""

    share: float
    pairs: int
    ordered: Diversity
    random: Diversity


class PrefixSample:
    """Collects targets of growing prefixes while rows pass in their order; a seeded sample of each.

    The first x% of a random order is a random sample of all rows, so the sample of all is what each prefix is set
    against. Samples are cut to one number of tokens: measures of diversity fall as text grows.
    """

    def __init__(self, rows: int, seed: int = 0) -> None:
        self._pairs = [max(1, round(share * rows)) if rows else 0 for share in PREFIXES]
        random = np.random.default_rng(seed)
        self._places = [
            np.sort(random.choice(pairs, min(pairs, SAMPLE_PAIRS), replace=False).astype(np.int64))
            for pairs in self._pairs
        ]
        self._targets: list[list[str]] = [[] for _ in PREFIXES]
        self._random = random
        self._seen = 0

    def add(self, target: pa.ChunkedArray) -> None:
        """Pass the targets of the next rows of the order."""
        end = self._seen + len(target)
        for places, kept in zip(self._places, self._targets, strict=True):
            first, last = np.searchsorted(places, (self._seen, end))
            kept += target.take(pa.array(places[first:last] - self._seen)).to_pylist() if last > first else []
        self._seen = end

    def measure(self) -> list[PrefixDiversity]:
        """Measure what was collected; nothing without tokens."""
        samples = []
        for targets in self._targets:
            shuffled = [targets[place] for place in self._random.permutation(len(targets))]
            samples.append(Tokens.of(pa.array(shuffled, pa.string())))
        found = []
        for share, pairs, sample in zip(PREFIXES, self._pairs, samples, strict=True):
            length = min(len(sample.hash_T), len(samples[-1].hash_T))
            if length:
                ordered, random = Diversity.of(sample.head(length)), Diversity.of(samples[-1].head(length))
                found.append(PrefixDiversity(share=share, pairs=pairs, ordered=ordered, random=random))
        return found
