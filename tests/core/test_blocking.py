"""Who may run a job by name, and who may no more because too much failed there."""

from __future__ import annotations

import pytest
from play import Play

from roost.core import messages as m
from roost.core.jobspec import conditions_as_dicts, permitted
from roost.core.records import AttemptCause, Condition, JobId, NodeFacts
from roost.errors import Invalid, NotFound

FRAMES = {"name": "top", "children": [{"name": f"frame {n}", "command": "x"} for n in range(6)]}


@pytest.fixture
def strict() -> Play:
    """One failure of a tree on a node is forgiven, the second blocks it."""
    return Play(max_failures_per_client=1)


# --- permitted clients --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clients", "condition"),
    [
        (["a", " b ", "a"], Condition("hostname", "in", "a,b")),
        (["a", "b:x"], Condition("hostname:name", "in", "a,b:x")),
        (["a:"], Condition("hostname:name", "in", "a:")),
        ([], Condition("hostname", "in", "")),
    ],
)
def test_a_list_of_clients_becomes_one_condition(clients: list[str], condition: Condition) -> None:
    assert permitted(clients) == condition


@pytest.mark.parametrize("name", ["", " ", ":x", "a,b", "a;b"])
def test_what_names_no_client_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="names no client"):
        permitted(["a", name])


def test_only_permitted_clients_run_the_job_and_all_that_inherits(play: Play) -> None:
    play.joins("a")
    top, *frames = play.submit({**FRAMES, "conditions": [{"name": "os", "op": "==", "value": "x"}]})
    assert play.nodes_of(frames[0]) == []
    play.send(m.SetConditions(top, (permitted(["a"]),)))
    assert play.nodes_of(frames[0]) == ["a"]
    play.send(m.SetConditions(top, (permitted([]),)))
    assert play.status(frames[0]) == "running"
    play.ends(frames[0])
    assert "the list of clients permitted for the job is empty" in play.why(frames[1])


def test_an_unnamed_client_can_be_told_from_its_siblings(play: Play) -> None:
    play.send(m.NodeJoined(NodeFacts("a", "x")))
    job = play.submit(conditions=[{"name": "hostname:name", "op": "in", "value": "a:"}])
    assert play.status(job) == "runnable"
    play.joins("a")
    assert play.status(job) == "running"


def test_new_conditions_are_saved_and_survive(play: Play) -> None:
    job = play.submit()
    with pytest.raises(NotFound, match="no job 99"):
        play.send(m.SetConditions(JobId(99), ()))
    changes: list[m.Changes] = []
    take = play.farm.take_changes

    def take_and_keep() -> m.Changes:
        changes.append(take())
        return changes[-1]

    play.farm.take_changes = take_and_keep  # type: ignore[method-assign]
    play.send(m.SetConditions(job, (permitted(["b"]),)))
    assert [number for number, _ in changes[-1].specs] == [job]
    assert play.job(job).spec.conditions == (Condition("hostname", "in", "b"),)
    assert play.story(job)[-1] == "conditions changed"


# --- failures -----------------------------------------------------------------------------------


def test_a_node_where_too_much_failed_gets_no_more_of_that_tree(strict: Play) -> None:
    strict.joins("a")
    top, *frames = strict.submit(FRAMES)
    strict.fails(frames[0])
    assert strict.status(frames[1]) == "running"
    assert not strict.job(top).blocked_warning
    strict.fails(frames[1])
    assert strict.status(frames[2]) == "runnable"
    assert strict.why(frames[2]) == (
        "a is blocked: more runs of its tree failed there than max_failures_per_client allows."
    )
    assert strict.job(top).blocked_warning
    assert strict.story(top)[-1] == "client blocked"
    other = strict.submit()
    assert strict.nodes_of(other) == ["a"]
    strict.joins("b")
    assert strict.nodes_of(frames[2]) == ["b"]


def test_what_could_not_be_started_counts_and_what_was_ended_by_people_does_not(
    strict: Play,
) -> None:
    strict.joins("a", cpus=3)
    top, *frames = strict.submit(FRAMES)
    strict.ends(frames[0], cause=AttemptCause.NOT_STARTED, exit_code=None, text="no shell")
    strict.eject(frames[1])
    strict.ends(frames[1], cause=AttemptCause.EJECTED, exit_code=None)
    strict.cancel(frames[2])
    strict.ends(frames[2], exit_code=None, cause=AttemptCause.CANCELLED)
    assert dict(strict.job(top).failures) == {strict.node_ids["a"]: 1}


def test_tries_count_one_by_one(strict: Play) -> None:
    strict.joins("a")
    job = strict.submit(triesLeft=5)
    strict.fails(job)
    assert strict.status(job) == "running"
    strict.fails(job)
    assert strict.status(job) == "runnable"
    assert "a is blocked" in strict.why(job)


def test_without_a_limit_nothing_is_blocked(play: Play) -> None:
    play.joins("a")
    job = play.submit(triesLeft=20)
    for _ in range(20):
        play.fails(job)
    assert play.status(job) == "running"
    assert not play.job(job).blocked_warning


def test_rescheduling_the_root_forgives(strict: Play) -> None:
    strict.joins("a")
    top, *frames = strict.submit({**FRAMES, "children": FRAMES["children"][:2]})
    strict.fails(frames[0])
    strict.fails(frames[1])
    assert strict.status(top) == "failed"
    strict.reschedule(top)
    assert strict.status(frames[0]) == "running"
    assert not strict.job(top).blocked_warning


@pytest.mark.parametrize("before", [(), (permitted(["a"]),)])
def test_permitting_the_root_on_nodes_forgives_them(
    strict: Play, before: tuple[Condition, ...]
) -> None:
    strict.joins("a")
    conditions = conditions_as_dicts(before)
    top, *frames = strict.submit({**FRAMES, "conditions": conditions})
    strict.fails(frames[0])
    strict.fails(frames[1])
    assert strict.status(frames[2]) == "runnable"
    strict.send(m.SetConditions(top, (permitted(["a"]),)))
    assert strict.status(frames[2]) == "running"
    assert not strict.job(top).blocked_warning


def test_blocked_nodes_are_known_again_after_a_restart(strict: Play) -> None:
    strict.joins("a")
    job = strict.submit(triesLeft=5)
    strict.fails(job)
    strict.fails(job)
    strict.restarts()
    strict.joins("a")
    assert "a is blocked" in strict.why(job)


def test_the_warning_can_be_set_by_hand(play: Play) -> None:
    job = play.submit()
    play.send(m.SetBlockedWarning(job, True))
    assert play.job(job).blocked_warning
    play.send(m.SetBlockedWarning(job, False))
    assert not play.job(job).blocked_warning
    with pytest.raises(NotFound):
        play.send(m.SetBlockedWarning(JobId(99), True))
