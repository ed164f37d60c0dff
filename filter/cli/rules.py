"""`filter-cli rules`: the rules as a profile to edit."""

from __future__ import annotations

import click

from bisift.commands import Command, option
from bisift.filter.cli import params


@click.command(
    cls=Command,
    short_help="Print the rules as a YAML profile to edit.",
    examples=(
        "filter-cli rules",
        "filter-cli rules > my-profile.yaml",
        "filter-cli score pairs.tsv --profile my-profile.yaml -o scored.parquet",
        "filter-cli rules --profile my-profile.yaml",
    ),
)
@option(
    "--profile",
    default="default",
    show_default=True,
    type=params.Place(),
    metavar="FILE|default",
    section="Input",
    help="Print this profile, checked and complete.",
)
def rules(profile: str) -> None:
    """Print every rule in the order in which they judge: id, the columns it reads, its thresholds.

    The output is a profile: change it and give it to score with --profile.
    """
    from bisift.filter.profile import load_profile

    click.echo(load_profile(profile).to_yaml(), nl=False)
