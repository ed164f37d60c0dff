"""Writes a trained detector as one ONNX file: int8 word vectors, float network, int8 n-gram table, metadata."""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bisift.manifest import atomic_path
from bisift.models.network import Aligner, Detector

OPSET = 17
CLIP = 5.0
"""Standardised features beyond this many standard deviations are cut."""

F32 = npt.NDArray[np.float32]


class Graph(nn.Module):
    """What the ONNX file computes: the aligner on int8 vectors, their scale folded into its weights."""

    def __init__(self, vectors_VD: F32, aligner: Aligner, mean_F: F32, deviation_F: F32) -> None:
        super().__init__()
        scale_D = np.maximum(np.abs(vectors_VD).max(axis=0), 1e-6) / 127
        self.register_buffer("vectors", torch.from_numpy(np.rint(vectors_VD / scale_D).astype(np.int8)))
        self.register_buffer("mean", torch.from_numpy(mean_F))
        self.register_buffer("deviation", torch.from_numpy(deviation_F))
        self.aligner = copy.deepcopy(aligner)
        self.aligner.fold(torch.from_numpy(scale_D.astype(np.float32)))

    def forward(self, source_BS: Tensor, target_BT: Tensor, features_BF: Tensor) -> Tensor:
        vectors = self.get_buffer("vectors")
        standard_BF = ((features_BF - self.get_buffer("mean")) / self.get_buffer("deviation")).clamp(-CLIP, CLIP)
        logit_B: Tensor = self.aligner(
            vectors[source_BS.long()].float(),
            vectors[target_BT.long()].float(),
            (source_BS != 0).float(),
            (target_BT != 0).float(),
            standard_BF,
        )
        return logit_B


def write_detector(
    path: str | Path,
    detector: Detector,
    *,
    mean_F: F32,
    deviation_F: F32,
    ngram_weights: F32,
    feature_names: Sequence[str],
    metadata: Mapping[str, Any],
) -> None:
    """Write the ONNX file (docs/models.md names its inputs, outputs and metadata).

    `ngram_weights` (2**bits) become int8 with one scale, kept in the metadata as `ngram_scale`.
    """
    graph = Graph(detector.embedding.merged(), detector.aligner, mean_F, deviation_F).eval()
    ids = torch.ones(2, 8, dtype=torch.int32)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecation
        torch.onnx.export(
            graph,
            (ids, ids, torch.zeros(2, len(feature_names))),
            buffer,  # type: ignore[arg-type]
            input_names=["source_ids", "target_ids", "features"],
            output_names=["network"],
            dynamic_axes={
                "source_ids": {0: "pairs", 1: "source"},
                "target_ids": {0: "pairs", 1: "target"},
                "features": {0: "pairs"},
                "network": {0: "pairs"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    scale = float(max(np.abs(ngram_weights).max(), 1e-6) / 127)
    table = np.clip(np.rint(ngram_weights / scale), -127, 127).astype(np.int8)
    table[0] = 0
    model.graph.initializer.append(numpy_helper.from_array(table, "ngram_weights"))
    model.graph.node.append(helper.make_node("Identity", ["ngram_weights"], ["ngram_table"]))
    model.graph.output.append(helper.make_tensor_value_info("ngram_table", TensorProto.INT8, [len(table)]))
    write(path, model, kind="detector", metadata={**metadata, "ngram_scale": scale, "feature_names": [*feature_names]})


def write(path: str | Path, model: onnx.ModelProto, *, kind: str, metadata: Mapping[str, Any]) -> None:
    """Write an ONNX model with its kind and metadata (values that are no strings as JSON), without debugging text."""
    for node in model.graph.node:
        node.doc_string = ""
    del model.metadata_props[:]
    for name, value in sorted({"kind": kind, "version": 1, **metadata}.items()):
        entry = model.metadata_props.add()
        entry.key = name
        entry.value = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
