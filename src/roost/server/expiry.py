"""Deletes job trees whose time is over (`expire_jobs_days`, HQueue's `hqserver.expireJobsDays`).

The database knows which root ended first, and so when the next one is due; until then this sleeps.
Whether a tree goes is decided by the core, for a job linked with it may still be unfinished: such
a tree is passed over and asked about again an hour later.

Nobody waits for it: few trees go at a time, and the rest after them is a multiple of the time that
they took. A tree goes as a whole, however large it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from roost.core.messages import ExpireJobs
from roost.core.records import JobId, Moment
from roost.errors import Refused, StoreFailure
from roost.server.engine import Engine, now
from roost.store import queries
from roost.store.database import Database

JOBS_AT_ONCE = 200
ROOTS_AT_ONCE = 50
REST_FACTOR = 9
"""It keeps the server busy for a tenth of the time."""
SLEEP_MS_MAX = 60 * 60 * 1000
"""Clocks are set, machines are put to sleep, and trees that were passed over come to an end."""
RETRY_MS = 60 * 1000

log = structlog.get_logger(__name__)


class Expiry:
    """Expires jobs `after_ms` after their root ended; with 0, never."""

    def __init__(self, engine: Engine, database: Database, after_ms: int) -> None:
        self._engine = engine
        self._database = database
        self._after_ms = after_ms

    async def run(self) -> None:
        """Runs until it is cancelled; at once done when jobs never expire."""
        while self._after_ms:
            try:
                due = await self.sweep()
            except (Refused, StoreFailure) as failure:
                log.warning("jobs cannot be expired now", reason=str(failure))
                due = Moment(now() + RETRY_MS)
            await asyncio.sleep(min(max(due - now(), 0), SLEEP_MS_MAX) / 1000)

    async def sweep(self) -> Moment:
        """Expire all that is due; returns when the next is. Raises `Refused`, `StoreFailure`."""
        loop = asyncio.get_running_loop()
        last = (Moment(0), JobId(0))
        while True:
            roots = await self._database.read(queries.ended_roots, last, ROOTS_AT_ONCE)
            due = self._due(roots)
            if not due:
                # What ends from now on is due later than what has ended already.
                first = roots[0][0] if roots else now()
                return Moment(first + self._after_ms)
            begun = loop.time()
            await self._engine.ask(ExpireJobs(tuple(job for _, job, _ in due)))
            last = due[-1][:2]
            await asyncio.sleep((loop.time() - begun) * REST_FACTOR)

    def _due(
        self, roots: Sequence[tuple[Moment, JobId, int]]
    ) -> Sequence[tuple[Moment, JobId, int]]:
        """The first of these whose time is over, as many as go at once; one at least, if any."""
        jobs = 0
        for count, (ended_at, _, tasks) in enumerate(roots):
            jobs += 1 + tasks
            if ended_at + self._after_ms > now() or (count and jobs > JOBS_AT_ONCE):
                return roots[:count]
        return roots
