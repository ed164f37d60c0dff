"""A pre-norm Transformer encoder-decoder with one tied embedding (Vaswani et al. 2017, arXiv 1706.03762).

Shape suffixes: B segments, S source pieces, T target pieces, L either, D width, H heads, K head width, F inner width,
V vocabulary, M target places that are no padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bisift.config import at_least, nearest
from bisift.errors import ConfigError
from bisift.trainer.batches import MicroBatch
from bisift.trainer.dropout import Dropout, Masks
from bisift.trainer.losses import LossConfig, cross_entropy, rdrop
from bisift.trainer.vocabulary import PAD

SIZES = {
    "tiny": (4, 128, 256, 4),
    "small": (3, 256, 1024, 4),
    "base": (6, 512, 2048, 8),
    "big": (6, 1024, 4096, 16),
}
"""Name to layers a side, width, inner width and heads. tiny: Wu et al. 2021 (arXiv 2105.14462); base, big: Vaswani."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A size by name, each part of which may be set alone; `positions`: `sinusoidal` or `rope` (arXiv 2104.09864)."""

    size: str = "small"
    layers: int | None = None
    width: int | None = None
    inner: int | None = None
    heads: int | None = None
    positions: str = "sinusoidal"
    dropout: float = 0.1

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        if self.size not in SIZES:
            raise ConfigError(f"model: no size {self.size!r}{nearest(self.size, SIZES)}")
        if self.positions not in ("sinusoidal", "rope"):
            raise ConfigError(f"model: positions {self.positions!r}{nearest(self.positions, ('sinusoidal', 'rope'))}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model: dropout {self.dropout}: from 0 to below 1")
        at_least(self, 1, "layers", "width", "inner", "heads", where="model: ")
        _, width, _, heads = self.shape
        if width % heads or width // heads % 2:
            raise ConfigError(f"model: width {width} must be heads ({heads}) times an even number")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Layers a side, width, inner width, heads."""
        given = (self.layers, self.width, self.inner, self.heads)
        layers, width, inner, heads = (
            named if one is None else one for one, named in zip(given, SIZES[self.size], strict=True)
        )
        return layers, width, inner, heads


class Rotary:
    """Rotations of queries and keys by their place (Su et al. 2021, arXiv 2104.09864)."""

    def __init__(self, width: int) -> None:
        self._pace_k = 1.0 / 10_000 ** (torch.arange(0, width, 2).float() / width)

    def angles(self, first: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine for places first .. first + length, each of shape (length, K / 2)."""
        angle = torch.arange(first, first + length, device=device)[:, None] * self._pace_k.to(device)
        return angle.cos(), angle.sin()


def rotate(x_BHLK: Tensor, angles: tuple[Tensor, Tensor] | None) -> Tensor:
    """Turn each half's pairs by their angle; None leaves them."""
    if angles is None:
        return x_BHLK
    cos, sin = (part.to(x_BHLK.dtype) for part in angles)
    first, second = x_BHLK.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Attention(nn.Module):
    """Multi-head attention. Self-attention projects once for queries, keys and values; cross-attention twice."""

    def __init__(self, width: int, heads: int, masks: Masks, *, cross: bool) -> None:
        super().__init__()
        self.heads = heads
        self.cross = cross
        if cross:
            self.query = nn.Linear(width, width)
            self.key_value = nn.Linear(width, 2 * width)
        else:
            self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(masks)

    def split(self, x_BLn: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Part (B, L, parts · D) into `parts` tensors of (B, H, L, K)."""
        B, L, _ = x_BLn.shape
        return x_BLn.view(B, L, parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, bias: Tensor | None) -> Tensor:
        """softmax(q k / √K + bias) v, joined over heads: (B, T, D). `bias` is 0 or -inf, broadcast to (B, H, T, S)."""
        B, H, T, K = q_BHTK.shape
        if q_BHTK.device.type != "cpu":
            rate = self.dropout.masks.rate if self.training else 0.0
            mixed_BHTK = functional.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, bias, rate)
        else:
            # On a CPU the backward pass of torch's fused attention takes longer than all else in it.
            score_BHTS = torch.matmul(q_BHTK * K**-0.5, k_BHSK.transpose(-1, -2))
            if bias is not None:
                score_BHTS = score_BHTS + bias
            mixed_BHTK = torch.matmul(self.dropout(score_BHTS.softmax(-1)).to(v_BHSK.dtype), v_BHSK)
        joined: Tensor = self.out(mixed_BHTK.transpose(1, 2).reshape(B, T, H * K))
        return joined


class FeedForward(nn.Module):
    def __init__(self, width: int, inner: int, masks: Masks) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.dropout = Dropout(masks)

    def forward(self, x_BLD: Tensor) -> Tensor:
        out_BLD: Tensor = self.down(self.dropout(functional.relu(self.up(x_BLD))))
        return out_BLD


class EncoderLayer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, masks: Masks) -> None:
        super().__init__()
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, masks, cross=False)
        self.feed = FeedForward(width, inner, masks)
        self.dropout = Dropout(masks)

    def forward(self, x_BSD: Tensor, bias: Tensor | None, angles: tuple[Tensor, Tensor] | None) -> Tensor:
        attention = self.attention
        q, k, v = attention.split(attention.query_key_value(self.norm_attention(x_BSD)), 3)
        x_BSD = x_BSD + self.dropout(attention.attend(rotate(q, angles), rotate(k, angles), v, bias))
        fed_BSD: Tensor = x_BSD + self.dropout(self.feed(self.norm_feed(x_BSD)))
        return fed_BSD


class DecoderLayer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, masks: Masks) -> None:
        super().__init__()
        self.norm_attention, self.norm_cross, self.norm_feed = (nn.LayerNorm(width) for _ in range(3))
        self.attention = Attention(width, heads, masks, cross=False)
        self.cross = Attention(width, heads, masks, cross=True)
        self.feed = FeedForward(width, inner, masks)
        self.dropout = Dropout(masks)

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor,
        causal_TT: Tensor,
        bias: Tensor | None,
        angles: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        q, k, v = self.attention.split(self.attention.query_key_value(self.norm_attention(x_BTD)), 3)
        x_BTD = x_BTD + self.dropout(self.attention.attend(rotate(q, angles), rotate(k, angles), v, causal_TT))
        (q,) = self.cross.split(self.cross.query(self.norm_cross(x_BTD)), 1)
        k, v = self.cross.split(self.cross.key_value(memory_BSD), 2)
        x_BTD = x_BTD + self.dropout(self.cross.attend(q, k, v, bias))
        fed_BTD: Tensor = x_BTD + self.dropout(self.feed(self.norm_feed(x_BTD)))
        return fed_BTD


class Transformer(nn.Module):
    """The model. `forward` gives the summed loss of a batch, so that everything sharded is used inside of it."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        config.check()
        layers, width, inner, heads = config.shape
        self.config = config
        self.width = width
        self.masks = Masks(config.dropout)
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.encoder = nn.ModuleList(EncoderLayer(width, inner, heads, self.masks) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(width, inner, heads, self.masks) for _ in range(layers))
        self.norm_encoder, self.norm_decoder = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = Dropout(self.masks)
        self.rotary = Rotary(width // heads) if config.positions == "rope" else None

    def initialise(self, seed: int) -> None:
        """Xavier-uniform matrices, zero biases, embeddings of variance 1 / D; from a seed alone."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=self.width**-0.5, generator=generator)
        with torch.no_grad():
            self.embedding.weight[PAD].zero_()

    def embed(self, ids_BL: Tensor, first: int = 0) -> Tensor:
        """Embed pieces at places from `first` on: (B, L, D)."""
        x_BLD: Tensor = self.embedding(ids_BL) * math.sqrt(self.width)
        if self.rotary is None:
            x_BLD = x_BLD + sinusoids(first, ids_BL.shape[1], self.width, ids_BL.device)
        dropped: Tensor = self.dropout(x_BLD)
        return dropped

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        """The decoder's layers, typed."""
        return cast("list[DecoderLayer]", list(self.decoder))

    def angles(self, first: int, length: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """The rotations of places from `first` on; None where positions are added instead."""
        return self.rotary.angles(first, length, device) if self.rotary is not None else None

    def encode(self, source_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoded source (B, S, D) and the bias that hides its padding (B, 1, 1, S)."""
        bias = torch.zeros(source_BS.shape, device=source_BS.device).masked_fill_(source_BS == PAD, -torch.inf)
        x_BSD, bias = self.embed(source_BS), bias[:, None, None]
        angles = self.angles(0, source_BS.shape[1], source_BS.device)
        for layer in self.encoder:
            x_BSD = layer(x_BSD, bias, angles)
        return self.norm_encoder(x_BSD), bias

    def decode(self, target_BT: Tensor, memory_BSD: Tensor, bias: Tensor) -> Tensor:
        """Return what predicts the piece after each of `target_BT`: (B, T, D)."""
        T = target_BT.shape[1]
        causal_TT = torch.full((T, T), -torch.inf, device=target_BT.device).triu(1)
        x_BTD, angles = self.embed(target_BT), self.angles(0, T, target_BT.device)
        for layer in self.decoder:
            x_BTD = layer(x_BTD, memory_BSD, causal_TT, bias, angles)
        normed: Tensor = self.norm_decoder(x_BTD)
        return normed

    def logits(self, x_ND: Tensor) -> Tensor:
        """Scores of all pieces: (N, V)."""
        return functional.linear(x_ND, self.embedding.weight)

    def forward(self, batch: MicroBatch, loss: LossConfig) -> tuple[Tensor, Tensor]:
        """Return the summed loss of a batch and its summed negative log-likelihood (no smoothing, weights apart)."""
        hidden_MD = self._hidden(batch)
        target_M = batch.target_BT[:, 1:].reshape(-1).index_select(0, batch.real_M)
        if loss.rdrop:
            other_MD = self._hidden(batch)
            return rdrop(hidden_MD, other_MD, self.embedding.weight, target_M, batch.weight_M, loss)
        return cross_entropy(hidden_MD, self.embedding.weight, target_M, batch.weight_M, loss.smoothing)

    def _hidden(self, batch: MicroBatch) -> Tensor:
        memory_BSD, bias = self.encode(batch.source_BS)
        hidden_BTD = self.decode(batch.target_BT[:, :-1], memory_BSD, bias)
        return hidden_BTD.reshape(-1, self.width).index_select(0, batch.real_M)

    def flops(self, batch: MicroBatch) -> float:
        """Floating-point operations of a training step on a batch: 6 a weight and place, and those of attention."""
        layers, width, inner, _ = self.config.shape
        (B, S), T = batch.source_BS.shape, batch.target_BT.shape[1] - 1
        encoder = layers * (4 * width**2 + 2 * width * inner) * B * S
        decoder = layers * ((6 * width**2 + 2 * width * inner) * B * T + 2 * width**2 * B * S)
        attention = layers * 2 * width * B * (S * S + T * T + S * T)
        output = self.embedding.num_embeddings * width * len(batch.real_M)
        return 6.0 * (encoder + decoder + attention + output)


_SINUSOIDS: dict[tuple[int, torch.device], Tensor] = {}


def sinusoids(first: int, length: int, width: int, device: torch.device) -> Tensor:
    """Position encodings of places first .. first + length, sines then cosines: (length, width)."""
    known = _SINUSOIDS.get((width, device))
    if known is None or len(known) < first + length:
        places = max(1024, 1 << (first + length - 1).bit_length())
        pace = torch.exp(torch.arange(width // 2) * -(math.log(10_000) / max(1, width // 2 - 1)))
        angle = torch.arange(places)[:, None] * pace
        known = _SINUSOIDS[width, device] = torch.cat([angle.sin(), angle.cos()], 1).to(device)
    return known[first : first + length]
