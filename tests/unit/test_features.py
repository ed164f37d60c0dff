"""What is measured of a pair, value by value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bisift.contract import FEATURES
from bisift.filter.features import CHEAP, Sides, measure
from bisift.filter.features.languages import same_language
from bisift.filter.langid import MAX_CHARS, identify, known_languages


def table(rows: Iterable[tuple[str, str]], langs: tuple[str | None, str | None] = (None, None)) -> pa.Table:
    """PAIR's text columns."""
    source, target = zip(*rows, strict=True)
    return pa.table(
        {
            "source": pa.array(source, pa.string()),
            "target": pa.array(target, pa.string()),
            "source_lang": pa.array([langs[0]] * len(source), pa.string()),
            "target_lang": pa.array([langs[1]] * len(source), pa.string()),
        }
    )


def one(source: str, target: str = "", langs: tuple[str | None, str | None] = (None, None), **options: bool) -> Any:
    """The features of one pair."""
    pairs = table([(source, target)], langs)
    return measure(pairs, Sides.of(pairs), **({"language_id": False} | options)).to_pylist()[0]


def test_columns_are_the_cheap_features_in_order_and_type() -> None:
    pairs = table([("a", "b")])
    features = measure(pairs, Sides.of(pairs))
    assert features.schema == pa.schema([(feature.name, feature.type) for feature in CHEAP])
    assert [f.name for f in FEATURES if f not in CHEAP] == ["lexical_forward", "lexical_backward", "lexical_coverage"]


def test_no_rows_and_empty_texts() -> None:
    empty = table([("a", "b")]).slice(0, 0)
    assert measure(empty, Sides.of(empty)).num_rows == 0
    values = one("", " \t", language_id=True)
    assert values["source_words"] == values["target_words"] == values["source_longest_word"] == 0
    assert values["target_language"] is None
    assert values["length_ratio"] == pytest.approx(17 / 15)
    assert values["number_match"] == values["url_match"] == values["source_type_token"] == 1


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("chars", "añ漢😀", 4),
        ("words", "two words, 漢字", 4),
        ("longest_word", "a bb https://example.org/a-very-long-path.html", 7),
        ("longest_word", "ພາສາລາວແມ່ນພາສາທາງການຂອງປະເທດລາວ abc", 3),
        ("mean_word", "ab cdef", 3.0),
        ("letters", "ab 12 é", 0.6),
        ("digits", "ab12", 0.5),
        ("digits", "2018年", 4 / 7),
        ("punctuation", "ab.€", 0.5),
        ("capitals", "ABcd12", 0.5),
        ("type_token", "The the cat", 2 / 3),
        ("repetition", "so good so good so good so good", 1.0),
        ("repetition", "we walked along the river", 0.0),
        ("repetition", "no, no, no!", 0.0),
        ("repetition", "------------------------------", 0.0),
        ("markup", "<p class='x'>a &amp; b</p> <stdio.h> 1 < 2 > 0", 3),
        ("mojibake", "cafÃ© itâ€™s \ufffd", 3),
        ("mojibake", "ÃO É Â « à Ñandú", 0),
    ],
)
def test_value_of_a_side(column: str, text: str, value: float) -> None:
    assert one(text)[f"source_{column}"] == pytest.approx(value, rel=1e-6)
    assert one("", text)[f"target_{column}"] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("column", "source", "target", "value"),
    [
        ("length_ratio", "a" * 15, "b" * 45, 2.0),
        ("length_ratio", "漢" * 5, "b" * 15, 1.0),
        ("copy_similarity", "abcd", "ABxd", 0.75),
        ("copy_similarity", "", "", 0.0),
        ("untranslated", "they did not translate this text", "They did not, translate THIS text.", 1.0),
        ("untranslated", "Ada Lovelace, London 1843", "Ada Lovelace, London 1843", 0.0),
        ("trigram_overlap", "nation", "Nationen", 4 / 6),
        ("copied_words", "the Linux kernel", "der Linux-Kernel, Linux", 2 / 3),
        ("number_match", "1,000.5 and 7", "1.000,5 und 7", 1.0),
        ("number_match", "1000.5", "١٠٠٠٫٥", 1.0),
        ("number_match", "10 000", "10000", 1.0),
        ("number_match", "5 of 5", "5 von 6", 0.5),
        ("number_match", "in 1999", "in 1998", 0.0),
        ("number_match", "at 09:30", "um 9:30", 1.0),
        ("number_match", "none", "keine", 1.0),
        ("url_match", "see https://www.example.org/en/a.", "siehe http://de.example.org/a", 1.0),
        ("url_match", "see www.example.org", "siehe dort", 0.0),
        ("email_match", "to a.b@example.org.", "an A.B@example.org", 1.0),
        ("email_match", "to a@example.org", "an b@example.org", 0.0),
        ("placeholder_match", "%(name)s has %d of {n} ${x}", "${x} {n} %d %(name)s", 1.0),
        ("placeholder_match", "%s and %s", "%2$s und %1$s", 1.0),
        ("placeholder_match", "<0>a</0> {{b}}", "<0>a</0>", 2 / 3),
        ("placeholder_match", "50% sure", "zu 50% sicher", 1.0),
        ("terminal_match", "Really?", "真的吗？", 1.0),
        ("terminal_match", 'He said "no."', "Er sagte „nein“.", 1.0),
        ("terminal_match", "Go!", "Geh.", 0.0),
        ("terminal_match", "no mark", "kein Zeichen", 1.0),
        ("title_case", "One Two Three Four Five Six Seven Eight", "Uno Due Tre Quattro Cinque Sei Sette Otto", 1.0),
        ("title_case", "WE ARE ALL IN CAPITALS HERE NOW THEN", "OGNI PAROLA IN MAIUSCOLO QUI ADESSO ORA ECCO", 0.0),
        ("commas_difference", "a, b", "a، b、 c, d", float(np.log(4 / 2))),
        ("quotes_difference", "it's", "«es»", float(np.log(3))),
        ("escaped_unicode", r"caf\u00e9 \xe9 \x", "", 2),
        ("control_chars", "a\x07b\x85\tc\n", "\x01", 2),
        ("glued_words", "somewhere elseThen we goneThere", "JavaScript", 1),
        ("spaced_letters", "h e l l o there", "a b", 5),
        ("brackets", "(a) [b] {c}", "", 6),
        ("unbalanced_brackets", "1) 2) 3)", "1) 2)", 1),
        ("breadcrumbs", "Home > Shop » Hats | x|y", "« Oui » dit-il", 3),
        ("templates", "{{a}} {% if %} ${b} +++", "", 4),
    ],
)
def test_value_of_a_pair(column: str, source: str, target: str, value: float) -> None:
    assert one(source, target)[column] == pytest.approx(value, rel=1e-6)


def test_languages_are_judged_only_where_they_are_declared_known_and_long_enough() -> None:
    english = "The committee will meet again on the first Monday of next month."
    values = one(english, english, ("en-GB", "it"), language_id=True)
    assert values["source_language"] == values["target_language"] == "en"
    assert values["source_other_language"] == 0
    assert values["target_other_language"] == values["target_language_probability"] > 0.8
    assert one(english, english, (None, "und"), language_id=True)["target_other_language"] is None
    assert one(english, english, ("english", "eng"), language_id=True)["source_other_language"] is None
    assert one("Yes please", "Sì grazie", ("de", "de"), language_id=True)["target_other_language"] is None
    assert one(english, english, ("en", "it"))["target_language"] is None


def test_a_language_that_the_script_rules_out_is_not_believed() -> None:
    chinese = "然而，我很好奇它在气温更低的天气和雨雪天气（应该是有抵抗力的）会有怎样的表现。"
    values = one("", chinese, (None, "zh"), language_id=True)
    assert values["target_other_language"] == 0


def test_close_languages_are_alike() -> None:
    assert same_language("nb", "no")
    assert same_language("hr", "sr")
    assert same_language("ms", "id")
    assert not same_language("en", "de")
    assert {"en", "zh", "sr"} <= known_languages()


def test_identification_reads_the_beginning_and_leaves_blanks_null() -> None:
    english = "This is a sentence of the English language, " * 8
    languages, probabilities = identify(
        [english[:MAX_CHARS] + "и это по-русски " * 50, "", " \n", "QUESTO È UN TITOLO"]
    )
    assert languages.to_pylist() == ["en", None, None, "it"]
    assert probabilities.is_null().to_pylist() == [False, True, True, False]


def test_share_of_the_declared_script() -> None:
    assert one("Привет, мир, hello", "", ("ru", None))["source_script"] == pytest.approx(9 / 14)
    assert one("行を挿入する (Insert line)", "", ("ja", None))["source_script"] > 0.5
    assert one("Привет, мир, hello", "", (None, None))["source_script"] is None
    assert one("hello", "", ("ru", None))["source_script"] is None


@pytest.mark.parametrize(
    "text",
    ["a", "<a ", "{{ ", "%(", "a@a.", "&abc", "http://", "😀", "שלום ", "e\u0301", "漢", "Ã", "Ð¿", " ", "x ", "7."],
    ids=ascii,
)
def test_a_very_long_row_is_measured_and_changes_no_other(text: str) -> None:
    long = text * (200_000 // len(text))
    pairs = table([(long, "kurz"), ("short, 1 <b> (x)", "kurz, 2 {y}"), ("kurz", long)])
    both = measure(pairs, Sides.of(pairs), language_id=False)
    alone = measure(pairs.slice(1, 1), Sides.of(pairs.slice(1, 1)), language_id=False)
    assert both.slice(1, 1).to_pylist() == alone.to_pylist()
    for column in both.columns:
        if pa.types.is_floating(column.type):
            assert np.isfinite(column.drop_null().to_numpy()).all()
