"""Classes of code points: the kinds of `filter.text`, with upper case and single marks told apart.

One table lookup and one count a row give most features, and say which few rows a regular expression must look at.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np

from bisift.filter import text
from bisift.filter.text import I64, U8, U32, Text, kind_table

(
    UPPER_LATIN,
    UPPER_CYRILLIC,
    UPPER_GREEK,
    UPPER_ARMENIAN,
    UPPER_GEORGIAN,
    UPPER_OTHER,
    COMMA,
    STOP,
    QUESTION,
    EXCLAMATION,
    COLON,
    QUOTE,
    LEFT_GUILLEMET,
    RIGHT_GUILLEMET,
    APOSTROPHE,
    ROUND_OPEN,
    ROUND_CLOSE,
    SQUARE_OPEN,
    SQUARE_CLOSE,
    CURLY_OPEN,
    CURLY_CLOSE,
    DASH,
    LESS,
    GREATER,
    PIPE,
    AMPERSAND,
    PERCENT,
    DOLLAR,
    AT,
    BACKSLASH,
    SLASH,
    PLUS,
    CONTROL,
    CONTROL_SPACE,
    REPLACEMENT,
    LEAD_UPPER,  # what UTF-8's first bytes look like when they are read as Latin-1: the upper case from Â to Þ
    LEAD_LOWER,  # and â, ï
) = range(text.OTHER_LETTER + 1, text.OTHER_LETTER + 38)
CLASSES = 64

UPPER = (UPPER_LATIN, UPPER_CYRILLIC, UPPER_GREEK, UPPER_ARMENIAN, UPPER_GEORGIAN, UPPER_OTHER, LEAD_UPPER)
_UPPER_OF = {
    text.LATIN: UPPER_LATIN,
    text.CYRILLIC: UPPER_CYRILLIC,
    text.GREEK: UPPER_GREEK,
    text.ARMENIAN: UPPER_ARMENIAN,
    text.GEORGIAN: UPPER_GEORGIAN,
}
_KIND_OF = {upper: kind for kind, upper in _UPPER_OF.items()} | {
    UPPER_OTHER: text.OTHER_LETTER,
    LEAD_UPPER: text.LATIN,
    LEAD_LOWER: text.LATIN,
    CONTROL: text.OTHER,
    CONTROL_SPACE: text.SPACE,
    REPLACEMENT: text.SYMBOL,
    **dict.fromkeys((LESS, GREATER, PIPE, DOLLAR, PLUS), text.SYMBOL),
}
"""Kind of each class; those not named are punctuation."""

_MARKS = {
    COMMA: ",،、，﹐､",
    STOP: ".。．।॥…۔。։",
    QUESTION: "?？؟\u037e",
    EXCLAMATION: "!！",
    COLON: ":;：；؛",
    QUOTE: '"“”„‟「」『』《》〈〉‹›＂',
    LEFT_GUILLEMET: "«",
    RIGHT_GUILLEMET: "»",
    APOSTROPHE: "'‘’",
    ROUND_OPEN: "(（",
    ROUND_CLOSE: ")）",
    SQUARE_OPEN: "[【〔［",
    SQUARE_CLOSE: "]】〕］",
    CURLY_OPEN: "{｛",
    CURLY_CLOSE: "}｝",
    DASH: "-‐‑‒–—―－",
    LESS: "<",
    GREATER: ">",
    PIPE: "|",
    AMPERSAND: "&",
    PERCENT: "%",
    DOLLAR: "$",
    AT: "@",
    BACKSLASH: "\\",
    SLASH: "/",
    PLUS: "+",
    REPLACEMENT: "\ufffd",
    LEAD_LOWER: "âï",
}
_NONCHARACTERS = (*range(0xFDD0, 0xFDF0), 0xFFFE, 0xFFFF, 0x1FFFE, 0x1FFFF)


@lru_cache(maxsize=1)
def class_table() -> U8:
    """Classes of the code points below the size of `text.kind_table`."""
    table = kind_table().copy()
    for code in np.flatnonzero(table >= text.LETTER).tolist():
        if unicodedata.category(chr(code)) in ("Lu", "Lt"):
            table[code] = LEAD_UPPER if 0xC2 <= code <= 0xDE else _UPPER_OF.get(int(table[code]), UPPER_OTHER)
    for number, characters in _MARKS.items():
        table[[ord(character) for character in characters]] = number
    for code in (*range(0x20), *range(0x7F, 0xA0), *_NONCHARACTERS):
        if chr(code) not in "\t\n\r":
            table[code] = CONTROL_SPACE if table[code] == text.SPACE else CONTROL
    return table


def members(*classes: int) -> U8:
    """A table of 0 and 1 by class."""
    table = np.zeros(CLASSES, dtype=np.uint8)
    table[list(classes)] = 1
    return table


def _kinds() -> U8:
    table = np.arange(CLASSES, dtype=np.uint8)
    table[text.OTHER_LETTER + 1 :] = text.PUNCTUATION
    for number, kind in _KIND_OF.items():
        table[number] = kind
    return table


KIND_OF_CLASS = _kinds()
IS_LETTER = (KIND_OF_CLASS >= text.LETTER).astype(np.uint8)
IS_UPPER = members(*UPPER)
CASED = (text.LATIN, text.CYRILLIC, text.GREEK, text.ARMENIAN)
IS_LOWER = members(*CASED, LEAD_LOWER)


def classes_of(codes_C: U32) -> U8:
    """Class of each code point; beyond the table as in `text.kinds_of`."""
    table = class_table()
    if codes_C.size == 0 or int(codes_C.max()) < table.size:
        return table[codes_C]
    classes_C = table[np.minimum(codes_C, table.size - 1)]
    high_C = codes_C >= table.size
    classes_C[high_C] = np.where(codes_C[high_C] < 0x32000, text.HAN, text.OTHER)
    return classes_C


def counts_of(side: Text, class_C: U8) -> I64:
    """How many code points of each class a row has; shape (CLASSES, N): a class's counts lie together."""
    key_C = class_C.astype(np.int64)
    key_C *= side.rows
    key_C += side.row_C
    return np.bincount(key_C, minlength=side.rows * CLASSES).reshape(CLASSES, side.rows)
