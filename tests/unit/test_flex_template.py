"""The parameters of each Flex Template are options of its job, or of Beam: Dataflow refuses what is not listed.

A launcher hands each one over as `--name=value`, once: neither flags nor options that name a file of the launcher's
have a place there.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from bisift.filter.cli import cli
from bisift.filter.rules import RULES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "dataflow"
JOBS = ("score", "rank")
TEMPLATES = {job: json.loads((FOLDER / f"{job}.json").read_text(encoding="utf-8")) for job in JOBS}
PARAMETERS: dict[str, dict[str, dict[str, Any]]] = {
    job: {one["name"]: one for one in template["parameters"]} for job, template in TEMPLATES.items()
}
OF_BEAM = {"sdk_container_image"}
_EXPERT = "for experts, who launch by python -m bisift.pipelines"
LEFT_OUT = {
    "runner": "the launcher gives it",
    "workers": "of FnApiRunner",
    "profile": "a file that the launcher would have to have",
    "model": "a file that the launcher would have to have",
    "device": "auto is right",
    "share": "means something only when it is given more than once",
    "max-line-bytes": _EXPERT,
    "range-bytes": _EXPERT,
    "chunk-rows": _EXPERT,
}


def options(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options by name, without those that take no value."""
    found = [one for one in command.params if isinstance(one, click.Option) and not one.is_flag]
    return {name.removeprefix("--"): one for one in found for name in one.opts if name.startswith("--")}


@pytest.mark.parametrize("job", JOBS)
def test_the_metadata_has_what_dataflow_asks_for(job: str) -> None:
    assert len(PARAMETERS[job]) == len(TEMPLATES[job]["parameters"])
    assert set(TEMPLATES[job]) == {"name", "description", "parameters"}
    for one in PARAMETERS[job].values():
        assert set(one) <= {"name", "label", "helpText", "isOptional", "regexes"}
        assert one["label"]
        assert one["helpText"]


def choices_differ(job: str, known: dict[str, click.Option]) -> list[str]:
    """Return the parameters whose regex allows other values than their option does."""
    kinds = {name: known[name].type for name in PARAMETERS[job] if name in known}
    choices = {name: kind.choices for name, kind in kinds.items() if isinstance(kind, click.Choice)}
    assert choices
    return [name for name, values in choices.items() if PARAMETERS[job][name]["regexes"] != [f"^({'|'.join(values)})$"]]


@pytest.mark.parametrize("job", JOBS)
def test_parameters_are_options_of_filter_cli(job: str) -> None:
    known = options(cli.commands[job])
    assert set(PARAMETERS[job]) - set(known) == OF_BEAM | {"input"}
    assert choices_differ(job, known) == []


def test_parameters_of_beam_are_beams() -> None:
    parsed = PipelineOptions([f"--{name}=value" for name in OF_BEAM]).get_all_options(drop_default=True)
    assert set(parsed) == OF_BEAM


@pytest.mark.parametrize("job", JOBS)
def test_parameters_are_the_options_of_the_job(job: str) -> None:
    if not (ROOT / "pipelines" / f"{job}.py").exists():
        pytest.skip(f"python -m bisift.pipelines.{job} is not there yet")
    known = options(getattr(importlib.import_module(f"bisift.pipelines.{job}"), job))
    parameters = PARAMETERS[job]
    assert set(parameters) - OF_BEAM <= set(known)
    missing = set(known) - set(parameters) - set(LEFT_OUT)
    assert missing == set(), "a new option: give the template a parameter, or say in LEFT_OUT why not"
    required = {name for name, one in parameters.items() if not one.get("isOptional", False)}
    assert required - OF_BEAM == {name for name, one in known.items() if one.required} - set(LEFT_OUT)
    assert choices_differ(job, known) == []


TRIED = [
    ("input", ["gs://b/x.tsv", "gs://b/crawl/*.tsv.gz", "s3://b/[ab].parquet"], ["x.tsv", "gs://b", "gs://"]),
    ("output", ["gs://b/scored/"], ["scored/", "-", "gs://b/"]),
    ("sdk_container_image", ["europe-docker.pkg.dev/p/r/bisift-dataflow:0.1.0", "r/i@sha256:0a"], ["", "R e"]),
    ("source-lang", ["en", "pt-BR", "zh_Hant", "ckb"], ["", "english!", "e"]),
    ("target-lang", ["it", "sr-Latn"], ["", "it,de"]),
    ("format", ["auto", "moses"], ["xml", "tsv,csv"]),
    ("header", ["yes"], ["maybe"]),
    ("disable", [rule.id for rule in RULES], ["Numbers", "a b"]),
    ("prior", ["0.5", ".05", "0.10"], ["0", "0.0", "1", "1.5", "-0.5", "half"]),
    ("limit", ["1", "1000000"], ["0", "-1", "1.5"]),
    ("order", ["human", "mixed"], ["best", "human,quality"]),
    ("shards", ["1", "4096"], ["0", "-8", "many"]),
    ("seed", ["0", "-7"], ["", "x"]),
    ("memory", ["512MiB", "1.5GiB", "2GB", "1048576B"], ["4", "4 GiB", "-1GiB", "4gib"]),
]


@pytest.mark.parametrize(("name", "good", "bad"), TRIED)
def test_regexes_let_good_values_through_and_bad_ones_not(name: str, good: list[str], bad: list[str]) -> None:
    for parameters in PARAMETERS.values():
        for pattern in parameters.get(name, {}).get("regexes", ()):
            assert pattern[0] + pattern[-1] == "^$"
            assert [value for value in good if not re.search(pattern, value)] == []
            assert [value for value in bad if re.search(pattern, value)] == []


def test_every_regex_was_tried() -> None:
    found = {name for parameters in PARAMETERS.values() for name, one in parameters.items() if "regexes" in one}
    assert found == {name for name, *_ in TRIED}
