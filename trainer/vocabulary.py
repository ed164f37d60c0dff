"""The subword vocabulary of both languages: trained from ranked shards by sentencepiece, kept inside checkpoints."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import sentencepiece

from bisift.config import nearest
from bisift.errors import ConfigError, InputError, ModelError
from bisift.manifest import value_digest
from bisift.trainer.shards import Ranking

PAD, UNKNOWN, BOS, EOS = 0, 1, 2, 3
TAGS = 8
"""Pieces set aside to mark sources (curricula.Tags); as control symbols they are never found in text."""
_LEAST = 300 + TAGS
_LONGEST = 1 << 20
"""Bytes of the longest text that a vocabulary is trained on."""

_BREAKS = re.compile(r"[\n\r\0]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyConfig:
    """How a vocabulary is trained: number of pieces, `unigram` or `bpe`, and on how many pairs.

    Sources: Kudo 2018 (arXiv 1804.10959, unigram); Sennrich et al. 2016 (arXiv 1508.07909, BPE).
    """

    size: int = 8_000
    type: str = "unigram"
    pairs: int = 1_000_000

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        if self.type not in ("unigram", "bpe"):
            raise ConfigError(f"vocabulary: no type {self.type!r}{nearest(self.type, ('unigram', 'bpe'))}")
        if self.size < _LEAST:
            raise ConfigError(f"vocabulary: size {self.size}: at least {_LEAST} (256 of them are bytes)")
        if self.pairs < 1:
            raise ConfigError(f"vocabulary: pairs {self.pairs}: at least 1")


class Vocabulary:
    """Text to piece ids and back. Ids 0-3 are padding, unknown, begin and end; then come the tags."""

    def __init__(self, proto: bytes) -> None:
        self.proto = proto
        self._pieces = sentencepiece.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(proto)
        except RuntimeError as error:
            raise ModelError(f"not a sentencepiece model: {error}") from error
        ids = (self._pieces.pad_id(), self._pieces.unk_id(), self._pieces.bos_id(), self._pieces.eos_id())
        if ids != (PAD, UNKNOWN, BOS, EOS) or self._pieces.IdToPiece(tag_id(TAGS - 1)) != f"<tag{TAGS - 1}>":
            raise ModelError("the sentencepiece model was not trained by bisift: its reserved pieces differ")

    def __len__(self) -> int:
        return int(self._pieces.GetPieceSize())

    @cached_property
    def digest(self) -> str:
        return value_digest({"proto": self.proto.hex()})

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the piece ids of each text, without begin and end."""
        return cast("list[list[int]]", self._pieces.EncodeAsIds(list(texts)))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each list of ids on one line: line breaks, which bytes may make, and NULs are a space."""
        return [_BREAKS.sub(" ", self._pieces.DecodeIds([int(piece) for piece in row])) for row in ids]

    def pieces(self) -> list[str]:
        """Return all pieces by id."""
        return [self._pieces.IdToPiece(piece) for piece in range(len(self))]


def tag_id(tag: int) -> int:
    """The piece id of a tag, from 0."""
    return EOS + 1 + tag


def train_vocabulary(texts: Iterable[str], config: VocabularyConfig, *, seed: int) -> Vocabulary:
    """Train a vocabulary; the same texts give the same one.

    Text is left as it is but for repeated spaces; what no piece covers is written in bytes, so nothing is unknown.

    Raises:
        InputError: there is too little text for so many pieces.
    """
    config.check()
    model = io.BytesIO()
    failed: list[BaseException] = []

    def usable() -> Iterator[str]:
        try:
            for text in texts:
                if text.strip() and "\0" not in text:
                    yield text
        except BaseException as error:
            failed.append(error)  # sentencepiece makes a RuntimeError of whatever is raised here
            raise

    sentencepiece.set_random_generator_seed(seed % (1 << 32))
    kind = cast("Literal['unigram', 'bpe']", config.type)
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=usable(),
            model_writer=model,
            model_type=kind,
            vocab_size=config.size,
            character_coverage=0.9999,
            max_sentence_length=_LONGEST,
            byte_fallback=True,
            normalization_rule_name="identity",
            control_symbols=[f"<tag{tag}>" for tag in range(TAGS)],
            pad_id=PAD,
            unk_id=UNKNOWN,
            bos_id=BOS,
            eos_id=EOS,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        if failed:
            raise failed[0] from None
        most = re.search(r"<= (\d+)", str(error))
        if most and int(most[1]) >= _LEAST:
            advice = f"lower vocabulary.size to {most[1]}"
        elif most or "sentences_.empty()" in str(error):
            advice = "it is too little: more pairs are needed"
        else:
            advice = " ".join(str(error).split())[-160:]
        raise InputError(f"no vocabulary of {config.size:,} pieces can be trained on this text: {advice}") from error
    return Vocabulary(model.getvalue())


def vocabulary_of(ranking: Ranking, config: VocabularyConfig, *, seed: int) -> Vocabulary:
    """Train a vocabulary from both sides of a ranking."""
    return train_vocabulary(ranking.texts(config.pairs), config, seed=seed)
