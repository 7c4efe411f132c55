"""`roost groups`, `resources`, `priority`, `permit`: which job goes where, and which goes first.

The first two are groups of commands that list when they are given nothing to do. Nodes and groups
are named as people name them, by name or by id; the farm knows them by id.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from roost import ranges
from roost.cli import completion, options, tables
from roost.cli.asking import LOOKED_UP_MAX, farm, job_id, tell_acted, tell_done
from roost.errors import NotFound

if TYPE_CHECKING:
    from roost.remote import Remote

node_names = click.argument(
    "nodes", metavar="NODES…", nargs=-1, required=True, shell_complete=completion.nodes
)
nodes_or_none = click.argument(
    "nodes", metavar="[NODES…]", nargs=-1, shell_complete=completion.nodes
)
group_name = click.argument("group", metavar="GROUP", shell_complete=completion.groups)
resource_name = click.argument("name", shell_complete=completion.resources)


@click.group(invoke_without_command=True, short_help="List client groups, or change them.")
@options.server_url
@options.as_json
@click.pass_context
def groups(context: click.Context, /, as_json: bool, **_: object) -> None:
    """List client groups, or change them: machines under one name, for hostgroup in jobs."""
    if context.invoked_subcommand:
        return
    with farm() as remote:
        found = remote.groups()
        labels = {} if as_json else {node.id: node.label for node in remote.nodes()}
    if as_json:
        tables.document({"groups": found})
        return
    rows = [
        (str(group.id), group.name, ", ".join(labels.get(n, f"node {n}") for n in group.nodes))
        for group in found
    ]
    tables.table(("ID", "NAME", "NODES"), rows, numbers="ID")
    if not found and sys.stdout.isatty():
        click.echo("No groups. Make one: roost groups create NAME NODES…", err=True)


@groups.command("create")
@click.argument("name")
@nodes_or_none
@options.server_url
def create_group(name: str, nodes: tuple[str, ...], **_: object) -> None:
    """Make a group, with these machines in it."""
    with farm() as remote:
        members = find_nodes(remote, nodes)
        group_id = remote.create_group(name)
        if members:
            remote.add_to_group(group_id, members)
    click.echo(f"Made group {group_id}, {name}.", err=True)


@groups.command("delete")
@group_name
@options.server_url
def delete_group(group: str, **_: object) -> None:
    """Delete a group. Jobs that need it find no machine from then on."""
    with farm() as remote:
        remote.delete_group(find_group(remote, group))
    click.echo(f"Deleted group {group}.", err=True)


@groups.command("add")
@group_name
@node_names
@options.server_url
def add_to_group(group: str, nodes: tuple[str, ...], **_: object) -> None:
    """Put machines into a group."""
    with farm() as remote:
        acted = remote.add_to_group(find_group(remote, group), find_nodes(remote, nodes))
    tell_done(f"Added {', '.join(nodes)} to group {group}", acted.undo)


@groups.command("remove")
@group_name
@node_names
@options.server_url
def remove_from_group(group: str, nodes: tuple[str, ...], **_: object) -> None:
    """Take machines out of a group. What they run goes on."""
    with farm() as remote:
        acted = remote.remove_from_group(find_group(remote, group), find_nodes(remote, nodes))
    tell_done(f"Took {', '.join(nodes)} out of group {group}", acted.undo)


@groups.command("set")
@group_name
@node_names
@options.server_url
def set_group(group: str, nodes: tuple[str, ...], **_: object) -> None:
    """Have these machines and no others in a group."""
    with farm() as remote:
        remote.set_group_nodes(find_group(remote, group), find_nodes(remote, nodes))
    click.echo(f"Group {group} is {', '.join(nodes)}.", err=True)


def find_group(remote: Remote, text: str) -> int:
    """A group by its name or else its id. Raises `NotFound`."""
    found = remote.groups()
    for group in (*(g for g in found if g.name == text), *(g for g in found if str(g.id) == text)):
        return group.id
    raise NotFound(f"There is no client group {text!r}; roost groups lists them.")


def find_nodes(remote: Remote, texts: Sequence[str]) -> list[int]:
    """Nodes by label (`hostname` or `hostname:name`) or else id. Raises `NotFound`."""
    from roost.scripting import nodes

    return [node.id for node in nodes.find(remote.nodes(), texts)] if texts else []


@click.group(
    invoke_without_command=True, short_help="List what jobs need besides CPUs, or change it."
)
@options.server_url
@options.as_json
@click.pass_context
def resources(context: click.Context, /, as_json: bool, **_: object) -> None:
    """List what jobs need besides CPUs, such as licences, or change how much there is."""
    if not context.invoked_subcommand:
        show_resources(as_json)


@resources.command("list")
@options.server_url
@options.as_json
def list_resources(as_json: bool, **_: object) -> None:
    """List resources, and how much of each is in use."""
    show_resources(as_json)


def show_resources(as_json: bool) -> None:
    with farm() as remote:
        found = remote.resources()
    if as_json:
        tables.document({"resources": found})
        return
    rows = [
        (
            one.name,
            str(one.in_use),
            "no limit" if one.max is None else str(one.max),
            "machine" if one.per_machine else "job",
        )
        for one in found
    ]
    tables.table(("NAME", "IN USE", "MAX", "PER"), rows, numbers="MAX")


@resources.command("set")
@resource_name
@click.option("--max", "maximum", type=options.Whole(min=0), metavar="N", help="How many exist.")
@click.option("--no-limit", is_flag=True, help="As many as anybody needs.")
@click.option(
    "--per-machine/--per-job",
    default=None,
    help="One unit serves all jobs on a machine, or each job takes what it asks for.  "
    "[default: as it is; per job for a new one]",
)
@options.server_url
def set_resource(
    name: str, maximum: int | None, no_limit: bool, per_machine: bool | None, **_: object
) -> None:
    """Enter a resource, or change it. What is not given stays as it is."""
    if no_limit and maximum is not None:
        raise click.UsageError("--max and --no-limit exclude each other.")
    with farm() as remote:
        for old in remote.resources():
            if old.name == name:
                maximum = old.max if maximum is None and not no_limit else maximum
                per_machine = old.per_machine if per_machine is None else per_machine
        remote.set_resource(name, maximum, per_machine=bool(per_machine))
    limit = "no limit" if maximum is None else f"{maximum} at most"
    click.echo(f"{name}: {limit}, per {'machine' if per_machine else 'job'}.", err=True)


@resources.command("remove")
@resource_name
@options.server_url
def remove_resource(name: str, **_: object) -> None:
    """Remove a resource that is not in use. Jobs that need it wait from then on."""
    with farm() as remote:
        remote.remove_resource(name)
    click.echo(f"Removed {name}.", err=True)


@click.command(short_help="Set the priority of jobs.")
@click.argument("level", metavar="N", type=options.Whole(min=0))
@click.argument("texts", metavar="JOBS…", nargs=-1, required=True, shell_complete=completion.jobs())
@options.server_url
def priority(level: int, texts: tuple[str, ...], **_: object) -> None:
    """Set the priority of jobs: N for JOBS, which are ids and ranges. Higher goes first."""
    ids = ranges.parse_ids(texts)
    with farm() as remote:
        if len(ids) <= LOOKED_UP_MAX:
            for number in ids:
                # The farm skips what it does not know; a person wants to hear of a slip.
                remote.job(number)
        acted = remote.set_priority(ids, level)
    tell_acted(f"Priority {level} for", acted)


@click.command(short_help="List the machines that may run a job, or choose them.")
@job_id
@nodes_or_none
@click.option("--any", "anywhere", is_flag=True, help="Drop all conditions of the job.")
@options.server_url
@options.as_json
def permit(number: int, nodes: tuple[str, ...], anywhere: bool, as_json: bool, **_: object) -> None:
    """List the machines that may run a job, or let only NODES run it.

    NODES are hostname for all that run there, hostname:name, or hostname: for the one without a
    name. They take the place of all conditions of the job; what it runs already goes on.
    """
    if nodes and anywhere:
        raise click.UsageError("NODES and --any exclude each other.")
    with farm() as remote:
        if nodes or anywhere:
            remote.set_permitted_nodes(number, None if anywhere else nodes)
        found = remote.permitted_nodes(number)
    if as_json:
        tables.document({"nodes": found})
    else:
        tables.table(("NODE",), [(label,) for label in found])
    if nodes and not found:
        click.echo(f"No machine of the farm may run job {number} now.", err=True)


COMMANDS: tuple[click.Command, ...] = (groups, resources, priority, permit)
