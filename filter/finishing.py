"""The finishing pass: what needs the whole input. Marks duplicates and repeated sides, pools documents.

Holds 32 bytes a pair (its id and the keys of its sides) and 20 a document; text is not held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.contract import SCORED, conform
from bisift.filter.inference import Scorer
from bisift.filter.parts import read_part
from bisift.filter.profile import Profile
from bisift.filter.rules import DUPLICATE, REPEATED_SOURCE, REPEATED_TARGET, mark, reasons
from bisift.filter.scorer import DOCUMENT_KEY, EVIDENCE, KEYS, SOURCE_KEY, TARGET_KEY
from bisift.filter.text import I64, Bool

U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]


def finished(parts: Sequence[Path], profile: Profile, scorer: Scorer | None) -> Iterator[pa.Table]:
    """Yield the SCORED tables of the parts, in order."""
    duplicate_N = repeated(_pair_keys(parts))
    source_N = repeated([_column(parts, SOURCE_KEY)])
    target_N = repeated([_column(parts, TARGET_KEY)])
    documents_D, probability_D = _documents(parts, duplicate_N, scorer)
    start = 0
    for path in parts:
        part = read_part(path)
        rows = slice(start, start + part.num_rows)
        start = rows.stop
        repeats = Repeats(duplicate_N[rows], source_N[rows], target_N[rows])
        yield finish(part, profile, repeats, documents_D, probability_D)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Which of N rows are an equal pair, or have a source or target, that stood earlier in the whole input."""

    duplicate_N: Bool
    source_N: Bool
    target_N: Bool


def finish(part: pa.Table, profile: Profile, repeats: Repeats, documents_D: U64, probability_D: F32) -> pa.Table:
    """Turn a scored part of N rows into SCORED with what the whole input says of it.

    Args:
        part: what `ChunkScorer.score` returned.
        profile: says which rules judge repeated rows.
        repeats: of the N rows.
        documents_D: keys of documents in ascending order; null for one that is not among them (all its pairs repeat
            earlier ones).
        probability_D: each one's `Scorer.document_probability`.
    """
    failed = part.column("failed_rules").to_numpy().copy()
    for rule, mask_N in (
        (DUPLICATE, repeats.duplicate_N),
        (REPEATED_SOURCE, repeats.source_N),
        (REPEATED_TARGET, repeats.target_N),
    ):
        if profile.enabled(rule):
            mark(failed, rule, mask_N)
    pooled = pa.nulls(part.num_rows, pa.float32())
    key = part.column(DOCUMENT_KEY)
    if documents_D.size and key.null_count < part.num_rows:
        key_N = key.fill_null(0).to_numpy()
        place_N = np.minimum(np.searchsorted(documents_D, key_N), documents_D.size - 1)
        unknown_N = key.is_null().to_numpy(zero_copy_only=False) | (documents_D[place_N] != key_N)
        pooled = pa.array(probability_D[place_N], mask=unknown_N)
    part = part.drop_columns([*KEYS, "failed_rules"])
    for name, column in (
        ("ai_probability_document", pooled),
        ("source_repeated", pa.array(repeats.source_N)),
        ("target_repeated", pa.array(repeats.target_N)),
        ("failed_rules", pa.array(failed)),
        ("drop_reason", reasons(failed)),
    ):
        part = part.append_column(name, column)
    return conform(part.replace_schema_metadata(None), SCORED)


def repeated(keys: Sequence[U64]) -> Bool:
    """Which of N keys (of one or more 64-bit words) stood earlier; shape N."""
    if not keys[0].size:
        return np.zeros(0, dtype=bool)
    order = np.lexsort(tuple(keys)) if len(keys) > 1 else np.argsort(keys[0], kind="stable")
    same_N = np.ones(order.size, dtype=bool)
    same_N[0] = False
    for words in keys:
        ordered = words[order]
        same_N[1:] &= ordered[1:] == ordered[:-1]
    out = np.empty(order.size, dtype=bool)
    out[order] = same_N  # stable sorts keep input order among equals, so the first of a run is the first read
    return out


def _column(parts: Sequence[Path], name: str) -> U64:
    columns = [read_part(path, [name]).column(0).to_numpy() for path in parts]
    return np.concatenate(columns) if columns else np.zeros(0, dtype=np.uint64)


def _pair_keys(parts: Sequence[Path]) -> list[U64]:
    words = []
    for path in parts:
        for chunk in read_part(path, ["pair_id"]).column(0).chunks:
            data = np.frombuffer(chunk.buffers()[1], dtype=np.uint64)
            words.append(data[2 * chunk.offset : 2 * (chunk.offset + len(chunk))].copy())
    both = np.concatenate(words) if words else np.zeros(0, dtype=np.uint64)
    return [both[0::2], both[1::2]]


def _documents(parts: Sequence[Path], duplicate_N: Bool, scorer: Scorer | None) -> tuple[U64, F32]:
    """Keys of the documents in order, and each one's probability; evidence is summed in integers."""
    keys_D = np.zeros(0, dtype=np.uint64)
    sums_D: I64 = np.zeros(0, dtype=np.int64)
    counts_D: I64 = np.zeros(0, dtype=np.int64)
    start = 0
    for path in parts:
        part = read_part(path, [DOCUMENT_KEY, EVIDENCE])
        new_N = ~duplicate_N[start : start + part.num_rows]
        start += part.num_rows
        if scorer is None or part.column(DOCUMENT_KEY).null_count == part.num_rows:
            continue
        new_N &= part.column(DOCUMENT_KEY).is_valid().to_numpy(zero_copy_only=False)
        key_N = part.column(DOCUMENT_KEY).fill_null(0).to_numpy()[new_N]
        evidence_N = part.column(EVIDENCE).to_numpy()[new_N]
        keys_D, sums_D, counts_D = document_sums(
            np.concatenate([keys_D, key_N]),
            np.concatenate([sums_D, evidence_N]),
            np.concatenate([counts_D, np.ones(key_N.size, dtype=np.int64)]),
        )
    if scorer is None or not keys_D.size:
        return keys_D[:0], np.zeros(0, dtype=np.float32)
    return keys_D, scorer.document_probability(sums_D, counts_D)


def document_sums(key_N: U64, evidence_N: I64, count_N: I64) -> tuple[U64, I64, I64]:
    """Add up evidence and pairs by document: keys in ascending order, sums and counts, of shape D."""
    keys_D, place = np.unique(key_N, return_inverse=True)
    sums_D, counts_D = np.zeros(keys_D.size, dtype=np.int64), np.zeros(keys_D.size, dtype=np.int64)
    np.add.at(sums_D, place, evidence_N)
    np.add.at(counts_D, place, count_N)
    return keys_D, sums_D, counts_D
