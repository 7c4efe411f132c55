"""Parents and children: who waits for whom, how an outcome travels up, what a roll-up shows."""

from __future__ import annotations

from typing import Any

import pytest
from play import Play

from roost.core.records import JobId
from roost.core.tree import find_cycle

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


def test_a_job_that_reports_a_failed_child_can_be_cancelled_and_has_its_time_limit(
    play: Play,
) -> None:
    play.joins("n")
    spec = tree(LEAF, onChildError="report", onCancel="tidy", onSuccess="boast", maxTime=60)
    _, child = play.submit(spec)
    play.fails(child)
    order = play.effects[-1].order
    assert (order.on_child_error, order.on_cancel, order.max_time_ms) == ("report", "tidy", 60_000)
    assert order.on_success == ""


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


def test_a_parent_that_comes_above_running_jobs_has_started_with_the_first_of_them(
    play: Play,
) -> None:
    top, _ = play.submit(tree({**LEAF, "cpus": 9}))
    play.joins("n", cpus=2)
    early = play.submit()
    began = play.now
    play.later(ms=1_000)
    late = play.submit()
    [middle] = play.submit({"name": "middle", "childrenIds": [late, early]}, parent=top)
    assert play.job(early).started_at == began < play.now
    assert play.job(middle).started_at == play.job(top).started_at == began


def test_a_parent_that_comes_above_finished_jobs_has_a_start_of_its_own(play: Play) -> None:
    play.joins("n")
    child = play.submit()
    play.ends(child)
    play.later(ms=1_000)
    play.revive(child)
    [parent] = play.submit({"name": "later", "command": "x", "childrenIds": [child]})
    assert play.job(parent).started_at == play.now


def test_a_job_that_gets_a_child_which_has_started_has_started_with_it(play: Play) -> None:
    play.joins("n")
    child = play.submit()
    began = play.now
    play.later(minutes=1)
    top, middle = play.submit(
        {"name": "top", "children": [{"name": "middle", "childrenIds": [child]}]}
    )
    assert play.job(top).started_at == play.job(middle).started_at == began


def test_a_finished_tree_leaves_memory_and_comes_back_whole(play: Play) -> None:
    play.joins("n")
    top, child = play.submit(tree(LEAF, command=""))
    play.fails(child)
    assert not play.farm.jobs
    play.reschedule(top)
    assert play.farm.tree.children == {top: [child]}
    assert play.status(child) == "running"


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
