"""`roost attribute`, `event-log`: what jobs say of themselves while they run."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from roost import ranges
from roost.cli import options, tables
from roost.cli.asking import farm, job_id, job_ids
from roost.errors import NotFound


@click.command(short_help="Show the attributes of a job, or set some.")
@job_id
@click.argument("assignments", metavar="[NAME=VALUE…]", nargs=-1)
@options.server_url
@click.option("--history", metavar="NAME", help="Print when a numeric attribute had which value.")
@options.as_json
def attribute(
    number: int, assignments: tuple[str, ...], history: str | None, as_json: bool, **_: object
) -> None:
    """Show the attributes of a job, or set some: all of these, or none.

    VALUE is a number, true, false, undefined, something in quotes, or else text as it stands.
    NAME:=EXPRESSION sets an expression. JobPrio sets the priority.
    """
    if history is not None and assignments:
        raise click.UsageError("--history goes without NAME=VALUE.")
    values = dict(map(options.attribute, assignments))
    with farm() as remote:
        if values:
            remote.set_attributes(number, values)
        found = remote.attributes(number)
    if history is not None:
        found = [one for one in found if one.name.lower() == history.lower()]
        if not found:
            raise NotFound(f"Job {number} has no attribute {history}.")
    if as_json:
        tables.document({"id": number, "attributes": found})
    elif history is not None:
        points = [(_precise(at), f"{value:g}") for at, value in found[0].history]
        tables.table(("WHEN", "VALUE"), points, numbers="VALUE")
    elif values:
        click.echo(f"Set {', '.join(values)} of job {number}.", err=True)
    else:
        rows = [(one.name, one.text, tables.moment(one.set_at)) for one in found]
        tables.table(("NAME", "VALUE", "SET"), rows)
        if not found and sys.stdout.isatty():
            click.echo(f"None. Set one: roost attribute {number} NAME=VALUE", err=True)


def _precise(at: int) -> str:
    """Steps of a simulation may be closer than a second."""
    return datetime.fromtimestamp(at / 1000).isoformat(" ", "milliseconds")


@click.command("event-log", short_help="Print the story of jobs as an HTCondor event log.")
@job_ids()
@options.server_url
def event_log(texts: tuple[str, ...], **_: object) -> None:
    """Print the story of jobs as an HTCondor event log, for tools that read these.

    IDS are ids and ranges: 3 7-12 20,22. A job is CLUSTER.PROC as it sees itself: the id of its
    root job, and its own id, or 0 for the root. Times are local.
    """
    from roost.wire import eventlog

    ids = ranges.parse_ids(texts)
    roots: dict[int, int] = {}
    with farm() as remote:
        found = [remote.job(number) for number in ids]
        labels = {node.id: node.label for node in remote.nodes()}
        for job in found:
            parents, root = job.parents, job.id
            while parents and root not in roots:
                root = parents[0]
                if root not in roots:
                    parents = remote.job(root).parents
            roots[job.id] = roots.get(root, root)
        address = remote.url.partition("//")[2]
    log = eventlog.text(
        [eventlog.Story(job, roots[job.id], labels) for job in found], address, _local
    )
    click.echo(log, nl=False)


def _local(at: int) -> str:
    return datetime.fromtimestamp(at / 1000).strftime("%Y-%m-%d %H:%M:%S")


COMMANDS: tuple[click.Command, ...] = (attribute, event_log)
