"""The documentation names files that exist and commands that the program has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bisift.filter.cli import cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def relative_links(text: str) -> Iterator[str]:
    """Yield the files that Markdown links point to, without anchors and web addresses."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            yield target.split("#")[0]


def named_paths(text: str) -> Iterator[str]:
    """Yield what stands in backticks and has a slash and no spaces: the tour's way to name a file or folder."""
    yield from re.findall(r"`(\.?[\w-]+/[\w./-]*)`", text)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each filter-cli command in a code block, up to a comment, pipe or redirection."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("filter-cli "):
                yield shlex.split(re.split(r"\s[|>#]", line)[0])[1:]


@pytest.mark.parametrize("path", DOCS, ids=[str(path.relative_to(ROOT)) for path in DOCS])
def test_relative_links_lead_somewhere(path: Path) -> None:
    missing = [link for link in relative_links(path.read_text(encoding="utf-8")) if not (path.parent / link).exists()]
    assert missing == []


def test_every_file_of_the_tour_exists() -> None:
    named = list(named_paths((ROOT / "docs" / "tour.md").read_text(encoding="utf-8")))
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_readme_commands_and_options_exist() -> None:
    found = list(commands((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {words[0] for words in found} >= {"score", "rank", "explain", "rules"}
    for words in found:
        command = cli.commands[words[0]]
        options = {
            name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts
        }
        assert {word for word in words if word.startswith("-") and word != "-"} <= options, words


def test_readme_opens_with_the_two_commands() -> None:
    block = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    assert [line.split("#")[0].strip() for line in block.splitlines()] == ["make demo", "make test"]
