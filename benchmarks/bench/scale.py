"""The arithmetic of scale: what follows from figures of one machine for a corpus of any size on a cluster.

The constants are those of bisift.pipelines (a test compares them); what was not measured is in `Assumed`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.results import latest
from bench.sizes import IPC, LARGE, MEMORY, PARQUET, SLICE_CPU, SMALL, TEXT

MIB = 2.0**20
RANGE_BYTES = 16 << 20  # of text that is read and scored at a time
BUCKET_BYTES, MAX_BUCKETS = 64 << 20, 4096  # text for a bucket of duplicate keys, and the most buckets
PAIR_BYTES, SIDE_BYTES, SUM_BYTES, ANSWER_BYTES, PLACE_BYTES = 32, 12, 24, 12, 4  # of the keyed steps' records
UNIT_ROWS = 1 << 16  # the least scored rows that are partitioned at a time
SAMPLE_SHARE, SAMPLE_FROM = 1 / 16, 1 << 20  # of the keys that cuts are made of; all of them below so many rows
MEMORY_SHARE = 1 / 4  # of rank's --memory: a unit that is partitioned, and a bucket that is sorted at once


class ScaleError(Exception):
    """A figure is missing in the results."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Figures of one machine: rates in rows a CPU-second of filter-cli, sizes in bytes a row, `score_mib` in MiB.

    `ipc`: a row in a large slice; `slice_bytes` and `slice_cpu` (seconds): what a slice costs beside its rows.
    """

    score_rate: float
    score_mib: float
    rank_rate: float
    text: float
    parquet: float
    memory: float
    ipc: float
    slice_bytes: float
    slice_cpu: float
    commits: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _assumption(default: float, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Assumed:
    """What was not measured. Prices are round numbers to be replaced by those of your contract."""

    hours: float = _assumption(24.0, "wall-clock hours that score and rank may take together")
    overhead: float = _assumption(
        1.7, "CPU of the jobs, times filter-cli's: the limit that the benchmarks hold them to"
    )
    speed: float = _assumption(1.0, "a vCPU of the cluster, times a core of the machine that was measured")
    busy: float = _assumption(0.8, "share of the paid time that workers compute: start, stragglers, waiting")
    beam_mib: float = _assumption(300.0, "MiB of Beam, its buffers and the Python process beside filter-cli's memory")
    process_mib: float = _assumption(1536.0, "MiB that a worker process (one vCPU) is given")
    vcpu_price: float = _assumption(0.05, "price of a vCPU-hour")
    gib_price: float = _assumption(0.005, "price of a GiB-hour of memory")
    shuffle_price: float = _assumption(0.01, "price of a GB through a shuffle that is paid for by its bytes")
    document_pairs: float = _assumption(20.0, "pairs a document; 0: no documents")
    repeated: float = _assumption(0.1, "share of pairs, of sources and of targets that stood earlier")
    hottest: float = _assumption(0.001, "share of all rows that have the most frequent side")
    element_bytes: float = _assumption(64.0, "bytes of key, name and coding around a record that is shuffled")
    entry_bytes: float = _assumption(1000.0, "bytes in memory of a range or a part in a list of all")
    rank_memory_mib: float = _assumption(1024.0, "rank's --memory")
    shard_mib: float = _assumption(256.0, "MiB that are shuffled for a shard: this decides --shards")


def read_measured(folder: Path) -> Measured:
    """Take the latest figures of score, rank and sizes.

    Raises:
        ScaleError: one of them is missing; it names the benchmark to run.
    """
    records = {one["benchmark"]: one for one in latest(folder)}

    def figure(benchmark: str, pattern: str) -> dict[str, Any]:
        for found in records.get(benchmark, {}).get("figures", ()):
            if re.search(pattern, found["name"]) and found["value"] is not None:
                return dict(found)
        raise ScaleError(f"no figure {pattern!r} in the results: python benchmarks/run.py {benchmark}")

    def size(name: str) -> float:
        return float(figure("sizes", f"^{re.escape(name)}$")["value"])

    rank = figure("rank", r"^rank of [\d,]+ rows: CPU-seconds")
    rows = int(re.sub(r"\D", "", rank["name"].partition(" rows")[0]))
    large, small = size(IPC[LARGE]), size(IPC[SMALL])
    return Measured(
        score_rate=float(figure("full", "^rules, language id and both models")["value"]),
        score_mib=float(figure("full", "peak resident set")["value"]),
        rank_rate=rows / float(rank["measured"]["bisift"]["cpu_s"]),
        text=size(TEXT),
        parquet=size(PARQUET),
        memory=size(MEMORY),
        ipc=large,
        slice_bytes=max(0.0, small - large) * SMALL,
        slice_cpu=size(SLICE_CPU) / 1000,
        commits={name: records[name]["commit"][:8] for name in ("full", "rank", "sizes")},
    )


def occupied(rows: float, places: float) -> float:
    """Return in how many of `places` at least one of `rows` falls, on average, each by chance."""
    return places * -math.expm1(rows * math.log1p(-1 / places)) if places > 1 else min(rows, places)


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """All that follows for `rows` rows of plain text. Bytes are of the whole job unless a name says otherwise."""

    rows: float
    measured: Measured
    assumed: Assumed

    # Pieces

    @property
    def ranges(self) -> float:
        return math.ceil(self.rows * self.measured.text / RANGE_BYTES)

    @property
    def key_buckets(self) -> float:
        """Buckets that the keys of duplicates are spread over."""
        return max(1, min(MAX_BUCKETS, math.ceil(self.rows * self.measured.text / BUCKET_BYTES)))

    @property
    def unit_rows(self) -> float:
        """Rows that rank partitions at a time."""
        return max(UNIT_ROWS, self.assumed.rank_memory_mib * MIB * MEMORY_SHARE // self.measured.memory)

    @property
    def units(self) -> float:
        return math.ceil(self.rows / self.unit_rows)

    @property
    def shards(self) -> float:
        """--shards that keep what one worker is given within `shard_mib`."""
        return max(8, math.ceil(self.rows * self.measured.ipc / (self.assumed.shard_mib * MIB)))

    @property
    def sort_buckets(self) -> float:
        """What rank sorts at once: shards are cut further where they are larger than a quarter of --memory."""
        slices = math.ceil(self.rows * self.measured.memory / (self.assumed.rank_memory_mib * MIB * MEMORY_SHARE))
        return self.shards + slices - 1

    @property
    def slices(self) -> float:
        """IPC slices that rank shuffles: one for each bucket that a unit has rows of."""
        return self.units * occupied(min(self.unit_rows, self.rows), self.sort_buckets)

    # Shuffles, bytes of the whole job

    def score_shuffles(self) -> dict[str, float]:
        """Return the bytes of each shuffle of score."""
        assumed, rows = self.assumed, self.rows
        in_range = rows / self.ranges
        blocks = 3 * self.ranges * occupied(in_range, self.key_buckets)
        found = {
            "keys of pairs and of both sides": rows * (PAIR_BYTES + 2 * SIDE_BYTES) + blocks * assumed.element_bytes,
            "which rows stood earlier": rows * 3 * assumed.repeated * PLACE_BYTES,
            "ranges, parts": 4 * self.ranges * assumed.entry_bytes,
        }
        if assumed.document_pairs:
            documents = rows / assumed.document_pairs
            sums = documents * occupied(assumed.document_pairs, self.key_buckets)
            asked = self.ranges * occupied(max(1.0, in_range / assumed.document_pairs), self.key_buckets)
            found["documents"] = sums * SUM_BYTES + documents * (8 + ANSWER_BYTES) + 2 * asked * assumed.element_bytes
        return found

    def rank_shuffles(self) -> dict[str, float]:
        """Return the bytes of each shuffle of rank."""
        sampled = self.rows * (SAMPLE_SHARE if self.rows >= SAMPLE_FROM else 1)
        return {
            "sampled keys": sampled * 8,
            "the cuts, with each unit": self.units * self.sort_buckets * 16,
            "counts of each unit": self.units * self.shards * 8,
            "rows, as Arrow IPC": self.rows * self.measured.ipc,
            "what slices cost beside their rows": self.slices
            * (self.measured.slice_bytes + self.assumed.element_bytes),
        }

    # Time and money

    @property
    def score_hours(self) -> float:
        """Core-hours of score."""
        return self.rows / self.measured.score_rate * self.assumed.overhead / self.assumed.speed / 3600

    @property
    def rank_hours(self) -> float:
        """Core-hours of rank, but for what its slices cost."""
        return self.rows / self.measured.rank_rate * self.assumed.overhead / self.assumed.speed / 3600

    @property
    def slice_hours(self) -> float:
        """Core-hours that rank's slices cost on top: writing and reading each of them."""
        return self.slices * self.measured.slice_cpu / self.assumed.speed / 3600

    @property
    def paid_hours(self) -> float:
        """vCPU-hours to pay for."""
        return (self.score_hours + self.rank_hours + self.slice_hours) / self.assumed.busy

    @property
    def workers(self) -> int:
        """Worker processes, each with a vCPU, that are done in `hours`."""
        return max(1, math.ceil(self.paid_hours / self.assumed.hours))

    @property
    def cost(self) -> float:
        """Price of it all: vCPUs, memory and shuffled bytes."""
        assumed = self.assumed
        hourly = assumed.vcpu_price + assumed.process_mib / 1024 * assumed.gib_price
        shuffled = sum(self.score_shuffles().values()) + sum(self.rank_shuffles().values())
        return self.paid_hours * hourly + shuffled / 1e9 * assumed.shuffle_price

    @property
    def without_slices(self) -> Model:
        """The same, were nothing to pay for slices beside their rows: what larger pieces would come near to."""
        return dataclasses.replace(self, measured=dataclasses.replace(self.measured, slice_bytes=0.0, slice_cpu=0.0))

    # What must fit into one process

    @property
    def room(self) -> float:
        """Bytes of a process that are left beside the models, the code and Beam."""
        return (self.assumed.process_mib - self.measured.score_mib - self.assumed.beam_mib) * MIB

    def places(self) -> dict[str, float]:
        """Return the bytes that one process must hold at once, for each step that gathers something."""
        rows, assumed = self.rows, self.assumed
        sampled = rows * (SAMPLE_SHARE if rows >= SAMPLE_FROM else 1)
        shard_slices = self.slices / self.shards
        bucket_rows = rows / self.sort_buckets
        return {
            "score: all ranges (numbering), all parts (manifest)": self.ranges * assumed.entry_bytes,
            "score: pair keys of a bucket, and their sort": 4 * PAIR_BYTES * rows / self.key_buckets,
            "score: the most frequent side, and its sort": 4 * SIDE_BYTES * rows * assumed.hottest,
            "rank: all sampled keys, and their sort": 2 * 8 * sampled,
            "rank: counts of all units": 8 * self.units * self.shards,
            "rank: a shard's slices, and a bucket that is sorted": rows / self.shards * self.measured.ipc
            + shard_slices * self.measured.slice_bytes
            + 2 * bucket_rows * self.measured.memory,
        }

    def limits(self) -> dict[str, float]:
        """Return, for each place, the number of rows at which it is full."""
        return {name: self._rows_at(name) for name in self.places()}

    def _rows_at(self, place: str) -> float:
        """Return the most rows with which a place is not over-full, to a thousandth."""
        low, high = 1.0, 1e18
        if dataclasses.replace(self, rows=high).places()[place] <= self.room:
            return math.inf
        while high / low > 1.001:
            middle = math.sqrt(low * high)
            full = dataclasses.replace(self, rows=middle).places()[place] > self.room
            low, high = (low, middle) if full else (middle, high)
        return low
