"""`filter-cli explain` with the shipped models: rows of scored files, notes, JSON, and lines for a terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from bisift.filter.cli import cli
from bisift.filter.cli.attributed import attribution_lines, plain
from bisift.filter.explain import explain_pair, explain_row
from bisift.filter.inference import Scorer
from bisift.filter.profile import load_profile
from bisift.filter.readers import ReadOptions
from bisift.filter.scorer import ScorerSettings
from bisift.filter.scoring import ScoreOptions, score_files
from bisift.models import registry
from tests.unit.test_attribution import CALIBRATION, write_linear

LINES = (
    "Mind the gap.\tAttenti al vuoto.",
    "The weather is fine today.\tDas Wetter ist heute schön.",
    "Page 12 is empty.\tעמוד 12 ריק.",
    "too few columns",
    "Hello world\t🎉🎉 مرحبا بالعالم",
)
SETTINGS = ScorerSettings(profile=load_profile("default"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ("explain", *arguments), prog_name="filter-cli")


def scored(folder: Path, name: str = "scored.parquet", **options: Any) -> str:
    source = folder / "pairs.tsv"
    source.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    score_files([str(source)], f"{folder}/{name}", ScoreOptions(**options))
    return f"{folder}/{name}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return scored(tmp_path_factory.mktemp("explain"))


@pytest.mark.parametrize("row", [1, 2, 3, 5])
def test_a_row_is_split_into_the_scores_of_its_file(file: str, row: int) -> None:
    explanation = explain_row(file, row, None, SETTINGS)
    assert explanation.attribution is not None
    assert not [note for note in explanation.notes if not note.startswith("failed ")]
    assert explanation.attribution.ai_probability.score == pytest.approx(explanation.scores["ai_probability"], abs=1e-6)
    assert explanation.attribution.quality is not None
    assert explanation.attribution.quality.score == pytest.approx(explanation.scores["quality"], abs=1e-6)


@pytest.mark.parametrize("name", ["scored.tsv", "scored.jsonl.gz", "parts/"])
def test_rows_of_text_files_and_folders_are_split_alike(tmp_path: Path, name: str) -> None:
    explanation = explain_row(scored(tmp_path, name), 2, None, SETTINGS)
    assert explanation.attribution is not None
    assert explanation.notes == ()


def test_the_prior_of_the_file_is_kept_unless_another_is_given(tmp_path: Path) -> None:
    path = scored(tmp_path, prior=0.1)
    explanation = explain_row(path, 2, None, SETTINGS)
    assert explanation.notes == ()
    assert explanation.attribution is not None
    assert explanation.attribution.ai_probability.baseline["prior"] == pytest.approx(-2.1972, abs=1e-4)
    result = run(path, "--row", "2", "--prior", "0.5")
    assert "scored with another prior: give --prior 0.1" in result.output


def test_a_file_of_other_models_is_split_by_these_and_says_so(tmp_path: Path) -> None:
    model = write_linear(tmp_path / "own.onnx", {"form_comma": 1.0, "source_chars": 0.1}, calibration=CALIBRATION)
    path = scored(tmp_path, models=(("detector", model),))
    explanation = explain_row(path, 2, None, SETTINGS)
    (note,) = explanation.notes
    assert note.startswith("the scores that are split are not those of the file: ai_probability is ")
    assert "quality is" not in note
    assert note.endswith("give --model detector=FILE, or score it again")
    assert explanation.attribution is not None
    assert f"{explanation.attribution.ai_probability.score:.4f} here" in note
    assert f"{explanation.scores['ai_probability']:.4f} there" in note
    assert run(path, "--row", "2", "--model", f"detector={model}").output.count("note:") == 0


def test_a_file_scored_without_models_has_a_note(tmp_path: Path) -> None:
    path = scored(tmp_path, use_models=False)
    explanation = explain_row(path, 2, None, SETTINGS)
    assert explanation.scores["quality"] is None
    assert explanation.attribution is not None
    assert "quality is null there" in explanation.notes[0]
    assert explanation.notes[0].endswith("it was scored without models: score it again")


def test_a_changed_text_has_a_note(tmp_path: Path) -> None:
    path = scored(tmp_path, "scored.tsv")
    text = Path(path).read_text(encoding="utf-8").replace("Das Wetter ist heute schön.", "Wetter!")
    Path(path).write_text(text, encoding="utf-8")
    assert "its text may have been changed" in explain_row(path, 2, None, SETTINGS).notes[0]
    Path(f"{path}.manifest.json").unlink()
    assert "its models are not known: name them with --model" in explain_row(path, 2, None, SETTINGS).notes[0]


def test_without_models_the_scores_are_not_split_and_it_says_why(file: str) -> None:
    for arguments in ((file, "--row", "2"), ("--source", "A house.", "--target", "Ein Haus.")):
        value = json.loads(run(*arguments, "--no-models", "--json").output)
        assert value["attribution"] is None
        assert "the scores are not split: the models are switched off" in value["notes"]


def test_without_weights_a_row_is_explained_and_says_why_its_scores_are_not_split(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    result = run(file, "--row", "2")
    assert result.exit_code == 0
    assert "the scores are not split: " in result.output
    assert "no weights for detector" in result.output
    assert run("--source", "A house.", "--target", "Ein Haus.").exit_code == 1  # its scores cannot be told


def test_a_named_model_that_is_missing_is_an_error(file: str) -> None:
    result = run(file, "--row", "2", "--model", "detector=nowhere.onnx")
    assert result.exit_code == 1
    assert "nowhere.onnx: no weights for detector" in result.output


def test_missing_typical_values_leave_a_row_explained(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in registry.WEIGHTS.iterdir():
        if path.name != registry.TYPICAL:
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    result = run(file, "--row", "2")
    assert result.exit_code == 0
    assert "no values of a typical pair" in result.output


def test_the_document_probability_is_that_of_the_file(tmp_path: Path) -> None:
    rows = [f"The weather is fine.\tDas Wetter ist {word}.\tdoc" for word in ("schön", "gut", "fein")]
    (tmp_path / "pairs.tsv").write_text("source\ttarget\tdoc\n" + "\n".join(rows) + "\n", encoding="utf-8")
    options = ScoreOptions(read=ReadOptions(document_column="doc"))
    score_files([str(tmp_path / "pairs.tsv")], str(tmp_path / "out.parquet"), options)
    table = pq.read_table(tmp_path / "out.parquet")
    explanation = explain_row(str(tmp_path / "out.parquet"), 2, None, SETTINGS)
    document = explanation.scores["ai_probability_document"]
    assert document == table["ai_probability_document"][1].as_py()
    assert document != explanation.scores["ai_probability"]


def test_json_has_a_stable_shape(file: str) -> None:
    value = json.loads(run(file, "--row", "2", "--json").output)
    attribution = value["attribution"]
    assert list(attribution) == ["ai_probability", "quality", "tokens", "ngrams", "notes"]
    for name, baseline in (("ai_probability", ["prior", "language", "typical_pair"]), ("quality", ["typical_pair"])):
        split = attribution[name]
        assert list(split) == ["score", "log_odds", "baseline", "contributions"]
        assert list(split["baseline"]) == baseline
        assert all(list(part) == ["group", "log_odds", "inputs"] for part in split["contributions"])
        total = sum(split["baseline"].values()) + sum(part["log_odds"] for part in split["contributions"])
        assert total == pytest.approx(split["log_odds"], abs=1e-9)
    assert list(attribution["quality"]["contributions"][0]["inputs"][0]) == ["feature", "value", "typical", "effect"]
    assert [part["group"] for part in attribution["ai_probability"]["contributions"]][:2] == ["words", "predictability"]
    token = attribution["tokens"]["target"][0]
    names = ["token", "start", "in_vocabulary", "source", "source_start"]
    assert list(token) == [*names, "link_probability", "log_probability", "style", "ngrams"]
    assert [token[name] for name in names] == ["Das", 0, True, "The", 0]
    names = ["token", "start", "in_vocabulary", "explained", "log_probability"]
    assert list(attribution["tokens"]["source"][0]) == names


def lines(source: str, target: str, width: int | None, lang: str = "de") -> list[str]:
    explanation = explain_pair(source, target, "en", lang, SETTINGS)
    assert explanation.attribution is not None
    return list(attribution_lines(explanation.attribution, lambda text, **_: text, width))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_lines_fit_the_terminal_and_say_directions_in_words(width: int) -> None:
    source = "We would have met 12 people, of course, on 3 May 2021 in an extraordinarily long sentence."
    target = "Wir hätten am 3. Mai 2021 natürlich 12 Menschen in einem außerordentlich langen Satz getroffen 🎉."
    found = lines(source, target, width)
    assert max(cell_len(line) for line in found) <= width
    text = "\n".join(found)
    for word in ("towards  ", "machine", "human", "raises", "lowers", "typical pair", "token ← source", "by n-gram"):
        assert word in text
    for name in ("ai_probability", "quality"):
        assert f"{name} 0." in text


def test_the_strongest_come_first_and_all_are_in_json() -> None:
    target = "Das Haus am Hang hinter der alten Mühle gehört seit vielen Jahren einer sehr reichen Familie."
    explanation = explain_pair("The house on the slope is red.", target, "en", "de", SETTINGS)
    assert explanation.attribution is not None
    found = list(attribution_lines(explanation.attribution, lambda text, **_: text, 80))
    start = next(number for number, line in enumerate(found) if "token ← source" in line) + 1
    shown = [float(line.split()[0]) for line in found[start : start + 8]]
    assert shown == sorted(shown)
    value = explanation.to_json()["attribution"]
    assert len(value["tokens"]["target"]) == 17
    assert len(value["ngrams"]["ngrams"]) > 100
    assert json.loads(json.dumps(value)) == json.loads(json.dumps(value, ensure_ascii=False))


def test_right_to_left_tokens_are_kept_apart_and_controls_are_escaped() -> None:
    assert any("\u2068מזג\u2069" in line for line in lines("The weather is fine.", "מזג האוויר נאה.", None, "he"))
    evil = "Haus \x1b[31m \u202e rot\u2028."
    text = "\n".join(lines("The house is red.", evil, None))
    assert not any(character in text for character in "\x1b\u202e\u2028")
    assert plain(evil) == "Haus \\x1b[31m \\u202e rot\\u2028."
    assert plain("é" * 1001, 1000) == "é" * 1000 + "… (1,001 code points)"


def test_the_megabyte_of_a_side_is_not_printed(tmp_path: Path) -> None:
    line = "The house is red. " * 40_000 + "\t" + "Das Haus ist rot. " * 15_000
    (tmp_path / "long.tsv").write_text(line + "\n", encoding="utf-8")
    score_files([str(tmp_path / "long.tsv")], str(tmp_path / "out.parquet"), ScoreOptions())
    result = run(str(tmp_path / "out.parquet"), "--row", "1")
    assert result.exit_code == 0
    assert len(result.output) < 20_000
    assert "(720,000 code points)" in result.output
    assert "the table looks at 96 of the target's 75,000 tokens" in result.output


def test_empty_sides_are_explained() -> None:
    for source, target in (("", ""), ("A house.", ""), ("", "Ein Haus.")):
        result = run("--source", source, "--target", target)
        assert result.exit_code == 0
        assert "a side has no words" in result.output


def test_scoring_a_pair_loads_the_models_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[ScorerSettings] = []
    load = ScorerSettings.load

    def counted(settings: ScorerSettings) -> Scorer | None:
        loads.append(settings)
        return load(settings)

    monkeypatch.setattr(ScorerSettings, "load", counted)
    assert explain_pair("A house.", "Ein Haus.", "en", "de", SETTINGS).attribution is not None
    assert loads == [SETTINGS]
