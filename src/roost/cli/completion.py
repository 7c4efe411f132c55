"""`roost completion`: the lines a shell needs, and what it is told about a farm.

Commands and options are known here. Ids of jobs, and names of machines, groups and resources, are
asked of the farm that the command line names. Whoever presses Tab waits for a moment at most and
never reads a complaint: no server, a wrong address or a slow network mean that nothing is offered.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)

from roost.cli import options

if TYPE_CHECKING:
    from roost.remote import Remote

SHELLS = ("bash", "zsh", "fish")
PATIENCE_S = 1.5
"""How long Tab may take, whatever the network does."""
JOBS_OFFERED = 100
"""The latest ones."""

Offered = Iterable[tuple[str, str]]
"""What can stand there, and a word about it."""
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


def _of_the_farm(ask: Callable[[Remote, str], Offered]) -> Completer:
    """As click wants it: what of the answer begins as the word does, and is not there yet."""

    def complete(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem[str]]:
        found: list[tuple[str, str]] = []

        def look() -> None:
            from roost.remote import Remote

            # Whatever goes wrong, a prompt is no place to say so.
            with suppress(Exception):
                with Remote(options.load(context).values.server) as remote:
                    found.extend(ask(remote, begun))

        # A thread, as nothing else bounds how long a name is looked up; it ends with the process.
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(PATIENCE_S)
        given = context.params.get(parameter.name or "")
        already = set(given) if isinstance(given, tuple) else set()
        return [
            CompletionItem(value, help=" ".join(help.split()) or None)
            for value, help in list(found)
            if value.startswith(begun) and value.isprintable() and value not in already
        ]

    return complete


def jobs(action: str = "") -> Completer:
    """Ids of the latest jobs, of those to which the action applies; of jobs below others once a
    digit is there."""

    def ask(remote: Remote, begun: str) -> Offered:
        from roost.core.actions import ACTIONS

        statuses = [status.value for status in ACTIONS[action].applies] if action else []
        page = remote.jobs(statuses=statuses, roots_only=not begun, limit=JOBS_OFFERED)
        return [(str(job.id), f"{job.name}, {job.ui_status}") for job in page.jobs]

    return _of_the_farm(ask)


@_of_the_farm
def nodes(remote: Remote, begun: str) -> Offered:
    return [(node.label, node.description or node.platform) for node in remote.nodes()]


@_of_the_farm
def groups(remote: Remote, begun: str) -> Offered:
    return [(group.name, f"{len(group.nodes)} machines") for group in remote.groups()]


@_of_the_farm
def resources(remote: Remote, begun: str) -> Offered:
    return [(resource.name, f"{resource.in_use} in use") for resource in remote.resources()]


class _Bash(BashComplete):
    def format_completion(self, item: CompletionItem[Any]) -> str:
        # bash inserts what it is told as it is; a name may have spaces.
        value = shlex.quote(item.value) if item.type == "plain" else item.value
        return f"{item.type},{value}"


add_completion_class(_Bash)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a completion script for SHELL.

    It completes commands, options, and what is on the farm: ids of jobs, and names of machines,
    groups and resources.

    For bash, put `eval "$(roost completion bash)"` into ~/.bashrc; for zsh the same with zsh into
    ~/.zshrc; for fish, `roost completion fish > ~/.config/fish/completions/roost.fish`.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root().command
    click.echo(kind(root, {}, "roost", "_ROOST_COMPLETE").source())
