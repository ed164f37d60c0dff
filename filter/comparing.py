"""`compare`: two scored versions of the same pairs: what changed, which decisions flipped, with samples.

Pairs are matched by pair_id, and the k-th copy of a pair in one with the k-th in the other. Suffixes: A and B rows of
the two inputs, M matched pairs.
"""

from __future__ import annotations

import dataclasses
import html
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bisift.errors import InputError
from bisift.filter.names import Names
from bisift.filter.ordering import identity_words, random_keys
from bisift.filter.report import markup
from bisift.filter.scored import Scored, open_scored
from bisift.filter.text import I64, U64

SCORES = ("quality", "ai_probability", "ai_probability_document")
KEPT = "kept"
_BATCH_ROWS = 65_536
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreChange:
    """How a score moved over the M pairs that have it in both: means, differences (second minus first), correlation."""

    pairs: int
    mean_first: float
    mean_second: float
    mean_absolute_difference: float
    largest_difference: float
    changed: int
    spearman: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What differs. `flips`: (reason in the first, reason in the second) to pairs, where they differ; None = kept."""

    first: str
    second: str
    pairs: int
    only_first: int
    only_second: int
    provenance: Mapping[str, str]
    scores: Mapping[str, ScoreChange]
    kept_first: int
    kept_second: int
    flips: Mapping[tuple[str, str], int]
    samples: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    warnings: Sequence[str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        value = dataclasses.asdict(self)
        value["flips"] = [{"first": a, "second": b, "pairs": count} for (a, b), count in self.flips.items()]
        value["samples"] = [{"first": a, "second": b, "pairs": found} for (a, b), found in self.samples.items()]
        return value


class _Version:
    """What decides, of one input: identity words, scores and reasons of its rows."""

    def __init__(self, source: Scored) -> None:
        words: list[U64] = []
        scores: dict[str, list[F32]] = {name: [] for name in SCORES}
        reasons: list[npt.NDArray[np.int64]] = []
        numbers = Names(KEPT)
        for table in source.tables(("pair_id", "drop_reason", *SCORES), _BATCH_ROWS):
            words.append(identity_words(table.column("pair_id")).copy())
            for name, found in scores.items():
                found.append(table.column(name).to_numpy().astype(np.float32))  # null is NaN
            reasons.append(numbers.codes(table.column("drop_reason"), KEPT).astype(np.int64))
        self.words = np.concatenate(words) if words else np.zeros((0, 2), np.uint64)
        self.scores = {
            name: np.concatenate(found) if found else np.zeros(0, np.float32) for name, found in scores.items()
        }
        self.reason = np.concatenate(reasons) if reasons else np.zeros(0, np.int64)
        self.names = numbers.all

    def copies(self) -> tuple[U64, U64, I64]:
        """Return both words of each row's identity, and which copy of the pair it is (0 for the first)."""
        order = np.lexsort((self.words[:, 1], self.words[:, 0]))
        ordered = self.words[order]
        new = np.ones(len(order), bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        starts = np.flatnonzero(new)
        copy = np.empty(len(order), np.int64)
        copy[order] = np.arange(len(order)) - starts[np.cumsum(new) - 1] if len(order) else 0
        return self.words[:, 0], self.words[:, 1], copy


def compare(first: str, second: str, samples: int = 5, seed: int = 0) -> Comparison:
    """Compare two scored files or folders of the same pairs; `samples` pairs of each kind of flip are drawn by `seed`.

    Raises:
        InputError: they have no pair in common.
        InputError, ContractError: as `open_scored`.
    """
    started = time.perf_counter()
    sources = [open_scored([path]) for path in (first, second)]
    one, other = (_Version(source) for source in sources)
    row_A, row_B = _match(one, other)
    if not len(row_A) and (len(one.reason) or len(other.reason)):
        raise InputError(f"{first} and {second} have no pair in common: are they versions of the same text?")
    codes = one.reason[row_A] * len(other.names) + other.reason[row_B]
    counts = np.bincount(codes, minlength=len(one.names) * len(other.names))
    flips = Counter(
        {
            (one.names[code // len(other.names)], other.names[code % len(other.names)]): int(count)
            for code, count in enumerate(counts.tolist())
            if count and one.names[code // len(other.names)] != other.names[code % len(other.names)]
        }
    )
    drawn = np.argsort(random_keys(one.words[row_A], seed), kind="stable")
    chosen: dict[tuple[str, str], I64] = {}
    for names, _ in flips.most_common():
        code = one.names.index(names[0]) * len(other.names) + other.names.index(names[1])
        chosen[names] = drawn[codes[drawn] == code][:samples]
    return Comparison(
        first=first,
        second=second,
        pairs=len(row_A),
        only_first=len(one.reason) - len(row_A),
        only_second=len(other.reason) - len(row_B),
        provenance=_provenance(sources),
        scores={
            name: change
            for name in SCORES
            if (change := _change(one.scores[name][row_A], other.scores[name][row_B])) is not None
        },
        kept_first=int(np.count_nonzero(one.reason[row_A] == 0)),
        kept_second=int(np.count_nonzero(other.reason[row_B] == 0)),
        flips=dict(flips.most_common()),
        samples=_samples(sources, (one, other), (row_A, row_B), chosen),
        warnings=[warning for source in sources for warning in source.warnings],
        seconds=time.perf_counter() - started,
    )


def _match(one: _Version, other: _Version) -> tuple[I64, I64]:
    """Return the rows of the pairs that both have, in the first one's order."""
    parts = [one.copies(), other.copies()]
    side = np.repeat(np.arange(2), [len(one.reason), len(other.reason)])
    high, low, copy = (np.concatenate([part[column] for part in parts]) for column in range(3))
    order = np.lexsort((side, copy, low, high))
    same = np.flatnonzero(
        (high[order][1:] == high[order][:-1])
        & (low[order][1:] == low[order][:-1])
        & (copy[order][1:] == copy[order][:-1])
    )
    row_A, row_B = order[same], order[same + 1] - len(one.reason)
    in_order = np.argsort(row_A)
    return row_A[in_order], row_B[in_order]


def _change(first_M: F32, second_M: F32) -> ScoreChange | None:
    both = ~(np.isnan(first_M) | np.isnan(second_M))
    first, second = first_M[both].astype(np.float64), second_M[both].astype(np.float64)
    if not len(first):
        return None
    difference = second - first
    return ScoreChange(
        pairs=len(first),
        mean_first=float(first.mean()),
        mean_second=float(second.mean()),
        mean_absolute_difference=float(np.abs(difference).mean()),
        largest_difference=float(difference[np.argmax(np.abs(difference))]),
        changed=int(np.count_nonzero(difference)),
        spearman=_correlation(_ranks(first), _ranks(second)),
    )


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ranks from 0; equal values share their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = (ends - (counts + 1) / 2)[inverse]
    return ranks


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float | None:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum() / scale) if scale else None


def _provenance(sources: Sequence[Scored]) -> dict[str, str]:
    return dict(Scored(inputs=tuple(entry for source in sources for entry in source.inputs), warnings=()).differing)


def _samples(
    sources: Sequence[Scored],
    versions: Sequence[_Version],
    matched: tuple[I64, I64],
    chosen: Mapping[tuple[str, str], I64],
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    row_A, row_B = matched
    wanted = np.unique(np.concatenate([*chosen.values(), np.zeros(0, np.int64)]))
    found: list[dict[int, dict[str, Any]]] = []
    names = ("source", "target", "origin", "row", "source_lang", "target_lang", *SCORES)
    for source, version, rows in zip(sources, versions, matched, strict=True):
        mask = np.zeros(len(version.reason), bool)
        mask[rows[wanted]] = True
        texts = [text for table in source.tables(names, _BATCH_ROWS, mask) for text in table.to_pylist()]
        found.append(dict(zip(np.sort(rows[wanted]).tolist(), texts, strict=True)))
    return {
        key: [
            {
                **{name: found[0][int(row_A[place])][name] for name in names if name not in SCORES},
                "first": {name: found[0][int(row_A[place])][name] for name in SCORES},
                "second": {name: found[1][int(row_B[place])][name] for name in SCORES},
            }
            for place in places.tolist()
        ]
        for key, places in chosen.items()
    }


def render(comparison: Comparison) -> str:
    """Return the comparison as one HTML page without scripts."""
    e = html.escape
    body = [
        f"<h1>{e(comparison.first)} → {e(comparison.second)}</h1>",
        f"<p>{comparison.pairs:,} pairs stand in both, {comparison.only_first:,} in the first alone and "
        f"{comparison.only_second:,} in the second alone. Of those in both, {comparison.kept_first:,} were kept before "
        f"and {comparison.kept_second:,} are kept now; the verdict on {sum(comparison.flips.values()):,} changed.</p>",
    ]
    body += [f"<p>{e(text)}</p>" for text in comparison.provenance.values()]
    rows = [
        (
            name,
            f"{change.mean_first:.4f}",
            f"{change.mean_second:.4f}",
            f"{change.mean_absolute_difference:.4f}",
            f"{change.largest_difference:+.4f}",
            f"{change.changed:,}",
            markup.score(change.spearman, 4),
        )
        for name, change in comparison.scores.items()
    ]
    head = ("score", "mean before", "mean now", "mean absolute difference", "largest difference", "changed", "Spearman")
    body += ["<h2>Scores</h2>"]
    body += [markup.table("Scores", head, rows) if rows else "<p>The versions have no score in common.</p>"]
    flips = [(a, b, f"{count:,}") for (a, b), count in comparison.flips.items()]
    body += ["<h2>Verdicts that changed</h2>"]
    body += [markup.table("Verdicts", ("before", "now", "pairs"), flips, texts=2) if flips else "<p>None.</p>"]
    for (a, b), samples in comparison.samples.items():
        body.append(f"<h3>{e(a)} → {e(b)}: {len(samples)} of {comparison.flips[a, b]:,}, at random</h3>")
        for sample in samples:
            sides = "".join(markup.text(sample[side], sample[f"{side}_lang"]) for side in ("source", "target"))
            scores = ", ".join(
                f"{name} {markup.score(sample['first'][name], 3)} → {markup.score(sample['second'][name], 3)}"
                for name in ("quality", "ai_probability")
            )
            body.append(f'<article class="sample">{sides}<p class="note">{scores}</p></article>')
    return markup.page("Two scorings compared", body)
