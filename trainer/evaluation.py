"""BLEU and chrF with their signatures, paired bootstrap between systems, and minimum Bayes risk among samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sacrebleu
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from bisift.errors import ConfigError, InputError

RESAMPLES = 1_000

TOKENIZERS = ("13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none")
"""Those of sacrebleu that download nothing."""


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one system. `mean` and `interval` (95 %) are over bootstrap resamples.

    `p_value`: that it differs from the first system, the baseline (None: it is the baseline, or there was no test).
    """

    metric: str
    score: float
    signature: str
    mean: float | None = None
    interval: float | None = None
    p_value: float | None = None


def read_lines(path: str) -> list[str]:
    """Read segments, one a line; LF alone ends a line.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    return split_lines(data, path)


def split_lines(data: bytes, path: str) -> list[str]:
    """Return the lines of UTF-8 bytes, without BOM and line ends.

    Raises:
        InputError: they are not UTF-8, or hold a NUL, as UTF-16 does.
    """
    if b"\0" in data:
        row = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise InputError(f"{path}: row {row}: holds a NUL: not UTF-8 text: convert the file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: row {row}: not valid UTF-8: convert the file") from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def check_parallel(first: Sequence[str], second: Sequence[str], names: tuple[str, str]) -> None:
    """Raise InputError where two files do not have the same, positive number of lines."""
    if len(first) != len(second):
        raise InputError(
            f"{names[1]}: has {len(second):,} lines and {names[0]} has {len(first):,}: they must be parallel"
        )
    if not first:
        raise InputError(f"{names[0]}: is empty: there is nothing to translate or to compare")


def metrics(*, lowercase: bool = False, tokenize: str = "13a") -> dict[str, Metric]:
    """BLEU (Papineni et al. 2002; Post 2018, arXiv 1804.08771) and chrF (Popović 2015).

    Raises:
        ConfigError: there is no such tokenizer, or its package is missing.
    """
    if tokenize not in TOKENIZERS:
        raise ConfigError(f"no BLEU tokenizer {tokenize!r}: one of {', '.join(TOKENIZERS)}")
    try:
        found = BLEU(tokenize=tokenize, lowercase=lowercase)
    except RuntimeError as error:
        raise ConfigError(
            f"the BLEU tokenizer {tokenize} needs a package: pip install 'sacrebleu[{tokenize[:2]}]'"
        ) from error
    return {"BLEU": found, "chrF2": CHRF(lowercase=lowercase)}


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """sacreBLEU with its defaults (13a, cased)."""
    return float(sacrebleu.corpus_bleu(list(hypotheses), [list(references)]).score)


def compare(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    tokenize: str = "13a",
    resamples: int = RESAMPLES,
) -> dict[str, list[Score]]:
    """Score systems; with more than one, paired bootstrap against the first (Koehn 2004, W04-3250).

    A score that equals the first's has p = 1: sacrebleu's count of larger differences would give it the smallest.

    Raises:
        ConfigError: there is no such tokenizer, or its package is missing.
    """
    found: dict[str, list[Score]] = {name: [] for name in systems}
    chosen = metrics(lowercase=lowercase, tokenize=tokenize)
    if len(systems) == 1:
        (name,) = systems
        for title, metric in chosen.items():
            score = metric.corpus_score(list(systems[name]), [list(references)]).score
            found[name].append(Score(title, score, metric.get_signature().format()))
        return found
    test = PairedTest(
        [(name, list(lines)) for name, lines in systems.items()],
        chosen,
        references=[list(references)],
        test_type="bs",
        n_samples=resamples,
    )
    outcome: tuple[Any, Any] = test()
    signatures, scores = outcome
    for title in chosen:
        baseline = scores[title][0].score
        for name, result in zip(scores["System"], scores[title], strict=True):
            found[name].append(
                Score(
                    title,
                    float(result.score),
                    signatures[title].format(),
                    None if result.mean is None else float(result.mean),
                    None if result.ci is None else float(result.ci),
                    None if result.p_value is None else 1.0 if result.score == baseline else float(result.p_value),
                )
            )
    return found


def as_json(scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """Scores as plain values."""
    return {name: {score.metric: asdict(score) for score in found} for name, found in scores.items()}


def minimum_risk(samples: Sequence[str]) -> str:
    """Return the sample most like all others by sentence chrF (Eikema & Aziz 2020, arXiv 2005.10283).

    A text that was drawn twice counts twice as evidence; ties go to the one drawn first.
    """
    metric = CHRF()
    distinct = list(dict.fromkeys(samples))
    count = {text: samples.count(text) for text in distinct}
    if len(distinct) == 1:
        return distinct[0]
    risk = {
        text: sum(count[other] * metric.sentence_score(text, [other]).score for other in distinct) for text in distinct
    }
    return max(distinct, key=lambda text: risk[text])
