"""How fast messages follow each other, and waiting awake for the next one.

A CPU that rests takes 20 to 60 µs to wake on a virtual machine, and by then has forgotten the
program: more than all the work of a small answer. So where messages follow each other at once, who
waits for the next one does not rest but asks again and again, for `STAY_S` at the most, and lets
others have the CPU in between. When nothing has come by then, it rests, and does so until messages
follow each other again. So what is asked now and then rests as it did before, and what is asked all
the time is awake a little longer than its own work takes.

Where the system cannot let others go first, nobody waits awake.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

STAY_S = 0.0001
"""So long nobody rests; about twice of what it takes to wake up."""
AT_ONCE_S = 0.0002
"""What has woken somebody came at once if it took no longer than this, the waking included."""

let_others: Callable[[], None] | None = getattr(os, "sched_yield", None)


class Pace:
    """How fast the messages follow each other that somebody waits for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = float("-inf")
        self._is_brisk = False

    def waits(self) -> bool:
        """From now on. Whether to wait awake."""
        self._since = self._clock()
        return self._is_brisk and let_others is not None

    def came(self) -> None:
        """What was waited for. If nothing was, it does not matter."""
        limit = STAY_S if self._is_brisk else AT_ONCE_S
        self._is_brisk = self._clock() - self._since <= limit

    def receive(self, receive: Callable[[], int]) -> int:
        """What `receive` gives, which is called as long as it raises `BlockingIOError`; -1 when it
        is time to rest."""
        assert let_others is not None
        until = self._clock() + STAY_S
        while True:
            try:
                return receive()
            except BlockingIOError:
                if self._clock() >= until:
                    return -1
            let_others()
