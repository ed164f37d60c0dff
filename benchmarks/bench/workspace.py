"""What the benchmarks of one call share: a scratch folder, the text in it, and the ways to run filter-cli."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from bench.data import SOURCE_LANG, TARGET_LANG, Corpus, load_corpus, write_moses, write_tsv
from bench.measure import Run, best_of, cpu, run

LANGUAGES = ("--source-lang", SOURCE_LANG, "--target-lang", TARGET_LANG)


class Workspace:
    """Inputs are made once, outputs anew; `rows` pairs are measured, `repeats` times where that is quick."""

    def __init__(self, folder: Path, *, rows: int, repeats: int) -> None:
        self.folder = folder
        self.rows = rows
        self.repeats = repeats
        self.cli = Path(sys.executable).with_name("filter-cli")

    @cached_property
    def corpus(self) -> Corpus:
        return load_corpus()

    @cached_property
    def sample(self) -> Corpus:
        """The pairs that most benchmarks run on."""
        return self.corpus.head(self.rows)

    @cached_property
    def tsv(self) -> Path:
        path = self.folder / "pairs.tsv"
        write_tsv(path, self.sample.pairs)
        return path

    @cached_property
    def moses(self) -> list[Path]:
        return write_moses(self.folder / "moses", self.sample.pairs)

    @cached_property
    def rules_only(self) -> Path:
        """A profile that switches language id off and leaves the rest as it is."""
        path = self.folder / "rules-only.yaml"
        path.write_text("rules:\n  wrong_language_source: off\n  wrong_language_target: off\n")
        return path

    @cached_property
    def scored(self) -> Path:
        """The sample, scored with everything on."""
        self.score()
        return self.folder / "scored.parquet"

    def score(self, *options: str | Path, tsv: Path | None = None) -> Run:
        """Run `filter-cli score` from TSV to Parquet."""
        output = self.folder / "scored.parquet"
        return run([self.cli, "score", tsv or self.tsv, *LANGUAGES, "-o", output, "--restart", *options])

    def best_score(self, *options: str | Path) -> Run:
        """Score several times; the run with the least CPU-seconds counts."""
        return best_of(self.repeats, lambda: self.score(*options), key=cpu)

    def script(self, code: str, *arguments: str | Path) -> Run:
        """Run Python code in a process of its own."""
        return run([sys.executable, "-c", code, *arguments])

    def remove(self, paths: Sequence[Path]) -> None:
        """Delete large files as soon as they are no longer needed."""
        for path in paths:
            path.unlink(missing_ok=True)
