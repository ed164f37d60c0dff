"""What `score` and `rank` wrote, read back: files and folders of Parquet, TSV or JSONL as one stream of tables."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bisift import remote
from bisift.config import nearest
from bisift.contract import EXTRA_PREFIX, RANKED, SCORED, conform, provenance, with_provenance
from bisift.errors import ConfigError, ContractError, InputError
from bisift.filter.scored_text import open_text, text_tables
from bisift.filter.text import Bool
from bisift.manifest import MANIFEST_NAME, manifest_path, read_json

BATCH_ROWS = 65_536
_PARQUET_MAGIC = b"PAR1"
_BESIDE = (MANIFEST_NAME, "rejects.jsonl")  # ends of the names of what score writes beside its output


class _Mask:
    """Which of all rows are wanted, used up from the front while they are read."""

    def __init__(self, mask_N: Bool) -> None:
        self._rest = mask_N

    def next(self, rows: int) -> Bool:
        here_N, self._rest = self._rest[:rows], self._rest[rows:]
        return here_N


@dataclass(frozen=True, slots=True)
class Part:
    """One file of an input. `rows` is what it should hold, where that is known before it is read."""

    path: Path | str
    form: str
    schema: pa.Schema
    rows: int | None

    @property
    def size(self) -> int:
        """Size in bytes where it is stored."""
        if isinstance(self.path, str):
            return remote.describe(self.path)[0] or 0
        return self.path.stat().st_size

    def row_groups(self) -> list[int]:
        """Return the rows of each row group of a Parquet file."""
        with _parquet(self.path) as file:
            return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]

    def tables(
        self,
        columns: Sequence[str],
        batch_rows: int = BATCH_ROWS,
        mask: _Mask | None = None,
        groups: Sequence[int] | None = None,
    ) -> Iterator[pa.Table]:
        """Yield `columns` (those that the file has) in tables of at most `batch_rows` rows, without checks.

        Only the rows that `mask` wants; a row group of which it wants none is not read. `groups`: of a Parquet file,
        only these row groups.

        Raises:
            InputError: the file is damaged.
        """
        if self.form == "parquet":
            yield from self._parquet_tables(columns, batch_rows, mask, groups)
            return
        assert isinstance(self.path, Path)
        rows, names = 0, [name for name in columns if name in self.schema.names]
        for table in text_tables(self.path, self.form, self.schema, names):
            rows += table.num_rows
            for start in range(0, table.num_rows, batch_rows):
                piece = table.slice(start, batch_rows)
                yield piece if mask is None else _filtered(piece, mask.next(piece.num_rows))
        if self.rows is not None and rows != self.rows:
            raise _changed(self.path, rows, self.rows)

    def _parquet_tables(
        self, columns: Sequence[str], batch_rows: int, mask: _Mask | None, groups: Sequence[int] | None
    ) -> Iterator[pa.Table]:
        with _parquet(self.path) as file:
            names = [name for name in columns if name in file.schema_arrow.names]
            # one group at a time: iter_batches keeps all that it has read
            for group in range(file.num_row_groups) if groups is None else groups:
                rows = file.metadata.row_group(group).num_rows
                here_N = np.ones(rows, bool) if mask is None else mask.next(rows)
                if not here_N.any():
                    continue
                for batch in file.iter_batches(batch_rows, [group], names, use_threads=False):
                    yield _filtered(pa.Table.from_batches([batch]), here_N[: batch.num_rows])
                    here_N = here_N[batch.num_rows :]


@contextlib.contextmanager
def _parquet(path: Path | str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file: a local path, or a URI as it was given."""
    try:
        source: Any = remote.open_input(path)[0] if isinstance(path, str) else path
        with pq.ParquetFile(source) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: damaged Parquet file: {error}") from error


@dataclass(frozen=True, slots=True)
class ScoredInput:
    """One input as it was named: a file, or a folder of files, with its manifest where there is one."""

    path: str
    parts: tuple[Part, ...]
    manifest: Mapping[str, Any] | None
    provenance: Mapping[str, Any] | None

    @property
    def rows(self) -> int | None:
        """Rows in all files, None where that is not known before they are read."""
        counts = [part.rows for part in self.parts]
        return None if None in counts else sum(count for count in counts if count is not None)

    def counts(self) -> Mapping[str, Any]:
        """The counts of the manifest: {in, kept, dropped, rejected, by_reason}, or nothing."""
        counts: Mapping[str, Any] = (self.manifest or {}).get("rows") or {}
        return counts

    def left_out(self) -> Mapping[str, int]:
        """Rows by reason that the manifest counts as dropped and that the files do not hold (filter/manifests.py)."""
        manifest = self.manifest or {}
        ranked = manifest.get("kind") == "ranked" and not manifest.get("keep_dropped")
        counted: Mapping[str, int] = self.counts().get("by_reason", {}) if ranked else manifest.get("left_out") or {}
        return counted


@dataclass(frozen=True)
class Scored:
    """Opened inputs with one schema: SCORED, then the extra columns of all of them."""

    inputs: tuple[ScoredInput, ...]
    warnings: tuple[str, ...]

    @cached_property
    def differing(self) -> Mapping[str, str]:
        """What of models, profile_digest and prior is not the same in all inputs: two inputs and their values."""
        found: dict[str, str] = {}
        known = [(entry.path, entry.provenance or {}) for entry in self.inputs]
        for name in ("models", "profile_digest", "prior"):
            for path, values in known[1:]:
                first, here = known[0][1].get(name), values.get(name)
                if first != here:
                    found[name] = f"{name} differs: {known[0][0]} has {_shown(first)}, {path} has {_shown(here)}"
                    break
        return found

    def check_alike(self) -> None:
        """Raise ConfigError where the inputs' scores cannot be compared: of different models, profiles or priors."""
        if self.differing:
            reasons = "; ".join(self.differing.values())
            raise ConfigError(f"scores of different models or profiles cannot be ranked together: {reasons}")

    @cached_property
    def schema(self) -> pa.Schema:
        """SCORED and the extra columns, with the inputs' common provenance; what differs between them is left out.

        Extras keep their order where all inputs agree on it, else they are sorted by name; dictionaries are decoded.

        Raises:
            ConfigError: an extra column has different types in two inputs.
        """
        extras: dict[str, pa.Field] = {}
        orders = set()
        for entry in self.inputs:
            for part in entry.parts:
                found = [field for field in part.schema if field.name.startswith(EXTRA_PREFIX)]
                orders.add(tuple(field.name for field in found))
                for field in found:
                    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
                    known = extras.setdefault(field.name, pa.field(field.name, kind))
                    if known.type != kind:
                        raise ConfigError(f"{part.path}: column {field.name} is {kind}, elsewhere {known.type}")
        names = list(extras) if len(orders) == 1 else sorted(extras)
        schema = pa.schema([*SCORED, *(extras[name] for name in names)])
        first: Mapping[str, Any] = self.inputs[0].provenance or {} if self.inputs else {}
        common = {name: value for name, value in first.items() if name not in self.differing}
        return with_provenance(
            schema,
            models=common.get("models") or {},
            profile_digest=common.get("profile_digest"),
            prior=common.get("prior"),
        )

    def tables(
        self, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS, mask_N: Bool | None = None
    ) -> Iterator[pa.Table]:
        """Yield the rows of all inputs in order, in tables of at most `batch_rows` rows, conformed to the contract.

        `columns`: names of SCORED (or, where all inputs are ranked, RANKED) or extras; None for all of `schema`.
        `mask_N`: which of all rows to yield; None for all.

        Raises:
            ConfigError: a column is not there.
            ContractError: a file breaks the contract.
            InputError: a file is damaged or is not what its manifest says.
        """
        fields = {field.name: field for field in (*RANKED, *self.schema)}
        wanted = self.schema.names if columns is None else list(columns)
        for name in wanted:
            if name not in fields:
                raise ConfigError(f"no column {name!r}{nearest(name, fields)}")
        schema = pa.schema([fields[name] for name in wanted], metadata=self.schema.metadata)
        mask = None if mask_N is None else _Mask(mask_N)
        for entry in self.inputs:
            for part in entry.parts:
                for table in part.tables(wanted, batch_rows, mask):
                    yield conformed(table, schema, part.path)


def conformed(table: pa.Table, schema: pa.Schema, path: Path | str) -> pa.Table:
    """Return a table of a part with the columns, types and metadata of `schema`.

    Raises:
        ContractError: the file `path`, which it is from, breaks the contract.
    """
    try:
        return conform(table, schema).replace_schema_metadata(schema.metadata)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error


def open_scored(paths: Sequence[str]) -> Scored:
    """Open scored or ranked files and folders; a glob pattern stands for what it matches, sorted.

    Of what lies behind a URI, only folders of Parquet files with their manifest.

    Raises:
        ConfigError: a path twice, or extras that do not go together.
        InputError: a path is missing or unreadable, or its rows are not what its manifest says.
        ContractError: a file was not written by bisift, or inputs have different contract versions.
    """
    expanded: list[str] = []
    for path in paths:
        expanded += _expand(path)
    seen: dict[Path, str] = {}
    for path in expanded:
        if (real := Path(path).resolve()) in seen:
            raise ConfigError(f"{path}: given twice (as {seen[real]}); its pairs would count twice")
        seen[real] = path
    inputs = tuple(_open_remote(path) if remote.is_remote(path) else _open_input(path) for path in expanded)
    versions = {entry.provenance["contract"]: entry.path for entry in inputs if entry.provenance}
    if len(versions) > 1:
        old, new = versions[min(versions)], versions[max(versions)]
        raise ContractError(f"{old} has contract version {min(versions)}, {new} {max(versions)}: score {old} again")
    unknown = [entry.path for entry in inputs if entry.provenance is None]
    warnings = [f"{path}: no manifest, so its models and profile are not known" for path in unknown]
    warnings += [
        f"{entry.path}: no {MANIFEST_NAME}, so it may be incomplete"
        for entry in inputs
        if entry.manifest is None and not remote.is_remote(entry.path) and Path(entry.path).is_dir()
    ]
    return Scored(inputs=inputs, warnings=(*warnings, *Scored(inputs=inputs, warnings=()).differing.values()))


def _filtered(table: pa.Table, mask_N: Bool) -> pa.Table:
    return table if mask_N.all() else table.filter(pa.array(mask_N))


def _expand(path: str) -> list[str]:
    if remote.is_remote(path) or Path(path).exists() or not glob.has_magic(path):
        return [path]
    found = [name for name in sorted(glob.glob(path)) if not name.endswith(_BESIDE)]
    if not found:
        raise InputError(f"{path}: no file matches")
    return found


def _open_input(given: str) -> ScoredInput:
    path = Path(given)
    if not path.exists():
        raise InputError(f"{given}: no such file or folder")
    beside = manifest_path(path)
    manifest = read_json(beside) if beside.exists() else None
    parts: tuple[Part, ...]
    if not path.is_dir():
        parts = (_open_part(path, _expected_rows(manifest)),)
    elif manifest is not None:
        listed = manifest.get("shards")
        if not isinstance(listed, list):
            raise ContractError(f"{beside}: lists no shards")
        parts = tuple(_open_part(path / shard["file"], shard.get("rows")) for shard in listed)
    else:
        if next(path.glob("shard-*-of-*.parquet"), None) is not None:
            raise InputError(f"{given}: holds shards but no {MANIFEST_NAME}: the ranking did not finish, run it again")
        parts = tuple(_open_part(file, None) for file in sorted(path.glob("*.parquet")))
        if not parts:
            raise InputError(f"{given}: holds neither {MANIFEST_NAME} nor Parquet files")
    return ScoredInput(given, parts, manifest, _provenance(given, parts, manifest))


def _open_remote(uri: str) -> ScoredInput:
    folder = remote.redact(uri).rstrip("/")
    manifest = read_json(remote.join(uri, MANIFEST_NAME))
    parts = []
    for shard in manifest.get("shards") or ():
        path = remote.join(uri, shard["file"])
        with _parquet(path) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        if rows != shard.get("rows", rows):
            raise _changed(path, rows, shard["rows"])
        parts.append(Part(path, "parquet", schema, rows))
    return ScoredInput(folder, tuple(parts), manifest, _provenance(folder, parts, manifest))


def _expected_rows(manifest: Mapping[str, Any] | None) -> int | None:
    rows = (manifest or {}).get("rows") or {}
    if manifest is None or "kept" not in rows or "dropped" not in rows:
        return None
    left_out: Mapping[str, int] = manifest.get("left_out") or {}
    return int(rows["kept"] + rows["dropped"] - sum(left_out.values()))


def _open_part(path: Path, expected: int | None) -> Part:
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if magic != _PARQUET_MAGIC:
        form, schema = open_text(path)
        return Part(path, form, schema, expected)
    with _parquet(path) as parquet:
        schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    if expected is not None and rows != expected:
        raise _changed(path, rows, expected)
    return Part(path, "parquet", schema, rows)


def _changed(path: Path | str, rows: int, expected: int) -> InputError:
    return InputError(f"{path}: holds {rows:,} rows, its manifest says {expected:,}: changed since, or cut off")


def _provenance(given: str, parts: Sequence[Part], manifest: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = None
    for part in parts:
        if part.form != "parquet":
            continue
        try:
            value = provenance(part.schema)
        except ContractError as error:
            raise ContractError(f"{part.path}: {error}") from error
        if found is not None and value != found:
            raise ContractError(f"{part.path}: scored with other models or another profile than {given}'s other files")
        found = value
    if found is None and manifest is not None:
        found = {name: manifest.get(name) for name in ("contract", "models", "profile_digest", "prior")}
    return found


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(digest)}" for name, digest in sorted(value.items())) or "none"
    return value[:12] if isinstance(value, str) else str(value)
