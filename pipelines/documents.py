"""Document scores by a keyed step: evidence is summed as integers, so the sum is the same in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np

from bisift.filter.finishing import F32, U64, document_sums
from bisift.pipelines.duplicates import DOCUMENTS, SUM_BLOCK
from bisift.pipelines.scoring import SharedScorer
from bisift.pipelines.spilling import Block, load

PROBABILITY_BLOCK = np.dtype([("key", "<u8"), ("probability", "<f4")])


class DocumentProbabilities(beam.DoFn):
    """From (bucket, sums and what parts ask for) to (name of the part, (`DOCUMENTS`, probabilities by key))."""

    def __init__(self, scorer: SharedScorer) -> None:
        self._shared = scorer

    def setup(self) -> None:
        self._scorer = self._shared.get().scorer

    def process(self, element: tuple[str, Iterable[tuple[str, Block | bytes]]]) -> Iterator[Any]:
        values = list(element[1])
        sums = [np.frombuffer(load(block), SUM_BLOCK) for name, block in values if not name]
        if not sums or self._scorer is None:
            return
        all_D = np.concatenate(sums)
        keys_D, sums_D, counts_D = document_sums(all_D["key"], all_D["sum"], all_D["count"])
        probability_D = self._scorer.document_probability(sums_D, counts_D)
        for name, block in values:
            if name:
                asked = np.frombuffer(load(block), "<u8")
                place = np.minimum(np.searchsorted(keys_D, asked), len(keys_D) - 1)
                known = keys_D[place] == asked
                answer = np.zeros(int(known.sum()), PROBABILITY_BLOCK)
                answer["key"], answer["probability"] = asked[known], probability_D[place[known]]
                yield name, (DOCUMENTS, answer.tobytes())


def probabilities(answers: Iterable[bytes]) -> tuple[U64, F32]:
    """Return keys in ascending order and their probabilities from the answers to one part."""
    blocks = [np.frombuffer(answer, PROBABILITY_BLOCK) for answer in answers]
    answer_D = np.sort(np.concatenate([np.zeros(0, PROBABILITY_BLOCK), *blocks]), order="key")
    return np.ascontiguousarray(answer_D["key"]), np.ascontiguousarray(answer_D["probability"])
