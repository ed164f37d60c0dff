"""`python -m bisift.models.train detector`: from data and a lexical table to detector.onnx and its metrics."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter.lexical import OOV_IDS, STATISTICS, Lexicon
from bisift.filter.text import I64
from bisift.manifest import file_digest, write_json
from bisift.models import calibration, detector
from bisift.models.data import SPLITS, Wmt, fold_of, load_wmt
from bisift.models.export import write_detector
from bisift.models.lexical_table import refit
from bisift.models.network import Detector

F64 = npt.NDArray[np.float64]

MIN_SOURCES = 300
"""A target language with fewer training sources does not count as known."""

CALIBRATION_CONTRASTS = 20_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with wmt/, corpora/ and ratings/")
    parser.add_argument("--split", choices=SPLITS, default="all", help="house: leave out the test (default: all)")
    parser.add_argument("--lexical", type=Path, required=True, help="lexical table of the same split")
    parser.add_argument("--vectors", type=Path, required=True, help="word vectors written with that table")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=detector.Settings().steps, help="steps of the network")
    parser.add_argument(
        "--ngram-steps", type=int, default=detector.Settings().ngram_steps, help="steps of the n-gram weights"
    )
    parser.add_argument("--output", type=Path, required=True, help="detector.onnx; metrics go beside it as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Train, calibrate and write.

    Raises:
        InputError, ModelError: data or table cannot be read.
    """
    settings = detector.Settings(seed=arguments.seed, steps=arguments.steps, ngram_steps=arguments.ngram_steps)
    wmt = load_wmt(arguments.data, arguments.split)
    lexicon = Lexicon.load(arguments.lexical)
    vectors = np.load(arguments.vectors)["vectors"].astype(np.float32)

    examples, mean, deviation = prepare(wmt, lexicon, settings)
    print(f"{len(examples.rows)} translations prepared", flush=True)
    fit_on = wmt.train_S[wmt.source_R[examples.rows]]
    contrasts = detector.Contrasts(wmt, examples.target, masked(examples, fit_on))
    weights = detector.train_ngrams(wmt, contrasts, settings)
    print("n-grams trained", flush=True)
    trained = detector.train_aligner(examples, vectors, contrasts, settings)

    held_back = detector.Contrasts(wmt, examples.target, masked(examples, ~fit_on))
    human, machine = held_back.draw(CALIBRATION_CONTRASTS, np.random.default_rng(settings.seed))
    rows = np.concatenate([human, machine])
    is_machine = np.repeat([False, True], CALIBRATION_CONTRASTS)
    network = detector.aligner_logits(trained, examples, rows).astype(np.float64)
    ngrams = detector.ngram_scores(wmt, weights, rows).astype(np.float64)
    language = wmt.target_language_S[wmt.source_R[rows]].astype(str)
    known = known_languages(wmt)
    fitted = calibration.fit(network, ngrams, is_machine, language, known)
    odds = calibration.log_odds(fitted, network, ngrams, language)
    seen = np.isin(language, known)
    error = calibration.expected_calibration_error(1 / (1 + np.exp(-odds[seen])), is_machine[seen])

    blind = blinded(examples, trained, rows)
    factor = calibration.unknown_factor(blind, is_machine, fitted.pooled)
    exponent = fit_exponent(wmt, examples, trained, weights, fitted, ~fit_on)
    metrics = {
        "split": arguments.split,
        "seed": settings.seed,
        "translations": int(fit_on.sum()),
        "calibration_error": round(error, 4),
        "unknown_factor": factor,
        "document_exponent": exponent,
    }
    write_detector(
        arguments.output,
        trained,
        mean_F=mean,
        deviation_F=deviation,
        ngram_weights=weights,
        feature_names=detector.FEATURE_NAMES,
        metadata={
            "split": arguments.split,
            "seed": settings.seed,
            "lexical_digest": file_digest(arguments.lexical),
            "calibration": {
                "languages": fitted.languages,
                "pooled": fitted.pooled,
                "unknown_factor": factor,
                "document_exponent": exponent,
            },
        },
    )
    write_json(arguments.output.with_suffix(".json"), metrics)
    print(json.dumps(metrics))


def prepare(
    wmt: Wmt, lexicon: Lexicon, settings: detector.Settings
) -> tuple[detector.Examples, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Tokens and standardised features of all training and calibration rows, and the mean and deviation used.

    The features of training rows come from a table trained on the other half of the sources: a table knows the links
    of the text that it was trained on too well.
    """
    used_S = wmt.train_S | wmt.calibration_S
    rows = np.flatnonzero(used_S[wmt.source_R] & ~wmt.held_R)
    place = np.full(len(wmt.source_R), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    source = wmt.source_R[rows]
    features = np.zeros((len(rows), len(detector.FEATURE_NAMES)), dtype=np.float32)
    fold_S = fold_of(wmt.source)
    for fold in (0, 1):
        table = refit(lexicon, wmt, wmt.train_S & (fold_S != fold), settings.seed)
        part = np.flatnonzero(fold_S[source] == fold)
        features[part] = detector.features_of(table, wmt, rows[part])
        print(f"half {fold + 1}: lexical table fitted", flush=True)
    features, mean, deviation = detector.standardise(features, wmt.train_S[source])
    examples = detector.Examples(
        wmt=wmt,
        rows=rows,
        place_R=place,
        source=detector.tokens_of(lexicon, wmt.source),
        target=detector.tokens_of(lexicon, wmt.target.take(pa.array(rows))),
        features=features,
    )
    return examples, mean, deviation


def masked(examples: detector.Examples, chosen: npt.NDArray[np.bool_]) -> I64:
    """`place_R` of the chosen examples alone."""
    place = examples.place_R.copy()
    place[examples.rows[~chosen]] = -1
    return place


def known_languages(wmt: Wmt) -> list[str]:
    """Target languages with enough training sources that have a human reference and a machine translation."""
    used = wmt.train_S[wmt.source_R] & ~wmt.held_R
    both = np.intersect1d(wmt.source_R[used & wmt.human_R], wmt.source_R[used & ~wmt.human_R])
    names, count = np.unique(wmt.target_language_S[both].astype(str), return_counts=True)
    return [str(name) for name, size in zip(names, count, strict=True) if size >= MIN_SOURCES]


def blinded(examples: detector.Examples, trained: Detector, rows: I64) -> F64:
    """Logits as an unknown language would give them: no learned word vectors, no lexical statistics."""
    features = examples.features.copy()
    features[:, : len(STATISTICS)] = 0
    difference = trained.embedding.difference.weight
    learned = difference.data.clone()
    difference.data[OOV_IDS + 1 :] = 0
    blind = detector.Examples(**{**vars(examples), "features": features})
    logits = detector.aligner_logits(trained, blind, rows).astype(np.float64)
    difference.data.copy_(learned)
    return logits


def fit_exponent(
    wmt: Wmt,
    examples: detector.Examples,
    trained: Detector,
    weights: npt.NDArray[np.float32],
    fitted: calibration.Fitted,
    chosen: npt.NDArray[np.bool_],
) -> float:
    """Fit the documents' discount on the first 1 to 50 segments of each side's documents and runs."""
    rows = examples.rows[chosen]
    rows = rows[np.isin(wmt.target_language_S[wmt.source_R[rows]].astype(str), list(fitted.languages))]
    source = wmt.source_R[rows]
    language = wmt.target_language_S[source].astype(str)
    network = detector.aligner_logits(trained, examples, rows).astype(np.float64)
    ngrams = detector.ngram_scores(wmt, weights, rows).astype(np.float64)
    odds = calibration.log_odds(fitted, network, ngrams, language)
    unit = np.char.add(wmt.doc_S[source].astype(str), (wmt.segment_S[source] // 50).astype(str))
    unit = np.char.add(unit, np.char.add(wmt.pair_S[source].astype(str), wmt.year_S[source].astype(str)))
    _, number = np.unique(unit, return_inverse=True)
    order = np.lexsort((wmt.segment_S[source], wmt.side_R[rows], number))
    key = number[order] * (wmt.side_R.max() + 1) + wmt.side_R[rows][order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    size = np.diff(np.append(first, len(key)))
    running = np.concatenate([[0.0], np.cumsum(odds[order])])
    human = wmt.human_R[rows][order][first]
    sums, counts, machine = [], [], []
    for length in (1, 2, 5, 10, 20, 50):
        long = size >= length
        sums.append(running[first[long] + length] - running[first[long]])
        counts.append(np.full(int(long.sum()), length))
        machine.append(~human[long])
    is_machine, count = np.concatenate(machine), np.concatenate(counts)
    weight = np.zeros(len(count))
    for length in np.unique(count):
        for side in (False, True):
            chosen_rows = (count == length) & (is_machine == side)
            weight[chosen_rows] = 1 / max(int(chosen_rows.sum()), 1)
    return calibration.document_exponent(np.concatenate(sums), count, is_machine, weight)
