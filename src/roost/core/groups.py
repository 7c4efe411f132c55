"""Client groups: nodes under one name, which conditions of jobs refer to.

Membership belongs to the node and not to its presence: a machine that leaves the farm and joins
again is in its groups again. A condition names a group and need not know whether it exists; one
that does not has no members. So deleting is always allowed, and creating a group may be what a
waiting job has waited for.

Always holds: a name is not blank and names one group.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from roost.core.jobspec import show
from roost.core.messages import (
    AddToGroup,
    CreateGroup,
    DeleteGroup,
    RemoveFromGroup,
    SetGroupNodes,
    SetNodeGroups,
)
from roost.core.records import Group, GroupId, NodeId
from roost.core.state import State
from roost.errors import Conflict, Invalid, NotFound

NAME_CHARS_MAX = 200


def on_create_group(farm: State, command: CreateGroup) -> GroupId:
    """Raises `Invalid` for a blank name or one above `NAME_CHARS_MAX`, `Conflict` for one that is
    taken."""
    name = command.name.strip()
    if not name:
        raise Invalid("A client group needs a name that is not blank.")
    if len(name) > NAME_CHARS_MAX:
        raise Invalid(f"The name of a client group has at most {NAME_CHARS_MAX} characters.")
    if name in farm.groups:
        raise Conflict(f"There is a client group named {show(name)} already; choose another name.")
    group = Group(GroupId(farm.next_group_id), name)
    farm.next_group_id += 1
    farm.set_group(group)
    farm.floor.review_all()
    return group.id


def on_delete_group(farm: State, command: DeleteGroup) -> None:
    """Raises `NotFound`."""
    farm.delete_group(_known(farm, command.id))
    farm.floor.review_all()


def on_add_to_group(farm: State, command: AddToGroup) -> RemoveFromGroup | None:
    """Raises `NotFound`. Nodes that are members already stay."""
    group = _known(farm, command.id)
    _refuse_unknown(farm, command.nodes)
    new = tuple(node for node in dict.fromkeys(command.nodes) if node not in group.members)
    _set_members(farm, group, (*group.nodes, *new))
    return RemoveFromGroup(group.id, new) if new else None


def on_remove_from_group(farm: State, command: RemoveFromGroup) -> AddToGroup | None:
    """Raises `NotFound`. Nodes that are no members do not matter."""
    group = _known(farm, command.id)
    _refuse_unknown(farm, command.nodes)
    doomed = frozenset(command.nodes)
    gone = tuple(node for node in group.nodes if node in doomed)
    _set_members(farm, group, [node for node in group.nodes if node not in doomed])
    return AddToGroup(group.id, gone) if gone else None


def on_set_group_nodes(farm: State, command: SetGroupNodes) -> None:
    """Raises `NotFound`. A member that has left the farm stays one: nobody saw it to untick it."""
    group = _known(farm, command.id)
    _refuse_unknown(farm, command.nodes)
    ticked = frozenset(command.nodes)
    stay = [node for node in group.nodes if node in ticked or farm.nodes[node].leaving]
    _set_members(farm, group, dict.fromkeys((*stay, *command.nodes)))


def on_set_node_groups(farm: State, command: SetNodeGroups) -> None:
    """Raises `NotFound`."""
    node, wanted = command.id, {_known(farm, group).id for group in command.groups}
    _refuse_unknown(farm, (node,))
    for group in list(farm.groups.values()):
        if (group.id in wanted) == (node in group.members):
            continue
        if group.id in wanted:
            _set_members(farm, group, (*group.nodes, node))
        else:
            _set_members(farm, group, [one for one in group.nodes if one != node])


def _set_members(farm: State, group: Group, members: Iterable[NodeId]) -> None:
    nodes = tuple(members)
    for node in set(nodes).symmetric_difference(group.nodes):
        farm.floor.review(node)
    if nodes != group.nodes:
        farm.set_group(replace(group, nodes=nodes))


def _known(farm: State, group_id: GroupId) -> Group:
    for group in farm.groups.values():
        if group.id == group_id:
            return group
    raise NotFound(f"There is no client group with id {group_id}.")


def _refuse_unknown(farm: State, nodes: Iterable[NodeId]) -> None:
    for node in nodes:
        if node not in farm.nodes:
            raise NotFound(f"There is no node with id {node}.")
