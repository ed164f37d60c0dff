"""The network and its loss, against plain torch; dropout that can be drawn again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bisift.errors import ConfigError
from bisift.trainer.batches import MicroBatch
from bisift.trainer.dropout import Dropout, Masks
from bisift.trainer.losses import LossConfig, cross_entropy, rdrop
from bisift.trainer.model import SIZES, ModelConfig, Transformer, rotate
from bisift.trainer.optimizer import Average, OptimizerConfig
from bisift.trainer.precision import choose, rate
from bisift.trainer.vocabulary import BOS, EOS, PAD

V = 300
CPU = torch.device("cpu")


def model(positions: str = "sinusoidal", dropout: float = 0.0) -> Transformer:
    made = Transformer(
        ModelConfig(size="tiny", layers=2, width=32, inner=48, positions=positions, dropout=dropout), vocabulary=V
    )
    made.initialise(1)
    return made


def batch(seed: int = 1, weights: bool = False) -> MicroBatch:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(12, V, (3, 7), generator=generator)
    target = torch.randint(12, V, (3, 6), generator=generator)
    source[:, -1], target[:, 0], target[:, -1] = EOS, BOS, EOS
    source[1, 4], source[1, 5:] = EOS, PAD
    target[2, 3], target[2, 4:] = EOS, PAD
    real = (target[:, 1:] != PAD).reshape(-1).nonzero()[:, 0]
    weight = torch.rand(len(real), generator=generator) if weights else None
    return MicroBatch(source, target, real, weight, np.arange(3))


def plain_loss(made: Transformer, held: MicroBatch, smoothing: float) -> Tensor:
    """The loss as torch has it, on whole logits."""
    memory, bias = made.encode(held.source_BS)
    logits = made.logits(made.decode(held.target_BT[:, :-1], memory, bias)).view(-1, V)
    each = functional.cross_entropy(
        logits, held.target_BT[:, 1:].reshape(-1), ignore_index=PAD, label_smoothing=smoothing, reduction="none"
    )[held.real_M]
    return (each if held.weight_M is None else each * held.weight_M).sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [False, True])
def test_loss_and_gradients_are_those_of_torch(
    smoothing: float, weights: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisift.trainer.losses._CHUNK_LOGITS", 5 * V)  # several chunks, the last one shorter
    held = batch(weights=weights)
    ours, theirs = model(), model()
    loss, likelihood = ours(held, LossConfig(smoothing=smoothing))
    (loss * 0.01).backward()
    expected = plain_loss(theirs, held, smoothing)
    (expected * 0.01).backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = dataclasses.replace(held, weight_M=None)
    assert likelihood.item() == pytest.approx(plain_loss(theirs, plain, 0.0).item(), rel=1e-5)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None
        # The embedding of padding is kept out of torch's gradient by padding_idx, and by ours.
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_loss_in_bf16_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    held = batch()
    exact, _ = model()(held, LossConfig())
    with torch.autocast("cpu", torch.bfloat16):
        made = model()
        near, _ = made(held, LossConfig())
    near.backward()
    assert near.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in made.parameters())


def test_rdrop_is_the_mean_loss_and_the_divergence_of_two_passes() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other, weight = (torch.randn(shape, generator=generator) for shape in ((5, 8), (5, 8), (V, 8)))
    target = torch.randint(0, V, (5,), generator=generator)
    config = LossConfig(smoothing=0.1, rdrop=2.0)
    found, _ = rdrop(one, other, weight, target, None, config)
    p, q = ((hidden @ weight.t()).log_softmax(-1) for hidden in (one, other))
    divergence = sum(functional.kl_div(a, b, log_target=True, reduction="sum") for a, b in ((p, q), (q, p)))
    mean = sum(cross_entropy(hidden, weight, target, None, 0.1)[0] for hidden in (one, other)) / 2
    assert found.item() == pytest.approx(float(mean + 2.0 / 4 * divergence), rel=1e-5)
    same, _ = rdrop(one, one, weight, target, None, config)
    assert same.item() == pytest.approx(cross_entropy(one, weight, target, None, 0.1)[0].item(), rel=1e-6)


@pytest.mark.parametrize("positions", ["sinusoidal", "rope"])
def test_padding_changes_nothing_and_no_target_sees_what_follows(positions: str) -> None:
    made, held = model(positions), batch()
    memory, bias = made.encode(held.source_BS)
    hidden = made.decode(held.target_BT, memory, bias)
    alone, alone_bias = made.encode(held.source_BS[1:2, :5])
    torch.testing.assert_close(memory[1, :5], alone[0])
    torch.testing.assert_close(hidden[1], made.decode(held.target_BT[1:2], alone, alone_bias)[0])
    changed = held.target_BT.clone()
    changed[:, 3:] = 77
    torch.testing.assert_close(hidden[:, :3], made.decode(changed, memory, bias)[:, :3])
    assert not torch.allclose(hidden[:, 3:], made.decode(changed, memory, bias)[:, 3:])


@pytest.mark.parametrize("positions", ["sinusoidal", "rope"])
def test_positions_matter(positions: str) -> None:
    made = model(positions)
    forward, _ = made.encode(torch.tensor([[20, 30, 40, EOS]]))
    backward, _ = made.encode(torch.tensor([[40, 30, 20, EOS]]))
    assert not torch.allclose(forward[0, 1], backward[0, 1], atol=1e-3)


def test_rotations_keep_what_depends_on_distance_alone() -> None:
    rotary = model("rope").rotary
    assert rotary is not None
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    near = (rotate(q, rotary.angles(3, 1, CPU)) * rotate(k, rotary.angles(1, 1, CPU))).sum()
    far = (rotate(q, rotary.angles(103, 1, CPU)) * rotate(k, rotary.angles(101, 1, CPU))).sum()
    assert near.item() == pytest.approx(far.item(), abs=1e-4)


def test_attention_is_that_of_torch() -> None:
    attention = model().decoder_layers[0].attention
    q, k, v = (torch.randn(2, 4, 5, 8) for _ in range(3))
    bias = torch.zeros(2, 1, 1, 5).masked_fill(torch.rand(2, 1, 1, 5) < 0.3, -torch.inf)
    bias[..., 0] = 0
    expected = functional.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).reshape(2, 5, 32)
    torch.testing.assert_close(attention.attend(q, k, v, bias), attention.out(expected))


def test_masks_are_a_function_of_seed_update_and_batch() -> None:
    def draw(order: list[tuple[int, int]], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        masks = Masks(0.25)
        found = []
        for update, number in order:
            masks.begin(1, update, number, CPU)
            found = [masks.take(torch.Size(shape)).clone() for shape in shapes]
        return found

    shapes = [(30, 40), (2500, 1024), (30, 40)]
    alone = draw([(7, 1)], shapes)
    for one, other in zip(alone, draw([(501, 0), (6, 3), (7, 1)], shapes), strict=True):
        assert torch.equal(one, other)
    masks = Masks(0.25)  # a pool that had grown before gives the same factors as one that grows now
    masks.begin(1, 7, 0, CPU)
    masks.take(torch.Size((6000, 1024)))
    masks.begin(1, 7, 1, CPU)
    assert torch.equal(masks.take(torch.Size(shapes[0])), alone[0])
    assert not torch.equal(alone[0], alone[2])
    assert not torch.equal(alone[0], draw([(8, 1)], shapes)[0])
    assert torch.unique(alone[1]).tolist() == pytest.approx([0, 4 / 3])
    assert (alone[1] == 0).float().mean().item() == pytest.approx(0.25, abs=0.003)


def test_dropout_is_off_outside_of_training() -> None:
    layer, x = Dropout(Masks(0.5)), torch.ones(4)
    layer.masks.begin(1, 1, 0, CPU)
    assert layer.eval()(x) is x
    assert set(layer.train()(torch.ones(500)).unique().tolist()) == {0.0, 2.0}


def test_rates() -> None:
    steep = OptimizerConfig(learning_rate=0.1, warmup=10)
    assert [steep.rate(update, 100) for update in (1, 10, 40)] == pytest.approx([0.01, 0.1, 0.05])
    cosine = OptimizerConfig(learning_rate=0.1, warmup=0, schedule="cosine")
    assert [cosine.rate(update, 100) for update in (50, 100, 200)] == pytest.approx([0.05, 0, 0], abs=1e-3)
    assert OptimizerConfig(learning_rate=0.1, warmup=0, schedule="constant").rate(9, 10) == 0.1
    with pytest.raises(ConfigError, match="no schedule 'cosin'; did you mean 'cosine'"):
        OptimizerConfig(schedule="cosin").check()


def test_moving_average_follows_and_swaps_back() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    average = Average([weight], 0.9)
    for update in range(1, 200):
        with torch.no_grad():
            weight.fill_(1.0)
        average.update(update)
    assert average.weights[0].tolist() == pytest.approx([1, 1, 1], abs=1e-3)
    average.swap()
    average.swap()
    assert weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_the_published_ones(size: str) -> None:
    with torch.device("meta"):
        made = Transformer(ModelConfig(size=size), vocabulary=32_000)
    count = sum(parameter.numel() for parameter in made.parameters()) - 32_000 * made.width
    expected = {"tiny": 1.3e6, "small": 5.5e6, "base": 44.1e6, "big": 176e6}[size]
    assert count == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "larg"}, "no size 'larg'"),
        ({"positions": "ropes"}, "did you mean 'rope'"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"width": 100, "heads": 3}, "must be heads"),
        ({"layers": -1}, "model: layers -1: a number of at least 1"),
        ({"layers": 0}, "model: layers 0: a number of at least 1"),
        ({"heads": 0}, "model: heads 0: a number of at least 1"),
    ],
)
def test_a_wrong_model_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings).check()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["learning_rate", "epsilon", "clip", "weight_decay"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_wrong_optimizer_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"optimizer: {name} {value}: a number"):
        OptimizerConfig(**{name: value}).check()  # type: ignore[arg-type]


def test_auto_precision_looks_before_it_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose("auto", CPU)
    assert chosen.name in ("fp32", "bf16")
    assert chosen.peak > 1e8
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    plain = choose("auto", CPU)
    assert (plain.name, plain.reason) == ("fp32", "this CPU has neither AMX nor AVX512-BF16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr("bisift.trainer.precision.rate", lambda device, dtype: 2.0 if dtype == torch.bfloat16 else 1.0)
    assert choose("auto", CPU).name == "bf16"
    monkeypatch.setattr("bisift.trainer.precision.rate", lambda device, dtype: 1.0)
    assert choose("auto", CPU).name == "fp32"
    with pytest.raises(ConfigError, match="no precision 'fp16'"):
        choose("fp16", CPU)
    assert math.isfinite(rate(CPU, torch.float32, 64))
