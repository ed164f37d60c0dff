"""Examples for the quality model: clean pairs and their spoilt versions, human ratings, and their row features.

Suffixes: E examples, F features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bisift.contract import FEATURES
from bisift.errors import InputError
from bisift.filter.encoding import AGREEMENT, FORM, Encoder, language_keys
from bisift.filter.features import Sides, measure
from bisift.filter.lexical import STATISTICS, Lexicon
from bisift.filter.text import I64
from bisift.models import noise
from bisift.models.data import Wmt, fold_of, other_bitext
from bisift.models.lexical_table import refit_on

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Strings = npt.NDArray[np.object_]

_LEFT_OUT = ("chars", "words", "language", "language_probability", "mojibake", "markup", "longest_word")
COLUMNS = tuple(
    feature.name
    for feature in FEATURES
    if not feature.name.startswith("lexical_")
    and not pa.types.is_string(feature.type)
    and feature.name.removeprefix("source_").removeprefix("target_") not in _LEFT_OUT
)
FEATURE_NAMES = (*STATISTICS, *FORM, *AGREEMENT, *COLUMNS)
"""What the network sees of a pair."""

UNRATED = -1.0
_ROWS = 8192
_UNDECLARED = 0.25


@dataclass(frozen=True)
class Pairs:
    """E pairs with their languages. `following` and `foreign` are what noise may put in the target's place."""

    source: Strings
    target: Strings
    source_lang: Strings
    target_lang: Strings
    following: Strings
    foreign: Strings

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: I64) -> Pairs:
        return Pairs(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})

    @staticmethod
    def joined(parts: list[Pairs]) -> Pairs:
        names = [field.name for field in dataclasses.fields(Pairs)]
        return Pairs(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True)
class Ratings:
    """Rated pairs; `quantile` is the rank of a rating within its (data set, language pair), 0 worst to 1 best."""

    pairs: Pairs
    quantile: F64
    lang_pair: Strings
    z_score: F64


def load_ratings(data: Path, splits: tuple[str, ...]) -> Ratings:
    """Read human ratings. MLQE-PE direct assessments and MQM count alike once they are quantiles.

    Raises:
        InputError: the file cannot be read.
    """
    path = data / "ratings" / "ratings.parquet"
    try:
        table = pq.read_table(path, filters=[("split", "in", list(splits))]).combine_chunks()
    except OSError as error:
        raise InputError(f"{path}: {error}") from error
    pair = _strings(table["lang_pair"])
    z_score = table["z_score"].to_numpy().astype(np.float64)
    quantile = np.zeros(len(pair))
    group = np.char.add(_strings(table["dataset"]).astype(str), pair.astype(str))
    for name in np.unique(group):
        rows = np.flatnonzero(group == name)
        _, place, count = np.unique(z_score[rows], return_inverse=True, return_counts=True)
        middle = np.cumsum(count) - (count - 1) / 2 - 0.5
        quantile[rows] = (middle / len(rows))[place]
    return Ratings(pairs_of(pair, _strings(table["source"]), _strings(table["target"])), quantile, pair, z_score)


def pairs_of(lang_pair: Strings, source: Strings, target: Strings) -> Pairs:
    """Pairs without neighbours."""
    none = np.full(len(source), None, dtype=object)
    sides = [name.split("-") for name in lang_pair]
    return Pairs(
        source,
        target,
        np.array([side[0] for side in sides], dtype=object),
        np.array([side[1] for side in sides], dtype=object),
        none,
        none,
    )


def wmt_pairs(wmt: Wmt, rows: I64) -> Pairs:
    """WMT translations with the next segment's human translation, and one of the same source in another language."""
    source, target = _strings(wmt.source), _strings(wmt.target.take(pa.array(rows)))
    human = np.flatnonzero(wmt.human_R)
    first = dict(zip(wmt.source_R[human][::-1].tolist(), human[::-1].tolist(), strict=True))
    place = {
        (year, pair, doc, segment): number
        for number, (year, pair, doc, segment) in enumerate(
            zip(wmt.year_S.tolist(), wmt.pair_S, wmt.doc_S, wmt.segment_S.tolist(), strict=True)
        )
    }
    texts: list[str] = source.tolist()
    names: list[str] = wmt.pair_S.tolist()
    versions: dict[str, list[int]] = {}
    for number in first:
        versions.setdefault(texts[number], []).append(number)
    following, foreign = [], []
    for number in wmt.source_R[rows].tolist():
        at = (int(wmt.year_S[number]), wmt.pair_S[number], wmt.doc_S[number], int(wmt.segment_S[number]) + 1)
        after = place.get(at)
        following.append(first.get(after) if after is not None else None)
        language = names[number].split("-")[1]
        others = [s for s in versions.get(texts[number], []) if names[s].split("-")[1] != language]
        foreign.append(first[others[number % len(others)]] if others else None)
    pairs = pairs_of(wmt.pair_S[wmt.source_R[rows]], source[wmt.source_R[rows]], target)
    return dataclasses.replace(pairs, following=_at(wmt, following), foreign=_at(wmt, foreign))


def _at(wmt: Wmt, rows: list[int | None]) -> Strings:
    texts = wmt.target.take(pa.array([row or 0 for row in rows])).to_pylist()
    return np.array([text if row is not None else None for text, row in zip(texts, rows, strict=True)], dtype=object)


def clean_pairs(wmt: Wmt, data: Path, split: str, ratings: Ratings, rng: np.random.Generator, size: int) -> Pairs:
    """About `size` pairs to call clean: WMT references and machine translations, other corpora, well-rated pairs."""
    usable = wmt.train_S[wmt.source_R] & ~wmt.held_R
    human, machine = np.flatnonzero(usable & wmt.human_R), np.flatnonzero(usable & ~wmt.human_R)
    parts = [
        wmt_pairs(wmt, rng.choice(human, min(size // 2, len(human)), replace=False)),
        wmt_pairs(wmt, rng.choice(machine, min(size // 6, len(machine)), replace=False)),
    ]
    corpora = [part for part in other_bitext(data, split) if len(part[1]) > 0]
    for name, source, target in corpora:
        rows = rng.choice(len(source), min(size // 40, len(source)), replace=False)
        own = pairs_of(np.full(len(rows), name, dtype=object), _strings(source)[rows], _strings(target)[rows])
        if len(source) > 10_000:  # corpora, not ratings, whose translations may be bad
            parts.append(own)
    good = np.flatnonzero(ratings.quantile > 0.4)
    parts.append(ratings.pairs.take(rng.choice(good, min(size // 5, len(good)), replace=False)))
    return Pairs.joined(parts)


def spoilt(pairs: Pairs, kind: str, rng: np.random.Generator) -> tuple[Pairs, I64]:
    """The pairs that can be spoilt in one way, spoilt, and which rows of `pairs` they are."""
    targets = noise.spoil(
        kind,
        pairs.source.tolist(),
        pairs.target.tolist(),
        pairs.target_lang.tolist(),
        pairs.following.tolist(),
        pairs.foreign.tolist(),
        rng,
    )
    if kind == "misaligned":  # within a language pair, or it would be a wrong language
        targets = _misaligned(pairs, rng)
    rows = np.array([number for number, text in enumerate(targets) if text is not None], dtype=np.int64)
    changed = np.array([targets[number] for number in rows], dtype=object)
    return dataclasses.replace(pairs.take(rows), target=changed), rows


def _misaligned(pairs: Pairs, rng: np.random.Generator) -> list[str | None]:
    out: list[str | None] = [None] * len(pairs)
    names = np.char.add(pairs.source_lang.astype(str), pairs.target_lang.astype(str))
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        targets = pairs.target[rows].tolist()
        none: list[str | None] = [None] * len(rows)
        for row, text in zip(rows, noise.spoil("misaligned", targets, targets, targets, none, none, rng), strict=True):
            out[row] = text
    return out


def undeclared(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """Forget the languages of a quarter of the pairs, since users do not always declare them."""
    forget = rng.random(len(pairs)) < _UNDECLARED
    return dataclasses.replace(
        pairs,
        source_lang=_without(pairs.source_lang, forget),
        target_lang=_without(pairs.target_lang, forget),
    )


def _without(values: Strings, forget: npt.NDArray[np.bool_]) -> Strings:
    kept = values.copy()
    kept[forget] = None
    return kept


def row_features(pairs: Pairs, lexicon: Lexicon, names: Sequence[str] = FEATURE_NAMES) -> F32:
    """The named features of each pair, as scoring computes them; shape (E, F), not standardised."""
    out = np.zeros((len(pairs), len(names)), dtype=np.float32)
    for start in range(0, len(pairs), _ROWS):
        part = pairs.take(np.arange(start, min(start + _ROWS, len(pairs))))
        table = pa.table(
            {
                "source": pa.array(part.source.tolist(), pa.string()),
                "target": pa.array(part.target.tolist(), pa.string()),
                "source_lang": pa.array(part.source_lang.tolist(), pa.string()),
                "target_lang": pa.array(part.target_lang.tolist(), pa.string()),
            }
        )
        sides = Sides.of(table)
        features = measure(table, sides)
        encoder = Encoder(lexicon, sides.source, sides.target, language_keys(table, features), features, table)
        out[start : start + _ROWS] = encoder.features(names)
    return out


def cross_fitted(wmt: Wmt, data: Path, split: str, lexicon: Lexicon, seed: int) -> list[Lexicon]:
    """Two tables; the one of an example's fold was trained on the text of the other fold alone."""
    fold_S = fold_of(wmt.source)
    tables = []
    for fold in (0, 1):
        others = []
        for name, source, target in other_bitext(data, split):
            keep = pa.array(fold_of(source) != fold)
            others.append((name, source.filter(keep), target.filter(keep)))
        tables.append(refit_on(lexicon, wmt, wmt.train_S & (fold_S != fold), others, seed))
        print(f"half {fold + 1}: lexical table fitted", flush=True)
    return tables


def _strings(column: pa.Array | pa.ChunkedArray) -> Strings:
    return np.array(column.to_pylist(), dtype=object)
