"""Deletes the output of deleted jobs, slowly.

A file system that is asked to delete thousands of files at once makes everybody wait who creates
one meanwhile: here, the output of jobs that start. So a few go at a time, with rests. Which are
still to go is written down beside the output, for the next server to go on where this one ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import structlog

from roost.core.records import JobId
from roost.errors import StoreFailure
from roost.store.output import OutputStore

JOBS_AT_ONCE = 20
REST_S = 0.1

log = structlog.get_logger(__name__)


class Removal:
    """The queue of jobs whose output is to go, and who works on it."""

    def __init__(self, output: OutputStore) -> None:
        self._output = output
        self._waiting = deque(output.doomed())
        self._some = asyncio.Event()

    def add(self, jobs: Sequence[JobId]) -> None:
        """Their output goes soon, even if this process ends before."""
        try:
            self._output.doom(jobs)
        except StoreFailure as failure:
            log.warning("output to delete is not written down", reason=str(failure))
        self._waiting.extend(jobs)
        self._some.set()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            while self._waiting:
                some = [
                    self._waiting.popleft() for _ in range(min(JOBS_AT_ONCE, len(self._waiting)))
                ]
                await asyncio.to_thread(self._delete, some)
                await asyncio.sleep(REST_S)
            self._output.clear_doomed()
            self._some.clear()
            await self._some.wait()

    def _delete(self, jobs: Sequence[JobId]) -> None:
        for job in jobs:
            try:
                self._output.delete(job)
            except OSError as error:
                log.warning("output cannot be deleted", job=job, reason=error.strerror)
