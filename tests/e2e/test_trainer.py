"""trainer-cli as a person uses it: train, evaluate, translate, average, export; and its errors, each in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from bisift.trainer.cli import cli
from bisift.trainer.evaluation import bleu, compare
from tests.ranked import clean, write_ranked

CONFIG = """
model: {size: tiny, layers: 1, width: 32, inner: 64, dropout: 0.0}
vocabulary: {size: 330}
optimizer: {learning_rate: 8e-3, warmup: 20, schedule: cosine}
batch_tokens: 600
max_length: 100
pool: 20
updates: 60
save_every: 20
log_every: 20
precision: fp32
threads: 1
device: cpu
"""


def run(*arguments: str | Path, **settings: Any) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model beside its data."""
    made = tmp_path_factory.mktemp("trainer")
    texts = clean(240)
    write_ranked(made / "ranked", texts)
    (made / "run.yaml").write_text(CONFIG)
    (made / "test.src").write_text("".join(f"{source}\n" for source, _ in texts[:12]))
    (made / "test.ref").write_text("".join(f"{target}\n" for _, target in texts[:12]))
    result = run("train", made / "run.yaml", f"data={made}/ranked", f"output={made}/run", "--json")
    assert result.exit_code == 0, result.output
    (made / "result.json").write_text(result.stdout)
    return made


def best(folder: Path) -> Path:
    return folder / "run" / "checkpoints" / "update-00000060.pt"


def test_train_reports_what_it_did(folder: Path) -> None:
    found = json.loads((folder / "result.json").read_text())
    assert (found["updates"], found["stopped"], found["precision"]) == (60, False, "fp32")
    assert found["checkpoint"] == str(best(folder))
    assert found["loss"] < 5
    again = run("train", folder / "run.yaml", f"data={folder}/ranked", f"output={folder}/run")
    assert again.exit_code == 0
    assert "goes on after update 60" in again.stderr
    assert "trained 0 updates to 60" in again.stderr


def test_translate_and_evaluate_agree(folder: Path) -> None:
    out = folder / "out.txt"
    result = run("translate", best(folder), "-i", folder / "test.src", "-o", out, "--threads", "1", "--beam", "2")
    assert result.exit_code == 0, result.output
    hypotheses = out.read_text().split("\n")[:-1]
    assert len(hypotheses) == 12
    options = ("--reference", folder / "test.ref", "--json", "--beam", "2", "--threads", "1")
    scored = run("evaluate", best(folder), "--source", folder / "test.src", *options)
    assert scored.exit_code == 0, scored.output
    found = json.loads(scored.stdout)["systems"][str(best(folder))]
    references = (folder / "test.ref").read_text().split("\n")[:-1]
    assert found["BLEU"]["score"] == pytest.approx(bleu(hypotheses, references))
    assert found["chrF2"]["score"] == pytest.approx(compare({"a": hypotheses}, references)["a"][1].score)
    assert found["BLEU"]["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    table = run(
        "evaluate", "--system", f"a={out}", "--system", f"b={folder}/test.ref", *options[:2], "--resamples", "50"
    )
    assert table.exit_code == 0, table.output
    assert "BLEU 100.00" in table.stdout
    assert "(p = " in table.stdout
    assert "tok:13a" in table.stdout


def test_systems_are_told_apart(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "run" / "checkpoints" / best(folder).name
    other.parent.mkdir(parents=True)
    shutil.copyfile(best(folder), other)
    (tmp_path / "long.src").write_text("x" * 1100 + "\n" + "The cat.\n" * 11)
    options = ("--source", tmp_path / "long.src", "--reference", folder / "test.ref", "--max-ratio", "0", "--beam", "1")
    system = f"a/b/c/d={folder}/test.ref"
    result = run("evaluate", best(folder), other, "--system", system, *options, "--resamples", "9", "--threads", "1")
    assert result.exit_code == 0, result.output
    rows = [line.split("  ")[0] for line in result.stdout.splitlines()[:3]]
    assert rows[0] == "a/b/c/d (baseline)"
    assert rows[1] != rows[2]
    assert all(str(path).endswith(row) for path, row in zip((best(folder), other), rows[1:], strict=True))
    assert result.stderr.count("warning: 1 segments were cut after 1,024 pieces") == 2


def test_help_names_all_choices() -> None:
    from bisift.trainer.evaluation import TOKENIZERS
    from bisift.trainer.export import QUANTIZATIONS

    for command, option, choices in (
        ("evaluate", "tokenize", TOKENIZERS),
        ("export", "quantization", QUANTIZATIONS),
    ):
        (found,) = (one for one in cli.commands[command].params if one.name == option)
        assert isinstance(found, click.Option)
        assert str(found.help).endswith(f": {', '.join(choices)}.")


def test_stdin_to_stdout(folder: Path) -> None:
    result = run("translate", best(folder), "--beam", "1", "--threads", "1", input="The cat sees.\n\nשלום\n")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 3
    assert result.stdout.split("\n")[1] == ""


def test_samples_and_minimum_risk(folder: Path) -> None:
    arguments = ("translate", best(folder), "-i", folder / "test.src", "--threads", "1", "--samples", "4")
    many, again = run(*arguments), run(*arguments)
    assert many.exit_code == 0, many.output
    assert many.stdout == again.stdout
    assert many.stdout.count("\n") == 48
    one = run(*arguments, "--mbr")
    assert one.stdout.count("\n") == 12
    assert set(one.stdout.split("\n")) <= set(many.stdout.split("\n"))


def test_average_and_fine_tune(folder: Path, tmp_path: Path) -> None:
    result = run("average", folder / "run", "--last", "2", "-o", tmp_path / "mean.pt")
    assert result.exit_code == 0, result.output
    assert "averaged 2 checkpoints" in result.stderr
    assert run("translate", tmp_path / "mean.pt", "--threads", "1", input="The cat.\n").exit_code == 0
    settings = (f"data={folder}/ranked", f"output={tmp_path}/tuned", "updates=2", "log_every=1")
    tuned = run("train", folder / "run.yaml", *settings, "--init-from", tmp_path / "mean.pt")
    assert tuned.exit_code == 0, tuned.output
    events = [json.loads(line) for line in (tmp_path / "tuned" / "log.jsonl").read_text().splitlines()]
    assert events[0]["loss"] < json.loads((folder / "result.json").read_text())["loss"] + 0.5


@pytest.mark.parametrize("tag", [-1, 3])
def test_an_export_names_the_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: int) -> None:
    from bisift.trainer.checkpoint import Checkpoint
    from bisift.trainer.export import export

    monkeypatch.setattr("bisift.trainer.export._to_onnx", lambda *_: None)
    export(Checkpoint(config={}, vocabulary=b"", weights={}, state={"tag": tag}), tmp_path / "made", to="onnx")
    found = [json.loads(path.read_text()) for path in (tmp_path / "made").glob("tag.json")]
    assert found == ([] if tag < 0 else [{"piece": "<tag3>", "id": 7}])


def test_onnx_agrees_with_torch(folder: Path, tmp_path: Path) -> None:
    import numpy as np
    import onnxruntime
    import torch

    from bisift.trainer.checkpoint import Checkpoint
    from bisift.trainer.vocabulary import BOS, EOS, Vocabulary

    result = run("export", best(folder), "--to", "onnx", "-o", tmp_path / "onnx")
    assert result.exit_code == 0, result.output
    vocabulary = Vocabulary((tmp_path / "onnx" / "vocabulary.model").read_bytes())
    encoder, decoder = (onnxruntime.InferenceSession(tmp_path / "onnx" / f"{n}.onnx") for n in ("encoder", "decoder"))
    model = Checkpoint.load(best(folder)).model()
    for line in ("The cat.", "An old train paints 3 green apples number 7."):
        source = [[*vocabulary.encode([line])[0], EOS]] * 2
        target = [[BOS, *vocabulary.encode([line])[0]]] * 2
        memory, bias = encoder.run(None, {"source": np.array(source)})
        (found,) = decoder.run(None, {"target": np.array(target), "memory": memory, "bias": bias})
        with torch.inference_mode():
            hidden = model.decode(torch.tensor(target), *model.encode(torch.tensor(source)))
            expected = model.logits(hidden[:, -1]).log_softmax(-1).numpy()
        assert np.abs(found - expected).max() < 1e-4
    assert "exists; name another folder" in run("export", best(folder), "--to", "onnx", "-o", tmp_path / "onnx").stderr


def test_ctranslate2_agrees_with_torch(folder: Path, tmp_path: Path) -> None:
    import ctranslate2
    import torch

    from bisift.trainer.checkpoint import Checkpoint
    from bisift.trainer.vocabulary import BOS, EOS, Vocabulary

    result = run("export", best(folder), "--to", "ctranslate2", "-o", tmp_path / "ct2")
    assert result.exit_code == 0, result.output
    vocabulary = Vocabulary((tmp_path / "ct2" / "vocabulary.model").read_bytes())
    pieces = vocabulary.pieces()
    translator = ctranslate2.Translator(str(tmp_path / "ct2"), intra_threads=1)
    model = Checkpoint.load(best(folder)).model()
    sources, targets = (
        vocabulary.encode((folder / name).read_text().split("\n")[:-1]) for name in ("test.src", "test.ref")
    )
    scored = translator.score_batch(
        [[pieces[piece] for piece in row] for row in sources], [[pieces[piece] for piece in row] for row in targets]
    )
    for source, target, found in zip(sources, targets, scored, strict=True):
        with torch.inference_mode():
            hidden = model.decode(torch.tensor([[BOS, *target]]), *model.encode(torch.tensor([[*source, EOS]])))
            each = model.logits(hidden[0]).log_softmax(-1).gather(1, torch.tensor([*target, EOS])[:, None])
        assert found.log_probs == pytest.approx(each[:, 0].tolist(), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "none.yaml"), 2, "none.yaml: No such file or directory"),
        (("train", "{folder}/run.yaml", "data=x"), 2, "missing output"),
        (
            ("train", "{folder}/run.yaml", "data=x", "output=y", "updats=3"),
            2,
            "unknown key 'updats'; did you mean 'updates'",
        ),
        (("train", "{folder}/run.yaml", "data={folder}/nowhere", "output={tmp}/o"), 1, "manifest.json: No such file"),
        (("translate", "none.pt", "-i", "{folder}/test.src"), 1, "none.pt: No such file or directory"),
        (("translate", "{folder}/run.yaml"), 1, "not a checkpoint of trainer-cli, or damaged"),
        (("translate", "{folder}/run"), 1, "name a file in its checkpoints/, such as best.pt"),
        (("export", "{folder}/run", "--to", "onnx", "-o", "{tmp}/x"), 1, "name a file in its checkpoints/"),
        (("translate", "{best}", "--max-ratio", "nan"), 2, "max_ratio nan: must be from 0"),
        (("translate", "{best}", "--mbr"), 2, "give --samples N, too"),
        (("translate", "{best}", "--temperature", "0.5"), 2, "--temperature is about samples"),
        (("translate", "{best}", "--epsilon", "0.02"), 2, "--epsilon is about samples"),
        (("translate", "{best}", "--seed", "1"), 2, "--seed is about samples"),
        (("translate", "{best}", "--samples", "2", "--seed", "-1"), 2, "-1 is not in the range"),
        (("translate", "{best}", "--samples", "2", "--seed", "99999999999999999999"), 2, "is not in the range"),
        (("evaluate", "--reference", "{folder}/test.ref"), 2, "give a checkpoint, or --system"),
        (("evaluate", "{best}", "--reference", "{folder}/test.ref"), 2, "a checkpoint needs --source"),
        (("evaluate", "--reference", "x", "--system", "x"), 2, "is not NAME=FILE"),
        (("evaluate", "--reference", "x", "--system", "a=x", "--source", "x"), 2, "--source is for checkpoints"),
        (("evaluate", "--reference", "x", "--system", "a=x", "--system", "a=y"), 2, "'a' stands for two systems"),
        (("evaluate", "--reference", "x", "--source", "x", "a.pt", "a.pt"), 2, "'a.pt' stands for two systems"),
        (("evaluate", "--reference", "x", "--source", "x", "--system", "a=x", "a"), 2, "'a' stands for two systems"),
        (("evaluate", "--reference", "-", "--source", "-", "a.pt"), 2, "only one of them can be stdin"),
        (("evaluate", "--reference", "-", "--system", "a=-"), 2, "only one of them can be stdin"),
        (
            ("evaluate", "--reference", "{folder}/test.ref", "--system", "a={folder}/run.yaml"),
            1,
            "they must be parallel",
        ),
        (("average", "{folder}", "-o", "{tmp}/x.pt"), 2, "holds no checkpoints"),
        (("average", "{best}", "-o", "{tmp}"), 2, "is a folder: name a file"),
        (("average", "{best}", "-o", "{best}/x.pt"), 1, "x.pt: the average could not be written: File exists"),
        (("average", "{best}", "-o", "{folder}/run/checkpoints/best.pt"), 2, "name another file"),
        (("average", "{best}", "-o", "{folder}/run/checkpoints/update-00000099.pt"), 2, "name another file"),
        (
            ("export", "{best}", "--to", "onnx", "--quantization", "int8", "-o", "{tmp}/x"),
            2,
            "onnx has no quantization",
        ),
    ],
)
def test_errors_are_one_line(folder: Path, tmp_path: Path, arguments: Any, code: int, message: str) -> None:
    places = {"folder": folder, "tmp": tmp_path, "best": best(folder)}
    result = run(*(argument.format(**places) for argument in arguments), input="")
    assert result.exit_code == code, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in result.stderr


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom bisift.trainer.cli import cli\n"
        "for name in cli.commands:\n    assert CliRunner().invoke(cli, [name, '--help']).exit_code == 0\n"
        "print(sorted({'torch', 'sacrebleu', 'sentencepiece', 'pyarrow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
