"""Decoding, against an independent and slow implementation: one segment at a time, no cache, Python lists."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from bisift.errors import ConfigError
from bisift.trainer.decoding import MOST, NEVER, DecodeConfig, SampleConfig, Translator, beam_search, sample, top
from bisift.trainer.model import ModelConfig, Transformer
from bisift.trainer.permutation import uniform
from bisift.trainer.vocabulary import BOS, EOS, PAD, VocabularyConfig, train_vocabulary
from tests.ranked import clean

V = 330


def sharp(positions: str = "sinusoidal", scale: float = 4.0) -> Transformer:
    """An untrained network whose distributions are peaked enough to end some hypotheses early."""
    made = Transformer(ModelConfig(size="tiny", layers=2, width=32, inner=48, positions=positions, dropout=0.1), V)
    made.initialise(5)
    with torch.no_grad():
        for layer in made.decoder:
            for parameter in layer.parameters():
                parameter.mul_(1.5)
        made.norm_decoder.weight.mul_(scale)
        made.norm_decoder.bias.copy_(made.embedding.weight[EOS] * 2 * scale)
    return made.eval()


def log_probabilities(made: Transformer, source: list[int], prefix: list[int]) -> list[float]:
    """log p of each next piece, by a whole forward pass; pieces that are never written have none."""
    memory, bias = made.encode(torch.tensor([source]))
    logits = made.logits(made.decode(torch.tensor([prefix]), memory, bias)[0, -1])
    logits[NEVER] = -torch.inf
    return logits.log_softmax(-1).tolist()


def slow_greedy(made: Transformer, source: list[int], cap: int) -> list[int]:
    prefix = [BOS]
    while len(prefix) <= cap:
        row = log_probabilities(made, source, prefix)
        piece = max(range(V), key=row.__getitem__)
        if piece == EOS:
            break
        prefix.append(piece)
    return prefix[1:]


def slow_beam(made: Transformer, source: list[int], cap: int, beam: int, alpha: float) -> list[int]:
    def penalty(length: int) -> float:
        return math.pow(length, alpha)

    live: list[tuple[float, list[int]]] = [(0.0, [BOS])]
    ended: list[tuple[float, list[int]]] = []
    while True:
        found = []
        for score, prefix in live:
            row = log_probabilities(made, source, prefix)
            allowed = [EOS] if len(prefix) > cap else range(V)
            found += [(score + row[piece], [*prefix, piece]) for piece in allowed if row[piece] > -math.inf]
        found.sort(key=lambda one: -one[0])
        found = found[: 2 * beam]
        ended += [(score / penalty(len(p) - 1), p[1:-1]) for score, p in found[:beam] if p[-1] == EOS]
        live = [one for one in found if one[1][-1] != EOS][:beam]
        best = max(ended, default=(-math.inf, []), key=lambda one: one[0])
        if len(ended) >= beam or not live or live[0][0] / penalty(cap + 1) <= best[0]:
            return best[1]


def sources(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    return [
        [*torch.randint(12, V, (int(length),), generator=generator).tolist(), EOS]
        for length in torch.randint(1, 9, (count,), generator=generator)
    ]


def padded(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("positions", ["sinusoidal", "rope"])
def test_greedy_agrees_with_the_slow_one(positions: str) -> None:
    made, rows = sharp(positions), sources(12)
    caps = [len(row) + 3 for row in rows]
    expected = [slow_greedy(made, row, cap) for row, cap in zip(rows, caps, strict=True)]
    assert beam_search(made, padded(rows), torch.tensor(caps), DecodeConfig(beam=1)) == expected
    assert len({len(one) for one in expected}) > 1


@pytest.mark.parametrize("beam", [2, 5])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_beam_search_agrees_with_the_slow_one(beam: int, alpha: float, scale: float) -> None:
    made, rows = sharp(scale=scale), sources(12)
    caps = [min(6, len(row) + 2) for row in rows]
    expected = [slow_beam(made, row, cap, beam, alpha) for row, cap in zip(rows, caps, strict=True)]
    config = DecodeConfig(beam=beam, length_penalty=alpha)
    assert beam_search(made, padded(rows), torch.tensor(caps), config) == expected
    # Some end by themselves, some at their cap.
    assert {len(one) == cap for one, cap in zip(expected, caps, strict=True)} == {True, False}


def test_top_is_topk() -> None:
    generator = torch.Generator().manual_seed(1)
    for size in (5, 64, 200, 1000, 8003):
        values = torch.randn(7, size, generator=generator)
        values[0, 3:] = -torch.inf
        found, place = top(values, min(4, size))
        expected = values.topk(min(4, size), 1)
        assert torch.equal(found, expected.values)
        assert torch.equal(values.gather(1, place), found)


def test_samples_do_not_depend_on_the_batch_and_follow_the_distribution() -> None:
    made, rows = sharp(scale=2.0), sources(6)
    caps = torch.tensor([4] * 6)
    config = SampleConfig(samples=3, epsilon=0.0, seed=4)
    whole = sample(made, padded(rows), caps, config, range(6))
    for number, row in enumerate(rows):
        assert sample(made, torch.tensor([row]), caps[:1], config, [number]) == [whole[number]]
    assert sample(made, padded(rows), caps, SampleConfig(samples=3, epsilon=0.0, seed=5), range(6)) != whole
    many = sample(made, torch.tensor([rows[0]]), caps[:1], SampleConfig(samples=2000, epsilon=0.0), [0])[0]
    likely = log_probabilities(made, rows[0], [BOS])
    first = [one[0] if one else EOS for one in many]
    for piece in sorted(range(V), key=likely.__getitem__)[-3:]:
        p = math.exp(likely[piece])
        assert first.count(piece) / 2000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 2000) + 1e-3)


def test_epsilon_and_temperature_cut_the_unlikely() -> None:
    made, rows = sharp(scale=2.0), sources(1)
    caps = torch.tensor([1])
    row = log_probabilities(made, rows[0], [BOS])
    drawn = sample(made, torch.tensor(rows), caps, SampleConfig(samples=400, epsilon=0.05), [0])[0]
    assert {one[0] if one else EOS for one in drawn} <= {p for p in range(V) if row[p] >= math.log(0.05)} | {
        max(range(V), key=row.__getitem__)
    }
    cold = sample(made, torch.tensor(rows), caps, SampleConfig(samples=50, epsilon=0, temperature=1e-3), [0])[0]
    assert {one[0] if one else EOS for one in cold} == {max(range(V), key=row.__getitem__)}


@pytest.fixture(scope="module")
def translator() -> Translator:
    texts = [text for pair in clean(300) for text in pair]
    vocabulary = train_vocabulary(texts, VocabularyConfig(size=V), seed=1)
    made = Transformer(ModelConfig(size="tiny", layers=1, width=32, inner=32), V)
    made.initialise(1)
    return Translator(made.eval(), vocabulary)


def test_odd_segments(translator: Translator) -> None:
    lines = ["The cat.", "", "   ", "שלום 🙂 漢字", "x" * 20_000, "The cat."]
    config = DecodeConfig(beam=2, max_source=50, max_extra=3)
    out = translator.translate(lines, config)
    assert len(out) == 6
    assert out[1] == out[2] == ""
    assert out[0] == out[5]
    assert translator.cut(lines, config) == 1
    assert translator.translate([], config) == []
    assert translator.translate(lines, DecodeConfig(beam=2, max_source=50, max_extra=3, batch=1)) == out
    for line, text in zip(lines, out, strict=True):
        (ids,) = translator.vocabulary.encode([line])
        assert len(translator.vocabulary.encode([text])[0]) <= config.cap(min(len(ids), 50)) + 2
    samples = translator.samples(lines[:2], SampleConfig(samples=2), config)
    assert [len(one) for one in samples] == [2, 2]
    assert samples[1] == ["", ""]


def test_a_tag_is_put_before_the_source(translator: Translator) -> None:
    tagged = Translator(translator.model, translator.vocabulary, tag=3)
    ((_, plain, _),) = list(translator._batches(["The cat."], DecodeConfig()))
    ((_, marked, _),) = list(tagged._batches(["The cat."], DecodeConfig()))
    assert marked[0, 1:].tolist() == plain[0].tolist()
    assert marked[0, 0] == 4 + 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam": 0}, "beam 0: must be from 1"),
        ({"batch": 0}, "batch 0"),
        ({"max_extra": 0}, "max_extra 0"),
        ({"max_source": 0}, "max_source 0"),
        ({"length_penalty": -1}, "length_penalty -1: must be from 0"),
        ({"length_penalty": math.nan}, "length_penalty nan"),
        ({"max_ratio": math.nan}, "max_ratio nan"),
        ({"max_ratio": math.inf}, "max_ratio inf"),
        ({"max_ratio": 1e30}, r"max_ratio 1e\+30"),
    ],
)
def test_a_search_that_cannot_be_is_refused(translator: Translator, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        translator.translate(["a"], DecodeConfig(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "samples 0"),
        ({"temperature": 0}, "temperature 0: must be from 0.000001"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"temperature": math.inf}, "temperature inf"),
        ({"temperature": 1e-300}, "temperature 1e-300"),
        ({"epsilon": 1}, "epsilon 1"),
        ({"epsilon": math.nan}, "epsilon nan"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**63}, f"seed {2**63}"),
    ],
)
def test_samples_that_cannot_be_are_refused(translator: Translator, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        translator.samples(["a"], SampleConfig(**values), DecodeConfig())


def test_a_translation_is_one_line(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = translator.vocabulary.pieces()
    text = translator.vocabulary.encode(["The cat"])[0]
    row = [*text, *(pieces.index(f"<0x{byte}>") for byte in ("0D", "0A", "00", "0A")), *text]
    monkeypatch.setattr("bisift.trainer.decoding.beam_search", lambda *_: [row])
    monkeypatch.setattr("bisift.trainer.decoding.sample", lambda *_: [[row, row]])
    (found,) = translator.translate(["a"], DecodeConfig())
    assert found.split() == ["The", "cat", "The", "cat"]
    assert not {"\n", "\r", "\0"} & set(found)
    assert translator.samples(["a"], SampleConfig(samples=2), DecodeConfig()) == [[found, found]]


def test_long_samples_share_no_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[Any] = []

    def recorded(place_N: Any, seed: int) -> Any:
        places.append(place_N)
        return uniform(place_N, seed)

    monkeypatch.setattr("bisift.trainer.decoding.uniform", recorded)
    sample(sharp(), padded(sources(2)), torch.tensor([1, 1]), SampleConfig(samples=2), range(2))
    assert min(places[0][1:] - places[0][:-1]) >= MOST
