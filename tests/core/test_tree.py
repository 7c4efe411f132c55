"""Parents and children: who waits for whom, how an outcome travels up, what a roll-up shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from play import Play

from roost.core.farm import Farm
from roost.core.invariants import check
from roost.core.jobspec import parse
from roost.core.messages import (
    AttemptEnded,
    CancelJobs,
    DeleteJobs,
    LiveRecords,
    NodeJoined,
    NodeReported,
    RescheduleJobs,
    Tick,
)
from roost.core.records import AttemptCause, JobId, Moment, NodeFacts, NodeId
from roost.core.tree import Sum, find_cycle

LEAF = {"name": "leaf", "command": "x"}


def tree(*children: dict[str, Any], command: str = "y", **spec: Any) -> dict[str, Any]:
    return {"name": "top", "command": command, "children": list(children), **spec}


# --- waiting for children -----------------------------------------------------------------------


def test_a_parent_runs_after_its_last_child(play: Play) -> None:
    play.joins("n", cpus=2)
    top, a, b = play.submit(tree(LEAF, LEAF))
    play.ends(a)
    assert play.status(top) == "queued"
    play.ends(b)
    assert play.status(top) == "running"


def test_a_parent_fails_only_after_its_last_child_and_its_command_never_runs(play: Play) -> None:
    play.joins("n", cpus=2)
    top, a, b = play.submit(tree(LEAF, LEAF))
    play.fails(a)
    assert play.status(top) == "queued"
    play.ends(b)
    assert play.status(top) == "failed"
    assert play.nodes_of(top) == []
    assert play.events[-1].message == "1 of its 2 children failed"


def test_a_parent_without_a_command_succeeds_with_its_children(play: Play) -> None:
    play.joins("n")
    top, a = play.submit(tree(LEAF, command=""))
    play.ends(a)
    assert play.story(top) == ["queued", "succeeded"]


def test_a_cancelled_child_counts_as_failed(play: Play) -> None:
    top, a, b = play.submit(tree(LEAF, LEAF))
    play.cancel(a)
    assert play.status(top) == "queued"
    play.cancel(b)
    assert play.status(top) == "failed"


def test_a_cancelled_parent_stays_cancelled_whatever_its_children_do(play: Play) -> None:
    play.joins("n")
    top, _ = play.submit(tree(LEAF))
    play.cancel(top)
    assert play.story(top) == ["queued", "cancelled"]


def test_an_abandoned_child_keeps_its_parent_waiting(play: Play) -> None:
    play.joins("n")
    top, child = play.submit(tree(LEAF))
    play.disconnects("n")
    play.later(minutes=5)
    assert (play.status(child), play.status(top)) == ("abandoned", "queued")
    play.cancel(child)
    assert play.status(top) == "failed"


def test_a_failure_travels_to_the_top(play: Play) -> None:
    play.joins("n")
    top, middle, leaf = play.submit(tree(tree(LEAF)))
    play.fails(leaf)
    assert (play.status(middle), play.status(top)) == ("failed", "failed")


def test_a_job_with_two_parents_lets_both_go_on(play: Play) -> None:
    play.joins("n", cpus=2)
    child = play.submit()
    parents = [play.submit(name=name, childrenIds=[child]) for name in "ab"]
    play.ends(child)
    assert [play.status(job) for job in parents] == ["running", "running"]


# --- onChildError -------------------------------------------------------------------------------


def test_the_child_error_script_runs_alone_and_the_job_fails(play: Play) -> None:
    play.joins("n")
    top, child = play.submit(tree(LEAF, onChildError="report"))
    play.fails(child)
    assert play.status(top) == "running"
    order = play.effects[-1].order
    assert (order.command, order.on_child_error) == ("", "report")
    play.ends(top)
    assert play.status(top) == "failed"


def test_a_job_waiting_to_report_a_failed_child_that_is_deleted_does_what_it_would(
    play: Play,
) -> None:
    play.joins("n")
    top, child = play.submit(tree(LEAF, command="", onChildError="report"))
    busy = play.submit(priority=9)
    play.fails(child)
    assert (play.status(busy), play.status(top)) == ("running", "runnable")
    play.delete(child)
    assert play.status(top) == "succeeded"
    assert play.nodes_of(top) == []


# --- late children ------------------------------------------------------------------------------


def test_a_command_that_submits_children_is_queued_until_they_end(play: Play) -> None:
    play.joins("n")
    top = play.submit()
    child = play.submit(parent=top)
    play.ends(top)
    assert (play.status(top), play.status(child)) == ("queued", "running")
    play.ends(child)
    assert play.story(top)[-2:] == ["queued", "succeeded"]
    assert play.job(top).attempt == 1


def test_a_failed_command_stays_failed_whatever_its_late_children_do(play: Play) -> None:
    play.joins("n")
    top = play.submit()
    child = play.submit(parent=top)
    play.fails(top)
    play.ends(child)
    assert play.status(top) == "failed"


@pytest.mark.parametrize(("exit_code", "expected"), [(0, "succeeded"), (1, "failed")])
def test_a_late_child_opens_a_finished_parent_and_those_above(
    play: Play, exit_code: int, expected: str
) -> None:
    play.joins("n")
    over, top = play.submit(tree({"name": "p", "command": "x"}, command=""))
    play.ends(top)
    assert play.status(over) == "succeeded"
    play.revive(top)
    child = play.submit(parent=top)
    assert (play.status(over), play.status(top)) == ("queued", "queued")
    play.ends(child, exit_code)
    assert (play.status(over), play.status(top)) == (expected, expected)
    assert play.job(top).attempt == 1


def test_a_late_child_takes_a_runnable_parent_back_from_the_queue(play: Play) -> None:
    top = play.submit()
    play.submit(parent=top)
    assert play.status(top) == "queued"


# --- roll-ups -----------------------------------------------------------------------------------


def test_a_container_counts_its_tasks_and_not_itself(play: Play) -> None:
    play.joins("n")
    top, a, _ = play.submit(tree(LEAF, LEAF, command=""))
    play.ends(a)
    rollup = play.rollup(top)
    assert (rollup.tasks_total, rollup.tasks_done, rollup.overall_progress) == (2, 1, 500_000)
    assert rollup.ui_status == "running (1 clients assigned)"


def test_a_descendant_reached_by_two_paths_counts_once(play: Play) -> None:
    child = play.submit()
    sides = [play.submit(name=name, command="", childrenIds=[child]) for name in "ab"]
    top = play.submit(name="top", command="", childrenIds=sides)
    assert play.rollup(top).tasks_total == 1


def test_what_is_excluded_from_progress_counts_as_a_task_only(play: Play) -> None:
    play.joins("n")
    top, a, _ = play.submit(tree(LEAF, {**LEAF, "tags": ["excludeProgress"]}, command=""))
    play.ends(a)
    assert play.rollup(top).overall_progress == 1_000_000
    assert play.rollup(top).tasks_total == 2


def test_a_failed_task_is_done_for_the_progress(play: Play) -> None:
    play.joins("n", cpus=2)
    top, a, b = play.submit(tree(LEAF, LEAF, command=""))
    play.fails(a)
    assert play.rollup(top).overall_progress == 500_000
    play.beats("n", (b, 1, 400_000))
    assert play.rollup(top).overall_progress == 700_000
    assert play.rollup(top).tasks_failed == 1


def test_a_tree_starts_with_its_first_descendant(play: Play) -> None:
    top, middle, leaf = play.submit(tree(tree(LEAF)))
    assert play.job(top).started_at is None
    play.joins("n")
    assert play.status(leaf) == "running"
    assert play.job(top).started_at == play.job(middle).started_at == play.now


def test_a_finished_tree_leaves_memory_and_comes_back_whole(play: Play) -> None:
    play.joins("n")
    top, child = play.submit(tree(LEAF, command=""))
    play.fails(child)
    assert not play.farm.jobs
    play.reschedule(top)
    assert play.farm.tree.children == {top: [child]}
    assert play.status(child) == "running"


def waiting_for(number: int, *others: object) -> dict[str, Any]:
    stubs = {"stubId": str(number), "childStubIds": [str(one) for one in others]}
    return {"name": f"frame {number}", "command": "x", **stubs}


def chain(count: int) -> list[dict[str, Any]]:
    """Each frame waits for the one before it, as in a simulation."""
    return [waiting_for(0), *(waiting_for(n, n - 1) for n in range(1, count))]


def on_one_floor(count: int) -> list[dict[str, Any]]:
    """All frames wait for one preparation."""
    first = {"name": "prepare", "command": "x", "stubId": "prepare"}
    return [*(waiting_for(n, "prepare") for n in range(count)), first]


def diamonds(count: int) -> list[dict[str, Any]]:
    """Every third frame waits for two that wait for the next such one."""
    after = {0: (1, 2), 1: (2,), 2: (1,)}
    return [
        waiting_for(n, *(n + step for step in after[n % 3] if n + step < count))
        for n in range(count)
    ]


def slices(count: int) -> list[dict[str, Any]]:
    """Each slice of a simulation waits for all four of the frame before."""
    return [
        waiting_for(n, *(range(n - n % 4 - 4, n - n % 4) if n >= 4 else ())) for n in range(count)
    ]


def crossing(count: int) -> list[dict[str, Any]]:
    """Half of the frames wait for one job, and that waits for the other half."""
    middle = waiting_for(0, *range(1, count, 2))
    return [middle, *(waiting_for(n, *(() if n % 2 else (0,))) for n in range(1, count))]


def boxes(count: int) -> list[dict[str, Any]]:
    """A box in a box in a box, with one frame in each."""
    return [
        {
            "name": "box",
            "stubId": f"box {n}",
            "childStubIds": [str(n), *([f"box {n + 1}"] if n + 1 < count else [])],
        }
        for n in range(count)
    ] + [waiting_for(n) for n in range(count)]


SHAPES: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    "a chain from its first frame": chain,
    "a chain from its last frame": lambda count: chain(count)[::-1],
    "a chain in a box": lambda count: [tree(*chain(count))],
    "a chain in a box from its last frame": lambda count: [tree(*chain(count)[::-1])],
    "frames with one preparation": on_one_floor,
    "frames with one preparation in a box": lambda count: [tree(*on_one_floor(count))],
    "diamonds": diamonds,
    "diamonds in a box": lambda count: [tree(*diamonds(count))],
    "slices": slices,
    "slices in a box": lambda count: [tree(*slices(count))],
    "many before and many after one": crossing,
    "boxes in boxes": boxes,
}


class Counted(dict[Any, Any]):
    """Counts how often it is asked."""

    asked = 0

    def get(self, *arguments: Any) -> Any:
        self.asked += 1
        return super().get(*arguments)


def steps(specs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How much is looked up and added in the tree while these are submitted, run, cancelled, taken
    back into memory, rescheduled and deleted."""
    farm, now = Farm(), Moment(1)
    tree = farm.tree
    tree.parents, tree.children = Counted(), Counted()
    added = 0
    counts: dict[str, int] = {}

    def counting(method: Callable[..., None]) -> Callable[..., None]:
        def add(*arguments: Any) -> None:
            nonlocal added
            added += 1
            method(*arguments)

        return add

    def count(name: str) -> None:
        so_far = added + tree.parents.asked + tree.children.asked
        counts[name] = so_far - sum(counts.values())

    with monkeypatch.context() as patches:
        for name in ("add", "add_all"):
            patches.setattr(Sum, name, counting(getattr(Sum, name)))
        ids = tuple(farm.handle(parse(specs), now).reply)  # type: ignore[arg-type]
        changes = farm.take_changes()
        count("submit")
        farm.handle(NodeJoined(NodeFacts("n", cpus=len(ids))), now)
        farm.handle(Tick(), now)
        farm.take_changes()
        count("run")
        farm.handle(CancelJobs(ids), now)
        jobs = dict(farm.jobs)
        children = {parent: list(below) for parent, below in tree.children.items()}
        farm.take_changes()
        count("cancel")
        for key in list(farm.attempts):
            ended = AttemptEnded(*key, AttemptCause.CANCELLED)
            farm.handle(NodeReported(NodeId(1), ended), now)
        farm.take_changes()
        assert not farm.jobs, "what is over leaves memory"
        count("leave memory")
        parents: dict[JobId, list[JobId]] = {}
        for parent, child in changes.edges:
            parents.setdefault(child, []).append(parent)
        several = {child: tuple(above) for child, above in parents.items() if len(above) > 1}
        farm.admit(LiveRecords(list(jobs.values()), children, several))
        count("take back into memory")
        farm.handle(RescheduleJobs(ids), now)
        farm.take_changes()
        count("reschedule")
        farm.handle(CancelJobs(ids), now)
        farm.handle(DeleteJobs(ids[1:]), now)
        farm.take_changes()
        count("cancel and delete")
    check(farm)
    return counts


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_as_many_jobs_cost_twice_as_much_in_whichever_order_they_are_listed(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = steps(SHAPES[shape](48), monkeypatch)
    many = steps(SHAPES[shape](96), monkeypatch)
    assert {name: (few[name], many[name]) for name in few if many[name] > 2.5 * few[name]} == {}


def test_a_tree_with_a_run_being_stopped_stays_in_memory(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.cancel(job)
    assert JobId(job) in play.farm.jobs


# --- cycles -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("children", "cycle"),
    [
        ({1: [2], 2: [3]}, None),
        ({1: [2, 3], 2: [4], 3: [4]}, None),
        ({1: [2], 2: [1]}, [1, 2]),
        ({1: [1]}, [1]),
        ({1: [2], 2: [3], 3: [2]}, [2, 3]),
    ],
)
def test_a_cycle_is_found_and_named(
    children: dict[int, list[int]], cycle: list[int] | None
) -> None:
    assert find_cycle([1], children) == cycle
