"""What a person gets from the built distributions: the whole package through its symbolic links, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.runners.portability.stager import Stager

import bisift

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("filter", "models", "pipelines", "trainer")


def copy_sources(target: Path) -> None:
    """Copy what a build reads, links as links, so that building leaves nothing in the checkout."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("bisift", "tests", *FOLDERS):
        shutil.copytree(ROOT / folder, target / folder, symlinks=True, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target / name)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from that sdist (what `python -m build` does)."""
    source = tmp_path_factory.mktemp("source")
    copy_sources(source)
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        yield archive


def expected_files() -> set[str]:
    """All modules, and the data that belongs to them, under the names that they are imported by."""
    found = {path.name for path in (ROOT / "bisift").iterdir() if path.suffix == ".py"} | {"py.typed"}
    for folder in FOLDERS:
        for pattern in ("*.py", "*.yaml", "report/*.css", "report/*.js", "weights/*"):
            paths = (path for path in (ROOT / folder).rglob(pattern) if path.is_file() and path.name[0] != ".")
            found |= {str(path.relative_to(ROOT)) for path in paths}
    return {f"bisift/{name}" for name in found}


def test_wheel_holds_every_module_and_data_file_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == expected_files()


def test_links_became_files(wheel: zipfile.ZipFile) -> None:
    for folder in FOLDERS:
        assert wheel.read(f"bisift/{folder}/__init__.py") == (ROOT / folder / "__init__.py").read_bytes()


def test_metadata_names_version_licence_and_command(wheel: zipfile.ZipFile) -> None:
    info = f"bisift-{bisift.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert not any(name in line for line in base for name in ("torch", "apache-beam", "Django"))
    assert re.search(r"^License(-Expression)?: Apache-2\.0$", metadata, re.MULTILINE)
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    commands = wheel.read(f"{info}/entry_points.txt").decode()
    assert "filter-cli = bisift.filter.cli:main" in commands
    assert "trainer-cli = bisift.trainer.cli:main" in commands


def test_sdist_holds_no_link(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        assert [member.name for member in archive if member.issym() or member.islnk()] == []


@pytest.mark.parametrize("with_build", [True, False], ids=["python -m build", "setup.py sdist"])
def test_beam_stages_the_package_with_its_weights_offline(
    with_build: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `--setup_file setup.py` does when a job is handed in: with the package `build`, or else by setuptools."""
    source, staged, hidden = (tmp_path / name for name in ("source", "staged", "hidden"))
    copy_sources(source)
    staged.mkdir()
    hidden.mkdir()
    if not with_build:
        (hidden / "build.py").write_text("raise SystemExit('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    made = Stager._build_setup_package(str(source / "setup.py"), str(staged))
    assert Path(made).name == f"bisift-{bisift.__version__}.tar.gz"
    with tarfile.open(made) as archive:
        assert [member.name for member in archive if member.issym() or member.islnk()] == []
        files = {member.name.partition("/")[2]: member for member in archive if member.isfile()}
        assert expected_files() - set(files) == set()
        weights = [name for name in files if name.startswith("bisift/models/weights/")]
        assert len(weights) >= 5
        for name in weights:
            held = archive.extractfile(files[name])
            assert held is not None
            assert held.read() == (ROOT / name.removeprefix("bisift/")).read_bytes()


def test_installed_wheel_works_away_from_the_checkout(dist: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        archive.extractall(target)
    code = "import bisift, bisift.contract, bisift.filter.text as text; print(bisift.__version__, text.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(target)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [bisift.__version__, str(target / "bisift" / "filter" / "text.py")]
