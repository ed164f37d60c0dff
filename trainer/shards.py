"""Ranked shards as the trainer reads them: manifest checked, rows by number, nothing read that is not asked for."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bisift import remote
from bisift.contract import CONTRACT_VERSION, RANKED, provenance
from bisift.errors import ContractError, InputError
from bisift.manifest import CURRENT_NAME, MANIFEST_NAME, file_digest, read_json, value_digest

I64 = npt.NDArray[np.int64]
_GOLDEN = (5**0.5 - 1) / 2


def windows(folder: str) -> list[str]:
    """Return the ranked folders that a stream has published so far, oldest first.

    Raises:
        InputError: there is no current.json yet, or it cannot be read.
        ContractError: it lists no windows.
    """
    names = read_json(remote.join(folder, CURRENT_NAME)).get("windows")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ContractError(f"{remote.redact(folder)}: {CURRENT_NAME} lists no windows: was it written by a stream?")
    return [remote.join(folder, name) for name in names]


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a ranking; `first` is the number of its first row in the whole set."""

    path: str
    rows: int
    sha256: str
    first: int
    first_rank: int

    @cached_property
    def group_starts(self) -> list[int]:
        """Where each row group begins in the shard, and the number of rows; the shard is checked when first asked."""
        self._check_digest()
        metadata = self._open().metadata
        if metadata.num_rows != self.rows:
            raise ContractError(
                f"{self.name}: holds {metadata.num_rows:,} rows and its manifest says {self.rows:,}: rank again"
            )
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return [0, *np.cumsum(counts, dtype=np.int64).tolist()]

    @property
    def name(self) -> str:
        return remote.redact(self.path)

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Read some columns of one row group, and check that its ranks are those that the manifest promises.

        Raises:
            InputError: the file cannot be read.
            ContractError: it is not the file of the manifest.
        """
        start = self.group_starts[group]
        try:
            table = self._open().read_row_group(group, columns=[*columns, "rank"])
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{self.name}: row group {group} cannot be read: {remote.reason(error)}") from error
        rank_N = table.column("rank").to_numpy()
        if not np.array_equal(rank_N, np.arange(len(rank_N)) + self.first_rank + start):
            raise ContractError(f"{self.name}: its ranks do not run on from {self.first_rank + start:,}: rank again")
        return table.select(list(columns))

    def groups_with_nulls(self, columns: Sequence[str]) -> list[int]:
        """Return the row groups in which one of some columns may hold a null; no more than the footer is read."""
        metadata = self._open().metadata
        places = [metadata.schema.names.index(name) for name in columns]
        found = []
        for group in range(metadata.num_row_groups):
            statistics = [metadata.row_group(group).column(place).statistics for place in places]
            if any(one is None or not one.has_null_count or one.null_count for one in statistics):
                found.append(group)
        return found

    def _open(self) -> pq.ParquetFile:
        try:
            if remote.is_remote(self.path):
                filesystem, path = remote.locate(self.path)
                file = pq.ParquetFile(filesystem.open_input_file(path))
            else:
                file = pq.ParquetFile(self.path)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{self.name}: {remote.reason(error)}") from error
        provenance(file.schema_arrow)
        if missing := [name for name in RANKED.names if name not in file.schema_arrow.names]:
            raise ContractError(f"{self.name}: column {missing[0]!r} is missing: was it written by filter-cli rank?")
        return file

    def _check_digest(self) -> None:
        # Object stores check what they send; reading a shard twice would double the traffic.
        if remote.is_remote(self.path):
            return
        try:
            found = file_digest(self.path)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror or error}") from error
        if found != self.sha256:
            raise ContractError(f"{self.path}: its SHA-256 is not the manifest's: it was changed or cut; rank again")


class Ranking:
    """The rows of one or more ranked folders, numbered from 0: one folder's rows are its ranks."""

    def __init__(self, shards: Sequence[Shard], order: str) -> None:
        self.shards = shards
        self.order = order
        self.rows = sum(shard.rows for shard in shards)
        self._starts = [shard.first for shard in shards]

    @classmethod
    def open(cls, folders: Sequence[str]) -> Ranking:
        """Open ranked folders (local, s3://, gs://, hdfs://) by their manifests; no shard is read yet.

        Raises:
            InputError: a manifest cannot be read, or there is not one pair.
            ContractError: a manifest is not that of a ranking.
        """
        shards: list[Shard] = []
        orders = []
        first = 0
        for folder in folders:
            try:
                manifest = read_json(remote.join(folder, MANIFEST_NAME))
            except InputError as error:
                raise InputError(f"{error}; a ranked folder, the output of filter-cli rank, is needed") from error
            rank = 0
            for entry in _entries(manifest, folder):
                path = remote.join(folder, entry["file"])
                shards.append(Shard(path, entry["rows"], entry["sha256"], first, rank))
                first += entry["rows"]
                rank += entry["rows"]
            orders.append(str(manifest.get("order")))
        if not first:
            raise InputError(f"{remote.redact(folders[0])}: no pairs to train on: all were dropped, or none was read")
        return cls([shard for shard in shards if shard.rows], "+".join(dict.fromkeys(orders)))

    @property
    def digest(self) -> str:
        """What identifies the rows and their order."""
        return value_digest({"shards": [[shard.sha256, shard.rows] for shard in self.shards]})

    def groups(self) -> Iterator[tuple[int, int]]:
        """Yield (shard, row group) in order."""
        for number, shard in enumerate(self.shards):
            for group in range(len(shard.group_starts) - 1):
                yield number, group

    def find(self, row: int) -> tuple[int, int, int]:
        """Return where a row stands: its shard, its row group, and the number of the group's first row."""
        number = bisect.bisect_right(self._starts, row) - 1
        shard = self.shards[number]
        group = bisect.bisect_right(shard.group_starts, row - shard.first) - 1
        return number, group, shard.first + shard.group_starts[group]

    def column(self, name: str) -> pa.ChunkedArray:
        """Read one whole column."""
        chunks = [self.shards[shard].read(group, [name]).column(name) for shard, group in self.groups()]
        return pa.chunked_array([chunk for column in chunks for chunk in column.chunks], type=RANKED.field(name).type)

    def texts(self, most: int) -> Iterator[str]:
        """Yield both sides of at least `most` pairs, or of all: whole row groups that lie evenly over the ranking."""
        seen: set[tuple[int, int]] = set()
        rows = 0
        places = self.groups() if most >= self.rows else (self.find(row)[:2] for row in self._spread())
        for place in places:
            if rows >= most:
                return
            if place in seen:
                continue
            seen.add(place)
            table = self.shards[place[0]].read(place[1], ["source", "target"])
            rows += table.num_rows
            for name in ("source", "target"):
                yield from table.column(name).to_pylist()

    def _spread(self) -> Iterator[int]:
        """Yield rows without end, any first ones of which lie evenly (multiples of the golden ratio)."""
        for number in itertools.count():
            yield int(number * _GOLDEN % 1 * self.rows)


def _entries(manifest: Mapping[str, Any], folder: str) -> list[dict[str, Any]]:
    place = remote.join(remote.redact(folder), MANIFEST_NAME)
    if manifest.get("kind") != "ranked":
        raise ContractError(f"{place}: is of kind {manifest.get('kind')!r}: run filter-cli rank first")
    version = manifest.get("contract")
    if not isinstance(version, int) or version > CONTRACT_VERSION:
        raise ContractError(f"{place}: contract version {version} is newer than {CONTRACT_VERSION}: upgrade bisift")
    shards = manifest.get("shards")
    if not isinstance(shards, list) or not all(
        isinstance(entry, dict)
        and isinstance(entry.get("file"), str)
        and isinstance(entry.get("rows"), int)
        and isinstance(entry.get("sha256"), str)
        for entry in shards
    ):
        raise ContractError(f"{place}: lists no shards with file, rows and sha256: rank again")
    return cast("list[dict[str, Any]]", shards)
