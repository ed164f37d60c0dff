"""The Dockerfile, read: no container engine is needed to see that what it copies is there and that its stages fit.

The stage that builds the wheel is carried out for real, from the files that the builder would be sent.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

import bisift
from tests.unit.test_packaging import expected_files

ROOT = Path(__file__).resolve().parents[2]
BOOT = '["/opt/apache/beam/boot"]'
LAUNCHER = "/opt/google/dataflow/python_template_launcher"


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and what follows; `words` of an instruction include its flags."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        return [text for found, text in self.instructions if found == keyword]


def stages() -> dict[str, Stage]:
    """Read the Dockerfile into its stages, with the defaults of the ARGs before the first FROM put in."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    defaults: dict[str, str] = {}
    found: list[tuple[str, str, list[tuple[str, str]]]] = []
    for line in text.replace("\\\n", " ").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        rest = " ".join(rest.split())
        if keyword == "ARG" and not found:
            name, _, value = rest.partition("=")
            defaults[name] = value
        elif keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append((name, re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base), []))
        elif keyword:
            found[-1][2].append((keyword, rest))
    return {name: Stage(name, base, tuple(lines)) for name, base, lines in found}


def lineage(stage: Stage) -> list[Stage]:
    """Return a stage and those that it is built from, the last one first."""
    all_stages = stages()
    found = [stage]
    while found[-1].base in all_stages:
        found.append(all_stages[found[-1].base])
    return found


def filled(text: str, stage: Stage) -> str:
    """Put the defaults of a stage's own ARGs into a text."""
    defaults = dict(argument.split("=", 1) for argument in stage.all("ARG"))
    return re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], text)


def copies(stage: Stage) -> Iterator[tuple[list[str], str]]:
    """Yield sources and target of each COPY from the context."""
    for text in (filled(text, stage) for text in stage.all("COPY")):
        if not text.startswith("--from="):
            *sources, target = text.split()
            yield sources, target


def sent(path: PurePosixPath) -> bool:
    """Whether .dockerignore lets a file through: the last line that matches it or a folder above it decides."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    places = [str(path), *map(str, path.parents)][:-1]
    through = True
    for line in filter(lambda line: line and not line.startswith("#"), lines):
        pattern = line.lstrip("!").removeprefix("**/")
        anywhere = line.lstrip("!").startswith("**/")
        names = [place.rpartition("/")[2] for place in places] if anywhere else places
        if any(
            fnmatch.fnmatchcase(name, pattern) and (anywhere or name.count("/") == pattern.count("/")) for name in names
        ):
            through = line.startswith("!")
    return through


def context() -> list[PurePosixPath]:
    """Return the files and links that the builder is sent."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in {".git", ".venv"}]
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [PurePosixPath((Path(folder) / name).relative_to(ROOT).as_posix()) for name in [*files, *links]]
    return [path for path in found if sent(path)]


@pytest.fixture(scope="module")
def files() -> list[PurePosixPath]:
    return context()


def test_everything_that_is_copied_is_sent(files: list[PurePosixPath]) -> None:
    wanted = [source.rstrip("/") for stage in stages().values() for sources, _ in copies(stage) for source in sources]
    assert {"setup.py", "bisift", "models", "constraints.txt", "deploy/dataflow/score.py"} <= set(wanted)
    held = {str(place) for path in files for place in (path, *path.parents)}
    assert [name for name in wanted if name not in held] == []


def test_nothing_else_is_sent(files: list[PurePosixPath]) -> None:
    wanted = {source.rstrip("/") for stage in stages().values() for sources, _ in copies(stage) for source in sources}
    left = {str(path) for path in files if not wanted & {str(path), *map(str, path.parents)}}
    assert left == {"deploy/dataflow/rank.py"}  # with --build-arg JOB=rank
    assert not [path for path in files if "__pycache__" in path.parts or path.suffix == ".egg-info"]
    assert sum((ROOT / path).stat().st_size for path in files if not (ROOT / path).is_symlink()) < 64 << 20


def test_the_wheel_of_the_image_holds_all_modules_and_weights(files: list[PurePosixPath], tmp_path: Path) -> None:
    source = tmp_path / "src"
    for sources, target in copies(stages()["wheel"]):
        for name in sources:
            inside = [path for path in files if name.rstrip("/") in {str(path), *map(str, path.parents)}]
            assert inside, name
            for path in inside:
                into = source / target / (path.relative_to(name.rstrip("/")) if name.endswith("/") else path.name)
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, into, follow_symlinks=False)
    (build,) = stages()["wheel"].all("RUN")
    words = build.replace("/wheels", str(tmp_path / "wheels")).split()
    assert words[:2] == ["pip", "wheel"]
    command = [sys.executable, "-m", *words, "--no-build-isolation", "--quiet"]  # as setuptools is here already
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    with zipfile.ZipFile(next((tmp_path / "wheels").glob("bisift-*.whl"))) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected_files()


def test_beam_and_python_are_those_that_are_tested() -> None:
    beam = re.search(r"^apache-beam==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert beam is not None
    found = re.fullmatch(r"apache/beam_python(3\.\d+)_sdk:(\S+)", stages()["wheel"].base)
    assert found is not None
    assert found[2] == beam[1]
    assert f"Python :: {found[1]}" in (ROOT / "setup.py").read_text()
    assert stages()["package"].base == stages()["wheel"].base
    assert f"python{found[1].replace('.', '')}-template-launcher-base:" in stages()["launcher"].base


def test_what_is_installed_is_what_was_built() -> None:
    package = stages()["package"]
    assert "--from=wheel /wheels/ ./" in package.all("COPY")
    (install,) = package.all("RUN")
    assert install.startswith("pip install --no-cache-dir --constraint constraints.txt ./*.whl && pip check && ")


def test_the_default_image_is_not_run_as_root() -> None:
    *_, (name, worker) = stages().items()
    assert name == "worker"
    assert worker.all("USER") == ["1000"]  # a number: Kubernetes' runAsNonRoot asks for one
    assert worker.all("ENTRYPOINT") == [BOOT]
    user = next(text for text in worker.all("RUN") if "useradd" in text)
    assert "--uid 1000 bisift" in user
    # boot makes its virtual environments there, and fails where it may not.
    assert "install --directory --owner=bisift --group=bisift /opt/apache/beam-venv" in user


def test_the_image_of_dataflow_launches_a_job() -> None:
    stage = stages()["dataflow"]
    assert [one.name for one in lineage(stage)] == ["dataflow", "package"]
    assert stage.all("ENTRYPOINT") == [BOOT]
    assert not any(one.all("USER") for one in lineage(stage))
    assert f"--from=launcher {LAUNCHER} {LAUNCHER}" in stage.all("COPY")
    assert stage.all("ARG") == ["JOB=score"]
    assert list(copies(stage)) == [(["deploy/dataflow/score.py"], "/template/")]
    (launched,) = [text.partition("FLEX_TEMPLATE_PYTHON_PY_FILE=")[2] for text in stage.all("ENV")]
    assert filled(launched, stage) == "/template/score.py"


@pytest.mark.parametrize("job", ["score", "rank"])
def test_what_the_launcher_runs_takes_the_options_of_the_job(job: str, tmp_path: Path) -> None:
    if not (ROOT / "pipelines" / f"{job}.py").exists():
        pytest.skip(f"python -m bisift.pipelines.{job} is not there yet")
    script = shutil.copy(ROOT / "deploy" / "dataflow" / f"{job}.py", tmp_path)
    result = subprocess.run(
        [sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert f"bisift.pipelines.{job}" in result.stdout
    assert "--input" in result.stdout


def test_the_tag_of_the_docs_is_the_version() -> None:
    assert f"/bisift:{bisift.__version__} ." in (ROOT / "Dockerfile").read_text()
