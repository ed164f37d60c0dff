"""The rows, shards and manifest of a ranking, the same on one machine and in pipelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bisift.contract import RANKED, SCORED, conform
from bisift.filter.manifests import RowCounts, SourceFacts, derived
from bisift.filter.ordering import POSITION, Keys

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


def ranked_manifest(
    source: SourceFacts, counts: RowCounts, options: RankOptions, shards: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the manifest of a ranking; `counts` are those of the scored rows."""
    dropped = counts.by_reason
    held, left_out = (dropped, Counter[str]()) if options.keep_dropped else (Counter[str](), dropped)
    return {
        **derived(source, kind="ranked", kept=counts.kept, held=held, left_out=left_out),
        "order": options.order,
        "seed": options.seed,
        "shares": options.named_shares,
        "keep_dropped": options.keep_dropped,
        "shards": list(shards),
    }
