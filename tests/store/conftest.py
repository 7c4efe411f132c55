"""What the tests of the store share: a fresh database file, and small jobs to put into it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roost.core.lifecycle import FINAL
from roost.core.messages import Changes
from roost.core.records import Job, JobId, JobSpec, JobStatus, Moment, Rollup
from roost.store.database import Database

ROLLUP = Rollup("waiting for resources", 250_000, 4, 1, 0, 2)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database to copy: migrating takes longer than most tests."""
    file = tmp_path_factory.mktemp("template") / "roost.db"

    async def make() -> None:
        database = Database(f"sqlite:///{file}")
        await database.migrate()
        await database.close()

    asyncio.run(make())
    return file


@pytest.fixture
def file(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(template, tmp_path / "roost.db"))


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{file}")
    yield database
    await database.close()


class Make:
    """Records with the fields that matter and something legal for the rest."""

    rollup = ROLLUP

    @staticmethod
    def job(number: int, status: str = "runnable", **fields: Any) -> Job:
        spec = fields.pop("spec", None) or JobSpec(
            name=fields.pop("name", f"job {number}"),
            command="true",
            submitted_by=fields.pop("submitted_by", "ada"),
            conditions=fields.pop("conditions", ()),
        )
        ended = Moment(9) if status in FINAL else None
        fields = {"ended_at": ended, "queued_at": Moment(1), "runnable_at": Moment(2)} | fields
        return Job(JobId(number), spec, JobStatus(status), **fields)

    @classmethod
    def submitted(cls, *jobs: Job, **rest: Any) -> Changes:
        return Changes(submitted=[(job, ROLLUP) for job in jobs], **rest)

    @classmethod
    def changed(cls, *jobs: Job, **rest: Any) -> Changes:
        return Changes(jobs=[(job, ROLLUP) for job in jobs], **rest)


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make
