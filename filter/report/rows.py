"""What the report keeps of every row, some 50 bytes, and what it counts as rows pass.

Suffixes: N rows of all inputs, R rules in the order of RULES, B bins.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisift.filter.names import I32, Names
from bisift.filter.ordering import identity_words, is_dropped, random_keys
from bisift.filter.rules import BITS
from bisift.filter.scored import Scored
from bisift.filter.scorer import text_keys
from bisift.filter.text import U64, Bool

F32 = npt.NDArray[np.float32]

KEPT = "kept"
UNDECLARED = "not declared"
_WORDS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
LENGTHS: Mapping[str, Sequence[float]] = {
    "source_words": _WORDS,
    "target_words": _WORDS,
    "length_ratio": (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0),
}
"""Columns whose distribution is shown, and the lower ends of its bins; the last bin has no upper end."""

_BATCH_ROWS = 65_536
_COLUMNS = (
    *("pair_id", "origin", "generator", "source_lang", "target_lang", "document_id"),
    *("quality", "ai_probability", "ai_probability_document", "ai_language_known"),
    *("source_language", "target_language", "failed_rules", "drop_reason", *LENGTHS),
)


class Rows:
    """All rows of the inputs. A score that is null is NaN, and `document_N` is 0 without a document.

    `key_N` decides what is drawn at random: it depends on a pair's content and the seed alone.
    """

    def __init__(self, source: Scored, seed: int) -> None:
        self.reasons, self.origins, self.generators, self.languages = Names(KEPT), Names(), Names(), Names()
        self.failed_R, self.alone_R = np.zeros(len(BITS), np.int64), np.zeros(len(BITS), np.int64)
        self.lengths = {name: np.zeros((2, len(edges)), np.int64) for name, edges in LENGTHS.items()}  # kept, dropped
        self.identified: Counter[str] = Counter()
        self.language_known = 0
        held: defaultdict[str, list[npt.NDArray[Any]]] = defaultdict(list)
        for table in source.tables(_COLUMNS, _BATCH_ROWS):
            self._count(table, is_dropped(table))
            for name, values_N in self._held(table, seed).items():
                held[name].append(values_N)

        def joined(name: str, kind: type[np.generic]) -> npt.NDArray[Any]:
            return np.concatenate(held.pop(name)) if name in held else np.zeros(0, kind)

        self.key_N: U64 = joined("key", np.uint64)
        self.quality_N: F32 = joined("quality", np.float32)
        self.ai_N: F32 = joined("ai_probability", np.float32)
        self.document_ai_N: F32 = joined("ai_probability_document", np.float32)
        self.document_N: U64 = joined("document", np.uint64)
        self.tokens_N: I32 = joined("tokens", np.int32)
        self.reason_N: I32 = joined("reason", np.int32)
        self.origin_N: I32 = joined("origin", np.int32)
        self.generator_N: I32 = joined("generator", np.int32)
        self.languages_N: I32 = joined("languages", np.int32)

    def __len__(self) -> int:
        return len(self.key_N)

    @property
    def kept_N(self) -> Bool:
        """Which rows no rule dropped."""
        kept_N: Bool = self.reason_N == 0
        return kept_N

    def _held(self, table: pa.Table, seed: int) -> dict[str, npt.NDArray[Any]]:
        documents = table.column("document_id").combine_chunks().dictionary_encode()
        keys = np.append(text_keys(pa.chunked_array([documents.dictionary])).to_numpy(), np.uint64(0))
        return {
            "key": random_keys(identity_words(table.column("pair_id")), seed),
            **{
                name: table.column(name).to_numpy().astype(np.float32)  # null is NaN
                for name in ("quality", "ai_probability", "ai_probability_document")
            },
            "document": keys[documents.indices.fill_null(len(keys) - 1).to_numpy()],
            "tokens": table.column("target_words").fill_null(0).to_numpy(),
            "reason": self.reasons.codes(table.column("drop_reason"), KEPT),
            "origin": self.origins.codes(table.column("origin"), UNDECLARED),
            "generator": self.generators.codes(table.column("generator"), UNDECLARED),
            "languages": self.languages.codes(_pairs(table, "source_lang", "target_lang"), UNDECLARED),
        }

    def _count(self, table: pa.Table, dropped_N: Bool) -> None:
        failed_N = table.column("failed_rules").to_numpy()
        for place, bit in enumerate(BITS.values()):
            self.failed_R[place] += np.count_nonzero(failed_N & bit)
            self.alone_R[place] += np.count_nonzero(failed_N == bit)
        for name, edges in LENGTHS.items():
            column = table.column(name)
            valid_N = column.is_valid().to_numpy()
            bin_N = np.searchsorted(edges, column.drop_null().to_numpy(), side="right") - 1
            counts = np.bincount(dropped_N[valid_N] * len(edges) + np.maximum(bin_N, 0), minlength=2 * len(edges))
            self.lengths[name] += counts.reshape(2, -1)
        for entry in pc.value_counts(_pairs(table, "source_language", "target_language")).to_pylist():
            self.identified[entry["values"] or "?-?"] += entry["counts"]
        self.language_known += pc.sum(table.column("ai_language_known")).as_py() or 0


def _pairs(table: pa.Table, source: str, target: str) -> pa.ChunkedArray:
    """Return `en-it` and the like; `?` for the side that is not known, null where both are not."""
    sides = [table.column(name).cast(pa.string()) for name in (source, target)]
    neither = pc.and_(sides[0].is_null(), sides[1].is_null())
    joined = pc.binary_join_element_wise(*(side.fill_null("?") for side in sides), "-")
    return pc.if_else(neither, pa.scalar(None, pa.string()), joined)
