"""Runs the shipped or given models over chunks of pairs: evidence of machine translation, quality, lexical scores.

The seam to any model is an ONNX file: it names the inputs that it wants among those of `encoding.INPUTS`, and carries
calibration and known languages in its metadata (docs/models.md). A row's scores depend on that row alone, to the bit:
a slice's shape is fixed by the lengths of its own rows, and unused rows are padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisift.errors import ConfigError, ModelError
from bisift.filter.encoding import Encoder, language_keys
from bisift.filter.lexical import Lexicon
from bisift.filter.text import I64, Text
from bisift.models import registry

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

EVIDENCE_UNIT = 1 << 20
"""Evidence is log-odds in fixed point: round(log-odds * EVIDENCE_UNIT), so that sums do not depend on order."""

MAX_EVIDENCE = 8 * EVIDENCE_UNIT
"""No pair says more than that: beyond it calibration is extrapolated, and one odd pair would decide for a document."""

MAX_UNKNOWN_FACTOR = 0.25
DEFAULT_PRIOR = 0.5
NGRAM_TABLE = "ngram_table"
"""Name of a constant output: int8 weights of hashed n-grams, which are summed outside the graph."""

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class TwoSides(Protocol):
    """What inference needs of `filter.features.Sides`."""

    @property
    def source(self) -> Text: ...

    @property
    def target(self) -> Text: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """From a detector's outputs to log-odds: `network * a + ngrams * b + c` a language, and the documents' discount.

    A language that is not known uses `pooled`, without n-grams, times `unknown_factor`.
    """

    languages: Mapping[str, tuple[float, float, float]]
    pooled: tuple[float, float]
    unknown_factor: float
    document_exponent: float

    @classmethod
    def parse(cls, metadata: Mapping[str, str], path: object) -> Calibration:
        """Read the metadata of a detector.

        Raises:
            ModelError: an entry is missing or out of its range.
        """
        try:
            value = json.loads(metadata["calibration"])
            calibration = cls(
                languages={name: (float(a), float(b), float(c)) for name, (a, b, c) in value["languages"].items()},
                pooled=(float(value["pooled"][0]), float(value["pooled"][1])),
                unknown_factor=float(value["unknown_factor"]),
                document_exponent=float(value["document_exponent"]),
            )
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelError(f"{path}: no usable calibration: {error!r}") from error
        if not 0 < calibration.unknown_factor <= MAX_UNKNOWN_FACTOR:
            raise ModelError(f"{path}: unknown_factor {calibration.unknown_factor} is not in (0, {MAX_UNKNOWN_FACTOR}]")
        return calibration

    @property
    def unknown(self) -> tuple[float, float, float]:
        """a, b and c of a language that is not known."""
        return self.unknown_factor * self.pooled[0], 0.0, self.unknown_factor * self.pooled[1]

    def evidence(self, network_N: F32, ngrams_N: F32 | None, languages: Sequence[str | None]) -> tuple[I64, Bool]:
        """Evidence in units of 1/EVIDENCE_UNIT, and whether the language is known; both of shape N."""
        index = {name: number for number, name in enumerate(self.languages)}
        which_N = np.fromiter((index.get(name, -1) if name else -1 for name in languages), np.int64, len(languages))
        rows_L3 = np.array([*self.languages.values(), self.unknown], dtype=np.float64)  # index -1: unknown
        weights_N3 = rows_L3[which_N]
        log_odds_N = network_N * weights_N3[:, 0] + weights_N3[:, 2]
        if ngrams_N is not None:
            log_odds_N += ngrams_N * weights_N3[:, 1]
        evidence_N = np.clip(np.rint(log_odds_N * EVIDENCE_UNIT), -MAX_EVIDENCE, MAX_EVIDENCE).astype(np.int64)
        return evidence_N, which_N >= 0


class Network:
    """One ONNX session: feeds the inputs that the graph names, slice by slice."""

    def __init__(self, model: registry.Model, device: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        chosen = providers(device)
        try:
            self._session = ort.InferenceSession(str(model.path), options, providers=chosen)
        except Exception as error:  # onnxruntime raises its own kinds, which share no base class
            raise ModelError(f"{model.path}: onnxruntime cannot load it: {error}") from error
        self.inputs = tuple(entry.name for entry in self._session.get_inputs())
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())
        self._per_pair = [name for name in self.outputs if name != NGRAM_TABLE]
        self.feature_names: tuple[str, ...] = tuple(json.loads(model.metadata.get("feature_names", "[]")))
        pairs = json.loads(model.metadata.get("language_pairs", "null"))
        self.language_pairs: frozenset[str] | None = None if pairs is None else frozenset(pairs)
        self.ngram_scale = float(model.metadata.get("ngram_scale", "0"))
        self.ngram_table = self._constant(NGRAM_TABLE) if NGRAM_TABLE in self.outputs else None

    def run(self, encoder: Encoder) -> dict[str, F32]:
        """Every output for all N rows of the chunk, and `ngrams` of a model with an n-gram table; each of shape N."""
        out = {name: np.zeros(encoder.rows, dtype=np.float32) for name in self._per_pair}
        for rows_B, feed in encoder.slices(self.inputs, self.feature_names, self.language_pairs):
            for name, values_B in self.run_slice(feed).items():
                out[name][rows_B] = values_B[: len(rows_B)]
        if self.ngram_table is not None:
            out["ngrams"] = encoder.ngram_score(self.ngram_table) * np.float32(self.ngram_scale)
        return out

    def run_slice(self, feed: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, F32]:
        """The outputs of one slice of B rows, each of shape B; `feed` has the inputs that the graph names."""
        values = self._session.run(self._per_pair, feed)
        return {name: value.reshape(-1) for name, value in zip(self._per_pair, values, strict=True)}

    def _constant(self, name: str) -> npt.NDArray[np.int8]:
        """Read an output that depends on no input; onnxruntime wants the inputs all the same."""
        feed = {
            entry.name: np.zeros(
                [size if isinstance(size, int) else 1 for size in entry.shape],
                dtype=np.int32 if entry.type == "tensor(int32)" else np.float32,
            )
            for entry in self._session.get_inputs()
        }
        table: npt.NDArray[np.int8] = self._session.run([name], feed)[0]
        return table


def resolve_models(models: Mapping[str, str] | None = None, *, quality: bool = True) -> dict[str, registry.Model]:
    """Return the models that a `Scorer` uses by kind, without loading them into a session.

    Raises:
        ConfigError, ModelError: as `Scorer.load`.
    """
    given = dict(models or {})
    kinds = [kind for kind in dict.fromkeys((*registry.KINDS, *given)) if quality or kind != "quality"]
    return {kind: registry.resolve(kind, given.get(kind)) for kind in kinds}


def providers(device: str) -> list[str]:
    """onnxruntime's providers for `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: no such device, or this onnxruntime has none.
    """
    import onnxruntime as ort

    available = ort.get_available_providers()
    if device == "auto":
        return [name for name in (PROVIDERS["cuda"], PROVIDERS["cpu"]) if name in available]
    if device not in PROVIDERS:
        raise ConfigError(f"no device {device!r}: there are auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[device] not in available:
        raise ConfigError(f"no {device} here: install onnxruntime-gpu, or use --device cpu")
    return [PROVIDERS[device]]


class Scorer:
    """The models of one process. Make one a process and feed it chunks."""

    def __init__(
        self,
        *,
        lexicon: Lexicon,
        detector: Network,
        quality: Network | None,
        calibration: Calibration,
        digests: Mapping[str, str],
        prior: float,
    ) -> None:
        self.lexicon = lexicon
        self.detector = detector
        self.quality = quality
        self.calibration = calibration
        self.prior_log_odds = float(np.log(prior) - np.log1p(-prior))
        self.digests = dict(digests)
        self.prior = prior

    @classmethod
    def load(
        cls,
        *,
        models: Mapping[str, str] | None = None,
        prior: float | None = None,
        device: str = "auto",
        quality: bool = True,
    ) -> Scorer:
        """Load detector, quality and lexical table: the shipped ones, or the files that `models` names by kind.

        With `quality` false that model is not loaded, and quality is null.

        Args:
            models: kind (`detector`, `quality`, `lexical`) to file.
            prior: share of machine translations expected before the text is seen; 0.5 when None.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            ConfigError: an unknown kind or device, or a prior outside (0, 1).
            ModelError: weights are missing, damaged, of another kind, or were trained with another lexical table.
        """
        prior = DEFAULT_PRIOR if prior is None else prior
        if not 0 < prior < 1:
            raise ConfigError(f"the prior is {prior}: it must lie between 0 and 1, both excluded")
        found = resolve_models(models, quality=quality)
        for model in found.values():
            wanted = model.metadata.get("lexical_digest", found["lexical"].digest)
            if wanted != found["lexical"].digest:
                raise ModelError(
                    f"{model.path}: was trained with the lexical table {wanted[:12]}…, not {found['lexical'].path} "
                    f"({found['lexical'].digest[:12]}…): give both with --model"
                )
        return cls(
            lexicon=Lexicon.load(found["lexical"].path),
            detector=Network(found["detector"], device),
            quality=Network(found["quality"], device) if "quality" in found else None,
            calibration=Calibration.parse(found["detector"].metadata, found["detector"].path),
            digests={kind: model.digest for kind, model in found.items()},
            prior=prior,
        )

    def score(self, pairs: pa.Table, sides: TwoSides, features: pa.Table) -> pa.Table:
        """Score a chunk of N pairs.

        Args:
            pairs: PAIR columns; only `target_lang` is read here.
            sides: both sides decoded.
            features: the columns of `filter.features.measure`.

        Returns:
            ai_probability, quality, lexical_forward, lexical_backward, lexical_coverage (float32),
            ai_language_known (bool) and evidence (int64, prior-free log-odds times EVIDENCE_UNIT).
        """
        encoder = self.encoder(pairs, sides, features)
        detected = self.detector.run(encoder)
        evidence_N, known_N = self.calibration.evidence(detected["network"], detected.get("ngrams"), encoder.languages)
        empty_N = np.minimum(*(words.count_N for words in encoder.words)) == 0
        evidence_N[empty_N] = 0  # no text, no evidence
        columns: dict[str, pa.Array] = {
            "ai_probability": pa.array(self.probability(evidence_N / EVIDENCE_UNIT)),
            "ai_language_known": pa.array(known_N),
            "quality": pa.nulls(len(evidence_N), pa.float32()),
        }
        if self.quality is not None:
            columns["quality"] = pa.array(self.quality.run(encoder)["quality"])
        for name in ("lexical_forward", "lexical_backward", "lexical_coverage"):
            columns[name] = pa.array(encoder.statistics[name])
        columns["evidence"] = pa.array(evidence_N)
        return pa.table(columns)

    def encoder(self, pairs: pa.Table, sides: TwoSides, features: pa.Table) -> Encoder:
        """What turns a chunk into the models' inputs; arguments as of `score`."""
        languages = language_keys(pairs, features)
        return Encoder(self.lexicon, sides.source, sides.target, languages, features, pairs)

    def document_probability(self, evidence_sum: I64, pairs_count: I64) -> F32:
        """Probability that a document was machine-translated, from the sum of its pairs' evidence; both of shape D.

        log-odds = prior + sum / n ** exponent: pairs of one document agree for other reasons than their writer (topic,
        style), so that n of them are worth less than n independent ones. The exponent was fitted on held-out text.
        """
        count_D = np.maximum(pairs_count, 1).astype(np.float64)
        log_odds_D = evidence_sum / EVIDENCE_UNIT / count_D**self.calibration.document_exponent
        return self.probability(log_odds_D)

    def probability(self, log_odds: F64) -> F32:
        """Probability of a machine's work from evidence in log-odds, to which the prior's are added."""
        clipped = np.clip(log_odds + self.prior_log_odds, -30.0, 30.0)
        probability: F32 = (1.0 / (1.0 + np.exp(-clipped))).astype(np.float32)
        return probability
