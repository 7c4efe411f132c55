"""How the farm did, minute by minute: a sample of its numbers, and what ended in between.

Fed with every save's changes, it counts runs that ended and how long jobs waited to begin; once a
minute it writes a sample. Samples are kept for `KEPT_MS` and then forgotten, as is, after a longer
time, what people did.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from roost.core.messages import Changes
from roost.core.records import DAY_MS, HOUR_MS, AttemptCause, JobId, Moment
from roost.errors import Refused, StoreFailure
from roost.gateway import FarmCounts, Pace, Sample
from roost.server.engine import now
from roost.store import queries, rows
from roost.store.database import Database

SAMPLE_S = 60
HOUR_SAMPLES = HOUR_MS // 1000 // SAMPLE_S
KEPT_MS = 90 * DAY_MS
ACTIVITY_KEPT_MS = 365 * DAY_MS
ACTIVITIES_FORGOTTEN_MAX = 2_000
"""In a minute."""
WAITS_MAX = 20_000
"""Of a minute; what begins beyond that does not change a percentile that matters."""

log = structlog.get_logger(__name__)


class Statistics:
    """See the module's text."""

    def __init__(self, database: Database, counts: Callable[[], Awaitable[FarmCounts]]) -> None:
        self._database = database
        self._counts = counts
        self._waits_ms: list[int] = []
        self._last_waits_ms: tuple[int, int, int] = (0, 0, 0)
        self._ended = self._failed = 0
        self._ended_before = self._failed_before = 0
        # As many as there are samples in an hour; also those of the server before.
        self._failed_lately: deque[int] = deque(maxlen=HOUR_SAMPLES)

    def take(self, changes: Changes) -> None:
        """What one save was about."""
        if not changes.attempts:
            return
        runnable: dict[JobId, Moment | None] | None = None
        for attempt in changes.attempts:
            if attempt.ended_at is not None:
                self._ended += 1
                failed = attempt.cause in _FAILURES or bool(attempt.exit_code)
                self._failed += failed and not attempt.stopping
            if attempt.started_at is not None and len(self._waits_ms) < WAITS_MAX:
                if runnable is None:
                    runnable = {job.id: job.runnable_at for job, _ in changes.jobs}
                since = runnable.get(attempt.job)
                if since is not None and attempt.started_at >= since:
                    self._waits_ms.append(attempt.started_at - since)

    def pace(self) -> Pace:
        """What has been counted since the server started."""
        lately = sum(self._failed_lately) + self._failed - self._failed_before
        return Pace(self._ended, self._failed, *self._last_waits_ms, failed_an_hour=lately)

    async def run(self) -> None:
        """A sample each minute until it is cancelled."""
        try:
            since = Moment(now() - HOUR_MS)
            kept = await self._database.read(queries.samples, since, HOUR_SAMPLES)
            self._failed_lately.extend(sample.failed for sample in kept)
        except StoreFailure as failure:
            log.warning("samples of the last hour cannot be read", reason=str(failure))
        while True:
            await asyncio.sleep(SAMPLE_S)
            try:
                sample = self.sample(await self._counts(), now())
                await self._database.write(rows.save_sample, sample, Moment(sample.at - KEPT_MS))
                await self._database.write(
                    rows.forget_activities,
                    Moment(sample.at - ACTIVITY_KEPT_MS),
                    ACTIVITIES_FORGOTTEN_MAX,
                )
            except (Refused, StoreFailure) as failure:
                log.warning("no sample of the farm is written now", reason=str(failure))

    def sample(self, counts: FarmCounts, at: Moment) -> Sample:
        """The numbers now, and what has happened since the last sample."""
        waits = sorted(self._waits_ms)
        self._last_waits_ms = (_at(waits, 50), _at(waits, 90), _at(waits, 99))
        self._waits_ms = []
        ended, self._ended_before = self._ended - self._ended_before, self._ended
        failed, self._failed_before = self._failed - self._failed_before, self._failed
        self._failed_lately.append(failed)
        return Sample(
            at=at,
            running=counts.running,
            waiting=counts.waiting,
            cpus=counts.cpus,
            cpus_busy=counts.cpus_busy,
            nodes=counts.nodes,
            nodes_active=counts.nodes_active,
            nodes_busy=counts.nodes_busy,
            ended=ended,
            failed=failed,
            wait_p50_ms=self._last_waits_ms[0],
            wait_p90_ms=self._last_waits_ms[1],
            wait_p99_ms=self._last_waits_ms[2],
            failed_an_hour=sum(self._failed_lately),
        )


_FAILURES = frozenset({AttemptCause.NOT_STARTED, AttemptCause.TIME_LIMIT, AttemptCause.LOST})


def _at(values: list[int], percent: int) -> int:
    """A percentile of sorted values; 0 when there are none."""
    return values[min(len(values) * percent // 100, len(values) - 1)] if values else 0
