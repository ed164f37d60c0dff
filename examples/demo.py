"""Score and rank some 66,000 real pairs and a handful of made ones, then say in one screen what came out.

Run by `make demo`. The real pairs are the human translations in the gettext catalogs of the installed Django; the made
ones stand in examples/demo, good and bad, in every format that a crawl may come in. Everything is done by filter-cli,
as a user would, and each command is printed before it runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polib
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TEXTS = Path(__file__).resolve().parent / "demo"
SHARDS = 4
TEXT_WIDTH = 74

# Name of the output, inputs, and the options that their format needs.
MADE = (
    ("pairs", ("pairs.jsonl",), "--keep-column planted"),
    (
        "crawl",
        ("crawl.en-it.tsv",),
        "--source-lang en --target-lang it --document-column url --keep-column planted",
    ),
    ("memory", ("memory.en-fr.tmx",), "--source-lang en --target-lang fr"),
    ("messages", ("messages.de.po",), "--source-lang en --target-lang de"),
    ("corpus", ("corpus.en", "corpus.es"), "--format moses"),
)


def catalog_root() -> Path:
    """Return the folder of the installed Django, without importing it.

    Raises:
        SystemExit: Django is not installed.
    """
    spec = importlib.util.find_spec("django")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo's real text is in Django's translation catalogs: pip install Django")
    return Path(spec.origin).parent


def catalog_pairs(root: Path, languages: frozenset[str] = frozenset()) -> Iterator[dict[str, str]]:
    """Yield the translated entries of all gettext catalogs below `root` as PAIR's columns; a catalog is a document.

    Args:
        root: a folder that holds `locale/LANGUAGE/LC_MESSAGES/*.mo` at any depth.
        languages: only these languages (`pt-BR`); all but English where empty.
    """
    for path in sorted(root.rglob("locale/*/LC_MESSAGES/*.mo")):
        language = path.parent.parent.name.replace("_", "-")
        if language.split("-")[0] == "en" or (languages and language not in languages):
            continue
        for entry in polib.mofile(str(path)):
            # Which plural form fits a singular source depends on the language: leave those entries out.
            if entry.msgid_plural or not entry.msgstr:
                continue
            yield {
                "source": entry.msgid,
                "target": entry.msgstr,
                "source_lang": "en",
                "target_lang": language,
                "document_id": str(path.relative_to(root).with_suffix("")),
                "generator": "human",
            }


def write_catalogs(path: Path, languages: frozenset[str]) -> int:
    """Write the catalogs' pairs as JSONL and return how many there are."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for pair in catalog_pairs(catalog_root(), languages):
            file.write(json.dumps(pair, ensure_ascii=False) + "\n")
            count += 1
    return count


def filter_cli(*arguments: str | Path) -> None:
    """Print and run one filter-cli command of this Python's environment.

    Raises:
        SystemExit: the command failed; its own message is on stderr already.
    """
    words = [str(argument) for argument in arguments]
    print(f"$ filter-cli {shlex.join(words)}", flush=True)
    script = Path(sysconfig.get_path("scripts")) / "filter-cli"
    code = subprocess.run([str(script), *words], check=False).returncode
    if code:
        raise SystemExit(f"filter-cli {words[0]} ended with exit code {code}")


def score_and_rank(output: Path, languages: frozenset[str]) -> None:
    """Write `catalogs.jsonl`, `scored/*.parquet` and `ranked/shard-*.parquet` below `output`."""
    scored = output / "scored"
    scored.mkdir(parents=True)
    catalogs = output / "catalogs.jsonl"
    count = write_catalogs(catalogs, languages)
    print(f"wrote {catalogs}: {count:,} human translations from Django's catalogs", flush=True)
    filter_cli("score", catalogs, "-o", scored / "catalogs.parquet")
    for name, files, options in MADE:
        filter_cli(
            "score", *(_shown(TEXTS / file) for file in files), *shlex.split(options), "-o", scored / f"{name}.parquet"
        )
    parts = sorted(scored.glob("*.parquet"))
    filter_cli("rank", *parts, "--order", "quality", "--shards", str(SHARDS), "-o", output / "ranked")


def _shown(path: Path) -> Path:
    """The path as a person would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def summary(output: Path) -> str:
    """Say what the demo's run in `output` did: counts, reasons, rejects, best and most machine-like pairs."""
    rows = json.loads((output / "ranked" / "manifest.json").read_text(encoding="utf-8"))["rows"]
    shards = sorted((output / "ranked").glob("shard-*.parquet"))
    ranked = pa.concat_tables(pq.read_table(shard) for shard in shards)
    languages = len(pc.unique(ranked["target_lang"].drop_null()))
    lines = [
        "",
        "{in:,} rows read = {kept:,} kept + {dropped:,} dropped + {rejected:,} rejected".format_map(rows),
        f"kept pairs lie in {len(shards)} shards, best first, {languages} target languages: {output / 'ranked'}",
        "",
        "Why pairs were dropped (the first rule that failed)",
    ]
    reasons = Counter({str(reason): int(count) for reason, count in rows["by_reason"].items()})
    lines += [f"  {count:>7,}  {reason}" for reason, count in reasons.most_common()]
    lines += ["", "What could not be read"]
    lines += [f"  {count:>7,}  {reason}" for reason, count in _reject_reasons(output).most_common()]
    lines += ["", "What was planted in examples/demo, and what became of it (means)", *_planted(output)]
    lines += ["", "The three best pairs"]
    lines += _pairs(ranked.slice(0, 3))
    lines += ["", "The three most machine-like pairs that were kept"]
    lines += _pairs(ranked.sort_by([("ai_probability", "descending"), ("rank", "ascending")]).slice(0, 3))
    lines += ["", "Try next", *(f"  {command}" for command in _next_commands(output)), ""]
    return "\n".join(lines)


def _reject_reasons(output: Path) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for path in sorted((output / "scored").glob("*.rejects.jsonl")):
        with open(path, encoding="utf-8") as file:
            reasons.update(str(json.loads(line)["reason"]) for line in file)
    return reasons


def _planted(output: Path) -> list[str]:
    columns = ["extra_planted", "drop_reason", "quality", "ai_probability"]
    parts = [output / "scored" / f"{name}.parquet" for name in ("pairs", "crawl")]
    table = pa.concat_tables(pq.read_table(part, columns=columns) for part in parts)
    kept = pc.is_null(table["drop_reason"].cast(pa.string())).cast(pa.int32())
    groups = (
        table.append_column("kept", kept)
        .group_by("extra_planted")
        .aggregate([("kept", "count"), ("kept", "sum"), ("quality", "mean"), ("ai_probability", "mean")])
        .sort_by([("quality_mean", "descending"), ("extra_planted", "ascending")])
    )
    lines = [f"  {'planted':<16}{'pairs':>7}{'kept':>7}{'quality':>9}{'machine':>9}"]
    for group in groups.to_pylist():
        lines.append(
            f"  {group['extra_planted']:<16}{group['kept_count']:>7}{group['kept_sum']:>7}"
            f"{group['quality_mean']:>9.2f}{group['ai_probability_mean']:>9.2f}"
        )
    return lines


def _pairs(table: pa.Table) -> list[str]:
    lines = []
    for row in table.to_pylist():
        known = "" if row["ai_language_known"] else " (language without training data)"
        lines.append(
            f"  {row['source_lang']} -> {row['target_lang']}  quality {row['quality']:.2f},"
            f" machine-written {row['ai_probability']:.2f}{known}"
        )
        lines += [f"      {_short(row['source'])}", f"      {_short(row['target'])}"]
    return lines


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TEXT_WIDTH else line[: TEXT_WIDTH - 1] + "…"


def _next_commands(output: Path) -> list[str]:
    cli = _shown(Path(sysconfig.get_path("scripts")) / "filter-cli")
    return [
        f"{cli} explain {output}/scored/crawl.parquet --row 5",
        f'{cli} explain --source "Mind the gap." --target "Attention à la marche." --source-lang en --target-lang fr',
        f"{cli} rank {output}/scored/*.parquet --order human --shards 8 -o {output}/human-first",
        f"{cli} score YOUR.tsv.gz --source-lang en --target-lang it -o YOUR.parquet",
        f"{cli} rules > my-profile.yaml",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="a new or empty folder")
    parser.add_argument("--languages", default="", help="only these catalogs, such as de,pt-BR (default: all)")
    options = parser.parse_args()
    output: Path = options.output
    if output.exists() and any(output.iterdir()):
        parser.error(f"{output} is not empty: remove it or name another --output")
    score_and_rank(output, frozenset(filter(None, options.languages.split(","))))
    print(summary(output))


if __name__ == "__main__":
    main()
