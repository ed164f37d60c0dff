"""All that the report says, gathered from scored files in two passes: one over the figures, one over sampled texts.

Suffixes: N rows of all inputs, D rows in the order in which they are drawn at random, B bins.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bisift.filter.diversity import WINDOW, Diversity, Tokens
from bisift.filter.names import I32
from bisift.filter.profile import load_profile
from bisift.filter.report.desk import Desk, make_desk
from bisift.filter.report.machine import MachineShare, document_shares, group_shares
from bisift.filter.report.rows import F32, KEPT, UNDECLARED, Rows
from bisift.filter.rules import RULES
from bisift.filter.scored import Scored, open_scored
from bisift.filter.text import I64, U64, Bool

BINS = 40
DENSITY_BINS = 50
GROUPS = 12
"""Language pairs, origins, generators and documents that are shown, the largest first."""

DIVERSITY_TOKENS = 10_000
UNKNOWN_REASON = "reason not in the manifest"
_DESK_PAIRS, _DESK_TOKENS = 20_000, 600_000
_DECILES = 10
_TEXTS = ("source", "target", "source_lang", "target_lang", "origin", "row", "document_id", "generator")
_SCORES = ("quality", "ai_probability")


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """A score's distribution in BINS bins from 0 to 1, and its mean and median over kept rows."""

    kept_B: Sequence[int]
    dropped_B: Sequence[int]
    mean: float | None
    median: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The rows of one language pair, origin or generator; `tokens` are those of kept targets."""

    name: str
    pairs: int
    kept: int
    tokens: int
    quality: Histogram | None
    ai_probability: Histogram | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleCounts:
    """Pairs that fail a rule, that fail no other one, and that it was the first to drop.

    `threshold` is known where the pairs were judged by the default profile.
    """

    id: str
    help: str
    threshold: float | None
    failed: int
    alone: int
    first: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupDiversity:
    """Lexical diversity of a random sample of the kept pairs of a group: source and target, tokens as many in each."""

    kind: str
    name: str
    source: Diversity
    target: Diversity


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What is in scored files.

    `groups` has `languages`, `origins` and, where any is declared, `generators`; so has `machine_groups`, without
    languages. `rejected` counts, by reason, rows that could not be read, as far as the inputs' manifests tell.
    """

    inputs: Sequence[str]
    provenance: Mapping[str, Any]
    warnings: Sequence[str]
    seed: int
    pairs: int
    kept: int
    rejected: Mapping[str, int]
    tokens: int
    documents: int
    machine: MachineShare | None
    language_known: int
    groups: Mapping[str, Sequence[Group]]
    group_counts: Mapping[str, int]
    identified: Mapping[str, int]
    density_QP: Sequence[Sequence[int]] | None
    rules: Sequence[RuleCounts]
    lengths: Mapping[str, tuple[Sequence[int], Sequence[int]]]
    diversity: Sequence[GroupDiversity]
    diversity_tokens: int
    machine_groups: Mapping[str, Sequence[MachineShare]]
    machine_documents: Sequence[MachineShare]
    samples: Mapping[str, Sequence[Mapping[str, Any]]]
    desk: Desk
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them, without the desk."""
        return dataclasses.asdict(dataclasses.replace(self, desk=None))  # type: ignore[arg-type]


def gather(inputs: Sequence[str], samples: int = 5, seed: int = 0) -> Report:
    """Read scored files and count, measure and sample what the report shows.

    Args:
        inputs: files and folders that score, rank, select or dedup wrote.
        samples: pairs to draw of each drop_reason and of the kept ones.
        seed: of all that is drawn at random.

    Raises:
        ConfigError, InputError, ContractError: as `open_scored`.
    """
    started = time.perf_counter()
    source = open_scored(inputs)
    rows = Rows(source, seed)
    kept_N = rows.kept_N
    drawn_D = np.argsort(rows.key_N, kind="stable")
    kept_D = drawn_D[kept_N[drawn_D]]
    sampled = {
        name: found
        for code, name in enumerate(rows.reasons.all)
        if len(found := drawn_D[rows.reason_N[drawn_D] == code][:samples])
    }
    groups = {
        "languages": (rows.languages_N, rows.languages.all),
        "origins": (rows.origin_N, rows.origins.all),
        "generators": (rows.generator_N, rows.generators.all),
    }
    if rows.generators.all == [UNDECLARED]:
        groups.pop("generators")
    largest = {kind: _largest(code_N, len(names)) for kind, (code_N, names) in groups.items()}
    diverse = _diversity_rows(rows, kept_D, groups, largest)
    desk_S = _head(kept_D[:_DESK_PAIRS], rows.tokens_N, _DESK_TOKENS)
    documents, document_rows = document_shares(rows, GROUPS)
    texts = _Texts(source, len(rows), [desk_S, document_rows, *sampled.values(), *diverse.values()])
    lengths = {name: (counts[0].tolist(), counts[1].tolist()) for name, counts in rows.lengths.items()}
    first = dict(
        zip(rows.reasons.all, np.bincount(rows.reason_N, minlength=len(rows.reasons.all)).tolist(), strict=True)
    )
    diversity, diversity_tokens = _diversity(texts, diverse)
    return Report(
        inputs=list(inputs),
        provenance=source.inputs[0].provenance or {} if not source.differing else {},
        warnings=source.warnings,
        seed=seed,
        pairs=len(rows),
        kept=first.pop(KEPT),
        rejected=_rejected(source),
        tokens=int(rows.tokens_N[kept_N].sum(dtype=np.int64)),
        documents=_distinct(rows.document_N[kept_N]),
        machine=next(iter(group_shares(rows, np.zeros(len(rows), np.int32), ["all"])), None),
        language_known=rows.language_known,
        groups={
            kind: [_group(rows, code_N == code, names[code]) for code in largest[kind]]
            for kind, (code_N, names) in groups.items()
        },
        group_counts={kind: len(names) for kind, (_, names) in groups.items()},
        identified=dict(rows.identified.most_common(GROUPS)),
        density_QP=_density(rows.quality_N[kept_N], rows.ai_N[kept_N]),
        rules=_rules(rows, first, source),
        lengths=lengths,
        diversity=diversity,
        diversity_tokens=diversity_tokens,
        machine_groups={
            kind: sorted(group_shares(rows, code_N, names), key=lambda entry: -(entry.low or 0))[:GROUPS]
            for kind, (code_N, names) in groups.items()
            if kind != "languages"
        },
        machine_documents=[
            dataclasses.replace(entry, name=text["document_id"])
            for entry, text in zip(documents, texts.pairs(document_rows), strict=True)
        ],
        samples={name: texts.pairs(found) for name, found in sampled.items()},
        desk=make_desk(rows, texts.tokens("target", desk_S), desk_S),
        seconds=time.perf_counter() - started,
    )


def _largest(code_N: I32, size: int) -> list[int]:
    found: list[int] = np.argsort(-np.bincount(code_N, minlength=size), kind="stable")[:GROUPS].tolist()
    return found


def _distinct(document_N: U64) -> int:
    ordered = np.sort(document_N[document_N != 0])
    return int(len(ordered) > 0) + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def _group(rows: Rows, inside_N: Bool, name: str) -> Group:
    kept_N = rows.kept_N[inside_N]
    return Group(
        name=name,
        pairs=len(kept_N),
        kept=int(np.count_nonzero(kept_N)),
        tokens=int(rows.tokens_N[inside_N][kept_N].sum(dtype=np.int64)),
        quality=_histogram(rows.quality_N[inside_N], kept_N),
        ai_probability=_histogram(rows.ai_N[inside_N], kept_N),
    )


def _histogram(score_N: F32, kept_N: Bool) -> Histogram | None:
    valid_N = ~np.isnan(score_N)
    if not valid_N.any():
        return None
    bin_N = np.minimum((score_N[valid_N] * BINS).astype(np.int64), BINS - 1)
    kept_N = kept_N[valid_N]
    kept = score_N[valid_N][kept_N]
    return Histogram(
        kept_B=np.bincount(bin_N[kept_N], minlength=BINS).tolist(),
        dropped_B=np.bincount(bin_N[~kept_N], minlength=BINS).tolist(),
        mean=float(kept.mean(dtype=np.float64)) if len(kept) else None,
        median=float(np.median(kept)) if len(kept) else None,
    )


def _density(quality_N: F32, ai_N: F32) -> list[list[int]] | None:
    valid_N = ~(np.isnan(quality_N) | np.isnan(ai_N))
    if not valid_N.any():
        return None
    q_N, p_N = (
        np.minimum((score_N[valid_N] * DENSITY_BINS).astype(np.int64), DENSITY_BINS - 1)
        for score_N in (quality_N, ai_N)
    )
    counts: list[list[int]] = (
        np.bincount(q_N * DENSITY_BINS + p_N, minlength=DENSITY_BINS * DENSITY_BINS)
        .reshape(DENSITY_BINS, DENSITY_BINS)
        .tolist()
    )
    return counts


def _rejected(source: Scored) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for entry in source.inputs:
        reasons: Mapping[str, int] = (entry.manifest or {}).get("rejects_by_reason") or {}
        counts.update(reasons)
        counts[UNKNOWN_REASON] += entry.counts().get("rejected", 0) - sum(reasons.values())
    return {reason: count for reason, count in counts.most_common() if count}


def _rules(rows: Rows, first: Mapping[str, int], source: Scored) -> list[RuleCounts]:
    """Return the rules that any pair failed, and the reasons that other commands gave, the most frequent first."""
    known = {rule.id for rule in RULES}
    profile = load_profile()
    default = all((entry.provenance or {}).get("profile_digest") == profile.digest for entry in source.inputs)
    counts = [
        RuleCounts(
            id=rule.id,
            help=rule.help,
            threshold=profile.thresholds[rule.id] if default and rule.has_threshold else None,
            failed=int(failed),
            alone=int(alone),
            first=first.get(rule.id, 0),
        )
        for rule, failed, alone in zip(RULES, rows.failed_R, rows.alone_R, strict=True)
        if failed or first.get(rule.id)
    ]
    counts += [
        RuleCounts(
            id=name,
            help="not a rule of score: another command dropped them",
            threshold=None,
            failed=count,
            alone=0,
            first=count,
        )
        for name, count in first.items()
        if name not in known
    ]
    return sorted(counts, key=lambda entry: (-entry.first, -entry.failed))


def _head(row_D: I64, tokens_N: I32, tokens: int) -> I64:
    """Return the first rows, up to the one that brings their tokens to `tokens`."""
    return row_D[: int(np.searchsorted(np.cumsum(tokens_N[row_D], dtype=np.int64), tokens)) + 1]


def _diversity_rows(
    rows: Rows,
    kept_D: I64,
    groups: Mapping[str, tuple[I32, Sequence[str]]],
    largest: Mapping[str, Sequence[int]],
) -> dict[tuple[str, str], I64]:
    """Return a random sample of kept rows of all, of each origin and generator, and of each decile of quality."""
    found = {("all", "kept pairs"): kept_D}
    for kind, (code_N, names) in groups.items():
        if kind != "languages" and len(names) > 1:
            found |= {(kind, names[code]): kept_D[code_N[kept_D] == code] for code in largest[kind]}
    quality_D = rows.quality_N[kept_D]
    if len(quality_D) and not np.isnan(quality_D).any():
        place_D = np.empty(len(kept_D), np.int64)
        place_D[np.argsort(quality_D, kind="stable")] = np.arange(len(kept_D))
        decile_D = place_D * _DECILES // len(kept_D)
        for decile in range(_DECILES):
            inside_D = decile_D == decile
            if inside_D.any():
                ends = f"{quality_D[inside_D].min():.2f} to {quality_D[inside_D].max():.2f}"
                found["deciles", f"{decile + 1}: quality {ends}"] = kept_D[inside_D]
    return {key: _head(row_D, rows.tokens_N, 2 * DIVERSITY_TOKENS) for key, row_D in found.items()}


class _Texts:
    """The texts of the rows that any sample wants, read in one pass."""

    def __init__(self, source: Scored, rows: int, samples: Sequence[I64]) -> None:
        mask_N = np.zeros(rows, bool)
        for sample in samples:
            mask_N[sample] = True
        self._wanted = np.flatnonzero(mask_N)
        self._table = pa.concat_tables(list(source.tables((*_TEXTS, *_SCORES), mask_N=mask_N))) if rows else None

    def pairs(self, rows: I64) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._take(rows).to_pylist() if self._table is not None else []
        return found

    def tokens(self, side: str, rows: I64) -> Tokens:
        """Return the tokens of one side of these rows, in their order."""
        empty = pa.array([], pa.string())
        return Tokens.of(self._take(rows).column(side) if self._table is not None else empty)

    def _take(self, rows: I64) -> pa.Table:
        assert self._table is not None
        return self._table.take(pa.array(np.searchsorted(self._wanted, rows)))


def _diversity(texts: _Texts, samples: Mapping[tuple[str, str], I64]) -> tuple[list[GroupDiversity], int]:
    """Measure each sample that has WINDOW tokens, all cut to one length: distinct-n falls as text grows."""
    tokens = {key: tuple(texts.tokens(side, rows) for side in ("source", "target")) for key, rows in samples.items()}
    sizes = {key: min(len(side.hash_T) for side in sides) for key, sides in tokens.items()}
    enough = [size for size in sizes.values() if size >= WINDOW]
    length = min([*enough, DIVERSITY_TOKENS])
    return [
        GroupDiversity(
            kind=kind,
            name=name,
            source=Diversity.of(tokens[kind, name][0].head(length)),
            target=Diversity.of(tokens[kind, name][1].head(length)),
        )
        for (kind, name), size in sizes.items()
        if size >= WINDOW
    ], length
