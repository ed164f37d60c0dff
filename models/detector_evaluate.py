"""`python -m bisift.models.evaluate detector`: the house split's table, through the same code that scores."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow as pa

from bisift.errors import ModelError
from bisift.filter.inference import EVIDENCE_UNIT, Scorer
from bisift.filter.text import I64, Text
from bisift.models import calibration, registry
from bisift.models.auroc import GROUPS, UNITS, table
from bisift.models.data import Wmt, load_wmt

F64 = npt.NDArray[np.float64]

BASELINE = {
    "seen": (0.678, 0.814, 0.864, 0.729),
    "held_out_generators": (0.623, 0.734, 0.771, 0.643),
    "held_out_languages": (0.50, 0.50, 0.50, 0.50),
}
"""Logistic regression on hashed character 1-4-grams, one a target language: the data's README."""

_ROWS = 8192


class Sides:
    """Both sides of a chunk, decoded."""

    def __init__(self, source: pa.Array, target: pa.Array) -> None:
        self.source = Text.of(source)
        self.target = Text.of(target)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with wmt/")
    parser.add_argument("--model", type=Path, required=True, help="detector.onnx trained with --split house")
    parser.add_argument("--lexical", type=Path, required=True, help="its lexical table")
    parser.add_argument("--results", type=Path, help="JSON lines file to append the figures to")


def run(arguments: argparse.Namespace) -> None:
    """Print the table and append it to `--results`.

    Raises:
        InputError: data cannot be read.
        ModelError: weights are missing, or saw the test in training.
    """
    model = registry.resolve("detector", arguments.model)
    if model.metadata.get("split") != "house":
        raise ModelError(
            f"{model.path}: trained on split {model.metadata.get('split')!r}, which holds the test: use house"
        )
    scorer = Scorer.load(models={"detector": str(arguments.model), "lexical": str(arguments.lexical)}, quality=False)
    wmt = load_wmt(arguments.data, "house")
    rows = np.flatnonzero(wmt.test_S[wmt.source_R])
    evidence, known = evidence_of(scorer, wmt, rows)
    score_R = np.full(len(wmt.source_R), np.nan)
    score_R[rows] = evidence / EVIDENCE_UNIT
    exponent = json.loads(model.metadata["calibration"])["document_exponent"]
    found = table(wmt, score_R, lambda total, count: total / np.maximum(count, 1) ** exponent)
    reliability = reliability_of(wmt, rows, score_R[rows], known)
    report(found, reliability)
    if arguments.results:
        append_result(
            arguments.results,
            "detector",
            {"detector": model.digest, "lexical": model.metadata["lexical_digest"]},
            {
                "auroc": found,
                "baseline": {group: dict(zip(UNITS, values, strict=True)) for group, values in BASELINE.items()},
                "calibration": reliability,
            },
        )


def append_result(path: Path, benchmark: str, models: dict[str, str], figures: dict[str, object]) -> None:
    """Append one JSON line: figures, with the models' digests, the commit, the time and the versions they hold for."""
    line = {
        "benchmark": benchmark,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
        "models": models,
        **figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")


def evidence_of(scorer: Scorer, wmt: Wmt, rows: I64) -> tuple[I64, npt.NDArray[np.bool_]]:
    """Evidence of the translations `rows` with their declared languages, and whether the language is known."""
    evidence, known = [], []
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        source = wmt.source_R[part]
        pairs = pa.table({"target_lang": pa.array(wmt.target_language_S[source].tolist(), pa.string())})
        sides = Sides(wmt.source.take(pa.array(source)), wmt.target.take(pa.array(part)))
        scores = scorer.score(pairs, sides, pa.table({}))
        evidence.append(scores.column("evidence").to_numpy())
        known.append(scores.column("ai_language_known").to_numpy(zero_copy_only=False))
    return np.concatenate(evidence), np.concatenate(known)


def reliability_of(wmt: Wmt, rows: I64, log_odds: F64, known: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Expected calibration error over the test, human and machine translations weighing the same, by known language."""
    out = {}
    rng = np.random.default_rng(0)
    for name, chosen in (("known", known), ("unknown", ~known)):
        human = np.flatnonzero(chosen & wmt.human_R[rows])
        machine = np.flatnonzero(chosen & ~wmt.human_R[rows])
        if not len(human) or not len(machine):
            continue
        both = np.concatenate([human, rng.choice(machine, len(human), replace=len(machine) < len(human))])
        probability = 1 / (1 + np.exp(-log_odds[both]))
        error = calibration.expected_calibration_error(probability, np.repeat([False, True], len(human)))
        out[f"ece_{name}_languages"] = round(error, 4)
    return out


def report(found: dict[str, dict[str, float]], reliability: dict[str, float]) -> None:
    """Print the table as Markdown, each figure beside the baseline's."""
    print("| | " + " | ".join(f"{unit} (n-grams)" for unit in UNITS) + " |")
    print("|---" * (len(UNITS) + 1) + "|")
    for group in GROUPS:
        cells = [f"{found[group][unit]:.3f} ({base:.3f})" for unit, base in zip(UNITS, BASELINE[group], strict=True)]
        print(f"| {group.replace('_', ' ')} | " + " | ".join(cells) + " |")
    for name, value in reliability.items():
        print(f"{name}: {value:.3f}")


def _commit() -> str:
    result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
