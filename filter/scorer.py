"""What happens to one chunk of pairs: features, models, rules. The same code on one machine and in a pipeline."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from bisift.filter.features import Sides, measure
from bisift.filter.inference import Scorer
from bisift.filter.profile import Profile
from bisift.filter.rules import judge

SOURCE_KEY, TARGET_KEY, DOCUMENT_KEY, EVIDENCE = "_source_key", "_target_key", "_document_key", "_evidence"
KEYS = (SOURCE_KEY, TARGET_KEY, DOCUMENT_KEY, EVIDENCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerSettings:
    """All that decides the scores of a pair; small and picklable, so that each process can build its own models."""

    profile: Profile
    use_models: bool = True
    models: tuple[tuple[str, str], ...] = ()
    device: str = "auto"
    prior: float | None = None

    def load(self) -> Scorer | None:
        """Load the models, or None where they are switched off.

        Raises:
            ModelError: weights are missing or have the wrong digest.
        """
        if not self.use_models:
            return None
        return Scorer.load(models=dict(self.models), prior=self.prior, device=self.device)


class ChunkScorer:
    """Scores chunks of pairs; holds one set of models, so make one a process."""

    def __init__(self, settings: ScorerSettings) -> None:
        self.settings = settings
        self.scorer = settings.load()
        self.model_seconds = 0.0
        """Wall-clock seconds that the models have taken so far."""

    def score(self, pairs: pa.Table) -> pa.Table:
        """Return `pairs` (PAIR, extras) with features, scores, `failed_rules`, and the four `KEYS`.

        The keys are what needs the whole input: 64-bit hashes of source, target and document (null without one),
        and the pair's evidence (int64, fixed point; null without models).
        """
        sides = Sides.of(pairs)
        features = measure(pairs, sides, language_id=self.settings.profile.language_id)
        began = time.perf_counter()
        scores = self.scorer.score(pairs, sides, features) if self.scorer else None
        self.model_seconds += time.perf_counter() - began
        columns = {name: features.column(name) for name in features.column_names}
        if scores is not None:
            columns |= {name: scores.column(name) for name in scores.column_names if name != "evidence"}
        columns["failed_rules"] = pa.array(judge(features, scores, self.settings.profile), pa.uint64())
        columns[SOURCE_KEY] = text_keys(pairs.column("source"))
        columns[TARGET_KEY] = text_keys(pairs.column("target"))
        columns[DOCUMENT_KEY] = text_keys(pairs.column("document_id"))
        columns[EVIDENCE] = scores.column("evidence") if scores is not None else pa.nulls(pairs.num_rows, pa.int64())
        for name, column in columns.items():
            pairs = pairs.append_column(name, column)
        return pairs


def text_keys(column: pa.ChunkedArray) -> pa.Array:
    """Hash each text to 64 bits (xxh3_64 of its UTF-8); null stays null."""
    digest = xxhash.xxh3_64_intdigest
    texts = column.to_pylist()
    keys = np.fromiter((digest(text.encode()) if text is not None else 0 for text in texts), np.uint64, len(texts))
    mask = np.fromiter((text is None for text in texts), bool, len(texts)) if column.null_count else None
    return pa.array(keys, mask=mask)
