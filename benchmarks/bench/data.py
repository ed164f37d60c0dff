"""The text that benchmarks run on: 100,000 real English-Italian pairs, and what is made of them."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import polib
import pyarrow as pa
import pyarrow.parquet as pq

from bench.measure import BenchmarkError
from bench.results import ROOT

SHARED = ROOT.parent / "shared" / "data" / "corpora" / "debian-en-it.parquet"
SOURCE_LANG, TARGET_LANG = "en", "it"
Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Corpus:
    """Pairs that fit every format: one line a side, neither side empty. `name` says where they are from."""

    name: str
    pairs: list[Pair]

    def head(self, rows: int) -> Corpus:
        """Return `rows` pairs, all different: as they are, then repeated with a number added to both sides."""
        return Corpus(self.name, list(itertools.islice(self.varied(), rows)))

    def varied(self) -> Iterator[Pair]:
        """Yield pairs without end: after each round through the corpus, both sides carry the round's number."""
        yield from self.pairs
        for number in itertools.count(1):
            for source, target in self.pairs:
                yield f"{source} ({number})", f"{target} ({number})"


def load_corpus() -> Corpus:
    """Return Debian's package descriptions where the development data is beside the checkout, else Django's catalogs.

    Raises:
        BenchmarkError: there is neither.
    """
    if SHARED.exists():
        table = pq.read_table(SHARED, columns=["source", "target"])
        pairs = zip(table.column("source").to_pylist(), table.column("target").to_pylist(), strict=True)
        return Corpus("Debian package descriptions, en-it", list(_clean(pairs)))
    spec = importlib.util.find_spec("django")
    if spec is None or spec.origin is None:
        raise BenchmarkError("no text to run on: pip install Django, whose gettext catalogs serve as text")
    catalogs = sorted(Path(spec.origin).parent.rglob(f"locale/{TARGET_LANG}/LC_MESSAGES/*.mo"))
    entries = (entry for path in catalogs for entry in polib.mofile(str(path)) if not entry.msgid_plural)
    return Corpus(
        "Django gettext catalogs, en-it, repeated: not comparable to figures on Debian's descriptions",
        list(_clean((entry.msgid, entry.msgstr) for entry in entries)),
    )


def _clean(pairs: Iterator[Pair]) -> Iterator[Pair]:
    for source, target in pairs:
        source, target = " ".join(source.split()), " ".join(target.split())
        if source and target:
            yield source, target


def write_tsv(path: Path, pairs: Iterator[Pair] | list[Pair]) -> None:
    """Write source, tab, target a line, without a header."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{source}\t{target}\n" for source, target in pairs)


def write_moses(stem: Path, pairs: list[Pair]) -> list[Path]:
    """Write stem.en and stem.it, one segment a line, and return both paths."""
    paths = [stem.with_suffix(f".{language}") for language in (SOURCE_LANG, TARGET_LANG)]
    for side, path in enumerate(paths):
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{pair[side]}\n" for pair in pairs)
    return paths


def write_csv(path: Path, pairs: list[Pair]) -> None:
    """Write a quoted CSV without a header."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(pairs)


def write_jsonl(path: Path, pairs: list[Pair]) -> None:
    """Write one object with source and target a line."""
    with open(path, "w", encoding="utf-8") as file:
        for source, target in pairs:
            file.write(json.dumps({"source": source, "target": target}, ensure_ascii=False) + "\n")


def write_parquet(path: Path, pairs: list[Pair]) -> None:
    """Write columns source and target in row groups of 65,536."""
    sources, targets = zip(*pairs, strict=True)
    pq.write_table(pa.table({"source": sources, "target": targets}), path, row_group_size=65_536, compression="zstd")


def write_tmx(path: Path, pairs: list[Pair]) -> None:
    """Write a TMX 1.4 with one unit a pair."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header srclang="en"/><body>\n')
        for pair in pairs:
            sides = zip((SOURCE_LANG, TARGET_LANG), pair, strict=True)
            tuvs = "".join(
                f'<tuv xml:lang="{lang}"><seg>{escape(_printable(text))}</seg></tuv>' for lang, text in sides
            )
            file.write(f"<tu>{tuvs}</tu>\n")
        file.write("</body></tmx>\n")


def write_po(path: Path, pairs: list[Pair]) -> None:
    """Write a gettext catalog with one entry a pair."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\nLanguage: it\\n"\n\n')
        for source, target in pairs:
            file.write(f'msgid "{polib.escape(source)}"\nmsgstr "{polib.escape(target)}"\n\n')


def _printable(text: str) -> str:
    """Leave out what XML 1.0 cannot hold."""
    return "".join(character for character in text if character >= " ")
