"""What the tests of jobs share: options, runners, inputs of every format, and what filter-cli makes of them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from backports import zstd

from bisift.filter.readers import ReadOptions
from bisift.filter.scoring import ScoreOptions
from bisift.pipelines.options import parse_beam_options
from bisift.pipelines.scorejob import JobOptions
from tests.corpus import Pair, pairs

ROOT = Path(__file__).resolve().parents[2]
PRISM = ROOT.parent / "shared" / "prism" / "install.py"
CLI = Path(sys.executable).with_name("filter-cli")
LANGUAGES = ("--source-lang", "en", "--target-lang", "de")
FNAPI: PipelineOptions = parse_beam_options("FnApiRunner", 1, [])

needs_prism = pytest.mark.skipif(not PRISM.exists(), reason="PRISM IS NOT HERE: no ../shared/prism beside the checkout")


def score_options(**settings: Any) -> ScoreOptions:
    read = {name: settings.pop(name) for name in list(settings) if name in ReadOptions.__slots__}
    read = {"source_lang": "en", "target_lang": "de", **read}
    return ScoreOptions(read=ReadOptions(**read), **{"use_models": False, **settings})


def job_options(*, range_bytes: int = 4_000, strict: bool = False, **settings: Any) -> JobOptions:
    return JobOptions(score=score_options(**settings), range_bytes=range_bytes, strict=strict)


def write_tsv(path: Path, rows: Sequence[Pair]) -> Path:
    lines = ["source\ttarget\tdocument_id", *(f"{row.source}\t{row.target}\t{row.document}" for row in rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def write_mixture(folder: Path, count: int = 240, seed: int = 7) -> list[str]:
    """Write a folder of inputs in many formats that repeat each other's pairs, with bad rows; return their names."""
    rows = list(pairs(count, seed))
    folder.mkdir(parents=True, exist_ok=True)
    write_tsv(folder / "a.tsv", rows)
    with open(folder / "a.tsv", "ab") as file:
        file.write(b"too few\n\xff\tx\n\n" + "مرحبا\tשלום\tdoc-1\n".encode())
    write_tsv(folder / "plain.tsv", rows[: count // 2])
    (folder / "b.tsv.zst").write_bytes(zstd.compress((folder / "plain.tsv").read_bytes()))
    (folder / "plain.tsv").unlink()
    with gzip.open(folder / "c.jsonl.gz", "wt", encoding="utf-8") as file:
        for number, row in enumerate(rows[count // 3 :]):
            value = {"source": row.source, "target": row.target, "document_id": row.document}
            file.write((json.dumps(value) if number % 50 else "{broken") + "\n")
    columns = {"source": [row.source for row in rows[:80]], "target": [row.target for row in rows[:80]]}
    pq.write_table(pa.table(columns), folder / "d.parquet", row_group_size=30)
    units = "".join(
        f'<tu><tuv xml:lang="en"><seg>Unit {n}</seg></tuv><tuv xml:lang="de"><seg>Einheit {n}</seg></tuv></tu>\n'
        for n in range(40)
    )
    (folder / "e.tmx").write_text(f'<tmx version="1.4"><header srclang="en"/><body>{units}</body></tmx>')
    (folder / "f.csv").write_text('source,target\n"two\nlines","zwei, Zeilen"\n"open,\n')
    (folder / "g.jsonl").write_text(
        "".join(json.dumps({"source": f"s {n % 9}", "target": "t"}) + "\n" for n in range(30))
    )
    return sorted(str(path) for path in folder.iterdir())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shard_digests(folder: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in sorted(folder.glob("shard-*.parquet"))}


def manifest(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return value


def table(folder: Path) -> pa.Table:
    """The rows of a scored folder in the order of its manifest, dictionaries decoded."""
    files = [pq.ParquetFile(folder / shard["file"]).read() for shard in manifest(folder)["shards"]]
    return decoded(pa.concat_tables(files))


def decoded(rows: pa.Table) -> pa.Table:
    place = rows.schema.get_field_index("drop_reason")
    return rows.set_column(place, "drop_reason", rows.column("drop_reason").cast(pa.string())).combine_chunks()


def same_rows(one: pa.Table, other: pa.Table) -> bool:
    return bool(one.schema.equals(other.schema, check_metadata=True) and one.equals(other))


def job(module: str, *arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a job's command in a process of its own."""
    command = [sys.executable, "-m", f"bisift.pipelines.{module}", *map(str, arguments)]
    settings = {"timeout": 300, **settings}
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


def install_prism() -> Path:
    """Put Prism where Beam looks for it, and return its binary."""
    archive = Path(subprocess.run([sys.executable, PRISM], capture_output=True, text=True, check=True).stdout.strip())
    binary = archive.with_suffix("")
    if not binary.exists():
        zipfile.ZipFile(archive).extract(binary.name, binary.parent)
    binary.chmod(0o755)
    return binary


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(command: Sequence[object], port: int, log: Path, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the body ends; it is up when its port answers."""
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            list(map(str, command)), stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, **settings
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def worker_pool(port: int, log: Path) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Beam's worker pool: each job's workers are processes of their own below it."""
    module = "apache_beam.runners.worker.worker_pool_main"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", module, f"--service_port={port}"]
    return serving(command, port, log, env=environment, cwd="/")


def job_service(port: int, log: Path) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Beam's own portable job service, which takes jobs as Flink's and Spark's do."""
    module = "apache_beam.runners.portability.local_job_service_main"
    return serving([sys.executable, "-m", module, f"--port={port}"], port, log)
