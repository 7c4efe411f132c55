"""How fast messages follow each other, and waiting awake for the next one.

A CPU that rests takes 20 to 60 µs to wake on a virtual machine, and by then has forgotten the
program: more than all the work of a small answer. So where messages follow each other at once, who
waits for the next one does not rest but asks again and again, for `STAY_S` at the most, and lets
others have the CPU in between. When nothing has come by then, it rests, and the more often that
happens, the longer it does without another try. So what is asked now and then rests as before,
and what is asked all the time is awake a little longer than its own work takes.

Where the system cannot let others go first, nobody waits awake.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

STAY_S = 0.0002
"""So long nobody rests: the other side may have to wake up, and then works on it."""
AT_ONCE_S = 0.0005
"""What has woken somebody came at once if it took no longer than this, both wakings included."""
RESTS_MAX = 64
"""After looking in vain again and again, so many rests lie between two tries."""

let_others: Callable[[], None] | None = getattr(os, "sched_yield", None)


class Pace:
    """How fast the messages follow each other that somebody waits for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = float("-inf")
        self._is_awake = False
        """Whether to wait so, or that it was done."""
        self._rests = 0
        """Before the next try."""
        self._rests_next = 1
        """After a try in vain."""

    def waits(self) -> bool:
        """Somebody waits from now on. Returns whether to wait awake."""
        self._since = self._clock()
        return self._is_awake and let_others is not None

    def came(self) -> None:
        """What was waited for. If nothing was, it does not matter."""
        took = self._clock() - self._since
        if self._is_awake:
            self._is_awake = took <= STAY_S
            if self._is_awake:
                self._rests_next = 1
            else:
                self._rests = self._rests_next
                self._rests_next = min(2 * self._rests_next, RESTS_MAX)
        elif self._rests:
            self._rests -= 1
        else:
            self._is_awake = took <= AT_ONCE_S

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
