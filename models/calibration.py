"""From logits to log-odds: logistic calibration a language, shrunk to the pooled one, and the documents' discount."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SHRINKAGE = 200.0
"""Weight of the pooled parameters, in examples: a language with that many follows its own data and the pool equally."""

MAX_UNKNOWN_FACTOR = 0.25
MIN_UNKNOWN_FACTOR = 0.02
_STEPS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """log-odds = a · network + b · n-grams + c a language; a · network + c pooled, for unknown languages."""

    languages: dict[str, tuple[float, float, float]]
    pooled: tuple[float, float]


def log_odds(fitted: Fitted, network: F64, ngrams: F64, language: npt.NDArray[np.str_]) -> F64:
    """Calibrated log-odds of rows in known languages."""
    out = np.zeros(len(network))
    for name, (a, b, c) in fitted.languages.items():
        rows = language == name
        out[rows] = a * network[rows] + b * ngrams[rows] + c
    return out


def fit(network: F64, ngrams: F64, machine: Bool, language: npt.NDArray[np.str_], known: list[str]) -> Fitted:
    """Fit on class-balanced examples (rows). A known language without examples gets the pooled parameters."""
    inputs = np.stack([network, ngrams, np.ones(len(network))], axis=1)
    pooled = logistic(inputs, machine, np.zeros(3), 1e-3)
    languages = {}
    for name in known:
        rows = language == name
        own = logistic(inputs[rows], machine[rows], pooled, SHRINKAGE) if rows.any() else pooled
        languages[name] = (float(own[0]), float(own[1]), float(own[2]))
    alone = logistic(inputs[:, [0, 2]], machine, np.zeros(2), 1e-3)
    return Fitted(languages=languages, pooled=(float(alone[0]), float(alone[1])))


def logistic(inputs: F64, positive: Bool, centre: F64, weight: float) -> F64:
    """Logistic regression by Newton's method with a Gaussian prior around `centre`.

    The prior's precision is `weight` examples of average information (1/4 of the mean square of an input).
    """
    scale = np.maximum((inputs**2).mean(axis=0), 1e-6) / 4
    prior = np.diag(weight * scale)
    value = centre.copy()
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ value, -30, 30)))
        gradient = inputs.T @ (probability - positive) + prior @ (value - centre)
        hessian = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + prior
        step = np.linalg.solve(hessian, gradient)
        value = value - step
        if np.abs(step).max() < 1e-8:
            break
    return value


def unknown_factor(network: F64, machine: Bool, pooled: tuple[float, float]) -> float:
    """Factor on the pooled log-odds with the least log loss on logits of blinded inputs (no learned word, no table)."""
    pooled_log_odds = pooled[0] * network + pooled[1]
    best = logistic(pooled_log_odds[:, None], machine, np.zeros(1), 1e-3)
    return float(np.clip(best[0], MIN_UNKNOWN_FACTOR, MAX_UNKNOWN_FACTOR))


def document_exponent(evidence: F64, count: I64, machine: Bool, weight: F64) -> float:
    """The exponent e in sum / n**e with the least weighted log loss over groups of n pairs of one side."""
    best, least = 0.0, np.inf
    for exponent in np.arange(0.0, 1.001, 0.01):
        odds = np.clip(evidence / count**exponent, -30, 30)
        loss = float(np.average(np.log1p(np.exp(np.where(machine, -odds, odds))), weights=weight))
        if loss < least:
            best, least = float(exponent), loss
    return round(best, 2)


def expected_calibration_error(probability: F64, machine: Bool, bins: int = 15) -> float:
    """Mean distance of probability and observed share over equal-width bins, by size (Naeini et al. 2015)."""
    which = np.minimum((probability * bins).astype(np.int64), bins - 1)
    size = np.bincount(which, minlength=bins)
    gap = np.abs(
        np.bincount(which, weights=probability, minlength=bins) - np.bincount(which, weights=machine, minlength=bins)
    )
    return float(gap.sum() / max(size.sum(), 1))
