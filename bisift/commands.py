"""The classes behind every command: options in sections, examples at the end of each help, errors in one line."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import click

from bisift.outcome import reported, terminable

OTHER = "Other"


class Option(click.Option):
    """An option that stands in a section of its command's help."""

    def __init__(self, *arguments: Any, section: str = OTHER, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.section = section


class Command(click.Command):
    """A command whose help groups its options by section and ends with examples."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", OTHER), []).append(record)
        for section in sorted(sections, key=lambda name: name == OTHER):
            with formatter.section(section):
                formatter.write_dl(sections[section])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)


class Commands(click.Group):
    """The group of all commands; whatever ends one early becomes one line and an exit code."""

    command_class = Command

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.examples = examples

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with reported():
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with reported(), terminable():
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    # Written word for word: a wrapped command line could not be copied.
    formatter.write_paragraph()
    formatter.write("Examples:\n")
    for example in examples:
        formatter.write(textwrap.indent(example, "  ") + "\n")


def option(*names: str, section: str, **settings: Any) -> Callable[[Any], Any]:
    """Declare an option of a section; otherwise as `click.option`."""
    return click.option(*names, cls=Option, section=section, **settings)
