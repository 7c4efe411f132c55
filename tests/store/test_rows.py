"""Records and rows: nothing is lost on the way, deletion is complete, loading finds all."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Connection, create_engine, func, select

from roost.core.farm import Farm
from roost.core.invariants import check
from roost.core.jobspec import parse
from roost.core.lifecycle import FINAL
from roost.core.messages import AddNote, Changes, Message, NodeJoined, RemoveNotes
from roost.core.records import (
    Attempt,
    AttemptCause,
    Attribute,
    AttributePoint,
    AvailabilityRule,
    Condition,
    Event,
    Group,
    GroupId,
    Job,
    JobId,
    JobSpec,
    JobStatus,
    Moment,
    Node,
    NodeFacts,
    NodeId,
    Note,
    NoteId,
    Resource,
    ResourceId,
    Rollup,
    Thread,
    ThreadId,
)
from roost.gateway import JobFilter, Part, ThreadView
from roost.store import queries, schema
from roost.store.rows import JOB_STATE, load_component, load_live, save_changes

# What the core lets through: any text that is valid Unicode, any integer of 64 bits.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
wide = st.integers(-(2**63), 2**63 - 1)
counts = st.integers(0, 2**31 - 1)
moments = st.integers(0, 2**60)
maybe_moments = st.none() | moments
millionths = st.integers(0, 1_000_000)
node_ids = st.lists(st.integers(1, 2**40), max_size=3).map(tuple)
conditions = st.lists(st.builds(Condition, texts, texts, texts, texts), max_size=2).map(tuple)
specs = st.builds(
    JobSpec,
    name=texts,
    command=texts | st.dictionaries(texts, texts, max_size=2),
    cwd=texts,
    submitted_by=texts,
    environment=st.dictionaries(texts, texts, max_size=2),
    conditions=conditions,
    tags=st.lists(texts, max_size=2).map(tuple),
    cpus=counts,
    max_time_ms=st.none() | counts,
    resources=st.dictionaries(texts, counts, max_size=2),
    attributes=st.dictionaries(texts, texts, max_size=2),
    submit_dir=texts,
)


@st.composite
def jobs(draw: st.DrawFn, number: int = 1) -> Job:
    status = draw(st.sampled_from(JobStatus))
    return Job(
        JobId(number), draw(specs), status, Moment(draw(moments)), draw(wide), draw(wide),
        draw(millionths), draw(counts), draw(node_ids), draw(maybe_moments), draw(maybe_moments),
        draw(maybe_moments), draw(maybe_moments), draw(moments) if status in FINAL else None,
        draw(st.sampled_from(["", "succeeded", "failed"])),
        draw(st.lists(st.tuples(st.integers(1, 2**40), counts), max_size=3).map(tuple)),
        draw(st.booleans()),
    )  # fmt: skip


rollups = st.builds(Rollup, texts, millionths, counts, counts, counts, counts)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    ended = draw(maybe_moments)
    return Attempt(
        JobId(1), draw(st.integers(1, 99)), draw(node_ids), Moment(draw(moments)), draw(texts),
        draw(maybe_moments), ended, draw(st.booleans()),
        None if ended is None else draw(st.sampled_from(AttemptCause)),
        draw(st.none() | wide), draw(texts), draw(wide),
    )  # fmt: skip


facts = st.builds(
    NodeFacts, texts, texts, texts, texts, counts, texts, counts, counts, wide, texts,
    st.lists(texts, max_size=2).map(tuple),
)  # fmt: skip
rules = st.builds(
    AvailabilityRule, counts, st.sampled_from(("time", "idle")), st.booleans(), texts, counts,
    counts, counts,
)  # fmt: skip
nodes = st.builds(
    Node, st.integers(1, 2**40), facts, moments, moments, st.booleans(), st.booleans(),
    st.booleans(), texts, st.floats(allow_nan=False), wide, st.lists(rules, max_size=2).map(tuple),
)  # fmt: skip
events = st.builds(Event, st.just(1), moments, texts, texts)


@pytest.fixture
def connection(template: Path, tmp_path: Path) -> Iterator[Connection]:
    """An open transaction on a fresh database, with foreign keys on as in earnest."""
    engine = create_engine(f"sqlite:///{shutil.copy(template, tmp_path / 'rows.db')}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        yield connection
    engine.dispose()


def count(connection: Connection, table: Any) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


many_examples = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None
)


@many_examples
@given(jobs(), rollups, attempts(), nodes, events)
def test_a_round_trip_is_the_identity(
    connection: Connection, job: Job, rollup: Rollup, attempt: Attempt, node: Node, event: Event
) -> None:
    save_changes(
        connection,
        Changes(
            submitted=[(job, rollup)], attempts=[attempt], nodes=[node], events=[event],
            next_job_id=2, next_node_id=node.id + 1,
        ),
    )  # fmt: skip
    parts = {Part.SPEC, Part.ATTEMPTS, Part.EVENTS}
    [view] = queries.job_views(connection, [job.id], parts)
    assert (view.job, view.rollup) == (job, rollup)
    assert (view.attempts, view.events) == ((attempt,), (event,))
    live = load_live(connection)
    assert live.nodes == [node]
    assert live.jobs == ([job] if job.status not in FINAL or attempt.ended_at is None else [])
    assert (live.next_job_id, live.next_node_id) == (2, node.id + 1)
    connection.rollback()


@many_examples
@given(jobs(), jobs(), rollups)
def test_a_change_writes_all_of_the_state_and_leaves_the_spec(
    connection: Connection, old: Job, new: Job, rollup: Rollup
) -> None:
    save_changes(connection, Changes(submitted=[(old, rollup)]))
    save_changes(connection, Changes(jobs=[(new, rollup)]))
    [view] = queries.job_views(connection, [old.id], {Part.SPEC})
    assert view.job == replace(new, spec=old.spec)
    connection.rollback()


def test_every_field_of_a_job_has_its_column() -> None:
    state = (*Job.__struct_fields__[2:], *Rollup.__struct_fields__)
    assert sorted(state) == sorted(JOB_STATE)


def test_attempts_and_nodes_are_written_whole_each_time(connection: Connection, make: Any) -> None:
    node = Node(NodeId(1), NodeFacts("a"), Moment(1), Moment(1))
    attempt = Attempt(JobId(1), 1, (NodeId(1),), Moment(3))
    save_changes(connection, make.submitted(make.job(1), attempts=[attempt], nodes=[node]))
    node = replace(node, facts=NodeFacts("A", cpus=8), load=0.5, disabled=True)
    attempt = replace(attempt, ended_at=Moment(4), cause=AttemptCause.EXITED, exit_code=0)
    save_changes(connection, Changes(attempts=[attempt], nodes=[node]))
    assert load_live(connection).nodes == [node]
    [view] = queries.job_views(connection, [JobId(1)], {Part.ATTEMPTS})
    assert view.attempts == (attempt,)


def test_two_nodes_cannot_have_one_name(connection: Connection) -> None:
    old = Node(NodeId(1), NodeFacts("box"), Moment(1), Moment(1))
    new = replace(old, id=NodeId(2), facts=NodeFacts("BOX"))
    save_changes(connection, Changes(nodes=[old]))
    with pytest.raises(sqlite3.IntegrityError):
        save_changes(connection, Changes(nodes=[new]))


# --- deleting ---------------------------------------------------------------------------------


def test_a_deleted_job_takes_its_edges_attempts_and_events_along(
    connection: Connection, make: Any
) -> None:
    save_changes(
        connection,
        make.submitted(
            make.job(1), make.job(2, "failed"), make.job(3),
            edges=[(1, 2), (2, 3)],
            attempts=[Attempt(JobId(2), 1, (), Moment(1))],
            events=[Event(JobId(2), Moment(1), "failed"), Event(JobId(1), Moment(1), "queued")],
        ),
    )  # fmt: skip
    save_changes(connection, Changes(deleted=[JobId(2)]))
    assert count(connection, schema.jobs) == count(connection, schema.job_specs) == 2
    assert count(connection, schema.job_edges) == count(connection, schema.attempts) == 0
    assert count(connection, schema.job_events) == 1
    assert queries.job_ids(connection, roots_only=True) == [1, 3]


def test_what_is_made_and_deleted_in_one_batch_leaves_no_trace(
    connection: Connection, make: Any
) -> None:
    save_changes(connection, make.submitted(make.job(1)))
    save_changes(
        connection,
        make.submitted(
            make.job(2),
            jobs=[(make.job(1), make.rollup)],
            edges=[(1, 2)],
            edges_removed=[(1, 2)],
            deleted=[2],
            attempts=[Attempt(JobId(2), 1, (), Moment(1))],
            events=[Event(JobId(2), Moment(1), "runnable")],
        ),
    )
    assert queries.job_ids(connection) == [1]
    assert count(connection, schema.job_edges) == count(connection, schema.job_events) == 0


def test_an_attempt_that_outlives_its_job_is_not_kept(connection: Connection, make: Any) -> None:
    attempt = Attempt(JobId(1), 1, (), Moment(1), stopping=True)
    save_changes(connection, make.submitted(make.job(1, "cancelled"), attempts=[attempt]))
    save_changes(connection, Changes(deleted=[JobId(1)]))
    ended = replace(attempt, ended_at=Moment(2), cause=AttemptCause.CANCELLED)
    save_changes(connection, Changes(attempts=[ended]))
    assert count(connection, schema.attempts) == 0


def test_adopting_and_losing_parents_moves_a_job_in_and_out_of_the_roots(
    connection: Connection, make: Any
) -> None:
    def roots() -> list[int]:
        listed = queries.list_jobs(connection, JobFilter(roots_only=True))
        return [view.job.id for view in listed]

    save_changes(connection, make.submitted(make.job(1), make.job(2), edges=[(1, 2)]))
    assert roots() == [1]
    save_changes(connection, make.submitted(make.job(3), edges=[(3, 1), (3, 2)]))
    assert roots() == [3]
    save_changes(connection, Changes(edges_removed=[(3, 1), (3, 2)]))
    assert roots() == [3, 1]
    save_changes(connection, Changes(edges_removed=[(1, 2)]))
    assert roots() == [3, 2, 1]
    lost_at_once = make.submitted(make.job(4), edges=[(3, 4)], edges_removed=[(3, 4)])
    save_changes(connection, lost_at_once)
    assert roots() == [4, 3, 2, 1]


# --- loading ----------------------------------------------------------------------------------


def test_an_unfinished_job_brings_its_whole_linked_set(connection: Connection, make: Any) -> None:
    edges = [(5, 6), (5, 7), (8, 7), (8, 9), (1, 2)]
    done = [make.job(n, "succeeded") for n in (1, 2, 6, 7, 8, 9)]
    save_changes(connection, make.submitted(*done, make.job(5, "abandoned"), edges=edges))
    live = load_live(connection)
    assert [job.id for job in live.jobs] == [5, 6, 7, 8, 9]
    assert live.children == {5: [6, 7], 8: [7, 9]}
    assert live.parents == {7: (5, 8)}


def test_a_finished_job_whose_attempt_still_stops_is_live(
    connection: Connection, make: Any
) -> None:
    stopping = Attempt(JobId(1), 1, (NodeId(1),), Moment(1), stopping=True)
    cancelled = [make.job(1, "cancelled"), make.job(2, "cancelled")]
    save_changes(connection, make.submitted(*cancelled, attempts=[stopping]))
    live = load_live(connection)
    assert [job.id for job in live.jobs] == [1]
    assert live.attempts == [stopping]


def test_ended_attempts_are_not_loaded(connection: Connection, make: Any) -> None:
    ended = Attempt(JobId(1), 1, (), Moment(1), ended_at=Moment(2), cause=AttemptCause.EJECTED)
    running = Attempt(JobId(1), 2, (NodeId(4),), Moment(3))
    save_changes(connection, make.submitted(make.job(1, "running"), attempts=[running, ended]))
    assert load_live(connection).attempts == [running]


def test_edges_keep_the_order_in_which_they_were_made(connection: Connection, make: Any) -> None:
    edges = [(9, 3), (9, 1), (2, 3), (9, 2)]
    save_changes(connection, make.submitted(*map(make.job, (1, 2, 3, 9)), edges=edges))
    save_changes(connection, make.submitted(make.job(4), edges=[(9, 4), (1, 4)]))
    live = load_live(connection)
    assert live.children == {9: [3, 1, 2, 4], 2: [3], 1: [4]}
    assert live.parents == {3: (9, 2), 4: (9, 1)}
    [view] = queries.job_views(connection, [JobId(9)], {Part.CHILDREN})
    assert view.children == (3, 1, 2, 4)


def test_finished_jobs_are_loaded_with_all_they_are_linked_to(
    connection: Connection, make: Any
) -> None:
    done = [make.job(n, "failed") for n in (1, 2, 3, 4, 500_000)]
    save_changes(connection, make.submitted(*done, edges=[(1, 2), (1, 500_000), (3, 4)]))
    records = load_component(connection, [JobId(2), JobId(77)])
    assert [job.id for job in records.jobs] == [1, 2, 500_000]
    assert (records.children, records.parents) == ({1: [2, 500_000]}, {})
    assert load_live(connection).jobs == []


def test_an_empty_database_loads_as_an_empty_farm(connection: Connection) -> None:
    live = load_live(connection)
    assert (live.jobs, live.nodes, live.next_job_id, live.next_node_id) == ([], [], 1, 1)


def test_groups_round_trip_and_a_name_can_pass_to_another_in_one_batch(
    connection: Connection,
) -> None:
    fast, slow = Group(GroupId(1), "fast", (NodeId(3), NodeId(1))), Group(GroupId(2), "slow")
    save_changes(connection, Changes(groups=[fast, slow], next_group_id=3))
    live = load_live(connection)
    assert (live.groups, live.next_group_id) == ([fast, slow], 3)
    other = Group(GroupId(3), "fast")
    save_changes(connection, Changes(groups_deleted=[fast.id], groups=[replace(slow), other]))
    assert load_live(connection).groups == [slow, other]


def test_a_new_farm_has_hqueue_s_licences_per_machine_and_without_a_limit(
    connection: Connection,
) -> None:
    live = load_live(connection)
    assert [(one.name, one.max, one.per_machine) for one in live.resources] == [
        ("sidefx.license.houdini", None, True),
        ("sidefx.license.render", None, True),
        ("sidefx.license.karma", None, True),
    ]
    assert live.next_resource_id == 4


def test_resources_round_trip(connection: Connection) -> None:
    nuke, none = Resource(ResourceId(4), "nuke", 7, False), Resource(ResourceId(5), "none", None)
    save_changes(connection, Changes(resources=[nuke, none], next_resource_id=6))
    more = replace(nuke, max=0, per_machine=True)
    gone = [ResourceId(1), ResourceId(2), ResourceId(3)]
    save_changes(connection, Changes(resources=[more], resources_deleted=gone))
    live = load_live(connection)
    assert (live.resources, live.next_resource_id) == ([more, none], 6)


def test_a_changed_spec_replaces_the_old_one(connection: Connection, make: Any) -> None:
    save_changes(connection, make.submitted(make.job(1), make.job(2)))
    spec = replace(make.job(1).spec, conditions=(Condition("os", "==", "linux"),))
    save_changes(
        connection, Changes(specs=[(JobId(1), spec), (JobId(2), spec)], deleted=[JobId(2)])
    )
    (job,) = load_live(connection).jobs
    assert job.spec == spec


# --- attributes -------------------------------------------------------------------------------


def attribute(job: int, name: str, text: str, at: int = 5, count: int = 0) -> Attribute:
    return Attribute(JobId(job), name, text, Moment(at), count)


def points(job: int, name: str, *numbers: int) -> list[AttributePoint]:
    return [AttributePoint(JobId(job), name, n, Moment(n), n / 2) for n in numbers]


def test_attributes_are_loaded_with_their_job_and_read_with_those_of_its_spec(
    connection: Connection, make: Any
) -> None:
    spec = replace(make.job(1).spec, attributes={"Scene": '"a"', "LOSS": "9"})
    loss, note = attribute(1, "Loss", "0.5", count=3), attribute(1, "Note", '"é漢"')
    other = attribute(3, "X", "1")
    save_changes(
        connection,
        make.submitted(
            make.job(1, spec=spec), make.job(2), make.job(3, "failed"),
            attributes=[note, loss, other],
        ),
    )  # fmt: skip
    assert load_live(connection).attributes == [loss, note]
    assert load_component(connection, [JobId(3)]).attributes == [other]
    one, two, three = queries.job_views(connection, [1, 2, 3], {Part.ATTRIBUTES})
    assert one.attributes == (attribute(1, "Scene", '"a"', 1), loss, note)
    assert (two.attributes, three.attributes) == ((), (other,))
    [view] = queries.job_views(connection, [JobId(1)])
    assert view.attributes == ()


def test_setting_an_attribute_writes_its_row_and_nothing_else(
    connection: Connection, make: Any
) -> None:
    save_changes(connection, make.submitted(make.job(1)))
    written: list[str] = []
    connection.connection.driver_connection.set_trace_callback(written.append)
    save_changes(connection, Changes(attributes=[attribute(1, "A", "1", count=1)]))
    save_changes(connection, Changes(attributes=[attribute(1, "a", "2", count=2)]))
    assert len(written) == 2
    assert all(statement.startswith("INSERT INTO job_attributes") for statement in written)
    assert load_component(connection, [JobId(1)]).attributes == [attribute(1, "a", "2", count=2)]


def test_a_history_is_thinned_by_its_stride(connection: Connection, make: Any) -> None:
    save_changes(connection, make.submitted(make.job(1), make.job(2)))
    kept = [*points(1, "a", 0, 1, 2, 3), *points(1, "b", 0, 1), *points(2, "a", 0, 1)]
    save_changes(connection, Changes(points=kept))
    save_changes(
        connection, Changes(points=points(1, "a", 4, 5), strides=[(1, "a", 2), (1, "c", 8)])
    )
    assert queries.attribute_points(connection, JobId(1)) == {
        "a": points(1, "a", 0, 2, 4),
        "b": points(1, "b", 0, 1),
    }
    assert queries.attribute_points(connection, JobId(2)) == {"a": points(2, "a", 0, 1)}


def test_attributes_and_points_go_with_their_job(connection: Connection, make: Any) -> None:
    save_changes(
        connection,
        make.submitted(
            make.job(1, "failed"), attributes=[attribute(1, "a", "1")], points=points(1, "a", 0)
        ),
    )
    late = {"attributes": [attribute(1, "b", "1")], "points": points(1, "b", 0)}
    save_changes(connection, Changes(deleted=[JobId(1)], **late))
    assert count(connection, schema.job_attributes) == count(connection, schema.attribute_points)
    assert count(connection, schema.job_attributes) == 0


# --- notes ------------------------------------------------------------------------------------


def said(number: int, thread: int, text: str) -> Note:
    return Note(NoteId(number), ThreadId(thread), Moment(number * 10), text)


@pytest.fixture
def notes(connection: Connection, make: Any) -> list[Note]:
    """Two notes about job 1, two about node 1, one about nothing."""
    node = Node(NodeId(1), NodeFacts("a"), Moment(1), Moment(1))
    notes = [
        said(1, 1, "dark"), said(2, 2, "new disk"), said(3, 1, "fixed"), said(4, 3, "hi"),
        said(5, 2, "old again"),
    ]  # fmt: skip
    save_changes(
        connection,
        make.submitted(
            make.job(1), make.job(2), nodes=[node], notes=notes, next_thread_id=4, next_note_id=6,
            threads=[
                Thread(ThreadId(1), job=JobId(1)), Thread(ThreadId(2), node=NodeId(1)),
                Thread(ThreadId(3)),
            ],
        ),
    )  # fmt: skip
    return notes


def test_threads_are_loaded_by_their_ids_and_read_with_their_texts(
    connection: Connection, notes: list[Note]
) -> None:
    dark, disk, fixed, hi, again = notes
    live = load_live(connection)
    assert live.threads == [
        Thread(ThreadId(1), JobId(1), None, (dark.id, fixed.id)),
        Thread(ThreadId(2), None, NodeId(1), (disk.id, again.id)),
        Thread(ThreadId(3), None, None, (hi.id,)),
    ]
    assert (live.next_thread_id, live.next_note_id) == (4, 6)
    about_job = ThreadView(ThreadId(1), JobId(1), None, (dark, fixed))
    about_node = ThreadView(ThreadId(2), None, NodeId(1), (disk, again))
    greeting = ThreadView(ThreadId(3), None, None, (hi,))
    assert queries.threads(connection) == [about_job, about_node, greeting]
    assert queries.threads(connection, [ThreadId(3), ThreadId(9), ThreadId(1)]) == [
        greeting, about_job,
    ]  # fmt: skip
    assert queries.threads(connection, [ThreadId(1)], latest_only=True) == [
        replace(about_job, notes=(fixed,))
    ]
    assert queries.thread_ids(connection) == [1, 2, 3]


def test_jobs_and_nodes_are_read_with_their_latest_note(
    connection: Connection, notes: list[Note]
) -> None:
    views = queries.job_views(connection, [JobId(1), JobId(2)], {Part.NOTES})
    assert [view.latest_note for view in views] == [notes[2], None]
    assert queries.job_views(connection, [JobId(1)], {Part.SPEC})[0].latest_note is None
    assert queries.latest_notes_of_nodes(connection) == {1: notes[4]}


@pytest.mark.usefixtures("notes")
def test_removed_threads_and_deleted_jobs_take_their_notes_along(connection: Connection) -> None:
    save_changes(connection, Changes(threads_deleted=[ThreadId(2)], notes_deleted=[NoteId(3)]))
    assert [thread.notes for thread in load_live(connection).threads] == [(1,), (4,)]
    save_changes(connection, Changes(deleted=[JobId(1)], threads_deleted=[ThreadId(1)]))
    assert [thread.id for thread in load_live(connection).threads] == [3]
    assert count(connection, schema.notes) == 1


def test_a_job_may_get_another_thread_in_one_batch(
    connection: Connection, notes: list[Note]
) -> None:
    again = Thread(ThreadId(4), job=JobId(1))
    save_changes(
        connection,
        Changes(threads_deleted=[ThreadId(1)], threads=[again], notes=[said(6, 4, "anew")]),
    )
    [view] = queries.job_views(connection, [JobId(1)], {Part.NOTES})
    assert view.latest_note == said(6, 4, "anew")


def test_what_a_farm_hands_out_is_what_it_loads(connection: Connection) -> None:
    farm = Farm()
    moment = Moment(5)

    def save() -> None:
        save_changes(connection, farm.take_changes())

    def send(message: Message) -> Any:
        return farm.handle(message, moment).reply

    node = send(NodeJoined(NodeFacts("a")))
    (job,) = send(parse({"name": "a", "command": "true"}))
    send(AddNote("about a job", job=job))
    unsaid = send(AddNote("not for long", node=node))
    send(RemoveNotes((unsaid,)))
    save()
    send(AddNote("about a node", node=node))
    doubt = send(AddNote("a reply", job=job))
    save()
    send(RemoveNotes((doubt,)))
    save()
    loaded = Farm()
    loaded.load(load_live(connection))
    check(loaded)
    assert loaded.board.threads == farm.board.threads
    assert (loaded.board.next_thread_id, loaded.board.next_note_id) == (4, 5)
    assert not loaded.take_changes()
