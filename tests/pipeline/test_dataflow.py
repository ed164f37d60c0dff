"""Dataflow, as far as it goes offline: the job is built and its graph is the one that other runners get."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, WorkerOptions
from apache_beam.portability.api import beam_runner_api_pb2

from bisift.filter.profile import load_profile
from bisift.filter.readers import ReadOptions, expand
from bisift.filter.scorer import ScorerSettings
from bisift.pipelines import runners, scorejob
from bisift.pipelines.options import parse_beam_options
from bisift.pipelines.ranges import Range
from bisift.pipelines.scoring import ScoreJob
from bisift.pipelines.sinks import Publish
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


IMAGE = "registry.example/bisift:0.1.0"
OFFLINE = ("--no_auth", f"--sdk_container_image={IMAGE}", "--experiments=use_runner_v2", "--max_num_workers=7")


@pytest.fixture
def scoring(tmp_path: Path) -> Callable[[beam.Pipeline], None]:
    """What builds the pipeline of a score job, of 20 pairs."""
    origins = expand([str(write_tsv(tmp_path / "in.tsv", list(pairs(20))))], ReadOptions())
    settings = ScorerSettings(profile=load_profile(), use_models=False)
    job = ScoreJob(settings=settings, digests={}, read=ReadOptions(), output="gs://none/out", state="gs://none/state")
    ranges = [Range(number, origin) for number, origin in enumerate(origins)]
    identity = {"models": {}, "profile": settings.profile.digest}
    return scorejob.pipeline(job, ranges, Publish(job, origins, identity))


def test_the_job_of_a_dry_run_holds_the_steps_the_image_and_the_options(
    scoring: Callable[[beam.Pipeline], None],
) -> None:
    root = beam.Pipeline(options=parse_beam_options("DataflowRunner", 1, [*DATAFLOW[1:], *OFFLINE, "--dry_run=True"]))
    scoring(root)
    job = root.run().job
    components = job.proto_pipeline.components
    names = {transform.unique_name for transform in components.transforms.values()}
    steps = (
        "Inputs",
        "Ranges",
        "Score",
        "ByKey",
        "Repeated",
        "ByDocument",
        "Probabilities",
        "ByPart",
        "Finish",
        "Publish",
    )
    assert [step for step in steps if not any(name.split("/")[0] == step for name in names)] == []
    images = {
        beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        for environment in components.environments.values()
    }
    assert images == {IMAGE}
    assert job.google_cloud_options.project == "my-project"
    assert job.google_cloud_options.region == "europe-west1"
    assert job.options.view_as(WorkerOptions).max_num_workers == 7


def test_the_launch_file_of_a_template_names_the_job_its_image_and_its_graph(
    tmp_path: Path, scoring: Callable[[beam.Pipeline], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staged into a local folder, as Beam allows; nothing is sent. What asks Cloud Storage of buckets is left out."""
    monkeypatch.setattr(GoogleCloudOptions, "_handle_temp_and_staging_locations", lambda *_: [])
    template, staged = tmp_path / "template.json", tmp_path / "staged"
    staged.mkdir()
    given = [*DATAFLOW[1:], *OFFLINE, f"--template_location={template}", "--job_name=bisift-score"]
    options = parse_beam_options("DataflowRunner", 1, given)
    options.view_as(GoogleCloudOptions).staging_location = str(staged)
    assert runners.run(scoring, options) is None
    launch = json.loads(template.read_text())
    assert launch["name"] == "bisift-score"
    pools = launch["environment"]["workerPools"]
    assert {image["containerImage"] for pool in pools for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert launch["environment"]["sdkPipelineOptions"]["options"]["max_num_workers"] == 7
    (graph,) = staged.rglob("pipeline.pb")
    found = beam_runner_api_pb2.Pipeline.FromString(graph.read_bytes()).components.transforms
    assert any(transform.unique_name == "Publish" for transform in found.values())
