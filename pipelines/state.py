"""The state of a job of score or dedup: a folder inside the output, claimed by one job, kept until it is done."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bisift import remote
from bisift.contract import METADATA_KEY
from bisift.errors import ConfigError
from bisift.manifest import MANIFEST_NAME, read_json, value_digest, write_json
from bisift.pipelines import storage

STATE = ".score-state"
_RUN = "run.json"


def state_folder(output: str) -> str:
    """Return the folder where a job keeps what is done."""
    return remote.join(output, STATE)


def finished(output: str, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of an output that is what this job would make.

    Raises:
        ConfigError: another job made it, or something else lies there.
    """
    path = remote.join(output, MANIFEST_NAME)
    if not storage.exists(path):
        return None
    with storage.fetched(path) as local:
        known = read_json(local)
    if known.get("identity") != value_digest(identity):
        raise ConfigError(
            f"{storage.shown(output)}: was made from other inputs or settings; give another folder, or --restart"
        )
    return known


@contextlib.contextmanager
def claimed(output: str, identity: Mapping[str, Any], *, restart: bool, keep: bool = False) -> Iterator[str]:
    """Yield the state folder, for this job alone where the output is a local folder; remove it when all went well.

    `keep`: leave it for a job that runs later.

    Raises:
        ConfigError: another job works there, or left parts of other settings; or the folder holds what is not bisift's.
    """
    folder = state_folder(output)
    with contextlib.ExitStack() as stack:
        if not remote.is_remote(output):
            Path(folder).mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(Path(folder) / "lock", "w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    f"{storage.shown(output)}: another job is writing there; wait for it or stop it"
                ) from error
        wanted = json.loads(json.dumps(identity))
        run = remote.join(folder, _RUN)
        known = None
        if storage.exists(run):
            with storage.fetched(run) as local:
                known = read_json(local)
        if known != wanted:
            if known is not None and not restart:
                changed = ", ".join(sorted(key for key in {*known, *wanted} if known.get(key) != wanted.get(key)))
                raise ConfigError(
                    f"{storage.shown(output)}: holds an unfinished job with other settings ({changed}); "
                    "give the same, or --restart"
                )
            restart = True
        _clear(output, folder, parts=restart)
        if restart:
            with storage.created(run) as local:
                write_json(local, wanted)
        yield folder
    if not keep:
        storage.remove_folder(folder)


def _clear(output: str, folder: str, *, parts: bool) -> None:
    """Remove what an earlier job published, and its parts."""
    for name in storage.names(output):
        path = remote.join(output, name)
        if name.startswith("part-") and name.endswith(".parquet"):
            if not _ours(path):
                raise ConfigError(
                    f"{storage.shown(path)}: not written by bisift and would be replaced; name another folder"
                )
            storage.remove(path)
    storage.remove(remote.join(output, MANIFEST_NAME))
    for name in storage.names(folder) if parts else ():
        if name != "lock":
            storage.remove(remote.join(folder, name))


def _ours(path: str) -> bool:
    try:
        with storage.fetched(path) as local:
            return METADATA_KEY in (pq.read_schema(local).metadata or {})
    except (pa.ArrowInvalid, OSError):
        return False
