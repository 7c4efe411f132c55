"""Which job goes where next: the rules, one by one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from play import Play

from roost.core import matching, placement
from roost.core import messages as m
from roost.core.matching import Hosts, condition_holds, split_values
from roost.core.records import Condition, Group, GroupId, Moment, Node, NodeFacts, NodeId

LEAF = {"name": "leaf", "command": "x"}


def condition(name: str, op: str, value: str) -> dict[str, str]:
    return {"type": "client", "name": name, "op": op, "value": value}


# --- order --------------------------------------------------------------------------------------


def test_the_higher_priority_first_and_then_the_older(play: Play) -> None:
    ids = play.submit(LEAF, {**LEAF, "priority": 5}, LEAF, {**LEAF, "priority": 5})
    play.joins("n")
    for job in (ids[1], ids[3], ids[0], ids[2]):
        assert play.status(job) == "running"
        play.ends(job)


def test_a_job_that_fits_nowhere_does_not_hold_up_the_others(play: Play) -> None:
    play.submit(cpus=8, priority=9)
    small = play.submit()
    play.joins("n", cpus=2)
    assert play.status(small) == "running"


def test_the_emptiest_node_is_taken(play: Play) -> None:
    play.joins("small", cpus=2)
    play.joins("large", cpus=4)
    jobs = [play.submit(cpus=1) for _ in range(4)]
    assert [play.nodes_of(job) for job in jobs] == [["large"], ["large"], ["small"], ["large"]]


def test_few_jobs_are_spread_and_many_fill_one_node_after_the_other() -> None:
    for count, nodes in ((3, ["a", "b", "a"]), (4, ["a", "a", "b", "b"])):
        play = Play()
        play.joins("a", cpus=2)
        play.joins("b", cpus=2)
        jobs = play.submit(*[{"name": "job", "command": "true"}] * count)
        assert [play.nodes_of(job)[-1] for job in jobs] == nodes


def test_jobs_that_were_cancelled_do_not_make_few_jobs_many(play: Play) -> None:
    nodes = (play.joins("a", cpus=2), play.joins("b", cpus=2))
    play.send(m.SetNodesDisabled(nodes, True))
    jobs = play.submit(*[LEAF] * 10)
    play.cancel(*jobs[3:])
    play.send(m.SetNodesDisabled(nodes, False))
    assert [play.nodes_of(job)[-1] for job in jobs[:3]] == ["a", "b", "a"]


# --- CPUs and tags ------------------------------------------------------------------------------


def test_cpus_are_never_given_out_twice(play: Play) -> None:
    play.joins("n", cpus=4)
    three, two, one = play.submit({**LEAF, "cpus": 3}, {**LEAF, "cpus": 2}, LEAF)
    assert [play.status(job) for job in (three, two, one)] == ["running", "runnable", "running"]
    play.ends(three)
    assert play.status(two) == "running"


def test_single_wants_the_machine_for_itself(play: Play) -> None:
    play.joins("n", cpus=4)
    other, single = play.submit(LEAF, {**LEAF, "tags": ["single"]})
    assert play.status(single) == "runnable"
    play.ends(other)
    assert play.status(single) == "running"
    late = play.submit()
    assert play.why(late) == "n is given to a job that wants it for itself."
    play.ends(single)
    assert play.status(late) == "running"


def test_two_jobs_with_one_numbered_single_never_share_a_machine(play: Play) -> None:
    play.joins("n", cpus=4)
    one, same, other = play.submit(
        {**LEAF, "tags": ["single:1"]},
        {**LEAF, "tags": ["single:1"]},
        {**LEAF, "tags": ["single:2"]},
    )
    assert [play.status(job) for job in (one, same, other)] == ["running", "runnable", "running"]
    assert play.why(same) == "n runs another job with the tag single:1."
    play.ends(one)
    assert play.status(same) == "running"


# --- platforms ----------------------------------------------------------------------------------


def test_a_command_per_platform_selects_nodes_and_the_command(play: Play) -> None:
    play.joins("linux")
    play.joins("windows", platform="windows-x86_64")
    job = play.submit(command={"windows": "dir", "macosx": "ls"})
    assert play.nodes_of(job) == ["windows"]
    assert play.effects[-1].order.command == "dir"


# --- conditions ---------------------------------------------------------------------------------

NODE = Node(NodeId(1), NodeFacts("Farm-01.studio.net", "gpu"), Moment(0), Moment(0))
GROUPS = {
    "fast": Group(GroupId(1), "fast", (NodeId(1),)),
    "slow": Group(GroupId(2), "slow", (NodeId(2),)),
    "a, b": Group(GroupId(3), "a, b", (NodeId(1),)),
}


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("hostname", "farm-01", True),
        ("hostname", "FARM-01.studio.net", True),
        ("hostname", "farm-01.other.net", False),
        ("hostname", "farm-01:gpu", False),
        ("hostname", "farm-01.studio.net:GPU", True),
        ("hostname", "farm-0", False),
        ("hostname:name", "farm-01:gpu", True),
        ("hostname:name", "farm-01:cpu", False),
        ("hostname:name", "farm-01", True),
        ("os", "Linux", True),
        ("os", "windows", False),
        ("group", "fast", True),
        ("group", "slow", False),
        ("group", "none", False),
        ("group", "a, b", True),
        ("hostname", "", False),
    ],
)
def test_a_condition_holds_or_its_opposite(name: str, value: str, matches: bool) -> None:
    for op, expected in (("==", matches), ("in", matches), ("any", matches)):
        assert condition_holds(Condition(name, op, value), NODE, GROUPS) is expected, op
    for op in ("!=", "not_in"):
        assert condition_holds(Condition(name, op, value), NODE, GROUPS) is not matches, op


@pytest.mark.parametrize("op", ["in", "any"])
@pytest.mark.parametrize("value", ["x,farm-01", "x ; FARM-01", " farm-01 "])
def test_a_list_value_matches_any_of_its_members(op: str, value: str) -> None:
    assert condition_holds(Condition("hostname", op, value), NODE, GROUPS)
    assert not condition_holds(Condition("hostname", "not_in", value), NODE, GROUPS)


def test_an_equals_condition_does_not_split_its_value() -> None:
    assert not condition_holds(Condition("hostname", "==", "x,farm-01"), NODE, GROUPS)
    assert split_values(" a; b,,c ") == ["a", "b", "c"]


def test_a_short_name_equals_the_full_name_that_it_starts() -> None:
    assert "A" in Hosts(["b", "a.net"]) and "a.net" in Hosts(["A", "b"])
    assert "a.net" not in Hosts(["a.org"]) and "a" not in Hosts(["ab"])


def test_a_long_list_of_machines_is_taken_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Counter[str]()

    def split(text: str) -> list[str]:
        taken[text] += 1
        return split_values(text)

    monkeypatch.setattr(matching, "split_values", split)
    names = [f"render{number:03}" for number in range(100)]
    now = Moment(0)
    nodes = [
        Node(NodeId(number), NodeFacts(f"{name}.net"), now, now)
        for number, name in enumerate(names)
    ]
    for kind, listed in (
        ("hostname", names[:50]),
        ("hostname:name", [f"{n}:" for n in names[:50]]),
    ):
        condition = Condition(kind, "in", ",".join(listed))
        assert matching.permitted((condition,), nodes, ()) == nodes[:50]
        assert taken[condition.value] == 1


def test_all_conditions_must_hold(play: Play) -> None:
    play.joins("a")
    play.joins("b")
    job = play.submit(
        conditions=[condition("hostname", "in", "a,b"), condition("hostname", "!=", "a")]
    )
    assert play.nodes_of(job) == ["b"]


def test_conditions_are_inherited_from_the_root_unless_there_are_own(play: Play) -> None:
    play.joins("a", cpus=2)
    play.joins("b", cpus=1)
    root = {
        "name": "root",
        "conditions": [condition("hostname", "==", "b")],
        "children": [LEAF, {**LEAF, "conditions": [condition("hostname", "==", "a")]}],
    }
    _, heir, own = play.submit(root)
    assert play.nodes_of(heir) == ["b"]
    assert play.nodes_of(own) == ["a"]


def test_a_job_that_gets_a_root_while_it_waits_inherits_its_conditions(play: Play) -> None:
    child = play.submit()
    play.submit(name="root", conditions=[condition("hostname", "==", "b")], childrenIds=[child])
    play.joins("a")
    assert play.status(child) == "runnable"
    play.joins("b")
    assert play.nodes_of(child) == ["b"]


def test_a_job_that_loses_its_root_while_it_waits_loses_its_conditions(play: Play) -> None:
    play.joins("b")
    root = play.submit(conditions=[condition("hostname", "==", "b")])
    late = play.submit(parent=root)
    play.disconnects("b")
    play.later(minutes=5)
    play.joins("a")
    assert (play.status(root), play.status(late)) == ("abandoned", "runnable")
    play.delete(root)
    assert play.nodes_of(late) == ["a"]


# --- several hosts ------------------------------------------------------------------------------


def test_a_job_takes_up_to_its_greatest_number_of_hosts(play: Play) -> None:
    for name in "abc":
        play.joins(name)
    job = play.submit(minHosts=1, maxHosts=2)
    assert [len(play.attempts[(job, 1)].nodes), play.effects[-1].order.environment["HQHOSTS"]] == [
        2,
        "a,b",
    ]


def test_a_job_waits_for_its_least_number_and_holds_what_is_free(play: Play) -> None:
    play.joins("a")
    play.joins("b")
    first = play.submit()
    wide = play.submit(minHosts=2)
    late = play.submit()
    assert [play.status(job) for job in (wide, late)] == ["runnable", "runnable"]
    assert play.farm.floor.holds == {wide: {play.node_ids["b"]: None}}
    play.ends(first)
    assert play.status(wide) == "running"


def test_a_better_job_takes_what_a_worse_one_holds(play: Play) -> None:
    play.joins("a")
    play.joins("b")
    play.submit()
    wide = play.submit(minHosts=2)
    better = play.submit(priority=5)
    assert play.nodes_of(better) == ["b"]
    assert play.farm.floor.holds == {}
    assert play.status(wide) == "runnable"


def test_two_half_filled_jobs_do_not_block_each_other(play: Play) -> None:
    for name in "ab":
        play.joins(name)
    fillers = [play.submit(), play.submit()]
    wide = [play.submit(minHosts=2), play.submit(minHosts=2)]
    for filler in fillers:
        play.ends(filler)
    assert [play.status(job) for job in wide] == ["running", "runnable"]
    play.ends(wide[0])
    assert play.status(wide[1]) == "running"


def test_a_job_that_can_never_have_enough_hosts_holds_none(play: Play) -> None:
    play.joins("a")
    play.submit(minHosts=2, priority=9)
    small = play.submit()
    assert play.status(small) == "running"


def test_losing_a_secondary_node_does_not_end_the_run(play: Play) -> None:
    play.joins("a")
    play.joins("b")
    job = play.submit(minHosts=2)
    play.disconnects("b")
    for _ in range(4):
        play.later(minutes=4)
        play.beats("a")
    assert play.status(job) == "running"
    assert play.story(job).count("client lost") == 1


def test_a_secondary_node_that_leaves_is_told_of_once(play: Play) -> None:
    play.joins("a")
    node = play.joins("b")
    job = play.submit(minHosts=2)
    play.send(m.NodeLeft(node))
    play.disconnects("b")
    play.later(minutes=9)
    assert play.story(job).count("client lost") == 1


def test_a_secondary_node_that_is_removed_is_told_of(play: Play) -> None:
    play.joins("a")
    node = play.joins("b")
    job = play.submit(minHosts=2)
    play.send(m.RemoveNodes((node,)))
    assert play.story(job)[-1] == "client lost"


# --- cost ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def questions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What placement asks about one node and one job."""
    asked: list[object] = []
    obstacle = placement.obstacle

    def noting(candidate: Any, tests: Any) -> Any:
        asked.append(candidate)
        return obstacle(candidate, tests)

    with monkeypatch.context() as patch:
        patch.setattr(placement, "obstacle", noting)
        yield asked


def end_one(play: Play) -> None:
    play.ends(next(job for job, number, _ in play.started if (job, number) in play.farm.attempts))


def test_the_cost_of_a_placement_does_not_depend_on_the_number_of_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = []
    for jobs in (10, 100, 400):
        play = Play()
        for number in range(8):
            play.joins(f"n{number}")
        play.submit(*([LEAF] * jobs))
        with questions(monkeypatch) as asked:
            end_one(play)
        costs.append(len(asked))
    assert costs[0] == costs[1] == costs[2] <= 2


def test_a_queue_keeps_no_more_of_jobs_that_left_it_than_of_those_that_wait(play: Play) -> None:
    ids = play.submit(*([LEAF] * 40))
    for turn in range(20):
        play.pause(*ids[1:])
        play.resume(*ids[1:])
        play.set_priority(ids[-1], turn)
    (kind,) = play.farm.floor.kinds.values()
    assert len(kind.heap) <= 2 * len(ids) + placement.STALE_RANKS_MAX
    play.joins("n")
    assert play.status(ids[-1]) == "running"
    play.ends(ids[-1])
    assert play.status(ids[0]) == "running"


def test_the_cost_of_a_placement_does_not_depend_on_the_number_of_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = [{**LEAF, "conditions": [condition("hostname", "!=", f"x{n}")]} for n in range(5)]
    for nodes in (4, 20, 100):
        play = Play()
        for number in range(nodes):
            play.joins(f"n{number}")
        with questions(monkeypatch) as asked:
            play.submit(*(kinds * nodes))
        assert len(play.started) == nodes
        assert len(asked) == 2 * nodes  # may it run there, is there room
        with questions(monkeypatch) as asked:
            end_one(play)
        assert len(asked) <= 2


def test_a_node_is_asked_again_whether_it_may_run_a_job_when_something_of_it_has_changed(
    play: Play,
) -> None:
    node = play.joins("n")
    first, second, third = play.submit(LEAF, LEAF, LEAF)
    play.disconnects("n")
    play.ends(first)
    assert play.why(second) == "n is not connected at the moment."
    play.joins("n")
    assert play.status(second) == "running"
    play.send(m.NodeLeft(node))
    play.ends(second)
    assert play.status(third) == "runnable"


def test_a_pass_has_a_limit_and_asks_to_be_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "PLACEMENTS_PER_PASS", 3)
    play = Play()
    ids = play.submit(*([LEAF] * 10))
    play.joins("n", cpus=10)
    assert [play.status(job) for job in ids].count("running") == 3
    assert play.farm.next_wakeup() == play.now
    play.later(ms=1)
    assert [play.status(job) for job in ids].count("running") == 10
    assert not play.farm.floor.has_work
