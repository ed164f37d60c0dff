"""Marks: what a curriculum changes about a pair itself, a tag before its source or a weight on its loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bisift.config import nearest
from bisift.errors import ConfigError

F32 = npt.NDArray[np.float32]
BOOL = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tags:
    """A mark before the source. `quality`: one of `bins` tags of equally many pairs; `origin`: machine-made ones.

    Translation asks for the best: the tag of the highest quality, or none, as for human pairs.
    """

    name: ClassVar[str] = "tags"
    paper: ClassVar[str] = "Caswell et al. 2019 (arXiv 1906.06442, origin); HintedBT, 2021 (arXiv 2109.04443, quality)"

    by: str
    bins: int = 4

    def check(self) -> None:
        if self.by not in ("quality", "origin"):
            raise ConfigError(f"{self.name}: by {self.by!r}{nearest(self.by, ('quality', 'origin'))}")
        if not 2 <= self.bins <= 8:
            raise ConfigError(f"{self.name}: bins {self.bins}: from 2 to 8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A weight on each pair's loss: max(least, score^power); human pairs weigh 1.

    The score is quality, human (1 - ai_probability) or combined (their product).
    """

    name: ClassVar[str] = "weights"
    paper: ClassVar[str] = "Wang et al. 2017 (D17-1155)"

    by: str = "combined"
    power: float = 1.0
    least: float = 0.1

    def check(self) -> None:
        if self.by not in ("quality", "human", "combined"):
            raise ConfigError(f"{self.name}: by {self.by!r}{nearest(self.by, ('quality', 'human', 'combined'))}")
        if not (math.isfinite(self.power) and self.power > 0):
            raise ConfigError(f"{self.name}: power {self.power}: a number above 0")
        if not 0 < self.least <= 1:
            raise ConfigError(f"{self.name}: least {self.least}: above 0 and at most 1")


MARKS: dict[str, type[Any]] = {kind.name: kind for kind in (Tags, Weights)}


def scores_of(tags: Tags | None, weights: Weights | None) -> list[str]:
    """The columns that marks read."""
    by = weights.by if weights is not None else ""
    quality = by in ("quality", "combined") or (tags is not None and tags.by == "quality")
    return ["quality"] * quality + ["ai_probability"] * (by in ("human", "combined"))


def lacking(name: str, null_N: BOOL, human_N: BOOL, tags: Tags | None) -> BOOL:
    """Which of N rows lack a score that marks read: human pairs weigh 1 without one, but every pair has its tag."""
    tagged = name == "quality" and tags is not None and tags.by == "quality"
    return null_N if tagged else null_N & ~human_N


def marks_of(
    tags: Tags | None,
    weights: Weights | None,
    *,
    quality_N: F32,
    ai_N: F32,
    human_N: BOOL,
    edges: F32 | None,
) -> tuple[npt.NDArray[np.int8], F32]:
    """Return the tag (-1: none) and the loss weight of N rows; `edges` part the bins of quality, ascending.

    Rows lack no score that `lacking` looks for.
    """
    tag_N = np.full(len(human_N), -1, dtype=np.int8)
    weight_N = np.ones(len(human_N), dtype=np.float32)
    if tags is not None and tags.by == "quality":
        assert edges is not None
        tag_N[:] = np.searchsorted(edges, quality_N, side="right")
    elif tags is not None:
        tag_N[~human_N] = 0
    if weights is not None:
        score_N = {"quality": quality_N, "human": 1 - ai_N, "combined": quality_N * (1 - ai_N)}[weights.by]
        weight_N = np.where(human_N, 1, np.maximum(weights.least, score_N**weights.power)).astype(np.float32)
    return tag_N, weight_N


def quality_edges(quality_N: F32, bins: int) -> F32:
    """Return the qualities, none of which is null, that part rows into `bins` of equally many, shape (bins - 1)."""
    edges: F32 = np.quantile(quality_N, np.arange(1, bins) / bins).astype(np.float32)
    return edges


def best_tag(tags: Tags | None) -> int:
    """The tag that translation puts before a source; -1: none."""
    return tags.bins - 1 if tags is not None and tags.by == "quality" else -1
