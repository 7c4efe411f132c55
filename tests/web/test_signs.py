"""For how long a running job has been silent, and when that is long."""

from __future__ import annotations

import os
from typing import Any

from msgspec.structs import replace

from roost.core import messages as m
from roost.core.records import JobId, Moment
from roost.gateway import SILENT_MS, SILENT_MS_MIN, JobView, Part

World = Any


async def running(world: World, frames: int = 1) -> tuple[JobId, list[JobId]]:
    """A job with frames, all of which run on a node."""
    node = await world.node("render1", cpus=frames)
    specs = [{"name": f"frame {n}", "command": "x"} for n in range(frames)]
    root, *jobs = await world.submit({"name": "film", "children": specs})
    for job in jobs:
        await world.report(node, m.AttemptStarted(job, 1))
    return root, jobs


async def seen(world: World, job: JobId) -> JobView:
    [view] = await world.access.job_views((job,), frozenset({Part.SIGNS}))
    return view


async def test_a_run_is_silent_since_it_last_printed(world: World) -> None:
    _, [job] = await running(world)
    began = (await seen(world, job)).job.command_started_at
    assert (await seen(world, job)).sign_at == began
    world.print(job, 1, "still here\n")
    [(log, _)] = world.output.pieces(job, 1)
    later = began // 1000 + 500
    os.utime(log, (later, later))
    assert (await seen(world, job)).sign_at == later * 1000


async def test_progress_is_a_sign_too(world: World) -> None:
    _, [job] = await running(world)
    began = (await seen(world, job)).sign_at
    node = (await world.access.nodes())[0].node.id
    while world.access.now() == began:
        pass
    await world.ask(m.NodeBeat(node, progress=((job, 1, 400_000),)))
    assert (await seen(world, job)).sign_at > began


async def test_only_what_runs_is_silent(world: World) -> None:
    root, [job] = await running(world)
    node = (await world.access.nodes())[0].node.id
    assert (await seen(world, root)).sign_at is None
    await world.run(node, job, 1)
    assert (await seen(world, job)).sign_at is None


async def test_silence_is_long_by_what_the_siblings_took(world: World) -> None:
    _, jobs = await running(world, 4)
    node = (await world.access.nodes())[0].node.id
    assert (await seen(world, jobs[0])).usual_ms is None
    for job in jobs[1:]:
        await world.run(node, job, 1)
    world.access._signs._usual.clear()
    view = await seen(world, jobs[0])
    assert view.usual_ms is not None and view.usual_ms < 60_000


def test_silence_is_long_after_an_hour_or_the_usual_time_but_never_within_a_minute() -> None:
    view = JobView(None, None, sign_at=Moment(0))  # type: ignore[arg-type]
    for usual_ms, long_after in ((None, SILENT_MS), (90_000, 90_000), (5, SILENT_MS_MIN)):
        one = replace(view, usual_ms=usual_ms)
        assert not one.is_silent(Moment(long_after))
        assert one.is_silent(Moment(long_after + 1))
    assert not replace(view, sign_at=None).is_silent(Moment(10**12))


async def test_the_column_is_among_children_and_optional_in_the_list(world: World) -> None:
    root, _ = await running(world)
    cell = '<td class="num silent" data-label="Silent for"><time'
    assert cell in await world.page(f"/jobs/{root}?tab=children")
    assert cell in await world.page("/nodes/1")
    assert cell in await world.page("/jobs?every=1&columns=name,silent")
    assert cell not in await world.page("/jobs?every=1")
