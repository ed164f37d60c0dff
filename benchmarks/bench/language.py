"""Benchmark of language identification: what reading 160 characters of a side costs in agreement and saves in time."""

from __future__ import annotations

import json

from bench.data import SOURCE_LANG, TARGET_LANG
from bench.results import Figure, Target
from bench.workspace import Workspace

WHOLE = 1 << 30

IDENTIFY = f"""
import json, sys, time
from bisift.filter import langid
langid.MAX_CHARS = int(sys.argv[2]) or langid.MAX_CHARS
lines = [line.rstrip("\\n").split("\\t") for line in open(sys.argv[1], encoding="utf-8", newline="\\n")]
langid.known_languages()
began, agreed = time.process_time(), 0
for side, language in enumerate(({SOURCE_LANG!r}, {TARGET_LANG!r})):
    found, _ = langid.identify([line[side] for line in lines])
    agreed += sum(code == language for code in found.to_pylist())
print(json.dumps([agreed / len(lines) / 2, time.process_time() - began]))
"""


def language(space: Workspace) -> list[Figure]:
    """Agreement with the declared languages, with and without the cut, and the ratio of CPU-seconds."""
    (cut, cut_s), (whole, whole_s) = (
        min((json.loads(space.script(IDENTIFY, space.tsv, str(limit)).stdout) for _ in range(space.repeats)), key=_cost)
        for limit in (0, WHOLE)
    )
    return [
        Figure(name="agreement with the declared language, whole sides", unit="", value=whole),
        Figure(
            name="agreement, first 160 characters of a side",
            unit="",
            value=cut,
            target=Target(bound=round(whole - 0.005, 4), kind="at_least"),
            note="target: that of whole sides, less half a percent",
        ),
        Figure(name="CPU-seconds of whole sides, times those of the cut", unit="×", value=whole_s / cut_s),
    ]


def _cost(outcome: list[float]) -> float:
    return outcome[1]
