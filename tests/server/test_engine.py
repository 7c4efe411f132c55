"""The loop that owns the farm, on a real database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from roost.core import blackboard
from roost.core.messages import (
    AttemptStarted,
    CancelJobs,
    Effect,
    NewJob,
    NodeJoined,
    NodeReported,
    SetAttributes,
    SetPriority,
    StartAttempt,
    SubmitJobs,
)
from roost.core.records import JobId, JobSpec, Moment, NodeFacts
from roost.core.state import Rules
from roost.errors import StoreFailure, Unavailable
from roost.server import engine as module
from roost.server.engine import Engine
from roost.store.database import Database
from roost.store.rows import load_live

HOUR_MS = 3_600_000


@pytest.fixture
def effects() -> list[Effect]:
    """What the engine has asked for."""
    return []


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'roost.db'}")
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
async def engine(database: Database, effects: list[Effect]) -> AsyncIterator[Engine]:
    def act(some: Sequence[Effect]) -> None:
        effects.extend(some)

    engine = Engine(database, Rules(), act, lambda _: None, lambda: None)
    await engine.load()
    running = asyncio.ensure_future(engine.run())
    yield engine
    engine.stop()
    await running


def jobs(*names: str) -> SubmitJobs:
    return SubmitJobs(tuple(NewJob(JobSpec(name, "true"), name) for name in names))


async def test_a_job_starts_with_the_answer_to_who_submitted_it(
    engine: Engine, effects: list[Effect]
) -> None:
    await engine.ask(NodeJoined(NodeFacts("render1", cpus=2)))  # type: ignore[arg-type]
    [job] = await engine.ask(jobs("single"))  # type: ignore[misc]
    assert [effect.order.job for effect in effects if isinstance(effect, StartAttempt)] == [job]


async def test_jobs_start_when_the_clock_was_set_back(
    engine: Engine, effects: list[Effect], monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.ask(NodeJoined(NodeFacts("render1", cpus=2)))  # type: ignore[arg-type]
    earlier = Moment(module.now() - HOUR_MS)
    monkeypatch.setattr(module, "now", lambda: earlier)
    [job] = await engine.ask(jobs("single"))  # type: ignore[misc]
    assert [effect.order.job for effect in effects if isinstance(effect, StartAttempt)] == [job]


async def test_jobs_that_come_together_are_answered_in_their_order(engine: Engine) -> None:
    asked = [engine.ask(jobs(f"job {n}")) for n in range(50)]
    answers = await asyncio.gather(*asked)
    assert answers == [[n + 1] for n in range(50)]


async def test_the_farm_is_changed_under_the_lock_and_saved_without_it(
    engine: Engine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []

    def watch(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def watched(*arguments: object) -> object:
            seen.append((name, engine.lock.locked()))
            return real(*arguments)

        monkeypatch.setattr(owner, name, watched)

    [job] = await engine.ask(jobs("over"))  # type: ignore[misc]
    await engine.ask(CancelJobs((job,)))
    for changing in ("handle", "take_changes", "admit"):
        watch(engine.farm, changing)
    for waiting in ("read", "save"):
        watch(database, waiting)
    await engine.ask(SetPriority((job,), 5))
    await engine.load()
    assert set(seen) == {
        ("handle", True), ("take_changes", True), ("admit", True), ("read", False), ("save", False),
    }  # fmt: skip


async def test_what_somebody_was_told_is_seen_by_who_looks_from_another_thread(
    engine: Engine,
) -> None:
    def look(job: JobId) -> str | None:
        with engine.lock:
            return blackboard.value_of(engine.farm, job, "Take")

    [job] = await engine.ask(jobs("single"))  # type: ignore[misc]
    for take in range(100):
        await engine.ask(SetAttributes(job, {"Take": str(take)}))
        assert await asyncio.to_thread(look, job) == str(take)


async def test_the_farm_goes_on_without_a_job_that_the_record_refuses(
    engine: Engine, effects: list[Effect], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SAVING_MS", 0)
    with sqlite3.connect(tmp_path / "roost.db") as disk:
        disk.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON jobs WHEN NEW.name = 'bad'"
            " BEGIN SELECT RAISE(ABORT, 'nobody can have that name'); END"
        )
    disk.close()
    joined = NodeJoined(NodeFacts("render1", cpus=2))
    node: Any = await engine.ask(joined)  # type: ignore[arg-type]
    [bad] = await engine.ask(jobs("bad"))  # type: ignore[misc]
    with pytest.raises(Unavailable, match="takes no work"):
        await engine.ask(NodeReported(node, AttemptStarted(bad, 1)))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while engine.failure is not None:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert bad not in engine.farm.jobs
    await engine.ask(joined)  # type: ignore[arg-type]
    [good] = await engine.ask(jobs("good"))  # type: ignore[misc]
    assert good == bad + 1
    assert engine.farm.jobs[good].status == "running"


async def test_a_record_that_makes_no_sense_is_refused_with_what_to_do(
    database: Database, engine: Engine, tmp_path: Path
) -> None:
    await engine.ask(jobs("one"))
    await database.read(load_live)
    with sqlite3.connect(tmp_path / "roost.db") as disk:
        disk.execute("PRAGMA ignore_check_constraints = ON")
        disk.execute("UPDATE jobs SET failures = 'no list'")
    disk.close()
    with pytest.raises(StoreFailure, match=r"roost\.db holds what cannot be .* Put a copy in its"):
        await engine.load()
