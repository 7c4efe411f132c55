"""What people ask of jobs, and which linked jobs it reaches (decisions 2, 35, 36)."""

from __future__ import annotations

import pytest
from play import Play

from roost.core import messages as m
from roost.core.records import AttemptCause, JobId
from roost.errors import Conflict, Invalid, NotFound

LEAF = {"name": "leaf", "command": "x"}
PAIR = {"name": "top", "command": "y", "children": [{**LEAF, "name": "a"}, {**LEAF, "name": "b"}]}


def shared(play: Play) -> tuple[int, int, int]:
    """Two parents over one child."""
    child = play.submit()
    left = play.submit(name="left", childrenIds=[child])
    right = play.submit(name="right", childrenIds=[child])
    return left, right, child


# --- submitting -------------------------------------------------------------------------------


def test_ids_come_in_the_order_of_the_submission(play: Play) -> None:
    assert play.submit(PAIR, LEAF) == [1, 2, 3, 4]


def test_a_refused_submission_creates_nothing(play: Play) -> None:
    with pytest.raises(NotFound, match="names job 99 as its parent"):
        play.submit(LEAF, {**LEAF, "parentIds": [99]})
    assert not play.farm.jobs
    assert play.submit(LEAF) == [1]


def test_a_job_cannot_be_its_own_descendant(play: Play) -> None:
    top, low, _ = play.submit(PAIR)
    with pytest.raises(Invalid, match="its own descendant"):
        play.submit(LEAF | {"parentIds": [low], "childrenIds": [top]})


def test_a_cancelled_job_takes_no_children(play: Play) -> None:
    job = play.submit()
    play.cancel(job)
    play.revive(job)
    with pytest.raises(Conflict, match="is cancelled"):
        play.submit(parent=job)


def test_the_submitter_is_inherited(play: Play) -> None:
    parent = play.submit(submittedBy="ann")
    assert play.job(play.submit(parent=parent)).spec.submitted_by == "ann"


# --- cancel, pause, resume, eject ---------------------------------------------------------------


def test_cancel_reaches_everything_below_and_nothing_above(play: Play) -> None:
    top, a, b = play.submit(PAIR)
    over = play.submit(name="over", childrenIds=[top])
    play.cancel(top)
    assert [play.status(job) for job in (top, a, b)] == ["cancelled"] * 3
    assert play.status(over) == "failed"


def test_cancel_reaches_a_descendant_shared_with_another_parent(play: Play) -> None:
    left, right, child = shared(play)
    play.cancel(left)
    assert play.status(child) == "cancelled"
    assert play.status(right) == "failed"


def test_a_cancelled_run_keeps_its_room_until_the_node_says_that_it_is_over(play: Play) -> None:
    play.joins("n")
    first, second = play.submit(LEAF, LEAF)
    play.cancel(first)
    assert play.status(first) == "cancelled"
    assert play.has_effect(m.SignalAttempt, job=first, action="cancel")
    assert play.status(second) == "runnable"
    play.ends(first, -2, AttemptCause.CANCELLED)
    assert play.status(second) == "running"


def test_a_job_rescheduled_while_it_is_being_stopped_starts_after_that(play: Play) -> None:
    play.joins("n", cpus=4)
    job = play.submit()
    play.cancel(job)
    play.reschedule(job)
    assert play.status(job) == "runnable"
    assert play.why(job) == "Its previous run is still being stopped."
    play.ends(job, -2, AttemptCause.CANCELLED, number=1)
    assert play.status(job) == "running"
    assert play.job(job).attempt == 2


def test_overlapping_and_unknown_ids_are_normal(play: Play) -> None:
    top, a, _ = play.submit(PAIR)
    play.cancel(a, top, a, 99)
    assert play.story(a).count("cancelled") == 1


def test_pause_and_resume_reach_everything_below(play: Play) -> None:
    top, a, b = play.submit(PAIR)
    play.pause(top)
    assert [play.status(job) for job in (top, a, b)] == ["paused"] * 3
    play.resume(top)
    assert [play.status(job) for job in (top, a, b)] == ["queued", "runnable", "runnable"]


def test_a_paused_parent_of_finished_children_waits_until_it_is_resumed(play: Play) -> None:
    play.joins("n")
    top, child = play.submit({"name": "p", "command": "x", "children": [LEAF]})
    play.pause(top)
    play.resume(child)
    play.ends(child)
    assert play.status(top) == "paused"
    play.resume(top)
    assert play.status(top) == "running"


def test_a_job_that_ends_while_it_is_being_paused_has_ended(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.pause(job)
    play.ends(job)
    assert play.status(job) == "succeeded"


def test_a_job_that_fails_while_it_is_being_paused_does_not_try_again_until_it_is_resumed(
    play: Play,
) -> None:
    play.joins("n")
    job = play.submit(triesLeft=1)
    play.pause(job)
    play.fails(job)
    assert (play.status(job), play.job(job).tries_left) == ("paused", 0)
    play.resume(job)
    assert (play.status(job), play.job(job).attempt) == ("running", 2)


def test_a_paused_job_whose_command_is_killed_does_not_try_again_until_it_is_resumed(
    play: Play,
) -> None:
    play.joins("n")
    job = play.submit(triesLeft=1)
    play.pause(job)
    play.pauses(job)
    play.ends(job, -9)
    assert (play.status(job), play.job(job).tries_left) == ("paused", 0)
    assert play.story(job)[-2:] == ["paused", "run ended"]
    play.resume(job)
    assert (play.status(job), play.job(job).attempt) == ("running", 2)


def test_a_job_that_is_paused_while_it_is_ejected_is_paused_when_the_node_lets_go(
    play: Play,
) -> None:
    play.joins("n")
    job = play.submit()
    play.eject(job)
    play.pause(job)
    assert play.status(job) == "pausing"
    play.ends(job, -2, AttemptCause.EJECTED)
    assert play.status(job) == "paused"
    play.resume(job)
    assert (play.status(job), play.job(job).attempt) == ("running", 2)


def test_a_job_paused_and_resumed_while_it_is_ejected_runs_again(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.eject(job)
    play.pause(job)
    play.resume(job)
    play.ends(job, -2, AttemptCause.EJECTED)
    assert (play.status(job), play.job(job).attempt) == ("running", 2)


def test_resume_overtakes_a_pause_that_is_under_way(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.pause(job)
    play.resume(job)
    play.pauses(job)
    assert play.status(job) == "resuming"
    play.resumes(job)
    assert play.status(job) == "running"


def test_eject_leaves_jobs_alone_that_do_not_run(play: Play) -> None:
    job = play.submit()
    play.eject(job)
    assert play.status(job) == "runnable"


def test_a_paused_job_can_be_ejected(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.pause(job)
    play.pauses(job)
    play.eject(job)
    play.ends(job, -9, AttemptCause.EJECTED)
    assert play.status(job) == "running"
    assert play.job(job).attempt == 2


# --- reschedule, delete -------------------------------------------------------------------------


def test_reschedule_takes_finished_ancestors_and_failed_descendants_along(play: Play) -> None:
    play.joins("n", cpus=2)
    top, a, b = play.submit(PAIR)
    over = play.submit(name="over", command="", childrenIds=[top])
    play.ends(a)
    play.fails(b)
    assert [play.status(job) for job in (over, top)] == ["failed", "failed"]
    play.reschedule(top)
    assert [play.status(job) for job in (over, top, a, b)] == [
        "queued",
        "queued",
        "succeeded",
        "running",
    ]
    play.ends(b)
    play.ends(top)
    assert play.status(over) == "succeeded"


def test_a_running_job_is_not_rescheduled(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.reschedule(job)
    assert play.status(job) == "running"
    assert play.job(job).attempt == 1


def test_an_abandoned_job_can_be_rescheduled_and_its_old_run_counts_no_more(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.disconnects("n")
    play.later(minutes=5)
    play.joins("other")
    play.reschedule(job)
    assert play.nodes_of(job) == ["n", "other"]
    play.joins("n", held=[(job, 1, "running")])
    assert play.has_effect(m.SignalAttempt, job=job, number=1, action="kill")
    play.ends(job, 1, number=1)
    assert play.status(job) == "running"


def test_only_finished_jobs_are_deleted(play: Play) -> None:
    job = play.submit()
    play.delete(job)
    assert play.status(job) == "runnable"


def test_delete_takes_descendants_along_and_their_output(play: Play) -> None:
    top, a, b = play.submit(PAIR)
    play.cancel(top)
    play.delete(top)
    assert not play.records and not play.edges
    assert [e.job for e in play.effects if isinstance(e, m.DeleteOutput)] == [top, a, b]


def test_a_shared_descendant_stays_until_its_last_parent_goes(play: Play) -> None:
    left, right, child = shared(play)
    play.cancel(left, right)
    play.delete(left)
    assert set(play.records) == {right, child}
    play.delete(right)
    assert not play.records


def test_a_parent_whose_last_open_child_is_deleted_moves_on(play: Play) -> None:
    play.joins("n")
    top, child = play.submit({"name": "p", "command": "", "children": [LEAF]})
    play.disconnects("n")
    play.later(minutes=5)
    assert play.status(child) == "abandoned"
    play.delete(child)
    assert play.status(top) == "succeeded"


def test_a_job_deleted_in_this_batch_is_not_brought_back_from_the_store(play: Play) -> None:
    job = play.submit(command="")
    play.revive(job)
    play.farm.handle(m.DeleteJobs((JobId(job),)), play.now)
    assert play.farm.missing([JobId(job)]) == []
    assert play.farm.take_changes().deleted == [job]
    assert play.farm.missing([JobId(job)]) == [job]


def test_bringing_a_tree_back_leaves_unsaved_changes_of_others_to_be_saved(play: Play) -> None:
    play.joins("n")
    finished = play.submit(command="")
    running = play.submit()
    report = m.NodeReported(
        play.node_ids["n"], m.AttemptEnded(running, 1, AttemptCause.EXITED, exit_code=0)
    )
    play.farm.handle(report, play.now)
    play.revive(finished)
    changes = play.farm.take_changes()
    assert [(job.id, job.status.value) for job, _ in changes.jobs] == [(running, "succeeded")]


# --- priority -----------------------------------------------------------------------------------


def test_a_new_priority_counts_at_once(play: Play) -> None:
    first, second = play.submit(LEAF, LEAF)
    play.set_priority(second, 5)
    play.joins("n")
    assert play.status(second) == "running"
    assert play.status(first) == "runnable"


def test_nothing_is_told_of_a_priority_that_stays_what_it_is(play: Play) -> None:
    job = play.submit(priority=3)
    play.set_priority(job, 3)
    assert "priority changed" not in play.story(job)
    play.set_priority(job, 4)
    assert play.story(job).count("priority changed") == 1


def test_a_priority_is_never_negative(play: Play) -> None:
    job = play.submit(priority=3)
    play.set_priority(job, -1)
    assert play.job(job).priority == 0
