"""Command lines of jobs: bisift's own options as in filter-cli, Beam's passed on, and what nobody knows refused."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from bisift import remote
from bisift.commands import Command, option
from bisift.config import nearest
from bisift.errors import ConfigError
from bisift.filter.cli import params
from bisift.outcome import reported, terminable
from bisift.pipelines.runners import LostRunnerError

RUNNERS = ("FnApiRunner", "PrismRunner", "PortableRunner", "FlinkRunner", "DataflowRunner")
LOCAL = ("FnApiRunner", "PrismRunner")
"""Runners whose workers all see the disk of this machine."""

# Options that Beam's Flink runner takes from its Java side, so that Python does not declare them.
_FLINK = (
    "checkpoint_timeout_millis",
    "checkpointing_interval",
    "checkpointing_mode",
    "flink_conf_dir",
    "max_bundle_size",
    "min_pause_between_checkpoints",
    "object_reuse",
    "retain_externalized_checkpoints_on_cancellation",
    "savepoint_path",
    "state_backend",
    "state_backend_storage_path",
    "use_data_stream_for_batch",
)


class Job(Command):
    """A command that takes Beam's options besides its own; whatever ends it early becomes one line and a code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with reported():
            settings = {"ignore_unknown_options": True, "allow_extra_args": True, "max_content_width": 110}
            return super().make_context(info_name, split_inputs(args), parent, **settings, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with reported(), terminable():
            try:
                return super().invoke(ctx)
            except LostRunnerError as error:
                atexit.register(_leave, error.exit_code)
                raise


def _leave(code: int) -> None:
    """End the process at once: threads of Beam that wait for a lost runner can abort an orderly end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def job_options(*, many_inputs: str) -> Callable[[Any], Any]:
    """Add the options that all jobs share."""

    def decorate(command: Any) -> Any:
        for add in reversed(
            (
                option(
                    "--input",
                    "inputs",
                    multiple=True,
                    required=True,
                    type=params.Place(),
                    metavar="PATTERN...",
                    section="Job",
                    help=many_inputs,
                ),
                option(
                    "--output",
                    required=True,
                    type=params.Place(),
                    metavar="DIR/",
                    section="Job",
                    help="Folder of the output, here or behind a URI (s3:// gs:// hdfs://).",
                ),
                option(
                    "--runner",
                    required=True,
                    metavar="RUNNER",
                    section="Job",
                    help=f"One of {', '.join(RUNNERS)}; options of Beam and of the runner may follow.",
                ),
                option(
                    "--workers",
                    type=click.IntRange(min=1),
                    default=1,
                    show_default=True,
                    metavar="N",
                    section="Job",
                    help="Worker processes of FnApiRunner; other runners have options of their own.",
                ),
                option("--json", "as_json", is_flag=True, section="Job", help="Print counts and metrics as JSON."),
            )
        ):
            command = add(command)
        return command

    return decorate


def sees_disk(options: PipelineOptions, path: str) -> bool:
    """Say whether all workers of the runner see `path` as a local folder."""
    return options.view_as(StandardOptions).runner in LOCAL and not remote.is_remote(path)


def split_inputs(arguments: Sequence[str]) -> list[str]:
    """Write `--input a b` as `--input a --input b`, as a shell's glob gives it.

    >>> split_inputs(["--input", "a", "b", "--runner=X"])
    ['--input', 'a', '--input', 'b', '--runner=X']
    """
    out: list[str] = []
    taking = False
    for argument in arguments:
        if argument == "--input":
            taking = True
        elif argument.startswith("-") and argument != "-":
            taking = False
            out.append(argument)
        elif taking:
            out += ["--input", argument]
        else:
            out.append(argument)
    return out


def beam_options(settings: dict[str, Any]) -> PipelineOptions:
    """Take runner and workers out of `settings`, and return them with Beam's options on the running command's line.

    Raises:
        ConfigError: an unknown runner or option, or one that does not go with the runner.
    """
    context = click.get_current_context()
    own = [name for parameter in context.command.params for name in parameter.opts]
    return parse_beam_options(settings.pop("runner"), settings.pop("workers"), context.args, own)


def parse_beam_options(runner: str, workers: int, more: Sequence[str], own: Iterable[str] = ()) -> PipelineOptions:
    """Return Beam's options.

    Args:
        runner: as typed.
        workers: processes asked for.
        more: words of the command line that bisift does not know.
        own: bisift's option names, to name the nearest one of a misspelt option.

    Raises:
        ConfigError: an unknown runner or option, or one that does not go with the runner.
    """
    if runner == "DirectRunner":
        raise ConfigError(
            "--runner=DirectRunner stands for Prism or FnApiRunner, whichever it finds: name FnApiRunner or PrismRunner"
        )
    if runner not in RUNNERS:
        raise ConfigError(f"no runner {runner!r}{nearest(runner, RUNNERS)}")
    parser = _beam_parser()
    known = {name.removeprefix("--") for name in parser._option_string_actions}
    if runner in ("FlinkRunner", "PortableRunner"):
        for name in _FLINK:
            parser.add_argument(f"--{name}")
        known |= set(_FLINK)
    try:
        _, unknown = parser.parse_known_args(list(more))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    if unknown:
        name = unknown[0].partition("=")[0]
        if not name.startswith("-"):
            raise ConfigError(f"unexpected argument {name!r}: inputs follow --input")
        names = {*(option.removeprefix("--") for option in own), *known}
        raise ConfigError(f"no option {name}{_spelled(nearest(name.lstrip('-'), names))}")
    arguments = [f"--runner={runner}", *more]
    if workers > 1 and runner != "FnApiRunner":
        raise ConfigError(f"--workers is for FnApiRunner; {runner} has options of its own (docs/runners.md)")
    if workers > 1:
        arguments += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    return PipelineOptions(arguments)


def _spelled(hint: str) -> str:
    return hint.replace("did you mean '", "did you mean '--") if "did you mean" in hint else ""


def _beam_parser() -> argparse.ArgumentParser:
    """Return the parser of all options that Beam knows."""
    found: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=found.append)
    found[0].exit_on_error = False
    return found[0]
