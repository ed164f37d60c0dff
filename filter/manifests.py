"""Manifests of what is made of scored files, with counts that add up from the first input to the last output.

`rows`: in = kept + dropped + rejected, where `in` are the rows that were read at the start of the chain, so that it
stays the same through select, dedup and rank. `left_out` says which of the dropped, by reason, do not stand in the
output: what rank, select or dedup --remove took out, `not_selected` among them: kept rows that select did not want.
An input that is given to two commands, or read by two selections that meet again, counts in each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bisift.contract import CONTRACT_VERSION, provenance
from bisift.filter.scored import Scored, ScoredInput
from bisift.filter.writers import STANDARD
from bisift.manifest import file_digest, manifest_path, write_json

NOT_SELECTED = "not_selected"


@dataclass(slots=True)
class RowCounts:
    """Rows that were added, and how many of them are dropped, by reason."""

    rows: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table with the column drop_reason."""
        self.rows += table.num_rows
        for entry in pc.value_counts(table.column("drop_reason").drop_null().cast(pa.string())).to_pylist():
            self.by_reason[entry["values"]] += entry["counts"]

    @property
    def kept(self) -> int:
        """Rows that are not dropped."""
        return self.rows - self.by_reason.total()


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFacts:
    """What a manifest says of the inputs; `left_out`: dropped rows by reason that they do not hold any more."""

    inputs: Sequence[Mapping[str, Any]]
    rejected: int
    left_out: Mapping[str, int]
    provenance: Mapping[str, Any]


def describe(source: Scored) -> SourceFacts:
    """Return what the manifest of something made of `source` says of it."""
    gone: Counter[str] = Counter()
    for entry in source.inputs:
        gone.update(entry.left_out())
    return SourceFacts(
        inputs=[_described(entry) for entry in source.inputs],
        rejected=sum(entry.counts().get("rejected", 0) for entry in source.inputs),
        left_out=gone,
        provenance=provenance(source.schema),
    )


def derived(
    source: SourceFacts, *, kind: str, kept: int, held: Mapping[str, int], left_out: Mapping[str, int]
) -> dict[str, Any]:
    """Return the manifest of what was made of `source`, without its shards.

    `kept` and `held` (dropped rows by reason) stand in the output; `left_out` are those of the inputs' rows that do
    not. What was left out before, and what was rejected, is added from the inputs' manifests.
    """
    gone = Counter(left_out) + Counter(source.left_out)
    by_reason = gone + Counter(held)
    known = source.provenance
    return {
        "contract": CONTRACT_VERSION,
        "kind": kind,
        "order": None,
        "seed": None,
        "shares": None,
        "rows": {
            "in": kept + by_reason.total() + source.rejected,
            "kept": kept,
            "dropped": by_reason.total(),
            "rejected": source.rejected,
            "by_reason": dict(sorted(by_reason.items())),
        },
        "left_out": dict(sorted((+gone).items())),
        "models": known["models"],
        "profile_digest": known["profile_digest"],
        "prior": known["prior"],
        "inputs": list(source.inputs),
    }


def write_scored_manifest(
    output: str, files: Sequence[Path], source: Scored, *, read: RowCounts, written: RowCounts
) -> str | None:
    """Write the manifest of a scored output beside it (or into its folder), as `derived`; none for stdout.

    `files` hold the output in row order. `read` counts the rows of `source`, with the reasons that this step gave;
    `written` those of them in the output.
    """
    if output == STANDARD:
        return None
    shards = [
        {
            "file": path.name,
            "rows": written.rows if len(files) == 1 else pq.read_metadata(path).num_rows,
            "sha256": file_digest(path),
        }
        for path in files
    ]
    path = manifest_path(output)
    write_json(path, rewritten(describe(source), read=read, written=written) | {"shards": shards})
    return str(path)


def rewritten(source: SourceFacts, *, read: RowCounts, written: RowCounts) -> dict[str, Any]:
    """Return the manifest of scored rows that a step read, gave reasons and wrote or left out, without its shards."""
    left_out = read.by_reason - written.by_reason + Counter({NOT_SELECTED: read.kept - written.kept})
    return derived(source, kind="scored", kept=written.kept, held=written.by_reason, left_out=left_out)


def remove_manifest(output: str) -> None:
    """Remove the manifest of what an output is about to replace."""
    if output != STANDARD:
        manifest_path(output).unlink(missing_ok=True)


def _described(entry: ScoredInput) -> dict[str, Any]:
    found: dict[str, Any] = {"path": entry.path, "rows": entry.rows, "size": sum(part.size for part in entry.parts)}
    listed = (entry.manifest or {}).get("shards") or []
    if len(entry.parts) == 1 and len(listed) == 1 and "sha256" in listed[0]:
        found["sha256"] = listed[0]["sha256"]
    return found
