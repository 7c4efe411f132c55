"""`roost nodes`: the machines of the farm, and what people say of them.

A group of commands that lists when it is given nothing to do. Several machines are named one after
the other, or by the client group that they are in; nothing is changed unless all are known. Rules
are written as `roost.core.availability` reads them, and checked by it before anything is sent.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from roost.cli import completion, options, tables, watching
from roost.cli.arranging import find_group, find_nodes, nodes_or_none
from roost.cli.asking import compact, farm, tell_done
from roost.errors import NotFound

if TYPE_CHECKING:
    from roost.remote import Remote
    from roost.wire.rest import AvailabilityRule, NodeDetail

node_name = click.argument("node", metavar="NODE", shell_complete=completion.nodes)
chosen = options.together(
    nodes_or_none,
    click.option(
        "--group",
        metavar="GROUP",
        shell_complete=completion.groups,
        help="All machines of this client group.",
    ),
)


@click.group(invoke_without_command=True)
@options.server_url
@options.as_json
@click.pass_context
def nodes(context: click.Context, /, as_json: bool, **_: object) -> None:
    """List the machines of the farm, or say what they may do."""
    if not context.invoked_subcommand:
        show_nodes(as_json)


@nodes.command("list")
@options.server_url
@options.as_json
def list_nodes(as_json: bool, **_: object) -> None:
    """List the machines of the farm and what they do."""
    show_nodes(as_json)


def show_nodes(as_json: bool) -> None:
    with farm() as remote:
        found = remote.nodes()
    if as_json:
        tables.document({"nodes": found})
        return
    columns = ("ID", "NAME", "STATE", "CPUS", "LOAD", "RUNNING", "LAST HEARD", "PLATFORM")
    tables.table(columns, [node_row(node) for node in found], numbers="ID CPUS LOAD")
    if not found and sys.stdout.isatty():
        click.echo("No machine has joined yet: run roost agent on one.", err=True)


def node_row(node: NodeDetail) -> tuple[str, ...]:
    return (
        str(node.id),
        node.label,
        node_state(node),
        f"{node.cpus_busy}/{node.cpus}",
        f"{node.load:.1f}",
        compact(sorted(node.running)),
        tables.moment(node.last_beat_at),
        node.platform,
    )


def node_state(node: NodeDetail) -> str:
    if not node.active:
        return "gone"
    if node.disabled:
        return "drained"
    if not node.connected:
        return "disconnected"
    return "ready" if node.available else "off duty"


@nodes.command("show")
@node_name
@options.server_url
@options.as_json
def show_node(node: str, as_json: bool, **_: object) -> None:
    """Show all that is known of one machine."""
    with farm() as remote:
        (number,) = find_nodes(remote, [node])
        found = remote.node(number)
        names = {} if as_json else {group.id: group.name for group in remote.groups()}
    if as_json:
        tables.document(found)
        return
    idle = "" if found.idle_minutes < 0 else f"{found.idle_minutes} min"
    rules = [rule.rule + ("" if rule.enabled else " (disabled)") for rule in found.availability]
    tables.facts(
        [
            ("node", f"{found.id}  {found.label}"),
            ("description", found.description),
            ("state", node_state(found)),
            ("off duty", found.off_duty),
            ("takes jobs", ", ".join(rules) or "always"),
            ("time zone", found.time_zone if rules else ""),
            ("idle for", idle),
            ("groups", ", ".join(names.get(group, str(group)) for group in found.groups)),
            ("running", compact(sorted(found.running))),
            ("CPUs", f"{found.cpus_busy} of {found.cpus} busy"),
            ("CPU speed", f"{found.cpu_speed_mhz} MHz" if found.cpu_speed_mhz else ""),
            ("memory", f"{found.memory_kb / 1024**2:.1f} GiB" if found.memory_kb else ""),
            (
                "memory in use",
                f"{found.memory_used_kb / 1024**2:.1f} GiB" if found.memory_used_kb else "",
            ),
            ("GPUs", ", ".join(found.gpus)),
            ("load", f"{found.load:.1f}"),
            ("platform", found.platform),
            ("address", found.ip),
            ("joined", tables.moment(found.joined_at)),
            ("last heard", tables.moment(found.last_beat_at)),
            ("version", found.version + (" (differs)" if found.needs_upgrade else "")),
        ]
    )


def find_chosen(remote: Remote, texts: Sequence[str], group: str | None) -> list[int]:
    """The machines named one by one, and those of the group. Raises `NotFound`, `UsageError`."""
    if not texts and group is None:
        raise click.UsageError("Name machines, or a client group with --group.")
    found = find_nodes(remote, texts)
    if group is not None:
        number = find_group(remote, group)
        found += next((each.nodes for each in remote.groups() if each.id == number), [])
    return list(dict.fromkeys(found))


def named(texts: Sequence[str], group: str | None) -> str:
    return ", ".join([*texts, *([] if group is None else [f"group {group}"])])


@nodes.command("drain")
@chosen
@options.server_url
def drain(nodes: tuple[str, ...], group: str | None, **_: object) -> None:
    """Give machines nothing new. What they run goes on."""
    with farm() as remote:
        acted = remote.act_on_nodes("drain", find_chosen(remote, nodes, group))
    tell_done(f"Drained {named(nodes, group)}", acted.undo)


@nodes.command("enable")
@chosen
@options.server_url
def enable(nodes: tuple[str, ...], group: str | None, **_: object) -> None:
    """Let drained machines take jobs again."""
    with farm() as remote:
        acted = remote.act_on_nodes("enable", find_chosen(remote, nodes, group))
    tell_done(f"Enabled {named(nodes, group)}", acted.undo)


@nodes.command("upgrade", short_help="Give machines the server's own Roost.")
@chosen
@click.option("--all", "everybody", is_flag=True, help="All machines that run another Roost.")
@click.option("--wait", "waiting", is_flag=True, help="Until it is done; fail if it failed.")
@options.server_url
def upgrade(
    nodes: tuple[str, ...], group: str | None, everybody: bool, waiting: bool, **_: object
) -> int:
    """Give machines the server's own Roost, when they have ended what they run.

    Prints the id of a job for each machine that is not up to date. The server must allow it with
    the setting `upgrades`.
    """
    with farm() as remote:
        if everybody:
            chosen_nodes = [node.id for node in remote.nodes() if node.needs_upgrade]
        else:
            chosen_nodes = find_chosen(remote, nodes, group)
        jobs = remote.upgrade_nodes(chosen_nodes) if chosen_nodes else []
        for job in jobs:
            click.echo(job)
        if not jobs:
            click.echo("All are up to date.", err=True)
            return 0
        return watching.exit_code(watching.wait(remote, jobs).values()) if waiting else 0


@nodes.command("remove")
@chosen
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.server_url
def remove(nodes: tuple[str, ...], group: str | None, yes: bool, **_: object) -> None:
    """Take machines out of the farm. What they run is abandoned."""
    with farm() as remote:
        found = find_chosen(remote, nodes, group)
        what = named(nodes, group)
        if not yes and sys.stdin.isatty():
            click.confirm(f"Take {what} out of the farm, and abandon its jobs?", abort=True)
        remote.act_on_nodes("remove", found)
    click.echo(f"Removed {what}.", err=True)


@nodes.command("describe")
@node_name
@click.argument("text")
@options.server_url
def describe(node: str, text: str, **_: object) -> None:
    """Say what a machine is, for people; an empty text takes it away."""
    with farm() as remote:
        (number,) = find_nodes(remote, [node])
        remote.describe_node(number, text)
    click.echo(f"Described {node}.", err=True)


@nodes.command("rules")
@chosen
@click.option("--always", is_flag=True, help="At any time: remove all rules.")
@click.option("--set", "replacing", metavar="RULE", multiple=True, help="Only by these rules.")
@click.option("--add", "adding", metavar="RULE", multiple=True, help="By this rule too.")
@click.option("--remove", "removing", metavar="ID", multiple=True, type=int, help="Remove a rule.")
@click.option("--enable", "enabling", metavar="ID", multiple=True, type=int, help="Heed a rule.")
@click.option("--disable", "disabling", metavar="ID", multiple=True, type=int, help="Ignore it.")
@options.server_url
@options.as_json
def rules(
    nodes: tuple[str, ...],
    group: str | None,
    always: bool,
    replacing: tuple[str, ...],
    adding: tuple[str, ...],
    removing: tuple[int, ...],
    enabling: tuple[int, ...],
    disabling: tuple[int, ...],
    as_json: bool,
    **_: object,
) -> None:
    """List or change when machines take jobs. Every option but --always is repeatable.

    A RULE is like "weekdays 20:00-07:00", "weekends", "any 18:00-08:00", "friday" or "idle 15"
    (minutes without keyboard and mouse); times are those of the farm's time zone. Any rule that
    holds is enough; jobs that run when none does any more go on.
    """
    changing = (*removing, *enabling, *disabling)
    if always + bool(replacing) + bool(adding or changing) > 1:
        raise click.UsageError("--always, --set and the other options exclude each other.")
    with farm() as remote:
        everything = {node.id: node for node in remote.nodes()}
        if not (always or replacing or adding or changing):
            names_none = not nodes and group is None
            picked = list(everything) if names_none else find_chosen(remote, nodes, group)
        else:
            picked = find_chosen(remote, nodes, group)
            wanted = {}
            for node in (everything[number] for number in picked):
                old = [] if always or replacing else node.availability
                wanted[node.id] = changed(
                    node, old, replacing + adding, removing, enabling, disabling
                )
            for number, new in wanted.items():
                remote.set_availability(number, new)
            everything = {node.id: node for node in remote.nodes()}
        found = [everything[number] for number in picked]
    if as_json:
        lists: list[dict[str, Any]] = [
            {"id": n.id, "label": n.label, "time_zone": n.time_zone, "rules": n.availability}
            for n in found
        ]
        tables.document({"nodes": lists})
        return
    rows = [row for node in found for row in rule_rows(node)]
    tables.table(("NODE", "ID", "TAKES JOBS", "ENABLED"), rows, numbers="ID")
    if zones := {node.time_zone for node in found if node.availability}:
        click.echo(f"Times are those of {', '.join(sorted(zones))}.", err=True)


def changed(
    node: NodeDetail,
    old: Sequence[AvailabilityRule],
    added: Sequence[str],
    removed: Sequence[int],
    enabled: Sequence[int],
    disabled: Sequence[int],
) -> list[AvailabilityRule]:
    """The rules as they are to be. Raises `NotFound` for a rule that the node does not have,
    `Invalid` for what is no rule."""
    from msgspec.structs import replace

    from roost.core import availability
    from roost.wire.rest import AvailabilityRule

    known = [rule.id for rule in old]
    for number in (*removed, *enabled, *disabled):
        if number not in known:
            raise NotFound(
                f"{node.label} has no rule {number}; roost nodes rules {node.label} lists them."
            )
    new = [
        replace(rule, enabled=rule.id in enabled or (rule.enabled and rule.id not in disabled))
        for rule in old
        if rule.id not in removed
    ]
    return new + [AvailabilityRule(availability.show(availability.parse(text))) for text in added]


def rule_rows(node: NodeDetail) -> list[tuple[str, ...]]:
    if not node.availability:
        return [(node.label, "", "always", "")]
    return [
        (node.label, str(rule.id), rule.rule, "yes" if rule.enabled else "no")
        for rule in node.availability
    ]


COMMANDS: tuple[click.Command, ...] = (nodes,)
