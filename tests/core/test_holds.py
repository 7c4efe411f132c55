"""Nodes held for jobs that want several, or much of one, and who may use their room meanwhile."""

from __future__ import annotations

from play import Play

from roost.core import messages as m


def test_room_that_is_left_where_a_hold_was_pushed_out_goes_to_others(play: Play) -> None:
    play.joins("a", cpus=4)
    play.joins("b", cpus=4)
    busy = play.submit(host="b", cpus=4)
    wide = play.submit(cpus=4, minHosts=2)
    other = play.submit(host="a", cpus=3)
    assert list(play.farm.floor.holds[wide]) == [play.node_ids["a"]]
    assert play.status(other) == "runnable"
    better = play.submit(host="a", cpus=1, priority=5)
    play.later(ms=1)
    assert [play.status(job) for job in (busy, better, other)] == ["running"] * 3
    assert play.status(wide) == "runnable"


# --- much of one machine --------------------------------------------------------------------------


def test_a_machine_empties_for_a_job_that_wants_it_for_itself(play: Play) -> None:
    play.joins("n", cpus=2)
    first = play.submit()
    single = play.submit(tags=["single"])
    late = play.submit()
    assert play.status(late) == "runnable"
    assert play.why(late) == "n is kept for a job that comes first and wants it for itself."
    play.ends(first)
    assert (play.status(single), play.status(late)) == ("running", "runnable")


def test_a_large_job_is_not_overtaken_for_ever_by_small_ones(play: Play) -> None:
    play.joins("n", cpus=4)
    small = [play.submit() for _ in range(4)]
    large = play.submit(cpus=4)
    later = [play.submit() for _ in range(4)]
    for job in small:
        assert play.status(large) == "runnable"
        play.ends(job)
    assert play.status(large) == "running"
    assert {play.status(job) for job in later} == {"runnable"}
    assert play.why(later[0]) == "n is busy: 0 CPUs free, and the job needs 1."


def test_what_a_waiting_job_will_leave_free_is_used_meanwhile(play: Play) -> None:
    play.joins("n", cpus=4)
    long = play.submit(cpus=3)
    wants_two = play.submit(cpus=2)
    beside = play.submit(cpus=1)
    assert (play.status(wants_two), play.status(beside)) == ("runnable", "running")
    play.ends(long)
    assert play.status(wants_two) == "running"


def test_small_jobs_together_never_take_what_a_waiting_one_needs(play: Play) -> None:
    play.joins("n", cpus=4)
    first = [play.submit() for _ in range(4)]
    wants_three = play.submit(cpus=3)
    later = [play.submit() for _ in range(4)]
    play.ends(first[0])
    assert [play.status(job) for job in later] == ["running"] + ["runnable"] * 3
    assert play.why(later[1]) == "n is busy: 0 CPUs free, and the job needs 1."
    play.ends(later[0])
    play.ends(first[1])
    play.ends(first[2])
    assert play.status(wants_three) == "runnable"
    assert [play.status(job) for job in later[1:]] == ["running"] + ["runnable"] * 2
    assert play.why(later[2]) == "n has room that is kept for a job that comes first."
    play.ends(first[3])
    assert play.status(wants_three) == "running"


def test_one_machine_only_is_kept_for_jobs_that_want_the_same(play: Play) -> None:
    for name in "ab":
        play.joins(name, cpus=2)
    first = [play.submit() for _ in range(2)]
    singles = [play.submit(tags=["single"]) for _ in range(3)]
    late = play.submit()
    assert len(play.farm.floor.holds) == 1
    assert play.status(late) == "running"
    better = play.submit(tags=["single"], priority=9)
    assert list(play.farm.floor.holds) == [better]
    for job in (*first, late):
        play.ends(job)
    assert play.status(better) == "running"
    assert [play.status(job) for job in singles] == ["running", "runnable", "runnable"]


def test_another_machine_is_kept_when_the_first_may_no_longer_be_used(play: Play) -> None:
    for name in "ab":
        play.joins(name, cpus=2)
    runs = {name: [play.submit(host=name), play.submit(host=name)] for name in "ab"}
    large = play.submit(cpus=2)
    (held,) = play.farm.floor.holds[large]
    play.send(m.SetNodesDisabled((held,), True))
    assert large not in play.farm.floor.holds
    (other,) = set(play.node_ids) - {play.farm.nodes[held].facts.hostname}
    late = play.submit()
    play.ends(runs[other][0])
    assert list(play.farm.floor.holds[large]) == [play.node_ids[other]]
    assert play.status(late) == "runnable"


def test_a_better_job_uses_the_room_that_is_kept_and_the_machine_stays_kept(play: Play) -> None:
    play.joins("n", cpus=2)
    first = [play.submit() for _ in range(2)]
    large = play.submit(cpus=2)
    better = play.submit(priority=5)
    play.ends(first[0])
    assert play.status(better) == "running"
    assert large in play.farm.floor.holds
    play.ends(first[1])
    play.ends(better)
    assert play.status(large) == "running"
