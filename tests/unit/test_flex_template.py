"""The parameters of the Flex Template are options of the score job, or of Beam: Dataflow refuses what is not listed.

A launcher hands each one over as `--name=value`: neither flags nor options that name a file of the launcher's have a
place there.
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
TEMPLATE = json.loads((ROOT / "deploy" / "dataflow" / "score.json").read_text(encoding="utf-8"))
PARAMETERS: dict[str, dict[str, Any]] = {one["name"]: one for one in TEMPLATE["parameters"]}
OF_BEAM = {"sdk_container_image"}
LEFT_OUT = {
    "runner": "the launcher gives it",
    "workers": "FnApiRunner's",
    "profile": "a file that the launcher would have to have",
    "model": "a file that the launcher would have to have",
    "device": "auto is right",
    "max-line-bytes": "for experts: launch by python -m bisift.pipelines.score",
    "range-bytes": "for experts: launch by python -m bisift.pipelines.score",
    "chunk-rows": "for experts: launch by python -m bisift.pipelines.score",
}


def options(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options by name, without those that take no value."""
    found = [one for one in command.params if isinstance(one, click.Option) and not one.is_flag]
    return {name.removeprefix("--"): one for one in found for name in one.opts if name.startswith("--")}


def test_the_metadata_has_what_dataflow_asks_for() -> None:
    assert len(PARAMETERS) == len(TEMPLATE["parameters"])
    assert TEMPLATE["name"]
    for one in PARAMETERS.values():
        assert set(one) <= {"name", "label", "helpText", "isOptional", "regexes"}
        assert one["label"]
        assert one["helpText"]


def test_parameters_are_options_of_filter_cli() -> None:
    known = set(options(cli.commands["score"]))
    assert set(PARAMETERS) - known == OF_BEAM | {"input"}


def test_parameters_of_beam_are_beams() -> None:
    parsed = PipelineOptions([f"--{name}=value" for name in OF_BEAM]).get_all_options(drop_default=True)
    assert set(parsed) == OF_BEAM


@pytest.mark.skipif(
    not (ROOT / "pipelines" / "score.py").exists(), reason="python -m bisift.pipelines.score is not there yet"
)
def test_parameters_are_the_options_of_the_job() -> None:
    job = options(importlib.import_module("bisift.pipelines.score").score)
    assert set(PARAMETERS) - OF_BEAM <= set(job)
    assert set(job) - set(PARAMETERS) == set(LEFT_OUT), (
        "an option is new: give the template a parameter, or say why not"
    )
    required = {name for name, one in PARAMETERS.items() if not one.get("isOptional", False)}
    assert required - OF_BEAM == {name for name, one in job.items() if one.required} - set(LEFT_OUT)
    for name, one in PARAMETERS.items():
        if isinstance(choice := getattr(job.get(name), "type", None), click.Choice):
            assert one["regexes"] == [f"^({'|'.join(choice.choices)})$"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("input", ["gs://b/x.tsv", "gs://b/crawl/*.tsv.gz", "s3://b/[ab].parquet"], ["x.tsv", "gs://b", "gs://"]),
        ("output", ["gs://b/scored/"], ["scored/", "-", "gs://b/"]),
        ("sdk_container_image", ["europe-docker.pkg.dev/p/r/bisift-dataflow:0.1.0", "r/i@sha256:0a"], ["", "R e"]),
        ("source-lang", ["en", "pt-BR", "zh_Hant", "ckb"], ["", "english!", "e"]),
        ("format", ["auto", "moses"], ["xml", "tsv,csv"]),
        ("header", ["yes"], ["maybe"]),
        ("disable", [rule.id for rule in RULES], ["Numbers", "a b"]),
        ("prior", ["0.5", ".05", "0.10"], ["0", "0.0", "1", "1.5", "-0.5", "half"]),
        ("limit", ["1", "1000000"], ["0", "-1", "1.5"]),
    ],
)
def test_regexes_let_good_values_through_and_bad_ones_not(name: str, good: list[str], bad: list[str]) -> None:
    (pattern,) = PARAMETERS[name]["regexes"]
    assert [value for value in good if not re.search(pattern, value)] == []
    assert [value for value in bad if re.search(pattern, value)] == []
    assert name == "sdk_container_image" or pattern[0] + pattern[-1] == "^$"


def test_every_regex_was_tried() -> None:
    tried = {"input", "output", "sdk_container_image", "source-lang", "target-lang", "format", "header", "disable"}
    assert {name for name, one in PARAMETERS.items() if "regexes" in one} == tried | {"prior", "limit"}
    assert PARAMETERS["source-lang"]["regexes"] == PARAMETERS["target-lang"]["regexes"]
