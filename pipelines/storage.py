"""Files of a job on this machine or behind a URI (s3://, gs://, hdfs://): made whole or not at all, listed, removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileSelector, FileType, LocalFileSystem, copy_files

from bisift import remote
from bisift.errors import BisiftError
from bisift.manifest import atomic_path


def shown(path: str) -> str:
    """Return a path as people may read it: of a URI, without credentials and query."""
    return remote.redact(path) if remote.is_remote(path) else path


@contextlib.contextmanager
def created(path: str) -> Iterator[Path]:
    """Yield a local path to write to; what was written appears under `path` when all went well.

    Raises:
        BisiftError: the disk or the store refuses.
    """
    with failing(path):
        if not remote.is_remote(path):
            with atomic_path(path) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory(prefix="bisift-") as folder:
            local = Path(folder) / "file"
            yield local
            filesystem, target = remote.locate(path)
            copy_files(str(local), target, LocalFileSystem(), filesystem)  # an object appears when it is whole


@contextlib.contextmanager
def fetched(path: str) -> Iterator[Path]:
    """Yield a local path with the content of `path`.

    Raises:
        BisiftError: it is not there.
    """
    if not remote.is_remote(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="bisift-") as folder:
        local = Path(folder) / "file"
        with failing(path):
            filesystem, source = remote.locate(path)
            copy_files(source, str(local), filesystem, LocalFileSystem())
        yield local


def exists(path: str) -> bool:
    """Say whether a file or folder is there."""
    if not remote.is_remote(path):
        return os.path.exists(path)
    with failing(path):
        filesystem, place = remote.locate(path)
        return bool(filesystem.get_file_info(place).type != FileType.NotFound)


def names(folder: str) -> list[str]:
    """Return the names of the files in a folder, sorted; none where there is no folder."""
    with failing(folder):
        if not remote.is_remote(folder):
            return sorted(entry.name for entry in os.scandir(folder) if entry.is_file()) if exists(folder) else []
        filesystem, place = remote.locate(folder)
        found: list[Any] = filesystem.get_file_info(FileSelector(place, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.File)


def folders(folder: str) -> list[str]:
    """Return the names of the folders in a folder, sorted; none where there is no folder."""
    with failing(folder):
        if not remote.is_remote(folder):
            return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if exists(folder) else []
        filesystem, place = remote.locate(folder)
        found: list[Any] = filesystem.get_file_info(FileSelector(place, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.Directory)


def remove(path: str) -> None:
    """Remove a file that may be there."""
    with failing(path), contextlib.suppress(FileNotFoundError):
        if not remote.is_remote(path):
            os.unlink(path)
        elif exists(path):
            filesystem, place = remote.locate(path)
            filesystem.delete_file(place)


def remove_folder(path: str) -> None:
    """Remove a folder with all that is in it, where there is one."""
    if not remote.is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
    elif exists(path):
        with failing(path):
            filesystem, place = remote.locate(path)
            filesystem.delete_dir(place)


@contextlib.contextmanager
def failing(path: str) -> Iterator[None]:
    """Turn a failing disk or store into one line that names the path."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise BisiftError(f"{shown(path)}: {remote.reason(error)}; what is done is kept, run again to go on") from error
