"""The peers: programs of the field that do a like job, each in a virtual environment of its own, run as a subprocess.

They are made on first use below $BISIFT_PEERS (~/.cache/bisift-peers by default), never in the repository and never
in bisift's environment: nothing of theirs is imported. What cannot be installed is reported as not run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

from bench.data import SOURCE_LANG, TARGET_LANG
from bench.measure import BenchmarkError, Run, run
from bench.results import ROOT

OPUSFILTER_CONFIG = ROOT / "benchmarks" / "peers" / "opusfilter.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """A program to compare with: pinned `requirements`, then `bare` ones without their dependencies.

    `stand_ins` are modules (name and text) put in place of dependencies that are imported but, as it is run here, never
    used; `note` says what was switched off.
    """

    name: str
    version: str
    requirements: tuple[str, ...]
    bare: tuple[str, ...] = ()
    stand_ins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    def bin(self) -> Path:
        """Return the folder of the peer's programs, installing it first where needed.

        Raises:
            BenchmarkError: it cannot be installed.
        """
        home = Path(os.environ.get("BISIFT_PEERS", Path.home() / ".cache" / "bisift-peers")) / self.name
        state = repr((self.requirements, self.bare, sorted(self.stand_ins.items()), sys.version_info[:2]))
        digest = hashlib.sha256(state.encode()).hexdigest()
        mark = home / ".installed"
        if not (mark.exists() and mark.read_text() == digest):
            print(f"installing {self.title} into {home}", file=sys.stderr)
            self._install(home)
            mark.write_text(digest)
        return home / "bin"

    def _install(self, home: Path) -> None:
        try:
            venv.create(home, with_pip=True, clear=True)
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *self.requirements], check=True, capture_output=True, text=True)
            if self.bare:
                subprocess.run([*pip, "--no-deps", *self.bare], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            output = (getattr(error, "stderr", None) or "").strip().splitlines()
            raise BenchmarkError(f"{self.title} cannot be installed: {output[-1] if output else error}") from error
        packages = next((home / "lib").glob("python3*/site-packages"))
        for name, text in self.stand_ins.items():
            (packages / f"{name}.py").write_text(text)


OPUSFILTER = Peer(
    name="opusfilter",
    version="3.3.1",
    requirements=("opusfilter==3.3.1", "setuptools<81"),
    note="10 filters of benchmarks/peers/opusfilter.yaml, one job",
)
HARDRULES = Peer(
    name="bicleaner-hardrules",
    version="2.10.8",
    requirements=("regex", "PyYAML", "toolwrapper<=3", "joblib", "sacremoses==0.0.53", "fasttext-wheel==0.9.2"),
    bare=("bicleaner-hardrules==2.10.8",),
    # Imported at the top, used by the rules that are off here alone; hunspell and kenlm need compilers to build.
    stand_ins={"fastspell": "class FastSpell: ...\n", "kenlm": ""},
    note="all rules (-A), one process; its language, fluency and adult-content rules are off: "
    "their models have to be downloaded",
)

JOEYNMT = Peer(
    name="joeynmt",
    version="2.3.0",
    requirements=("joeynmt==2.3.0", "sentencepiece==0.2.0", "importlib_metadata", "torch==2.13.0", "setuptools<81"),
    note="Transformer of the same shape, one thread, fp32",
)


def run_opusfilter(folder: Path, source: Path, target: Path) -> Run:
    """Filter two Moses files with ten filters."""
    program = OPUSFILTER.bin() / "opusfilter"
    text = OPUSFILTER_CONFIG.read_text()
    for name, path in (("folder", folder), ("source", source), ("target", target)):
        text = text.replace(f"{{{name}}}", str(path))
    config = folder / "opusfilter.yaml"
    config.write_text(text)
    # Beautiful Soup's warnings would cost it time to format.
    env = {"PYTHONWARNINGS": "ignore"}
    return run([program, "--overwrite", "--n-jobs", "1", config], env=env, cwd=folder)


def run_hardrules(folder: Path, tsv: Path) -> Run:
    """Run all rules on a TSV file."""
    program = HARDRULES.bin() / "bicleaner-hardrules"
    languages = ("-s", SOURCE_LANG, "-t", TARGET_LANG)
    output = folder / "hardrules.tsv"
    options = ("-A", "--annotated_output", "--disable_lang_ident", "-p", "1", "--tmp_dir", folder, *languages)
    done = run([program, *options, tsv, output], cwd=folder)
    if _lines(output) != _lines(tsv):
        raise BenchmarkError(f"{HARDRULES.title} lost rows: its figure would not be comparable")
    return done


def _lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
