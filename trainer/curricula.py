"""Curricula: in which order, how often and with what mark the rows of a ranking are trained on.

Each is a frozen dataclass. An order is a function from draw numbers to rows, so it can be entered anywhere; lengths are
in epochs, one epoch being as many draws as there are rows. "Best" is the order of the ranking that is read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from bisift.config import build, nearest
from bisift.errors import ConfigError
from bisift.trainer.marks import MARKS
from bisift.trainer.permutation import F64, I64, counts, interleave, shuffled, uniform

HUMAN = "human"
_MOST_STAGES = 10_000


@dataclass(frozen=True, slots=True)
class View:
    """The rows that a curriculum orders, best first; positions are turned into rows by `row_N` (None: as ranked).

    The first `human` positions are kept in every stage and stand outside of "best". `groups` are ranges of positions of
    one generator each, and only there for a mixture.
    """

    rows: int
    human: int = 0
    row_N: I64 | None = None
    groups: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def best(self, share: float | F64) -> Any:
        """How many positions from 0 hold the best `share` of rows, those that are always kept included; at least 1."""
        return np.maximum(1, self.human + np.ceil(np.asarray(share) * (self.rows - self.human))).astype(np.int64)


@runtime_checkable
class Order(Protocol):
    """What decides which row comes when. `paper` is where it is from."""

    name: ClassVar[str]
    paper: ClassVar[str]

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        """Return the position in `view` of each draw number, any numbers in any order; both of shape K."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shuffled:
    """Passes over the best share of the rows (all of them by default), each in a new random order."""

    name: ClassVar[str] = "shuffled"
    paper: ClassVar[str] = "-"

    best: float = 1.0

    def check(self) -> None:
        _share(self.name, "best", self.best)

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        return shuffled(number_K, int(view.best(self.best)), seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ordered:
    """Best first, added cumulatively: stage k of `stages` passes `epochs` times over the best k/stages, shuffled.

    After the last stage it goes on with all rows.
    """

    name: ClassVar[str] = "ordered"
    paper: ClassVar[str] = "Regurgitative training, 2024 (arXiv 2407.12835)"

    stages: int = 10
    epochs: float = 1.0

    def check(self) -> None:
        _positive(self.name, "epochs", self.epochs)
        if not 1 <= self.stages <= _MOST_STAGES:
            raise ConfigError(f"{self.name}: stages {self.stages}: from 1 to {_MOST_STAGES:,}")

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        size_S = view.best(np.arange(1, self.stages + 1) / self.stages)
        start_S = np.concatenate([[0], np.cumsum(np.ceil(self.epochs * size_S))]).astype(np.int64)[: self.stages]
        stage_K = np.searchsorted(start_S, number_K, side="right") - 1
        position_K = np.empty_like(number_K)
        for stage in np.unique(stage_K).tolist():
            here = stage_K == stage
            position_K[here] = shuffled(number_K[here] - start_S[stage], int(size_S[stage]), seed + stage)
        return position_K


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """`epochs` of draws, `shares` of them from each band; the last stage lasts to the end."""

    epochs: float
    shares: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """Stages that mix bands of the ranking by shares; `bands` are the bands' upper ends, 0.2 the best fifth.

    Rows kept in every stage are a band of their own, with the share that they have of all rows.
    """

    name: ClassVar[str] = "staged"
    paper: ClassVar[str] = "Zhang et al. 2019 (arXiv 1905.05816); OpusTrainer, 2023 (arXiv 2311.14838)"

    bands: list[float]
    stages: list[Stage]

    def check(self) -> None:
        ascending = all(map(_is_number, self.bands)) and self.bands == sorted(set(self.bands))
        if not self.bands or not ascending or self.bands[0] <= 0 or self.bands[-1] != 1:
            raise ConfigError(f"{self.name}: bands {self.bands}: ascending shares of the ranking that end with 1")
        if not self.stages:
            raise ConfigError(f"{self.name}: no stages: at least one is needed")
        for stage in self.stages:
            _positive(self.name, "epochs", stage.epochs)
            fits = len(stage.shares) == len(self.bands) and all(map(_is_number, stage.shares))
            if not fits or min(stage.shares) < 0 or sum(stage.shares) <= 0:
                raise ConfigError(f"{self.name}: shares {stage.shares}: one of at least 0 for each of {self.bands}")

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        edge_B = np.concatenate([[0, view.human], view.best(np.array(self.bands))])
        edge_B[-1] = view.rows
        size_B = np.diff(edge_B)
        length_S = np.ceil([stage.epochs * view.rows for stage in self.stages]).astype(np.int64)
        start_S = np.concatenate([[0], np.cumsum(length_S)])[:-1]
        stage_K = np.searchsorted(start_S, number_K, side="right") - 1
        position_K = np.empty_like(number_K)
        before_B = np.zeros(len(size_B), dtype=np.int64)
        for number, stage in enumerate(self.stages):
            share_B = self._shares(stage, view, size_B)
            here = stage_K == number
            if here.any():
                band_K, index_K = interleave(number_K[here] - start_S[number], share_B)
                position_K[here] = _drawn(band_K, index_K + before_B[band_K], edge_B[:-1], size_B, seed)
            before_B = before_B + counts(length_S[number : number + 1], share_B)[0]
        return position_K

    @staticmethod
    def _shares(stage: Stage, view: View, size_B: I64) -> F64:
        share_B = np.array([0.0, *stage.shares])
        share_B[size_B == 0] = 0
        if not share_B.sum():
            raise ConfigError(f"{Staged.name}: shares {stage.shares}: these bands are empty in {view.rows} rows")
        share_B *= (1 - view.human / view.rows) / share_B.sum()
        share_B[0] = view.human / view.rows
        return cast("F64", share_B)


@dataclass(frozen=True, kw_only=True, slots=True)
class Competence:
    """Uniform draws from the best c(t) of the rows; c grows from `start` to 1 in `epochs`, then passes over all.

    c(t) = min(1, (t (1 - start^power) / epochs + start^power)^(1 / power)): equation 7, the square root for power 2.
    """

    name: ClassVar[str] = "competence"
    paper: ClassVar[str] = "Platanios et al. 2019 (arXiv 1903.09848)"

    start: float = 0.01
    epochs: float = 5.0
    power: float = 2.0

    def check(self) -> None:
        _share(self.name, "start", self.start)
        _positive(self.name, "epochs", self.epochs)
        _positive(self.name, "power", self.power)

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        time_K = number_K / view.rows
        begin = self.start**self.power
        competence_K = np.minimum(1, (time_K * (1 - begin) / self.epochs + begin) ** (1 / self.power))
        drawn_K = np.floor(uniform(number_K, seed) * view.best(competence_K)).astype(np.int64)
        growing = math.ceil(self.epochs * view.rows)
        return np.where(number_K < growing, drawn_K, shuffled(np.maximum(number_K - growing, 0), view.rows, seed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Annealed:
    """All rows for `epochs`, then the best `best` of them alone; with `half_life` (in epochs) the share shrinks.

    Shrinking is by half a half-life, uniform draws from what is left, as in Wang et al.; without it the switch is
    sudden, as in Mohiuddin et al.
    """

    name: ClassVar[str] = "annealed"
    paper: ClassVar[str] = "Mohiuddin et al. 2022 (arXiv 2203.13867); Wang et al. 2018 (arXiv 1809.00068)"

    epochs: float = 5.0
    best: float = 0.2
    half_life: float | None = None

    def check(self) -> None:
        _positive(self.name, "epochs", self.epochs)
        _share(self.name, "best", self.best)
        if self.half_life is not None:
            _positive(self.name, "half_life", self.half_life)

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        full = math.ceil(self.epochs * view.rows)
        later_K = np.maximum(number_K - full, 0)
        if self.half_life is None:
            best_K = shuffled(later_K, int(view.best(self.best)), seed + 1)
        else:
            share_K = np.maximum(self.best, 0.5 ** (later_K / view.rows / self.half_life))
            best_K = np.floor(uniform(number_K, seed) * view.best(share_K)).astype(np.int64)
        return np.where(number_K < full, shuffled(number_K, view.rows, seed), best_K)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Generators drawn by `shares` (name to share, each generator named), each in shuffled passes of its own."""

    name: ClassVar[str] = "mixture"
    paper: ClassVar[str] = "Regurgitative training, 2024 (arXiv 2407.12835)"

    shares: dict[str, float]

    def check(self) -> None:
        values = list(self.shares.values())
        if not values or not all(_is_number(value) and value >= 0 for value in values) or sum(values) <= 0:
            raise ConfigError(f"{self.name}: shares {self.shares!r}: a number of at least 0 for each generator")

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        for name in self.shares:
            if name not in view.groups:
                named = [group for group in view.groups if group]
                known = nearest(name, named) if named else "; no pair names its generator"
                raise ConfigError(f"{self.name}: no pair is by generator {name!r}{known}")
        if left := [name for name in view.groups if name not in self.shares]:
            raise ConfigError(f"{self.name}: give generator {left[0]!r} a share, too; 0 leaves it out")
        share_G = np.array([self.shares[name] for name in view.groups], dtype=np.float64)
        edges = np.array(list(view.groups.values()))
        group_K, index_K = interleave(number_K, share_G / share_G.sum())
        return _drawn(group_K, index_K, edges[:, 0], edges[:, 1] - edges[:, 0], seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reverse:
    """A control: what `of` would do if the worst rows were the best."""

    name: ClassVar[str] = "reverse"
    paper: ClassVar[str] = "control; Zhang et al. 2018 (arXiv 1811.00739)"

    of: Order

    def check(self) -> None:
        self.of.check()
        if isinstance(innermost(self), Mixture):
            raise ConfigError(f"{self.name}: a mixture has no best pairs to turn round: give its shares the other way")

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        position_K = self.of.positions(number_K, view, seed)
        return np.where(position_K < view.human, position_K, view.rows - 1 - (position_K - view.human))


@dataclass(frozen=True, kw_only=True, slots=True)
class SameSet:
    """A control: the draws that `of` makes in `epochs`, each as often, in random order; then once more."""

    name: ClassVar[str] = "same-set"
    paper: ClassVar[str] = "control; Mohiuddin et al. 2022 (arXiv 2203.13867)"

    of: Order
    epochs: float

    def check(self) -> None:
        _positive(self.name, "epochs", self.epochs)
        self.of.check()

    def positions(self, number_K: I64, view: View, seed: int) -> I64:
        drawn_K = shuffled(number_K, math.ceil(self.epochs * view.rows), seed + 1)
        return self.of.positions(drawn_K, view, seed)


ORDERS: dict[str, type[Order]] = {
    kind.name: kind for kind in (Shuffled, Ordered, Staged, Competence, Annealed, Mixture, Reverse, SameSet)
}
CURRICULA: dict[str, type[Any]] = {**ORDERS, **MARKS}
"""All of them, orders and marks, by the name that a configuration uses."""


def build_order(values: Any, where: str) -> Order:
    """Make an order from its configuration: its name, and its fields.

    Raises:
        ConfigError: there is no such order, or a field is wrong.
    """
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        raise ConfigError(f"{where}: expected a mapping with a name, one of {', '.join(ORDERS)}")
    fields = {key: value for key, value in values.items() if key != "name"}
    if (kind := ORDERS.get(values["name"])) is None:
        raise ConfigError(f"{where}: no curriculum {values['name']!r}{nearest(values['name'], ORDERS)}")
    if "of" in fields:
        fields["of"] = build_order(fields["of"], f"{where}: of")
    if kind is Staged and isinstance(fields.get("stages"), list):
        fields["stages"] = [_build_stage(stage, f"{where}: stages") for stage in fields["stages"]]
    order: Order = checked(build(cast("type[Any]", kind), fields, where), where)
    return order


def _build_stage(values: Any, where: str) -> Stage:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected mappings with epochs and shares, got {values!r}")
    return build(Stage, values, where)


def innermost(order: Order) -> Order:
    """The order that controls are about."""
    while isinstance(order, Reverse | SameSet):
        order = order.of
    return order


T = TypeVar("T")


def checked(value: T, where: str) -> T:
    """Return a configuration whose `check` passes; an error says where it is from."""
    try:
        cast("Order", value).check()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return value


def describe(value: Any) -> dict[str, Any]:
    """The configuration that a curriculum was built from."""
    found: dict[str, Any] = {"name": value.name}
    for entry in dataclasses.fields(value):
        inner = getattr(value, entry.name)
        found[entry.name] = describe(inner) if isinstance(inner, Order) else inner
        if isinstance(inner, list):
            found[entry.name] = [dataclasses.asdict(one) if isinstance(one, Stage) else one for one in inner]
    return found


def _drawn(group_K: I64, index_K: I64, start_G: I64, size_G: I64, seed: int) -> I64:
    """Positions of draws by group and number within it: shuffled passes over each group's range."""
    position_K = np.empty_like(index_K)
    for group in np.unique(group_K).tolist():
        if not size_G[group]:
            raise ConfigError("a share was given to a generator or band without pairs")
        here = group_K == group
        position_K[here] = start_G[group] + shuffled(index_K[here], int(size_G[group]), seed + group)
    return position_K


def _share(name: str, field_name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ConfigError(f"{name}: {field_name} {value}: above 0 and at most 1")


def _positive(name: str, field_name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name}: {field_name} {value}: a number above 0")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
