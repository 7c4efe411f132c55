"""Named reads: what they answer, and that they look it up rather than search for it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, create_engine, event

from roost.core.lifecycle import FINAL
from roost.core.records import (
    Attempt,
    AttemptCause,
    Condition,
    Event,
    JobId,
    JobSpec,
    JobStatus,
    Moment,
    NodeId,
)
from roost.gateway import ALL_PARTS, AttemptView, JobFilter, Part
from roost.store import queries, rows
from roost.store.rows import save_changes

S = JobStatus


@pytest.fixture
def connection(file: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        yield connection
    engine.dispose()


def listed(connection: Connection, **which: Any) -> list[int]:
    return [view.job.id for view in queries.list_jobs(connection, JobFilter(**which))]


# --- views ------------------------------------------------------------------------------------


def test_views_keep_the_order_asked_for_and_leave_out_the_unknown(
    connection: Connection, make: Any
) -> None:
    save_changes(connection, make.submitted(*map(make.job, (1, 2, 3))))
    views = queries.job_views(connection, [JobId(3), JobId(8), JobId(1), JobId(3)])
    assert [view.job.id for view in views] == [3, 1, 3]
    assert queries.job_views(connection, [JobId(8)]) == []
    assert queries.job_views(connection, []) == []


def test_many_ids_are_asked_for_at_once_and_loaded_in_pieces(
    connection: Connection, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows.chunks, "__defaults__", (3,))
    save_changes(connection, make.submitted(*map(make.job, range(1, 11))))
    ids = [JobId(number) for number in range(10, 0, -1)]
    assert [view.job.id for view in queries.job_views(connection, ids)] == ids
    assert len(rows.load_live(connection).jobs) == 10


def test_without_the_spec_its_text_is_not_read(
    connection: Connection, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_changes(connection, make.submitted(make.job(1, name="comp")))
    monkeypatch.delattr(queries, "spec_of")
    parts = {Part.PARENTS, Part.CHILDREN, Part.EVENTS, Part.ATTEMPTS}
    [view] = queries.job_views(connection, [JobId(1)], parts)
    assert view.job.spec == JobSpec(name="comp")


def test_each_part_is_there_when_asked_for_and_only_then(connection: Connection, make: Any) -> None:
    attempt = Attempt(JobId(2), 1, (NodeId(1),), Moment(4))
    story = [Event(JobId(2), Moment(5), "runnable"), Event(JobId(2), Moment(5), "running", "n1")]
    jobs = [make.job(number) for number in (1, 2, 3, 4)]
    edges = [(4, 2), (1, 2), (2, 3)]
    save_changes(connection, make.submitted(*jobs, edges=edges, events=story, attempts=[attempt]))
    [bare] = queries.job_views(connection, [JobId(2)])
    assert (bare.parents, bare.children, bare.events, bare.attempts) == ((), (), (), ())
    [full] = queries.job_views(connection, [JobId(2)], ALL_PARTS)
    assert (full.parents, full.children) == ((4, 1), (3,))
    assert (full.events, full.attempts) == (tuple(story), (attempt,))
    assert (full.job, full.rollup) == (jobs[1], make.rollup)


def test_conditions_are_its_own_or_those_of_the_root_by_first_parents(
    connection: Connection, make: Any
) -> None:
    big, fast = (Condition("group", "in", name) for name in ("big", "fast"))
    linux = Condition("os", "==", "linux")
    save_changes(
        connection,
        make.submitted(
            make.job(1, conditions=(big,)),
            make.job(2, conditions=(fast,)),
            make.job(3),
            make.job(4),
            make.job(5, conditions=(linux,)),
            make.job(6),
            edges=[(1, 3), (2, 3), (3, 4), (3, 5), (5, 6), (2, 4)],
        ),
    )
    ids = [JobId(number) for number in range(1, 7)]
    views = queries.job_views(connection, ids, {Part.CONDITIONS})
    # Job 6 takes the root's, although its parent has some: decision 13.
    assert [view.conditions for view in views] == [
        (big,), (fast,), (big,), (big,), (linux,), (big,),
    ]  # fmt: skip


def test_the_conditions_of_a_long_chain_are_read_with_few_statements(
    connection: Connection, make: Any
) -> None:
    big = (Condition("group", "in", "big"),)
    chain = [make.job(1, conditions=big), *(make.job(number) for number in range(2, 101))]
    edges = [(number, number + 1) for number in range(1, 100)]
    save_changes(connection, make.submitted(*chain, edges=edges))
    statements: list[str] = []

    def note(*told: Any) -> None:
        statements.append(told[2])

    event.listen(connection, "before_cursor_execute", note)
    ids = [job.id for job in chain]
    views = queries.job_views(connection, ids, {Part.CONDITIONS})
    event.remove(connection, "before_cursor_execute", note)
    assert {view.conditions for view in views} == {big}
    assert len(statements) < 10


# --- listings ---------------------------------------------------------------------------------


@pytest.fixture
def shop(connection: Connection, make: Any) -> Connection:
    """Ten jobs: 1 has the children 2 to 5; 6 to 10 stand alone."""
    states = ["queued", "running", "succeeded", "failed", "runnable"] * 2
    jobs = [
        make.job(
            number, status, name=f"Shot_{number}%", submitted_by="adabob"[number % 2 * 3 :][:3]
        )
        for number, status in enumerate(states, 1)
    ]
    edges = [(1, child) for child in (3, 2, 5, 4)]
    save_changes(connection, make.submitted(*jobs, edges=edges))
    return connection


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"limit": 3}, [10, 9, 8]),
        ({"limit": 0}, []),
        ({"before": 9, "limit": 2}, [8, 7]),
        ({"statuses": (S.FAILED,)}, [9, 4]),
        ({"statuses": (S.FAILED, S.QUEUED, S.FAILED), "limit": 3}, [9, 6, 4]),
        ({"statuses": (S.PAUSED,)}, []),
        ({"roots_only": True}, [10, 9, 8, 7, 6, 1]),
        ({"roots_only": True, "statuses": (S.QUEUED, S.RUNNING), "before": 7}, [6, 1]),
        ({"parent": 1}, [5, 4, 3, 2]),
        ({"parent": 1, "before": 5, "limit": 2}, [4, 3]),
        ({"parent": 1, "statuses": (S.FAILED, S.RUNNING)}, [4, 2]),
        ({"parent": 1, "roots_only": True}, []),
        ({"parent": 99}, []),
        ({"submitted_by": "bob"}, [9, 7, 5, 3, 1]),
        ({"submitted_by": "bob", "roots_only": True, "statuses": (S.FAILED,)}, [9]),
        ({"name_contains": "shot_1"}, [10, 1]),
        ({"name_contains": "%"}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"name_contains": "t%1"}, []),
        ({"name_excludes": "shot_1"}, [9, 8, 7, 6, 5, 4, 3, 2]),
        ({"after": 8}, [10, 9]),
        ({"descending": False, "limit": 3}, [1, 2, 3]),
        ({"sort": "name", "descending": False, "limit": 3}, [1, 10, 2]),
        ({"sort": "name", "descending": False, "limit": 2, "skip": 2}, [2, 3]),
        ({"sort": "status", "statuses": (S.FAILED, S.RUNNING)}, [7, 2, 9, 4]),
    ],
)
def test_a_listing_shows_what_passes_newest_first(
    shop: Connection, which: dict[str, Any], expected: list[int]
) -> None:
    assert listed(shop, **which) == expected


def test_times_narrow_a_listing(connection: Connection, make: Any) -> None:
    save_changes(
        connection,
        make.submitted(
            *(
                make.job(n, "succeeded", queued_at=Moment(n), ended_at=Moment(10 * n))
                for n in (1, 2, 3)
            ),
            make.job(4, "running", queued_at=Moment(4)),
        ),
    )
    assert listed(connection, submitted_after=2) == [4, 3, 2]
    assert listed(connection, ended_after=20) == [3, 2]


HOUR_MS = 3_600_000
ORDERS: dict[str, Any] = {
    "id": lambda job: (),
    "ended": lambda job: (job.ended_at is not None, job.ended_at or 0),
    "status": lambda job: (job.status.value,),
    "priority": lambda job: (job.priority,),
}


@pytest.mark.parametrize("seed", range(4))
def test_a_listing_has_what_looking_at_every_job_would_find(
    connection: Connection, make: Any, seed: int
) -> None:
    chance = Random(seed)
    jobs = []
    for number in range(10, 250):
        status = chance.choice(["running", "queued", "succeeded", "failed", "failed"])
        # Now and then the clock is set back, by less than a day.
        queued = Moment((1_000 + number - chance.choice([0] * 30 + [23])) * HOUR_MS)
        ended = Moment(queued + chance.randint(0, 9) * HOUR_MS)
        times = {"queued_at": queued, "ended_at": ended if status in FINAL else None}
        jobs.append(make.job(number, status, priority=chance.randint(0, 3), **times))
    edges = [(10, job.id) for job in jobs if job.id % 3 == 0]
    save_changes(connection, make.submitted(*jobs, edges=edges))
    for _ in range(60):
        statuses = chance.choice([(), (S.FAILED,), (S.FAILED, S.QUEUED), (S.SUCCEEDED, S.FAILED)])
        since = Moment((1_000 + chance.randint(0, 250)) * HOUR_MS)
        which = JobFilter(
            statuses,
            roots_only=chance.choice([True, False]),
            submitted_after=chance.choice([None, since]),
            ended_after=chance.choice([None, None, since]),
            sort=chance.choice([*ORDERS]),
            descending=chance.choice([True, False]),
            skip=chance.choice([0, 3]),
            limit=chance.choice([5, 500]),
        )
        passing = [
            job
            for job in jobs
            if (not statuses or job.status in statuses)
            and (not which.roots_only or job.id % 3)
            and (which.submitted_after is None or job.queued_at >= since)
            and (which.ended_after is None or (job.ended_at or 0) >= since)
        ]
        passing.sort(key=lambda job: (*ORDERS[which.sort](job), job.id), reverse=which.descending)
        found = [view.job.id for view in queries.list_jobs(connection, which)]
        assert found == [job.id for job in passing][which.skip :][: which.limit], which
        counts = Counter(job.status for job in passing)
        assert queries.count_jobs(connection, which, 1_000) == counts, which


def test_counts_by_status_stop_at_the_cap_and_know_nothing_of_pages(shop: Connection) -> None:
    assert queries.count_jobs(shop, JobFilter(before=JobId(3), limit=1), 100) == dict.fromkeys(
        (S.QUEUED, S.RUNNING, S.SUCCEEDED, S.FAILED, S.RUNNABLE), 2
    )
    assert queries.count_jobs(shop, JobFilter(roots_only=True, statuses=(S.QUEUED,)), 1) == {
        S.QUEUED: 1
    }
    assert queries.count_jobs(shop, JobFilter(parent=JobId(1)), 100) == dict.fromkeys(
        (S.RUNNING, S.SUCCEEDED, S.FAILED, S.RUNNABLE), 1
    )


def test_standings_are_of_all_that_pass_or_of_those_named(shop: Connection) -> None:
    found = queries.standings(shop, JobFilter(statuses=(S.FAILED, S.RUNNING)))
    assert [(one.id, one.status) for one in found] == [
        (9, S.FAILED), (7, S.RUNNING), (4, S.FAILED), (2, S.RUNNING),
    ]  # fmt: skip
    assert [one.id for one in queries.standings(shop, None, [JobId(2), JobId(99), JobId(8)])] == [
        8,
        2,
    ]


def test_ids_come_ascending(shop: Connection) -> None:
    assert queries.job_ids(shop) == list(range(1, 11))
    assert queries.job_ids(shop, roots_only=True) == [1, 6, 7, 8, 9, 10]
    assert queries.job_ids(shop, [S.FAILED, S.QUEUED]) == [1, 4, 6, 9]
    assert queries.job_ids(shop, [S.FAILED, S.QUEUED], roots_only=True) == [1, 6, 9]
    assert queries.job_ids(shop, []) == []


def test_waiting_jobs_are_counted_with_bounds_inclusive(connection: Connection, make: Any) -> None:
    waiting = [make.job(n, runnable_at=Moment(n * 10), priority=n) for n in range(1, 6)]
    save_changes(connection, make.submitted(*waiting, make.job(6, "running")))
    assert queries.count_waiting(connection, Moment(30)) == 3
    assert queries.count_waiting(connection, Moment(30), 2) == 2
    assert queries.count_waiting(connection, Moment(99), 2, 4) == 3
    assert queries.count_waiting(connection, Moment(9)) == 0


# --- plans ------------------------------------------------------------------------------------


def plans(connection: Connection, ask: Any, *arguments: Any) -> list[str]:
    """How SQLite goes about each statement that a query sends."""
    steps: list[str] = []

    def explain(
        conn: Connection, cursor: sqlite3.Cursor, sql: str, values: Sequence[Any], *_: Any
    ) -> None:
        if sql.startswith("SELECT"):
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
            steps.extend(row[3] for row in plan)

    event.listen(connection, "before_cursor_execute", explain)
    ask(connection, *arguments)
    event.remove(connection, "before_cursor_execute", explain)
    assert steps
    return steps


FILTERS = [
    {},
    {"before": 9},
    {"statuses": (S.SUCCEEDED, S.RUNNING)},
    {"statuses": (S.SUCCEEDED,), "before": 9},
    {"roots_only": True},
    {"roots_only": True, "before": 9},
    {"roots_only": True, "statuses": (S.SUCCEEDED,), "before": 9},
    {"parent": 1, "before": 9},
    {"parent": 1, "statuses": (S.SUCCEEDED,)},
    {"submitted_by": "ada"},
    {"submitted_by": "ada", "before": 9},
    {"submitted_by": "ada", "roots_only": True, "before": 9},
    {"submitted_by": "ada", "statuses": (S.RUNNING, S.SUCCEEDED)},
    {"submitted_by": "ada", "statuses": (S.RUNNING,), "roots_only": True},
    {"statuses": (S.SUCCEEDED, S.FAILED), "descending": False, "skip": 3},
    {"sort": "status", "roots_only": True},
    {"sort": "ended", "roots_only": True},
    {"sort": "ended", "roots_only": True, "statuses": (S.FAILED, S.RUNNING), "descending": False},
]


@pytest.mark.parametrize("which", FILTERS, ids=repr)
def test_a_listing_walks_an_index_and_sorts_nothing(
    shop: Connection, which: dict[str, Any]
) -> None:
    for step in plans(shop, queries.find_ids, JobFilter(**which)):
        assert "TEMP B-TREE" not in step
        if which:
            assert "USING" in step, step
            # Walking all roots is an index of its own; anything else is looked up.
            assert step.startswith("SEARCH") or "INDEX roots" in step, step


@pytest.mark.parametrize("statuses", [(S.FAILED,), (S.FAILED, S.SUCCEEDED), ()])
def test_what_ended_of_late_is_looked_for_by_its_end(
    shop: Connection, statuses: tuple[JobStatus, ...]
) -> None:
    of_late = {"roots_only": True, "statuses": statuses, "ended_after": 5}
    which = JobFilter(**of_late)
    steps = [
        *plans(shop, queries.find_ids, which),
        *plans(shop, queries.count_jobs, which, 9),
    ]
    for step in [step for step in steps if " jobs " in step]:
        assert "INDEX roots_by_end (status=? AND ended_at>?)" in step


@pytest.mark.parametrize("which", [{}, {"roots_only": True}, {"statuses": (S.FAILED,)}], ids=repr)
def test_what_was_submitted_of_late_is_looked_for_among_the_latest_ids(
    shop: Connection, which: dict[str, Any]
) -> None:
    ask = JobFilter(**which, submitted_after=Moment(5))
    for question in (queries.list_jobs, lambda *asked: queries.count_jobs(*asked, 9)):
        for step in plans(shop, question, ask):
            if " jobs " in step:
                assert "rowid>?" in step or "id>?" in step or "rowid=?" in step, step


@pytest.mark.parametrize(
    ("ask", "arguments"),
    [
        (queries.job_views, ([1],)),
        (queries.job_views, ([1, 2, 3], ALL_PARTS)),
        (queries.list_jobs, (JobFilter(parent=JobId(1)), ALL_PARTS)),
        (queries.job_ids, ([S.RUNNING, S.FAILED],)),
        (queries.job_ids, ([S.RUNNING, S.FAILED], True)),
        (queries.count_waiting, (5, 1, 3)),
        (queries.job_history, (1, 5)),
        (queries.start_failures, (1, 5)),
        (queries.child_statuses, (1,)),
        (queries.attempts_on_node, (1, 5, 9)),
        (queries.attempts_of_family, (1, 9)),
        (queries.ended_roots, ((1, 1), 5)),
        (queries.ended_kinds, (5,)),
        (queries.attribute_points, (1,)),
        (rows.load_component, ([4, 5, 999],)),
    ],
)
def test_other_questions_look_up_and_scan_nothing(
    shop: Connection, ask: Any, arguments: tuple[Any, ...]
) -> None:
    for step in plans(shop, ask, *arguments):
        # Few attempts are open, and what is listed are the ids that were asked for.
        assert not step.startswith("SCAN") or "attempts_open" in step or "listed" in step, step


def test_only_waiting_jobs_are_looked_at_to_count_them(shop: Connection) -> None:
    [step] = plans(shop, queries.count_waiting, 5, 1, 3)
    assert "COVERING INDEX jobs_waiting" in step


def test_only_the_end_of_a_node_s_history_is_read(shop: Connection) -> None:
    for step in plans(shop, queries.job_history, 1, 5):
        assert "attempts_by_node" in step or "secondary_nodes_by_node" in step
    for step in plans(shop, queries.start_failures, 1, 5):
        assert "attempts_not_started" in step


# --- nodes ------------------------------------------------------------------------------------


def ended(job: int, number: int, node: int, at: int, cause: str = "exited") -> Attempt:
    return Attempt(
        JobId(job), number, (NodeId(node),), Moment(1), ended_at=Moment(at),
        cause=AttemptCause(cause), text=f"{job}.{number}",
    )  # fmt: skip


def test_the_history_of_a_node_has_each_job_once_the_last_to_end_first(
    connection: Connection, make: Any
) -> None:
    attempts = [
        ended(1, 1, node=1, at=10),
        ended(1, 2, node=1, at=40),
        ended(2, 1, node=1, at=30),
        ended(3, 1, node=2, at=50),
        ended(3, 2, node=1, at=20),
        Attempt(JobId(4), 1, (NodeId(1),), Moment(1)),
    ]
    save_changes(connection, make.submitted(*map(make.job, (1, 2, 3, 4)), attempts=attempts))
    assert queries.job_history(connection, NodeId(1), 5) == [1, 2, 3]
    assert queries.job_history(connection, NodeId(1), 2) == [1, 2]
    assert queries.job_history(connection, NodeId(1), 0) == []
    assert queries.job_history(connection, NodeId(2), 5) == [3]
    assert queries.job_history(connection, NodeId(9), 5) == []


def test_a_run_on_several_nodes_is_in_the_history_of_each_of_them(
    connection: Connection, make: Any
) -> None:
    together = Attempt(
        JobId(2), 1, (NodeId(1), NodeId(2), NodeId(3)), Moment(1), ended_at=Moment(20),
        cause=AttemptCause("exited"),
    )  # fmt: skip
    running = Attempt(JobId(4), 1, (NodeId(1), NodeId(2)), Moment(1))
    attempts = [ended(1, 1, node=2, at=10), together, ended(3, 1, node=2, at=30), running]
    save_changes(connection, make.submitted(*map(make.job, (1, 2, 3, 4)), attempts=attempts))
    save_changes(connection, make.changed(attempts=[together]))
    assert queries.job_history(connection, NodeId(1), 5) == [2]
    assert queries.job_history(connection, NodeId(2), 5) == [3, 2, 1]
    assert queries.job_history(connection, NodeId(3), 5) == [2]
    save_changes(connection, make.changed(deleted=[JobId(2)]))
    assert queries.job_history(connection, NodeId(2), 5) == [3, 1]
    assert queries.job_history(connection, NodeId(3), 5) == []


def test_what_could_not_be_started_is_found_by_node(connection: Connection, make: Any) -> None:
    attempts = [
        ended(1, 1, node=1, at=10, cause="not started"),
        ended(1, 2, node=1, at=20, cause="not started"),
        ended(1, 3, node=1, at=30),
        ended(2, 1, node=2, at=40, cause="not started"),
    ]
    save_changes(connection, make.submitted(make.job(1), make.job(2), attempts=attempts))
    assert queries.start_failures(connection, NodeId(1), 1) == (2, [attempts[1]])
    assert queries.start_failures(connection, NodeId(1), 9) == (2, [attempts[1], attempts[0]])
    assert queries.start_failures(connection, NodeId(9), 9) == (0, [])


def attempts_seen(views: list[AttemptView]) -> list[tuple[int, int, str]]:
    return [(view.attempt.job, view.attempt.number, view.job_name) for view in views]


def test_attempts_on_a_node_are_those_that_ran_since_then_or_could_not(
    connection: Connection, make: Any
) -> None:
    def attempt(job: int, number: int, at: int, *nodes: int, ended: int | None = None) -> Attempt:
        return Attempt(
            JobId(job), number, tuple(map(NodeId, nodes)), Moment(at), started_at=Moment(at + 1),
            ended_at=None if ended is None else Moment(ended),
            cause=None if ended is None else AttemptCause.EXITED,
        )  # fmt: skip

    attempts = [
        attempt(1, 1, 10, 1, ended=20),
        attempt(1, 2, 25, 1, ended=40),
        attempt(1, 3, 50, 2, 1, ended=60),
        attempt(1, 4, 70, 1),
        attempt(2, 1, 15, 2, 1),
        attempt(2, 2, 80, 2),
        replace(attempt(2, 3, 90, 1, ended=95), started_at=None),
        replace(attempt(2, 4, 5, 1, ended=97), started_at=None, cause=AttemptCause.NOT_STARTED),
    ]
    jobs = map(make.job, (1, 2))
    save_changes(connection, make.submitted(*jobs, attempts=attempts))
    found = queries.attempts_on_node(connection, NodeId(1), Moment(30), 9)
    assert attempts_seen(found) == [
        (1, 4, "job 1"), (1, 3, "job 1"), (1, 2, "job 1"), (2, 1, "job 2"), (2, 4, "job 2"),
    ]  # fmt: skip
    assert queries.attempts_on_node(connection, NodeId(1), Moment(30), 2) == found[:2]


def test_a_family_is_a_job_and_its_children(connection: Connection, make: Any) -> None:
    attempts = [
        Attempt(JobId(job), 1, (NodeId(1),), Moment(job), started_at=Moment(9))
        for job in (1, 2, 3, 4)
    ]
    jobs = [make.job(1), make.job(3), make.job(2, "failed"), make.job(4)]
    edges = [(1, 3), (1, 2), (2, 4)]
    save_changes(connection, make.submitted(*jobs, attempts=attempts, edges=edges))
    assert queries.child_statuses(connection, JobId(1)) == [(3, S.RUNNABLE), (2, S.FAILED)]
    found = queries.attempts_of_family(connection, JobId(1), 9)
    assert attempts_seen(found) == [(3, 1, "job 3"), (2, 1, "job 2"), (1, 1, "job 1")]
    assert queries.attempts_of_family(connection, JobId(1), 1) == found[:1]
