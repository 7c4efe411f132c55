"""`roost submit`: from a command line or a JSON file to a job specification.

Two ways in, one way on: a COMMAND after `--` is made into the same kind of dictionary that a FILE
holds, and the options then say what its top job is like. What a specification may contain is the
server's business; here it is only assembled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import IO, Any

import click

from roost import ranges
from roost.cli import completion, options, watching
from roost.errors import Invalid
from roost.frames import Spec, command_spec, frame_spec
from roost.scripting.submission import line_of

_COMMAND = "roost.submit.command"


class WithCommand(click.Command):
    """Sets aside what follows `--`, which is for the job and not for us."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if "--" in arguments:
            at = arguments.index("--")
            context.meta[_COMMAND] = arguments[at + 1 :]
            arguments = arguments[:at]
        return super().parse_args(context, arguments)

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        return ["[OPTIONS]", "(FILE | - | -- COMMAND…)"]


@click.command(cls=WithCommand, short_help="Give the farm a job: a JSON file or a command.")
@click.argument("file", required=False, type=click.File("rb"))
@options.server_url
@click.option("--name", help="What the job is called.  [default: its command]")
@click.option(
    "--frames",
    metavar="RANGES",
    help="One child for each number of 1-100, 1-100x2 or 1-10,20,30-50x5, with it in $FRAME and "
    "for {frame} in COMMAND.",
)
@click.option("--cpus", type=options.Whole(min=1), metavar="N", help="CPUs the command needs.")
@click.option("--priority", type=options.Whole(min=0), metavar="N", help="Higher goes first.")
@click.option(
    "--tries", type=options.Whole(min=0), metavar="N", help="Automatic runs after a failure."
)
@click.option(
    "--max-time",
    type=options.Whole(min=1),
    metavar="SECONDS",
    help="Cancelled when it takes longer.",
)
@click.option("--shell", help="Interpreter of the command.  [default: /bin/sh]")
@click.option("--cwd", help="Folder to run in.  [default: this one]")
@click.option("--env", "environment", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@click.option(
    "--tag", "tags", multiple=True, help="Such as single: alone on its machine. Repeatable."
)
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the job can read and set while it runs: a number, true, or text; "
    "NAME:=EXPRESSION for an expression. Repeatable.",
)
@click.option(
    "--submit-dir", metavar="FOLDER", help="Folder on the server that its Chirp files lie in."
)
@click.option(
    "--parent",
    type=options.Whole(min=1),
    metavar="ID",
    shell_complete=completion.jobs(),
    help="Becomes a child of this job.",
)
@click.option("--wait", is_flag=True, help="Draw the progress until the job has ended.")
@options.as_json
def submit(
    file: IO[bytes] | None,
    frames: str | None,
    parent: int | None,
    wait: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Give the farm a job: from a JSON FILE, standard input (-), or a COMMAND.

    Several words of COMMAND are quoted, so that the job sees them as you typed them; a single
    word is taken as a line for the shell: roost submit --frames 1-10 -- 'render -f $FRAME scene'.

    Prints the id of the job on standard output, so that ID=$(roost submit …) works. With --wait
    the exit code is the job's fate: 0 succeeded, 1 failed, 3 cancelled. Ctrl-C while waiting
    leaves the job running.
    """
    command: list[str] | None = click.get_current_context().meta.get(_COMMAND)
    if (file is None) == (not command):
        raise click.UsageError("Say what to run: a JSON file, - for standard input, or -- COMMAND.")
    if file is not None:
        if frames is not None:
            raise click.UsageError("--frames needs a command after --.")
        spec = read_spec(file)
    else:
        assert command
        line = command[0] if len(command) == 1 else line_of(command)
        spec = {**command_spec(line), "cwd": given["cwd"] or _current_folder()}
    settings = options.load()
    for top in spec if isinstance(spec, list) else [spec]:
        apply_options(top, **given)
    if frames is not None:
        assert isinstance(spec, dict)
        spec = frame_spec(spec, ranges.parse(frames))

    from roost.remote import Remote

    with Remote(settings.values.server) as remote:
        ids = [int(number) for number in remote.submit(spec, parent)]
        roots = ids[: len(spec)] if isinstance(spec, list) else ids[:1]
        if not as_json:
            click.echo("\n".join(str(number) for number in roots))
            click.echo(sentence(spec, ids, wait), err=True)
        statuses = watching.wait(remote, roots) if wait else {}
    if as_json:
        document: dict[str, Any] = {"id": roots[0] if roots else None, "roots": roots, "ids": ids}
        if wait:
            document["statuses"] = {str(number): status for number, status in statuses.items()}
        click.echo(json.dumps(document))
    return watching.exit_code(statuses.values())


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise Invalid(
            "The folder that you are in has been removed: go elsewhere, or name one with --cwd."
        ) from None


def _finite(text: str) -> float:
    # Others would be sent as nothing, and the job would get what it has by default.
    if not isfinite(number := float(text)):
        raise ValueError(f"{text} is not a number that JSON has")
    return number


def read_spec(file: IO[bytes]) -> Spec | list[Spec]:
    """One specification or a list of them. Raises `Invalid` for anything else."""
    try:
        document = json.load(file, parse_float=_finite, parse_constant=_finite)
    except UnicodeDecodeError:
        raise Invalid(f"{file.name} is not valid JSON: it is not text in UTF-8.") from None
    except ValueError as error:
        raise Invalid(f"{file.name} is not valid JSON: {error}.") from None
    except RecursionError:
        raise Invalid(f"{file.name} is nested too deeply.") from None
    specs = document if isinstance(document, list) else [document]
    if not specs or not all(isinstance(spec, dict) for spec in specs):
        raise Invalid(f"{file.name} must hold a job specification or a list of them.")
    return document  # type: ignore[no-any-return]


def apply_options(
    spec: Spec,
    *,
    name: str | None = None,
    cpus: int | None = None,
    priority: int | None = None,
    tries: int | None = None,
    max_time: int | None = None,
    shell: str | None = None,
    cwd: str | None = None,
    environment: Sequence[str] = (),
    tags: Sequence[str] = (),
    attributes: Sequence[str] = (),
    submit_dir: str | None = None,
    **_: object,
) -> None:
    """Let the options that were given say what this job is like. Raises `Invalid`."""
    plain = {
        "name": name,
        "cpus": cpus,
        "priority": priority,
        "triesLeft": tries,
        "maxTime": max_time,
        "shell": shell,
        "cwd": cwd,
        "submitDir": submit_dir,
    }
    spec.update({key: value for key, value in plain.items() if value is not None})
    for pair in environment:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise Invalid(f"--env {pair!r} is not of the form KEY=VALUE.")
        spec["environment"] = {**(spec.get("environment") or {}), key: value}
    for text in attributes:
        attribute, value = options.attribute(text)
        spec["attributes"] = {**(spec.get("attributes") or {}), attribute: value}
    if tags:
        spec["tags"] = list(tags)


def sentence(spec: Spec | list[Spec], ids: Sequence[int], wait: bool) -> str:
    """What was done, for people."""
    root = ids[0]
    name = spec["name"] if isinstance(spec, dict) and spec.get("name") else ""
    below = len(ids) - (len(spec) if isinstance(spec, list) else 1)
    text = f"Submitted job {root}" + (f" ({name})" if name else "")
    if below:
        text += f" with {below} {'job' if below == 1 else 'jobs'} beneath it"
    return f"{text}." if wait else f"{text}; roost job {root} shows it."
