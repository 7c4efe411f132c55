"""The statuses: every row of the table of transitions, told by the farm itself."""

from __future__ import annotations

import pytest
from play import Play

from roost.core.lifecycle import FAILED, FINAL, FINISHED, INITIAL, ON_NODE, TRANSITIONS, ui_status
from roost.core.messages import SignalAttempt
from roost.core.records import AttemptCause, JobId, JobStatus

S = JobStatus


def test_every_status_has_a_row_and_nothing_moves_to_itself() -> None:
    assert set(TRANSITIONS) == set(S)
    assert all(status not in targets for status, targets in TRANSITIONS.items())


def test_no_job_is_ever_waiting_or_ejected() -> None:
    for targets in TRANSITIONS.values():
        assert not targets & {S.WAITING, S.EJECTED}
    assert not {S.WAITING, S.EJECTED} & INITIAL


def test_the_sets_overlap_only_where_they_should() -> None:
    assert not FINAL & ON_NODE
    assert FINAL < FINISHED
    assert {S.ABANDONED} == FAILED - FINAL


@pytest.mark.parametrize(
    ("status", "clients", "word"),
    [
        (S.QUEUED, 0, "waiting for resources"),
        (S.RUNNABLE, 0, "waiting for resources"),
        (S.QUEUED, 3, "running (3 clients assigned)"),
        (S.RUNNING, 1, "running"),
        (S.ABANDONED, 0, "abandoned"),
    ],
)
def test_the_word_of_the_web_page(status: JobStatus, clients: int, word: str) -> None:
    assert ui_status(status, clients) == word


def test_a_new_job_with_a_command_is_runnable(play: Play) -> None:
    assert play.story(play.submit()) == ["runnable"]


def test_a_new_job_with_children_is_queued(play: Play) -> None:
    parent, child = play.submit({"name": "p", "command": "x", "children": [{"name": "c"}]})
    assert play.story(child) == ["succeeded"]
    assert play.story(parent) == ["queued", "runnable"]


def test_a_new_job_without_command_and_children_has_succeeded(play: Play) -> None:
    assert play.story(play.submit(command="")) == ["succeeded"]


def test_a_run_that_ends_well(play: Play) -> None:
    play.joins("a")
    job = play.submit()
    play.starts(job)
    play.ends(job)
    assert play.story(job) == ["runnable", "running", "succeeded"]
    assert play.job(job).progress == 1_000_000
    assert play.job(job).command_started_at is not None
    assert play.job(job).command_ended_at is not None


def test_a_run_that_ends_badly(play: Play) -> None:
    play.joins("a")
    job = play.submit()
    play.fails(job)
    assert play.story(job) == ["runnable", "running", "failed"]


def test_a_command_that_could_not_be_run_has_failed(play: Play) -> None:
    play.joins("a")
    job = play.submit()
    play.ends(job, None, AttemptCause.NOT_STARTED, text="no such shell")
    assert play.status(job) == "failed"
    assert play.events[-1].message == "no such shell"


def test_pausing_and_resuming_wait_for_the_node(play: Play) -> None:
    play.joins("a")
    job = play.submit()
    play.pause(job)
    assert play.status(job) == "pausing"
    play.pauses(job)
    assert play.status(job) == "paused"
    play.resume(job)
    assert play.status(job) == "resuming"
    play.resumes(job)
    assert play.status(job) == "running"


def test_a_paused_job_that_runs_nowhere_pauses_and_resumes_at_once(play: Play) -> None:
    job = play.submit()
    play.pause(job)
    assert play.status(job) == "paused"
    play.resume(job)
    assert play.status(job) == "runnable"


def test_an_ejected_job_runs_again(play: Play) -> None:
    play.joins("a")
    job = play.submit(triesLeft=1)
    play.eject(job)
    assert play.status(job) == "ejecting"
    play.ends(job, -15, AttemptCause.EJECTED)
    assert play.story(job)[2:] == ["ejecting", "ejected", "runnable", "running"]
    assert play.job(job).tries_left == 1


def test_a_job_over_its_time_limit_is_cancelled(play: Play) -> None:
    play.joins("a")
    job = play.submit(triesLeft=1)
    play.ends(job, -15, AttemptCause.TIME_LIMIT)
    assert play.story(job) == ["runnable", "running", "cancelled"]


def test_a_job_over_its_time_limit_takes_what_it_submitted_along(play: Play) -> None:
    play.joins("n", cpus=2)
    job = play.submit(maxTime=60)
    running, waiting = play.submit(parent=job), play.submit(parent=job, cpus=9)
    play.ends(job, None, AttemptCause.TIME_LIMIT)
    assert [play.status(one) for one in (job, running, waiting)] == ["cancelled"] * 3
    assert play.has_effect(SignalAttempt, job=running, action="cancel")


def test_a_silent_node_abandons_and_a_returning_one_goes_on(play: Play) -> None:
    play.joins("a")
    job = play.submit()
    play.disconnects("a")
    play.later(minutes=5)
    assert play.status(job) == "abandoned"
    play.joins("a", held=[(job, 1, "running")])
    assert play.story(job) == ["runnable", "running", "abandoned", "running"]
    play.ends(job)
    assert play.status(job) == "succeeded"


@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_finished_job_is_rescheduled(play: Play, exit_code: int) -> None:
    play.joins("a")
    job = play.submit()
    play.ends(job, exit_code)
    play.reschedule(job)
    assert play.story(job)[-3:] == ["queued", "runnable", "running"]
    assert play.job(job).attempt == 2


def test_a_deleted_job_is_gone(play: Play) -> None:
    job = play.submit(command="")
    play.delete(job)
    assert JobId(job) not in play.records
