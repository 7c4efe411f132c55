"""Client groups: names, members, and how placement follows them at once."""

from __future__ import annotations

import pytest
from play import Play

from roost.core import messages as m
from roost.errors import Conflict, Invalid, NotFound


def test_a_group_has_a_name_of_its_own_that_is_not_blank(play: Play) -> None:
    assert play.groups("  fast ") == 1
    with pytest.raises(Conflict, match='named "fast" already'):
        play.groups("fast")
    with pytest.raises(Invalid, match="not blank"):
        play.groups(" ")
    with pytest.raises(Invalid, match="at most 200 characters"):
        play.groups("x" * 201)
    assert play.groups("slow") == 2
    assert list(play.farm.groups) == ["fast", "slow"]


def test_unknown_groups_and_nodes_are_refused_before_anything_changes(play: Play) -> None:
    node = play.joins("a")
    group = play.groups("fast")
    for command in (
        m.DeleteGroup(9),
        m.AddToGroup(9, (node,)),
        m.RemoveFromGroup(9, (node,)),
        m.AddToGroup(group, (node, 9)),
        m.RemoveFromGroup(group, (9,)),
    ):
        with pytest.raises(NotFound):
            play.send(command)
    assert play.farm.groups["fast"].nodes == ()


def test_a_job_starts_as_soon_as_a_node_comes_into_its_group(play: Play) -> None:
    node = play.joins("a")
    group = play.groups("fast")
    job = play.submit(hostgroup="fast")
    assert 'fails the condition group in "fast"' in play.why(job)
    play.send(m.AddToGroup(group, (node, node)))
    assert play.nodes_of(job) == ["a"]
    assert play.farm.groups["fast"].nodes == (node,)


def test_a_job_starts_as_soon_as_a_node_leaves_a_group_it_must_not_be_in(play: Play) -> None:
    node = play.joins("a")
    group = play.groups("slow", "a")
    job = play.submit(conditions=[{"name": "group", "op": "!=", "value": "slow"}])
    assert play.status(job) == "runnable"
    play.send(m.RemoveFromGroup(group, (node,)))
    assert play.status(job) == "running"


def test_leaving_a_group_does_not_end_what_runs(play: Play) -> None:
    node = play.joins("a")
    group = play.groups("fast", "a")
    job = play.submit(hostgroup="fast")
    play.send(m.RemoveFromGroup(group, (node,)))
    assert play.status(job) == "running"
    play.ends(job)
    assert play.status(play.submit(hostgroup="fast")) == "runnable"


def test_a_deleted_group_matches_nothing_until_there_is_one_again(play: Play) -> None:
    play.joins("a")
    play.send(m.DeleteGroup(play.groups("fast", "a")))
    job = play.submit(hostgroup="fast")
    outside = play.submit(conditions=[{"name": "group", "op": "!=", "value": "fast"}])
    assert play.status(job) == "runnable"
    assert play.status(outside) == "running"
    play.ends(outside)
    play.groups("fast", "a")
    assert play.status(job) == "running"


def test_nodes_stay_in_their_groups_while_they_are_away(play: Play) -> None:
    node = play.joins("a")
    play.groups("fast", "a")
    play.send(m.NodeLeft(node))
    play.disconnects("a")
    job = play.submit(hostgroup="fast")
    play.restarts()
    assert play.joins("a") == node
    assert play.status(job) == "running"


def test_a_job_for_several_hosts_lets_go_of_a_node_that_left_its_group(play: Play) -> None:
    play.joins("a")
    play.joins("b")
    play.joins("c")
    group = play.groups("fast", "a", "b", "c")
    single = [play.submit(host=name) for name in ("b", "c")]
    wide = play.submit(hostgroup="fast", minHosts=2)
    assert list(play.farm.floor.holds[wide]) == [play.node_ids["a"]]
    play.send(m.RemoveFromGroup(group, (play.node_ids["a"],)))
    play.later(ms=1)
    other = play.submit()
    assert play.nodes_of(other) == ["a"]
    for job in single:
        play.ends(job)
    assert play.status(wide) == "running"


def test_the_groups_of_a_node_are_set_together_or_not_at_all(play: Play) -> None:
    node = play.joins("render1")
    fast, slow = play.groups("fast"), play.groups("slow")
    play.send(m.AddToGroup(fast, (node,)))
    with pytest.raises(NotFound):
        play.send(m.SetNodeGroups(node, (slow, 99)))
    assert [group.nodes for group in play.farm.groups.values()] == [(node,), ()]
    play.send(m.SetNodeGroups(node, (slow,)))
    assert [group.nodes for group in play.farm.groups.values()] == [(), (node,)]


def test_what_takes_back_a_change_of_a_group_names_only_whom_it_changed(play: Play) -> None:
    one, two = play.joins("one"), play.joins("two")
    group = play.groups("fast")
    play.send(m.AddToGroup(group, (one,)))
    assert play.send(m.AddToGroup(group, (one, two))) == m.RemoveFromGroup(group, (two,))
    assert play.send(m.AddToGroup(group, (one, two))) is None
    assert play.send(m.RemoveFromGroup(group, (two,))) == m.AddToGroup(group, (two,))
