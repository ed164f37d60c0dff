"""Messages of Pub/Sub or Kafka as an unbounded source: each is one JSON object, as a line of JSONL is.

Python's Pub/Sub connector runs on Dataflow alone; Kafka's is Beam's Java one, which needs its expansion service.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import xxhash
from apache_beam.transforms.window import IntervalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from bisift.errors import ConfigError
from bisift.filter.readers import Input, read
from bisift.pipelines.scoring import ScoreJob, Scoring, SharedScorer
from bisift.pipelines.windows import FILE, PART, Fact, Ledger

BATCH_ROWS = 8192
_PUBSUB = re.compile(r"pubsub://(projects/[^/]+/subscriptions/[^/]+)")
_KAFKA = re.compile(r"kafka://([^/]+:\d+)/([^/]+)")


def is_messages(uri: str) -> bool:
    """Whether an input is a Pub/Sub subscription or a Kafka topic."""
    return uri.startswith(("pubsub://", "kafka://"))


def check_messages(uri: str, runner: str) -> None:
    """Raise ConfigError where an address is malformed, or the runner cannot read it."""
    if uri.startswith("pubsub://"):
        if not _PUBSUB.fullmatch(uri):
            raise ConfigError(f"{uri}: expected pubsub://projects/PROJECT/subscriptions/NAME")
        if runner != "DataflowRunner":
            raise ConfigError(f"{uri}: Python reads Pub/Sub on DataflowRunner only, not on {runner}")
    elif not _KAFKA.fullmatch(uri):
        raise ConfigError(f"{uri}: expected kafka://HOST:PORT[,HOST:PORT]/TOPIC")


class ReadMessages(beam.PTransform):
    """Yield the bytes of messages, with the time that the broker gives them as event time."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri = uri

    def expand(self, root: Any) -> Any:
        if pubsub := _PUBSUB.fullmatch(self._uri):
            from apache_beam.io.gcp.pubsub import ReadFromPubSub

            return root | "PubSub" >> ReadFromPubSub(subscription=pubsub[1])
        from apache_beam.io.kafka import ReadFromKafka

        kafka = _KAFKA.fullmatch(self._uri)
        assert kafka is not None
        source = ReadFromKafka(
            consumer_config={"bootstrap.servers": kafka[1], "auto.offset.reset": "earliest"},
            topics=[kafka[2]],
            timestamp_policy=ReadFromKafka.create_time_policy,
        )
        return root | "Kafka" >> source | "Values" >> beam.Values()


class Reopen(beam.DoFn):
    """Moves a message whose window is published into the window after the last published one: none is too late."""

    def __init__(self, output: str) -> None:
        self._output = output

    def setup(self) -> None:
        self._ledger = Ledger(self._output)

    def start_bundle(self) -> None:
        self._ledger.refresh()

    def process(self, element: bytes, timestamp: Timestamp = beam.DoFn.TimestampParam) -> Iterator[Any]:
        open_s = self._ledger.published_until
        yield TimestampedValue(element, Timestamp.of(max(float(timestamp), open_s))) if open_s else element


class ScoreMessages(Scoring):
    """From a batch of messages to the facts of a window: a scored part, and where its rows are from."""

    def __init__(self, job: ScoreJob, scorer: SharedScorer, uri: str) -> None:
        super().__init__(job, scorer)
        self._uri = uri

    def process(self, batch: Sequence[bytes], window: IntervalWindow = beam.DoFn.WindowParam) -> Iterator[Fact]:
        # outside strings JSON takes a space for a line feed, and inside it has none
        lines = b"".join(message.replace(b"\n", b" ") + b"\n" for message in batch)
        number = xxhash.xxh3_64_intdigest(lines, seed=int(float(window.start)))
        with tempfile.TemporaryDirectory(prefix="bisift-") as folder:
            path = Path(folder) / "messages.jsonl"
            path.write_bytes(lines)
            origin = Input(self._uri, (os.fspath(path),), "jsonl", len(lines), None)
            table, header = self._score(number, read(origin, self._job.read))
        name = f"{number}-messages"
        self._keep(name, table, header)
        yield Fact(PART, name, number)
        yield Fact(FILE, self._uri, number, len(lines))
