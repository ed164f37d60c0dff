"""What readers take and give."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

RAW_BYTES = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """How inputs are read; columns are a name or a number from 1, as typed."""

    format: str = "auto"
    header: str = "auto"
    source_lang: str | None = None
    target_lang: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    document_column: str | None = None
    generator: str | None = None
    generator_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    max_line_bytes: int = 1 << 20
    chunk_rows: int = 8192


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be read; `raw` holds its first 1,024 bytes, escaped."""

    file: str
    row: int
    byte_offset: int | None
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to `chunk_rows` records: pairs (PAIR, then extras), rejects, and how far the input is read."""

    pairs: pa.Table
    rejects: tuple[Reject, ...]
    last_row: int
    fraction: float | None


@dataclass(frozen=True, slots=True)
class Input:
    """One input: a file, a Moses pair of files, or stdin (`-`)."""

    origin: str
    paths: tuple[str, ...]
    format: str
    languages: tuple[str | None, str | None]
    size: int | None
    modified: int | None

    @property
    def identity(self) -> dict[str, object]:
        """What tells this input from a changed one: path, bytes, modification time in ns (null for stdin)."""
        return {"path": self.origin, "size": self.size, "mtime": self.modified}


@dataclass(frozen=True, slots=True)
class Record:
    """One readable pair before it becomes a row."""

    source: str
    target: str
    source_lang: str | None = None
    target_lang: str | None = None
    document_id: str | None = None
    generator: str | None = None
    extras: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Bad:
    """One unreadable record: the reason's id and the raw bytes."""

    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """A record or what is wrong with it, and where it begins (None where the format has no offsets)."""

    value: Record | Bad
    offset: int | None
