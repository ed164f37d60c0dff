"""Spans of a file, each read alone, give the records of the whole file: pairs, rejects, rows, offsets."""

from __future__ import annotations

import tempfile
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisift.filter.readers import Chunk, Input, ReadOptions, Reject, count_lines, expand, read, read_span, spans
from bisift.filter.readers import lines as line_reader

QUIET = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIECES = (
    "a\tb",
    "c",
    "",
    "\r",
    "日本\t語🙂",
    "שלום\tعالم",
    "x\0\ty",
    "source\ttarget",
    '{"source": "a", "target": ""}',
)
RAW = [*(piece.encode() for piece in PIECES), b"\xff\t\xfe", b"long\t" + b"y" * 90]
LINES = st.lists(st.sampled_from(RAW), max_size=30)


def records(chunks: list[Chunk]) -> tuple[list[dict[str, object]], list[Reject]]:
    pairs = [row for chunk in chunks for row in chunk.pairs.to_pylist()]
    return pairs, [reject for chunk in chunks for reject in chunk.rejects]


def by_spans(origin: Input, options: ReadOptions, size: int) -> tuple[list[dict[str, object]], list[Reject]]:
    pieces = spans(origin, options, size)
    counted = origin.format != "parquet" and pieces[0].end is not None
    counts = [count_lines(origin, piece) for piece in pieces] if counted else [0] * len(pieces)
    before = [0, *accumulate(counts)]
    return records(
        [c for piece, lines in zip(pieces, before, strict=False) for c in read_span(origin, options, piece, lines)]
    )


@QUIET
@given(
    LINES,
    st.sampled_from((b"\n", b"\r\n")),
    st.booleans(),
    st.sampled_from((".tsv", ".jsonl")),
    st.integers(1, 200),
    st.integers(1, 5),
    st.sampled_from((b"", b"\xef\xbb\xbf", b"source\ttarget\n")),
)
def test_spans_of_text_give_the_whole(
    lines: list[bytes], end: bytes, closed: bool, ending: str, size: int, chunk_rows: int, start: bytes
) -> None:
    content = start + end.join(lines) + (end if closed else b"")
    options = ReadOptions(chunk_rows=chunk_rows, max_line_bytes=64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"in{ending}"
        path.write_bytes(content)
        (origin,) = expand([str(path)], options)
        try:
            expected = records(list(read(origin, options)))
        except Exception as error:
            with pytest.raises(type(error)):
                by_spans(origin, options, size)
            return
        assert by_spans(origin, options, size) == expected


def test_blocks_and_long_lines_across_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_reader, "_PROBE", 7)
    path = tmp_path / "in.tsv"
    rows = [f"{'s' * (number * 37 % 900)}\ttarget {number}" for number in range(700)]
    path.write_text("source\ttarget\n" + "\n".join(rows) + "\n")
    options = ReadOptions(max_line_bytes=800)
    (origin,) = expand([str(path)], options)
    expected = records(list(read(origin, options)))
    assert len(expected[0]) + len(expected[1]) == 700
    for size in (250, 997, 65_536, 300_000):
        assert by_spans(origin, options, size) == expected


def test_parquet_is_cut_at_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisift.filter.readers.parquet.WINDOW_ROWS", 100)
    path = tmp_path / "in.parquet"
    table = pa.table({"source": [f"s{n}" if n % 7 else None for n in range(1_000)], "target": ["t"] * 1_000})
    pq.write_table(table, path, row_group_size=64)
    (origin,) = expand([str(path)], ReadOptions())
    assert len(spans(origin, ReadOptions(), 1)) == 8
    assert by_spans(origin, ReadOptions(), 1) == records(list(read(origin, ReadOptions())))


def test_what_cannot_be_cut_is_one_span(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('"a\nb",c\n' * 10)
    (origin,) = expand([str(path)], ReadOptions())
    (piece,) = spans(origin, ReadOptions(), 5)
    assert piece.end is None
    assert by_spans(origin, ReadOptions(), 5) == records(list(read(origin, ReadOptions())))
