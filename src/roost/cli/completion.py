"""`roost completion`: the lines a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a completion script for SHELL.

    For bash, put `eval "$(roost completion bash)"` into ~/.bashrc; for zsh the same with zsh into
    ~/.zshrc; for fish, `roost completion fish > ~/.config/fish/completions/roost.fish`.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root().command
    click.echo(kind(root, {}, "roost", "_ROOST_COMPLETE").source())
