"""The graphs of all batch jobs hold only what Flink's portable translators know: no runner was needed to check it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from bisift.filter.dedup import DedupOptions
from bisift.filter.manifests import describe
from bisift.filter.profile import load_profile
from bisift.filter.ranking import RankOptions
from bisift.filter.readers import ReadOptions, expand
from bisift.filter.scored import open_scored
from bisift.filter.scorer import ScorerSettings
from bisift.filter.scoring import ScoreOptions, score_files
from bisift.pipelines import marking, ranking, scorejob
from bisift.pipelines.ranges import Range
from bisift.pipelines.scoring import ScoreJob
from bisift.pipelines.sinks import Publish
from bisift.pipelines.units import RankJob, units
from tests.corpus import pairs
from tests.pipeline.jobs import write_tsv
from tests.unit.test_ranking import scored as made_rows
from tests.unit.test_ranking import write

RESHUFFLE = "beam:transform:reshuffle:v1"
# FlinkBatchPortablePipelineTranslator knows these; of a Reshuffle it executes its parts, or the whole.
KNOWN = {
    "beam:transform:impulse:v1",
    "beam:transform:pardo:v1",
    "beam:transform:group_by_key:v1",
    "beam:transform:flatten:v1",
    RESHUFFLE,
}


def graph(build: Callable[[beam.Pipeline], None]) -> beam_runner_api_pb2.Pipeline:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    build(pipeline)
    return pipeline.to_runner_api()


def score_graph(folder: Path) -> beam_runner_api_pb2.Pipeline:
    origins = expand([str(write_tsv(folder / "in.tsv", list(pairs(5))))], ReadOptions())
    settings = ScorerSettings(profile=load_profile(), use_models=False)
    job = ScoreJob(settings=settings, digests={}, read=ReadOptions(), output="out", state="out/state")
    return graph(scorejob.pipeline(job, [Range(0, origins[0])], Publish(job, origins, {})))


def rank_graph(folder: Path, order: str) -> beam_runner_api_pb2.Pipeline:
    source = write_tsv(folder / "in.tsv", list(pairs(20)))
    score_files([str(source)], str(folder / "out.parquet"), ScoreOptions(restart=True))
    scored = open_scored([str(folder / "out.parquet")])
    options = RankOptions(order=order)
    job = RankJob(options=options, schema=scored.schema, output="out", spill=None, row_bytes=500)
    return graph(ranking.pipeline(job, list(units(scored, job)), describe(scored)))


def dedup_graph(folder: Path) -> beam_runner_api_pb2.Pipeline:
    scored = open_scored([write(folder / "out.parquet", made_rows(20))])
    job = RankJob(options=RankOptions(), schema=scored.schema, output="out", spill=None, row_bytes=500)
    return graph(marking.pipeline(job, DedupOptions(), list(units(scored, job)), 1, describe(scored), {}))


@pytest.fixture(params=["score", "dedup", "quality", "human", "combined", "random", "mixed"])
def proto(request: pytest.FixtureRequest, tmp_path: Path) -> beam_runner_api_pb2.Pipeline:
    if request.param == "dedup":
        return dedup_graph(tmp_path)
    return score_graph(tmp_path) if request.param == "score" else rank_graph(tmp_path, request.param)


def leaves(proto: beam_runner_api_pb2.Pipeline) -> list[Any]:
    """Transforms that a runner executes: those without parts, but for composites that hand on what they are given."""
    found = proto.components.transforms.values()
    return [one for one in found if not one.subtransforms and set(one.outputs.values()) - set(one.inputs.values())]


def test_only_transforms_that_flink_translates(proto: beam_runner_api_pb2.Pipeline) -> None:
    assert {one.spec.urn for one in leaves(proto)} <= KNOWN
    assert {one.spec.urn for one in leaves(proto)} >= KNOWN - {RESHUFFLE}


def test_no_splittable_function_side_input_state_or_timer(proto: beam_runner_api_pb2.Pipeline) -> None:
    assert list(proto.requirements) == []
    for one in leaves(proto):
        if one.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(one.spec.payload)
            assert not payload.restriction_coder_id
            assert not payload.side_inputs
            assert not payload.state_specs
            assert not payload.timer_family_specs
            assert not payload.requests_finalization


def test_keys_of_groupings_have_coders_of_the_model(proto: beam_runner_api_pb2.Pipeline) -> None:
    components = proto.components
    for one in leaves(proto):
        if one.spec.urn == "beam:transform:group_by_key:v1":
            (collection,) = one.inputs.values()
            coder = components.coders[components.pcollections[collection].coder_id]
            assert coder.spec.urn == "beam:coder:kv:v1"


def test_everything_is_bounded_and_in_the_global_window(proto: beam_runner_api_pb2.Pipeline) -> None:
    components = proto.components
    assert {one.is_bounded for one in components.pcollections.values()} == {beam_runner_api_pb2.IsBounded.BOUNDED}
    windows = {one.window_fn.urn for one in components.windowing_strategies.values()}
    assert windows == {"beam:window_fn:global_windows:v1"}


def test_the_check_would_find_a_splittable_function() -> None:
    proto = graph(lambda root: root | beam.io.ReadFromText("x", validate=False))
    splittable = [
        one
        for one in leaves(proto)
        if one.spec.urn == "beam:transform:pardo:v1"
        and beam_runner_api_pb2.ParDoPayload.FromString(one.spec.payload).restriction_coder_id
    ]
    assert splittable
