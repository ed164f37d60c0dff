"""The house split's table: AUROC of human references against each system, by generators and languages seen or held out.

Rows as in `models.data`; a score is higher the more machine-like a translation looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from bisift.filter.text import I64
from bisift.models.data import Wmt

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

UNITS = ("1", "10", "30", "document")
MIN_SEGMENTS = 50
GROUPS = ("seen", "held_out_generators", "held_out_languages")
Pool = Callable[[F64, I64], F64]
"""From sums of scores and numbers of segments to the scores of runs or documents."""


def auroc(machine: F64, human: F64) -> float:
    """Share of (machine, human) pairs in which the machine's score is higher; ties count half."""
    values = np.concatenate([machine, human])
    _, number, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2  # mean rank of each distinct value, from 1
    above = rank[number[: len(machine)]].sum() - len(machine) * (len(machine) + 1) / 2
    return float(above / (len(machine) * len(human)))


def runs_of(wmt: Wmt, rows: I64, score: F64, unit: str) -> tuple[F64, I64]:
    """Sums of the scores of one side by unit, and segments a unit: single segments, runs of 10 or 30, documents.

    `rows` are one side's translations; runs are consecutive segments, the rest at the end is left out.
    """
    source = wmt.source_R[rows]
    order = np.lexsort((wmt.segment_S[source], wmt.doc_S[source].astype(str), wmt.year_S[source]))
    rows, score = rows[order], score[order]
    if unit == "document":
        _, group = np.unique(wmt.doc_S[wmt.source_R[rows]].astype(str), return_inverse=True)
    else:
        size = int(unit)
        kept = len(rows) // size * size
        score, group = score[:kept], np.arange(kept) // size
    return np.bincount(group, weights=score).astype(np.float64), np.bincount(group)


def table(wmt: Wmt, score_R: F64, pool: Pool) -> dict[str, dict[str, float]]:
    """Group to unit to AUROC: mean over systems of at least MIN_SEGMENTS, then over language pairs.

    NaN scores are left out. Human references of one language pair are pooled unit by unit, each side by itself.
    """
    found: dict[str, dict[str, dict[str, list[float]]]] = {group: {unit: {} for unit in UNITS} for group in GROUPS}
    usable = wmt.test_S[wmt.source_R] & ~np.isnan(score_R)
    for pair in sorted(set(wmt.pair_S[wmt.test_S])):
        rows = np.flatnonzero(usable & (wmt.pair_S == pair)[wmt.source_R])
        sides = [rows[wmt.side_R[rows] == side] for side in np.unique(wmt.side_R[rows])]
        held_pair = bool(wmt.held_pair_S[wmt.source_R[rows[0]]])
        for unit in UNITS:
            pooled = [(side, pool(*runs_of(wmt, side, score_R[side], unit))) for side in sides]
            human = np.concatenate([values for side, values in pooled if wmt.human_R[side[0]]])
            for side, values in pooled:
                if wmt.human_R[side[0]] or len(side) < MIN_SEGMENTS:
                    continue
                group = GROUPS[2] if held_pair else GROUPS[1] if wmt.held_R[side[0]] else GROUPS[0]
                found[group][unit].setdefault(pair, []).append(auroc(values, human))
    return {
        group: {unit: round(_mean(_mean(values) for values in by_pair.values()), 4) for unit, by_pair in units.items()}
        for group, units in found.items()
    }


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
