"""Resources: how much there is, who may take it, and what a waiting job says."""

from __future__ import annotations

import pytest
from play import Play

from roost.core import messages as m
from roost.errors import Conflict, Invalid, NotFound

NUKE = {"nuke": 1}


# --- per job ------------------------------------------------------------------------------------


def test_each_job_takes_the_amount_it_asks_for(play: Play) -> None:
    play.joins("a", cpus=8)
    play.resource("nuke", 4)
    first = play.submit(resources={"nuke": 3})
    second = play.submit(resources={"nuke": 2})
    third = play.submit(resources=NUKE)
    assert [play.status(job) for job in (first, second, third)] == [
        "running",
        "runnable",
        "running",
    ]
    assert play.in_use("nuke") == 4
    assert play.why(second) == "It needs 2 of nuke, and 0 of 4 are free."
    play.ends(third)
    assert play.why(second) == "It needs 2 of nuke, and 1 of 4 is free."
    play.ends(first)
    assert play.status(second) == "running"
    assert play.in_use("nuke") == 2


def test_what_comes_free_on_one_node_serves_a_job_on_another(play: Play) -> None:
    play.joins("a")
    play.joins("b")
    play.resource("nuke", 1)
    first = play.submit(host="a", resources=NUKE)
    second = play.submit(host="b", resources=NUKE)
    assert play.status(second) == "runnable"
    play.ends(first)
    assert play.nodes_of(second) == ["b"]


def test_a_job_that_is_being_stopped_keeps_its_resources(play: Play) -> None:
    play.joins("a", cpus=2)
    play.resource("nuke", 1)
    first, second = play.submit(resources=NUKE), play.submit(resources=NUKE)
    play.cancel(first)
    assert play.status(second) == "runnable"
    play.ends(first)
    assert play.status(second) == "running"


def test_a_job_for_several_hosts_takes_its_amount_once(play: Play) -> None:
    play.joins("a")
    play.joins("b")
    play.resource("nuke", 1)
    job = play.submit(minHosts=2, resources=NUKE)
    assert play.status(job) == "running"
    assert play.in_use("nuke") == 1


def test_a_job_that_needs_0_of_something_needs_nothing(play: Play) -> None:
    play.joins("a")
    assert play.status(play.submit(resources={"hats": 0})) == "running"


# --- per machine --------------------------------------------------------------------------------


def test_one_unit_serves_all_jobs_on_a_machine(play: Play) -> None:
    play.joins("a", cpus=2)
    play.joins("b", cpus=2)
    play.resource("houdini", 1, per_machine=True)
    jobs = [play.submit(resources={"houdini": 5}) for _ in range(3)]
    assert [play.nodes_of(job) for job in jobs] == [["a"], ["a"], []]
    assert play.in_use("houdini") == 1
    assert "b would need 1 of houdini, and 0 of 1 are free." in play.why(jobs[2])
    play.ends(jobs[0])
    assert play.nodes_of(jobs[2]) == ["a"]


def test_the_unit_is_free_when_the_last_job_on_the_machine_has_ended(play: Play) -> None:
    play.joins("a", cpus=2)
    play.joins("b")
    play.resource("houdini", 1, per_machine=True)
    jobs = [play.submit(host="a", resources={"houdini": 1}) for _ in range(2)]
    other = play.submit(host="b", resources={"houdini": 1})
    play.ends(jobs[0])
    assert play.status(other) == "runnable"
    play.ends(jobs[1])
    assert play.status(other) == "running"


def test_a_job_for_several_hosts_takes_a_unit_for_each(play: Play) -> None:
    for name in "abc":
        play.joins(name)
    play.resource("houdini", 2, per_machine=True)
    wide = play.submit(minHosts=3, resources={"houdini": 1})
    assert play.why(wide) == (
        "It needs 3 machines at once, and what is free of its resources serves 2."
    )
    assert not play.farm.floor.holds
    some = play.submit(minHosts=1, maxHosts=3, resources={"houdini": 1})
    assert len(play.job(some).nodes) == 2
    play.ends(some)
    play.resource("houdini", 3, per_machine=True)
    assert play.status(wide) == "running"
    assert play.in_use("houdini") == 3


def test_a_job_keeps_no_machine_once_another_has_taken_what_it_needs(play: Play) -> None:
    play.joins("a", cpus=4)
    play.joins("b")
    play.resource("nuke", 1)
    runs = [play.submit(host="a", cpus=2) for _ in range(2)]
    large = play.submit(host="a", cpus=4, resources=NUKE)
    assert list(play.farm.floor.holds[large]) == [play.node_ids["a"]]
    play.submit(host="b", resources=NUKE)
    small = play.submit(host="a")
    play.ends(runs[0])
    assert not play.farm.floor.holds
    assert play.status(small) == "running"


# --- the table ----------------------------------------------------------------------------------


def test_no_machine_is_kept_for_a_job_that_no_machine_can_give_what_it_needs(play: Play) -> None:
    play.joins("a")
    play.resource("nuke", 0, per_machine=True)
    busy = play.submit()
    whole = play.submit(tags=["single"], resources=NUKE)
    small = play.submit()
    play.ends(busy)
    assert (play.status(whole), play.status(small)) == ("runnable", "running")
    assert play.why(whole).endswith("a is busy: 0 CPUs free, and the job needs 1.")
    play.ends(small)
    assert play.why(whole) == "a would need 1 of nuke, and 0 of 0 are free."
    play.resource("nuke", 1, per_machine=True)
    assert play.status(whole) == "running"


def test_no_machine_is_kept_for_a_job_whose_units_serve_fewer_machines(play: Play) -> None:
    play.joins("a", cpus=2)
    play.joins("b", cpus=2)
    play.resource("nuke", 1, per_machine=True)
    user = play.submit(resources=NUKE)
    several = play.submit(minHosts=2, cpus=1, resources=NUKE)
    small = [play.submit() for _ in range(3)]
    assert [play.status(job) for job in small] == ["running"] * 3
    play.resource("nuke", 2, per_machine=True)
    for job in (user, *small):
        play.ends(job)
    assert play.status(several) == "running"


def test_a_job_waits_for_a_resource_that_nobody_has_entered(play: Play) -> None:
    play.joins("a")
    job = play.submit(resources=NUKE)
    assert play.why(job) == "It needs 1 of nuke, and the farm has no such resource."
    play.resource("nuke", None)
    assert play.status(job) == "running"


def test_without_a_maximum_there_is_always_enough_and_use_is_counted(play: Play) -> None:
    play.joins("a", cpus=8)
    play.resource("nuke", None)
    assert play.status(play.submit(resources={"nuke": 1_000})) == "running"
    assert play.in_use("nuke") == 1_000


def test_a_higher_maximum_lets_waiting_jobs_run(play: Play) -> None:
    play.joins("a")
    play.resource("nuke", 0)
    job = play.submit(resources=NUKE)
    assert play.status(job) == "runnable"
    play.resource("nuke", 1)
    assert play.status(job) == "running"


def test_a_maximum_does_not_go_below_what_is_in_use(play: Play) -> None:
    play.joins("a")
    play.resource("nuke", 4)
    play.submit(resources={"nuke": 2})
    with pytest.raises(Conflict, match="2 of nuke are in use, so its maximum cannot be 1 now"):
        play.resource("nuke", 1)
    play.resource("nuke", 2)
    assert play.farm.floor.stock.resources["nuke"].max == 2


def test_how_it_counts_changes_only_when_none_is_in_use(play: Play) -> None:
    play.joins("a")
    play.resource("nuke", 4)
    job = play.submit(resources=NUKE)
    with pytest.raises(Conflict, match="counts per machine can change only when none"):
        play.resource("nuke", 4, per_machine=True)
    with pytest.raises(Conflict, match="is in use; wait until"):
        play.send(m.RemoveResource("nuke"))
    play.ends(job)
    play.resource("nuke", 4, per_machine=True)
    play.send(m.RemoveResource("nuke"))
    assert play.why(play.submit(resources=NUKE)).endswith("no such resource.")


def test_bad_edits_are_refused(play: Play) -> None:
    with pytest.raises(Invalid, match="not blank"):
        play.resource(" ", 1)
    with pytest.raises(Invalid, match="0 or more"):
        play.resource("nuke", -1)
    with pytest.raises(NotFound, match="no resource 'nuke'"):
        play.send(m.RemoveResource("nuke"))


def test_what_is_in_use_is_known_again_after_a_restart(play: Play) -> None:
    play.joins("a", cpus=4)
    play.resource("nuke", 1)
    first, second = play.submit(resources=NUKE), play.submit(resources=NUKE)
    play.restarts()
    assert play.in_use("nuke") == 1
    play.joins("a", cpus=4, held=[(first, 1, "running")])
    assert play.status(second) == "runnable"
    play.ends(first)
    assert play.status(second) == "running"
