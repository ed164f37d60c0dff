"""`filter-cli completion`: the script that teaches a shell to complete filter-cli's options and values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from bisift.commands import Command

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    short_help="Print a shell's completion script.",
    examples=(
        "echo 'eval \"$(filter-cli completion bash)\"' >> ~/.bashrc",
        "echo 'eval \"$(filter-cli completion zsh)\"' >> ~/.zshrc",
        "filter-cli completion fish > ~/.config/fish/completions/filter-cli.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell (bash 4.4 or newer, zsh or fish)."""
    from bisift.filter.cli import PROGRAM

    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, variable).source())
