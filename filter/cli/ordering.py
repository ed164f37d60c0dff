"""The options that decide a ranking, shared by the commands that rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from bisift.commands import option
from bisift.filter.cli import params

ORDERS = ("quality", "human", "combined", "random", "mixed")
ORDER, RUN = "Order", "Run"


def ordering(command: Any) -> Any:
    """Add the options that decide a ranking: order, shards, memory."""
    for decorate in reversed(
        (
            option(
                "--shards",
                type=click.IntRange(min=1),
                default=8,
                show_default=True,
                metavar="N",
                section="Output",
                help="How many shards to write; rank runs on from one to the next.",
            ),
            option(
                "--order",
                type=click.Choice(ORDERS),
                default="combined",
                show_default=True,
                section=ORDER,
                help="quality: best first. human: least machine-like first. combined: quality × (1 − ai_probability). "
                "random: by --seed. mixed: each generator by combined, interleaved by --share.",
            ),
            option(
                "--seed",
                type=int,
                default=0,
                show_default=True,
                metavar="S",
                section=ORDER,
                help="Seed of --order random.",
            ),
            option(
                "--share",
                "shares",
                multiple=True,
                type=params.Share(),
                callback=params.unique_names,
                metavar="NAME=SHARE",
                section=ORDER,
                help="A generator's share of the rows in --order mixed, such as human=0.3 (repeatable; default: all "
                "equal).",
            ),
            option("--keep-dropped", is_flag=True, section=ORDER, help="Put dropped pairs after all kept ones."),
            option(
                "--memory",
                type=params.Size(),
                default="1GiB",
                show_default=True,
                metavar="SIZE",
                section=RUN,
                help="What does not fit is sorted on disk.",
            ),
        )
    ):
        command = decorate(command)
    return command


def check(settings: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other.

    Raises:
        click.UsageError: shares without the order that uses them.
    """
    if settings["shares"] and settings["order"] != "mixed":
        raise click.UsageError("--share needs --order mixed")
