"""Jobs that read from and write to an object store: S3 by a server on loopback; gs:// and hdfs:// were not run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bisift.errors import ConfigError
from bisift.filter.dedup import DedupOptions, dedup_files
from bisift.filter.ranking import RankOptions, rank_files
from bisift.filter.scored import open_scored
from bisift.filter.scoring import score_files
from bisift.pipelines import dedupjob, rankjob, scorejob
from tests.corpus import pairs
from tests.pipeline.jobs import (
    FNAPI,
    decoded,
    job_options,
    manifest,
    same_rows,
    score_options,
    shard_digests,
    write_tsv,
)
from tests.s3 import loopback_bucket


@pytest.fixture
def store() -> Iterator[tuple[Any, str]]:
    """A client of a bucket on loopback, and the query that finds it."""
    with loopback_bucket() as (client, query):
        yield client, f"?{query}"


def test_a_job_from_store_to_store(tmp_path: Path, store: tuple[Any, str]) -> None:
    client, query = store
    source = write_tsv(tmp_path / "in.tsv", list(pairs(200)))
    with open(source, "ab") as file:
        file.write(b"bad row\n")
    client.put_object(Bucket="corpus", Key="in.tsv", Body=source.read_bytes())
    uri = f"s3://corpus/in.tsv{query}"
    score_files([uri], str(tmp_path / "one.parquet"), score_options())
    rank_files([str(tmp_path / "one.parquet")], str(tmp_path / "ranked"), RankOptions(order="random", shards=3))

    scored = f"s3://corpus/scored/{query}"
    result = scorejob.score([uri], scored, job_options(range_bytes=9_000), FNAPI)
    assert (result.rows["in"], result.rejects_by_reason) == (201, {"too_few_columns": 1})
    assert scorejob.score([uri], scored, job_options(range_bytes=9_000), FNAPI).already_done
    keys = {entry["Key"]: entry["Size"] for entry in client.list_objects_v2(Bucket="corpus")["Contents"]}
    assert {"scored/manifest.json", "scored/rejects.jsonl"} <= set(keys)
    assert not [key for key in keys if ".score-state" in key]
    rejects = client.get_object(Bucket="corpus", Key="scored/rejects.jsonl")["Body"].read()
    assert rejects == (tmp_path / "one.parquet.rejects.jsonl").read_bytes()

    options = DedupOptions(by="random", max_variants=2)
    dedup_files([str(tmp_path / "one.parquet")], str(tmp_path / "marked.parquet"), options)
    marked = dedupjob.dedup([scored], f"s3://corpus/marked/{query}", options, FNAPI)
    assert marked.marked["near_duplicate"] > 0
    (one, other) = (
        decoded(pa.concat_tables(open_scored([path]).tables()))
        for path in (str(tmp_path / "marked.parquet"), f"s3://corpus/marked/{query}")
    )
    assert same_rows(one, other)
    with pytest.raises(ConfigError, match="holds the input"):
        dedupjob.dedup([scored], scored, options, FNAPI, restart=True)

    for shards in (5, 3):  # the second replaces the first
        ranking = RankOptions(order="random", shards=shards)
        ranked = rankjob.rank([scored], f"s3://corpus/ranked/{query}", ranking, FNAPI)
    found = {
        shard["file"]: client.get_object(Bucket="corpus", Key=f"ranked/{shard['file']}")["Body"].read()
        for shard in ranked.shards
    }
    assert {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} == shard_digests(
        tmp_path / "ranked"
    )
    assert ranked.rows == manifest(tmp_path / "ranked")["rows"]
    listed = client.list_objects_v2(Bucket="corpus", Prefix="ranked/")["Contents"]
    assert len([entry for entry in listed if not entry["Key"].endswith("/")]) == 4
    assert "?" not in result.output + ranked.output + marked.output
