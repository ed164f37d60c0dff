"""The options that decide how a pair is judged, shared by the commands that score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from bisift.commands import option
from bisift.filter.cli import params

if TYPE_CHECKING:
    from bisift.filter.scorer import ScorerSettings

JUDGING = "Judging"


def judging(command: Any) -> Any:
    """Add the options that decide how a pair is judged: profile, rules, models."""
    for decorate in reversed(
        (
            option(
                "--profile",
                default="default",
                show_default=True,
                type=params.Place(),
                metavar="FILE|default",
                section=JUDGING,
                help="Thresholds of the rules, in YAML (see filter-cli rules).",
            ),
            option(
                "--disable",
                multiple=True,
                type=params.RuleId(),
                metavar="RULE",
                section=JUDGING,
                help="Switch a rule off (repeatable).",
            ),
            option(
                "--no-models",
                is_flag=True,
                section=JUDGING,
                help="Only features and rules: ai_probability and quality stay null.",
            ),
            option(
                "--model",
                "models",
                multiple=True,
                type=params.NamedFile(),
                callback=params.unique_names,
                metavar="NAME=FILE",
                section=JUDGING,
                help="Take a model from a file of yours (repeatable).",
            ),
            option(
                "--device",
                default="auto",
                show_default=True,
                type=click.Choice(("auto", "cpu", "cuda")),
                section=JUDGING,
                help="Where the models run.",
            ),
            option(
                "--prior",
                type=params.Probability(),
                metavar="P",
                section=JUDGING,
                help="Share of machine-written pairs to expect, above 0 and below 1 (default: the models').",
            ),
        )
    ):
        command = decorate(command)
    return command


def check(settings: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other.

    Raises:
        click.UsageError: models are switched off and asked for.
    """
    if settings["no_models"] and (settings["models"] or settings["prior"] is not None):
        raise click.UsageError("--no-models excludes --model and --prior")


def scorer_settings(settings: Mapping[str, Any]) -> ScorerSettings:
    """Return what `judging`'s options ask for, with the profile loaded and its rules switched off.

    Raises:
        click.UsageError: options contradict each other.
        ConfigError: the profile cannot be used, or a rule is unknown.
    """
    check(settings)

    from bisift.filter.profile import load_profile
    from bisift.filter.scorer import ScorerSettings

    return ScorerSettings(
        profile=load_profile(settings["profile"], disable=settings["disable"]),
        use_models=not settings["no_models"],
        models=settings["models"],
        device=settings["device"],
        prior=settings["prior"],
    )
