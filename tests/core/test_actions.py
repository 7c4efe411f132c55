"""To which jobs an action is said to apply is what it then changes, when a job stands alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from play import Play

from roost.core import actions
from roost.core import messages as m
from roost.core.records import JobId


def runnable(play: Play) -> JobId:
    return JobId(play.submit())


def running(play: Play) -> JobId:
    play.joins("n1")
    job = runnable(play)
    play.starts(job)
    return job


def pausing(play: Play) -> JobId:
    job = running(play)
    play.pause(job)
    return job


def paused(play: Play) -> JobId:
    job = pausing(play)
    play.pauses(job)
    return job


def resuming(play: Play) -> JobId:
    job = paused(play)
    play.resume(job)
    return job


def ejecting(play: Play) -> JobId:
    job = running(play)
    play.eject(job)
    return job


def succeeded(play: Play) -> JobId:
    job = running(play)
    play.ends(job)
    return job


def failed(play: Play) -> JobId:
    job = running(play)
    play.fails(job)
    return job


def cancelled(play: Play) -> JobId:
    job = runnable(play)
    play.cancel(job)
    return job


STATES = (runnable, running, pausing, paused, resuming, ejecting, succeeded, failed, cancelled)


@pytest.mark.parametrize("name", [*actions.ACTIONS, "reschedule_failed"])
@pytest.mark.parametrize("reach", STATES)
def test_an_action_changes_the_jobs_it_applies_to_and_no_others(
    play: Play, name: str, reach: Callable[[Play], JobId]
) -> None:
    job = reach(play)
    before = play.farm.jobs.get(job) or play.records[job][0]
    assert before.status.value == reach.__name__
    play.revive(job)
    action = actions.find(name)
    play.send(action.command((job,)))
    # What is over is in memory only while somebody asks something of it.
    after = play.farm.jobs.get(job) or play.records.get(job, (before,))[0]
    changed = after.status is not before.status or play.has_effect(m.DeleteOutput, job=job)
    if name == "reschedule_failed" and reach is succeeded:
        return  # it is never sent to those that it does not apply to
    assert changed == (before.status in action.applies)


def test_a_word_that_is_no_action_is_not_found() -> None:
    with pytest.raises(KeyError):
        actions.find("explode")


def test_what_takes_back_a_pause_names_only_what_it_paused(play: Play) -> None:
    root, first, second = play.submit(
        {"name": "tree", "children": [{"name": n, "command": "x"} for n in "ab"]}
    )
    assert play.send(m.PauseJobs((second,))) == m.ResumeJobs((second,), alone=True)
    back = play.send(m.PauseJobs((root,)))
    assert (set(back.ids), back.alone) == ({root, first}, True)
    again = play.send(back)
    assert set(again.ids) == {root, first}
    assert [play.farm.jobs[job].status for job in (root, first, second)] == [
        "queued", "runnable", "paused",
    ]  # fmt: skip
    assert play.send(back) is None


def test_what_takes_back_a_priority_gives_each_job_its_own(play: Play) -> None:
    [low] = play.submit({"name": "a", "command": "x", "priority": 1})
    [high] = play.submit({"name": "a", "command": "x", "priority": 5})
    back = play.send(m.SetPriority((low, high, JobId(99)), 5))
    assert back == m.SetPriorities(((low, 1),))
    play.send(back)
    assert play.farm.jobs[low].priority == 1
