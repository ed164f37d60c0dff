"""Results: figures beside their targets, as a line to read, as a JSON line to keep, and as the table of the docs."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from bench.measure import Measurement

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: written by `python benchmarks/run.py --docs` -->", "<!-- end of figures -->"

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8", "neon", "sve")
_PACKAGES = (
    *("bisift", "numpy", "pyarrow", "onnxruntime", "xxhash", "rapidfuzz", "fasttext-predict", "lxml", "polib"),
    *("torch", "sentencepiece", "sacrebleu"),
)
_COMPARISONS = {"at_least": "≥", "at_most": "≤", "under": "<"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a figure must reach."""

    bound: float
    kind: Literal["at_least", "at_most", "under"]

    def reached(self, value: float) -> bool:
        if self.kind == "at_least":
            return value >= self.bound
        return value < self.bound if self.kind == "under" else value <= self.bound

    def __str__(self) -> str:
        return f"{_COMPARISONS[self.kind]} {_number(self.bound)}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure. `value` is None where it could not be had; `note` then says why, else how far to trust it.

    `valid` is False where the machine was not calm enough for it. `measured` are the runs that it was made from.
    """

    name: str
    unit: str
    value: float | None
    target: Target | None = None
    note: str = ""
    valid: bool = True
    measured: Mapping[str, Measurement] = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not run"
        if self.target is None:
            return ""
        word = "reached" if self.target.reached(self.value) else "missed"
        return word if self.valid else f"{word} (not valid)"

    def line(self, benchmark: str) -> str:
        """One line for a person: figure, target and verdict."""
        value = "-" if self.value is None else f"{_number(self.value)} {self.unit}"
        target = f"target {self.target}" if self.target else ""
        line = f"{benchmark:<8} {self.name:<58} {value:>26}  {target:<18} {self.verdict}".rstrip()
        return f"{line}\n{'':<8}   {self.note}" if self.note else line

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "target": dataclasses.asdict(self.target) if self.target else None,
            "verdict": self.verdict,
            "note": self.note,
            "measured": {
                name: {field: round(value, 3) for field, value in dataclasses.asdict(one).items()}
                for name, one in self.measured.items()
            },
        }


def record(benchmark: str, figures: Iterable[Figure], *, data: str, load: float) -> dict[str, Any]:
    """One result as it is kept: the figures with all that they depend on. `load` is the load average at the start."""
    return {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **_versions()},
        "data": data,
        "load": round(load, 2),
        "figures": [figure.to_json() for figure in figures],
    }


def append(folder: Path, result: Mapping[str, Any]) -> None:
    """Append a record to its benchmark's file, one JSON object a line."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{result['benchmark']}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(result, ensure_ascii=False) + "\n")


def latest(folder: Path) -> list[dict[str, Any]]:
    """Return the latest record of each benchmark, by name; the models' evaluations beside them are left out."""
    lines = (path.read_text(encoding="utf-8").strip().rpartition("\n")[2] for path in sorted(folder.glob("*.jsonl")))
    return [found for line in lines if line and "figures" in (found := json.loads(line))]


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the figures of some records as Markdown."""
    rows = ["| benchmark | figure | value | target | | commit | load |", "|---|---|---|---|---|---|---|"]
    for result in records:
        for figure in result["figures"]:
            target = Target(**figure["target"]) if figure["target"] else ""
            value = "-" if figure["value"] is None else f"{_number(figure['value'])} {figure['unit']}"
            cells = (result["benchmark"], figure["name"], value, target, figure["verdict"])
            rows.append("| " + " | ".join(map(str, (*cells, result["commit"][:8], result["load"]))) + " |")
    return "\n".join(rows)


def write_docs(folder: Path, page: Path) -> None:
    """Replace what stands between the two marks of a page by the table of the latest results.

    Raises:
        ValueError: the page lacks the marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page}: the marks of the table are missing")
    page.write_text(f"{before}{BEGIN}\n{table(latest(folder))}\n{END}{after}", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Say what decides a figure on this machine, and nothing that identifies it."""
    words: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "Features")):
            words = set(line.split(":", 1)[1].split())
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "flags": [flag for flag in _FLAGS if flag in words],
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str:
    """The commit's hash, with `+` where the checkout differs from it (results aside)."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs/benchmarks.md")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head[:12]}{'+' if changed else ''}"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")
