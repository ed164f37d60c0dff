"""Command lines of jobs: options are bisift's or Beam's, runners are named, and mistakes are told in one line."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PortableOptions, StandardOptions

from bisift.errors import ConfigError
from bisift.pipelines import options
from bisift.pipelines.options import parse_beam_options, sees_disk, split_inputs
from tests.corpus import pairs
from tests.pipeline.jobs import LANGUAGES, job, write_tsv


def test_inputs_of_one_option_are_told_apart() -> None:
    assert doctest.testmod(options).failed == 0
    given = ["--input", "a", "-", "--output", "d", "--input=x", "--input", "b", "--job_endpoint", "h:1"]
    assert split_inputs(given) == [
        "--input", "a", "--input", "-", "--output", "d", "--input=x", "--input", "b", "--job_endpoint", "h:1"
    ]  # fmt: skip


def test_options_of_beam_reach_the_runner() -> None:
    found = parse_beam_options("PortableRunner", 1, ["--job_endpoint=localhost:1", "--environment_type", "LOOPBACK"])
    assert found.view_as(PortableOptions).job_endpoint == "localhost:1"
    assert found.view_as(PortableOptions).environment_type == "LOOPBACK"
    assert not sees_disk(found, "/tmp")
    workers = parse_beam_options("FnApiRunner", 3, [])
    assert workers.view_as(DirectOptions).direct_num_workers == 3
    assert workers.view_as(StandardOptions).runner == "FnApiRunner"
    assert sees_disk(workers, "/tmp/x")
    assert not sees_disk(workers, "s3://bucket/x")
    parse_beam_options("FlinkRunner", 1, ["--flink_master=h:8081", "--checkpointing_interval=60000", "--parallelism=4"])


@pytest.mark.parametrize(
    ("runner", "workers", "more", "message"),
    [
        ("DirectRunner", 1, [], "name FnApiRunner or PrismRunner"),
        ("PrismRuner", 1, [], "no runner 'PrismRuner'; did you mean 'PrismRunner'?"),
        ("FnApiRunner", 1, ["--paralelism=4"], "no option --paralelism; did you mean '--parallelism'?"),
        ("FnApiRunner", 1, ["--chunk-row=4"], "no option --chunk-row; did you mean '--chunk-rows'?"),
        ("FnApiRunner", 1, ["file.tsv"], "unexpected argument 'file.tsv': inputs follow --input"),
        ("PrismRunner", 2, [], "--workers is for FnApiRunner"),
        ("FnApiRunner", 1, ["--direct_num_workers=x"], "invalid int value: 'x'"),
    ],
)
def test_mistakes_are_one_line(runner: str, workers: int, more: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_beam_options(runner, workers, more, ["--chunk-rows", "--input"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_commands_end_with_one_line_and_filter_clis_codes(tmp_path: Path) -> None:
    source = write_tsv(tmp_path / "in.tsv", list(pairs(5)))
    wrong = job("score", "--input", source, "--output", tmp_path / "o", "--runner=FnApiRunner", "--sorce-lang", "en")
    assert wrong.returncode == 2
    assert wrong.stderr.strip().splitlines()[-1] == "error: no option --sorce-lang; did you mean '--source-lang'?"
    missing = job("score", "--input", tmp_path / "no.tsv", "--output", tmp_path / "o", "--runner=FnApiRunner")
    assert (missing.returncode, missing.stderr.strip()) == (1, f"error: {tmp_path}/no.tsv: no such file")
    (tmp_path / "in.tsv").write_text("bad\n")
    strict = job("score", "--input", source, "--output", tmp_path / "o", "--runner=FnApiRunner", "--strict", *LANGUAGES)
    assert strict.returncode == 3, strict.stderr
    helped = job("run", "--help")
    assert helped.returncode == 0
    assert all(name in helped.stdout for name in ("--range-bytes", "--order", "--source-lang", "--runner"))
