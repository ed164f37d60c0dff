"""Manifests and atomic publishing: a file appears whole under its name or not at all, and says what made it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bisift import remote
from bisift.errors import ContractError, InputError

MANIFEST_NAME = "manifest.json"

CURRENT_NAME = "current.json"
"""What a stream keeps up to date: an object whose `windows` are the folders that it published, oldest first."""


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a local file in hex, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_digest(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 in hex of a JSON-able mapping, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def manifest_path(output: str | Path) -> Path:
    """Return where the manifest of an output stands: in a folder (which ends in a slash, or exists), beside a file."""
    path = Path(output)
    if str(output).endswith("/") or path.is_dir():
        return path / MANIFEST_NAME
    return path.with_name(f"{path.name}.{MANIFEST_NAME}")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and move it onto `path`, else remove it."""
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, sorted keys, two spaces, one final newline."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object from a path or URI.

    Raises:
        InputError: it cannot be read.
        ContractError: it holds no JSON object.
    """
    away = isinstance(path, str) and remote.is_remote(path)
    shown = remote.redact(str(path)) if away else path
    try:
        with remote.open_input(str(path))[0] if away else open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"{shown}: {remote.reason(error)}") from error
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ContractError(f"{shown}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ContractError(f"{shown}: expected a JSON object")
    return value
