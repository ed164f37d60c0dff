"""The training loop: it goes on to the bit, stops where it must, and says what to do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bisift.errors import BisiftError, ConfigError, InputError, ModelError
from bisift.trainer.checkpoint import Checkpoint, Folder, average
from bisift.trainer.config import TrainConfig, from_values, load_config
from bisift.trainer.loop import TrainResult, train
from bisift.trainer.model import Transformer
from tests.ranked import clean, write_ranked
from tests.training import TINY, losses, run, same, values, weights, write_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("loop"))


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "average and weights": {"optimizer": {"warmup": 4, "ema": 0.9}, "weights": {"by": "combined"}},
    "curriculum and tags": {
        "curriculum": {"name": "competence", "epochs": 1.0},
        "tags": {"by": "quality"},
        "keep_human": True,
    },
    "rdrop in bf16": {"loss": {"rdrop": 1.0}, "precision": "bf16", "workers": 1},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_was_stopped_goes_on_to_the_bit(data: Path, tmp_path: Path, name: str) -> None:
    whole = run(data, tmp_path / "whole", **VARIANTS[name])
    run(data, tmp_path / "parts", **VARIANTS[name] | {"updates": 3})
    run(data, tmp_path / "parts", **VARIANTS[name] | {"updates": 7})
    parts = run(data, tmp_path / "parts", **VARIANTS[name])
    assert (whole.resumed_at, parts.resumed_at, parts.updates) == (0, 7, 12)
    assert parts.target_tokens == whole.target_tokens
    assert same(whole, parts)
    if name == "plain":
        assert not same(whole, run(data, tmp_path / "other", seed=2))


def test_the_loss_falls_and_the_log_says_what_happened(data: Path, tmp_path: Path, capfd: Any) -> None:
    result = run(data, tmp_path / "out", updates=40, log_every=10)
    curve = losses(tmp_path / "out")
    assert [update for update, _ in curve] == [10, 20, 30, 40]
    assert curve[0][1] > curve[-1][1] + 0.5
    assert result.loss == curve[-1][1]
    assert curve[0][1] < math.log(330) + 0.5
    said = capfd.readouterr().err
    assert "300 pairs, order quality; shuffled" in said
    assert "precision fp32: as configured" in said
    assert "tokens/s  MFU" in said
    assert Folder(tmp_path / "out", 5).latest() == Path(result.checkpoint)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["updates"] == 40


def test_tensorboard_has_the_curve_of_the_log(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(data, tmp_path / "out", updates=3, log_every=1, tensorboard=True)
    run(data, tmp_path / "out", updates=5, log_every=1, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    found = [(one.step, one.value) for one in events.Scalars("loss")]
    assert [step for step, _ in found] == [1, 2, 3, 4, 5]
    assert [value for _, value in found] == pytest.approx([value for _, value in losses(tmp_path / "out")])


def test_micro_batches_are_one_update(data: Path, tmp_path: Path) -> None:
    plain: dict[str, Any] = {"model": TINY | {"dropout": 0.0}, "updates": 1, "save_every": 1}
    result = run(data, tmp_path / "a", **plain)
    config = from_values(values(data, tmp_path / "b", **plain), "test")
    assert config.micro_batches == 2
    assert len(losses(tmp_path / "a")) == 1
    assert result.target_tokens <= 300
    assert result.target_tokens > 200


def test_another_configuration_is_refused_and_restart_replaces(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "out", updates=2)
    with pytest.raises(ConfigError, match=r"another configuration \(seed\); give another output, or --restart"):
        run(data, tmp_path / "out", updates=2, seed=9)
    again = run(data, tmp_path / "out", updates=3, seed=9, restart=True)
    assert (again.resumed_at, again.updates) == (0, 3)
    finished = run(data, tmp_path / "out", updates=3, seed=9)
    assert (finished.resumed_at, finished.updates) == (3, 3)


def test_a_run_goes_on_with_its_own_pairs_alone(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "out", updates=2)
    write_ranked(tmp_path / "ranked", clean(290))
    moved = values(data, tmp_path / "out") | {"data": str(tmp_path / "ranked")}
    with pytest.raises(ConfigError, match="its pairs are not those that the run in"):
        train(from_values(moved, "test"))
    write_ranked(tmp_path / "ranked", clean(300))
    assert train(from_values(moved, "test")).resumed_at == 2


def test_only_the_latest_checkpoints_are_kept_and_the_best_one(data: Path, tmp_path: Path) -> None:
    validation = {"source": str(data / "val.src"), "reference": str(data / "val.ref"), "every": 4, "limit": 4}
    result = run(data, tmp_path / "out", updates=14, save_every=2, keep=2, validation=validation)
    names = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert names == ["best.pt", "update-00000012.pt", "update-00000014.pt"]
    best = Checkpoint.load(tmp_path / "out" / "checkpoints" / "best.pt")
    assert best.state["update"] == result.best_update
    assert result.best_bleu is not None


def test_training_stops_when_bleu_no_longer_rises(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    monkeypatch.setattr("bisift.trainer.loop.bleu", lambda *_: next(scores))
    validation = {"source": str(data / "val.src"), "reference": str(data / "val.ref"), "every": 1, "patience": 2}
    result = run(data, tmp_path / "out", validation=validation | {"limit": 1})
    assert (result.stopped, result.updates, result.best_bleu, result.best_update) == (True, 4, 3.0, 2)
    again = run(data, tmp_path / "out", validation=validation | {"limit": 1})
    assert (again.stopped, again.updates) == (True, 4)


def test_a_loss_that_is_no_number_stops_and_names_the_batch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Transformer.forward
    seen: list[list[int]] = []

    def broken(self: Transformer, batch: Any, loss: Any) -> Any:
        seen.append(batch.row_B.tolist())
        value, likelihood = plain(self, batch, loss)
        return (value * math.nan if len(seen) == 14 else value), likelihood

    monkeypatch.setattr(Transformer, "forward", broken)
    with pytest.raises(
        BisiftError, match=r"no number in update 7 .*the last checkpoint is .*update-00000005\.pt"
    ) as error:
        run(data, tmp_path / "out")
    assert any(f"{row:,}" in str(error.value) for row in seen[13][:3])
    assert Folder(tmp_path / "out", 5).latest() == tmp_path / "out" / "checkpoints" / "update-00000005.pt"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_runs_out_says_what_to_lower(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Transformer, "forward", fail)
    with pytest.raises(BisiftError, match=r"out of memory in update 1 \(\d+ pairs of up to .*raise micro_batches"):
        run(data, tmp_path / "out")


def test_fine_tuning_begins_with_weights_and_vocabulary(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "first")
    tuned = run(data, tmp_path / "tuned", init_from=first.checkpoint, updates=1, optimizer={"learning_rate": 1e-9})
    for name, tensor in weights(tuned).items():
        torch.testing.assert_close(tensor, weights(first)[name], rtol=0, atol=1e-6)
    assert Checkpoint.load(tuned.checkpoint).vocabulary == Checkpoint.load(first.checkpoint).vocabulary
    with pytest.raises(ModelError, match=r"330 pieces and vocabulary\.size is 340: set vocabulary\.size=330"):
        run(data, tmp_path / "x", init_from=first.checkpoint, vocabulary={"size": 340})
    with pytest.raises(ModelError, match=r"its model has .*; wanted: .* width=64"):
        run(data, tmp_path / "y", init_from=first.checkpoint, model=TINY | {"width": 64})
    with pytest.raises(InputError, match="No such file"):
        run(data, tmp_path / "z", init_from=str(tmp_path / "none.pt"))


def test_averaging_is_the_mean_of_one_run(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "out")
    paths = Folder(tmp_path / "out", 5).all()
    mean = average(paths)
    each = [Checkpoint.load(path).weights for path in paths]
    for name, tensor in mean.weights.items():
        torch.testing.assert_close(tensor, sum(one[name] for one in each) / len(each))
    mean.save(tmp_path / "mean.pt")
    assert Checkpoint.load(tmp_path / "mean.pt").model().width == 32
    other = run(data, tmp_path / "other", vocabulary={"size": 340}, updates=1)
    with pytest.raises(ModelError, match="has another vocabulary"):
        average([paths[0], other.checkpoint])
    with pytest.raises(ConfigError, match="no checkpoints"):
        average([])


def test_a_damaged_checkpoint_is_one_line(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", updates=1)
    path = Path(result.checkpoint)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="not a checkpoint of trainer-cli, or damaged"):
        run(data, tmp_path / "out")
    torch.save({"weights": 1}, tmp_path / "foreign.pt")
    with pytest.raises(ModelError, match="or of another version"):
        Checkpoint.load(tmp_path / "foreign.pt")


def test_a_stream_is_followed_from_checkpoint_to_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ranked(tmp_path / "a", clean(120))
    write_ranked(tmp_path / "b", clean(120, seed=9))
    current = tmp_path / "current.json"
    current.write_text('{"windows": ["a"]}')
    saved = Folder.save

    def grow(self: Folder, checkpoint: Checkpoint, update: int) -> Path:
        if update == 4:
            current.write_text('{"windows": ["a", "b"]}')
        return saved(self, checkpoint, update)

    monkeypatch.setattr(Folder, "save", grow)

    def follow(output: Path, updates: int) -> TrainResult:
        chosen = values(tmp_path, output, follow=True, save_every=2, updates=updates)
        return train(from_values(chosen | {"data": str(tmp_path)}, "test"))

    whole = follow(tmp_path / "whole", 10)
    state = Checkpoint.load(whole.checkpoint).state
    assert [Path(folder).name for folder in state["folders"]] == ["a", "b"]
    current.write_text('{"windows": ["a"]}')
    follow(tmp_path / "parts", 6)
    parts = follow(tmp_path / "parts", 10)
    assert parts.resumed_at == 6
    assert same(whole, parts)


def test_bad_validation_files(data: Path, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("one\n")
    (tmp_path / "latin").write_bytes(b"ok\ncaf\xe9\n")
    source = str(data / "val.src")
    with pytest.raises(InputError, match=r"short: has 1 lines and .*val\.src has 8: they must be parallel"):
        run(data, tmp_path / "out", validation={"source": source, "reference": str(tmp_path / "short")})
    with pytest.raises(InputError, match=r"latin: row 2: not valid UTF-8"):
        run(data, tmp_path / "out", validation={"source": source, "reference": str(tmp_path / "latin")})


def test_configuration_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: ranked\noutput: out\noptimizer:\n  learning_rate: 1e-3\n")
    config = load_config(str(path), ["model.size=tiny", "optimizer.warmup=7", "curriculum={name: ordered, stages: 3}"])
    assert (config.optimizer.learning_rate, config.optimizer.warmup, config.model.size) == (1e-3, 7, "tiny")
    assert config.curriculum.name == "ordered"
    assert from_values(json.loads(json.dumps(config.to_json())), "again") == config
    for override, message in {
        "modle.size=tiny": "unknown key 'modle'; did you mean 'model'",
        "model.sise=tiny": "unknown key 'sise'; did you mean 'size'",
        "updates=many": "updates: expected int, got 'many'",
        "updates=0": r"run\.yaml: updates 0: a number of at least 1",
        "updates": "expected KEY=VALUE",
        "updates=[": "not a YAML value",
        "data.x=1": "data is no mapping",
        "model=3": "model: expected a mapping",
        "model={1: 2}": "model: unknown key 1; known: size",
        "model={size: tiny, size: big}": "not a YAML value: key 'size' is given twice",
        "data=": "run.yaml: data: expected str, got None",
        "data=''": r"run\.yaml: data is empty: name a folder",
        "output=''": "output is empty: name a folder",
        "max_length=1": "max_length 1: a number of at least 2",
        "workers=-1": "workers -1: a number of at least 0",
        "batch_tokens=100": r"run\.yaml: a micro-batch of 100 tokens cannot hold a pair of max_length 256",
        "sharding=zero": "ddp or fsdp",
        "precision=fp16": "one of auto, fp32, bf16",
        "threads=0": "threads 0",
        "device=tpu": None,
        "seed=-1": "seed -1: from 0",
        "curriculum={name: ordered, stages: 0}": r"run\.yaml: curriculum: ordered: stages 0",
        "loss.smoothing=1": "smoothing 1.0",
        "optimizer.ema=1": "below 1",
        "tags.by=length": "by 'length'",
        "weights.power=0": "power 0.0",
        "validation={source: a, reference: b, every: 0}": r"run\.yaml: validation: every 0: a number of at least 1",
        "validation={source: a, reference: b, beam: 0}": "validation: beam 0: a number of at least 1",
        "validation={source: a, reference: b, limit: 0}": "validation: limit 0: a number of at least 1",
        "validation={source: a, reference: b, patience: -1}": "validation: patience -1: a number of at least 0",
    }.items():
        if message is None:
            continue
        with pytest.raises(ConfigError, match=message):
            load_config(str(path), [override])
    path.write_text("data: ranked\nmodel:\n  size: tiny\n  size: big\n")
    with pytest.raises(ConfigError, match=r"key 'size' is given twice in \".*run\.yaml\", line 4"):
        load_config(str(path))
    path.write_text("model: &m {size: tiny}\nloss: {<<: *m, size: big}\n")  # a merged key may be given again
    with pytest.raises(ConfigError, match="loss: unknown key 'size'"):
        load_config(str(path))
    with pytest.raises(ConfigError, match="missing data, output"):
        from_values({}, "empty.yaml")


def test_what_a_resumed_run_may_change() -> None:
    base = TrainConfig(data="a", output="b")
    assert base.identity == TrainConfig(data="c", output="d", workers=3, updates=5, keep=1).identity
    assert base.identity != TrainConfig(data="a", output="b", batch_tokens=8_192).identity
    staged = [
        {"name": "staged", "bands": [one], "stages": [{"epochs": one, "shares": [one]}]} for one in (1, 1.0, "1e0")
    ]
    values = [{"data": "a", "output": "b", "curriculum": curriculum} for curriculum in staged]
    assert len({from_values(one, "test").identity for one in values}) == 1


def test_a_device_that_is_not_there(data: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="no usable GPU here"):
        run(data, tmp_path / "out", device="cuda")
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        run(data, tmp_path / "out", device="tpu")


@pytest.mark.parametrize("path", sorted((ROOT / "trainer" / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_complete_but_for_their_places(path: Path) -> None:
    config = load_config(str(path), ["data=ranked", "output=run"])
    assert config.validation is not None
    assert config.keep * config.save_every <= config.updates
    text = path.read_text()
    assert f"trainer-cli train {path.name} data=" in text
