"""Sets of nodes as bits, and nodes on levels."""

from __future__ import annotations

import random

from roost.core.nodeset import Levels, bit, first, members, move
from roost.core.records import NodeId


def test_members_come_by_id_and_the_first_is_the_lowest() -> None:
    ids = [NodeId(number) for number in (1, 2, 63, 64, 65, 10_000)]
    nodes = sum(map(bit, random.Random(1).sample(ids, len(ids))))
    assert list(members(nodes)) == ids
    assert first(nodes) == 1 and first(nodes & ~bit(NodeId(1))) == 2
    assert not list(members(0))


def test_a_node_is_on_the_level_it_moved_to_last_and_no_level_is_empty() -> None:
    levels: Levels = {}
    chance, at = random.Random(2), {}
    for _ in range(500):
        node, level = NodeId(chance.randrange(1, 200)), chance.randrange(-5, 5)
        move(levels, node, at.get(node), level)
        at[node] = level
        assert all(levels.values())
    found = {node: level for level, nodes in levels.items() for node in members(nodes)}
    assert found == at
