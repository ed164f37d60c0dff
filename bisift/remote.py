"""Files behind URIs: s3://, gs:// and hdfs://, through pyarrow.fs, which is imported only when one is met."""

from __future__ import annotations

import fnmatch
import os
import re
from typing import IO, Any, cast

from bisift.errors import ConfigError, InputError

SCHEMES = ("s3", "gs", "gcs", "hdfs", "viewfs")
_URI = re.compile(r"([a-z][a-z0-9+.-]*)://")
_GLOB = re.compile(r"[*\[]")


def is_remote(path: str) -> bool:
    """Whether `path` is a URI.

    Raises:
        ConfigError: it is one of a scheme that is not read.
    """
    match = _URI.match(path)
    if match is None:
        return False
    if match[1] not in SCHEMES:
        raise ConfigError(f"{redact(path)}: only s3://, gs:// and hdfs:// are read; download it first")
    return True


def redact(uri: str) -> str:
    """Return the URI without credentials and query, for outputs and messages."""
    return re.sub(r"^([a-z0-9+.-]+://)[^/@]*@", r"\1", uri.partition("?")[0])


def join(folder: str, name: str) -> str:
    """Return the path or URI of a file in a folder; the query of a URI stays at its end."""
    if not is_remote(folder):
        return os.path.join(folder, name)
    base, mark, query = folder.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def locate(uri: str) -> tuple[Any, str]:
    """Return the filesystem of a URI and the path in it.

    Raises:
        InputError: the URI cannot be understood, or the filesystem's client cannot be started.
    """
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        return cast("tuple[Any, str]", FileSystem.from_uri(uri))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(f"{redact(uri)}: {reason(error)}") from error


def matches(uri: str) -> list[str]:
    """Expand a glob in the last part of the path, or a directory to its Parquet files; else return the URI itself.

    Raises:
        InputError: nothing is there, or it cannot be listed.
    """
    from pyarrow.fs import FileSelector, FileType

    base, mark, query = uri.partition("?")
    folder, _, pattern = base.rpartition("/")
    if _GLOB.search(folder):
        raise ConfigError(f"{redact(uri)}: a glob may stand only in the last part of a URI")
    try:
        if not _GLOB.search(pattern):
            filesystem, path = locate(uri)
            kind = filesystem.get_file_info(path).type
            if kind == FileType.NotFound:
                raise InputError(f"{redact(uri)}: no such file")
            if kind != FileType.Directory:
                return [uri]
            folder, pattern = base.rstrip("/"), "*.parquet"
        filesystem, path = locate(folder + mark + query)
        found = [info for info in filesystem.get_file_info(FileSelector(path)) if info.type == FileType.File]
    except OSError as error:
        raise InputError(f"{redact(uri)}: {reason(error)}") from error
    names = sorted(info.base_name for info in found if fnmatch.fnmatchcase(info.base_name, pattern))
    if not names:
        raise InputError(f"{redact(uri)}: no file matches")
    return [f"{folder}/{name}{mark}{query}" for name in names]


def listed(uri: str) -> list[str]:
    """Return the files that a glob in the last part of a URI matches, or those of a folder; none where there are none.

    Raises:
        ConfigError: a glob stands elsewhere.
        InputError: the folder cannot be listed.
    """
    from pyarrow.fs import FileSelector, FileType

    base, mark, query = uri.partition("?")
    folder, _, pattern = base.rpartition("/")
    if not _GLOB.search(pattern):
        folder, pattern = base.rstrip("/"), "*"
    if _GLOB.search(folder):
        raise ConfigError(f"{redact(uri)}: a glob may stand only in the last part of a URI")
    filesystem, path = locate(folder + mark + query)
    try:
        found = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise InputError(f"{redact(uri)}: {reason(error)}") from error
    names = sorted(info.base_name for info in found if info.type == FileType.File)
    return [f"{folder}/{name}{mark}{query}" for name in names if fnmatch.fnmatchcase(name, pattern)]


def describe(uri: str) -> tuple[int | None, int | None]:
    """Return the size in bytes and the modification time in ns of a file.

    Raises:
        InputError: it is not there.
    """
    filesystem, path = locate(uri)
    try:
        info = filesystem.get_file_info(path)
    except OSError as error:
        raise InputError(f"{redact(uri)}: {reason(error)}") from error
    if not info.is_file:
        raise InputError(f"{redact(uri)}: no such file")
    return info.size, info.mtime_ns


def open_input(uri: str) -> tuple[IO[bytes], int | None]:
    """Open a file for reading from anywhere in it, and return it with its size.

    Raises:
        InputError: it cannot be opened.
    """
    filesystem, path = locate(uri)
    try:
        file = filesystem.open_input_file(path)
        return cast("IO[bytes]", file), file.size()
    except OSError as error:
        raise InputError(f"{redact(uri)}: {reason(error)}") from error
