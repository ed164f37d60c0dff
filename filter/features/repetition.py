"""Repetition: a unit of 3 to 100 code points that stands at least three times in a row, as hallucinations do.

A segment with unit length L repeats where it equals itself L code points later, 2 L times in a row. All lags are tried
on a byte a code point, eight (four, two) at a time: a run that long holds whole aligned words of the chunk. What that
finds are candidates, which are then compared code point by code point inside their row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bisift.filter.features.sides import Side
from bisift.filter.text import I64, U8, U32, ragged_index

MIN_UNIT, MAX_UNIT = 3, 100
COPIES = 3
MIN_COVERED = 20
"""Code points that the copies must cover together: "no, no, no!" is no defect."""
MAX_CHARS = 4096
"""Code points of a row that are looked at, so that one long row stays cheap."""


def repetition(side: Side) -> npt.NDArray[np.float32]:
    """Share of each row's (first MAX_CHARS) code points that the longest repetition of a unit with a letter covers."""
    text = side.text
    covered_N = np.zeros(side.rows, dtype=np.int64)
    codes_C = text.codes_C
    looked_N = np.minimum(text.length_N, MAX_CHARS)
    if len(codes_C) >= COPIES * MIN_UNIT:
        byte_C = (codes_C ^ (codes_C >> np.uint32(7))).astype(np.uint8)
        words = {np.dtype(kind): _words(byte_C, np.dtype(kind)) for kind in (np.uint16, np.uint32, np.uint64)}
        for lag in range(MIN_UNIT, min(MAX_UNIT, len(codes_C) - 1) + 1):
            width = 2 if lag < 4 else 4 if lag < 8 else 8
            rows = _candidates(words[np.dtype(f"u{width}")], lag, width, side)
            if rows.size:
                _cover(covered_N, text.lower_C, side, text.offsets[:-1][rows], looked_N[rows], rows, lag)
    covered_N[covered_N < MIN_COVERED] = 0
    return (covered_N / np.maximum(looked_N, 1)).astype(np.float32)


def _words(byte_C: U8, kind: np.dtype[np.unsignedinteger]) -> list[npt.NDArray[np.unsignedinteger]]:
    """The bytes as words of `kind`, one array for each alignment: element i of array r starts at byte i * width + r."""
    width = kind.itemsize
    padded = np.zeros(len(byte_C) + 2 * width, dtype=np.uint8)
    padded[: len(byte_C)] = byte_C
    count = len(byte_C) // width
    return [np.ascontiguousarray(padded[shift : shift + count * width]).view(kind) for shift in range(width)]


def _candidates(words: list[npt.NDArray[np.unsignedinteger]], lag: int, width: int, side: Side) -> I64:
    """Rows that may repeat at this lag: enough consecutive words equal those `lag` bytes later."""
    skip, shift = divmod(lag, width)
    first = words[0]
    same = first[: len(first) - skip] == words[shift][skip:]
    wanted = ((COPIES - 1) * lag - width + 1) // width
    if not same.any():
        return np.zeros(0, dtype=np.int64)
    hits = np.flatnonzero(same)
    if len(hits) < wanted:
        return hits[:0]
    if wanted > 1:
        hits = hits[wanted - 1 :][hits[wanted - 1 :] - hits[: len(hits) - wanted + 1] == wanted - 1]
    return np.unique(side.rows_of(hits * width))


def _cover(covered_N: I64, codes_C: U32, side: Side, start_R: I64, length_R: I64, rows: I64, lag: int) -> None:
    """Raise `covered_N` of `rows` to what their longest run at this lag covers."""
    span_R = np.maximum(length_R - lag, 0)
    place_P = ragged_index(start_R, span_R)
    if not place_P.size:
        return
    owner_P = np.repeat(np.arange(len(rows)), span_R)
    same_P = codes_C[place_P] == codes_C[place_P + lag]
    edge_P = np.ones(len(place_P) + 1, dtype=bool)
    edge_P[1:-1] = (same_P[1:] != same_P[:-1]) | (owner_P[1:] != owner_P[:-1])
    bounds = np.flatnonzero(edge_P)
    first, run = bounds[:-1], np.diff(bounds)
    keep = same_P[first] & (run >= (COPIES - 1) * lag)
    first, run = first[keep], run[keep]
    if not first.size:
        return
    letters = np.concatenate([[0], np.cumsum(side.letter_C[ragged_index(place_P[first], np.full(len(first), lag))])])
    has_letter = letters[lag::lag] > letters[:-1:lag]
    np.maximum.at(covered_N, rows[owner_P[first[has_letter]]], run[has_letter] + lag)
