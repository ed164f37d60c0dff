"""Scores are those of the sacrebleu program, with the signatures that make them comparable."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bisift.errors import ConfigError, InputError
from bisift.trainer.cli.evaluate import _short
from bisift.trainer.evaluation import bleu, check_parallel, compare, metrics, minimum_risk, read_lines, split_lines
from tests.ranked import clean

REFERENCES = [target for _, target in clean(40)]


def spoilt(seed: int, share: float) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(word for word in text.split() if rng.random() > share) for text in REFERENCES]


def sacrebleu(folder: Path, *options: str) -> list[dict[str, object]]:
    (folder / "ref").write_text("".join(f"{line}\n" for line in REFERENCES))
    (folder / "hyp").write_text("".join(f"{line}\n" for line in spoilt(1, 0.1)))
    command = [sys.executable, "-m", "sacrebleu", str(folder / "ref"), "-i", str(folder / "hyp"), "-w", "10", *options]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("lowercase", [False, True])
def test_scores_agree_with_the_sacrebleu_command(tmp_path: Path, lowercase: bool) -> None:
    expected = sacrebleu(tmp_path, "-m", "bleu", "chrf", *(["-lc", "--chrf-lowercase"] if lowercase else []))
    found = compare({"a": spoilt(1, 0.1)}, REFERENCES, lowercase=lowercase)["a"]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.metric.lower().startswith(str(theirs["name"]).lower()[:4])
        assert ours.score == pytest.approx(theirs["score"], abs=1e-9)
        assert ours.signature == theirs["signature"]
    if not lowercase:
        assert bleu(spoilt(1, 0.1), REFERENCES) == pytest.approx(expected[0]["score"], abs=1e-9)


def test_paired_bootstrap_tells_a_difference_from_noise() -> None:
    systems = {"base": spoilt(1, 0.1), "alike": spoilt(2, 0.1), "worse": spoilt(3, 0.5)}
    found = compare(systems, REFERENCES, resamples=200)
    assert list(found) == list(systems)
    for number in (0, 1):
        base, alike, worse = (found[name][number] for name in systems)
        assert base.p_value is None
        assert worse.p_value is not None
        assert worse.p_value < 0.02
        assert alike.p_value is not None
        assert alike.p_value > worse.p_value
        assert base.interval is not None
        assert base.score > worse.score
    assert "nrefs:1|bs:200" in found["base"][0].signature


def test_an_equal_score_is_no_difference() -> None:
    found = compare({"a": spoilt(1, 0.1), "b": spoilt(1, 0.1), "c": spoilt(1, 0.5)}, REFERENCES, resamples=50)
    assert [score.p_value for score in found["b"]] == [1.0, 1.0]
    assert all(score.p_value is not None and score.p_value < 0.1 for score in found["c"])


def test_paths_are_shown_by_what_tells_them_apart() -> None:
    names = ["x/run/checkpoints/best.pt", "y/run/checkpoints/best.pt", "y/run/mean.pt", "./b.pt", "b.pt", "c/d.pt"]
    names.append("d.pt")
    expected = ["x/run/checkpoints/best.pt", "y/run/checkpoints/best.pt", "mean.pt", "./b.pt", "b.pt", "c/d.pt", "d.pt"]
    assert [_short(name, names) for name in names] == expected
    assert [_short(f"runs/{name}/best.pt", ["runs/a/best.pt", "runs/b/best.pt"]) for name in "ab"] == [
        "a/best.pt",
        "b/best.pt",
    ]


def test_minimum_risk_takes_what_most_are_like() -> None:
    assert minimum_risk(["the red house", "a green boat", "the red houses", "the red house stands"]) != "a green boat"
    assert minimum_risk(["same", "same"]) == "same"
    assert minimum_risk(["x y z", "a b c", "a b c"]) == "a b c"


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    assert split_lines("\ufeffa\r\nb\u2028c\n\nd".encode(), "x") == ["a", "b\u2028c", "", "d"]
    assert split_lines(b"", "x") == []
    with pytest.raises(InputError, match="x: row 3: not valid UTF-8"):
        split_lines(b"a\nb\n\xff\n", "x")
    with pytest.raises(InputError, match="x: row 2: holds a NUL: not UTF-8 text: convert"):
        split_lines(b"a\n" + "b\nc\n".encode("utf-16-le"), "x")
    with pytest.raises(InputError, match="No such file"):
        read_lines(str(tmp_path / "none"))
    with pytest.raises(InputError, match="is empty"):
        check_parallel([], [], ("a", "b"))


@pytest.mark.parametrize("name", ["13b", "spm", "flores200"])
def test_tokenizers_that_are_unknown_or_download_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no BLEU tokenizer '{name}': one of 13a, intl"):
        compare({"a": ["x"]}, ["x"], tokenize=name)


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_a_tokenizer_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{language}_mecab.MeCab", None)
    with pytest.raises(ConfigError, match=rf"pip install 'sacrebleu\[{language}\]'"):
        metrics(tokenize=f"{language}-mecab")
