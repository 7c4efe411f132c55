"""The `roost` command.

    options     options that several commands share, and the settings they fill in
    running     roost up, server, agent: the farm itself
    upkeep      what `roost up` does while it is up
    submitting  roost submit: from a command line or a file to a job specification
    asking      roost jobs, job, output, why, cancel, doctor …: a running farm, asked
    machines    roost nodes: the machines, and what people say of them
    arranging   roost groups, resources, priority, permit: which job goes where, and when
    annotating  roost attribute, event-log: what jobs say of themselves
    noting      roost notes, errors, history: what people wrote, what the farm remembers
    configuring roost settings: what is in force, and files of HQueue
    moving      roost export, import: the whole farm as one file
    watching    --wait: a job's progress as it happens, and its fate as an exit code
    tables      records as aligned text, or as one JSON document
    checkup     what the doctor looks at
    completion  roost completion: for the shell
    reference   docs/reference/cli.md, made from all of the above

Conventions, the same for every command: results go to standard output, sentences for people to
standard error; `--json` prints one document; an error is one sentence and the exit code of
`roost.errors`; 130 after Ctrl-C. Starting must be quick, so what only one command needs (the
server, the agent, HTTP, rich) is imported when that command runs.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import roost
from roost.cli import (
    annotating,
    arranging,
    asking,
    completion,
    configuring,
    machines,
    moving,
    noting,
    options,
    running,
)
from roost.errors import Invalid, RoostError

INTERRUPTED = 130
PIPE_CLOSED = 1


SECTIONS = {
    "Run a farm": "up server agent doctor settings export import completion",
    "Give it work and look on": "submit jobs job output why wait attribute event-log",
    "Act on jobs": "cancel pause resume reschedule eject delete priority permit undo",
    "Machines and what is arranged": "nodes groups resources notes errors history",
}
"""In which order `roost --help` lists the commands; each is in one of them."""


class _InSections(click.Group):
    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (name, self.commands[name].get_short_help_str(width))
                        for name in names.split()
                    ]
                )


@click.group(
    cls=_InSections,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 well, 1 failed, 2 wrong usage or a bad job, 3 not in this state, "
    "4 no such thing, 5 not allowed, 6 the farm does not answer or takes no work, 130 Ctrl-C.",
)
@click.version_option(roost.__version__, prog_name="roost")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file to use instead of the one in your configuration folder.",
)
@click.option(
    "--ini",
    "inis",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A hqserver.ini or hqnode.ini of HQueue; Roost's own settings go before it.",
)
@click.pass_context
def cli(context: click.Context, config: Path | None, inis: tuple[Path, ...]) -> None:
    """A compute and render farm: runs job trees on one machine or many.

    `roost up` starts a farm on this machine, `roost submit -- COMMAND` gives it work.
    """
    context.obj = options.Files(config, inis)


for command in (
    *running.COMMANDS,
    *asking.COMMANDS,
    *arranging.COMMANDS,
    *machines.COMMANDS,
    *noting.COMMANDS,
    *configuring.COMMANDS,
    *moving.COMMANDS,
    *annotating.COMMANDS,
    completion.completion,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code and shows no traceback for what users can cause."""
    _prepare_streams()
    try:
        result = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="roost",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RoostError as error:
        click.echo(f"roost: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except UnicodeEncodeError as error:
        # Bytes of the command line that are no text; in the names of files they may stand.
        click.echo(f"roost: {error.object!r} is not text in {error.encoding.upper()}.", err=True)
        return Invalid.exit_code
    except OSError as error:
        # The world refused: a folder that cannot be made, a port that cannot be had.
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"roost: {where}{error.strerror or error}", err=True)
        return 1
    return result if isinstance(result, int) else 0


def _prepare_streams() -> None:
    """Standard streams that are there, and that take any text.

    Where one was closed (`roost jobs >&-`), the next file or connection would get its number, and
    have written into it what is meant for a person.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # As standard error does: names of jobs have letters that not every terminal has.
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
