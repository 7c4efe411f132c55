"""HQueue's methods about client groups.

Knows the three attributes of a group and answers like the methods about clients: an unknown group
is `{}`, or left out of a list (decision 4). Changing one that does not exist is the farm's
refusal, since the caller would otherwise believe that jobs are kept where they belong.

Always holds: a group has no attribute of a client. A submitter that reads `hostname` off one gets
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from roost.core.messages import AddToGroup, CreateGroup, DeleteGroup, RemoveFromGroup
from roost.core.records import Group, GroupId, NodeId
from roost.gateway import Gateway

ATTRIBUTES: dict[str, Callable[[Group], object]] = {
    "clients": lambda group: group.nodes,
    "id": lambda group: group.id,
    "name": lambda group: group.name,
}


def _shape(group: Group, attribs: Sequence[str] | None) -> dict[str, object]:
    names = ATTRIBUTES if attribs is None else attribs
    return {name: ATTRIBUTES[name](group) for name in names if name in ATTRIBUTES}


def _first(groups: Iterable[Group], attribs: Sequence[str] | None) -> dict[str, object]:
    for group in groups:
        return _shape(group, attribs)
    return {}


async def get_client_groups(
    gateway: Gateway, group_ids: Sequence[int] | None, attribs: Sequence[str] | None
) -> object:
    """Return a list of dictionaries of attributes, one for each specified client group.

    Without group_ids all groups are returned; unknown ones are left out.
    """
    groups = await gateway.groups()
    if group_ids is not None:
        by_id: dict[int, Group] = {group.id: group for group in groups}
        groups = [by_id[each] for each in group_ids if each in by_id]
    return [_shape(group, attribs) for group in groups]


async def get_client_group(
    gateway: Gateway, group_id: int, attribs: Sequence[str] | None
) -> object:
    """Return a dictionary of attributes for the specified client group; empty if there is none."""
    return _first((g for g in await gateway.groups() if g.id == group_id), attribs)


async def get_client_group_by_name(
    gateway: Gateway, name: str, attribs: Sequence[str] | None
) -> object:
    """Return a dictionary of attributes for the client group of that name; empty if none."""
    return _first((g for g in await gateway.groups() if g.name == name.strip()), attribs)


async def create_client_group(gateway: Gateway, name: str) -> object:
    """Create a new client group with the given name. Return its id.

    A blank name, and one that another group has, are faults.
    """
    return await gateway.ask(CreateGroup(name))


async def delete_client_group(gateway: Gateway, group_id: int) -> None:
    """Delete the client group. Conditions of jobs that name it match no client from then on."""
    await gateway.ask(DeleteGroup(GroupId(group_id)))


async def add_client_to_group(gateway: Gateway, group_id: int, client_id: int) -> None:
    """Add the client to the group. A waiting job that needs the group may start there at once."""
    await gateway.ask(AddToGroup(GroupId(group_id), (NodeId(client_id),)))


async def remove_client_from_group(gateway: Gateway, group_id: int, client_id: int) -> None:
    """Remove the client from the group. Jobs that run there go on."""
    await gateway.ask(RemoveFromGroup(GroupId(group_id), (NodeId(client_id),)))
