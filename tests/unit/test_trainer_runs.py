"""Runs that are begun anew, gone on with, or damaged: nothing is lost, and each refusal says why."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bisift.errors import BisiftError, ConfigError, InputError, ModelError
from bisift.trainer.checkpoint import Checkpoint, Folder, average
from bisift.trainer.config import TrainConfig, from_values
from bisift.trainer.distributed import Group
from bisift.trainer.loop import train
from bisift.trainer.optimizer import OptimizerConfig
from tests.ranked import clean, write_ranked
from tests.training import TINY, run, same, values, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("runs"))


def checkpoints(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "checkpoints").iterdir())


def events(output: Path, kind: str) -> list[dict[str, Any]]:
    found = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [event for event in found if event["event"] == kind]


def validation(data: Path, **settings: Any) -> dict[str, Any]:
    return {"source": str(data / "val.src"), "reference": str(data / "val.ref"), "limit": 1, **settings}


def test_a_restart_that_cannot_begin_removes_nothing(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "out", updates=2)
    (tmp_path / "out" / "checkpoints" / "mine.pt").touch()
    kept = checkpoints(tmp_path / "out")
    broken: list[tuple[dict[str, Any], type[BisiftError]]] = [
        ({"data": str(tmp_path / "none")}, InputError),
        ({"validation": validation(data, reference=str(tmp_path / "none"))}, InputError),
        ({"init_from": str(tmp_path / "none.pt")}, InputError),
        ({"init_from": first.checkpoint, "vocabulary": {"size": 340}}, ModelError),
        ({"vocabulary": {"size": 100_000}}, InputError),
    ]
    for settings, kind in broken:
        with pytest.raises(kind):
            train(from_values(values(data, tmp_path / "out") | settings, "test"), restart=True)
        assert checkpoints(tmp_path / "out") == kept
        assert events(tmp_path / "out", "train")
    again = run(data, tmp_path / "out", restart=True, init_from=first.checkpoint, updates=1)
    assert (again.resumed_at, again.updates) == (0, 1)
    assert checkpoints(tmp_path / "out") == ["mine.pt", "update-00000001.pt"]


def test_a_refusal_names_what_differs(data: Path, tmp_path: Path) -> None:
    first = run(data, tmp_path / "first", updates=1)
    run(data, tmp_path / "out", updates=2, init_from=first.checkpoint)
    with pytest.raises(ConfigError, match=r"another configuration \(init_from, seed\); give another output"):
        run(data, tmp_path / "out", updates=2, seed=9)


def test_a_cosine_ends_where_it_was_begun_to(data: Path, tmp_path: Path) -> None:
    cosine = OptimizerConfig(schedule="cosine", warmup=0)
    assert cosine.rate(1, 1) > 0
    base = TrainConfig(data="a", output="b", optimizer=cosine)
    longer = TrainConfig(data="a", output="b", optimizer=cosine, updates=20_000)
    assert base.identity != longer.identity
    assert longer.differing(base.to_json()) == ["updates"]


def test_a_damaged_checkpoint_is_found_and_the_one_before_named(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", updates=6)
    path = Path(result.checkpoint)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ModelError, match=r"00006\.pt: not a .*damaged: remove it to go on from update-00000005\.pt"):
        run(data, tmp_path / "out")
    path.unlink()
    assert run(data, tmp_path / "out").resumed_at == 5
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="damaged"):
        Checkpoint.load(path)


def test_the_best_checkpoint_is_there_after_a_kill_before_its_copy(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", updates=3, validation=validation(data, every=3))
    best = tmp_path / "out" / "checkpoints" / "best.pt"
    best.unlink()
    run(data, tmp_path / "out", updates=3, validation=validation(data, every=3))
    assert best.read_bytes() == Path(result.checkpoint).read_bytes()


def test_the_best_of_another_validation_set_counts_no_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([50.0, 10.0])
    monkeypatch.setattr("bisift.trainer.loop.bleu", lambda *_: next(scores))
    run(data, tmp_path / "out", updates=2, validation=validation(data, every=2))
    other = run(data, tmp_path / "out", updates=4, validation=validation(data, every=2, limit=2))
    assert (other.best_bleu, other.best_update) == (10.0, 4)


def test_a_stop_between_two_log_lines_is_logged(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisift.trainer.loop.bleu", lambda *_: 1.0)
    chosen = validation(data, every=1, patience=2)
    result = run(data, tmp_path / "out", validation=chosen, log_every=100)
    assert (result.stopped, result.updates) == (True, 3)
    (event,) = events(tmp_path / "out", "train")
    assert (event["update"], event["loss"]) == (3, result.loss)
    assert run(data, tmp_path / "out", validation=chosen, log_every=100).loss is None


def test_the_rate_leaves_the_time_of_saving_out(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, late = time.perf_counter, [0.0]

    def passes(self: Folder, checkpoint: Checkpoint, update: int) -> Path:
        late[0] += 1000
        return self.path / "none"

    monkeypatch.setattr(Folder, "save", passes)
    monkeypatch.setattr(Folder, "latest", lambda self: None)
    monkeypatch.setattr("bisift.trainer.loop.time.perf_counter", lambda: clock() + late[0])
    run(data, tmp_path / "out", updates=10, log_every=10, save_every=3)
    (event,) = events(tmp_path / "out", "train")
    assert 0 < event["seconds_per_update"] < 100


def test_the_likelihood_is_that_of_a_token_whatever_it_weighs(data: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"updates": 1, "log_every": 1, "model": TINY | {"dropout": 0.0}}
    run(data, tmp_path / "plain", **settings)
    run(data, tmp_path / "weighted", **settings, weights={"by": "quality", "power": 4.0, "least": 0.01})
    plain, weighted = (events(tmp_path / name, "train")[0] for name in ("plain", "weighted"))
    assert weighted["nll"] == pytest.approx(plain["nll"], rel=1e-5)


def test_two_passes_are_twice_the_work(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def kept(self: Group, values: Any) -> Any:
        seen.append(values.clone())
        return values

    monkeypatch.setattr(Group, "sum", kept)
    for rdrop in (0.0, 1.0):
        run(data, tmp_path / str(rdrop), updates=1, log_every=1, loss={"rdrop": rdrop})
    flops = [one.item() for one in seen if one.numel() == 1]
    assert flops[1] == 2 * flops[0]


@pytest.mark.parametrize("change", [{"positions": "rope"}, {"heads": 8}])
def test_models_that_compute_otherwise_do_not_mix(data: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    first = run(data, tmp_path / "first", updates=1)
    message = r"its model has model\.layers=1 width=32 inner=32 heads=\d positions=\w+; wanted: model\.layers=1 width"
    with pytest.raises(ModelError, match=message):
        run(data, tmp_path / "tuned", init_from=first.checkpoint, model=TINY | change)
    other = run(data, tmp_path / "other", updates=1, model=TINY | change)
    with pytest.raises(ModelError, match=message):
        average([first.checkpoint, other.checkpoint])


def test_checkpoints_of_other_tags_are_not_averaged(data: Path, tmp_path: Path) -> None:
    plain = run(data, tmp_path / "plain", updates=1)
    tagged = run(data, tmp_path / "tagged", updates=1, tags={"by": "quality"})
    with pytest.raises(ModelError, match="trained with other tags"):
        average([plain.checkpoint, tagged.checkpoint])


def test_bins_of_quality_stay_while_a_stream_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ranked(tmp_path / "a", clean(120))
    write_ranked(tmp_path / "b", clean(120, seed=9), quality=list(np.linspace(0.1, 0.0, 120)))
    current = tmp_path / "current.json"
    current.write_text('{"windows": ["a"]}')
    saved = Folder.save

    def grow(self: Folder, checkpoint: Checkpoint, update: int) -> Path:
        current.write_text('{"windows": ["a", "b"]}')
        return saved(self, checkpoint, update)

    monkeypatch.setattr(Folder, "save", grow)

    def follow(output: Path, updates: int) -> Any:
        chosen = values(tmp_path, output, follow=True, save_every=2, updates=updates, tags={"by": "quality"})
        return train(from_values(chosen | {"data": str(tmp_path)}, "test"))

    whole = follow(tmp_path / "whole", 8)
    current.write_text('{"windows": ["a"]}')
    follow(tmp_path / "parts", 6)
    assert same(whole, follow(tmp_path / "parts", 8))


def test_a_model_beyond_memory_is_one_line(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"memory is too small for it: lower model\.width"):
        run(data, tmp_path / "out", model=TINY | {"width": 4_000_000, "heads": 4})


def test_where_rank_0_fails_the_others_end_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    sent: list[Any] = []

    def agree(self: Group, value: Any) -> Any:
        sent.append(value)
        return sent[0]

    monkeypatch.setattr(Group, "agree", agree)

    def fail() -> int:
        raise InputError("no such file")

    with pytest.raises(InputError, match="no such file"):
        Group(0, 2, torch.device("cpu")).lead(fail)
    with pytest.raises(SystemExit, match="1"):
        Group(1, 2, torch.device("cpu")).lead(fail)
    sent.clear()
    assert Group(0, 2, torch.device("cpu")).lead(lambda: 7) == 7
    assert Group(1, 2, torch.device("cpu")).lead(fail) == 7
