"""Strays: attempts that the farm has given up and a node still has keep their room there."""

from __future__ import annotations

import pytest
from play import Play

from roost.core import messages as m
from roost.core.records import AttemptCause, JobId
from roost.core.state import RECALL_AFTER_MS


def loses(play: Play, *nodes: str) -> None:
    """What these have is fenced off; then somebody else would take the jobs."""
    for node in nodes:
        play.disconnects(node)
    play.later(minutes=10)


def is_gone(play: Play, job: int, number: int = 1, node: str = "n") -> None:
    play.reports(node, m.AttemptEnded(JobId(job), number, AttemptCause.FENCED))


def cpus_free(play: Play, node: str = "n") -> int:
    return play.farm.floor.free(play.node_ids[node])


def test_a_fenced_run_keeps_its_room_until_its_node_says_that_it_is_gone(play: Play) -> None:
    play.joins("n", cpus=2)
    job, other = play.submit(*({"name": "x", "command": "x", "cpus": 2},) * 2)
    loses(play, "n")
    play.joins("n", cpus=2, held=[(job, 1, "running", 2)])
    assert play.has_effect(m.SignalAttempt, job=job, number=1, action="kill")
    assert cpus_free(play) == 0
    assert play.why(other) == "n is busy: 0 CPUs free, and the job needs 2."
    is_gone(play, job)
    assert play.nodes_of(job) == ["n", "n"]
    assert cpus_free(play) == 0


def test_a_job_does_not_start_again_while_a_run_of_it_is_known_to_live(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    loses(play, "n")
    play.joins("n", held=[(job, 1, "running", 1)])
    play.joins("other")
    assert play.status(job) == "runnable"
    assert play.why(job) == "Its previous run is still being stopped."
    is_gone(play, job)
    assert play.status(job) == "running"


def test_a_job_that_runs_elsewhere_by_now_goes_on_there(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.disconnects("n")
    play.joins("other")
    for _ in range(3):
        play.later(minutes=4)
        play.beats("other")
    play.joins("n", held=[(job, 1, "running", 1)])
    play.ends(job, number=2)
    assert play.status(job) == "succeeded"
    assert cpus_free(play) == 0
    assert job in play.farm.jobs
    is_gone(play, job)
    assert cpus_free(play) == 1
    assert job not in play.farm.jobs


def test_a_run_of_a_job_that_is_not_in_memory_keeps_the_cpus_that_its_node_tells(
    play: Play,
) -> None:
    play.joins("n", cpus=4, held=[(77, 3, "running", 3), (78, 1, "ended", 0)])
    assert cpus_free(play) == 1
    is_gone(play, 77, 3)
    assert cpus_free(play) == 4


def test_what_an_agent_does_not_tell_the_end_of_keeps_nothing(play: Play) -> None:
    play.joins("n", held=[(77, 3, "running")])
    assert play.has_effect(m.SignalAttempt, job=77, action="kill")
    assert cpus_free(play) == 1


def test_a_run_of_a_deleted_job_keeps_its_room_also_after_a_new_start(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.cancel(job)
    play.delete(job)
    assert cpus_free(play) == 0
    play.restarts()
    play.joins("n", held=[(job, 1, "running", 1)])
    assert cpus_free(play) == 0
    is_gone(play, job)
    assert cpus_free(play) == 1


def test_a_run_cancelled_while_its_node_was_away_keeps_its_room_when_that_is_back(
    play: Play,
) -> None:
    play.joins("n")
    job = play.submit()
    play.disconnects("n")
    play.later(minutes=5)
    play.cancel(job)
    assert play.attempts[(job, 1)].cause is AttemptCause.FENCED
    play.joins("n", held=[(job, 1, "running", 1)])
    assert cpus_free(play) == 0
    is_gone(play, job)
    assert cpus_free(play) == 1


def test_a_run_on_a_removed_node_keeps_its_room_when_that_joins_again(play: Play) -> None:
    node = play.joins("n")
    job = play.submit()
    play.send(m.RemoveNodes((node,)))
    play.later(minutes=10)
    play.joins("n", held=[(job, 1, "running", 1)])
    assert cpus_free(play) == 0


@pytest.mark.parametrize("action", ["eject", "cancel"])
def test_a_run_that_is_being_stopped_keeps_its_room_until_it_has_ended(
    play: Play, action: str
) -> None:
    play.joins("n", cpus=2)
    job = play.submit(cpus=2)
    getattr(play, action)(job)
    assert cpus_free(play) == 0
    play.disconnects("n")
    play.joins("n", cpus=2, held=[(job, 1, "running", 2)])
    assert cpus_free(play) == 0
    waiting = play.submit(cpus=2, priority=1)
    assert play.status(waiting) == "runnable"
    play.ends(job, None, AttemptCause("cancelled" if action == "cancel" else "ejected"))
    assert play.status(waiting) == "running"


@pytest.mark.parametrize("minutes", [4, 5])
def test_a_node_that_goes_away_again_is_asked_anew_what_it_has(play: Play, minutes: int) -> None:
    play.joins("n", cpus=2, held=[(77, 3, "running", 1), (78, 1, "running", 1)])
    play.disconnects("n")
    play.later(minutes=minutes)
    assert cpus_free(play) == (0 if minutes < 5 else 2)
    play.joins("n", cpus=2, held=[(78, 1, "running", 1)])
    assert cpus_free(play) == 1
    is_gone(play, 77, 3)
    assert cpus_free(play) == 1


def test_a_job_whose_stray_was_lost_again_may_start(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    loses(play, "n")
    play.joins("n", held=[(job, 1, "running", 1)])
    play.disconnects("n")
    play.later(minutes=5)
    play.joins("other")
    assert play.nodes_of(job) == ["n", "other"]


def test_a_job_that_wants_a_machine_for_itself_waits_for_strays(play: Play) -> None:
    play.joins("n", cpus=2, held=[(77, 3, "running", 1)])
    job = play.submit(tags=["single"])
    assert play.status(job) == "runnable"
    is_gone(play, 77, 3)
    assert play.status(job) == "running"


def test_a_stray_that_has_its_machine_for_itself_keeps_all_of_it(play: Play) -> None:
    play.joins("n", cpus=2)
    job = play.submit(tags=["single"])
    loses(play, "n")
    play.joins("n", cpus=2, held=[(job, 1, "running", 1)])
    waiting = play.submit()
    assert play.status(waiting) == "runnable"
    is_gone(play, job)
    assert play.status(job) == "running"


def test_a_stray_has_no_resources_for_others_have_them_by_now(play: Play) -> None:
    play.resource("licence", 1)
    play.joins("n")
    job = play.submit(resources={"licence": 1})
    loses(play, "n")
    assert play.in_use("licence") == 0
    play.joins("n", held=[(job, 1, "running", 1)])
    assert play.in_use("licence") == 0


def test_only_the_node_that_has_a_stray_tells_its_end(play: Play) -> None:
    play.joins("n", held=[(77, 3, "running", 1)])
    play.joins("other")
    is_gone(play, 77, 3, node="other")
    play.reports("n", m.AttemptStarted(JobId(77), 3))
    assert cpus_free(play) == 0
    is_gone(play, 77, 3)
    is_gone(play, 77, 3)
    assert cpus_free(play) == 1


def test_what_waits_behind_a_stray_is_asked_back(play: Play) -> None:
    play.joins("n")
    short = play.submit()
    play.ends(short, ran_ms=1)
    blocker, stuck = play.submit(*({"name": "job", "command": "true"},) * 2)
    assert play.nodes_of(stuck) == ["n"]
    play.starts(blocker)
    play.disconnects("n")
    play.later(minutes=5)
    play.delete(blocker)  # as it was abandoned
    play.joins("n", held=[(blocker, 1, "running", 1), (stuck, 1, "running", 1)])
    play.later(ms=RECALL_AFTER_MS)
    assert play.recalled == [stuck]
    play.ends(stuck, None, AttemptCause.EJECTED)
    assert play.status(stuck) == "runnable"
    is_gone(play, blocker)
    assert play.status(stuck) == "running"


def test_a_run_that_two_nodes_tell_of_is_the_latter_ones(play: Play) -> None:
    """As when an agent is started under another name."""
    play.joins("n", cpus=2)
    job = play.submit()
    loses(play, "n")
    play.joins("n", cpus=2, held=[(job, 1, "running", 1)])
    play.joins("other", cpus=2, held=[(job, 1, "running", 1)])
    assert (cpus_free(play, "n"), cpus_free(play, "other")) == (2, 1)
    assert play.status(job) == "runnable"
    play.disconnects("n")
    play.later(minutes=5)
    play.disconnects("other")
    play.later(minutes=5)
    play.joins("third")
    assert play.nodes_of(job) == ["n", "third"]
