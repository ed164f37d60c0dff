"""A checkpoint for other engines: CTranslate2 (fast on CPUs), and ONNX as an encoder and a decoder."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bisift.errors import BisiftError, ConfigError
from bisift.manifest import write_json
from bisift.trainer.checkpoint import Checkpoint
from bisift.trainer.model import Transformer, sinusoids
from bisift.trainer.vocabulary import BOS, EOS, UNKNOWN, Vocabulary, tag_id

VOCABULARY_NAME = "vocabulary.model"
TAG_NAME = "tag.json"
"""Where the checkpoint was trained with tags: the `piece` (and its `id`) to put before each source."""
QUANTIZATIONS = ("float32", "int8", "int8_float32", "int16", "float16", "bfloat16")
PLACES = 2_048
"""Positions that an exported model knows."""

OPSET = 17


def export(checkpoint: Checkpoint, output: Path, *, to: str, quantization: str = "float32") -> Path:
    """Write a folder with the model and its sentencepiece vocabulary, whole or not at all.

    Raises:
        ConfigError: the engine's package is missing, an option is wrong, or the folder exists.
        BisiftError: the disk refuses.
    """
    if output.exists():
        raise ConfigError(f"{output}: exists; name another folder or remove it")
    writer = {"ctranslate2": _to_ctranslate2, "onnx": _to_onnx}.get(to)
    if writer is None:
        raise ConfigError(f"no engine {to!r}: ctranslate2 or onnx")
    if quantization not in QUANTIZATIONS or (to == "onnx" and quantization != "float32"):
        raise ConfigError(f"{to} has no quantization {quantization!r} here")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as temporary:
            made = Path(temporary) / output.name
            made.mkdir()
            (made / VOCABULARY_NAME).write_bytes(checkpoint.vocabulary)
            if (tag := checkpoint.state.get("tag", -1)) >= 0:
                write_json(made / TAG_NAME, {"piece": f"<tag{tag}>", "id": tag_id(tag)})
            writer(checkpoint, made, quantization)
            shutil.move(made, output)
    except OSError as error:
        raise BisiftError(f"{output}: {error.strerror or error}") from error
    return output


def _to_ctranslate2(checkpoint: Checkpoint, folder: Path, quantization: str) -> None:
    try:
        from ctranslate2.specs import transformer_spec
    except ImportError as error:
        raise ConfigError("this needs ctranslate2: pip install 'bisift[ctranslate2]'") from error
    model = checkpoint.model()
    layers, _, _, heads = model.config.shape
    rotary: dict[str, Any] = {}
    if model.rotary is not None:
        rotary = {"rotary_dim": 0, "rotary_interleave": False}
    encoder = transformer_spec.TransformerEncoderSpec(layers, heads, pre_norm=True, **rotary)
    decoder = transformer_spec.TransformerDecoderSpec(layers, heads, pre_norm=True, **rotary)
    spec = transformer_spec.TransformerSpec(encoder, decoder)
    for side, stack, norm in (
        (encoder, model.encoder, model.norm_encoder),
        (decoder, model.decoder, model.norm_decoder),
    ):
        if model.rotary is None:
            side.position_encodings.encodings = sinusoids(0, PLACES, model.width, torch.device("cpu")).numpy()
        elif hasattr(side, "position_encodings"):
            del side.position_encodings
        _norm(side.layer_norm, norm)
        for target, layer in zip(side.layer, stack, strict=True):
            _layer(target, layer)
    encoder.embeddings[0].weight = _array(model.embedding.weight)
    decoder.embeddings.weight = _array(model.embedding.weight)
    decoder.projection.weight = _array(model.embedding.weight)
    pieces = Vocabulary(checkpoint.vocabulary).pieces()
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = pieces[UNKNOWN], pieces[BOS], pieces[EOS]
    spec.config.decoder_start_token = pieces[BOS]
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = model.norm_encoder.eps
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))


def _layer(target: Any, layer: Any) -> None:
    attention = target.self_attention
    _norm(attention.layer_norm, layer.norm_attention)
    _linear(attention.linear[0], layer.attention.query_key_value)
    _linear(attention.linear[1], layer.attention.out)
    if hasattr(layer, "cross"):
        _norm(target.attention.layer_norm, layer.norm_cross)
        _linear(target.attention.linear[0], layer.cross.query)
        _linear(target.attention.linear[1], layer.cross.key_value)
        _linear(target.attention.linear[2], layer.cross.out)
    _norm(target.ffn.layer_norm, layer.norm_feed)
    _linear(target.ffn.linear_0, layer.feed.up)
    _linear(target.ffn.linear_1, layer.feed.down)


def _linear(target: Any, linear: nn.Linear) -> None:
    target.weight, target.bias = _array(linear.weight), _array(linear.bias)


def _norm(target: Any, norm: nn.LayerNorm) -> None:
    target.gamma, target.beta = _array(norm.weight), _array(norm.bias)


def _array(weight: Tensor) -> npt.NDArray[np.float32]:
    return weight.detach().float().numpy()


class _Encoder(nn.Module):
    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor]:
        memory, bias = self.model.encode(source)
        return memory, bias


class _Decoder(nn.Module):
    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, target: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        hidden = self.model.decode(target, memory, bias)[:, -1]
        return self.model.logits(hidden).log_softmax(-1)


def _to_onnx(checkpoint: Checkpoint, folder: Path, quantization: str) -> None:
    """encoder.onnx: source (B, S) -> memory, bias; decoder.onnx: target (B, T) so far, memory, bias -> log p (B, V)."""
    model = checkpoint.model()
    sinusoids(0, PLACES, model.width, torch.device("cpu"))
    source = torch.full((2, 5), EOS)
    memory, bias = model.encode(source)
    batch, places = {0: "batch", 1: "source"}, {0: "batch", 3: "source"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Encoder(model),
            (source,),
            str(folder / "encoder.onnx"),
            input_names=["source"],
            output_names=["memory", "bias"],
            dynamic_axes={"source": batch, "memory": batch, "bias": places},
            opset_version=OPSET,
            dynamo=False,
        )
        torch.onnx.export(
            _Decoder(model),
            (torch.full((2, 3), BOS), memory, bias),
            str(folder / "decoder.onnx"),
            input_names=["target", "memory", "bias"],
            output_names=["log_probability"],
            dynamic_axes={
                "target": {0: "batch", 1: "target"},
                "memory": batch,
                "bias": places,
                "log_probability": {0: "batch"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
