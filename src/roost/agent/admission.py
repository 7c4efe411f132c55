"""Which of the runs handed over may start now: the CPUs of a node, first come first served.

An attempt takes its CPUs when its first run starts and has them until they are freed, through the
scripts that follow. What lacks CPUs waits and is not overtaken; what wants more than the node has
runs alone.

Standard library only. Counts; starts nothing. The keeper asks it, and so does the simulator.
"""

from __future__ import annotations


class Admission:
    def __init__(self, cpus: int = 0) -> None:
        self.cpus = cpus
        """How many the node has; 0 while nobody has said."""
        self._queue: dict[str, tuple[str, int]] = {}
        """Attempt and CPUs by the name of the run, the first to start first."""
        self._taken: dict[str, int] = {}
        """CPUs by attempt."""
        self._busy = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queue)

    def enter(self, run: str, attempt: str, cpus: int) -> bool:
        """Hand a run over; True if it may start at once, else `next` will name it. One of no CPUs
        follows another one of its attempt, and does not wait."""
        if not cpus:
            return True
        if not self._queue and self._fits(cpus):
            self.take(attempt, cpus)
            return True
        self._queue[run] = (attempt, cpus)
        return False

    def next(self) -> str | None:
        """The run that may start now, taken out of the queue; ask again until there is none."""
        for run, (attempt, cpus) in self._queue.items():
            if not self._fits(cpus):
                return None
            del self._queue[run]
            self.take(attempt, cpus)
            return run
        return None

    def withdraw(self, run: str) -> bool:
        """Take a run out of the queue. False if it is not there."""
        return self._queue.pop(run, None) is not None

    def take(self, attempt: str, cpus: int) -> None:
        """The attempt runs, whoever let it."""
        if attempt not in self._taken:
            self._taken[attempt] = cpus
            self._busy += cpus

    def free(self, attempt: str) -> None:
        self._busy -= self._taken.pop(attempt, 0)

    def _fits(self, cpus: int) -> bool:
        return not self._taken or self._busy + cpus <= self.cpus
