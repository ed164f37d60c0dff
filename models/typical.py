"""`python -m bisift.models.train typical`: the row features of a typical pair, from which explanations start.

Each is the median over the human references of the WMT segments that are set aside for calibration: no table and no
network was trained on their source texts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from bisift.contract import FEATURES
from bisift.filter.encoding import AGREEMENT, FORM
from bisift.filter.lexical import STATISTICS, Lexicon
from bisift.manifest import write_json
from bisift.models.data import load_wmt
from bisift.models.quality_data import pairs_of, row_features

NAMES = tuple(
    dict.fromkeys(
        (*STATISTICS, *FORM, *AGREEMENT, *(entry.name for entry in FEATURES if not pa.types.is_string(entry.type)))
    )
)
"""All that a model may name as a row feature."""

_DIGITS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with wmt/")
    parser.add_argument("--lexical", type=Path, required=True, help="lexical table, which was trained with --split all")
    parser.add_argument("--output", type=Path, required=True, help="typical.json")


def run(arguments: argparse.Namespace) -> None:
    """Measure and write.

    Raises:
        InputError, ModelError: data or table cannot be read.
    """
    wmt = load_wmt(arguments.data, "all")
    rows = np.flatnonzero(wmt.human_R & wmt.calibration_S[wmt.source_R])
    source = wmt.source_R[rows]
    texts = (wmt.source.take(pa.array(source)), wmt.target.take(pa.array(rows)))
    source_texts, target_texts = (np.array(column.to_pylist(), dtype=object) for column in texts)
    pairs = pairs_of(wmt.pair_S[source], source_texts, target_texts)
    median_F = np.median(row_features(pairs, Lexicon.load(arguments.lexical), NAMES), axis=0)
    features = {name: round(float(value), _DIGITS) for name, value in zip(NAMES, median_F, strict=True)}
    write_json(arguments.output, {"pairs": len(pairs), "features": features})
    print(f"medians of {len(NAMES)} features over {len(pairs)} pairs")
