"""Both sides of a chunk, decoded and classified once, for rules and models alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from bisift.filter import text
from bisift.filter.features.classes import IS_LETTER, KIND_OF_CLASS, UPPER, classes_of, counts_of
from bisift.filter.text import I64, U8, Bool, Spans, Text


@dataclass(frozen=True)
class Side:
    """One side of N pairs: the texts, their code points, and the languages that were declared (null: none).

    Suffixes: C code points of all rows joined, N rows, W words, G classes.
    """

    text: Text
    texts: Sequence[str]
    declared: Sequence[str | None]

    @property
    def rows(self) -> int:
        return len(self.texts)

    @cached_property
    def class_C(self) -> U8:
        return classes_of(self.text.codes_C)

    @cached_property
    def letter_C(self) -> U8:
        """1 where a letter stands, else 0."""
        return IS_LETTER[self.class_C]

    @cached_property
    def counts_GN(self) -> I64:
        return counts_of(self.text, self.class_C)

    @cached_property
    def kinds_KN(self) -> I64:
        """How many code points of each kind of `filter.text` a row has."""
        kinds_KN: I64 = self.counts_GN[: text.OTHER_LETTER + 1].copy()
        for number in range(len(kinds_KN), len(KIND_OF_CLASS)):
            kinds_KN[KIND_OF_CLASS[number]] += self.counts_GN[number]
        return kinds_KN

    def count_N(self, *classes: int) -> I64:
        """Code points of these classes in each row."""
        total_N: I64 = self.counts_GN[list(classes)].sum(axis=0)
        return total_N

    @cached_property
    def solid_N(self) -> I64:
        """Code points that are no white space."""
        solid_N: I64 = self.text.length_N - self.kinds_KN[text.SPACE]
        return solid_N

    @cached_property
    def letters_N(self) -> I64:
        total_N: I64 = self.kinds_KN[text.LETTER :].sum(axis=0)
        return total_N

    @cached_property
    def wide_N(self) -> I64:
        """What Han, kana and Hangul letters say beyond the letters of an alphabet, as so many letters more of one.

        A Han letter counts as three, kana and Hangul as two.
        """
        kinds_KN = self.kinds_KN
        wide_N: I64 = 2 * kinds_KN[text.HAN] + kinds_KN[text.KANA] + kinds_KN[text.HANGUL]
        return wide_N

    @cached_property
    def uppers_N(self) -> I64:
        return self.count_N(*UPPER)

    @cached_property
    def words_N(self) -> I64:
        return np.bincount(self.text.words.row_T, minlength=self.rows)

    @property
    def words(self) -> Spans:
        return self.text.words

    @cached_property
    def initial_W(self) -> U8:
        """Class of each word's first code point."""
        return self.class_C[self.words.start_T]

    def rows_of(self, positions: I64) -> I64:
        """Row of each code point position."""
        return self.text.row_C[positions]

    def rows_with(self, needle: str) -> Bool:
        """Which rows may hold a text; rows beside an occurrence that spans two may be named too."""
        mask_N = np.zeros(self.rows, dtype=bool)
        joined = self._joined
        place = joined.find(needle)
        while place >= 0:
            row = int(self.text.row_C[place])
            mask_N[row] = True
            place = joined.find(needle, max(place + 1, int(self.text.offsets[row + 1]) - len(needle) + 1))
        return mask_N

    @cached_property
    def _joined(self) -> str:
        return "".join(self.texts)


@dataclass(frozen=True)
class Sides:
    """Both sides of a chunk of N pairs, with what was decoded of them."""

    source_side: Side
    target_side: Side

    @classmethod
    def of(cls, pairs: pa.Table) -> Sides:
        """Decode `source` and `target` of a PAIR table; null counts as empty."""

        def side(name: str) -> Side:
            texts = [value or "" for value in pairs.column(name).to_pylist()]
            return Side(Text.of_strings(texts), texts, pairs.column(f"{name}_lang").to_pylist())

        return cls(side("source"), side("target"))

    @property
    def source(self) -> Text:
        return self.source_side.text

    @property
    def target(self) -> Text:
        return self.target_side.text
