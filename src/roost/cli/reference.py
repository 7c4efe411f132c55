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
    yield from _commands(cli, root, "##")


def _commands(group: click.Group, context: click.Context, heading: str) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not command.hidden:
            inner = click.Context(command, info_name=name, parent=context)
            yield ""
            yield f"{heading} {inner.command_path}"
            yield ""
            yield from _help(command, inner)
            if isinstance(command, click.Group):
                yield from _commands(command, inner, f"{heading}#")


def _help(command: click.Command, context: click.Context) -> Iterator[str]:
    context.terminal_width = context.max_content_width = WIDTH
    yield "```text"
    yield from command.get_help(context).splitlines()
    yield "```"


if __name__ == "__main__":
    print(page())
