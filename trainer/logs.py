"""What a run tells: a line of JSON, TensorBoard scalars if asked, and one line for a person."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from bisift.errors import BisiftError, ConfigError

LOG_NAME = "log.jsonl"


class Logs:
    """Writes to `output`/log.jsonl and, if asked, `output`/tensorboard; silent in all ranks but the first."""

    def __init__(
        self, output: Path, *, update: int, tensorboard: bool, active: bool, stream: TextIO | None = None
    ) -> None:
        self._active = active
        self._stream = stream or sys.stderr
        self._writer: Any = None
        self._file: TextIO | None = None
        if not active:
            return
        output.mkdir(parents=True, exist_ok=True)
        path = output / LOG_NAME
        _cut(path, update)
        self._path = path
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 closed by close()
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ConfigError("tensorboard: true needs tensorboard: pip install 'bisift[tensorboard]'") from error
            self._writer = SummaryWriter(str(output / "tensorboard"), purge_step=update + 1)

    def write(self, update: int, **values: Any) -> None:
        """Keep one event of an update."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"update": update, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            raise BisiftError(
                f"{self._path}: {error.strerror or error}: make room and give the command again (without --restart)"
            ) from error
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._writer.add_scalar(name, value, update)

    def say(self, text: str) -> None:
        """Write one line to stderr; a stderr that went away never ends a run."""
        if self._active:
            with contextlib.suppress(OSError, ValueError):
                print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()


def _cut(path: Path, update: int) -> None:
    """Remove the events after the update that a run goes on from, and what a kill left of a line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):
            if line and json.loads(line)["update"] <= update:
                kept.append(line + b"\n")
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"".join(kept))
    os.replace(temporary, path)


def progress_line(values: dict[str, Any], updates: int) -> str:
    """One line for a person: where the run is, loss, rate, share of the device's rate in matrix products, time left."""
    left = (updates - values["update"]) * values["seconds_per_update"]
    minutes, seconds = divmod(round(left), 60)
    hours, minutes = divmod(minutes, 60)
    eta = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
    return (
        f"update {values['update']:>7,} of {updates:,}  loss {values['loss']:.3f}  nll {values['nll']:.3f}  "
        f"{values['tokens_per_second']:,.0f} tokens/s  MFU {values['mfu']:.0%}  padding {values['padding']:.1%}  "
        f"lr {values['learning_rate']:.2e}  {eta} left"
    )
