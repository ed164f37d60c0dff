"""Windows of a stream without a runner: what is read, what is published, and that neither happens twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import IntervalWindow
from apache_beam.utils.timestamp import Timestamp

from bisift.errors import ConfigError
from bisift.filter.ranking import RankOptions
from bisift.filter.readers import ReadOptions
from bisift.filter.scoring import ScoreOptions
from bisift.manifest import read_json
from bisift.pipelines import streaming
from bisift.pipelines.messages import Reopen, ScoreMessages
from bisift.pipelines.scoring import SharedScorer
from bisift.pipelines.streaming import StreamOptions, check, stream, stream_job
from bisift.pipelines.watching import ready
from bisift.pipelines.windows import CHANGE, Current, Fact, Ledger, Publish, StreamJob, window_name

READ = ReadOptions(source_lang="en", target_lang="de")
FIRST, SECOND = (IntervalWindow(Timestamp(start), Timestamp(start + 60)) for start in (1_800_000_000, 1_800_000_060))


def listed(*patterns: object) -> list[str]:
    return [Path(path).name for found in ready([str(one) for one in patterns], READ) for path in found.origin.paths]


def test_unfinished_names_and_lone_halves_of_pairs_wait(tmp_path: Path) -> None:
    for name in (".hidden.tsv", "_SUCCESS", "a.tsv.part", "b.tmp", "c.tsv", "d.en", "d.de", "e.en"):
        (tmp_path / name).write_text("one\teins\n")
    (tmp_path / "folder").mkdir()
    assert listed(tmp_path) == ["c.tsv", "d.en", "d.de"]
    assert listed(tmp_path / "*.tsv") == ["c.tsv"]
    (tmp_path / "e.de").write_text("one\n")
    assert listed(tmp_path) == ["c.tsv", "d.en", "d.de", "e.en", "e.de"]


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert listed(tmp_path / "later") == []


def test_what_cannot_be_opened_arrives_with_its_problem(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b\x08 no gzip beyond its first bytes")
    (found,) = ready([str(tmp_path)], READ)
    assert found.problem is not None
    assert "a.gz" in found.problem


@pytest.fixture
def job(tmp_path: Path) -> StreamJob:
    options = StreamOptions(score=ScoreOptions(read=READ, use_models=False), rank=RankOptions(order="random", shards=2))
    return stream_job(str(tmp_path / "out"), options)


def scored_part(job: StreamJob, lines: list[str], name: str = "input.jsonl") -> list[Fact]:
    """Score messages, and call them a file in a version of its own."""
    step = ScoreMessages(job.score, SharedScorer(job.score.settings), name)
    step.setup()
    part, file = step.process([line.encode() for line in lines], FIRST)
    return [part, file._replace(version=f"{file.size}@1")]


def publish(job: StreamJob, facts: list[Fact], window: IntervalWindow = FIRST) -> list[str]:
    step = Publish(job, SharedScorer(job.score.settings))
    step.setup()
    return list(step.process(("all", facts), window))


def pairs(count: int, first: int = 0) -> list[str]:
    return [
        json.dumps({"source": f"sentence {n} here", "target": f"Satz {n} hier"}) for n in range(first, first + count)
    ]


def shard_rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("shard-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_window_is_a_ranked_folder_with_its_rejects(job: StreamJob, tmp_path: Path) -> None:
    facts = scored_part(job, [*pairs(5), "{broken", pairs(1)[0]])
    (name,) = publish(job, facts)
    folder = tmp_path / "out" / name
    manifest = read_json(folder / "manifest.json")
    assert manifest["kind"] == "ranked"
    assert manifest["rows"]["in"] == 7
    assert (manifest["rows"]["kept"], manifest["rows"]["dropped"], manifest["rows"]["rejected"]) == (5, 1, 1)
    assert manifest["rows"]["by_reason"] == {"duplicate_pair": 1}
    assert manifest["window"] == {"start": "2027-01-15T08:00:00+00:00", "end": "2027-01-15T08:01:00+00:00"}
    assert [(entry["path"], entry["rows"]) for entry in manifest["inputs"]] == [("input.jsonl", 7)]
    assert [row["rank"] for row in shard_rows(folder)] == list(range(5))
    assert json.loads((folder / "rejects.jsonl").read_text())["reason"] == "broken_json"
    assert not list((tmp_path / "out" / ".stream-state").iterdir())


def test_a_repeated_bundle_publishes_nothing(job: StreamJob, tmp_path: Path) -> None:
    facts = scored_part(job, pairs(3))
    assert len(publish(job, facts)) == 1
    scored_part(job, pairs(3))  # the part is made again, too
    assert publish(job, facts) == []
    assert publish(job, facts, SECOND) == []
    assert len(list((tmp_path / "out").glob("window-*"))) == 1


def test_rows_that_come_after_their_window_was_published_get_a_folder_of_their_own(
    job: StreamJob, tmp_path: Path
) -> None:
    (one,) = publish(job, scored_part(job, pairs(3), "a"))
    (late,) = publish(job, scored_part(job, pairs(2, first=10), "b"))
    assert late == f"{one}-1"
    assert len(shard_rows(tmp_path / "out" / late)) == 2


def test_a_killed_publication_is_made_again(job: StreamJob, tmp_path: Path) -> None:
    facts = scored_part(job, pairs(3))
    half = tmp_path / "out" / window_name(FIRST, set())
    half.mkdir(parents=True)
    (half / "shard-00000-of-00002.parquet").write_bytes(b"half")
    (name,) = publish(job, facts)
    assert (tmp_path / "out" / name) == half
    assert len(shard_rows(half)) == 3


def test_a_change_is_reported_once_and_known_after_a_restart(job: StreamJob, tmp_path: Path) -> None:
    change = Fact(CHANGE, "a.tsv", 1, 9, "9@2", "5@1")
    (name,) = publish(job, [change])
    manifest = read_json(tmp_path / "out" / name / "manifest.json")
    assert manifest["changed_inputs"] == [{"path": "a.tsv", "version": "9@2", "was": "5@1"}]
    assert manifest["rows"]["in"] == 0
    assert publish(job, [change], SECOND) == []
    ledger = Ledger(job.score.output)
    ledger.refresh()
    assert ledger.versions == {"a.tsv": "9@2"}


def test_current_lists_windows_in_the_order_of_their_publication(job: StreamJob, tmp_path: Path) -> None:
    class Turn:
        def write(self, _: str) -> None: ...

    names = []
    for number, window in enumerate((SECOND, FIRST)):
        names += publish(job, scored_part(job, pairs(2, first=10 * number), str(number)), window)
        list(Current(job.score.output).process(("all", names[-1]), Turn()))
    current = read_json(tmp_path / "out" / "current.json")
    assert current == {"contract": 1, "kind": "stream", "windows": names}
    (tmp_path / "out" / "window-unfinished").mkdir()
    list(Current(job.score.output).process(("all", names[-1]), Turn()))
    assert read_json(tmp_path / "out" / "current.json") == current


def test_a_message_whose_window_is_published_moves_into_the_open_one(job: StreamJob) -> None:
    reopen = Reopen(job.score.output)
    reopen.setup()
    reopen.start_bundle()
    assert list(reopen.process(b"x", FIRST.start)) == [b"x"]
    publish(job, scored_part(job, pairs(2)))
    reopen.start_bundle()
    (moved,) = reopen.process(b"x", FIRST.start)
    assert (moved.value, moved.timestamp) == (b"x", FIRST.end)
    (kept,) = reopen.process(b"x", SECOND.end)
    assert kept.timestamp == SECOND.end


def test_messages_over_several_lines_are_one_row_each(job: StreamJob) -> None:
    pretty = json.dumps({"source": "one line", "target": "eine Zeile"}, indent=2)
    (name,) = publish(job, scored_part(job, [pretty, *pairs(1)]))
    assert read_json(Path(job.score.output) / name / "manifest.json")["rows"]["kept"] == 2


@pytest.mark.parametrize(
    ("inputs", "settings", "runner", "message"),
    [
        (["in/"], {}, "FnApiRunner", "FnApiRunner cannot run a stream: it would end at once"),
        (["pubsub://projects/p/subscriptions/s"], {}, "PrismRunner", "on DataflowRunner only, not on PrismRunner"),
        (["pubsub://p/s"], {}, "DataflowRunner", "expected pubsub://projects/PROJECT/subscriptions/NAME"),
        (["kafka://broker/topic"], {}, "PrismRunner", "expected kafka://HOST:PORT"),
        (["kafka://b:9092/t", "in/"], {}, "PrismRunner", "give one"),
        (["-"], {}, "PrismRunner", "cannot read stdin"),
        (["in/"], {"window_s": 0.0}, "PrismRunner", "--window 0.0: must be longer than nothing"),
        (["in/"], {"score": ScoreOptions(use_models=False)}, "PrismRunner", "--order combined needs ai_prob"),
    ],
)
def test_what_cannot_run_is_refused(inputs: list[str], settings: dict[str, Any], runner: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(inputs, StreamOptions(**settings), runner)


def test_two_streams_do_not_share_an_output(job: StreamJob, tmp_path: Path) -> None:
    options = StreamOptions(score=ScoreOptions(use_models=False), rank=RankOptions(order="random"))
    with streaming.claimed(job), pytest.raises(ConfigError, match="another stream is writing there"):
        stream(["in/"], str(tmp_path / "out"), options, PipelineOptions(["--runner=PrismRunner"]))


def test_parts_that_a_killed_stream_had_published_are_removed(job: StreamJob) -> None:
    facts = scored_part(job, pairs(2))
    publish(job, facts)
    left, other = facts, scored_part(job, pairs(2, first=20), "b")
    scored_part(job, pairs(2))
    os.makedirs(f"{job.score.state}/window-half")
    with streaming.claimed(job):
        names = {path.name for path in Path(job.score.state).iterdir()}
    assert job.score.part(other[0].name).rpartition("/")[2] in names
    assert job.score.part(left[0].name).rpartition("/")[2] not in names
    assert "window-half" not in names
