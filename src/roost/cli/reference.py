"""docs/reference/cli.md, made from the commands themselves: `python -m roost.cli.reference`.

A test compares the file with what this makes, so the page cannot fall behind. The width is fixed,
so that it does not depend on the terminal either.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

WIDTH = 100


def page() -> str:
    """The whole page as Markdown."""
    from roost.cli import cli

    return "\n".join(_page(cli))


def _page(cli: click.Group) -> Iterator[str]:
    yield "# The roost command"
    yield ""
    yield "<!-- Made by `make docs` from src/roost/cli; do not edit. -->"
    yield ""
    root = click.Context(cli, info_name="roost", **cli.context_settings)
    yield from _help(cli, root)
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        if not command.hidden:
            yield ""
            yield f"## roost {name}"
            yield ""
            yield from _help(command, click.Context(command, info_name=name, parent=root))


def _help(command: click.Command, context: click.Context) -> Iterator[str]:
    context.terminal_width = context.max_content_width = WIDTH
    yield "```text"
    yield from command.get_help(context).splitlines()
    yield "```"


if __name__ == "__main__":
    print(page())
