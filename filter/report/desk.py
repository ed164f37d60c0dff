"""The threshold desk: what stays above a quality and below an ai_probability, for every pair of thresholds on a grid.

Suffixes: N rows that no rule dropped, F corners of documents' staircases, Q and P places of the two grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bisift.filter.diversity import Tokens, distinct, type_token
from bisift.filter.report.rows import F32, Rows
from bisift.filter.text import I64, U64

STEPS = 101
GRID: F32 = (np.arange(STEPS) / 100).astype(np.float32)
"""Thresholds: 0, 0.01 ... 1 as float32, which is how scores are stored and how `select` compares."""

COARSE = 5
"""Diversity is measured at every fifth threshold."""

TOKENS = 10_000
"""Target tokens of the sample in which diversity is measured; distinct-n falls as text grows, so it is one number."""

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """For thresholds [q][p]: what `select --min-quality GRID[q] --max-ai-probability GRID[p]` takes.

    Pairs, target tokens and documents are exact. Diversity is that of a sample; None where the sample is too small.
    """

    has_quality: bool
    has_ai: bool
    pairs_QP: I64
    tokens_QP: I64
    documents_QP: I64
    mean_quality_QP: F64
    mean_ai_QP: F64
    type_token: Sequence[Sequence[float | None]]
    distinct_2: Sequence[Sequence[float | None]]


def make_desk(rows: Rows, sample: Tokens, sampled_S: I64) -> Desk:
    """Count what each pair of thresholds takes.

    Args:
        rows: all rows; those that a rule dropped do not count.
        sample: target tokens of the rows `sampled_S`.
        sampled_S: rows, drawn at random.
    """
    kept_N = rows.kept_N
    quality_N, ai_N, document_N = rows.quality_N[kept_N], rows.ai_N[kept_N], rows.document_N[kept_N]
    # as `select`, which refuses a threshold where any row lacks the score
    has_quality, has_ai = (bool(len(rows) and not np.isnan(score_N).any()) for score_N in (rows.quality_N, rows.ai_N))
    # the highest threshold of quality that a row reaches, and the lowest of ai_probability that it does not exceed
    q_N = np.searchsorted(GRID, quality_N, side="right") - 1 if has_quality else np.full(len(quality_N), STEPS - 1)
    p_N = np.searchsorted(GRID, ai_N, side="left") if has_ai else np.zeros(len(ai_N), np.int64)
    cell_N = q_N * STEPS + p_N

    def total(weight_N: npt.NDArray[np.generic] | None) -> F64:
        return _cumulated(np.bincount(cell_N, weight_N, minlength=STEPS * STEPS))

    pairs_QP = total(None)
    some_QP = np.where(pairs_QP > 0, pairs_QP, np.nan)
    all_q_N = np.full(len(rows), -1)
    all_p_N = np.full(len(rows), STEPS)
    all_q_N[kept_N], all_p_N[kept_N] = q_N, p_N
    type_tokens, distincts = _diversity(sample, all_q_N[sampled_S], all_p_N[sampled_S])
    return Desk(
        has_quality=has_quality,
        has_ai=has_ai,
        pairs_QP=pairs_QP.astype(np.int64),
        tokens_QP=total(rows.tokens_N[kept_N]).astype(np.int64),
        documents_QP=_documents(document_N, q_N, p_N),
        mean_quality_QP=total(quality_N) / some_QP if has_quality else np.full((STEPS, STEPS), np.nan),
        mean_ai_QP=total(ai_N) / some_QP if has_ai else np.full((STEPS, STEPS), np.nan),
        type_token=type_tokens,
        distinct_2=distincts,
    )


def _cumulated(cells: npt.NDArray[np.generic]) -> F64:
    """Sum the cells at and above each quality and at and below each ai_probability."""
    cells_QP = cells.reshape(STEPS, STEPS).astype(np.float64)
    sums: F64 = cells_QP[::-1].cumsum(axis=0)[::-1].cumsum(axis=1)
    return sums


def _documents(document_N: U64, q_N: I64, p_N: I64) -> I64:
    """Count the documents of which at least one pair is taken.

    The thresholds at which a document has a pair are a union of rectangles, one a pair, that all reach to (0, 1): a
    staircase. Each corner of it counts 1, and 1 less where two neighbouring rectangles overlap.
    """
    has = document_N != 0
    order = np.argsort(document_N[has], kind="stable")
    document = document_N[has][order]
    new = np.ones(len(document), bool)
    new[1:] = document[1:] != document[:-1]
    number = np.cumsum(new) - 1
    # by document, then from the highest quality down, then from the lowest ai_probability up
    cell = np.sort((number * STEPS + STEPS - 1 - q_N[has][order]) * STEPS + p_N[has][order])
    number, q, p = cell // (STEPS * STEPS), STEPS - 1 - cell // STEPS % STEPS, cell % STEPS
    falling = p - number * STEPS  # so that the lowest so far begins anew with every document
    corner = np.ones(len(cell), bool)
    corner[1:] = falling[1:] < np.minimum.accumulate(falling)[:-1]
    number_F, q_F, p_F = number[corner], q[corner], p[corner]
    same = number_F[1:] == number_F[:-1]
    counts = np.bincount(q_F * STEPS + p_F, minlength=STEPS * STEPS)
    counts -= np.bincount((q_F[1:] * STEPS + p_F[:-1])[same], minlength=STEPS * STEPS)
    return _cumulated(counts).astype(np.int64)


def _diversity(sample: Tokens, q_S: I64, p_S: I64) -> tuple[list[list[float | None]], list[list[float | None]]]:
    type_tokens: list[list[float | None]] = []
    distincts: list[list[float | None]] = []
    for q in range(0, STEPS, COARSE):
        type_tokens.append([])
        distincts.append([])
        for p in range(0, STEPS, COARSE):
            inside_T = ((q_S >= q) & (p_S <= p))[sample.row_T]
            tokens = Tokens(sample.hash_T[inside_T], sample.row_T[inside_T]).head(TOKENS)
            type_tokens[-1].append(type_token(tokens.hash_T))
            distincts[-1].append(distinct(tokens, 2) if len(tokens.hash_T) == TOKENS else None)
    return type_tokens, distincts
