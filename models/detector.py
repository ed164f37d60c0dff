"""Trains the detector: n-gram weights a language, and the aligner over word ids and row features.

Both learn from contrasts: for a random source a human and a random machine translation of it, so that topic, domain and
length tell nothing. The loss is the logistic loss of the difference plus half the binary one. Suffixes as in
`models.data`; B contrasts a batch (2B pairs: the human ones, then the machine ones).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from bisift.filter.encoding import FORM, Encoder
from bisift.filter.lexical import STATISTICS, Lexicon
from bisift.filter.ngrams import language_salt, ngrams
from bisift.filter.text import I64, Text
from bisift.models.data import Wmt
from bisift.models.export import CLIP
from bisift.models.network import Detector

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

FEATURE_NAMES = (*STATISTICS, *FORM)
NGRAM_BITS = 21
_ROWS = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How long and how to train; the defaults take some 15 minutes on one core."""

    steps: int = 12_000
    batch: int = 128
    max_tokens: int = 80
    rate: float = 2e-3
    vector_rate: float = 5e-4
    token_dropout: float = 0.15
    difference_dropout: float = 0.5
    feature_dropout: float = 0.15
    ngram_steps: int = 4_400
    ngram_batch: int = 256
    ngram_rate: float = 0.1
    ngram_dropout: float = 0.3
    seed: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Word ids of many segments, ragged."""

    ids: I32
    offsets: I64

    def count(self, rows: I64) -> I64:
        counts: I64 = self.offsets[rows + 1] - self.offsets[rows]
        return counts

    def padded(self, rows: I64, limit: int) -> Tensor:
        """Ids of `rows`, shape (B, longest of them, at most `limit`), 0 beyond a row's end."""
        count_B = np.minimum(self.count(rows), limit)
        position = np.arange(max(int(count_B.max()), 1))
        inside = position < count_B[:, None]
        index = np.where(inside, self.offsets[rows][:, None] + position, 0)
        return torch.from_numpy(np.where(inside, self.ids[index], 0).astype(np.int64))


def tokens_of(lexicon: Lexicon, column: pa.Array) -> Tokens:
    """Word ids of each segment of a column."""
    parts = [lexicon.words(Text.of(column.slice(start, _ROWS))) for start in range(0, len(column), _ROWS)]
    counts = np.concatenate([part.count_N for part in parts])
    return Tokens(
        ids=np.concatenate([part.id_K for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def features_of(lexicon: Lexicon, wmt: Wmt, rows: I64) -> F32:
    """FEATURE_NAMES of the translations `rows`, shape (rows, F), not yet standardised."""
    out = np.zeros((len(rows), len(FEATURE_NAMES)), dtype=np.float32)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        encoder = Encoder(
            lexicon,
            Text.of(wmt.source.take(pa.array(wmt.source_R[part]))),
            Text.of(wmt.target.take(pa.array(part))),
            [None] * len(part),
        )
        out[start : start + _ROWS] = encoder.features(FEATURE_NAMES)
    return out


class Contrasts:
    """Draws (human row, machine row) of one random source.

    A language is drawn with the root of its number of sources, 2024 (the newest systems) twice as often as other years.
    A machine translation is drawn by how near its system comes to the references, since broken output looks human:
    exp((F1 - best F1 of the language pair and year) / TEMPERATURE) + FLOOR, with F1 that of the words, on average.
    """

    TEMPERATURE = 0.1
    FLOOR = 0.1

    def __init__(self, wmt: Wmt, target: Tokens, place_R: I64) -> None:
        rows = np.flatnonzero(place_R >= 0)
        rows = rows[np.argsort(wmt.source_R[rows], kind="stable")]
        human = wmt.human_R[rows]
        self._human, self._machine = rows[human], rows[~human]
        source_h, source_m = wmt.source_R[self._human], wmt.source_R[self._machine]
        self._sources = np.intersect1d(source_h, source_m)
        self._human_from = np.searchsorted(source_h, self._sources)
        self._human_to = np.searchsorted(source_h, self._sources, side="right")
        self._machine_from = np.searchsorted(source_m, self._sources)
        self._machine_to = np.searchsorted(source_m, self._sources, side="right")
        self._weight = np.concatenate([[0.0], np.cumsum(self._strength(wmt, target, place_R))])
        language = wmt.target_language_S[self._sources].astype(str)
        _, number, count = np.unique(language, return_inverse=True, return_counts=True)
        share = count[number] ** -0.5 * np.where(wmt.year_S[self._sources] == 2024, 2.0, 1.0)
        self._share = np.cumsum(share / share.sum())

    def _strength(self, wmt: Wmt, target: Tokens, place_R: I64) -> F64:
        """Sampling weight of each machine row."""
        names = np.char.add(wmt.pair_S.astype(str), wmt.year_S.astype(str))[wmt.source_R[self._machine]]
        systems = np.char.add(names, wmt.system_R[self._machine].astype(str))
        _, system = np.unique(systems, return_inverse=True)
        _, group = np.unique(names, return_inverse=True)
        score, seen = np.zeros(len(system)), np.zeros(len(system), dtype=bool)
        words = target.ids
        for place in np.random.default_rng(0).permutation(len(self._sources))[:12_000].tolist():
            references = [
                set(words[target.offsets[row] : target.offsets[row + 1]].tolist())
                for row in place_R[self._human[self._human_from[place] : self._human_to[place]]]
            ]
            for index in range(self._machine_from[place], self._machine_to[place]):
                row = place_R[self._machine[index]]
                made = set(words[target.offsets[row] : target.offsets[row + 1]].tolist())
                score[index] = max(2 * len(made & given) / max(len(made) + len(given), 1) for given in references)
                seen[index] = True
        total = np.bincount(system[seen], weights=score[seen], minlength=system.max() + 1)
        mean = total / np.maximum(np.bincount(system[seen], minlength=system.max() + 1), 1)
        best = np.zeros(group.max() + 1)
        np.maximum.at(best, group, mean[system])
        weight: F64 = np.exp((mean[system] - best[group]) / self.TEMPERATURE) + self.FLOOR
        return weight

    def draw(self, count: int, rng: np.random.Generator) -> tuple[I64, I64]:
        """`count` human rows and as many machine rows of the same sources."""
        place = np.minimum(np.searchsorted(self._share, rng.random(count)), len(self._sources) - 1)
        first, stop = self._human_from[place], self._human_to[place]
        human = self._human[first + (rng.random(count) * (stop - first)).astype(np.int64)]
        first, stop = self._machine_from[place], self._machine_to[place]
        low, high = self._weight[first], self._weight[stop]
        chosen = np.searchsorted(self._weight, low + rng.random(count) * (high - low), side="right") - 1
        return human, self._machine[np.clip(chosen, first, stop - 1)]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What training reads: translations `rows`, their place (-1: not among them) by row, tokens and features."""

    wmt: Wmt
    rows: I64
    place_R: I64
    source: Tokens
    target: Tokens
    features: F32

    def batch(self, rows: I64, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        place = self.place_R[rows]
        return (
            self.source.padded(self.wmt.source_R[rows], limit),
            self.target.padded(place, limit),
            torch.from_numpy(self.features[place]),
        )


def train_aligner(examples: Examples, vectors_VD: F32, contrasts: Contrasts, settings: Settings) -> Detector:
    """Train on contrasts of alike length; the rate rises over 100 steps and then falls linearly."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)  # sums in one order, so that a seed means one result
    rng = np.random.default_rng(settings.seed)
    detector = Detector(vectors_VD, len(FEATURE_NAMES))
    dense = list(detector.aligner.parameters())
    optimisers = (
        (torch.optim.AdamW(dense, weight_decay=0.01), settings.rate),
        (torch.optim.SparseAdam(detector.embedding.difference.parameters()), settings.vector_rate),
    )
    size, pool = settings.batch, 64
    step = 0
    while step < settings.steps:
        human, machine = contrasts.draw(pool * size, rng)
        length = np.maximum(
            examples.target.count(examples.place_R[human]), examples.target.count(examples.place_R[machine])
        )
        order = np.argsort(length, kind="stable").reshape(pool, size)[rng.permutation(pool)]
        for chosen in order[: settings.steps - step]:
            fall = min(1.0, step / 100) * (1 - step / settings.steps) + 0.01
            for optimiser, rate in optimisers:
                optimiser.param_groups[0]["lr"] = rate * fall
                optimiser.zero_grad()
            loss = _contrast_loss(_logits(detector, examples, human[chosen], machine[chosen], settings))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(dense, 1.0)
            for optimiser, _ in optimisers:
                optimiser.step()
            step += 1
            if step % 1000 == 0:
                print(f"aligner: step {step} of {settings.steps}, loss {loss.item():.3f}", flush=True)
    return detector.eval()


def _logits(detector: Detector, examples: Examples, human: I64, machine: I64, settings: Settings) -> Tensor:
    """Logits of the human rows, then of the machine rows. What is dropped is dropped for both of a contrast."""
    size = len(human)
    source, target, features = examples.batch(np.concatenate([human, machine]), settings.max_tokens)
    for ids in (source, target):
        dropped = (torch.rand(ids.shape) < settings.token_dropout) & (ids != 0)
        ids[dropped] = torch.randint(1, 1025, (int(dropped.sum()),))
    lexical = len(STATISTICS)
    kept_lexical = (torch.rand(size, 1) > settings.feature_dropout).float().repeat(2, 1)
    kept_form = (torch.rand(size, 1) > settings.feature_dropout).float().repeat(2, 1)
    features = torch.cat([features[:, :lexical] * kept_lexical, features[:, lexical:] * kept_form], 1)
    use_difference = (torch.rand(size) > settings.difference_dropout).float().repeat(2)
    logits: Tensor = detector(source, target, features, use_difference)
    return logits


def _contrast_loss(logits: Tensor) -> Tensor:
    human, machine = logits.chunk(2)
    binary = (functional.softplus(human) + functional.softplus(-machine)).mean() / 2
    return functional.softplus(human - machine).mean() + binary / 2


@torch.no_grad()
def aligner_logits(detector: Detector, examples: Examples, rows: I64, limit: int = 128) -> F32:
    """Logit of each of `rows`."""
    out = np.zeros(len(rows), dtype=np.float32)
    order = np.argsort(examples.target.count(examples.place_R[rows]), kind="stable")
    for start in range(0, len(rows), 256):
        part = order[start : start + 256]
        out[part] = detector(*examples.batch(rows[part], limit)).numpy()
    return out


def standardise(features: F32, fit_on: npt.NDArray[np.bool_]) -> tuple[F32, F32, F32]:
    """Standardised and clipped features, and the mean and deviation of the rows `fit_on`."""
    mean = features[fit_on].mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = (features[fit_on].std(axis=0, dtype=np.float64) + 1e-6).astype(np.float32)
    return np.clip((features - mean) / deviation, -CLIP, CLIP), mean, deviation


def train_ngrams(wmt: Wmt, contrasts: Contrasts, settings: Settings) -> F32:
    """Weights of hashed n-grams, shape (2**NGRAM_BITS,), by AdaGrad (Duchi et al. 2011) over touched weights alone.

    A row's score is the sum of its n-grams' weights over the root of their number.
    """
    rng = np.random.default_rng(settings.seed)
    weight = np.zeros(1 << NGRAM_BITS, dtype=np.float32)
    squares = np.zeros_like(weight)
    size = settings.ngram_batch
    for step in range(settings.ngram_steps):
        human, machine = contrasts.draw(size, rng)
        ids, row = ngrams_of(wmt, np.concatenate([human, machine]))
        kept = np.flatnonzero(rng.random(len(ids)) >= settings.ngram_dropout)
        ids, row = ids[kept], row[kept]
        root = np.sqrt(np.maximum(np.bincount(row, minlength=2 * size), 1))
        logits = np.bincount(row, weights=weight[ids], minlength=2 * size) / root
        pull = -1 / (1 + np.exp(logits[size:] - logits[:size]))
        slope_human = -pull + 0.25 / (1 + np.exp(-logits[:size]))
        slope_machine = pull - 0.25 / (1 + np.exp(logits[size:]))
        slope = np.concatenate([slope_human, slope_machine]) / root / size
        touched, index = np.unique(ids, return_inverse=True)
        gradient = np.bincount(index, weights=slope[row]).astype(np.float32)
        squares[touched] += gradient * gradient
        rate = settings.ngram_rate * (1 - step / settings.ngram_steps)
        weight[touched] -= rate * gradient / (np.sqrt(squares[touched]) + 1e-6)
    return weight


def ngrams_of(wmt: Wmt, rows: I64) -> tuple[I64, I64]:
    """Indices of all n-grams of the translations `rows`, and the place in `rows` of each."""
    text = Text.of(wmt.target.take(pa.array(rows)))
    salt = language_salt(wmt.target_language_S[wmt.source_R[rows]].tolist())
    parts = list(ngrams(text, salt, NGRAM_BITS))
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([row for _, row in parts])


def ngram_scores(wmt: Wmt, weight: F32, rows: I64) -> F32:
    """Score of each of `rows`."""
    out = np.zeros(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        ids, row = ngrams_of(wmt, part)
        total = np.bincount(row, weights=weight[ids], minlength=len(part))
        out[start : start + _ROWS] = total / np.sqrt(np.maximum(np.bincount(row, minlength=len(part)), 1))
    return out
