"""Rules: what drops a pair. A rule's place in RULES is its bit in `failed_rules`, so rules are only ever appended.

A rule reads columns alone (features, or the models' scores), and guards such as "not on short segments" are part of
what its column measures: so `filter-cli explain` and a profile's reader see all that decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift.contract import REASON
from bisift.filter.text import U64, Bool

if TYPE_CHECKING:
    from bisift.filter.profile import Profile


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A pair fails when any of `columns` is above (`fails`) or below the threshold; null never fails.

    `threshold` is the default one, `on` says whether the default profile has the rule, and thresholds lie within
    `lowest` to `highest`. Rules without columns are decided over the whole input, after `judge`. `why` speaks for the
    default.
    """

    id: str
    columns: tuple[str, ...]
    fails: Literal["above", "below"]
    threshold: float
    on: bool
    lowest: float
    highest: float
    help: str
    why: str

    @property
    def has_threshold(self) -> bool:
        """Whether there is anything to set but on and off."""
        return self.lowest < self.highest


def _count(id: str, columns: tuple[str, ...], threshold: int, help: str, why: str, *, on: bool = True) -> Rule:
    """A rule against more than so many of something."""
    return Rule(
        id=id,
        columns=columns,
        fails="above",
        threshold=threshold,
        on=on,
        lowest=0,
        highest=math.inf,
        help=help,
        why=why,
    )


def _share(
    id: str,
    columns: tuple[str, ...],
    fails: Literal["above", "below"],
    threshold: float,
    help: str,
    why: str,
    *,
    on: bool = True,
) -> Rule:
    """A rule about a share or a probability."""
    return Rule(
        id=id, columns=columns, fails=fails, threshold=threshold, on=on, lowest=0, highest=1, help=help, why=why
    )


def _global(id: str, help: str, why: str, *, on: bool = True) -> Rule:
    return Rule(id=id, columns=(), fails="above", threshold=0, on=on, lowest=0, highest=0, help=help, why=why)


def _both(name: str) -> tuple[str, str]:
    return f"source_{name}", f"target_{name}"


DUPLICATE, REPEATED_SOURCE, REPEATED_TARGET = "duplicate_pair", "repeated_source", "repeated_target"
LANGUAGE_RULES = ("wrong_language_source", "wrong_language_target")

RULES: tuple[Rule, ...] = (
    _global(DUPLICATE, "an equal pair came before", "the first of equal pairs stays"),
    Rule(
        id="empty",
        columns=_both("words"),
        fails="below",
        threshold=1,
        on=True,
        lowest=1,
        highest=1,
        help="a side holds nothing but white space",
        why="there is nothing to learn from",
    ),
    _count("too_long", _both("chars"), 1024, "a side has more code points", "trainers cut such segments off"),
    _count(
        "too_many_words",
        _both("words"),
        400,
        "a side has more words",
        "peers: 100-150, but here a Han letter is a word",
    ),
    Rule(
        id="too_short",
        columns=_both("words"),
        fails="below",
        threshold=1,
        on=True,
        lowest=1,
        highest=math.inf,
        help="a side has fewer words",
        why="1 keeps good short segments; users of peers lose data to a minimum of 3",
    ),
    Rule(
        id="length_ratio",
        columns=("length_ratio",),
        fails="above",
        threshold=3.0,
        on=True,
        lowest=1,
        highest=math.inf,
        help="one side is longer by this factor",
        why="the usual 3; 15 is added to both lengths, so short segments may differ more",
    ),
    _count("longest_word", _both("longest_word"), 40, "a word is longer", "glued text and data"),
    _share(
        "few_letters", _both("letters"), "below", 0.1, "a side has a smaller share of letters", "tables, rules, art"
    ),
    _share(
        "many_digits",
        _both("digits"),
        "above",
        0.7,
        "a side has a larger share of digits",
        "tables; short dates and scores stay",
    ),
    _share(
        "many_marks",
        _both("punctuation"),
        "above",
        0.6,
        "a side has a larger share of punctuation and symbols",
        "lines, art and code",
    ),
    _share("untranslated", ("untranslated",), "above", 0.9, "the target copies the source", "names and numbers stay"),
    _share(
        "wrong_language_source",
        ("source_other_language",),
        "above",
        0.7,
        "the source is in another language than declared, with more than this probability",
        "close languages and short segments are not judged",
    ),
    _share(
        "wrong_language_target",
        ("target_other_language",),
        "above",
        0.7,
        "the target is in another language than declared, with more than this probability",
        "close languages and short segments are not judged",
    ),
    _share(
        "wrong_script",
        _both("script"),
        "below",
        0.2,
        "a smaller share of a side's letters is in a script of its language",
        "Latin names within other scripts stay",
    ),
    _count("mojibake", _both("mojibake"), 0, "more signs of a wrong decoding on a side", "damaged text"),
    _count("control_chars", ("control_chars",), 0, "more control characters on a side", "damaged text"),
    _count("escaped_unicode", ("escaped_unicode",), 0, "more escapes left as text on a side", "damaged text"),
    _count("html", _both("markup"), 2, "more HTML tags and entities on a side", "page left-overs"),
    _count("templates", ("templates",), 2, "more template literals on a side", "page left-overs"),
    _share(
        "repetition",
        _both("repetition"),
        "above",
        0.5,
        "a unit repeated three or more times covers a larger share of a side",
        "hallucinations and filler",
    ),
    _count("spaced_letters", ("spaced_letters",), 5, "more single letters in a row", "h e l l o: layout, not text"),
    _count("glued_words", ("glued_words",), 3, "more words glued together on a side", "lost spaces"),
    _count("breadcrumbs", ("breadcrumbs",), 2, "more separators of navigation paths on a side", "page navigation"),
    _count("brackets", ("brackets",), 16, "more brackets on a side", "data and code; peers: 6, which drops prose"),
    _count(
        "unbalanced_brackets", ("unbalanced_brackets",), 2, "more unpaired brackets on a side", "cut segments, code"
    ),
    _share("urls", ("url_match",), "below", 0.5, "fewer of the URLs are on both sides", "misaligned text"),
    _share(
        "emails", ("email_match",), "below", 0.5, "fewer of the e-mail addresses are on both sides", "misaligned text"
    ),
    _share(
        "placeholders",
        ("placeholder_match",),
        "below",
        0.5,
        "fewer of the placeholders are on both sides",
        "would break",
    ),
    _share(
        "numbers",
        ("number_match",),
        "below",
        0.5,
        "fewer of the numbers are on both sides",
        "off: drops good pairs that spell numbers out or convert units",
        on=False,
    ),
    _share(
        "title_case", ("title_case",), "above", 0.9, "a larger share of words is capitalised on both sides", "lists"
    ),
    _share(
        "terminal_mark",
        ("terminal_match",),
        "below",
        1,
        "the sides end with different kinds of punctuation",
        "off: translators change it",
        on=False,
    ),
    _share(
        "low_quality", ("quality",), "below", 0.2, "the quality model's score is lower", "off: rank instead", on=False
    ),
    _share(
        "machine_made",
        ("ai_probability",),
        "above",
        0.9,
        "the detector's probability is higher",
        "off: rank instead",
        on=False,
    ),
    _global(REPEATED_SOURCE, "the source came before", "off: several translations are welcome", on=False),
    _global(REPEATED_TARGET, "the target came before", "off: several sources are welcome", on=False),
)
BITS = {rule.id: np.uint64(1 << number) for number, rule in enumerate(RULES)}


def judge(features: pa.Table, scores: pa.Table | None, profile: Profile) -> U64:
    """Return the bits of the rules that each of N pairs fails; `mark` adds those decided over the whole input.

    Args:
        features: the columns of `features.measure`.
        scores: `quality` and `ai_probability`, or None without models: then the rules about them fail nothing.
        profile: the rules that judge and their thresholds.
    """
    failed_N = np.zeros(features.num_rows, dtype=np.uint64)
    for rule in RULES:
        if not profile.enabled(rule.id):
            continue
        limit = profile.threshold(rule.id)
        for column in rule.columns:
            values = _values(column, features, scores)
            if values is not None:
                mark(failed_N, rule.id, _fails(values, rule.fails, limit))
    return failed_N


def _fails(values: pa.ChunkedArray, fails: str, limit: float) -> Bool:
    # a float32 column is compared with the float32 nearest to the threshold, so that 0.9 is not above 0.9
    bound = float(np.float32(limit)) if pa.types.is_float32(values.type) else limit
    if values.null_count:
        values = pc.fill_null(values.cast(pa.float64()), bound)  # neither above nor below
    values_N = values.to_numpy()
    return np.asarray(values_N > bound if fails == "above" else values_N < bound)


def _values(column: str, features: pa.Table, scores: pa.Table | None) -> pa.ChunkedArray | None:
    if column in features.column_names:
        return features.column(column)
    return scores.column(column) if scores is not None else None


def mark(failed_N: U64, rule: str, mask_N: Bool) -> None:
    """Set a rule's bit in place where the mask is true."""
    failed_N[mask_N] |= BITS[rule]


def reasons(failed_N: U64) -> pa.Array:
    """The first failed rule of each pair, as the dictionary of all rules in order; null = kept."""
    lowest_N = failed_N & (~failed_N + np.uint64(1))
    first_N = np.log2(np.maximum(lowest_N, np.uint64(1)).astype(np.float64)).astype(np.int8)  # powers of two: exact
    indices = pa.array(first_N, mask=failed_N == 0)
    return pa.DictionaryArray.from_arrays(indices, [rule.id for rule in RULES]).cast(REASON)
