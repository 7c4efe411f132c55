"""A world: one heap of moments, one source of chance, and everything that lives on them.

Nothing here has a clock or a thread. Whoever wants something later says `after`; the heap decides
what is next, equal moments in the order in which they were asked for. So a seed is a whole
history, and the same one wherever it runs.

First there is trouble, for as many steps as the seed says. Then the faults and the users stop,
everything comes back, and the farm has to bring itself to rest.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import timedelta, timezone
from random import Random
from typing import Any

from roost.core.state import Rules
from sim.chirp import Chirp
from sim.faults import Faults
from sim.machine import LIFE_MS_MAX, Machine
from sim.oracle import Oracle
from sim.server import Server
from sim.trace import Trace
from sim.users import Users

REST_LOOKED_AT_EVERY_MS = 2_000


class World:
    def __init__(self, seed: int, *, steps: int | None = None, echo: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.trace = Trace(echo=echo)
        self.now = 1_000_000
        self.steps = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        drawn = self.random.choice((400, 1_000, 2_000, 4_000))
        self.trouble_steps = drawn if steps is None else steps
        self.faults = Faults(self.random)
        self.oracle = Oracle(self)
        self.chirp = Chirp(self)
        # Few worlds last for long, so in some of them nodes are given up early and often, and less
        # happens that would end what they have.
        gives_up = self.random.random() < 0.3
        if gives_up:
            self.faults.rates = {"link is cut until all is given up": 5, "server crashes": 1}
            self.faults.rates |= {"agent restarts": 1, "keeper dies": 1}
        rules = Rules(
            active_timeout_ms=6_000 if gives_up else self.random.choice((12_000, 30_000)),
            requeue_after_gone_ms=1_000 if gives_up else self.random.choice((0, 5_000, 20_000)),
            max_failures_per_client=self.random.choice((0, 0, 1)),
            expire_after_ms=self.random.choice((0, 10_000)),
            zone=timezone(timedelta(minutes=self.random.choice((-300, 0, 345)))),
        )
        self.server = Server(self, rules)
        self.machines: list[Machine] = []
        self._twins: dict[str, Machine] = {}
        for number in range(self.random.randint(2, 4)):
            self._add_machine(number)
        self.users = Users(self)
        self.haste = self.random.choice((1, 1, 1, 20) if gives_up else (1, 1, 20, 100))
        """Lives are shorter by this: nodes are given jobs ahead when they are very short."""

    def _add_machine(self, number: int) -> None:
        platform = "linux-x86_64" if number < 2 else self.random.choice(("linux", "windows"))
        machine = Machine(self, f"m{number + 1}", self.random.choice((1, 2, 2, 4)), platform)
        self.machines.append(machine)
        self.after(self.random.randint(0, 2_000), machine.boot)

    def twin_of(self, machine: Machine) -> Machine:
        """The other machine that somebody set up under the same name."""
        twin = self._twins.get(machine.name)
        if twin is None:
            twin = Machine(self, machine.name, machine.cpus, machine.platform)
            twin.twin_of = machine
            self._twins[machine.name] = twin
            self.machines.append(twin)
        return twin

    def after(self, ms: int, action: Callable[..., None], *arguments: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + max(0, ms), self._sequence, action, arguments))

    def note(self, text: str) -> None:
        self.trace.note(self.now, text)

    # --- running --------------------------------------------------------------------------

    def run(self) -> None:
        """Raises `AssertionError` when something that must hold does not."""
        try:
            self.server.start()
            self.after(100, self.users.act)
            self.after(3_000, self.faults.strike, self)
            while self.steps < self.trouble_steps:
                self._step()
            self._calm_down()
            self._come_to_rest()
        finally:
            self.server.store.close()

    def _step(self) -> None:
        moment, _, action, arguments = heapq.heappop(self._heap)
        self.now = max(self.now, moment)
        self.steps += 1
        action(*arguments)
        self.oracle.stepped()

    def _calm_down(self) -> None:
        self.note("the trouble ends")
        self.faults.on = False
        self.users.active = False
        self.server.start()
        for machine in self.machines:
            machine.heal_link()
            if machine.twin_of is not None:
                machine.disappear()
            else:
                machine.boot()
                machine.start_agent()
        self.users.enable_nodes()

    def _come_to_rest(self) -> None:
        """Each job in turn may need the longest life, each of its tries, and every timeout."""
        rules = self.server.rules
        patience = 2 * (rules.active_timeout_ms + rules.requeue_after_gone_ms) + 120_000
        for job in self.oracle.unfinished():
            patience += 3 * LIFE_MS_MAX * (job.tries_left + 1)
        end = self.now + patience
        look_at = self.now
        while True:
            self._step()
            if self.now >= look_at and not self.server.busy:
                look_at = self.now + REST_LOOKED_AT_EVERY_MS
                trouble = self.oracle.unrest()
                if trouble is None:
                    break
                assert self.now < end, f"no rest: {trouble}"
        self.oracle.at_rest()
        self.note("the farm is at rest")
