"""`python -m bisift.models.evaluate quality`: correlation with human ratings, and made noise told from clean pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from bisift.errors import ModelError
from bisift.filter.features import Sides, measure
from bisift.filter.inference import Scorer
from bisift.models import noise, registry
from bisift.models.auroc import auroc
from bisift.models.data import load_wmt
from bisift.models.detector_evaluate import append_result
from bisift.models.quality_data import F64, Pairs, load_ratings, spoilt, wmt_pairs

_ROWS = 8192
BINS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with wmt/ and ratings/")
    parser.add_argument("--model", type=Path, required=True, help="quality.onnx trained with --split house")
    parser.add_argument("--lexical", type=Path, required=True, help="its lexical table")
    parser.add_argument(
        "--detector", type=Path, required=True, help="a detector with the same table (it is not judged)"
    )
    parser.add_argument("--results", type=Path, help="JSON lines file to append the figures to")


def run(arguments: argparse.Namespace) -> None:
    """Print the figures and append them to `--results`.

    Raises:
        InputError: data cannot be read.
        ModelError: weights are missing, or saw the test in training.
    """
    model = registry.resolve("quality", arguments.model)
    if model.metadata.get("split") != "house":
        raise ModelError(f"{model.path}: trained on split {model.metadata.get('split')!r}, which holds the test")
    files = {"quality": arguments.model, "lexical": arguments.lexical, "detector": arguments.detector}
    scorer = Scorer.load(models={kind: str(path) for kind, path in files.items()})
    dev = load_ratings(arguments.data, ("dev",))
    value = score(scorer, dev.pairs)
    pearson = {
        str(name): round(float(np.corrcoef(value[dev.lang_pair == name], dev.z_score[dev.lang_pair == name])[0, 1]), 3)
        for name in np.unique(dev.lang_pair.astype(str))
    }
    pearson["mean"] = round(float(np.mean(list(pearson.values()))), 3)

    wmt = load_wmt(arguments.data, "house")
    clean = wmt_pairs(wmt, np.flatnonzero(wmt.test_S[wmt.source_R] & wmt.human_R))
    clean_value = score(scorer, clean)
    rng = np.random.default_rng(0)
    aurocs: dict[str, float] = {}
    for kind in noise.KINDS:
        made, rows = spoilt(clean, kind, rng)
        noisy = score(scorer, made)
        aurocs[kind] = round(auroc(clean_value[rows], noisy), 3)
    quantiles = [round(float(q), 3) for q in np.quantile(clean_value, (0.05, 0.25, 0.5, 0.75, 0.95))]
    by_bin = [
        round(float(part.mean()), 3) for part in np.array_split(dev.quantile[np.argsort(value, kind="stable")], BINS)
    ]
    print("Pearson with human ratings (MLQE-PE dev): " + ", ".join(f"{k} {v:.3f}" for k, v in pearson.items()))
    print("AUROC against made noise: " + ", ".join(f"{k} {v:.3f}" for k, v in aurocs.items()))
    print(f"quality of references, quantiles 5 25 50 75 95%: {quantiles}")
    print(f"mean rating quantile by fifths of quality (MLQE-PE dev): {by_bin}")
    if arguments.results:
        append_result(
            arguments.results,
            "quality",
            {kind: registry.resolve(kind, path).digest for kind, path in files.items()},
            {
                "pearson": pearson,
                "auroc": aurocs,
                "reference_quantiles": quantiles,
                "rating_by_quality_fifth": by_bin,
            },
        )


def score(scorer: Scorer, pairs: Pairs) -> F64:
    """Quality of each pair through the code that scores, shape E."""
    found = []
    for start in range(0, len(pairs), _ROWS):
        part = pairs.take(np.arange(start, min(start + _ROWS, len(pairs))))
        table = pa.table(
            {
                name: pa.array(getattr(part, name).tolist(), pa.string())
                for name in ("source", "target", "source_lang", "target_lang")
            }
        )
        sides = Sides.of(table)
        found.append(scorer.score(table, sides, measure(table, sides)).column("quality").to_numpy())
    return np.concatenate(found).astype(np.float64)
