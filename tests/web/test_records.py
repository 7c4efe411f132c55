"""The farm's numbers over time, and the kinds of jobs there were."""

from __future__ import annotations

from typing import Any

from roost.core.messages import Changes
from roost.core.records import (
    Activity,
    Attempt,
    AttemptCause,
    Job,
    JobId,
    JobSpec,
    JobStatus,
    Moment,
    NodeId,
    Rollup,
)
from roost.gateway import FarmCounts, Pace, Sample
from roost.server.statistics import HOUR_SAMPLES, Statistics
from roost.store import rows

World = Any
COUNTS = FarmCounts({"running": 3, "runnable": 2, "queued": 1}, 5, 2, 4, 16, 6)


def attempt(number: int, started: int, ended: int | None = None, **more: Any) -> Attempt:
    cause = None if ended is None else more.pop("cause", AttemptCause.EXITED)
    return Attempt(
        JobId(number), 1, (NodeId(1),), Moment(0),
        started_at=Moment(started), ended_at=None if ended is None else Moment(ended),
        cause=cause, **more,
    )  # fmt: skip


def runnable(number: int, at: int) -> tuple[Job, Rollup]:
    job = Job(JobId(number), JobSpec("a"), JobStatus.RUNNING, Moment(0), runnable_at=Moment(at))
    return job, Rollup("running", 0, 1, 0, 0, 1)


def test_a_sample_holds_what_is_and_what_happened_since_the_last() -> None:
    statistics = Statistics(None, None)  # type: ignore[arg-type]
    statistics.take(
        Changes(
            jobs=[runnable(n, 100) for n in (1, 2, 3)],
            attempts=[attempt(n, 100 + n * 1000) for n in (1, 2, 3)],
        )
    )
    statistics.take(
        Changes(
            attempts=[
                attempt(1, 1100, 9000, exit_code=0),
                attempt(2, 2100, 9000, exit_code=1),
                attempt(3, 3100, 9000, cause=AttemptCause.TIME_LIMIT),
            ]
        )
    )
    sample = statistics.sample(COUNTS, Moment(60_000))
    assert (sample.running, sample.waiting, sample.cpus_busy) == (3, 3, 6)
    assert (sample.ended, sample.failed) == (3, 2)
    assert (sample.wait_p50_ms, sample.wait_p99_ms) == (2000, 3000)
    after = statistics.sample(COUNTS, Moment(120_000))
    assert (after.ended, after.failed, after.wait_p50_ms) == (0, 0, 0)
    assert (statistics.pace().ended, statistics.pace().failed) == (3, 2)


def test_failures_of_the_last_hour_are_counted_and_those_before_are_not() -> None:
    statistics = Statistics(None, None)  # type: ignore[arg-type]
    statistics.take(Changes(attempts=[attempt(1, 100, 200, exit_code=1)]))
    assert statistics.pace().failed_an_hour == 1
    for minute in range(1, HOUR_SAMPLES + 1):
        assert statistics.sample(COUNTS, Moment(minute * 60_000)).failed_an_hour == 1
    assert statistics.sample(COUNTS, Moment(0)).failed_an_hour == 0
    assert statistics.pace() == Pace(1, 1)


async def test_samples_tell_what_failed_in_the_hour_before_each(world: World) -> None:
    for minute in (0, 30, 60, 89, 90):
        one = Sample(Moment(minute * 60_000), *[0] * 8, 1, 0, 0, 0)
        await world.access._database.write(rows.save_sample, one, Moment(0))
    found = await world.access.samples(Moment(60 * 60_000), 100)
    assert [one.failed_an_hour for one in found] == [2, 3, 3]
    assert (await world.access.samples(Moment(60 * 60_000), 1))[0].failed_an_hour == 3


def test_a_run_that_was_cancelled_has_not_failed() -> None:
    statistics = Statistics(None, None)  # type: ignore[arg-type]
    stopped = attempt(1, 100, 200, cause=AttemptCause.CANCELLED, exit_code=-15, stopping=True)
    statistics.take(Changes(attempts=[stopped]))
    assert statistics.pace().failed == 0


async def test_long_times_are_folded_and_old_samples_forgotten(world: World) -> None:
    def sample(minute: int) -> Sample:
        return Sample(Moment(minute * 60_000), minute, 0, 4, 2, 1, 1, 1, 10, 1, minute, 0, 0)

    for minute in range(1, 11):
        await world.access._database.write(rows.save_sample, sample(minute), Moment(0))
    assert [one.running for one in await world.access.samples(Moment(0), 100)] == [*range(1, 11)]
    folded = await world.access.samples(Moment(0), 5)
    assert [(one.running, one.ended, one.wait_p50_ms) for one in folded] == [
        (2, 20, 2), (4, 20, 4), (6, 20, 6), (8, 20, 8), (10, 20, 10),
    ]  # fmt: skip
    await world.access._database.write(rows.save_sample, sample(11), Moment(10 * 60_000))
    assert [one.running for one in await world.access.samples(Moment(0), 100)] == [10, 11]


async def test_what_people_did_is_forgotten_from_the_oldest_on(world: World) -> None:
    for at in (10, 20, 30):
        world.access._engine.farm.note(Activity(Moment(at), "page", "drain"))
    await world.submit({"name": "a", "command": "x"})
    await world.access._database.write(rows.forget_activities, Moment(25), 1)
    assert [deed.at for _, deed in await world.access.activities(9)] == [30, 20]
    await world.access._database.write(rows.forget_activities, Moment(25), 100)
    assert [deed.at for _, deed in await world.access.activities(9)] == [30]


async def test_a_submission_is_one_activity(world: World) -> None:
    form = {"command": "x", "name": "beauty", "frames": "1-20"}
    await world.post("/submit", form)
    [(_, deed)] = await world.access.activities(9)
    assert (deed.action, deed.text, deed.by) == (
        "submit", "beauty, with 20 below", "page from 127.0.0.1",
    )  # fmt: skip
    assert f"/jobs/{deed.jobs[0]}" in await world.page("/activity?q=beauty")


async def test_jobs_whose_names_differ_in_numbers_are_of_one_kind(world: World) -> None:
    node = await world.node("render1", cpus=64)
    specs = [{"name": f"sh{n:03}_fx_v{n}", "command": "x"} for n in range(3)]
    for job in await world.submit([*specs, {"name": "publish", "command": "x"}]):
        await world.run(node, job, 1, exit_code=int(job == 2))
    kinds = await world.access.kinds(100)
    assert [(one.name, one.jobs, one.failed) for one in kinds] == [
        ("sh#_fx_v#", 3, 1), ("publish", 1, 0),
    ]  # fmt: skip
    assert "sh#_fx_v#" in await world.page("/statistics")
