"""Work given ahead: a node gets more short jobs than it has CPUs, and gives back what waits."""

from __future__ import annotations

from typing import Any

import pytest
from play import Play

from roost.core import messages as m
from roost.core import placement
from roost.core.placement import BACKLOG_JOBS_PER_CPU_MAX, BACKLOG_MS, STRETCH_MS
from roost.core.records import AttemptCause, Moment
from roost.core.state import RECALL_AFTER_MS


def a_farm_that_knows_its_jobs_are_short(ran_ms: int = 1, **spec: Any) -> Play:
    play = Play()
    play.joins("n", cpus=1)
    first = play.submit(**spec)
    report = m.AttemptEnded(first, 1, AttemptCause.EXITED, 0, ran_ms=ran_ms)
    play.reports("n", report)
    return play


def running(play: Play, jobs: list[int]) -> list[int]:
    return [job for job in jobs if play.status(job) == "running"]


def test_nothing_is_given_ahead_while_nobody_knows_how_long_jobs_take() -> None:
    play = Play()
    play.joins("n", cpus=1)
    jobs = [play.submit() for _ in range(5)]
    assert running(play, jobs) == jobs[:1]


def test_short_jobs_are_given_ahead_up_to_a_bound() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    jobs = [play.submit() for _ in range(BACKLOG_JOBS_PER_CPU_MAX + 10)]
    assert running(play, jobs) == jobs[: BACKLOG_JOBS_PER_CPU_MAX + 1]
    assert "0 CPUs free" in play.why(jobs[-1])


def test_a_start_that_was_not_reported_is_told_by_the_end() -> None:
    play = Play()
    play.joins("n", cpus=1)
    job = play.submit()
    play.later(ms=500)
    play.reports("n", m.AttemptEnded(job, 1, AttemptCause.EXITED, 1, ran_ms=200, started=True))
    ended = play.job(job)
    assert ended.command_ended_at - ended.command_started_at == 200


def test_long_jobs_are_never_given_ahead() -> None:
    play = a_farm_that_knows_its_jobs_are_short(ran_ms=60_000)
    jobs = [play.submit() for _ in range(5)]
    assert running(play, jobs) == jobs[:1]


def test_the_pace_of_a_kind_is_forgotten_once_enough_others_have_come_and_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "IDLE_KINDS_MAX", 2)
    play = a_farm_that_knows_its_jobs_are_short()
    for others, ahead in ((1, True), (2, False)):
        for number in range(others):
            play.ends(play.submit(command="x", conditions=[other_host(number)]))
        jobs = [play.submit() for _ in range(3)]
        assert (running(play, jobs) == jobs) is ahead
        while play.farm.attempts:
            play.ends(next(iter(play.farm.attempts))[0])


def other_host(number: int) -> dict[str, str]:
    return {"type": "client", "name": "hostname", "op": "!=", "value": f"other{number}"}


def test_an_idle_node_comes_before_the_backlog_of_a_busy_one() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    play.submit()
    play.joins("idle", cpus=1)
    assert play.nodes_of(play.submit()) == ["idle"]


def test_a_job_that_wants_the_machine_for_itself_is_not_given_ahead() -> None:
    play = a_farm_that_knows_its_jobs_are_short(tags=["single"])
    jobs = [play.submit(tags=["single"]) for _ in range(3)]
    assert running(play, jobs) == jobs[:1]


def test_what_could_not_start_in_time_is_recalled_and_placed_elsewhere() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    blocker, stuck = play.submit(), play.submit()
    play.reports("n", m.AttemptStarted(blocker, 1))
    play.joins("other", cpus=1)
    play.later(ms=RECALL_AFTER_MS)
    assert play.recalled == [stuck]
    play.ends(stuck, None, AttemptCause.EJECTED)
    assert play.nodes_of(stuck) == ["n", "other"]
    assert "ejected" not in play.story(stuck)


def gives_ahead(play: Play, count: int) -> list[int]:
    """What its node was given, the first to start first."""
    jobs: list[int] = play.submit(*[{"name": "job", "command": "true"}] * count)
    assert running(play, jobs) == jobs
    return jobs


@pytest.mark.parametrize("told_ms", [0, RECALL_AFTER_MS - 1, 2 * RECALL_AFTER_MS])
def test_a_job_waits_for_a_second_behind_a_long_one_or_until_that_is_known(told_ms: int) -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    blocker, stuck = gives_ahead(play, 2)
    play.later(ms=told_ms)
    assert play.recalled == []
    play.starts(blocker)
    play.later(ms=max(RECALL_AFTER_MS - told_ms, 0))
    assert play.recalled == [stuck]


def test_what_waits_behind_nobody_that_is_known_to_run_is_left_alone() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    gives_ahead(play, 5)
    play.later(ms=10 * RECALL_AFTER_MS)
    assert play.recalled == []


def test_a_node_is_not_blamed_for_what_the_server_has_not_heard_yet() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    blocker, stuck = gives_ahead(play, 2)
    play.starts(blocker)
    due = Moment(play.now + RECALL_AFTER_MS)
    play.now = Moment(due + 10 * RECALL_AFTER_MS)
    assert not play.farm.handle(m.Tick(heard=Moment(due - 1)), play.now).effects
    play.send(m.Tick(heard=due))
    assert play.recalled == [stuck]


def test_a_line_that_moves_is_left_alone() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    for job in gives_ahead(play, 10):
        play.later(ms=RECALL_AFTER_MS - 1)
        play.ends(job, ran_ms=1)
    assert play.recalled == []


def test_a_node_keeps_what_it_may_have_ahead_for_the_cpus_that_are_left() -> None:
    play = a_farm_that_knows_its_jobs_are_short(ran_ms=50)  # three ahead for each CPU
    play.disconnects("n")
    play.joins("two", cpus=2)
    jobs = gives_ahead(play, 8)
    play.starts(jobs[0])
    play.later(ms=RECALL_AFTER_MS)
    assert play.recalled == jobs[5:]


def test_what_was_given_ahead_is_asked_back_when_its_kind_has_become_long() -> None:
    play = a_farm_that_knows_its_jobs_are_short(ran_ms=10)
    jobs = gives_ahead(play, 10)
    play.later(ms=900)
    play.ends(jobs[0], ran_ms=900)  # one ahead would be enough now
    play.later(ms=100)
    assert play.recalled == jobs[3:]


def test_a_job_is_asked_back_once_for_each_time_its_node_joins() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    blocker, stuck = gives_ahead(play, 2)
    play.starts(blocker)
    play.later(ms=10 * RECALL_AFTER_MS)
    assert play.recalled == [stuck]
    play.disconnects("n")
    play.joins("n", held=[(blocker, 1, "running"), (stuck, 1, "running")])
    play.later(ms=10 * RECALL_AFTER_MS)
    assert play.recalled == [stuck, stuck]


def test_what_is_stuck_when_the_server_starts_anew_is_asked_back() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    blocker, stuck = gives_ahead(play, 2)
    play.starts(blocker)
    play.restarts()
    play.joins("n", held=[(blocker, 1, "running"), (stuck, 1, "running")])
    play.later(ms=RECALL_AFTER_MS)
    assert play.recalled == [stuck]


def test_nothing_more_is_given_ahead_behind_a_job_that_kept_others_waiting() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    blocker, stuck = gives_ahead(play, 2)
    play.starts(blocker)
    play.later(ms=RECALL_AFTER_MS)
    play.ends(stuck, None, AttemptCause.EJECTED)
    assert play.status(stuck) == "runnable"
    play.ends(blocker)
    assert play.status(stuck) == "running"


def test_short_jobs_are_given_ahead_in_stretches() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    play.joins("other", cpus=1)
    in_a_row = BACKLOG_JOBS_PER_CPU_MAX * STRETCH_MS // BACKLOG_MS
    given = [play.nodes_of(job)[-1] for job in gives_ahead(play, 2 + 2 * in_a_row)]
    assert given == ["n", "other"] + ["n"] * in_a_row + ["other"] * in_a_row


def test_a_job_paused_before_it_started_is_paused_without_a_node() -> None:
    play = a_farm_that_knows_its_jobs_are_short()
    play.submit()
    waiting = play.submit()
    play.pause(waiting)
    assert play.status(waiting) == "pausing"
    play.ends(waiting, None, AttemptCause.EJECTED)
    assert play.status(waiting) == "paused"
    play.resume(waiting)
    assert play.status(waiting) == "running"
