"""The folder of a ranking: claimed before, worked in under a lock, and published whole with its manifest last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bisift.contract import METADATA_KEY
from bisift.errors import ConfigError
from bisift.filter.writers.base import disk_errors
from bisift.manifest import MANIFEST_NAME, read_json, write_json

_STATE = ".rank-state"
_SHARD = re.compile(r"shard-\d{5,}-of-\d{5,}\.parquet")


def shard_name(shard: int, shards: int) -> str:
    """Return the file name of a shard; names sort in the order of the shards."""
    return f"shard-{shard:05d}-of-{shards:05d}.parquet"


def check_folder(output: str, inputs: Iterable[Path]) -> Path:
    """Return the folder that `output` names, if a ranking may be written there.

    Raises:
        ConfigError: it is no local folder, holds what is not a ranking of bisift, or holds one of `inputs`.
    """
    folder = Path(output)
    if "://" in output:
        raise ConfigError(f"{output}: filter-cli writes to local folders; python -m bisift.pipelines.rank writes there")
    if not folder.exists():
        return folder
    if not folder.is_dir():
        raise ConfigError(f"{output}: is a file; a ranking is a folder of shards")
    for path in inputs:
        if path.resolve().parent == folder.resolve():
            raise ConfigError(f"{output}: holds the input {path.name}; name another folder")
    if (folder / MANIFEST_NAME).exists():
        kind = read_json(folder / MANIFEST_NAME).get("kind")
        if kind != "ranked":
            raise ConfigError(
                f"{output}: its {MANIFEST_NAME} is of kind {kind!r}, not of a ranking; name another folder"
            )
    elif foreign := next((path for path in sorted(folder.iterdir()) if not _is_leftover(path)), None):
        raise ConfigError(f"{output}: holds {foreign.name} and no bisift manifest; name an empty or a new folder")
    return folder


def _is_leftover(path: Path) -> bool:
    """Whether a ranking that was killed left this behind."""
    if path.name == _STATE or path.name.startswith(f".{MANIFEST_NAME}."):
        return True
    if not _SHARD.fullmatch(path.name):
        return False
    try:
        return METADATA_KEY in (pq.read_schema(path).metadata or {})
    except (pa.ArrowInvalid, OSError):
        return False


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Yield an empty folder inside `folder` for shards and spills, removed at the end; one run at a time.

    Raises:
        ConfigError: another run works there.
        BisiftError: the disk refuses.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    state = folder / _STATE
    with disk_errors(folder), contextlib.ExitStack() as stack:
        state.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context(open(state / "lock", "w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{folder}: another run is writing there; wait for it or stop it") from error
        try:
            for leftover in state.iterdir():
                if leftover.name != "lock":
                    leftover.unlink()
            yield state
        finally:
            shutil.rmtree(state, ignore_errors=True)
            with contextlib.suppress(OSError):  # as it was before, where nothing was published
                for path in made:
                    path.rmdir()


def publish(folder: Path, finished: Iterable[Path], manifest: dict[str, Any]) -> Path:
    """Move finished shards into the folder in place of older ones, write the manifest last and return its path.

    Raises:
        BisiftError: the disk refuses.
    """
    path = folder / MANIFEST_NAME
    with disk_errors(folder):
        path.unlink(missing_ok=True)
        for old in folder.iterdir():
            if _SHARD.fullmatch(old.name):
                old.unlink()
        for shard in finished:
            os.replace(shard, folder / shard.name)
        write_json(path, manifest)
    return path
