"""docs/deployment.md gives options that exist, and the Flink options that the manifest gives."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from bisift.filter.cli import cli
from tests.unit.test_flex_template import PARAMETERS
from tests.unit.test_flink_manifest import ARGUMENTS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
JOBS = [shlex.split(line) for line in BLOCKS.splitlines() if line.startswith("python -m bisift.pipelines.")]


def beam_options() -> set[str]:
    found: list[Any] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=found.append)
    return set(found[0]._option_string_actions)


def job_options(job: str) -> set[str]:
    """Return the options of a job; until it is there, of its filter-cli command and those that all jobs share."""
    if (ROOT / "pipelines" / f"{job}.py").exists():
        command = getattr(importlib.import_module(f"bisift.pipelines.{job}"), job)
        return {name for parameter in command.params for name in parameter.opts}
    shared = {"--input", "--output", "--runner"}
    return shared | {name for one in cli.commands[job].params if isinstance(one, click.Option) for name in one.opts}


def test_jobs_are_handed_in_with_options_that_exist() -> None:
    assert {words[2].rpartition(".")[2] for words in JOBS} == {"score", "rank"}
    beam = beam_options()
    for words in JOBS:
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given - beam - job_options(words[2].rpartition(".")[2]) == set(), words


def test_the_flex_template_is_launched_with_parameters_that_it_has() -> None:
    (words,) = [
        shlex.split(line) for line in BLOCKS.splitlines() if line.startswith("gcloud dataflow flex-template run")
    ]
    given = {pair.partition("=")[0] for pair in words[words.index("--parameters") + 1].split(",")}
    assert given <= set(PARAMETERS["score"])
    assert given >= {name for name, one in PARAMETERS["score"].items() if not one.get("isOptional", False)}


def test_every_option_of_flink_is_explained() -> None:
    table = TEXT.partition("| option of the Job |")[2].partition("\n\n")[0]
    own = {"--input", "--output", "--source-lang", "--target-lang", "--runner"}
    for argument in ARGUMENTS:
        name, _, value = argument.partition("=")
        if name in own:
            continue
        row = next((row for row in table.splitlines() if f"`{name}`" in row or f"`{argument}`" in row), None)
        assert row is not None, argument
        assert value in row, argument


@pytest.mark.parametrize(
    "name", ["setup_file", "dry_run", "no_use_public_ips", "service_account_email", "template_location"]
)
def test_options_in_the_text_are_beams(name: str) -> None:
    assert f"`--{name}=" in TEXT or f"`--{name}`" in TEXT
    assert f"--{name}" in beam_options()


def test_images_are_those_of_the_dockerfile() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for target in re.findall(r"docker build .*?--target (\S+)", BLOCKS):
        assert target in stages
    assert re.findall(r"`--build-arg (\w+)=", TEXT) == ["BASE", "JOB"]
