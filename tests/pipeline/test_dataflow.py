"""Dataflow, as far as it goes offline: the job is built and its graph is the one that other runners get."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.corpus import pairs
from tests.pipeline.jobs import LANGUAGES, job, write_tsv

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("apitools") is None, reason="DATAFLOW'S CLIENT IS NOT HERE: pip install 'bisift[gcp]'"
)
DATAFLOW = ("--runner=DataflowRunner", "--project=my-project", "--region=europe-west1", "--temp_location=gs://none/tmp")


def test_a_dry_run_builds_the_job_and_touches_nothing(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(20)))
    for output in (tmp_path / "out", "gs://none/out"):
        result = job(
            "run", "--input", source, "--output", output, *DATAFLOW, *LANGUAGES, "--dry_run=True", "--no-models"
        )
        assert result.returncode == 0, result.stderr
        assert result.stderr.strip().splitlines()[-1] == "the job is built: nothing was scored here"
    assert not (tmp_path / "out").exists()


def test_what_dataflow_misses_is_one_line(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(5)))
    wrong = job("score", "--input", source, "--output", tmp_path / "out", "--runner=DataflowRunner", "--dry_run=True")
    assert wrong.returncode == 1
    assert wrong.stderr.strip().count("\n") == 0
