"""Duplicates over the whole input by a keyed step, and the sums of evidence that documents are made of.

The keys of a part's rows are spread over buckets by their value, so that equal ones meet; a row is told by its part's
name and its place there. Rows are in the order of the input again when blocks are sorted by name, and the same function
as on one machine (`finishing.repeated`) says which came first. Suffix: N rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter.finishing import U64, document_sums, repeated
from bisift.filter.ordering import identity_words
from bisift.filter.scorer import DOCUMENT_KEY, EVIDENCE, SOURCE_KEY, TARGET_KEY
from bisift.pipelines.spilling import Block, load

PAIRS, SOURCES, TARGETS, DOCUMENTS = "pair", "source", "target", "document"
SUMS = "sums"
"""Name of the second output of `Repeated`: sums of evidence by document."""

PAIR_BLOCK = np.dtype([("high", "<u8"), ("low", "<u8"), ("document", "<u8"), ("evidence", "<i4"), ("row", "<u4")])
SIDE_BLOCK = np.dtype([("key", "<u8"), ("row", "<u4")])
SUM_BLOCK = np.dtype([("key", "<u8"), ("sum", "<i8"), ("count", "<i8")])
NO_DOCUMENT = -(1 << 31)
Rows = npt.NDArray[Any]


def key_blocks(part: pa.Table, name: str, buckets: int, *, models: bool) -> Iterator[tuple[str, bytes]]:
    """Yield (bucket, block) of the keys of a scored part: of pairs, sources, targets, and of documents to ask for."""
    rows = part.num_rows
    if not rows:
        return
    row_N = np.arange(rows, dtype=np.uint32)
    words_N2 = identity_words(part.column("pair_id"))
    pairs_N = np.zeros(rows, PAIR_BLOCK)
    pairs_N["high"], pairs_N["low"], pairs_N["row"] = words_N2[:, 0], words_N2[:, 1], row_N
    pairs_N["evidence"] = NO_DOCUMENT
    document = part.column(DOCUMENT_KEY)
    has_N = document.is_valid().to_numpy(zero_copy_only=False) & models
    if has_N.any():
        pairs_N["document"] = document.fill_null(0).to_numpy()
        pairs_N["evidence"][has_N] = part.column(EVIDENCE).to_numpy()[has_N]
        asked_D = np.unique(pairs_N["document"][has_N])
        yield from by_bucket(DOCUMENTS, asked_D, asked_D, buckets)
    yield from by_bucket(PAIRS, pairs_N, words_N2[:, 1], buckets)
    for kind, column in ((SOURCES, SOURCE_KEY), (TARGETS, TARGET_KEY)):
        side_N = np.zeros(rows, SIDE_BLOCK)
        side_N["key"], side_N["row"] = part.column(column).to_numpy(), row_N
        yield from by_bucket(kind, side_N, side_N["key"], buckets)


def by_bucket(kind: str, block_N: Rows, key_N: U64, buckets: int) -> Iterator[tuple[str, bytes]]:
    """Yield (bucket, block) of the rows of a block by their keys' remainders."""
    if not len(key_N):
        return
    bucket_N = key_N % np.uint64(buckets)
    order_N = np.argsort(bucket_N, kind="stable")
    found, starts = np.unique(bucket_N[order_N], return_index=True)
    for bucket, rows in zip(found.tolist(), np.split(block_N[order_N], starts[1:]), strict=True):
        yield f"{kind}-{bucket}", rows.tobytes()


class Repeated(beam.DoFn):
    """From (bucket, [(name, block)]) to (name, (kind, places of rows that stood earlier)), and `SUMS` for documents."""

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets

    def process(self, element: tuple[str, Iterable[tuple[str, Block | bytes]]]) -> Iterator[Any]:
        kind = element[0].partition("-")[0]
        form = PAIR_BLOCK if kind == PAIRS else SIDE_BLOCK
        found = sorted(element[1], key=lambda one: one[0])
        blocks = [np.frombuffer(load(block), form) for _, block in found]
        all_N = np.concatenate(blocks)
        repeated_N = repeated([all_N["high"], all_N["low"]] if kind == PAIRS else [np.ascontiguousarray(all_N["key"])])
        start = 0
        for (name, _), block_N in zip(found, blocks, strict=True):
            mask_N = repeated_N[start : start + len(block_N)]
            start += len(block_N)
            if mask_N.any():
                yield name, (kind, np.ascontiguousarray(block_N["row"][mask_N]).tobytes())
        if kind == PAIRS:
            pooled_N = all_N[~repeated_N & (all_N["evidence"] != NO_DOCUMENT)]
            if len(pooled_N):
                for key, block in sum_blocks(pooled_N, self._buckets):
                    yield beam.pvalue.TaggedOutput(SUMS, (key, ("", block)))


def sum_blocks(pooled_N: Rows, buckets: int) -> Iterator[tuple[str, bytes]]:
    """Yield (bucket, block) of the sums of the rows' evidence by document."""
    ones_N = np.ones(len(pooled_N), np.int64)
    keys_D, sums_D, counts_D = document_sums(pooled_N["document"], pooled_N["evidence"].astype(np.int64), ones_N)
    block_D = np.zeros(len(keys_D), SUM_BLOCK)
    block_D["key"], block_D["sum"], block_D["count"] = keys_D, sums_D, counts_D
    yield from by_bucket(DOCUMENTS, block_D, keys_D, buckets)
