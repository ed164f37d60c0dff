"""Ranked shards for tests, made by the real `rank` from made pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bisift.contract import SCORED, pair_ids, with_provenance
from bisift.filter.ranking import RankOptions, rank_files
from bisift.filter.writers import open_writer
from tests.corpus import pairs

SCHEMA = with_provenance(SCORED, models={"quality": "0" * 64}, profile_digest="1" * 64, prior=0.5)


def clean(count: int, seed: int = 7) -> list[tuple[str, str]]:
    """Made pairs that differ and have two sides."""
    made = {pair.source: pair.target for pair in pairs(count * 2, seed) if pair.target and pair.target != pair.source}
    return list(made.items())[:count]


def write_ranked(
    folder: Path, texts: Sequence[tuple[str, str]], *, shards: int = 3, order: str = "quality", **columns: Sequence[Any]
) -> Path:
    """Rank texts into a folder. By default the first text has the highest quality, and every third pair is human."""
    count = len(texts)
    sources, targets = [one for one, _ in texts], [other for _, other in texts]
    values = {
        "pair_id": pair_ids([None] * count, [None] * count, sources, targets),
        "source": sources,
        "target": targets,
        "generator": [("human", "gpt", None)[number % 3] for number in range(count)],
        "origin": ["made.tsv"] * count,
        "row": list(range(1, count + 1)),
        "quality": [1 - (number + 1) / (count + 1) for number in range(count)],
        "ai_probability": [(number % 10) / 10 for number in range(count)],
        "source_repeated": [False] * count,
        "target_repeated": [False] * count,
        "failed_rules": [0] * count,
        **columns,
    }
    arrays = [
        pa.array(values[field.name], field.type) if field.name in values else pa.nulls(count, field.type)
        for field in SCHEMA
    ]
    scored = folder.with_name(f"{folder.name}.scored.parquet")
    with open_writer(str(scored), SCHEMA) as writer:
        writer.write(pa.Table.from_arrays(arrays, schema=SCHEMA))
    rank_files([str(scored)], str(folder), RankOptions(order=order, shards=shards))
    return folder
