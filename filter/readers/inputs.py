"""From what was typed to a list of inputs: globs, Moses pairs, remote URIs, stdin, and each one's format."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from bisift.errors import ConfigError, InputError
from bisift.filter.readers.types import Input, ReadOptions

STDIN = "-"
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_FORMATS = {
    ".tsv": "tsv",
    ".txt": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".tmx": "tmx",
    ".po": "po",
    ".mo": "po",
}


def expand(inputs: Sequence[str], options: ReadOptions) -> list[Input]:
    """Expand globs in sorted order and pair Moses files.

    Raises:
        InputError: nothing matches, or a file cannot be found.
        ConfigError: Moses files do not come in pairs.
    """
    paths: list[str] = []
    for text in inputs:
        if text == STDIN or is_remote(text) or os.path.exists(text):
            paths.append(text)
            continue
        found = sorted(glob.glob(text)) if glob.has_magic(text) else []
        if not found:
            raise InputError(f"{text}: no such file")
        paths += found
    result: list[Input] = []
    index = 0
    while index < len(paths):
        path = paths[index]
        following = paths[index + 1] if index + 1 < len(paths) else None
        if options.format == "moses" or (options.format == "auto" and _is_moses(path, following)):
            if following is None:
                raise ConfigError(f"{path}: Moses files come in pairs, such as corpus.en corpus.it")
            result.append(_moses(path, following))
            index += 2
            continue
        kind = options.format if options.format != "auto" else _FORMATS.get(_ending(path)[1], "tsv")
        result.append(Input(path, (path,), kind, (None, None), *_stat(path)))
        index += 1
    return result


def is_remote(path: str) -> bool:
    """Whether the path is a URI that pyarrow.fs opens."""
    return re.match(r"[a-z][a-z0-9+]+://", path) is not None


def open_binary(path: str) -> BinaryIO:
    """Open a local file, a remote URI or stdin for reading bytes.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        if path == STDIN:
            return sys.stdin.buffer
        if is_remote(path):
            filesystem, inner = _remote(path)
            return cast(BinaryIO, filesystem.open_input_file(inner))
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _remote(path: str) -> tuple[Any, str]:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        return cast(tuple[Any, str], FileSystem.from_uri(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: {error}") from error


def _stat(path: str) -> tuple[int | None, int | None]:
    if path == STDIN:
        return None, None
    try:
        if is_remote(path):
            filesystem, inner = _remote(path)
            info = filesystem.get_file_info(inner)
            return info.size, info.mtime_ns
        if os.path.isdir(path):
            raise InputError(f"{path}: is a directory; give its files, such as '{path.rstrip('/')}/*'")
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    return status.st_size, status.st_mtime_ns


def _ending(path: str) -> tuple[str, str]:
    root, ending = os.path.splitext(path)
    if ending.lower() in _COMPRESSED:
        root, ending = os.path.splitext(root)
    return root, ending.lower()


def _is_moses(path: str, following: str | None) -> bool:
    if following is None:
        return False
    (root, first), (other, second) = _ending(path), _ending(following)
    language = re.compile(r"\.[a-z]{2,3}([-_][a-z]{2,4})?", re.IGNORECASE)
    known = first in _FORMATS or second in _FORMATS
    return (
        root == other
        and first != second
        and not known
        and language.fullmatch(first) is not None
        and language.fullmatch(second) is not None
    )


def _moses(source: str, target: str) -> Input:
    sizes = [_stat(path) for path in (source, target)]
    size = sum(size or 0 for size, _ in sizes)
    modified = max(time or 0 for _, time in sizes)
    languages = (_ending(source)[1][1:] or None, _ending(target)[1][1:] or None)
    return Input(source, (source, target), "moses", languages, size, modified)
