"""`select`: the pairs that are wanted, out of scored ones: thresholds, the best by an order, quotas, samples.

Two passes: the first reads the few columns that decide and makes one bit a row, the second copies the rows. Rows keep
their order. Suffixes: N rows of all inputs, M rows that pass the thresholds, best first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisift.config import nearest
from bisift.errors import ConfigError
from bisift.filter.coverage import most_diverse
from bisift.filter.manifests import RowCounts, remove_manifest, write_scored_manifest
from bisift.filter.ordering import identity_words, is_dropped, key_columns, order_keys, random_keys, sort_indices
from bisift.filter.scored import Scored, open_scored
from bisift.filter.text import I64, Bool
from bisift.filter.writers.pairs import WHOLE, open_pairs_writer, pairs_format

BY = ("combined", "quality", "human")
TOKENS = "target_words"
_GROUPS = ("origin", "generator", "source_lang", "target_lang", "document_id", "drop_reason")
_BATCH_ROWS = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectOptions:
    """What is selected. Thresholds first, then quotas, then the best (or the most diverse, or a sample) of the rest.

    `quotas`: for each column, the best so many pairs of every value of it. At most one of `top_pairs`, `top_tokens`
    (target tokens: words; a CJK character each), `share`, `diverse` and `sample` (pairs of every value of the column
    `per`, drawn at random by `seed`). Thresholds are compared as float32, as the scores are stored.
    """

    min_quality: float | None = None
    max_ai_probability: float | None = None
    by: str = "combined"
    top_pairs: int | None = None
    top_tokens: int | None = None
    share: float | None = None
    diverse: int | None = None
    quotas: Sequence[tuple[str, int]] = ()
    sample: int | None = None
    per: str | None = None
    seed: int = 0
    keep_dropped: bool = False

    def check(self) -> None:
        """Raise ConfigError where a value cannot be."""
        chosen = [
            f"--{name.replace('_', '-')}"
            for name in ("top_pairs", "top_tokens", "share", "diverse", "sample")
            if getattr(self, name) is not None
        ]
        if len(chosen) > 1:
            raise ConfigError(f"{chosen[0]} and {chosen[1]} exclude each other: give one")
        if self.by not in BY:
            raise ConfigError(f"unknown order {self.by!r}{nearest(self.by, BY)}")
        for name in ("min_quality", "max_ai_probability", "share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: it must be from 0 to 1")
        if self.per is not None and self.sample is None:
            raise ConfigError("--per is for --sample: give both")
        for column in (*(name for name, _ in self.quotas), *([self.per] if self.per else [])):
            if column not in _GROUPS and not column.startswith("extra_"):
                known = ", ".join(_GROUPS)
                raise ConfigError(f"{column!r} is no column to group by; known: {known}, extra_*")
        names = [column for column, _ in self.quotas]
        if len(set(names)) < len(names):
            raise ConfigError("a quota's column is given twice")

    @property
    def ordered(self) -> bool:
        """Whether the order `by` decides anything."""
        best = (self.top_pairs, self.top_tokens, self.share, self.diverse)
        return bool(self.quotas) or any(value is not None for value in best)

    @property
    def takes_dropped(self) -> bool:
        """Whether dropped rows may be selected: a sample per drop_reason is for looking at them."""
        return self.keep_dropped or self.per == "drop_reason"

    @property
    def columns(self) -> list[str]:
        """The columns that decide."""
        names = ["drop_reason", TOKENS, *(column for column, _ in self.quotas)]
        names += ["quality"] if self.min_quality is not None else []
        names += ["ai_probability"] if self.max_ai_probability is not None else []
        names += list(key_columns(self.by)) if self.ordered else []
        names += ["target"] if self.diverse is not None else []
        names += ["pair_id"] if self.sample is not None else []
        names += [self.per] if self.per is not None else []
        return list(dict.fromkeys(names))


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectResult:
    """What was selected, of how much: pairs and target tokens."""

    output: str
    files: Sequence[str]
    manifest: str | None
    rows_in: int
    rows: int
    tokens_in: int
    tokens: int
    characters_replaced: int
    warnings: Sequence[str]
    seconds: float


class _Selection:
    """The rows that are wanted: a mask over all rows, in the order in which they are read."""

    def __init__(self, source: Scored, options: SelectOptions) -> None:
        if options.ordered:
            source.check_alike()
        self._options = options
        self.read = RowCounts()
        self.tokens_in = 0
        passed: list[Bool] = []
        held: list[pa.Table] = []
        for table in source.tables(options.columns, _BATCH_ROWS):
            mask_N = self._passes(table)
            self.read.add(table)
            self.tokens_in += pc.sum(table.column(TOKENS)).as_py() or 0
            passed.append(mask_N)
            if options.ordered or options.sample is not None:
                held.append(_compact(table.filter(pa.array(mask_N))))
        self.mask_N: Bool = np.concatenate(passed) if passed else np.zeros(0, bool)
        if held:
            candidates = pa.concat_tables(held).unify_dictionaries()
            held.clear()
            rows_M = np.flatnonzero(self.mask_N)
            chosen = self._sample(candidates) if options.sample is not None else self._best(candidates)
            self.mask_N = np.zeros(self.read.rows, bool)
            self.mask_N[rows_M[chosen]] = True

    def _passes(self, table: pa.Table) -> Bool:
        options = self._options
        mask_N = np.ones(table.num_rows, bool) if options.takes_dropped else ~is_dropped(table)
        if options.min_quality is not None:
            mask_N &= _scores(table, "quality") >= np.float32(options.min_quality)
        if options.max_ai_probability is not None:
            mask_N &= _scores(table, "ai_probability") <= np.float32(options.max_ai_probability)
        return mask_N

    def _best(self, candidates: pa.Table) -> I64:
        """Return the places of the candidates that quotas and the number asked for leave."""
        options = self._options
        best_M = sort_indices(candidates.select(key_columns(options.by)), order_keys(candidates, options.by))
        for column, quota in options.quotas:
            best_M = best_M[_place_in_group(_codes(candidates.column(column))[best_M]) < quota]
        if options.top_pairs is not None:
            return best_M[: options.top_pairs]
        if options.share is not None:
            return best_M[: math.floor(options.share * len(best_M) + 1e-9)]
        if options.top_tokens is not None:
            tokens_M = candidates.column(TOKENS).fill_null(0).to_numpy().astype(np.int64)[best_M]
            return best_M[: np.searchsorted(np.cumsum(tokens_M), options.top_tokens, side="right")]
        if options.diverse is not None:
            return best_M[most_diverse(candidates.column("target").take(pa.array(best_M)), options.diverse)]
        return best_M

    def _sample(self, candidates: pa.Table) -> I64:
        options = self._options
        assert options.sample is not None
        drawn_M: I64 = np.argsort(
            random_keys(identity_words(candidates.column("pair_id")), options.seed), kind="stable"
        )
        if options.per is None:
            return drawn_M[: options.sample]
        return drawn_M[_place_in_group(_codes(candidates.column(options.per))[drawn_M]) < options.sample]


def _scores(table: pa.Table, name: str) -> npt.NDArray[np.float32]:
    column = table.column(name)
    if column.null_count:
        option = "--min-quality" if name == "quality" else "--max-ai-probability"
        raise ConfigError(f"{option} needs {name}, which is null in some rows: score again with the models on")
    scores: npt.NDArray[np.float32] = column.to_numpy()
    return scores


def _compact(table: pa.Table) -> pa.Table:
    """Hold strings that repeat from row to row as dictionaries."""
    for index, name in enumerate(table.column_names):
        if name in _GROUPS and pa.types.is_string(table.schema.field(name).type):
            table = table.set_column(index, name, table.column(name).dictionary_encode())
    return table


def _codes(column: pa.ChunkedArray) -> I64:
    """Number the values of a column; null has a number of its own."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode(null_encoding="encode")
    joined = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    codes: I64 = pc.fill_null(joined.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _place_in_group(code_M: I64) -> I64:
    """Return how many rows of the same group stand before each row."""
    order_M = np.argsort(code_M, kind="stable")
    _, starts, counts = np.unique(code_M[order_M], return_index=True, return_counts=True)
    place_M = np.empty(len(code_M), np.int64)
    place_M[order_M] = np.arange(len(code_M)) - np.repeat(starts, counts)
    return place_M


def select(inputs: str | Iterable[str], **options: Any) -> Iterator[pa.Table]:
    """Yield the selected rows of scored files as SCORED tables, in input order.

    `options` are the fields of `SelectOptions`.

    Raises:
        ConfigError: an option is wrong, needs a score that is null, or compares scores of different models.
        InputError, ContractError: as `open_scored`.
    """
    settings = SelectOptions(**options)
    settings.check()
    source = open_scored([inputs] if isinstance(inputs, str) else list(inputs))
    return source.tables(mask_N=_Selection(source, settings).mask_N)


def select_files(inputs: Sequence[str], output: str, options: SelectOptions, form: str | None = None) -> SelectResult:
    """Write the selected rows of scored files to `output`, in the format `form` or that of its ending.

    parquet and jsonl hold all columns and get a manifest (filter/manifests.py); tsv and moses hold the two texts alone,
    as trainers read them.

    Raises:
        ConfigError: an option is wrong, needs a score that is null, or moses is asked of several languages.
        InputError, ContractError: as `open_scored`.
        BisiftError: the disk refuses.
    """
    started = time.perf_counter()
    options.check()
    kind = pairs_format(output, form)
    source = open_scored(inputs)
    selection = _Selection(source, options)
    written, tokens = RowCounts(), 0
    columns = None if kind in WHOLE else ("source", "target", "source_lang", "target_lang", "drop_reason", TOKENS)
    with open_pairs_writer(output, source.schema, kind) as writer:
        for table in source.tables(columns, mask_N=selection.mask_N):
            writer.write(table)
            written.add(table)
            tokens += pc.sum(table.column(TOKENS)).as_py() or 0
        remove_manifest(output)
    manifest = None
    if kind in WHOLE:
        manifest = write_scored_manifest(output, writer.files, source, read=selection.read, written=written)
    return SelectResult(
        output=output,
        files=[str(path) for path in writer.files],
        manifest=manifest,
        rows_in=selection.read.rows,
        rows=written.rows,
        tokens_in=selection.tokens_in,
        tokens=tokens,
        characters_replaced=writer.replaced,
        warnings=source.warnings,
        seconds=time.perf_counter() - started,
    )
