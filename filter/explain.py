"""Why a pair was judged as it was: every feature beside its rule's verdict, and what pushed both scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bisift.contract import FEATURES, PAIR, conform, pair_ids
from bisift.errors import InputError, ModelError
from bisift.filter.attribution import Attribution, attribute
from bisift.filter.features import Sides, measure
from bisift.filter.profile import Profile
from bisift.filter.rules import RULES, Rule
from bisift.filter.scored import Scored, open_scored
from bisift.filter.scorer import ChunkScorer, ScorerSettings
from bisift.filter.scoring import ScoreOptions, score_tables

SCORES = ("ai_probability", "ai_language_known", "ai_probability_document", "quality")
TYPED_ORIGIN = "-"
NOT_SPLIT = "the scores are not split"
SAME_SCORE = 1e-4
"""Scores that are nearer than this are the same: other machines and batches round otherwise."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One feature's value, and the rule that reads it, with its threshold and verdict, where there is one."""

    feature: str
    value: Any
    rule: str | None
    threshold: str | None
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of one pair. Without models `attribution` is None, and a note says why."""

    pair: dict[str, Any]
    scores: dict[str, Any]
    drop_reason: str | None
    measurements: tuple[Measurement, ...]
    attribution: Attribution | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        value = dataclasses.asdict(self)
        value["pair"] = {name: text for name, text in self.pair.items() if name != "pair_id"}
        value["pair"]["pair_id"] = self.pair["pair_id"].hex()
        return value


def explain_pair(
    source: str, target: str, source_lang: str | None, target_lang: str | None, settings: ScorerSettings
) -> Explanation:
    """Score one pair now and explain it.

    Raises:
        ModelError: models are asked for, and weights are missing or damaged.
    """
    pair = {
        "pair_id": pair_ids([source_lang], [target_lang], [source], [target]),
        "source": [source],
        "target": [target],
        "source_lang": pa.array([source_lang], pa.string()),
        "target_lang": pa.array([target_lang], pa.string()),
        "origin": [TYPED_ORIGIN],
        "row": [1],
    }
    pairs = conform(pa.table(pair), PAIR)
    scorer = ChunkScorer(settings)
    table = next(iter(score_tables([pairs], ScoreOptions(), scorer)))
    attribution, notes = _attribute(scorer, pairs)
    return _explain(table.to_pylist()[0], settings.profile, attribution, notes)


def explain_row(scored: str, row: int, origin: str | None, settings: ScorerSettings) -> Explanation:
    """Explain the pair of a scored file whose `row` is given.

    Scores and verdicts are the file's. To split the scores the pair is scored again, with the file's prior where
    `settings` has none; a note says where that gives other scores.

    Raises:
        InputError: there is no such row, or it stands in several inputs.
        ModelError: one of the models that `settings` names cannot be used.
    """
    found: list[tuple[dict[str, Any], Mapping[str, Any] | None]] = []
    for entry in open_scored([scored]).inputs:
        for table in Scored((entry,), ()).tables():
            mask = pc.equal(table["row"], row)
            if origin is not None:
                mask = pc.and_(mask, pc.equal(table["origin"], origin))
            found += [(value, entry.provenance) for value in table.filter(mask).to_pylist()]
    if not found:
        raise InputError(f"{scored}: no pair with row {row}; it may have been rejected: see the rejects file")
    if len(found) > 1:
        origins = ", ".join(sorted({str(value["origin"]) for value, _ in found}))
        raise InputError(f"{scored}: row {row} stands in several inputs ({origins}): say which with --origin")
    value, provenance = found[0]
    prior = settings.prior if settings.prior is not None else (provenance or {}).get("prior")
    try:
        scorer = ChunkScorer(dataclasses.replace(settings, prior=prior))
    except ModelError as error:
        if settings.models:
            raise
        return _explain(value, settings.profile, None, [f"{NOT_SPLIT}: {error}"])
    pairs = pa.Table.from_pylist([{name: value[name] for name in PAIR.names}], schema=PAIR)
    attribution, notes = _attribute(scorer, pairs)
    if attribution is not None:
        notes = _differences(value, attribution, provenance, scorer)
    return _explain(value, settings.profile, attribution, notes)


def _attribute(scorer: ChunkScorer, pairs: pa.Table) -> tuple[Attribution | None, list[str]]:
    """The attribution of one pair, or a note that says why there is none."""
    if scorer.scorer is None:
        return None, [f"{NOT_SPLIT}: the models are switched off"]
    sides = Sides.of(pairs)
    features = measure(pairs, sides, language_id=scorer.settings.profile.language_id)
    try:
        return attribute(scorer.scorer, pairs, sides, features), []
    except ModelError as error:
        return None, [f"{NOT_SPLIT}: {error}"]


def _differences(
    value: Mapping[str, Any], attribution: Attribution, provenance: Mapping[str, Any] | None, scorer: ChunkScorer
) -> list[str]:
    """Say where the file's scores are not those that are split, why that may be, and what to do."""
    shown = []
    for name, split in (("ai_probability", attribution.ai_probability), ("quality", attribution.quality)):
        before = value[name]
        if split is not None and (before is None or abs(before - split.score) > SAME_SCORE):
            shown.append(f"{name} is {'null' if before is None else f'{before:.4f}'} there and {split.score:.4f} here")
    if not shown or scorer.scorer is None:
        return []
    models = (provenance or {}).get("models") or {}
    others = [kind for kind, digest in scorer.scorer.digests.items() if models.get(kind) != digest]
    if provenance is None:
        reason = "its models are not known: name them with --model, or score it again"
    elif not models:
        reason = "it was scored without models: score it again"
    elif others:
        given = " ".join(f"--model {kind}=FILE" for kind in others)
        reason = f"it was scored with other models: give {given}, or score it again"
    elif provenance["prior"] != scorer.scorer.prior:
        reason = f"it was scored with another prior: give --prior {provenance['prior']:g}"
    elif provenance["profile_digest"] != scorer.settings.profile.digest:
        reason = "it was scored with another profile: give it with --profile"
    else:
        reason = "its text may have been changed since, as TSV changes tabs: score it again"
    return [f"the scores that are split are not those of the file: {', '.join(shown)}; {reason}"]


def _explain(
    value: dict[str, Any], profile: Profile, attribution: Attribution | None, more_notes: list[str]
) -> Explanation:
    failed = int(value["failed_rules"])
    measurements = []
    for feature in FEATURES:
        readers: list[tuple[int, Rule | None]] = [
            (bit, rule) for bit, rule in enumerate(RULES) if feature.name in rule.columns
        ]
        for bit, rule in readers or [(0, None)]:
            if rule is None:
                measurements.append(Measurement(feature.name, value[feature.name], None, None, None))
                continue
            limit = profile.thresholds[rule.id]
            threshold = "off" if limit is None else f"{'at most' if rule.fails == 'above' else 'at least'} {limit:g}"
            verdict = "failed" if failed >> bit & 1 else "passed" if limit is not None else None
            measurements.append(Measurement(feature.name, value[feature.name], rule.id, threshold, verdict))
    notes = [f"failed {rule.id}: {rule.help}" for bit, rule in enumerate(RULES) if failed >> bit & 1]
    return Explanation(
        pair={name: value[name] for name in PAIR.names},
        scores={name: value[name] for name in SCORES},
        drop_reason=value["drop_reason"],
        measurements=tuple(measurements),
        attribution=attribution,
        notes=(*notes, *more_notes),
    )
