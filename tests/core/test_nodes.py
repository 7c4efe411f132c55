"""What machines report, and what their silence means (decisions 32 to 34)."""

from __future__ import annotations

import pytest
from play import Play

from roost.core import messages as m
from roost.core.records import AttemptCause, JobId, Moment, NodeId
from roost.errors import Conflict, NotFound

# --- silence ------------------------------------------------------------------------------------


def test_beats_keep_a_node_active(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    for _ in range(4):
        play.later(minutes=4)
        play.beats("n")
    assert play.status(job) == "running"


def test_a_gone_node_has_its_job_run_elsewhere_exactly_once(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.disconnects("n")
    play.joins("other")
    for _ in range(5):
        play.later(minutes=4)
        play.beats("other")
    assert play.nodes_of(job) == ["n", "other"]
    assert play.attempts[(job, 1)].cause is AttemptCause.FENCED
    assert play.status(job) == "running"


def test_without_requeueing_an_abandoned_job_waits_for_people() -> None:
    play = Play(requeue_after_gone_ms=0)
    play.joins("n")
    job = play.submit()
    play.disconnects("n")
    play.later(minutes=60)
    assert play.status(job) == "abandoned"


def test_a_paused_job_is_abandoned_with_its_node_and_comes_back_paused(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.pause(job)
    play.pauses(job)
    play.disconnects("n")
    play.later(minutes=5)
    assert play.status(job) == "abandoned"
    play.joins("n", held=[(job, 1, "paused")])
    assert play.status(job) == "paused"


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_paused_job_whose_node_is_gone_runs_nowhere_before_it_is_resumed(
    play: Play, confirmed: bool
) -> None:
    play.joins("n")
    job = play.submit()
    play.starts(job)
    play.pause(job)
    if confirmed:
        play.pauses(job)
    play.disconnects("n")
    play.later(minutes=5)
    assert play.status(job) == "abandoned"
    play.restarts()
    play.later(minutes=10)
    play.joins("other")
    assert (play.status(job), play.nodes_of(job)) == ("paused", ["n"])
    play.resume(job)
    assert (play.status(job), play.nodes_of(job)) == ("running", ["n", "other"])


def is_abandoned(play: Play) -> JobId:
    play.joins("n")
    job: JobId = play.submit()
    play.starts(job)
    play.disconnects("n")
    play.later(minutes=5)
    assert play.status(job) == "abandoned"
    return job


def test_an_abandoned_job_that_is_paused_runs_nowhere_else(play: Play) -> None:
    job = is_abandoned(play)
    play.pause(job)
    assert play.status(job) == "abandoned"
    play.later(minutes=5)
    play.joins("other")
    assert (play.status(job), play.nodes_of(job)) == ("paused", ["n"])


def test_an_abandoned_job_that_is_paused_and_resumed_runs_elsewhere(play: Play) -> None:
    job = is_abandoned(play)
    play.pause(job)
    play.resume(job)
    play.later(minutes=5)
    play.joins("other")
    assert (play.status(job), play.nodes_of(job)) == ("running", ["n", "other"])


def test_a_node_that_is_back_is_told_what_was_asked_while_it_was_away(play: Play) -> None:
    job = is_abandoned(play)
    play.pause(job)
    play.joins("n", held=[(job, 1, "running")])
    assert play.status(job) == "paused"
    assert play.has_effect(m.SignalAttempt, job=job, action="pause")
    play.disconnects("n")
    play.later(minutes=5)
    play.resume(job)
    play.joins("n", held=[(job, 1, "paused")])
    assert play.status(job) == "running"
    assert play.has_effect(m.SignalAttempt, job=job, action="resume")


def test_an_ejected_job_runs_elsewhere_also_when_it_was_paused_and_its_node_is_gone(
    play: Play,
) -> None:
    play.joins("n")
    job = play.submit()
    play.pause(job)
    play.pauses(job)
    play.eject(job)
    play.disconnects("n")
    play.later(minutes=10)
    play.joins("other")
    assert (play.status(job), play.nodes_of(job)) == ("running", ["n", "other"])


def test_a_run_that_its_node_had_started_and_does_not_know_any_more_is_lost(play: Play) -> None:
    """As after a loss of power. The same run is not begun anew: it has output already."""
    play.joins("n")
    job = play.submit()
    play.starts(job)
    play.disconnects("n")
    play.joins("n")
    assert play.started == [(job, 1, "n"), (job, 2, "n")]
    assert play.attempts[job, 1].cause is AttemptCause.LOST
    assert "its node knows nothing of it any more" in [event.message for event in play.events]


def sleeps(play: Play, *, hours: float) -> None:
    """The server does, or its clock is set."""
    play.now = Moment(play.now + int(hours * 3_600_000))
    play.send(m.Tick())


def test_a_server_that_was_asleep_counts_silence_anew(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    sleeps(play, hours=8)
    assert play.status(job) == "running"
    play.later(minutes=4)
    assert play.status(job) == "running"
    play.later(minutes=1)
    assert play.status(job) == "abandoned"
    play.later(minutes=4)
    sleeps(play, hours=8)
    play.later(minutes=4)
    assert play.status(job) == "abandoned"
    play.later(minutes=1)
    assert play.status(job) == "runnable"


def test_availability_is_looked_at_by_a_server_that_was_asleep(play: Play) -> None:
    play.joins("n")
    play.rules("n", "any 00:00-00:20")
    sleeps(play, hours=1)
    play.beats("n")
    job = play.submit()
    assert play.status(job) == "runnable"


def test_nothing_is_placed_on_a_node_that_is_not_connected(play: Play) -> None:
    play.joins("n")
    play.disconnects("n")
    job = play.submit()
    assert play.status(job) == "runnable"
    assert play.why(job) == "n is not connected at the moment."


def test_the_room_of_a_stopped_run_is_free_when_its_node_is_gone(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.cancel(job)
    play.disconnects("n")
    play.later(minutes=5)
    assert not play.farm.attempts
    assert play.attempts[(job, 1)].cause is AttemptCause.FENCED


# --- coming back --------------------------------------------------------------------------------


def test_an_order_that_was_lost_is_repeated(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.joins("n")
    assert play.has_effect(m.StartAttempt)
    assert play.job(job).attempt == 1


def test_a_wish_that_was_lost_is_repeated(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.pause(job)
    play.joins("n", held=[(job, 1, "running")])
    assert play.has_effect(m.SignalAttempt, job=job, action="pause")


def test_a_run_to_be_stopped_is_told_again(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.cancel(job)
    play.joins("n", held=[(job, 1, "running")])
    assert play.has_effect(m.SignalAttempt, job=job, action="cancel")


def test_a_stopped_run_that_never_began_is_over(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.cancel(job)
    play.joins("n")
    assert not play.farm.attempts
    assert play.attempts[(job, 1)].cause is AttemptCause.CANCELLED


def test_a_node_is_told_to_kill_what_nobody_knows(play: Play) -> None:
    play.joins("n", held=[(77, 3, "running"), (78, 1, "ended")])
    assert play.has_effect(m.SignalAttempt, job=77, number=3, action="kill")
    assert not play.has_effect(m.SignalAttempt, job=78)


def test_a_fenced_run_that_comes_back_is_killed_and_its_report_changes_nothing(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.disconnects("n")
    play.later(minutes=10)
    assert play.status(job) == "runnable"
    play.joins("n", held=[(job, 1, "running")])
    assert play.has_effect(m.SignalAttempt, job=job, number=1, action="kill")
    assert play.job(job).attempt == 2
    play.ends(job, 0, number=1)
    assert play.status(job) == "running"


def test_a_report_from_another_node_changes_nothing(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.joins("other")
    play.reports("other", m.AttemptEnded(job, 1, AttemptCause.EXITED, 0))
    assert play.status(job) == "running"


def test_a_repeated_report_changes_nothing(play: Play) -> None:
    play.joins("n")
    job = play.submit(triesLeft=2)
    play.ends(job, 1, number=1)
    play.ends(job, 1, number=1)
    assert play.job(job).tries_left == 1
    assert play.status(job) == "running"


def test_a_server_that_was_down_gives_every_node_a_full_timeout(play: Play) -> None:
    play.joins("n")
    job = play.submit()
    play.now += 60 * 60_000
    play.restarts()
    play.later(minutes=4)
    assert play.status(job) == "running"
    play.later(minutes=1)
    assert play.status(job) == "abandoned"


def test_a_leaving_node_gets_a_full_timeout_too_and_ends_what_it_runs(play: Play) -> None:
    node = play.joins("n")
    job = play.submit()
    play.send(m.NodeLeft(node))
    play.joins("other")
    play.now += 60 * 60_000
    play.restarts()
    assert play.status(job) == "running"
    play.later(minutes=5)
    assert play.status(job) == "abandoned"
    play.later(minutes=5)
    assert play.attempts[(job, 1)].cause is AttemptCause.FENCED


def test_a_node_that_was_silent_before_the_server_went_down_may_still_come_back(
    play: Play,
) -> None:
    play.joins("n")
    job = play.submit()
    play.disconnects("n")
    play.later(minutes=6)
    play.now += 60 * 60_000
    play.restarts()
    play.later(minutes=4)
    assert play.status(job) == "abandoned"
    play.joins("n", held=[(job, 1, "running")])
    assert play.status(job) == "running"


def test_what_one_system_ran_is_lost_when_the_node_is_back_with_another_one(play: Play) -> None:
    play.joins("n")
    job = play.submit(command={"linux": "x"})
    play.disconnects("n")
    play.joins("n", platform="windows-x86_64")
    assert play.attempts[(job, 1)].cause is AttemptCause.LOST
    assert "has a command for linux only" in play.why(job)


# --- two agents of one name ---------------------------------------------------------------------


def test_a_second_agent_is_refused_while_the_first_is_connected(play: Play) -> None:
    play.joins("n")
    with pytest.raises(Conflict, match="Another agent is connected as n"):
        play.joins("N", installation="copy")


def test_a_second_agent_is_refused_while_the_first_has_jobs_and_may_return(play: Play) -> None:
    play.joins("n")
    play.submit()
    play.disconnects("n")
    with pytest.raises(Conflict, match="still has jobs"):
        play.joins("n", installation="copy")


def test_a_machine_installed_anew_loses_its_runs_and_they_start_again(play: Play) -> None:
    node = play.joins("n")
    job = play.submit()
    play.disconnects("n")
    play.later(minutes=5)
    assert play.joins("n", installation="anew") == node
    assert play.attempts[(job, 1)].cause is AttemptCause.LOST
    assert play.nodes_of(job) == ["n", "n"]


def test_a_silent_node_keeps_its_name_from_nobody(play: Play) -> None:
    node = play.joins("n")
    play.later(minutes=5)
    assert play.joins("n", installation="anew") == node


def test_agents_with_different_names_share_a_machine(play: Play) -> None:
    assert play.joins("n") != play.joins("n", name="two")


def test_progress_that_beats_tell_is_saved_every_two_seconds_for_all_jobs_together(
    play: Play,
) -> None:
    play.joins("a")
    play.joins("b")
    one, other = play.submit({"name": "a", "command": "x"}, {"name": "b", "command": "x"})
    hosts = {job: play.nodes_of(job)[0] for job in (one, other)}
    play.beats(hosts[one], (one, 1, 100_000))
    assert play.records[one][0].progress == 100_000
    play.beats(hosts[one], (one, 1, 200_000))
    play.beats(hosts[other], (other, 1, 300_000))
    assert [play.records[job][0].progress for job in (one, other)] == [100_000, 0]
    assert [play.farm.jobs[job].progress for job in (one, other)] == [200_000, 300_000]
    assert play.farm.next_wakeup() == play.now + 2_000
    play.later(ms=2_000)
    assert [play.records[job][0].progress for job in (one, other)] == [200_000, 300_000]


# --- people -------------------------------------------------------------------------------------


def test_a_disabled_node_finishes_what_runs_and_gets_nothing_new(play: Play) -> None:
    node = play.joins("n")
    first, second = play.submit({"name": "a", "command": "x"}, {"name": "b", "command": "x"})
    play.send(m.SetNodesDisabled((node,), True))
    play.ends(first)
    assert play.why(second) == "n is disabled."
    play.send(m.SetNodesDisabled((node,), False))
    assert play.status(second) == "running"


def test_a_removed_node_abandons_its_jobs_and_is_not_listed(play: Play) -> None:
    node = play.joins("n")
    job = play.submit()
    play.send(m.RemoveNodes((node,)))
    assert play.status(job) == "abandoned"
    assert play.has_effect(m.DropNode, node=node)
    with pytest.raises(NotFound):
        play.send(m.RemoveNodes((node,)))


def test_an_unknown_node_is_not_found(play: Play) -> None:
    with pytest.raises(NotFound):
        play.send(m.SetNodesDisabled((NodeId(9),), True))


def test_a_paused_job_that_a_leaving_node_cancels_takes_what_is_below_along(play: Play) -> None:
    play.joins("a")
    job = play.submit()
    child = play.submit(parent=job, cpus=9)
    play.pause(job)
    play.pauses(job)
    play.send(m.NodeLeft(play.node_ids["a"]))
    assert [play.status(one) for one in (job, child)] == ["cancelled"] * 2


def test_a_leaving_node_finishes_what_runs_and_cancels_what_is_paused(play: Play) -> None:
    node = play.joins("n", cpus=2)
    running, paused = play.submit({"name": "a", "command": "x"}, {"name": "b", "command": "x"})
    play.pause(paused)
    play.pauses(paused)
    play.send(m.NodeLeft(node))
    assert (play.status(running), play.status(paused)) == ("running", "cancelled")
    waiting = play.submit()
    play.ends(running)
    assert play.status(running) == "succeeded"
    assert play.status(waiting) == "runnable"


# --- tries and progress -------------------------------------------------------------------------


def test_only_failures_use_up_tries(play: Play) -> None:
    play.joins("n")
    job = play.submit(triesLeft=1)
    play.ends(job, -9, AttemptCause.EJECTED)
    play.ends(job, None, AttemptCause.LOST)
    assert play.job(job).tries_left == 1
    play.fails(job)
    assert (play.status(job), play.job(job).tries_left) == ("running", 0)
    play.fails(job)
    assert play.status(job) == "failed"
    assert play.job(job).attempt == 4


def test_the_order_tells_whether_it_is_the_last_try(play: Play) -> None:
    play.joins("n")
    job = play.submit(triesLeft=1)
    assert not play.effects[-1].order.last_try
    play.fails(job)
    assert play.effects[-1].order.last_try


def test_progress_never_goes_back_except_on_a_new_run(play: Play) -> None:
    play.joins("n")
    job = play.submit(triesLeft=1)
    play.beats("n", (job, 1, 600_000))
    play.beats("n", (job, 1, 500_000))
    assert play.job(job).progress == 600_000
    play.fails(job)
    assert play.job(job).progress == 0
    play.beats("n", (job, 1, 700_000))
    assert play.job(job).progress == 0


def test_the_order_names_the_job_its_root_and_its_hosts(play: Play) -> None:
    play.joins("a")
    play.joins("b")
    _, job = play.submit({"name": "p", "children": [{"name": "c", "command": "x", "minHosts": 2}]})
    environment = play.effects[-1].order.environment
    assert environment == {"JOBID": str(job), "ROOTJOBID": "1", "HQHOSTS": "a,b"}
