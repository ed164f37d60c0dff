"""The Flink manifest agrees with itself, with the image and with Beam: ports, names, slots, parallelism, versions."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, PortableOptions

import bisift

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "deploy" / "flink" / "session-cluster.yaml"
DOCS = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
POOL = "localhost:50000"  # boot --worker_pool always listens there
RESOURCES: dict[tuple[str, str], dict[str, Any]] = {
    (one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(PATH.read_text(encoding="utf-8"))
}
MANAGER, WORKER = (
    RESOURCES["Deployment", "bisift-flink-jobmanager"],
    RESOURCES["Deployment", "bisift-flink-taskmanager"],
)
SERVICE, JOB = RESOURCES["Service", "bisift-flink-jobmanager"], RESOURCES["Job", "bisift-score"]
CONFIG = RESOURCES["ConfigMap", "bisift-flink"]
PROPERTIES: dict[str, Any] = yaml.safe_load(CONFIG["data"]["FLINK_PROPERTIES"])


def containers(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in resource["spec"]["template"]["spec"]["containers"]}


def ports(container: dict[str, Any]) -> dict[str, int]:
    return {one["name"]: one["containerPort"] for one in container["ports"]}


def megabytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(m|Mi|Gi)", size).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit == "Gi" else 1)


JOB_MANAGER, TASK_MANAGER = containers(MANAGER)["jobmanager"], containers(WORKER)["taskmanager"]
SIDECAR, SUBMIT = containers(WORKER)["worker-pool"], containers(JOB)["submit"]
ARGUMENTS: list[str] = SUBMIT["args"]


def argument(name: str) -> str:
    (found,) = [text.partition("=")[2] for text in ARGUMENTS if text.partition("=")[0] == f"--{name}"]
    return found


def test_nothing_else_is_in_it() -> None:
    assert sorted(kind for kind, _ in RESOURCES) == ["ConfigMap", "Deployment", "Deployment", "Job", "Service"]
    assert list(containers(WORKER)) == ["taskmanager", "worker-pool"]


@pytest.mark.parametrize("deployment", [MANAGER, WORKER])
def test_deployments_select_their_own_pods(deployment: dict[str, Any]) -> None:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    others = [one for one in (MANAGER, WORKER, JOB) if one is not deployment]
    assert labels not in [one["spec"]["template"]["metadata"]["labels"] for one in others]


def test_the_service_leads_to_the_jobmanager() -> None:
    assert SERVICE["spec"]["selector"] == MANAGER["spec"]["template"]["metadata"]["labels"]
    open_ports = {one["name"]: one["port"] for one in SERVICE["spec"]["ports"]}
    keys = {"rpc": "jobmanager.rpc.port", "blob": "blob.server.port", "rest": "rest.port"}
    assert open_ports == ports(JOB_MANAGER) == {name: PROPERTIES[key] for name, key in keys.items()}
    assert PROPERTIES["jobmanager.rpc.address"] == SERVICE["metadata"]["name"]
    assert argument("flink_master") == f"{SERVICE['metadata']['name']}:{PROPERTIES['rest.port']}"
    assert ports(TASK_MANAGER) == {"rpc": PROPERTIES["taskmanager.rpc.port"]}


def test_both_sides_of_flink_read_the_same_properties() -> None:
    reference = {"configMapKeyRef": {"name": CONFIG["metadata"]["name"], "key": "FLINK_PROPERTIES"}}
    for container, role in ((JOB_MANAGER, "jobmanager"), (TASK_MANAGER, "taskmanager")):
        assert container["args"] == [role]
        assert container["env"] == [{"name": "FLINK_PROPERTIES", "valueFrom": reference}]


def test_flink_is_one_that_beam_supports_and_the_docs_name() -> None:
    assert JOB_MANAGER["image"] == TASK_MANAGER["image"]
    version = re.fullmatch(r"flink:((\d+\.\d+)\.\d+)-scala_2\.12-java11", JOB_MANAGER["image"])
    assert version is not None
    assert version[2] in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    assert f"Flink {version[2]}" in DOCS
    assert JOB_MANAGER["image"] in DOCS


def test_the_sidecar_is_the_worker_pool_of_our_image() -> None:
    assert SIDECAR["image"] == SUBMIT["image"] == f"REGISTRY/bisift:{bisift.__version__}"
    assert "command" not in SIDECAR  # the image's entry point, boot, it is that knows --worker_pool
    assert SIDECAR["args"] == ["--worker_pool"]
    assert ports(SIDECAR) == {"worker-pool": int(POOL.rpartition(":")[2])}
    assert SIDECAR["readinessProbe"] == {"tcpSocket": {"port": "worker-pool"}}
    assert (argument("environment_type"), argument("environment_config")) == ("EXTERNAL", POOL)
    assert SIDECAR["envFrom"] == SUBMIT["envFrom"]


def test_slots_processes_and_parallelism_are_the_same_number() -> None:
    slots, replicas = PROPERTIES["taskmanager.numberOfTaskSlots"], WORKER["spec"]["replicas"]
    assert int(argument("parallelism")) == PROPERTIES["parallelism.default"] == replicas * slots
    assert int(argument("sdk_worker_parallelism")) == slots
    assert int(SIDECAR["resources"]["requests"]["cpu"]) == slots


def test_memory_is_enough_for_what_runs_in_it() -> None:
    for container, role in ((JOB_MANAGER, "jobmanager"), (TASK_MANAGER, "taskmanager")):
        asked = megabytes(PROPERTIES[f"{role}.memory.process.size"])
        assert asked <= megabytes(container["resources"]["limits"]["memory"])
    # docs/scale.md: under 1 GiB for a process that scores, beside what comes with it.
    slots = PROPERTIES["taskmanager.numberOfTaskSlots"]
    assert megabytes(SIDECAR["resources"]["limits"]["memory"]) >= 1024 * slots
    for container in (JOB_MANAGER, TASK_MANAGER, SIDECAR, SUBMIT):
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


def test_nobody_is_root() -> None:
    for resource in (MANAGER, WORKER, JOB):
        pod = resource["spec"]["template"]["spec"]
        for container in pod["containers"]:
            context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
            assert context["runAsNonRoot"] is True


def test_the_volume_is_there() -> None:
    volumes = {one["name"] for one in WORKER["spec"]["template"]["spec"]["volumes"]}
    assert {one["name"] for one in SIDECAR["volumeMounts"]} == volumes
    assert [one["mountPath"] for one in SIDECAR["volumeMounts"]] == [
        "/tmp"
    ]  # where boot and bisift keep what is passing


def test_a_job_is_handed_in_once() -> None:
    assert JOB["spec"]["backoffLimit"] == 0
    assert JOB["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert SUBMIT["command"] == ["python", "-m", "bisift.pipelines.score"]


def test_beam_understands_what_it_is_given() -> None:
    own = ("--input", "--output", "--source-lang", "--target-lang")
    given = [text for text in ARGUMENTS if not text.startswith(own)]
    options = PipelineOptions(given)
    assert options.view_as(FlinkRunnerOptions).flink_submit_uber_jar
    assert options.view_as(PortableOptions).environment_type == "EXTERNAL"
    known = options.get_all_options(drop_default=True)
    assert set(known) == {text.removeprefix("--").partition("=")[0] for text in given}


@pytest.mark.skipif(
    not (ROOT / "pipelines" / "score.py").exists(), reason="python -m bisift.pipelines.score is not there yet"
)
def test_the_job_understands_what_it_is_given() -> None:
    score = importlib.import_module("bisift.pipelines.score").score
    names = {name for parameter in score.params for name in parameter.opts}
    given = {text.partition("=")[0] for text in ARGUMENTS}
    beam = {f"--{name}" for name in PipelineOptions().get_all_options()}
    assert given <= names | beam
    assert {"--input", "--output", "--runner"} <= given & names
