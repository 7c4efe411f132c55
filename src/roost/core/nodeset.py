"""Sets of nodes, and nodes by how many CPUs they have free.

A set of nodes is an integer with the bit of each node's id. So two sets of ten thousand nodes are
laid over each other in a tenth of a microsecond, and the node with the lowest id is the lowest bit.
Knows nothing of what the nodes are.
"""

from __future__ import annotations

from collections.abc import Iterator

from roost.core.records import NodeId

NodeSet = int
Levels = dict[int, NodeSet]
"""By a number that each node has at any time: the nodes that have it. No set is empty."""


def bit(node: NodeId) -> NodeSet:
    return 1 << node


def first(nodes: NodeSet) -> NodeId:
    """The lowest id of a set that is not empty."""
    return NodeId((nodes & -nodes).bit_length() - 1)


def members(nodes: NodeSet) -> Iterator[NodeId]:
    """By id; what becomes of the variable meanwhile does not matter."""
    while nodes:
        node = first(nodes)
        yield node
        nodes ^= bit(node)


def move(levels: Levels, node: NodeId, before: int | None, now: int) -> None:
    """The node goes from one level to another; None when it is new."""
    if before is not None:
        levels[before] ^= bit(node)
        if not levels[before]:
            del levels[before]
    levels[now] = levels.get(now, 0) | bit(node)
