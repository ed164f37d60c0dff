"""Rules: what drops a pair. A rule's place in RULES is its bit in `failed_rules`, so the order only grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisift.contract import REASON
from bisift.filter.text import Bool

if TYPE_CHECKING:
    from bisift.filter.profile import Profile

U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A pair fails when any of `columns` is over (`fails` = "above") or under ("below") `threshold`.

    Rules with no columns are decided over the whole input, or as `judge` says.
    """

    id: str
    columns: tuple[str, ...]
    fails: str
    threshold: float
    on: bool = True
    help: str


def _rule(id: str, columns: tuple[str, ...], fails: str, threshold: float, help: str, *, on: bool = True) -> Rule:
    return Rule(id=id, columns=columns, fails=fails, threshold=threshold, on=on, help=help)


def _both(name: str) -> tuple[str, str]:
    return f"source_{name}", f"target_{name}"


DUPLICATE, REPEATED_SOURCE, REPEATED_TARGET = "duplicate_pair", "repeated_source", "repeated_target"
WRONG_SOURCE, WRONG_TARGET = "wrong_language_source", "wrong_language_target"
LANGUAGE_MIN_CHARS = 20

RULES: tuple[Rule, ...] = (
    _rule("empty", _both("words"), "below", 1, "a side holds no word"),
    _rule("too_long", _both("chars"), "above", 1024, "a side has more code points"),
    _rule("too_many_words", _both("words"), "above", 200, "a side has more words"),
    _rule("length_ratio", ("length_ratio",), "above", 3.0, "the sides differ too much in length"),
    _rule("longest_word", _both("longest_word"), "above", 150, "a word is longer: glued text, data, a long URL"),
    _rule("untranslated", ("copy_similarity",), "above", 0.9, "the target copies the source (words of letters only)"),
    _rule(WRONG_SOURCE, (), "above", 0.7, "another language than declared, with more than this probability"),
    _rule(WRONG_TARGET, (), "above", 0.7, "another language than declared, with more than this probability"),
    _rule("few_letters", _both("letters"), "below", 0.25, "a smaller share of letters on a side"),
    _rule("many_digits", _both("digits"), "above", 0.5, "a larger share of digits on a side"),
    _rule("numbers", ("number_match",), "below", 0.5, "the sides' numbers differ", on=False),
    _rule("urls", ("url_match",), "below", 0.5, "the sides' URLs differ"),
    _rule("emails", ("email_match",), "below", 0.5, "the sides' e-mail addresses differ"),
    _rule("placeholders", ("placeholder_match",), "below", 0.5, "the sides' placeholders differ"),
    _rule("html", _both("markup"), "above", 3, "more HTML tags and entities on a side"),
    _rule("mojibake", _both("mojibake"), "above", 0, "signs of a wrong decoding"),
    _rule("low_quality", ("quality",), "below", 0.2, "the quality model's score is lower", on=False),
    _rule("machine_made", ("ai_probability",), "above", 0.9, "the detector's probability is higher", on=False),
    _rule(DUPLICATE, (), "above", 0, "an equal pair came before"),
    _rule(REPEATED_SOURCE, (), "above", 0, "the source came before", on=False),
    _rule(REPEATED_TARGET, (), "above", 0, "the target came before", on=False),
)
BITS = {rule.id: np.uint64(1 << number) for number, rule in enumerate(RULES)}

# Languages that identification confuses, or that go by several codes: no reason to drop a pair.
_ALIKE = tuple(
    frozenset(group.split())
    for group in (
        "no nb nn da sv",
        "hr sr bs sh me sl",
        "id ms jv",
        "cs sk",
        "gl pt es ca oc ast an",
        "zh yue wuu",
        "be ru uk bg mk",
        "hi mr ne",
        "fa ps ckb ur ar arz",
        "tr az",
        "kk ky tt",
        "nl af nds",
    )
)


def judge(features: pa.Table, scores: pa.Table | None, profile: Profile, pairs: pa.Table) -> U64:
    """Bits of the rules that each of N pairs fails; the rules about repetition are left to `mark`."""
    failed_N = np.zeros(features.num_rows, dtype=np.uint64)
    for rule in RULES:
        if not profile.enabled(rule.id):
            continue
        limit = profile.threshold(rule.id)
        for column in rule.columns:
            values = _values(column, features, scores)
            if values is None:
                continue
            over_N = pc.greater(values, limit) if rule.fails == "above" else pc.less(values, limit)
            bad_N = pc.fill_null(over_N, False).to_numpy(zero_copy_only=False)
            if rule.id == "untranslated":
                letters = np.minimum(features["source_letters"].to_numpy(), features["target_letters"].to_numpy())
                bad_N = bad_N & (letters > 0.5) & (features["source_words"].to_numpy() > 3)
            mark(failed_N, rule.id, bad_N)
        if rule.id in (WRONG_SOURCE, WRONG_TARGET):
            mark(failed_N, rule.id, _wrong_language(rule.id.rpartition("_")[2], features, pairs, limit))
    return failed_N


def mark(failed_N: U64, rule: str, mask_N: Bool) -> None:
    """Set a rule's bit in place where the mask is true."""
    failed_N |= np.where(mask_N, BITS[rule], np.uint64(0))


def reasons(failed_N: U64) -> pa.Array:
    """The first failed rule of each pair, as the dictionary of all rules in order; null = kept."""
    lowest_N = failed_N & (~failed_N + np.uint64(1))
    first_N = np.zeros(len(failed_N), dtype=np.int8)
    for number, rule in enumerate(RULES):
        first_N[lowest_N == BITS[rule.id]] = number
    indices = pa.array(first_N, mask=failed_N == 0)
    return pa.DictionaryArray.from_arrays(indices, [rule.id for rule in RULES]).cast(REASON)


def _values(column: str, features: pa.Table, scores: pa.Table | None) -> pa.ChunkedArray | None:
    if column in features.column_names:
        return features.column(column)
    return scores.column(column) if scores is not None else None


def _wrong_language(side: str, features: pa.Table, pairs: pa.Table, limit: float) -> Bool:
    found = features.column(f"{side}_language").to_pylist()
    sure = features.column(f"{side}_language_probability").to_pylist()
    chars = features.column(f"{side}_chars").to_pylist()
    declared = pairs.column(f"{side}_lang").to_pylist()
    return np.fromiter(
        (
            bool(d and f and p > limit and n >= LANGUAGE_MIN_CHARS and not _same(d, f))
            for d, f, p, n in zip(declared, found, sure, chars, strict=True)
        ),
        dtype=bool,
        count=len(found),
    )


def _same(declared: str, found: str) -> bool:
    declared = declared.lower().replace("_", "-").split("-")[0]
    return declared == found or any(declared in group and found in group for group in _ALIKE)
