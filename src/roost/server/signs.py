"""When a running job last gave a sign of life: what it printed, what progress it made.

What it printed is known by its output file, whose time of change costs nothing to keep and outlives
the server. Progress is seen in what each save is about, and kept here for the jobs that run. What
the siblings of a job took is asked of the record, and remembered for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from roost.core.messages import Changes
from roost.core.records import Job, JobId, JobStatus, Moment
from roost.gateway import JobView
from roost.server.engine import now
from roost.store import queries
from roost.store.database import Database
from roost.store.output import OutputStore

USUAL_KEPT_MS = 30_000
USUAL_KEPT_MAX = 2_000
"""Parents of which it is remembered."""

RUNNING = JobStatus.RUNNING


class Signs:
    """See the module's text."""

    def __init__(self, database: Database, output: OutputStore) -> None:
        self._database = database
        self._output = output
        self._progress: dict[JobId, tuple[int, Moment]] = {}
        """Of jobs that run and have made some: how far, and when that was seen."""
        self._usual: dict[JobId, tuple[Moment, int | None]] = {}
        """By parent: when it was asked, and what its children usually take."""

    def take(self, changes: Changes) -> None:
        """What one save was about."""
        for job, _ in changes.jobs:
            if job.status is RUNNING and job.progress:
                seen = self._progress.get(job.id)
                if seen is None or seen[0] != job.progress:
                    self._progress[job.id] = (job.progress, now())
            elif self._progress:
                self._progress.pop(job.id, None)

    async def given(self, views: list[JobView]) -> list[JobView]:
        """The same views, with `sign_at` and `usual_ms` of those jobs that run."""
        running = [view.job for view in views if view.job.status is RUNNING and view.job.attempt]
        if not running:
            return views
        signs = await asyncio.to_thread(self._latest, running)
        usual = await self._usually([job.id for job in running])
        return [
            replace(view, sign_at=signs[view.job.id], usual_ms=usual.get(view.job.id))
            if view.job.id in signs
            else view
            for view in views
        ]

    def _latest(self, jobs: Sequence[Job]) -> dict[JobId, Moment]:
        found: dict[JobId, Moment] = {}
        for job in jobs:
            printed = self._output.written_at(job.id, job.attempt)
            _, progressed = self._progress.get(job.id, (0, None))
            signs = (job.command_started_at or job.started_at, printed, progressed)
            if known := [at for at in signs if at is not None]:
                found[job.id] = max(known)
        return found

    async def _usually(self, jobs: Sequence[JobId]) -> dict[JobId, int | None]:
        parents = await self._database.read(queries.first_parents, jobs)
        if len(self._usual) > USUAL_KEPT_MAX:
            self._usual.clear()
        usual: dict[JobId, int | None] = {}
        for parent in set(parents.values()):
            asked_at, usual[parent] = self._usual.get(parent, (Moment(0), None))
            if now() - asked_at > USUAL_KEPT_MS:
                usual[parent] = await self._database.read(queries.usual_ms, parent)
                self._usual[parent] = (now(), usual[parent])
        return {job: usual[parent] for job, parent in parents.items()}
