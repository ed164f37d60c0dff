"""Which groups and documents are most likely machine-made: mean probabilities with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bisift.filter.names import I32
from bisift.filter.report.rows import Rows
from bisift.filter.text import I64

Z = 1.959964
"""Normal quantile of a two-sided 95% interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineShare:
    """Mean ai_probability of kept pairs with a 95% interval (None where it cannot be told)."""

    name: str
    pairs: int
    share: float
    low: float | None
    high: float | None
    document_probability: float | None = None


def group_shares(rows: Rows, code_N: I32, names: Sequence[str]) -> list[MachineShare]:
    """Return the mean of each group that has scored kept pairs.

    The interval is for the sampling of documents (of pairs where none is declared): pairs of one document agree, so
    residuals are summed by document before they are squared (the sandwich estimate for clusters, Liang and Zeger 1986).
    It takes the detector's calibration as given.
    """
    valid_N = rows.kept_N & ~np.isnan(rows.ai_N)
    code, value = code_N[valid_N], rows.ai_N[valid_N].astype(np.float64)
    if not len(value):
        return []
    count = np.bincount(code, minlength=len(names))
    mean = np.bincount(code, value, minlength=len(names)) / np.maximum(count, 1)
    document = rows.document_N[valid_N].copy()
    document[document == 0] = np.arange(np.count_nonzero(document == 0)) + 1  # a pair without one stands alone
    order = np.lexsort((document, code))
    new = np.ones(len(order), bool)
    new[1:] = (document[order][1:] != document[order][:-1]) | (code[order][1:] != code[order][:-1])
    starts = np.flatnonzero(new)
    residual = np.add.reduceat((value - mean[code])[order], starts)
    owner = code[order][starts]
    clusters = np.bincount(owner, minlength=len(names))
    square = np.bincount(owner, residual * residual, minlength=len(names))
    found = []
    for number in np.flatnonzero(count).tolist():
        low = high = None
        if clusters[number] > 1:
            spread = Z * np.sqrt(square[number] * clusters[number] / (clusters[number] - 1)) / count[number]
            low, high = max(0.0, float(mean[number] - spread)), min(1.0, float(mean[number] + spread))
        share = float(mean[number])
        found.append(MachineShare(name=names[number], pairs=int(count[number]), share=share, low=low, high=high))
    return found


def document_shares(rows: Rows, most: int) -> tuple[list[MachineShare], I64]:
    """Return the documents of the highest ai_probability_document, and a row of each; names are left to the caller.

    The interval is that of a share among so many pairs (Wilson 1927), the mean ai_probability taken as the share.
    """
    valid_N = rows.kept_N & (rows.document_N != 0) & ~np.isnan(rows.document_ai_N)
    row = np.flatnonzero(valid_N)
    row = row[np.argsort(rows.document_N[row], kind="stable")]
    if not len(row):
        return [], row
    document = rows.document_N[row]
    starts = np.flatnonzero(np.append(True, document[1:] != document[:-1]))
    pairs = np.diff(np.append(starts, len(row)))
    mean = np.add.reduceat(rows.ai_N[row].astype(np.float64), starts) / pairs
    centre = (mean + Z * Z / (2 * pairs)) / (1 + Z * Z / pairs)
    spread = Z / (1 + Z * Z / pairs) * np.sqrt(mean * (1 - mean) / pairs + Z * Z / (4 * pairs * pairs))
    first = row[starts]
    best = np.lexsort((-(centre - spread), -rows.document_ai_N[first]))[:most]
    found = [
        MachineShare(
            name="",
            pairs=int(pairs[place]),
            share=float(mean[place]),
            low=max(0.0, float(centre[place] - spread[place])),
            high=min(1.0, float(centre[place] + spread[place])),
            document_probability=float(rows.document_ai_N[first[place]]),
        )
        for place in best.tolist()
    ]
    return found, first[best]
