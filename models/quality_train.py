"""`python -m bisift.models.train quality`: from data and a lexical table to quality.onnx and its metrics."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from bisift.filter.lexical import Lexicon
from bisift.manifest import file_digest, write_json
from bisift.models import noise, quality
from bisift.models.data import SPLITS, fold_of, load_wmt, other_bitext
from bisift.models.quality_data import (
    F32,
    FEATURE_NAMES,
    Pairs,
    clean_pairs,
    cross_fitted,
    load_ratings,
    row_features,
    spoilt,
    undeclared,
)

SIZE = 90_000
PER_KIND = 12_000
HELD_OUT = 10
"""One source text in so many is kept for calibration."""

SHARES = {"negation": 0.25, "dropped_phrase": 0.5, "wrong_language": 3.0}
"""How often a kind is drawn beside the others: what row features hardly see should not spoil what they do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with wmt/, corpora/ and ratings/")
    parser.add_argument(
        "--split", choices=SPLITS, default="all", help="house: leave out the test and MLQE-PE dev (default: all)"
    )
    parser.add_argument("--lexical", type=Path, required=True, help="lexical table of the same split")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=quality.Settings().steps)
    parser.add_argument("--output", type=Path, required=True, help="quality.onnx; metrics go beside it as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Train, calibrate and write.

    Raises:
        InputError, ModelError: data or table cannot be read.
    """
    rng = np.random.default_rng(arguments.seed)
    wmt = load_wmt(arguments.data, arguments.split)
    lexicon = Lexicon.load(arguments.lexical)
    ratings = load_ratings(arguments.data, ("train",) if arguments.split == "house" else ("train", "dev"))
    clean = clean_pairs(wmt, arguments.data, arguments.split, ratings, rng, SIZE)
    pairs, kind, origin = with_noise(clean, rng)
    print(f"{len(clean)} clean pairs, {len(pairs) - len(clean)} spoilt, {len(ratings.quantile)} ratings", flush=True)
    tables = cross_fitted(wmt, arguments.data, arguments.split, lexicon, arguments.seed)
    weight = np.array([SHARES.get(name, 1.0) for name in ("clean", *noise.KINDS)])[kind]
    features = fold_features(undeclared(pairs, rng), tables)
    rated = fold_features(undeclared(ratings.pairs, rng), tables)

    held = held_out(pairs)
    held_rated = held_out(ratings.pairs)
    training = quality.Examples(
        features_EF=features,
        kind_E=np.where(held, 0, kind),
        clean_E=origin,
        weight_E=weight,
        rated_RF=rated[~held_rated],
        quantile_R=ratings.quantile[~held_rated],
    )
    network = quality.train(training, quality.Settings(seed=arguments.seed, steps=arguments.steps))
    quality.calibrate(
        network,
        quality.Examples(
            features_EF=features[held],
            kind_E=kind[held],
            clean_E=origin[held],
            weight_E=weight[held],
            rated_RF=rated[held_rated],
            quantile_R=ratings.quantile[held_rated],
        ),
    )
    known = sorted({*wmt.pair_S[wmt.train_S], *(name for name, _, _ in other_bitext(arguments.data, arguments.split))})
    quality.write_quality(
        arguments.output,
        network,
        {
            "split": arguments.split,
            "seed": arguments.seed,
            "lexical_digest": file_digest(arguments.lexical),
            "feature_names": [*FEATURE_NAMES],
            "language_pairs": known,
        },
    )
    value = quality.predict(network, features[held])
    metrics = {
        "split": arguments.split,
        "seed": arguments.seed,
        "held_out_mean": {
            name: round(float(value[kind[held] == number].mean()), 3)
            for number, name in enumerate(("clean", *noise.KINDS))
        },
        "held_out_rating_correlation": round(
            float(np.corrcoef(quality.predict(network, rated[held_rated]), ratings.quantile[held_rated])[0, 1]), 4
        ),
    }
    write_json(arguments.output.with_suffix(".json"), metrics)
    print(json.dumps(metrics))


def with_noise(clean: Pairs, rng: np.random.Generator) -> tuple[Pairs, quality.I64, quality.I64]:
    """The clean pairs, then PER_KIND spoilt ones a kind; the kind of each (0 = clean), and the clean row it is from."""
    parts, kinds, origins = [clean], [np.zeros(len(clean), dtype=np.int64)], [np.arange(len(clean))]
    for number, name in enumerate(noise.KINDS, start=1):
        made, rows = spoilt(clean, name, rng)
        kept = np.sort(rng.permutation(len(rows))[:PER_KIND])
        parts.append(made.take(kept))
        kinds.append(np.full(len(kept), number))
        origins.append(rows[kept])
    return Pairs.joined(parts), np.concatenate(kinds), np.concatenate(origins)


def fold_features(pairs: Pairs, tables: list[Lexicon]) -> F32:
    """Row features; an example's table was trained without its source text."""
    fold = fold_of(pa.array(pairs.source.tolist(), pa.string()))
    out = np.zeros((len(pairs), len(FEATURE_NAMES)), dtype=np.float32)
    for number, table in enumerate(tables):
        rows = np.flatnonzero(fold == number)
        out[rows] = row_features(pairs.take(rows), table)
    return out


def held_out(pairs: Pairs) -> quality.Bool:
    """Pairs whose source text is kept for calibration."""
    import zlib

    return np.array([zlib.crc32(text.encode()) % HELD_OUT == 0 for text in pairs.source])
