"""Options that several commands share, and the settings they fill in.

A parameter named like a setting (`data`, `agent_port` …) overrides that setting; `load` picks
these out, so that a command declares an option once and never weighs sources itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import click

from roost import settings
from roost.errors import Invalid
from roost.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


class Whole(click.IntRange):
    """A whole number, within bounds."""

    name = "whole number"


FOLDER = click.Path(path_type=Path, file_okay=False)
LOG_LEVELS = ("debug", "info", "warning", "error")
SECONDS = click.FloatRange(min=0)
PORT = Whole(0, 65535)


class Files(NamedTuple):
    """Settings files that were named before the command."""

    config: Path | None
    inis: tuple[Path, ...]


def load(innermost: click.Context | None = None) -> Settings:
    """The settings in force for the command that runs, or is being typed; its own options first."""
    innermost = innermost or click.get_current_context()
    context: click.Context | None = innermost
    given: dict[str, object] = {}
    root = innermost.find_root()
    while context is not None:
        # `roost groups --server URL add …` means the same as with the option at the end.
        for name, value in context.params.items():
            if name in settings.TYPES and given.get(name) is None:
                given[name] = value
        context = context.parent
    # Of a command that is being typed, nothing has run yet.
    files: Files = root.obj or Files(root.params.get("config"), root.params.get("inis", ()))
    return settings.load(given, file=files.config, inis=files.inis)


def set_up_logs(found: Settings) -> None:
    from roost import telemetry

    telemetry.set_up(found.values.log, found.values.log_level)


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, shown in help in the order given."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


server_url = click.option(
    "--server", metavar="URL", help="The farm to talk to.  [default: http://127.0.0.1:5000]"
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
announce = click.option(
    "--announce", is_flag=True, help="When ready, print one JSON line that tells the addresses."
)
exit_with_stdin = click.option("--exit-with-stdin", is_flag=True, hidden=True)
log_level = click.option(
    "--log-level",
    type=click.Choice(LOG_LEVELS),
    help="How much to log on standard error.  [default: info]",
)
limit = click.option(
    "--limit",
    type=Whole(1, 1000),
    metavar="N",
    default=50,
    show_default=True,
    help="At most so many.",
)
cpus = click.option(
    "--cpus",
    type=Whole(min=1),
    metavar="N",
    help="CPUs to offer to jobs.  [default: all of the machine]",
)

allow_root = click.option(
    "--allow-root", is_flag=True, default=None, help="Let root's agent run jobs, as root."
)


def _switch(name: str, help: str) -> Callable[[Any], Any]:
    """A setting that is on or off; without the option, other places decide."""
    return click.option(f"--{name}/--no-{name}", default=None, help=help)


listening = together(
    click.option("--host", help="Address to listen on.  [default: 127.0.0.1]"),
    click.option("--port", type=PORT, metavar="N", help="0 takes a free one.  [default: 5000]"),
)
serving = together(
    listening,
    click.option("--data", type=FOLDER, help="Folder of the farm: database, output of jobs."),
    click.option(
        "--database-url", metavar="URL", help="Database to use instead of SQLite in --data."
    ),
    click.option(
        "--active-timeout",
        type=SECONDS,
        metavar="SECONDS",
        help="A node silent for longer is gone and its jobs are abandoned.  [default: 300]",
    ),
    click.option(
        "--requeue-after",
        type=SECONDS,
        metavar="SECONDS",
        help="Jobs of a node gone for so much longer run elsewhere; 0 never.  [default: 300]",
    ),
    click.option(
        "--time-zone",
        metavar="NAME",
        help="By whose clocks availability rules go, such as Europe/Berlin.  "
        "[default: those of this machine]",
    ),
    click.option(
        "--max-failures-per-client",
        type=Whole(min=0),
        metavar="N",
        help="A node where more runs of one job tree failed gets no more of it; 0 never.  "
        "[default: 0]",
    ),
    click.option(
        "--expire-jobs-days",
        type=click.FloatRange(min=0),
        metavar="DAYS",
        help="Delete a job tree so long after it ended, with its output; 0 never.  [default: 0]",
    ),
    click.option(
        "--heartbeat",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="How often nodes report.  [default: 10]",
    ),
    _switch("enable-chirp", "May jobs use Chirp at all?  [default: yes]"),
    _switch("enable-chirp-io", "May they for files?  [default: yes]"),
    _switch("enable-chirp-updates", "May they for attributes?  [default: yes]"),
    _switch("enable-chirp-delayed", "May they for attributes with delay?  [default: yes]"),
    click.option("--farm-name", metavar="NAME", help="What the pages call it.  [default: Roost]"),
    click.option(
        "--farm-colour",
        type=click.Choice(get_args(settings.TYPES["farm_colour"])),
        help="Of a line on its pages.  [default: blue]",
    ),
)


def attribute(text: str) -> tuple[str, Any]:
    """A name and plain data from `NAME=VALUE`, or from `NAME:=EXPRESSION`.

    A VALUE that is a literal of the ClassAd language (a number, `true`, `false`, `undefined`,
    something in quotes, a list) is what it says; anything else is text. Raises `Invalid`.
    """
    from roost.core.classad import Expression, parse_value

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Invalid(f"{text!r} is not of the form NAME=VALUE.")
    if name.endswith(":"):
        return name[:-1], {"expr": value}
    data = parse_value(value)
    return name, str(value) if isinstance(data, Expression) else data
