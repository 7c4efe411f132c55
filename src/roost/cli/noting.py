"""`roost notes`, `errors`, `history`: what people wrote down, and what the farm remembers.

`notes` is a group of commands that lists when it is given nothing to do. Machines are named as
people name them, by label or id.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from roost import ranges
from roost.cli import completion, options, tables
from roost.cli.arranging import find_nodes
from roost.cli.asking import farm, job_row

if TYPE_CHECKING:
    from roost.remote import Remote
    from roost.wire.rest import NoteThread

about = options.together(
    click.option(
        "--job",
        type=options.Whole(min=1),
        metavar="ID",
        shell_complete=completion.jobs(),
        help="About this job.",
    ),
    click.option(
        "--node", metavar="NODE", shell_complete=completion.nodes, help="About this machine."
    ),
)


@click.group(invoke_without_command=True)
@about
@options.server_url
@options.as_json
@click.pass_context
def notes(
    context: click.Context, /, job: int | None, node: str | None, as_json: bool, **_: object
) -> None:
    """List what people wrote down, or write something. A thread is shown by its latest note."""
    if context.invoked_subcommand:
        return
    with farm() as remote:
        # About one thing there is one thread, and it is wanted whole.
        latest = job is None and node is None
        found = remote.notes(job=job, node=one_node(remote, node), latest=latest)
        labels = {} if as_json else {each.id: each.label for each in remote.nodes()}
    show_notes(found, labels, as_json)
    if not found and not as_json and sys.stdout.isatty():
        click.echo("No notes. Write one: roost notes add TEXT --job ID", err=True)


@notes.command("thread")
@click.argument("number", metavar="ID", type=options.Whole(min=1))
@options.server_url
@options.as_json
def show_thread(number: int, as_json: bool, **_: object) -> None:
    """Show a thread with all of its notes."""
    with farm() as remote:
        found = remote.notes(thread=number)
        labels = {} if as_json else {each.id: each.label for each in remote.nodes()}
    show_notes(found, labels, as_json)


@notes.command("add", short_help="Write a note.")
@click.argument("text")
@about
@click.option("--thread", type=options.Whole(min=1), metavar="ID", help="In this thread.")
@options.server_url
def add_note(text: str, job: int | None, node: str | None, thread: int | None, **_: object) -> None:
    """Write a note: about a job or a machine, in a thread, or in a new thread.

    Prints the id of the note.
    """
    if sum(each is not None for each in (job, node, thread)) > 1:
        raise click.UsageError("--job, --node and --thread exclude each other.")
    with farm() as remote:
        number = remote.add_note(text, job=job, node=one_node(remote, node), thread=thread)
    click.echo(str(number))


@notes.command("remove")
@click.argument("texts", metavar="IDS…", nargs=-1, required=True)
@click.option("--threads", is_flag=True, help="IDS are threads; they go with all their notes.")
@options.server_url
def remove_notes(texts: tuple[str, ...], threads: bool, **_: object) -> None:
    """Remove notes. The first of a thread can only go when it has no replies."""
    ids = ranges.parse_ids(texts)
    with farm() as remote:
        for number in ids:
            if threads:
                remote.remove_thread(number)
            else:
                remote.remove_note(number)
    noun = "thread" if threads else "note"
    what = f"{noun} {ids[0]}" if len(ids) == 1 else f"{len(ids)} {noun}s"
    click.echo(f"Removed {what}.", err=True)


def one_node(remote: Remote, text: str | None) -> int | None:
    return None if text is None else find_nodes(remote, [text])[0]


def show_notes(threads: list[NoteThread], labels: dict[int, str], as_json: bool) -> None:
    if as_json:
        tables.document({"threads": threads})
        return
    rows = []
    for thread in threads:
        subject = "" if thread.job is None else f"job {thread.job}"
        if thread.node is not None:
            subject = labels.get(thread.node, f"node {thread.node}")
        rows += [
            (str(thread.id), str(note.id), subject, tables.moment(note.at), note.text)
            for note in thread.notes
        ]
    tables.table(("THREAD", "NOTE", "ABOUT", "WHEN", "TEXT"), rows, numbers="THREAD NOTE")


@click.command(short_help="List errors of the server, and runs that did not start.")
@click.option(
    "--node",
    metavar="NODE",
    shell_complete=completion.nodes,
    help="Only runs that could not be started there.",
)
@options.server_url
@options.as_json
def errors(node: str | None, as_json: bool, **_: object) -> None:
    """List what went wrong inside the server, and runs that machines could not start."""
    with farm() as remote:
        found = [] if node else remote.errors().errors
        nodes = remote.nodes()
        wanted = find_nodes(remote, [node]) if node else [each.id for each in nodes]
        for number in wanted:
            found += remote.node_errors(number).errors
    found.sort(key=lambda error: error.at, reverse=True)
    if as_json:
        tables.document({"errors": found})
        return
    labels = {each.id: each.label for each in nodes}
    rows = [
        (
            tables.moment(error.at),
            "server" if error.node is None else labels.get(error.node, f"node {error.node}"),
            error.text,
        )
        for error in found
    ]
    tables.table(("WHEN", "WHERE", "WHAT"), rows)


@click.command(short_help="List the jobs that last ended on a machine.")
@click.argument("node", shell_complete=completion.nodes)
@options.limit
@options.server_url
@options.as_json
def history(node: str, limit: int, as_json: bool, **_: object) -> None:
    """List the jobs that most recently ended on a machine, the latest first."""
    with farm() as remote:
        found = remote.node_history(find_nodes(remote, [node])[0], limit)
    if as_json:
        tables.document({"jobs": found})
        return
    columns = ("ID", "NAME", "STATUS", "DONE", "TASKS", "PRIO", "SUBMITTED", "TOOK")
    tables.table(columns, [job_row(job) for job in found], numbers="ID DONE TASKS PRIO TOOK")


COMMANDS: tuple[click.Command, ...] = (notes, errors, history)
