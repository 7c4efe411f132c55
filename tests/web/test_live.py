"""What a page is told by its stream: what it missed, what changes, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from roost.core import messages as m
from roost.core.records import AttemptCause, JobId
from roost.server import access

World = Any


async def first_told(world: World, jobs: list[JobId], seen: int) -> Any:
    changes = world.access.watch(jobs, seen)
    try:
        return await anext(changes)
    finally:
        await changes.aclose()


async def test_a_page_is_told_what_changed_while_it_was_loaded(world: World) -> None:
    node = await world.node("a")
    jobs = await world.submit(
        {"name": "root", "children": [{"name": "b", "command": "true"}, {"name": "c"}]}
    )
    other = await world.submit({"name": "other", "command": "true"})
    seen = world.access.revision()
    assert (await first_told(world, [*jobs, *other], seen)).jobs == ()
    await world.ask(m.SetPriority((other[0],), 7))
    told = await first_told(world, [*jobs, *other], seen)
    assert told.jobs == tuple(other) and told.counts and not told.submitted and not told.nodes
    await world.submit({"name": "new", "command": "true"})
    assert (await first_told(world, jobs, seen)).submitted
    await world.ask(m.SetNodesDisabled((node,), True))
    assert (await first_told(world, jobs, seen)).nodes


async def test_a_page_that_missed_more_than_is_remembered_is_told_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = await world.submit({"name": "a", "command": "true"})
    long_ago = world.access.revision()
    for priority in range(access.CHANGES_KEPT + 1):
        await world.ask(m.SetPriority((jobs[0],), priority + 1))
    unchanged = JobId(99)
    told = await first_told(world, [*jobs, unchanged], long_ago)
    assert told.jobs == (*jobs, unchanged)
    for of_another_server in (0, world.access.revision() + 1):
        told = await first_told(world, [unchanged], of_another_server)
        assert told.jobs == (unchanged,) and told.submitted and told.nodes


async def test_a_page_is_told_of_a_line_that_a_run_adds_to_its_story(world: World) -> None:
    node = await world.node("a")
    [job] = await world.submit({"name": "a", "command": "true"})
    await world.report(node, m.AttemptStarted(job, 1))
    seen = world.access.revision()
    await world.report(node, m.EntryReported(job, 1, 1, "ulog", "frame 7 is done"))
    told = await first_told(world, [job], seen)
    assert told.jobs == (job,) and not told.counts


async def test_a_page_is_told_of_notes_and_when_they_go(world: World) -> None:
    [job, other] = [(await world.submit({"name": "a", "command": "true"}))[0] for _ in range(2)]
    seen = world.access.revision()
    note = await world.ask(m.AddNote("Looks good.", job=job))
    told = await first_told(world, [job, other], seen)
    assert told.jobs == (job,) and told.nodes
    seen = world.access.revision()
    await world.ask(m.RemoveNotes((note,)))
    assert (await first_told(world, [job], seen)).nodes


async def test_a_page_is_told_when_a_cancelled_run_has_ended(world: World) -> None:
    node = await world.node("a")
    [job] = await world.submit({"name": "a", "command": "true"})
    await world.report(node, m.AttemptStarted(job, 1))
    await world.ask(m.CancelJobs((job,)))
    seen = world.access.revision()
    await world.report(node, m.AttemptEnded(job, 1, AttemptCause.CANCELLED))
    assert (await first_told(world, [job], seen)).jobs == (job,)
