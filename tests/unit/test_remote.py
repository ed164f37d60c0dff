"""s3:// against a server on loopback; gs:// and hdfs:// by their URIs alone (no such server was run)."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bisift import remote
from bisift.errors import ConfigError, InputError
from bisift.filter.readers import ReadOptions, expand, read
from tests.s3 import BUCKET, loopback_bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on loopback: the query that finds it."""
    with loopback_bucket() as (client, query):
        parquet = io.BytesIO()
        pq.write_table(pa.table({"source": ["a", None], "target": ["b", "c"]}), parquet)
        for key, data in {
            "in/b.tsv.gz": gzip.compress(b"c\td\n" * 50_000),
            "in/a.tsv": b"a\tb\nbad\n",
            "in/cut.tsv": gzip.compress(b"c\td\n" * 50_000)[:-20],
            "in/c.en": b"a\n",
            "in/c.it": b"b\n",
            "parts/p.parquet": parquet.getvalue(),
        }.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=data)
        yield query


def counts(*uris: str, **options: Any) -> list[tuple[str, int, int]]:
    settings = ReadOptions(**options)
    found = []
    for origin in expand(uris, settings):
        chunks = list(read(origin, settings))
        found.append((origin.origin, sum(c.pairs.num_rows for c in chunks), sum(len(c.rejects) for c in chunks)))
        assert chunks[-1].fraction == 1.0
    return found


def test_s3_files_globs_and_directories(bucket: str) -> None:
    assert counts(f"s3://corpus/in/[ab].tsv*?{bucket}") == [
        ("s3://corpus/in/a.tsv", 1, 1),
        ("s3://corpus/in/b.tsv.gz", 50_000, 0),
    ]
    assert counts(f"s3://corpus/parts?{bucket}") == [("s3://corpus/parts/p.parquet", 1, 1)]
    assert counts(f"s3://corpus/in/c.en?{bucket}", f"s3://corpus/in/c.it?{bucket}") == [("s3://corpus/in/c.en", 1, 0)]


def test_s3_errors_are_one_line_without_credentials(bucket: str) -> None:
    with pytest.raises(InputError, match=r"^s3://corpus/in/none\.tsv: no such file$"):
        expand([f"s3://key:secret@corpus/in/none.tsv?{bucket}"], ReadOptions())
    with pytest.raises(InputError, match=r"^s3://corpus/in/\*\.nix: no file matches$"):
        expand([f"s3://corpus/in/*.nix?{bucket}"], ReadOptions())
    with pytest.raises(InputError, match=r"^s3://corpus/in/cut\.tsv: the gzip data end too early"):
        counts(f"s3://corpus/in/cut.tsv?{bucket}")
    with pytest.raises(InputError, match=r"^s3://nowhere/"):
        expand([f"s3://nowhere/x.tsv?{bucket}"], ReadOptions())


def test_s3_identity_has_size_and_time_but_no_credentials(bucket: str) -> None:
    (origin,) = expand([f"s3://test:test@corpus/in/a.tsv?{bucket}"], ReadOptions())
    assert origin.identity["paths"] == ["s3://corpus/in/a.tsv"]
    assert origin.identity["size"] == 8
    assert isinstance(origin.identity["mtime"], int)


def test_gs_uris_are_understood() -> None:
    filesystem, path = remote.locate("gs://anonymous@corpus/in/a.tsv")
    assert (filesystem.type_name, path) == ("gcs", "corpus/in/a.tsv")


@pytest.mark.parametrize("uri", ["s3://a/b.tsv", "gs://a/b.tsv", "hdfs://name:8020/a/b.tsv", "hdfs:///a/b.tsv"])
def test_uris_of_known_schemes_are_remote(uri: str) -> None:
    assert remote.is_remote(uri)


@pytest.mark.parametrize("path", ["a.tsv", "/a/b:c.tsv", "C:/x", "a//b", "s3:/x"])
def test_paths_are_not_remote(path: str) -> None:
    assert not remote.is_remote(path)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^https://host/x: only s3://, gs:// and hdfs:// are read"):
        expand(["https://me:pw@host/x?token=1"], ReadOptions())
    with pytest.raises(ConfigError, match="only in the last part"):
        expand(["s3://corpus/*/x.tsv"], ReadOptions())


def test_paths_in_folders() -> None:
    assert remote.join("a/b", "c") == "a/b/c"
    assert remote.join("s3://bucket/a/?region=x", "c") == "s3://bucket/a/c?region=x"
    with pytest.raises(ConfigError, match="only s3://, gs:// and hdfs:// are read"):
        remote.join("ftp://host/a", "c")
