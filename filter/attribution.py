"""What pushed a pair's scores: both split into parts that add up on the log-odds scale.

Calibration is a sum, so prior, language, n-grams and network are exact terms. A network is not: what it makes of a pair
is shared out among groups of its inputs by their Shapley values (Shapley 1953; of features: Lundberg & Lee 2017). A
group's value is the mean, over all orders in which the groups may be given, of what giving it changes; all 2^G subsets
are run through the graph, so nothing is sampled, and the values add up to the output less that of the starting point.
That is a typical pair (`models.typical`) of as many tokens, whose words are unknown: each has one of the vocabulary's
ids for unknown words, and the outputs of DRAWS such choices are averaged.

Suffixes: M subsets of G groups (bit g of an index: group g is given), F row features, B rows of a slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter.encoding import Encoder
from bisift.filter.inference import EVIDENCE_UNIT, F32, F64, MAX_EVIDENCE, Network, Scorer, TwoSides
from bisift.filter.lexical import OOV_IDS, STATISTICS
from bisift.filter.text import mix64
from bisift.filter.tokens import NgramEvidence, Tokens, ngram_evidence, tokens_of
from bisift.models import registry

WORDS = "words"
NGRAMS = "n-grams"
LIMIT = "limit"
DRAWS = 8
LEAST_QUALITY = 1e-7
"""Quality is cut to this far from 0 and 1 before its log-odds are taken."""

_SIDES = ("source", "target")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "predictability": ("lexical_forward", "lexical_backward", "forward_deviation", "backward_deviation"),
    "coverage": ("lexical_coverage", "unexplained_target", "unexplained_source", "identical"),
    "links": ("style", "style_deviation", "link_strength"),
    "word order": ("displacement", "inversions"),
    "length": (
        *("form_chars", "form_letters", "form_source_chars", "length_ratio", "chars_difference", "words_difference"),
        *(f"{side}_{name}" for side in _SIDES for name in ("chars", "words")),
    ),
    "punctuation": (
        *(f"form_{name}" for name in ("comma", "stop", "question", "colon", "quote", "bracket", "dash")),
        *(f"{name}_difference" for name in ("commas", "stops", "questions", "exclamations", "colons", "quotes")),
        *("brackets_difference", "dashes_difference", "brackets", "unbalanced_brackets", "terminal_match"),
        *("source_punctuation", "target_punctuation"),
    ),
    "capitals": ("form_upper", "capitals_difference", "source_capitals", "target_capitals", "title_case"),
    "numbers": (
        *("form_digit", "digits_difference", "number_match", "source_digits", "target_digits"),
        *("url_match", "email_match", "placeholder_match"),
    ),
    "copying": ("copy_similarity", "untranslated", "trigram_overlap", "copied_words"),
    "language": tuple(
        f"{side}_{name}"
        for side in _SIDES
        for name in ("agreement", "other_language", "script", "language_probability")
    ),
    "text": tuple(
        f"{side}_{name}"
        for side in _SIDES
        for name in ("letters", "mean_word", "longest_word", "type_token", "repetition")
    ),
    "defects": (
        *(f"{side}_{name}" for side in _SIDES for name in ("markup", "mojibake")),
        *("escaped_unicode", "control_chars", "glued_words", "spaced_letters", "breadcrumbs", "templates"),
    ),
}
"""Which row features are given together. A model's groups are those of which it reads a feature; word ids are WORDS."""

_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


@dataclass(frozen=True, slots=True)
class Input:
    """A row feature that a model reads. `effect`: what the log-odds would lose if this one alone were typical."""

    feature: str
    value: float
    typical: float
    effect: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a group of inputs adds to the log-odds."""

    group: str
    log_odds: float
    inputs: tuple[Input, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """A score and its log-odds, which are the sum of all of `baseline` and of all `contributions`."""

    score: float
    log_odds: float
    baseline: Mapping[str, float]
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """What pushed both scores of a pair. `ngrams` is null for a detector without n-grams."""

    ai_probability: Split
    quality: Split | None
    tokens: Tokens
    ngrams: NgramEvidence | None
    notes: tuple[str, ...]


def attribute(scorer: Scorer, pairs: pa.Table, sides: TwoSides, features: pa.Table) -> Attribution:
    """Split both scores of one pair; arguments as of `Scorer.score`, with one row.

    Raises:
        ModelError: the values of a typical pair are missing or damaged.
    """
    encoder = scorer.encoder(pairs, sides, features)
    typical = registry.typical()
    language = encoder.languages[0]
    calibration = scorer.calibration.languages.get(language or "", scorer.calibration.unknown)
    notes = []
    table = scorer.detector.ngram_table
    ngrams, ngram_T = None, None
    if not min(words.count_N[0] for words in encoder.words):
        notes.append("ai_probability: a side has no words, so nothing is said beyond the prior")
        detector = Split(scorer.prior, scorer.prior_log_odds, {"prior": scorer.prior_log_odds}, ())
    else:
        if table is not None and calibration[1]:
            factor = calibration[1] * scorer.detector.ngram_scale
            ngrams, ngram_T = ngram_evidence(sides.target, language, table, factor)
        elif table is not None:
            notes.append(f"ai_probability: no n-gram weights for {language or 'an unknown language'}, so none count")
        detector = _split_detector(scorer, encoder, typical, calibration, ngrams)
    quality = None
    if scorer.quality is not None:
        if not encoder.in_pairs(scorer.quality.language_pairs)[0]:
            notes.append("quality: the lexical table does not know this language pair, its statistics are left out")
        start, parts, value = _shares(scorer.quality, encoder, "quality", typical, _log_odds)
        score = 1 / (1 + math.exp(-value))
        quality = Split(score, value, {"typical_pair": start}, parts)
    return Attribution(
        ai_probability=detector,
        quality=quality,
        tokens=tokens_of(scorer.lexicon, sides.source, sides.target, encoder.words, ngram_T),
        ngrams=ngrams,
        notes=tuple(notes),
    )


def shapley(value_M: F64) -> F64:
    """Shapley values of G players from the value of each of the 2^G coalitions; shape G.

    Player g's is the sum over the coalitions S without g of |S|! (G - |S| - 1)! / G! (value(S with g) - value(S)).
    """
    count = len(value_M).bit_length() - 1
    mask_M = np.arange(len(value_M))
    size_M = sum(((mask_M >> player) & 1 for player in range(count)), np.zeros_like(mask_M))
    orders = [math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count) for size in range(count)]
    out_G = np.zeros(count)
    for player in range(count):
        without = mask_M[(mask_M >> player) & 1 == 0]
        gain = value_M[without | 1 << player] - value_M[without]
        out_G[player] = (np.array(orders)[size_M[without]] * gain).sum()
    return out_G


def _split_detector(
    scorer: Scorer,
    encoder: Encoder,
    typical: Mapping[str, float],
    calibration: tuple[float, float, float],
    ngrams: NgramEvidence | None,
) -> Split:
    a, _, c = calibration
    start, parts, value = _shares(scorer.detector, encoder, "network", typical, lambda logit: logit, scale=a)
    contributions = list(parts)
    evidence = value + c
    if ngrams is not None:
        contributions.append(Contribution(NGRAMS, ngrams.log_odds, ()))
        evidence += ngrams.log_odds
    limit = MAX_EVIDENCE / EVIDENCE_UNIT
    if abs(evidence) > limit:
        contributions.append(Contribution(LIMIT, math.copysign(limit, evidence) - evidence, ()))
        evidence = math.copysign(limit, evidence)
    return Split(
        score=float(scorer.probability(np.array([evidence]))[0]),
        log_odds=scorer.prior_log_odds + evidence,
        baseline={"prior": scorer.prior_log_odds, "language": c, "typical_pair": start},
        contributions=tuple(contributions),
    )


def _log_odds(quality: F64) -> F64:
    clipped = np.clip(quality, LEAST_QUALITY, 1 - LEAST_QUALITY)
    return np.log(clipped) - np.log1p(-clipped)


def _shares(
    network: Network,
    encoder: Encoder,
    output: str,
    typical: Mapping[str, float],
    link: Callable[[F64], F64],
    scale: float = 1.0,
) -> tuple[float, tuple[Contribution, ...], float]:
    """Output at the start, each group's share, and output of the pair; all linked and times `scale`."""
    names, pairs = network.feature_names, network.language_pairs
    known = bool(encoder.in_pairs(pairs)[0])
    _, feed = next(encoder.slices(network.inputs, names, pairs))
    ids = {name: feed[name][:1] for name in network.inputs if name != "features"}
    if "features" not in network.inputs:
        names = ()
    own_F = feed["features"][0].astype(np.float32) if names else np.zeros(0, np.float32)
    usual = [typical[name] if known or name not in STATISTICS else 0.0 for name in names]
    typical_F = np.array(usual, dtype=np.float32)
    groups = [group for group in GROUPS if any(_GROUP_OF[name] == group for name in names)]
    groups = [WORDS, *groups] if ids else groups

    def run(given_MF: npt.NDArray[np.bool_], row_ids: Mapping[str, npt.NDArray[np.generic]]) -> F64:
        features_MF = np.where(given_MF, own_F, typical_F)
        return link(_run(network, output, len(next(iter(feed.values()))), row_ids, features_MF)) * scale

    mask_M = np.arange(1 << len(groups))
    place_F = np.array([groups.index(_GROUP_OF[name]) for name in names], dtype=np.int64)
    given_MF = (mask_M[:, None] >> place_F & 1).astype(bool)
    words_M = mask_M & 1 == 1 if ids else np.ones(len(mask_M), dtype=bool)  # WORDS are the first group
    value_M = np.zeros(len(mask_M))
    value_M[words_M] = run(given_MF[words_M], ids)
    if ids:
        drawn = [run(given_MF[~words_M], _unknown(ids, draw)) for draw in range(DRAWS)]
        value_M[~words_M] = np.mean(drawn, axis=0)
    effect_F = value_M[-1] - run(~np.eye(len(names), dtype=bool), ids) if names else np.zeros(0)
    inputs = [
        (place, Input(name, *values))
        for place, name, *values in zip(place_F, names, own_F.tolist(), usual, effect_F.tolist(), strict=True)
    ]
    parts = tuple(
        Contribution(group, float(share), tuple(entry for place, entry in inputs if place == number))
        for number, (group, share) in enumerate(zip(groups, shapley(value_M), strict=True))
    )
    return float(value_M[0]), parts, float(value_M[-1])


def _run(network: Network, output: str, size: int, ids: Mapping[str, npt.NDArray[np.generic]], features_MF: F32) -> F64:
    """One output for each row of features, in slices of the size in which a pair of this length is scored; shape M."""
    found = []
    for start in range(0, len(features_MF), size):
        rows_B = np.arange(start, start + size) % len(features_MF)
        feed = {name: np.repeat(values, size, axis=0) for name, values in ids.items()}
        if "features" in network.inputs:
            feed["features"] = features_MF[rows_B]
        found.append(network.run_slice(feed)[output])
    return np.concatenate(found)[: len(features_MF)].astype(np.float64)


def _unknown(ids: Mapping[str, npt.NDArray[np.generic]], draw: int) -> dict[str, npt.NDArray[np.generic]]:
    """The same number of tokens, each an id for unknown words; the same ones for the same `draw`."""
    out: dict[str, npt.NDArray[np.generic]] = {}
    for side, (name, values) in enumerate(sorted(ids.items())):
        place = np.arange(values.size, dtype=np.uint64) + np.uint64((draw * 2 + side) * values.size)
        chosen = (mix64(place) % np.uint64(OOV_IDS)).astype(np.int32) + np.int32(1)
        out[name] = np.where(values != 0, chosen.reshape(values.shape), np.int32(0))
    return out
