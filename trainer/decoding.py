"""Beam search, greedy and sampled decoding, in batches and with cached keys and values.

Shape suffixes: B segments, R beams (or samples) a segment, N = B · R rows, S source pieces, t pieces so far, H heads,
K head width, D width, V vocabulary, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bisift.errors import ConfigError
from bisift.trainer.model import Transformer, rotate
from bisift.trainer.permutation import uniform
from bisift.trainer.vocabulary import BOS, EOS, PAD, TAGS, UNKNOWN, Vocabulary, tag_id

NEVER = [PAD, UNKNOWN, BOS, *range(tag_id(0), tag_id(TAGS))]
"""Pieces that no translation holds."""

MOST = 1_000_000
"""No number of a search may be larger: what is, or is infinite, is a slip."""

_BLOCK = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeConfig:
    """How to search: `beam` 1 is greedy. Hypotheses compare by log p / length^length_penalty, EOS counted, as in
    fairseq, Marian and CTranslate2 (0: by log p alone).

    At most `max_ratio` times the source's pieces and `max_extra` more are written. Sources are cut after `max_source`
    pieces. `batch` segments are decoded at a time; it changes no result beyond rounding.
    """

    beam: int = 5
    length_penalty: float = 1.0
    max_ratio: float = 2.0
    max_extra: int = 10
    max_source: int = 1_024
    batch: int = 64

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        for name in ("beam", "length_penalty", "max_ratio", "max_extra", "max_source", "batch"):
            value, least = getattr(self, name), 0 if name in ("length_penalty", "max_ratio") else 1
            if not least <= value <= MOST:  # NaN is not, either
                raise ConfigError(f"{name} {value}: must be from {least} to {MOST:,}")

    def cap(self, source: int) -> int:
        """The most pieces that a source of so many pieces may become, EOS apart."""
        return int(self.max_ratio * source) + self.max_extra


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleConfig:
    """`samples` translations a segment, drawn at a `temperature` from the pieces of at least `epsilon` probability
    (epsilon sampling: Hewitt et al. 2022, arXiv 2210.15191; for MBR: Freitag et al. 2023, arXiv 2305.09860).
    """

    samples: int = 1
    temperature: float = 1.0
    epsilon: float = 0.02
    seed: int = 1

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        if self.samples < 1:
            raise ConfigError(f"samples {self.samples}: must be at least 1")
        if not 1 / MOST <= self.temperature <= MOST:  # beyond, fp32 has no quotients; NaN is not, either
            raise ConfigError(f"temperature {self.temperature}: must be from {1 / MOST:f} to {MOST:,}")
        if not 0 <= self.epsilon < 1:
            raise ConfigError(f"epsilon {self.epsilon}: must be from 0 to below 1")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed {self.seed}: must be from 0 to 2^63 - 1")


class Steps:
    """Decodes one piece more for each row: `rows` rows of each segment share its encoded source."""

    def __init__(self, model: Transformer, source_BS: Tensor, rows: int) -> None:
        self._model = model
        self._rows = rows
        memory_BSD, self._bias = model.encode(source_BS)
        halves = [layer.cross.split(layer.cross.key_value(memory_BSD), 2) for layer in model.decoder_layers]
        self._cross = [(k.contiguous(), v.contiguous()) for k, v in halves]
        self._past: list[tuple[Tensor, Tensor]] = []
        self._done = 0

    def keep(self, segment_B: Tensor, row_N: Tensor) -> None:
        """Go on with these segments, and with these of the rows before, in this order."""
        if len(segment_B) < len(self._bias):
            self._bias = self._bias.index_select(0, segment_B)
            self._cross = [(k.index_select(0, segment_B), v.index_select(0, segment_B)) for k, v in self._cross]
        self._past = [(k.index_select(0, row_N), v.index_select(0, row_N)) for k, v in self._past]

    def next(self, piece_N: Tensor) -> Tensor:
        """Take each row's last piece in; return the scores of its next one, (N, V), never that of a piece in NEVER."""
        model, B = self._model, len(self._bias)
        x_N1D = model.embed(piece_N[:, None], self._done)
        angles = model.angles(self._done, 1, piece_N.device)
        past: list[tuple[Tensor, Tensor]] = []
        for number, layer in enumerate(model.decoder_layers):
            attention = layer.attention
            q, k, v = attention.split(attention.query_key_value(layer.norm_attention(x_N1D)), 3)
            q, k = rotate(q, angles), rotate(k, angles)
            if self._past:
                k, v = (torch.cat([old, new], 2) for old, new in zip(self._past[number], (k, v), strict=True))
            past.append((k, v))
            x_N1D = x_N1D + attention.attend(q, k, v, None)
            # The rows of a segment are as many queries to its one source.
            query_BRD = layer.cross.query(layer.norm_cross(x_N1D)).view(B, self._rows, -1)
            (q,) = layer.cross.split(query_BRD, 1)
            mixed_BRD = layer.cross.attend(q, self._cross[number][0], self._cross[number][1], self._bias)
            x_N1D = x_N1D + mixed_BRD.view(x_N1D.shape)
            x_N1D = x_N1D + layer.feed(layer.norm_feed(x_N1D))
        self._past = past
        self._done += 1
        logit_NV = model.logits(model.norm_decoder(x_N1D)[:, 0]).float()
        logit_NV[:, NEVER] = -torch.inf
        return logit_NV


def top(value_NV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest values of each row and where they are, as torch.topk does, and faster.

    They stand in the `count` blocks of 64 values whose maxima are largest.
    """
    N, V = value_NV.shape
    if _BLOCK * count >= V:
        return value_NV.topk(count, 1)
    if V % _BLOCK:
        value_NV = functional.pad(value_NV, (0, _BLOCK - V % _BLOCK), value=-torch.inf)
    blocks = value_NV.view(N, -1, _BLOCK)
    block_NC = blocks.amax(2).topk(count, 1).indices
    held = blocks.gather(1, block_NC[..., None].expand(-1, -1, _BLOCK)).view(N, -1)
    value_NC, place_NC = held.topk(count, 1)
    block_NC = block_NC.gather(1, torch.div(place_NC, _BLOCK, rounding_mode="floor"))
    return value_NC, block_NC * _BLOCK + place_NC % _BLOCK


def _penalty(length: Tensor | int, alpha: float) -> Tensor:
    return torch.as_tensor(length, dtype=torch.float32) ** alpha


@torch.inference_mode()
def beam_search(model: Transformer, source_BS: Tensor, cap_B: Tensor, config: DecodeConfig) -> list[list[int]]:
    """Return the best hypothesis of each segment, without BOS and EOS.

    In every step the 2 · beam best continuations are looked at: of those among the first `beam`, the ended ones are
    hypotheses; the first `beam` others go on. A segment is done with `beam` hypotheses, or when none can beat its best.
    """
    beam, alpha, device = config.beam, config.length_penalty, source_BS.device
    steps = Steps(model, source_BS, beam)
    found: list[list[int]] = [[] for _ in range(len(source_BS))]
    segment_B = torch.arange(len(source_BS), device=device)  # the live segments' numbers
    score_BR = torch.full((len(source_BS), beam), -torch.inf, device=device)
    score_BR[:, 0] = 0.0  # all beams begin alike: one of them is enough
    pieces_Nt = torch.full((len(source_BS) * beam, 1), BOS, device=device)
    best_B = torch.full((len(source_BS),), -torch.inf, device=device)
    ended_B = torch.zeros(len(source_BS), dtype=torch.int64, device=device)
    while len(segment_B):
        B, t = len(segment_B), pieces_Nt.shape[1]
        logit_NV = steps.next(pieces_Nt[:, -1])
        total_N1 = logit_NV.logsumexp(1, keepdim=True)
        last_B = t > cap_B  # nothing but EOS may follow
        if bool(last_B.any()):
            rows_N = last_B.repeat_interleave(beam)
            end_N = logit_NV[:, EOS].clone()
            logit_NV[rows_N] = -torch.inf
            logit_NV[:, EOS] = end_N
        value_NC, piece_NC = top(logit_NV, min(2 * beam, logit_NV.shape[1]))
        value_NC = (value_NC - total_N1) + score_BR.view(-1, 1)
        score_BC, place_BC = value_NC.view(B, -1).topk(2 * beam, 1)
        piece_BC = piece_NC.view(B, -1).gather(1, place_BC)
        origin_BC = torch.div(place_BC, value_NC.shape[1], rounding_mode="floor")

        is_end_BC = (piece_BC == EOS) & torch.isfinite(score_BC)
        ended_BR = is_end_BC[:, :beam]
        final_BR = (score_BC[:, :beam] / _penalty(t, alpha)).masked_fill(~ended_BR, -torch.inf)
        ended_B = ended_B + ended_BR.sum(1)
        better_B, where_B = final_BR.max(1)
        improved_B = better_B > best_B
        best_B = torch.where(improved_B, better_B, best_B)
        for row in improved_B.nonzero()[:, 0].tolist():
            origin = int(origin_BC[row, where_B[row]])
            found[int(segment_B[row])] = pieces_Nt[row * beam + origin, 1:].tolist()

        # The first `beam` that go on, in their order.
        order_BC = torch.sort(is_end_BC.to(torch.int8), dim=1, stable=True).indices[:, :beam]
        score_BR = score_BC.gather(1, order_BC)
        bound_B = score_BR[:, 0] / _penalty(cap_B + 1, alpha).to(device)
        alive_B = ((ended_B < beam) & (bound_B > best_B)).nonzero()[:, 0]
        row_BR = torch.arange(B, device=device)[:, None] * beam + origin_BC.gather(1, order_BC)
        row_N = row_BR.index_select(0, alive_B).view(-1)
        piece_N = piece_BC.gather(1, order_BC).index_select(0, alive_B).view(-1)
        pieces_Nt = torch.cat([pieces_Nt.index_select(0, row_N), piece_N[:, None]], 1)
        steps.keep(alive_B, row_N)
        segment_B, score_BR, best_B, ended_B, cap_B = (
            part.index_select(0, alive_B) for part in (segment_B, score_BR, best_B, ended_B, cap_B)
        )
    return found


@torch.inference_mode()
def sample(
    model: Transformer, source_BS: Tensor, cap_B: Tensor, config: SampleConfig, number_B: Sequence[int]
) -> list[list[list[int]]]:
    """Return `samples` translations of each segment; the draws depend on seed and segment number alone."""
    rows, device = config.samples, source_BS.device
    steps = Steps(model, source_BS, rows)
    found: list[list[int]] = [[] for _ in range(len(source_BS) * rows)]
    segment_B = torch.arange(len(source_BS), device=device)
    draw_BR = torch.as_tensor(number_B)[:, None] * rows + torch.arange(rows)
    piece_N = torch.full((len(source_BS) * rows,), BOS, device=device)
    done_N = torch.zeros(len(piece_N), dtype=torch.bool, device=device)
    t = 0
    while len(segment_B):
        t += 1
        p_NV = (steps.next(piece_N) / config.temperature).softmax(1)
        p_NV = p_NV.masked_fill(p_NV < torch.minimum(p_NV.amax(1, keepdim=True), p_NV.new_tensor(config.epsilon)), 0)
        sum_NV = p_NV.cumsum(1)
        place_N = (draw_BR.index_select(0, segment_B.cpu()) << 20 | t).view(-1)
        u_N = torch.from_numpy(uniform(place_N.numpy(), config.seed)).to(device, p_NV.dtype)
        piece_N = torch.searchsorted(sum_NV, (u_N * sum_NV[:, -1])[:, None], right=True)[:, 0]
        piece_N = torch.minimum(piece_N, (p_NV > 0).long().mul(torch.arange(p_NV.shape[1], device=device)).amax(1))
        piece_N[(t > cap_B).repeat_interleave(rows)] = EOS
        done_N = done_N | (piece_N == EOS)
        for row in (~done_N).nonzero()[:, 0].tolist():
            found[int(segment_B[row // rows]) * rows + row % rows].append(int(piece_N[row]))
        alive_B = (~done_N.view(-1, rows).all(1)).nonzero()[:, 0]
        row_N = (alive_B[:, None] * rows + torch.arange(rows, device=device)).view(-1)
        steps.keep(alive_B, row_N)
        segment_B, cap_B = segment_B.index_select(0, alive_B), cap_B.index_select(0, alive_B)
        piece_N, done_N = piece_N.index_select(0, row_N), done_N.index_select(0, row_N)
    return [found[start : start + rows] for start in range(0, len(found), rows)]


@dataclass(frozen=True, slots=True)
class Translator:
    """A model with its vocabulary and the tag that sources get (-1: none)."""

    model: Transformer
    vocabulary: Vocabulary
    tag: int = -1

    def translate(
        self, lines: Sequence[str], config: DecodeConfig, progress: Callable[[int], None] | None = None
    ) -> list[str]:
        """Translate segments; an empty one stays empty."""
        config.check()
        out = [""] * len(lines)
        done = 0
        for numbers, source_BS, cap_B in self._batches(lines, config):
            found = beam_search(self.model, source_BS, cap_B, config)
            for number, text in zip(numbers, self.vocabulary.decode(found), strict=True):
                out[number] = text
            done += len(numbers)
            if progress is not None:
                progress(done)
        return out

    def samples(self, lines: Sequence[str], config: SampleConfig, search: DecodeConfig) -> list[list[str]]:
        """Return `samples` translations of each segment."""
        config.check()
        search.check()
        out = [[""] * config.samples for _ in lines]
        for numbers, source_BS, cap_B in self._batches(lines, search):
            found = sample(self.model, source_BS, cap_B, config, numbers)
            for number, rows in zip(numbers, found, strict=True):
                out[number] = self.vocabulary.decode(rows)
        return out

    def cut(self, lines: Sequence[str], config: DecodeConfig) -> int:
        """How many segments are longer than `max_source`, so that their ends are not translated."""
        return sum(len(row) > config.max_source for row in self.vocabulary.encode(lines))

    def _batches(self, lines: Sequence[str], config: DecodeConfig) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Yield batches of segments of like length: their numbers, pieces and caps."""
        device = self.model.embedding.weight.device
        ids = [row[: config.max_source] for row in self.vocabulary.encode(lines)]
        order = sorted((number for number, row in enumerate(ids) if row), key=lambda number: -len(ids[number]))
        prefix = [tag_id(self.tag)] if self.tag >= 0 else []
        start = 0
        while start < len(order):
            # Long segments in smaller batches: attention grows with the square of their length.
            size = max(1, min(config.batch, config.batch * 256 // len(ids[order[start]])))
            numbers = order[start : start + size]
            rows = [[*prefix, *ids[number], EOS] for number in numbers]
            source = np.full((len(rows), len(rows[0])), PAD, dtype=np.int64)
            for place, row in enumerate(rows):
                source[place, : len(row)] = row
            cap_B = torch.tensor([config.cap(len(ids[number])) for number in numbers], device=device)
            yield numbers, torch.from_numpy(source).to(device), cap_B
            start += size
