"""Windows of a stream: each is published once, whole, as a ranked folder of its own, and listed in current.json."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import StrUtf8Coder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import IntervalWindow

from bisift import remote
from bisift.contract import CONTRACT_VERSION
from bisift.filter.finishing import finished
from bisift.filter.publishing import Places, publish, scored_manifest
from bisift.filter.ranking import RankOptions, rank_files
from bisift.manifest import CURRENT_NAME, MANIFEST_NAME, read_json, write_json
from bisift.pipelines import metrics, storage
from bisift.pipelines.scoring import ScoreJob, SharedScorer

PREFIX = "window-"
REJECTS = "rejects.jsonl"


class Fact(NamedTuple):
    """What a window is made of: a scored part, a file that was read, or a file that changed after it was read.

    `name`: of the part, or the path. `version`, `was`: of a file, now and when it was read.
    """

    kind: str
    name: str
    number: int = 0
    size: int | None = None
    version: str | None = None
    was: str | None = None


PART, FILE, CHANGE = "part", "file", "change"


class Ledger:
    """What the published windows of a folder hold, from their manifests; each is read once."""

    def __init__(self, output: str) -> None:
        self._output = output
        self.windows: set[str] = set()
        self.parts: set[str] = set()
        self.versions: dict[str, str] = {}
        """The version of each path that was read, or was seen to have changed, last."""
        self.published_until = 0.0
        """End of the last window that is published, in seconds since 1970; 0 before the first."""

    def refresh(self) -> None:
        """Read the manifests of windows that were published since.

        Raises:
            BisiftError: the folder cannot be listed or read.
        """
        for name in storage.folders(self._output):
            path = remote.join(remote.join(self._output, name), MANIFEST_NAME)
            if not name.startswith(PREFIX) or name in self.windows or not storage.exists(path):
                continue
            with storage.fetched(path) as local:
                manifest = read_json(local)
            self.windows.add(name)
            self.parts.update(manifest["parts"])
            ended = datetime.datetime.fromisoformat(manifest["window"]["end"]).timestamp()
            self.published_until = max(self.published_until, ended)
            for entry in (*manifest["inputs"], *manifest["changed_inputs"]):
                if entry.get("version") is not None:
                    self.versions[entry["path"]] = entry["version"]

    def has(self, fact: Fact) -> bool:
        """Whether a file in this version is in a published window; messages have no versions."""
        return fact.version is not None and self.versions.get(fact.name) == fact.version


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamJob:
    """What the steps of a stream must know: how pairs are scored, and how a window of them is ranked."""

    score: ScoreJob
    rank: RankOptions
    window_s: float


class Publish(beam.DoFn):
    """From (anything, facts of a window) to the name of the folder that was published; none where it was before."""

    def __init__(self, job: StreamJob, scorer: SharedScorer) -> None:
        self._job = job
        self._shared = scorer

    def setup(self) -> None:
        self._scorer = self._shared.get().scorer
        self._ledger = Ledger(self._job.score.output)

    def process(
        self, element: tuple[Any, Iterable[Fact]], window: IntervalWindow = beam.DoFn.WindowParam
    ) -> Iterator[str]:
        self._ledger.refresh()
        facts = sorted(set(element[1]), key=lambda fact: (fact.kind, fact.name, fact.number))
        files = [fact for fact in facts if fact.kind != PART and not self._ledger.has(fact)]
        parts = [fact for fact in facts if fact.kind == PART and fact.name not in self._ledger.parts]
        if not files and not parts:
            return
        name = window_name(window, self._ledger.windows)
        began, ended = (_utc(float(edge)) for edge in (window.start, window.end))
        with ExitStack() as stack:
            folder = Path(stack.enter_context(_scratch(self._job.score)))
            ranked = folder / name
            rows = self._rank(parts, files, ranked, stack)
            manifest = read_json(ranked / MANIFEST_NAME)
            manifest |= {
                "window": {"start": began, "end": ended},
                "inputs": [
                    {"path": fact.name, "size": fact.size, "version": fact.version, "rows": rows[fact.number]}
                    for fact in files
                    if fact.kind == FILE
                ],
                "changed_inputs": [
                    {"path": fact.name, "version": fact.version, "was": fact.was}
                    for fact in files
                    if fact.kind == CHANGE
                ],
                "parts": [fact.name for fact in parts],
            }
            write_json(ranked / MANIFEST_NAME, manifest)
            _move(ranked, remote.join(self._job.score.output, name))
        metrics.count("windows")
        metrics.count("published", manifest["rows"]["kept"])
        metrics.count_all("dropped", manifest["rows"]["by_reason"])
        metrics.count("changed_after_read", len(manifest["changed_inputs"]))
        for fact in parts:
            storage.remove(self._job.score.part(fact.name))
        yield name

    def _rank(self, parts: Sequence[Fact], files: Sequence[Fact], ranked: Path, stack: ExitStack) -> Mapping[int, int]:
        """Finish and rank the parts into the folder `ranked`, with their rejects; return the rows of each input."""
        job = self._job.score
        path_of = {fact.number: fact.name for fact in files}
        ordered = sorted(parts, key=lambda fact: (path_of.get(fact.number, ""), fact.name))
        local = [stack.enter_context(storage.fetched(job.part(fact.name))) for fact in ordered]
        places = Places.of(str(ranked.with_suffix(".parquet")), None)
        tally = publish(local, job.schema, finished(local, job.settings.profile, self._scorer), places, None)
        identity = {"models": dict(job.digests), "profile": job.settings.profile.digest}
        assert places.manifest is not None
        write_json(places.manifest, scored_manifest(identity, (), tally, (), prior=job.prior, run={}))
        rank_files([places.output], str(ranked), self._job.rank)
        if tally.rejected:
            assert places.rejects is not None
            os.replace(places.rejects, ranked / REJECTS)
        return tally.per_input


# state makes the runner take the elements of a key in turn
_TURN = beam.DoFn.StateParam(ReadModifyWriteStateSpec("turn", StrUtf8Coder()))


class Current(beam.DoFn):
    """Lists all published windows in current.json, in the order in which they were published; one at a time."""

    def __init__(self, output: str) -> None:
        self._output = output

    def process(self, element: tuple[Any, str], turn: Any = _TURN) -> Iterator[str]:
        turn.write(element[1])
        write_current(self._output)
        yield element[1]


def write_current(output: str) -> None:
    """Write current.json: the windows that it lists already, then those published since, sorted by name.

    Raises:
        BisiftError: the disk or the store refuses.
    """
    ledger = Ledger(output)
    ledger.refresh()
    path = remote.join(output, CURRENT_NAME)
    listed: list[str] = []
    if storage.exists(path):
        with storage.fetched(path) as local:
            listed = [name for name in read_json(local)["windows"] if name in ledger.windows]
    windows = [*listed, *sorted(ledger.windows - set(listed))]
    with storage.created(path) as local:
        write_json(local, {"contract": CONTRACT_VERSION, "kind": "stream", "windows": windows})


def window_name(window: IntervalWindow, taken: set[str]) -> str:
    """Name a window's folder by its beginning; rows that come after it was published get a folder of their own."""
    start = datetime.datetime.fromtimestamp(float(window.start), datetime.UTC)
    base = f"{PREFIX}{start:%Y%m%dT%H%M%S}Z"
    return next(
        name for number in range(len(taken) + 1) if (name := f"{base}-{number}" if number else base) not in taken
    )


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _scratch(job: ScoreJob) -> tempfile.TemporaryDirectory[str]:
    """Return a folder on the output's own disk, so that a window is moved there whole in one step."""
    if remote.is_remote(job.output):
        return tempfile.TemporaryDirectory(prefix="bisift-")
    Path(job.state).mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="window-", dir=job.state)


def _move(ranked: Path, target: str) -> None:
    """Publish a finished folder under its name: by one rename here, behind a URI with the manifest last."""
    if not remote.is_remote(target):
        shutil.rmtree(target, ignore_errors=True)  # without a manifest: what a killed job left
        os.replace(ranked, target)
        return
    names = sorted((path.name for path in ranked.iterdir()), key=lambda name: name == MANIFEST_NAME)
    for name in names:
        with storage.created(remote.join(target, name)) as local:
            shutil.copyfile(ranked / name, local)
