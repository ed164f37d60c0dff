"""Why a pair was judged as it was: every feature beside the threshold and the verdict of the rule that reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bisift.contract import FEATURES, PAIR
from bisift.errors import InputError
from bisift.filter.profile import Profile
from bisift.filter.rules import RULES, Rule
from bisift.filter.scored import open_scored
from bisift.filter.scorer import ScorerSettings
from bisift.filter.scoring import ScoreOptions, score_tables

SCORES = ("ai_probability", "ai_language_known", "ai_probability_document", "quality")
TYPED_ORIGIN = "-"


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
    """All that is known of one pair."""

    pair: dict[str, Any]
    scores: dict[str, Any]
    drop_reason: str | None
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        value = dataclasses.asdict(self)
        value["pair"] = {name: text for name, text in self.pair.items() if name != "pair_id"}
        value["pair"]["pair_id"] = self.pair["pair_id"].hex()
        return value


def explain_pair(
    source: str, target: str, source_lang: str | None, target_lang: str | None, settings: ScorerSettings
) -> Explanation:
    """Score one pair now and explain it."""
    from bisift.contract import conform, pair_ids

    pair = {
        "pair_id": pair_ids([source_lang], [target_lang], [source], [target]),
        "source": [source],
        "target": [target],
        "source_lang": pa.array([source_lang], pa.string()),
        "target_lang": pa.array([target_lang], pa.string()),
        "origin": [TYPED_ORIGIN],
        "row": [1],
    }
    table = next(iter(score_tables([conform(pa.table(pair), PAIR)], ScoreOptions(), settings)))
    return _explain(table.to_pylist()[0], settings.profile)


def explain_row(scored: str, row: int, origin: str | None, profile: Profile) -> Explanation:
    """Explain the pair of a scored file whose `row` is given.

    Raises:
        InputError: there is no such row, or it stands in several inputs.
    """
    found: list[dict[str, Any]] = []
    for table in open_scored([scored]).tables():
        mask = pc.equal(table["row"], row)
        if origin is not None:
            mask = pc.and_(mask, pc.equal(table["origin"], origin))
        found += table.filter(mask).to_pylist()
    if not found:
        raise InputError(f"{scored}: no pair with row {row}; it may have been rejected: see the rejects file")
    if len(found) > 1:
        origins = ", ".join(sorted({str(value["origin"]) for value in found}))
        raise InputError(f"{scored}: row {row} stands in several inputs ({origins}): say which with --origin")
    return _explain(found[0], profile)


def _explain(value: dict[str, Any], profile: Profile) -> Explanation:
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
        notes=tuple(notes),
    )
