"""Benchmark of the readers: each format into PAIR chunks, against the format's usual parser in a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import data
from bench.measure import best_of, cpu
from bench.results import Figure
from bench.workspace import Workspace

OURS = f"""
import sys
from bisift.filter.readers import ReadOptions, expand, read
options = ReadOptions(source_lang={data.SOURCE_LANG!r}, target_lang={data.TARGET_LANG!r})
for origin in expand(sys.argv[1:], options):
    for chunk in read(origin, options):
        assert not chunk.rejects, chunk.rejects[0]
"""

# The same result, without checks, places or rejects: the parser, then an Arrow table with the pair's identity.
LOOP = f"""
import sys, pyarrow as pa, xxhash
def identity(source, target):
    return xxhash.xxh3_128_digest("\\x1f".join(({data.SOURCE_LANG!r}, {data.TARGET_LANG!r}, source, target)).encode())
pairs = list(parse(*sys.argv[1:]))
pa.table({{"source": [a for a, _ in pairs], "target": [b for _, b in pairs], "id": [identity(*p) for p in pairs]}})
"""

PARSERS = {
    "tsv": "def parse(path):\n    for line in open(path, encoding='utf-8', newline='\\n'):\n"
    "        yield line.rstrip('\\n').split('\\t')[:2]\n",
    "csv": "import csv\ndef parse(path):\n    return csv.reader(open(path, encoding='utf-8', newline=''))\n",
    "jsonl": "import json\ndef parse(path):\n    for line in open(path, encoding='utf-8'):\n"
    "        row = json.loads(line)\n        yield row['source'], row['target']\n",
    "parquet": "import pyarrow.parquet as pq\ndef parse(path):\n    table = pq.read_table(path)\n"
    "    return zip(table['source'].to_pylist(), table['target'].to_pylist())\n",
    "tmx": "from lxml import etree\ndef parse(path):\n    for _, unit in etree.iterparse(path, tag='tu'):\n"
    "        yield [''.join(seg.itertext()) for seg in unit.iter('seg')]\n        unit.clear()\n",
    "po": "import polib\ndef parse(path):\n    return [(e.msgid, e.msgstr) for e in polib.pofile(path)]\n",
}
WRITERS: dict[str, Callable[[Path, list[data.Pair]], None]] = {
    "tsv": data.write_tsv,
    "csv": data.write_csv,
    "jsonl": data.write_jsonl,
    "parquet": data.write_parquet,
    "tmx": data.write_tmx,
    "po": data.write_po,
}


def readers(space: Workspace) -> list[Figure]:
    """For every format, pairs per CPU-second and how many times the plain loop that is."""
    figures = []
    for name, write in WRITERS.items():
        path = space.folder / f"read.{name}"
        write(path, space.sample.pairs)
        ours = best_of(space.repeats, partial(space.script, OURS, path), key=cpu).measured
        plain = best_of(space.repeats, partial(space.script, PARSERS[name] + LOOP, path), key=cpu).measured
        space.remove([path])
        figures += [
            Figure(
                name=f"{name}: reading, times a plain loop",
                unit="×",
                value=plain.cpu_s / ours.cpu_s,
                note=f"{space.rows / ours.cpu_s:,.0f} against {space.rows / plain.cpu_s:,.0f} pairs per CPU-second",
                measured={"bisift": ours, "plain loop": plain},
            )
        ]
    return figures
