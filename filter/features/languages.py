"""Declared languages against what the text looks like: identified language and script."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.filter import text
from bisift.filter.features.sides import Side
from bisift.filter.langid import identify, known_languages
from bisift.filter.text import I64

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

MIN_LANGUAGE_LETTERS = 20
"""Letters (weighted by `Side.wide_N`) below which the language of a segment is not judged, or its script."""
MIN_SCRIPT_LETTERS = 10
MIN_SCRIPT_SHARE = 0.2
"""Share of letters in a script of the identified language below which the identification is not believed."""

ALIKE = tuple(
    frozenset(group.split())
    for group in (
        "no nb nn da sv",
        "hr sr bs sh me cnr sl mk",
        "bg mk",
        "id ms jv su min",
        "cs sk",
        "gl pt es ast ca oc an ext mwl",
        "it scn lmo pms vec nap co fur sc",
        "fr oc wa frp",
        "de als gsw bar nds lb pfl ksh",
        "nl af nds li vls zea fy",
        "zh yue wuu cmn lzh hak nan ja",
        "be ru uk rue",
        "hi mr ne bh bho mai gom sa dty new",
        "bn as bpy",
        "fa prs tg mzn lrc glk azb",
        "ku ckb kmr",
        "ar arz apc ary acm",
        "ur pnb sd",
        "tr az tk crh",
        "kk ky tt ba kaa cv sah tyv",
        "uz ug",
        "et fi vep krl liv vro",
        "is fo",
        "ga gd gv",
        "tl fil ceb war pam ilo bcl pag",
        "en sco",
        "xh zu ss nr st tn nso",
        "el grc",
        "lt lv ltg sgs",
        "pl szl csb",
        "ro mo",
        "he iw yi",
        "mn bxr xal",
    )
)
"""Languages that identification confuses on single segments, or that go by several codes."""

_SCRIPTS: dict[str, tuple[int, ...]] = {
    "am ti": (text.ETHIOPIC,),
    "ar arz ary apc fa prs ur ps ckb sd ug pnb azb": (text.ARABIC,),
    "be bg kk ky mk mn ru rue tg tt uk ba cv ce os": (text.CYRILLIC,),
    "bn as gu pa or ta te kn ml si": (text.INDIC,),
    "el grc": (text.GREEK,),
    "he iw yi": (text.HEBREW,),
    "hi mr ne sa mai bho": (text.DEVANAGARI,),
    "hy": (text.ARMENIAN,),
    "ka": (text.GEORGIAN,),
    "ko": (text.HANGUL,),
    "ja": (text.KANA, text.HAN),
    "zh yue wuu cmn lzh hak": (text.HAN,),
    "th": (text.THAI,),
    "lo bo my km dz": (text.SEA,),
    "sr sh bs uz az cnr": (text.CYRILLIC, text.LATIN),
    "ku": (text.ARABIC, text.LATIN),
    "af ast ca ceb co cs cy da de en eo es et eu fi fil fo fr fy ga gd gl ha hr ht hu id ig is it jv la lb lt lv mg mi "
    "ms mt nb nl nn no oc pl pt ro rw sk sl sm sn so sq st su sv sw tl tr vi wa xh yo zu": (text.LATIN,),
}
_WEIGHT = {text.HAN: 3, text.KANA: 2, text.HANGUL: 2}
SCRIPTS_OF = {language: scripts for languages, scripts in _SCRIPTS.items() for language in languages.split()}


def base_language(declared: str | None) -> str | None:
    """The language without script and region, in lower case: `zh` for `zh_CN`; None for an empty one."""
    return (declared or "").replace("_", "-").split("-")[0].lower() or None


def same_language(declared: str, found: str) -> bool:
    """Whether a text identified as `found` may well be in the declared language."""
    return declared == found or any(declared in group and found in group for group in ALIKE)


@lru_cache(maxsize=1024)
def _can_be_identified(declared: str) -> bool:
    """Whether the model knows the language, or one that it may be taken for; not so for `und`, `eng` or `English`."""
    return any(same_language(declared, known) for known in known_languages())


def language_columns(side: Side, *, language_id: bool) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Language, its probability, and the probability of another than the declared language, each of N."""
    if not language_id:
        return pa.nulls(side.rows, pa.string()), pa.nulls(side.rows, pa.float32()), pa.nulls(side.rows, pa.float32())
    languages, probabilities = identify(
        [text if letters else "" for text, letters in zip(side.texts, side.letters_N.tolist(), strict=True)]
    )
    letters_N = side.letters_N + side.wide_N
    declared = pa.array(side.declared, pa.string())
    other_N = np.zeros(side.rows, dtype=bool)
    known_N = letters_N >= MIN_LANGUAGE_LETTERS
    for (language, found), rows in _groups(declared, languages):
        base = base_language(language)
        if base is None or found is None or not _can_be_identified(base):
            known_N[rows] = False
        elif not same_language(base, found):
            # an identification that the text's own script rules out is an error of the model
            other_N[rows] = _share_in_scripts(side, SCRIPTS_OF.get(found), rows) >= MIN_SCRIPT_SHARE
    probability_N = probabilities.fill_null(0).to_numpy()
    return languages, probabilities, pa.array(np.where(other_N, probability_N, np.float32(0)), mask=~known_N)


def script(side: Side) -> pa.Array:
    """Share of the letters that are in a script of the declared language; null where that is not known.

    Han, kana and Hangul letters have the weight of `Side.wide_N`.
    """
    share_N: F32 = np.zeros(side.rows, dtype=np.float32)
    known_N = np.zeros(side.rows, dtype=bool)
    for (language,), rows in _groups(pa.array(side.declared, pa.string())):
        scripts = SCRIPTS_OF.get(base_language(language) or "")
        if scripts is not None:
            share_N[rows] = _share_in_scripts(side, scripts, rows)
            known_N[rows] = side.letters_N[rows] + side.wide_N[rows] >= MIN_SCRIPT_LETTERS
    return pa.array(share_N, mask=~known_N)


def _share_in_scripts(side: Side, scripts: tuple[int, ...] | None, rows: I64) -> F64:
    """Share of the weighted letters of `rows` that are in one of the scripts; 1 where the scripts are not known."""
    if scripts is None:
        return np.ones(len(rows))
    inside = sum((_WEIGHT.get(kind, 1) * side.kinds_KN[kind][rows] for kind in scripts), np.zeros(len(rows)))
    return np.asarray(inside / np.maximum(side.letters_N[rows] + side.wide_N[rows], 1), dtype=np.float64)


def _groups(*columns: pa.Array) -> list[tuple[tuple[str | None, ...], I64]]:
    """The rows of each combination of values that occurs."""
    code_N = np.zeros(len(columns[0]), dtype=np.int64)
    values: list[list[str | None]] = []
    for column in columns:
        encoded = column.dictionary_encode(null_encoding="encode")
        values.append(encoded.dictionary.to_pylist())
        code_N = code_N * max(len(values[-1]), 1) + encoded.indices.to_numpy()
    groups = []
    for code in np.unique(code_N).tolist():
        rows = np.flatnonzero(code_N == code)
        key: list[str | None] = []
        for known in reversed(values):
            code, number = divmod(code, max(len(known), 1))
            key.insert(0, known[number])
        groups.append((tuple(key), rows))
    return groups
