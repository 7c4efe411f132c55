"""How fast messages follow each other, and waiting awake for the next one.

A CPU that rests takes 20 to 60 µs to wake on a virtual machine, and by then has forgotten the
program: more than all the work of a small answer. So where messages follow each other at once, who
waits for the next one does not rest but asks again and again, for `STAY_S` at the most, and lets
others have the CPU in between. When nothing has come by then, it rests, and the more often that
happens, the longer it does without another try. So what is asked now and then rests as before,
and what is asked all the time is awake a little longer than its own work takes.

Where somebody computes, as on most machines of a farm, letting him go first takes a slice of the
scheduler's, some milliseconds for nothing. So once that has happened, nobody in this process waits
awake for `CROWDED_S`; nor where the system cannot let others go first.
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
SLICE_S = 0.001
"""Who comes back later than this after letting others go first waits for one that has work without
end: somebody who only takes his part in the same exchange is done sooner."""
CROWDED_S = 1.0
"""So long nobody tries then."""

_SCHED_YIELD: Callable[[], None] | None = getattr(os, "sched_yield", None)


class Others:
    """Who else wants the CPUs, as far as this process has noticed."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        yield_cpu: Callable[[], None] | None = _SCHED_YIELD,
    ) -> None:
        self._clock = clock
        self._yield_cpu = yield_cpu
        self._crowded_until = float("-inf") if yield_cpu else float("inf")

    @property
    def are_many(self) -> bool:
        """Whether to rest for their sake."""
        return self._clock() < self._crowded_until

    def go_first(self) -> None:
        """Whoever wants the CPU has it now."""
        assert self._yield_cpu is not None
        before = self._clock()
        self._yield_cpu()
        if (after := self._clock()) - before > SLICE_S:
            self._crowded_until = after + CROWDED_S


OTHERS = Others()
"""For all of this process."""


class Pace:
    """How fast the messages follow each other that somebody waits for."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, others: Others = OTHERS
    ) -> None:
        self._clock = clock
        self._others = others
        self._since = float("-inf")
        self._is_awake = False
        """Whether to wait so, or that it was done."""
        self._rests = 0
        """Before the next try."""
        self._rests_next = 1
        """After a try in vain."""

    def waits(self) -> bool:
        """From now on. Whether to wait awake."""
        self._since = self._clock()
        if self._others.are_many:
            self._is_awake = False
        return self._is_awake

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

    def goes_on(self, until: float) -> bool:
        """After looking in vain: lets others go first, and gives whether to look again."""
        if self._clock() >= until or self._others.are_many:
            return False
        self._others.go_first()
        return True

    def receive(self, receive: Callable[[], int]) -> int:
        """What `receive` gives, which is called as long as it raises `BlockingIOError`; -1 when it
        is time to rest."""
        until = self._clock() + STAY_S
        while True:
            try:
                return receive()
            except BlockingIOError:
                if not self.goes_on(until):
                    return -1
