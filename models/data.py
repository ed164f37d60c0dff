"""Loads the development data: the WMT translations with their house split, and the parallel text for the lexical table.

Suffixes: S source segments, R translations (rows), P sentence pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bisift.errors import InputError

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]
Strings = npt.NDArray[np.object_]

SPLITS = ("house", "all")
HELD_OUT_GENERATORS = ("gemini-1.5-pro", "llama3-70b", "online-w", "unbabel-tower70b")
HELD_OUT_PAIRS = ("en-es", "en-is")
CALIBRATION_RUN = 50
CALIBRATION_SHARE = 20


@dataclass(frozen=True)
class Wmt:
    """Sources and their translations. `source_R` is the index of a translation's source; `held_R` marks translations by
    the generators that the house split holds out; the masks over S come from the split."""

    source: pa.Array
    target: pa.Array
    source_R: I64
    system_R: Strings
    human_R: Bool
    held_R: Bool
    pair_S: Strings
    year_S: I64
    segment_S: I64
    doc_S: Strings
    test_S: Bool
    train_S: Bool
    calibration_S: Bool

    @cached_property
    def target_language_S(self) -> Strings:
        return np.array([pair.split("-")[1] for pair in self.pair_S], dtype=object)

    @cached_property
    def held_pair_S(self) -> Bool:
        return np.isin(self.pair_S.astype(str), HELD_OUT_PAIRS)

    @cached_property
    def side_R(self) -> I64:
        """A number for each (system, human or not): who wrote a translation."""
        names = self.system_R.astype(str)
        number: I64 = np.unique(np.char.add(names, np.where(self.human_R, "|h", "|m")), return_inverse=True)[1]
        return number


def load_wmt(data: Path, split: str) -> Wmt:
    """Read `wmt/` under `data` and split it.

    `house`: test as data/README.md says; training leaves out the test's source texts, the held-out generators and
    pairs. `all`: everything trains, and `test_S` is empty. In both a twentieth of the training documents (runs of 50
    segments before 2024) is set aside for calibration; no source text of it trains.

    Raises:
        InputError: a file cannot be read.
    """
    try:
        sources = pq.read_table(data / "wmt" / "sources.parquet").combine_chunks()
        rows = pq.read_table(data / "wmt" / "translations.parquet").combine_chunks()
    except OSError as error:
        raise InputError(f"{data / 'wmt'}: {error}") from error
    year_S = sources["year"].to_numpy().astype(np.int64)
    pair_S = np.array(sources["lang_pair"].to_pylist(), dtype=object)
    doc_S = np.array([doc or "" for doc in sources["doc"].to_pylist()], dtype=object)
    segment_S = sources["segment"].to_numpy().astype(np.int64)
    text_S = np.array(sources["source"].to_pylist(), dtype=object)
    place = np.full(int(sources["source_id"].to_numpy().max()) + 1, -1)
    place[sources["source_id"].to_numpy()] = np.arange(sources.num_rows)
    system_R = np.array(rows["system"].to_pylist(), dtype=object)
    held_R = np.isin(np.char.lower(system_R.astype(str)), HELD_OUT_GENERATORS)

    new_S = year_S == 2024
    test_S = new_S & np.array([bool(doc) and _digest(doc) % 4 == 3 for doc in doc_S])
    run_S = segment_S // CALIBRATION_RUN
    unit_S = [
        doc if new else f"{year}|{pair}|{run}"
        for doc, new, year, pair, run in zip(doc_S, new_S, year_S, pair_S, run_S, strict=True)
    ]
    calibration_S = np.array([_digest(f"calibration {unit}") % CALIBRATION_SHARE == 0 for unit in unit_S])
    if split == "house":
        outside_S = _same_text(text_S, test_S) | np.isin(pair_S.astype(str), HELD_OUT_PAIRS)
        calibration_S &= ~outside_S
        train_S = ~outside_S & ~_same_text(text_S, calibration_S)
    else:
        test_S = np.zeros_like(test_S)
        held_R = np.zeros_like(held_R)
        train_S = ~_same_text(text_S, calibration_S)
    return Wmt(
        source=sources["source"].combine_chunks(),
        target=rows["target"].combine_chunks(),
        source_R=place[rows["source_id"].to_numpy()].astype(np.int64),
        system_R=system_R,
        human_R=np.array([kind == "human" for kind in rows["kind"].to_pylist()]),
        held_R=held_R,
        pair_S=pair_S,
        year_S=year_S,
        segment_S=segment_S,
        doc_S=doc_S,
        test_S=test_S,
        train_S=train_S,
        calibration_S=calibration_S,
    )


def other_bitext(data: Path, split: str) -> Iterator[tuple[str, pa.Array, pa.Array]]:
    """Yield (language pair, sources, targets) of the parallel text beside WMT: corpora, and the ratings' train split.

    The house split leaves out the text of its held-out languages.
    """
    corpora = data / "corpora"
    for path in sorted(corpora.glob("*-en-*.parquet")):
        pair = path.stem.split("-", 1)[1]
        if split == "house" and pair in HELD_OUT_PAIRS:
            continue
        table = pq.read_table(path).combine_chunks()
        yield pair, table["source"].combine_chunks(), table["target"].combine_chunks()
    captions = pq.read_table(corpora / "multi30k-train.parquet").combine_chunks()
    for language in ("de", "fr", "cs"):
        yield f"en-{language}", captions["en"].combine_chunks(), captions[language].combine_chunks()
    ratings = pq.read_table(data / "ratings" / "ratings.parquet", filters=[("split", "=", "train")]).combine_chunks()
    pairs = np.array(ratings["lang_pair"].to_pylist(), dtype=object)
    for pair in sorted(set(pairs)):
        part = ratings.filter(pa.array(pairs == pair)).combine_chunks()
        yield pair, part["source"].combine_chunks(), part["target"].combine_chunks()


def fold_of(texts: pa.Array) -> npt.NDArray[np.int8]:
    """0 or 1 by the hash of each text: the halves of cross-fitting."""
    return np.array([_digest(text or "") & 1 for text in texts.to_pylist()], dtype=np.int8)


def _digest(text: str) -> int:
    return int(hashlib.sha1(text.encode()).hexdigest(), 16)


def _same_text(text_S: Strings, chosen_S: Bool) -> Bool:
    chosen = set(text_S[chosen_S])
    return np.array([text in chosen for text in text_S])
