"""From what was typed to a list of inputs: globs, directories, Moses pairs, URIs, stdin, and the format of each."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bisift import remote
from bisift.errors import ConfigError, InputError
from bisift.filter.readers.base import ReadOptions
from bisift.filter.readers.languages import same_language
from bisift.filter.readers.streams import STDIN, Stream, open_stream

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zstd")
_ENDINGS = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".tmx": "tmx",
    ".po": "po",
    ".pot": "po",
    ".mo": "po",
}
_NO_LANGUAGE = {".txt", ".xml", ".log", ".md", ".bin", ".tar", ".zip", ".tmp", ".bak", ".yml", ".ini"}
_NO_LANGUAGE |= {".src", ".tgt", ".trg", ".dst", ".ref", ".hyp", ".raw", ".tok", ".bpe"}
_LANGUAGE = re.compile(r"\.[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_CATALOG = re.compile(rb'^msg(id|ctxt)[ \t]+"', re.MULTILINE)
_MO_MAGIC = (b"\xde\x12\x04\x95", b"\x95\x04\x12\xde")


@dataclass(frozen=True, slots=True)
class Input:
    """One input: a file, a Moses pair of files, or stdin (`-`).

    `origin` names it in outputs: its path as typed, or the source's of a Moses pair, without a URI's credentials and
    query. `format` is resolved, but "auto" for stdin, which is looked at only when it is read. `size` in bytes and
    `modified` in ns are those of all files together (the latest), null for stdin.
    """

    origin: str
    paths: tuple[str, ...]
    format: str
    size: int | None
    modified: int | None

    @property
    def identity(self) -> dict[str, object]:
        """What tells this input from a changed one, as JSON can hold it."""
        paths = [remote.redact(path) if remote.is_remote(path) else path for path in self.paths]
        return {"paths": paths, "format": self.format, "size": self.size, "mtime": self.modified}


class ChangedInputError(InputError):
    """An input is no longer what it was when the run began."""


def check_unchanged(origin: Input) -> None:
    """Check that an input still has the size and time that it had when it was expanded.

    Raises:
        ChangedInputError: it has not, or is gone.
    """
    try:
        facts = [describe(path) for path in origin.paths]
    except InputError as error:
        raise ChangedInputError(
            f"{origin.origin}: vanished while it was read ({error}); restore it and run again"
        ) from error
    size, modified = sum(size or 0 for size, _ in facts), max(modified or 0 for _, modified in facts)
    if (size, modified) != (origin.size, origin.modified):
        raise ChangedInputError(
            f"{origin.origin}: changed while it was read ({origin.size:,} bytes, now {size:,}); run again"
        )


def expand(inputs: Sequence[str], options: ReadOptions) -> list[Input]:
    """Return the inputs in the order typed, what a glob or directory holds in sorted order.

    A directory stands for its Parquet files. Two files that differ only in a language ending are a Moses pair, in the
    order of the asked languages where the endings name those.

    Raises:
        InputError: nothing matches, or a file cannot be looked at.
        ConfigError: options contradict each other or the inputs.
    """
    options.check()
    paths = [path for text in inputs for path in _matches(text)]
    if paths.count(STDIN) > 1:
        raise ConfigError("stdin (-) can be read only once")
    found: list[Input] = []
    index = 0
    while index < len(paths):
        pair = paths[index : index + 2]
        if options.format == "moses" or (options.format == "auto" and is_pair(pair)):
            found.append(_moses(pair, options))
            index += 2
        else:
            found.append(_single(paths[index], options))
            index += 1
    return found


def languages_of(origin: Input) -> tuple[str | None, str | None]:
    """Languages that the endings of a Moses pair name; None for all else."""
    if origin.format != "moses":
        return None, None
    source, target = (_language(path) for path in origin.paths)
    return source, target


def sniff(stream: Stream) -> str:
    """Tell the format by the first block: TMX, PO, MO, Parquet, JSONL, else TSV."""
    head = stream.peek()
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(_MO_MAGIC) or _CATALOG.search(head):
        return "po"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"<?xml", b"<tmx", b"<!DOCTYPE tmx")) or b"<\0?\0x\0m\0l\0" in head[:12]:
        return "tmx"
    if start.startswith(b"{"):
        try:
            return "jsonl" if isinstance(json.loads(start.partition(b"\n")[0]), dict) else "tsv"
        except (ValueError, RecursionError):
            # A first line that is cut by the block's end is no JSON yet, but no TSV either.
            return "tsv" if b"\n" in start else "jsonl"
    return "tsv"


def _matches(text: str) -> list[str]:
    if text == STDIN:
        return [text]
    if remote.is_remote(text):
        return remote.matches(text)
    if os.path.isdir(text):
        names = (name for name in os.listdir(text) if name.endswith(".parquet") and name[0] not in "._")
        paths = sorted(os.path.join(text, name) for name in names)
        if not paths:
            raise InputError(f"{text}: a directory without Parquet files; name the files, such as '{text}/*'")
        return paths
    if os.path.exists(text) or not glob.has_magic(text):
        return [text]
    found = sorted(path for path in glob.glob(text, recursive=True) if not os.path.isdir(path))
    if not found:
        raise InputError(f"{text}: no file matches")
    return found


def _single(path: str, options: ReadOptions) -> Input:
    size, modified = describe(path)
    kind = options.format
    if kind == "auto":
        kind = _ENDINGS.get(_split(path)[1].lower(), "auto")
    if path == STDIN and kind == "parquet":
        raise ConfigError("Parquet cannot be read from stdin: give the file")
    if kind == "auto" and path != STDIN:
        with open_stream(path) as stream:
            kind = sniff(stream)
    return Input(_name(path), (path,), kind, size, modified)


def _moses(pair: Sequence[str], options: ReadOptions) -> Input:
    if len(pair) < 2:
        raise ConfigError(f"{_name(pair[0])}: Moses files come in pairs, such as corpus.en corpus.it")
    if STDIN in pair:
        raise ConfigError("a Moses pair cannot be read from stdin: give both files")
    first, second = (_language(path) for path in pair)
    asked = (options.source_lang, options.target_lang)
    if not _agree((first, second), asked):
        if not _agree((second, first), asked):
            raise ConfigError(
                f"{_name(pair[0])} and {_name(pair[1])}: the endings say {first} and {second}, "
                f"the options {asked[0] or 'any'} and {asked[1] or 'any'}"
            )
        pair = (pair[1], pair[0])
    facts = [describe(path) for path in pair]
    size = sum(size or 0 for size, _ in facts)
    modified = max(modified or 0 for _, modified in facts)
    return Input(_name(pair[0]), tuple(pair), "moses", size, modified)


def _agree(found: tuple[str | None, str | None], asked: tuple[str | None, str | None]) -> bool:
    return all(
        have is None or want is None or same_language(have, want) for have, want in zip(found, asked, strict=True)
    )


def is_pair(pair: Sequence[str]) -> bool:
    """Whether two paths are the two sides of a Moses pair by their names."""
    if len(pair) < 2 or STDIN in pair:
        return False
    first, second = (_language(path) for path in pair)
    return None not in (first, second) and first != second and _split(pair[0])[0] == _split(pair[1])[0]


def is_half_of_pair(path: str) -> bool:
    """Whether the name is that of one side of a Moses pair: it ends in a language and in no format."""
    return _language(path) is not None


def _language(path: str) -> str | None:
    ending = _split(path)[1]
    known = ending.lower() in _ENDINGS or ending.lower() in _NO_LANGUAGE
    return None if known or _LANGUAGE.fullmatch(ending) is None else ending[1:]


def _split(path: str) -> tuple[str, str]:
    """Split off the last ending below that of a compression."""
    root, ending = os.path.splitext(_name(path))
    return os.path.splitext(root) if ending.lower() in _COMPRESSED else (root, ending)


def _name(path: str) -> str:
    return remote.redact(path) if remote.is_remote(path) else path


def describe(path: str) -> tuple[int | None, int | None]:
    """Return the size in bytes and the modification time in ns of a file, nothing for stdin.

    Raises:
        InputError: it is not there.
    """
    if path == STDIN:
        return None, None
    if remote.is_remote(path):
        return remote.describe(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise InputError(f"{path}: {'no such file' if missing else remote.reason(error)}") from error
    return status.st_size, status.st_mtime_ns
