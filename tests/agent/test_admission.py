"""Who may start now, and who waits for a CPU."""

from __future__ import annotations

import pytest

from roost.agent.admission import Admission


@pytest.fixture
def full() -> Admission:
    """Two CPUs: `a` and `b` run, `c` and `d` wait."""
    admission = Admission(cpus=2)
    assert [admission.enter(run, f"{run}.1", 1) for run in "abcd"] == [True, True, False, False]
    return admission


def test_who_waits_starts_in_order_as_others_end(full: Admission) -> None:
    assert full.next() is None
    full.free("b.1")
    assert (full.next(), full.next()) == ("c", None)
    full.free("a.1")
    full.free("c.1")
    assert (full.next(), full.next()) == ("d", None)
    assert not full


def test_a_wide_run_is_not_overtaken_by_narrow_ones() -> None:
    admission = Admission(cpus=2)
    assert admission.enter("a", "a.1", 1)
    assert not admission.enter("wide", "wide.1", 2)
    assert not admission.enter("b", "b.1", 1)
    assert admission.next() is None
    admission.free("a.1")
    assert (admission.next(), admission.next()) == ("wide", None)


def test_a_run_wider_than_the_node_runs_alone() -> None:
    admission = Admission(cpus=2)
    assert admission.enter("wide", "wide.1", 8)
    assert not admission.enter("a", "a.1", 1)
    admission.free("wide.1")
    assert admission.next() == "a"


def test_a_script_follows_its_command_at_once(full: Admission) -> None:
    assert full.enter("script of a", "a.1", 0)
    assert full.next() is None


def test_what_is_withdrawn_does_not_start(full: Admission) -> None:
    assert full.withdraw("c")
    assert not full.withdraw("c")
    assert not full.withdraw("a")
    full.free("a.1")
    assert (full.next(), full.next()) == ("d", None)


def test_what_an_earlier_keeper_started_has_its_cpus() -> None:
    admission = Admission(cpus=2)
    admission.take("old.1", 2)
    assert not admission.enter("a", "a.1", 1)
    admission.free("old.1")
    assert admission.next() == "a"


def test_freeing_what_has_nothing_changes_nothing(full: Admission) -> None:
    full.free("stranger.1")
    assert full.next() is None
