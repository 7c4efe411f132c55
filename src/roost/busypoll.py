"""An event loop that waits awake where messages follow each other at once; see `pace`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from roost.pace import STAY_S, Pace, let_others


class BusyPoll:
    """Keeps a loop awake. To be told, on the loop, when it waits and when something has come."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pace = Pace(clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that is kept awake just now."""
        self._until = 0.0

    def waits(self) -> None:
        """From now on, until something has come."""
        if self._pace.waits():
            self._until = self._clock() + STAY_S
            loop = asyncio.get_running_loop()
            if self._loop is not loop:
                self._loop = loop
                loop.call_soon(self._turn, loop)

    def came(self) -> None:
        self._pace.came()
        self._until = 0.0

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """A loop with something to call looks for what has come, and does not rest."""
        assert let_others is not None
        if self._clock() < self._until:
            let_others()
            loop.call_soon(self._turn, loop)
        else:
            self._loop = None
