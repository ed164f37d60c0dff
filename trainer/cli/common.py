"""What the commands share: options of decoding, the extra's presence, the output that appears whole."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bisift.commands import option
from bisift.errors import BisiftError, ConfigError, InputError
from bisift.manifest import atomic_path

if TYPE_CHECKING:
    from bisift.trainer.checkpoint import Checkpoint
    from bisift.trainer.decoding import DecodeConfig, Translator

SEARCH, RUN = "Search", "Run"
STANDARD = "-"


def search_options(command: Any) -> Any:
    """Declare the options of beam search, and where to compute."""
    options = (
        option(
            "--beam",
            type=click.IntRange(min=1),
            default=5,
            show_default=True,
            metavar="N",
            section=SEARCH,
            help="Beams; 1 is greedy.",
        ),
        option(
            "--length-penalty",
            type=click.FloatRange(min=0),
            default=1.0,
            show_default=True,
            metavar="A",
            section=SEARCH,
            help="Hypotheses compare by log p / length^A.",
        ),
        option(
            "--max-ratio",
            type=click.FloatRange(min=0),
            default=2.0,
            show_default=True,
            metavar="R",
            section=SEARCH,
            help="At most R times the source's pieces, and 10 more, are written.",
        ),
        option(
            "--batch",
            type=click.IntRange(min=1),
            default=64,
            show_default=True,
            metavar="N",
            section=RUN,
            help="Segments decoded at a time.",
        ),
        option(
            "--device",
            type=click.Choice(("auto", "cpu", "cuda")),
            default="auto",
            show_default=True,
            section=RUN,
            help="Where to compute.",
        ),
        option(
            "--threads",
            type=click.IntRange(min=1),
            metavar="N",
            section=RUN,
            help="Threads of torch (default: its own).",
        ),
    )
    for one in reversed(options):
        command = one(command)
    return command


def need_torch() -> None:
    """Raise ConfigError where the extra `train` is not installed."""
    for name in ("torch", "sentencepiece", "sacrebleu"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"trainer-cli needs {name}: pip install 'bisift[train]'")


def search_config(settings: dict[str, Any]) -> DecodeConfig:
    """Build the search from a command's options.

    Raises:
        ConfigError: a value cannot be.
    """
    from bisift.trainer.decoding import DecodeConfig

    names = ("beam", "length_penalty", "max_ratio", "batch")
    config = DecodeConfig(**{name: settings[name] for name in names})
    config.check()
    return config


def load_checkpoint(path: str) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError, ModelError: it cannot be read, or is a folder.
    """
    from bisift.trainer.checkpoint import Checkpoint

    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder: of a run, name a file in its checkpoints/, such as best.pt")
    return Checkpoint.load(path)


def translator_of(path: str, settings: dict[str, Any]) -> Translator:
    """Load a checkpoint to translate with.

    Raises:
        InputError, ModelError: it cannot be read.
        ConfigError: the device is not there.
    """
    import torch

    from bisift.trainer.decoding import Translator
    from bisift.trainer.vocabulary import Vocabulary

    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    wanted = settings["device"]
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no usable GPU here")
    device = torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
    checkpoint = load_checkpoint(path)
    return Translator(checkpoint.model(device), Vocabulary(checkpoint.vocabulary), checkpoint.state.get("tag", -1))


def read_input(path: str) -> list[str]:
    """Read segments from a file, or from stdin.

    Raises:
        InputError: it cannot be read, or is not UTF-8 text.
    """
    from bisift.trainer.evaluation import read_lines, split_lines

    if path == STANDARD:
        return split_lines(sys.stdin.buffer.read(), "stdin")
    return read_lines(path)


def write_output(path: str, lines: Sequence[str]) -> None:
    """Write lines to stdout, or to a file that appears whole."""
    data = "".join(f"{line}\n" for line in lines).encode()
    if path == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise BisiftError(f"{path}: {error.strerror or error}") from error


def warn_of_cuts(translator: Translator, lines: Sequence[str], config: DecodeConfig) -> None:
    """Say on stderr how many segments were too long to be translated whole."""
    if cut := translator.cut(lines, config):
        click.echo(f"warning: {cut:,} segments were cut after {config.max_source:,} pieces", err=True)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int], None] | None]:
    """Show on a terminal how many segments are done."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(done: int) -> None:
        click.echo(f"\r{done:,} of {total:,} segments", err=True, nl=False)

    yield show
    click.echo("\r\x1b[K", err=True, nl=False)
