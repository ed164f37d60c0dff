"""Benchmark of a stream on Prism: files that arrive for three minutes, each row out once, and how long that takes."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from bench.data import SOURCE_LANG, TARGET_LANG, write_tsv
from bench.measure import BenchmarkError, run
from bench.results import Figure, Target
from bench.workspace import Workspace

FILES = 100
ROWS_A_FILE = 3_000
FEED_S = 180.0
WINDOW_S = 60
LEAD_S = 15.0  # until the runner and the models are up


def stream(space: Workspace) -> list[Figure]:
    """Feed 100 files into a watched folder; a file's delay is from its arrival to its window in current.json."""
    rows = ROWS_A_FILE * space.rows // 100_000  # --rows scales this benchmark, too
    incoming, output = space.folder / "incoming", space.folder / "windows"
    incoming.mkdir()
    arrived: dict[str, float] = {}
    listed: dict[str, float] = {}
    ended = threading.Event()
    threads = [
        threading.Thread(target=_feed, args=(space, incoming, rows, arrived)),
        threading.Thread(target=_follow, args=(output, listed, ended)),
    ]
    for thread in threads:
        thread.start()
    command: list[str | Path] = [
        *(sys.executable, "-m", "bisift.pipelines.stream", "--input", incoming, "--output", output),
        *("--runner=PrismRunner", "--source-lang", SOURCE_LANG, "--target-lang", TARGET_LANG, "--keep-dropped"),
        *("--window", f"{WINDOW_S}s", "--stop-after", f"{LEAD_S + FEED_S + WINDOW_S:.0f}s"),
    ]
    try:
        measured = run(command).measured
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    seen: Counter[tuple[str, int]] = Counter()
    delays: list[float] = []
    for folder in sorted(output.glob("window-*")):
        manifest = json.loads((folder / "manifest.json").read_text())
        delays += [listed[folder.name] - arrived[Path(entry["path"]).name] for entry in manifest["inputs"]]
        for shard in manifest["shards"]:
            table = pq.read_table(folder / shard["file"], columns=["origin", "row"])
            seen.update(zip(table["origin"].to_pylist(), table["row"].to_pylist(), strict=True))
    shutil.rmtree(incoming)
    shutil.rmtree(output)
    total = FILES * rows
    if len(delays) != FILES:
        raise BenchmarkError(f"{len(delays)} of {FILES} files were published")
    return [
        Figure(
            name=f"stream of {total:,} rows in {FILES} files on Prism: rows out exactly once",
            unit="",
            value=sum(count == 1 for count in seen.values()) / total,
            target=Target(bound=1.0, kind="at_least"),
            note=f"{sum(seen.values()):,} rows in all",
            measured={"stream": measured},
        ),
        Figure(
            name="longest delay from a file's arrival to its window in current.json, in windows",
            unit="×",
            value=max(delays) / WINDOW_S,
            target=Target(bound=2.0, kind="under"),
            note=f"mean {sum(delays) / len(delays):.0f} s, windows of {WINDOW_S} s",
        ),
        Figure(name="the same stream", unit="rows per CPU-second", value=total / measured.cpu_s),
        Figure(name="the same stream: peak RssAnon", unit="MiB", value=measured.rss_anon_mib),
    ]


def _feed(space: Workspace, folder: Path, rows: int, arrived: dict[str, float]) -> None:
    """Let a file appear every FEED_S / FILES seconds."""
    pairs = space.corpus.varied()
    time.sleep(LEAD_S)
    begin = time.monotonic()
    for number in range(FILES):
        name = f"{number:03d}.tsv"
        write_tsv(folder / f".{name}", list(itertools.islice(pairs, rows)))
        time.sleep(max(0.0, begin + number * FEED_S / FILES - time.monotonic()))
        (folder / f".{name}").rename(folder / name)
        arrived[name] = time.monotonic()


def _follow(output: Path, listed: dict[str, float], ended: threading.Event) -> None:
    """Note when each window is first listed."""
    while not ended.wait(0.2):
        if (output / "current.json").exists():
            for name in json.loads((output / "current.json").read_text())["windows"]:
                listed.setdefault(name, time.monotonic())
