"""Chooses the vocabulary of the lexical table and gives each word a vector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter.lexical import MAX_TOKENS, OOV_IDS
from bisift.filter.text import I64, U64, Text
from bisift.models.embeddings import Pieces, reduce_vectors

F32 = npt.NDArray[np.float32]

WORDS = 236_000
"""Vocabulary size: two-choice hashing into 2^19 slots still finds a place for every word."""

WIDTH = 32
_ROWS = 20_000


@dataclass
class Corpus:
    """Tokenised text: hashes of the tokens of each added column, and how each distinct token is written."""

    surface: dict[int, str] = field(default_factory=dict)
    hashes: list[U64] = field(default_factory=list)

    def add(self, column: pa.Array) -> tuple[U64, I64]:
        """Tokenise a column of N segments; return the tokens' hashes and the rows' N + 1 offsets."""
        parts, counts = [], []
        for start in range(0, len(column), _ROWS):
            text = Text.of(column.slice(start, _ROWS))
            spans = text.tokens
            hash_K = text.hash_spans(spans)
            count_N = np.bincount(spans.row_T, minlength=text.rows)
            first_N = np.cumsum(count_N) - count_N
            kept = np.flatnonzero(np.arange(len(hash_K)) - first_N[spans.row_T] < MAX_TOKENS)
            distinct, where = np.unique(hash_K, return_index=True)
            for value, token in zip(distinct.tolist(), where.tolist(), strict=True):
                if value not in self.surface:
                    codes = text.codes_C[spans.start_T[token] : spans.end_T[token]]
                    self.surface[value] = codes.tobytes().decode("utf-32-le", "replace")
            parts.append(hash_K[kept])
            counts.append(np.minimum(count_N, MAX_TOKENS))
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
        hashes = np.concatenate(parts)
        self.hashes.append(hashes)
        return hashes, offsets


def single_words(words: Iterable[str]) -> dict[int, str]:
    """Hash to word, of those words that are one token."""
    texts = list(words)
    text = Text.of(pa.array(texts, pa.string()))
    spans = text.tokens
    whole = np.flatnonzero(spans.length_T == text.length_N[spans.row_T])
    hash_T = text.hash_spans(spans)
    return {int(hash_T[token]): texts[int(spans.row_T[token])] for token in whole}


def choose(corpus: Corpus, pieces: Pieces | None, rng: np.random.Generator) -> tuple[U64, F32]:
    """Return the hash of each word by id and its vector, shapes (V,) and (V, WIDTH); ids up to OOV_IDS are no words.

    Words that are single pieces of the multilingual vocabulary all come in, so that languages without training text
    have words too; the most frequent words of the corpus fill the rest. Without `pieces`, vectors are random.
    """
    distinct, count = np.unique(np.concatenate(corpus.hashes), return_counts=True)
    counted = dict(zip(distinct.tolist(), count.tolist(), strict=True))
    whole = single_words(pieces.whole_words()) if pieces else {}
    foreign = [value for value in whole if value not in counted]
    common = distinct[np.argsort(-count, kind="stable")][: WORDS - len(foreign)].tolist()
    chosen = [*common, *foreign]
    vocabulary = np.zeros(OOV_IDS + 1 + len(chosen), dtype=np.uint64)
    vocabulary[OOV_IDS + 1 :] = np.array(chosen, dtype=np.uint64)
    vectors = np.zeros((len(vocabulary), WIDTH), dtype=np.float32)
    noise = rng.normal(size=vectors.shape).astype(np.float32)
    vectors[1:] = noise[1:] / np.linalg.norm(noise[1:], axis=1, keepdims=True)
    if pieces:
        written = [corpus.surface.get(value) or whole[value] for value in chosen]
        full = np.stack([pieces.word_vector(word) for word in written])
        weight = np.sqrt([counted.get(value, 1) for value in chosen])
        vectors[OOV_IDS + 1 :] = reduce_vectors(full, weight, WIDTH)
    return vocabulary, vectors
