"""`dedup`: marks near duplicates among scored pairs of all files, and sides that stand with many others.

Columns that it adds (extras, so that rank and select keep them): `extra_near_duplicate_of` (hexadecimal pair_id of the
best better row that is close), `extra_near_duplicate_jaccard`, and `extra_source_variants` and `extra_target_variants`,
how many different other sides a side stands with. Rows that a rule dropped are left as they are and mark nothing.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisift.contract import REASON
from bisift.errors import ConfigError
from bisift.filter.manifests import RowCounts, remove_manifest, write_scored_manifest
from bisift.filter.near import THRESHOLD, NearDuplicates
from bisift.filter.ordering import is_dropped, key_columns, order_keys, sort_indices
from bisift.filter.scored import Scored, open_scored
from bisift.filter.scorer import text_keys
from bisift.filter.text import I64, U64, Bool
from bisift.filter.writers import open_writer, output_files
from bisift.manifest import atomic_path

NEAR, MANY_TARGETS, MANY_SOURCES = "near_duplicate", "many_targets", "many_sources"
OF, JACCARD = "extra_near_duplicate_of", "extra_near_duplicate_jaccard"
SOURCE_VARIANTS, TARGET_VARIANTS = "extra_source_variants", "extra_target_variants"
ADDED = (
    pa.field(OF, pa.string()),
    pa.field(JACCARD, pa.float32()),
    pa.field(SOURCE_VARIANTS, pa.int32()),
    pa.field(TARGET_VARIANTS, pa.int32()),
)
BATCH_ROWS = 16_384
"""Rows that are compared and marked at once."""
_LISTED_MEMBERS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupOptions:
    """`by`: the order that says which of two rows is better. `max_variants`: more of them, and a row is dropped.

    `clusters`: a JSONL file for the largest `listed` clusters, with their texts. `remove`: leave marked rows out.
    """

    by: str = "combined"
    threshold: float = THRESHOLD
    max_variants: int | None = None
    remove: bool = False
    clusters: str | None = None
    listed: int = 100

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        if self.by not in ("combined", "quality", "human", "random"):
            raise ConfigError(f"unknown order {self.by!r}: choose combined, quality, human or random")
        if not 0.5 <= self.threshold <= 1:
            raise ConfigError(f"--threshold {self.threshold}: it must be from 0.5 to 1; below, bands find too little")
        if self.max_variants is not None and self.max_variants < 1:
            raise ConfigError("--max-variants must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupResult:
    """What was found: rows marked by reason, and how many rows (of how many kept ones) are the best of a cluster."""

    output: str
    manifest: str | None
    rows_in: int
    rows: int
    compared: int
    marked: dict[str, int]
    clusters: int
    largest: int
    clusters_file: str | None
    warnings: Sequence[str]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of the K rows that no rule dropped; `row_K` is their place among all rows."""

    row_K: I64
    close_K: I64
    likeness_K: npt.NDArray[np.float32]
    source_variants_K: I64
    target_variants_K: I64
    pair_id_K: npt.NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class Marks:
    """What is written of K rows that no rule dropped.

    The pair_id of the best close row (hexadecimal, or None) and their Jaccard, with how many other sides the row's
    sides stand, and the reason to drop it (or None).
    """

    close_id_K: Sequence[str | None]
    likeness_K: npt.NDArray[np.float32]
    source_variants_K: I64
    target_variants_K: I64
    reason_K: npt.NDArray[np.object_]


def dedup_files(inputs: Sequence[str], output: str, options: DedupOptions) -> DedupResult:
    """Mark near duplicates among the rows of scored files; write all rows (or those left) and a manifest to `output`.

    A row is marked when a better one shares a band of MinHash (filter/minhash.py), is one of the `BEST` best that do
    (filter/near.py), and their sets have a Jaccard of at least the threshold. Nothing is transitive: the result does
    not depend on the order of rows or files.

    Raises:
        ConfigError: an option is wrong, the order needs a score that is null, or the inputs' scores cannot be compared.
        InputError, ContractError: as `open_scored`.
        BisiftError: the disk refuses.
    """
    started = time.perf_counter()
    options.check()
    source = open_unmarked(inputs, options.by)
    schema = marked_schema(source.schema)
    with tempfile.TemporaryDirectory(prefix="bisift-dedup-") as folder, NearDuplicates(Path(folder)) as near:
        found = _find(source, near, options)
    reason_K = reasons(found.close_K >= 0, found.source_variants_K, found.target_variants_K, options.max_variants)
    marked = {name: int(np.count_nonzero(reason_K == name)) for name in (NEAR, MANY_TARGETS, MANY_SOURCES)}
    best, sizes = np.unique(found.close_K[found.close_K >= 0], return_counts=True)
    listing = _Listing(found, best, sizes, options)
    read, written = RowCounts(), RowCounts()
    with open_writer(output, schema) as writer:
        for table in source.tables(None, BATCH_ROWS):
            listing.add(table, read.rows)
            made = mark(table, _marks(found, reason_K, read.rows, table.num_rows))
            read.add(made)
            if options.remove:
                made = made.filter(pc.is_null(made.column("drop_reason")))
            written.add(made)
            writer.write(made.select(schema.names))
        remove_manifest(output)
    manifest = write_scored_manifest(output, output_files(output), source, read=read, written=written)
    listing.write()
    return DedupResult(
        output=output,
        manifest=manifest,
        rows_in=read.rows,
        rows=written.rows,
        compared=len(found.row_K),
        marked={name: count for name, count in marked.items() if count},
        clusters=len(best),
        largest=int(sizes.max()) + 1 if len(sizes) else 0,
        clusters_file=options.clusters,
        warnings=source.warnings,
        seconds=time.perf_counter() - started,
    )


def open_unmarked(inputs: Sequence[str], by: str) -> Scored:
    """Open scored files that were not marked yet, to be compared by an order.

    Raises:
        ConfigError: they were marked, or their scores cannot be compared.
        InputError, ContractError: as `open_scored`.
    """
    source = open_scored(inputs)
    if by != "random":
        source.check_alike()
    already = sorted({field.name for field in ADDED} & set(source.schema.names))
    if already:
        raise ConfigError(f"the input has {already[0]} already: it was marked before; give the file from before that")
    return source


def marked_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of scored rows that are marked."""
    return pa.schema([*schema, *ADDED], metadata=schema.metadata)


def _find(source: Scored, near: NearDuplicates, options: DedupOptions) -> _Found:
    rows, keys = [], []
    sides: dict[str, list[U64]] = {"source": [], "target": []}
    start = 0
    names = list(dict.fromkeys((*key_columns(options.by), "source", "target")))
    for table in source.tables(names, BATCH_ROWS):
        kept_N = ~is_dropped(table)
        rows.append(np.flatnonzero(kept_N) + start)
        start += table.num_rows
        table = table.filter(pa.array(kept_N))
        near.add(table.column("source"), table.column("target"))
        for name, found in sides.items():
            found.append(text_keys(table.column(name)).to_numpy())
        table = table.drop_columns(["source", "target"])
        place = table.schema.get_field_index("origin")
        keys.append(table.set_column(place, "origin", table.column("origin").dictionary_encode()))
    row_K = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    if not len(row_K):
        nothing = np.zeros(0, np.int64)
        return _Found(row_K, nothing, np.zeros(0, np.float32), nothing, nothing, np.zeros(0, "S16"))
    known = pa.concat_tables(keys).unify_dictionaries().combine_chunks()
    order_K = sort_indices(known, order_keys(known, options.by))
    place_K = np.empty(len(row_K), np.int64)
    place_K[order_K] = np.arange(len(row_K))
    ids = known.column("pair_id").chunk(0)
    pair_id_K = np.frombuffer(ids.buffers()[1], "V16")[ids.offset : ids.offset + len(ids)].copy()
    del known, keys
    close_K, likeness_K = near.find(place_K, options.threshold)
    one, other = (np.concatenate(found) for found in sides.values())
    return _Found(row_K, close_K, likeness_K, variants(one, other), variants(other, one), pair_id_K)


def variants(side_K: U64, other_K: U64) -> I64:
    """Return with how many different other sides each side stands."""
    order = np.lexsort((other_K, side_K))
    side, other = side_K[order], other_K[order]
    new_side = np.ones(len(side), bool)
    new_side[1:] = side[1:] != side[:-1]
    new_pair = new_side.copy()
    new_pair[1:] |= other[1:] != other[:-1]
    group = np.cumsum(new_side) - 1
    count_K = np.empty(len(side), np.int64)
    count_K[order] = np.bincount(group, weights=new_pair)[group].astype(np.int64)
    return count_K


def reasons(
    near_K: Bool, source_variants_K: I64, target_variants_K: I64, max_variants: int | None
) -> npt.NDArray[np.object_]:
    """Return the reason to drop each of K rows, the first that holds; None where none does."""
    reason_K = np.full(len(near_K), None, dtype=object)
    if max_variants is not None:
        reason_K[target_variants_K > max_variants] = MANY_SOURCES
        reason_K[source_variants_K > max_variants] = MANY_TARGETS
    reason_K[near_K] = NEAR
    return reason_K


def _marks(found: _Found, reason_K: npt.NDArray[np.object_], start: int, rows: int) -> Marks:
    """Return what is known of some consecutive ones of all rows."""
    first, last = np.searchsorted(found.row_K, (start, start + rows))
    close = found.close_K[first:last].tolist()
    return Marks(
        close_id_K=[found.pair_id_K[row].tobytes().hex() if row >= 0 else None for row in close],
        likeness_K=found.likeness_K[first:last],
        source_variants_K=found.source_variants_K[first:last],
        target_variants_K=found.target_variants_K[first:last],
        reason_K=reason_K[first:last],
    )


def mark(table: pa.Table, marks: Marks) -> pa.Table:
    """Return a table with the reasons and the columns `ADDED` that its K rows without a reason are given."""
    here_K = np.flatnonzero(~is_dropped(table))

    def spread(values: Any, kind: pa.DataType) -> pa.Array:
        full = np.full(table.num_rows, None, dtype=object)
        full[here_K] = values
        return pa.array(full, kind)

    columns = {
        OF: spread(marks.close_id_K, pa.string()),
        JACCARD: spread([value or None for value in marks.likeness_K.tolist()], pa.float32()),
        SOURCE_VARIANTS: spread(marks.source_variants_K, pa.int32()),
        TARGET_VARIANTS: spread(marks.target_variants_K, pa.int32()),
    }
    reasons = pc.coalesce(table.column("drop_reason").cast(pa.string()), spread(marks.reason_K, pa.string()))
    place = table.schema.get_field_index("drop_reason")
    table = table.set_column(place, "drop_reason", reasons.combine_chunks().dictionary_encode().cast(REASON))
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


class _Listing:
    """The largest clusters with their texts: a best row, and the rows that it marked."""

    def __init__(self, found: _Found, best: I64, sizes: I64, options: DedupOptions) -> None:
        self._path = options.clusters
        self._found = found
        self._texts: dict[int, dict[str, Any]] = {}
        self._members: dict[int, I64] = {}
        if self._path is None:
            return
        largest = best[np.lexsort((best, -sizes))][: options.listed]
        order = np.argsort(found.close_K, kind="stable")
        close = found.close_K[order]
        for row in largest.tolist():
            first, last = np.searchsorted(close, (row, row + 1))
            self._members[row] = order[first:last]
        wanted = [row for row, members in self._members.items() for row in (row, *members[:_LISTED_MEMBERS].tolist())]
        self._wanted: I64 = np.unique(np.array(wanted, np.int64))

    def add(self, table: pa.Table, start: int) -> None:
        """Take the texts of the next rows that are wanted."""
        if not self._members:
            return
        row_W = self._found.row_K[self._wanted]
        first, last = np.searchsorted(row_W, (start, start + table.num_rows))
        if first == last:
            return
        texts = table.select(["source", "target", "origin", "row"]).take(pa.array(row_W[first:last] - start))
        for row, text in zip(self._wanted[first:last].tolist(), texts.to_pylist(), strict=True):
            self._texts[row] = {"pair_id": self._found.pair_id_K[row].tobytes().hex(), **text}

    def write(self) -> None:
        """Write one JSON object a cluster, the largest first."""
        if self._path is None:
            return
        with atomic_path(self._path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            for line in self._lines():
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _lines(self) -> Iterator[dict[str, Any]]:
        for row, members in self._members.items():
            listed = members[:_LISTED_MEMBERS].tolist()
            yield {
                "rows": len(members) + 1,
                "kept": self._texts[row],
                "marked": [
                    {"jaccard": round(float(self._found.likeness_K[member]), 4), **self._texts[member]}
                    for member in listed
                ],
            }
