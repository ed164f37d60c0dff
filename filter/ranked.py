"""The rows, shards and manifest of a ranking, the same on one machine and in pipelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift.contract import CONTRACT_VERSION, RANKED, SCORED, conform, provenance
from bisift.filter.ordering import POSITION, Keys
from bisift.filter.scored import Scored, ScoredInput

if TYPE_CHECKING:
    from bisift.filter.ranking import RankOptions


def ranked_schema(source: pa.Schema) -> pa.Schema:
    """Return RANKED with the extra columns and metadata of scored rows."""
    extras = [field for field in source if field.name not in SCORED.names]
    return pa.schema([*RANKED, *extras], metadata=source.metadata)


def ranked(table: pa.Table, start: int, rows: int, order: str, schema: pa.Schema) -> pa.Table:
    """Return sorted rows as RANKED.

    Args:
        table: SCORED and extra columns, and for mixed the position.
        start: rank of the first row.
        rows: how many rows the whole ranking has.
        order: its name.
        schema: `ranked_schema`.
    """
    rank_N = np.arange(start, start + table.num_rows, dtype=np.int64)
    columns = {
        "rank": pa.array(rank_N),
        "percentile": pa.array((rank_N / rows).astype(np.float32)),
        "order": pa.repeat(order, table.num_rows),
    }
    table = table.drop_columns([POSITION]) if POSITION in table.column_names else table
    for name, column in columns.items():
        table = table.append_column(name, column)
    return conform(table, RANKED).replace_schema_metadata(schema.metadata)


def count_reasons(table: pa.Table) -> Counter[str]:
    """Return how many rows each rule dropped."""
    reasons = table.column("drop_reason").drop_null().cast(pa.string())
    return Counter({entry["values"]: entry["counts"] for entry in pc.value_counts(reasons).to_pylist()})


def decoded(table: pa.Table) -> pa.Table:
    """Replace dictionaries by their values: they differ from file to file."""
    for index, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(index, column.name, table.column(index).cast(column.type.value_type))
    return table


def value_bounds(keys: Keys) -> list[float | int]:
    """Return the least and the greatest value that rows were sorted by."""
    return [_number(keys.value_N.min()), _number(keys.value_N.max())]


def _number(value: np.float32 | np.float64 | np.uint64) -> float | int:
    """Return a score as JSON writes it, with no more digits than its own type has."""
    return int(value) if isinstance(value, np.unsignedinteger) else float(str(value))


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFacts:
    """What a ranking's manifest says of its inputs; `by_reason`: rows that are counted but not there."""

    inputs: Sequence[Mapping[str, Any]]
    rejected: int
    by_reason: Mapping[str, int]
    provenance: Mapping[str, Any]


def describe(source: Scored) -> SourceFacts:
    """Return what the manifest of a ranking says of its inputs."""
    by_reason: Counter[str] = Counter()
    for entry in source.inputs:
        if _left_out_dropped(entry):
            by_reason.update(entry.counts().get("by_reason", {}))
    return SourceFacts(
        inputs=[_described(entry) for entry in source.inputs],
        rejected=sum(entry.counts().get("rejected", 0) for entry in source.inputs),
        by_reason=by_reason,
        provenance=provenance(source.schema),
    )


def ranked_manifest(
    source: SourceFacts,
    kept: int,
    reasons: Mapping[str, int],
    options: RankOptions,
    shards: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the manifest of a ranking of `kept` rows, besides those that rules dropped for `reasons`."""
    by_reason = Counter(reasons) + Counter(source.by_reason)
    dropped = sum(by_reason.values())
    return {
        "contract": CONTRACT_VERSION,
        "kind": "ranked",
        "order": options.order,
        "seed": options.seed,
        "shares": options.named_shares,
        "keep_dropped": options.keep_dropped,
        "rows": {
            "in": kept + dropped + source.rejected,
            "kept": kept,
            "dropped": dropped,
            "rejected": source.rejected,
            "by_reason": dict(sorted(by_reason.items())),
        },
        "models": source.provenance["models"],
        "profile_digest": source.provenance["profile_digest"],
        "prior": source.provenance["prior"],
        "inputs": list(source.inputs),
        "shards": list(shards),
    }


def _left_out_dropped(entry: ScoredInput) -> bool:
    """Whether an input is a ranking without the rows that its manifest counts as dropped."""
    manifest = entry.manifest or {}
    return manifest.get("kind") == "ranked" and not manifest.get("keep_dropped")


def _described(entry: ScoredInput) -> dict[str, Any]:
    found: dict[str, Any] = {"path": entry.path, "rows": entry.rows, "size": sum(part.size for part in entry.parts)}
    listed = (entry.manifest or {}).get("shards") or []
    if len(entry.parts) == 1 and len(listed) == 1 and "sha256" in listed[0]:
        found["sha256"] = listed[0]["sha256"]
    return found
