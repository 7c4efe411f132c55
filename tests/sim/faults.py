"""What can go wrong, each with a switch and a rate that the seed draws.

Every world has some of the faults and not the others: a bug that needs quiet in one place and
trouble in another is found as well as one that needs everything at once. This module decides what
goes wrong and when; how it goes wrong is the business of whoever it happens to.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

ACCIDENTS = (
    "link breaks",
    "link is cut",
    "link is cut one way",
    "link is cut until all is given up",
    "machine crashes",
    "machine loses its disk",
    "agent restarts",
    "agent dies",
    "keeper dies",
    "twin appears",
    "agent leaves",
    "server crashes",
    "server clock jumps",
    "node is switched",
    "node is removed",
)
"""What strikes at random moments; `SLIPS` strike where their name says."""

SLIPS = (
    "crash before save",
    "crash after save",
    "crash while saving",
    "disk full",
    "slow disk",
    "slow link",
)


class Faults:
    """The accidents of one world."""

    def __init__(self, random: Random) -> None:
        self.rates = {name: random.choice((0, 1, 1, 3)) for name in ACCIDENTS}
        self.slips = {name: random.choice((0.0, 0.0, 0.01, 0.03)) for name in SLIPS}
        self.pause_ms = random.choice((1_000, 3_000, 8_000))
        """The mean time between two accidents."""
        self.on = True

    def slip(self, world: World, name: str) -> bool:
        return self.on and world.random.random() < self.slips[name]

    def strike(self, world: World) -> None:
        """One accident now, and the next one some time later."""
        if not self.on:
            return
        names = [name for name, rate in self.rates.items() for _ in range(rate)]
        if names:
            self._cause(world, world.random.choice(names))
            world.after(int(world.random.expovariate(1 / self.pause_ms)) + 1, self.strike, world)

    def _cause(self, world: World, name: str) -> None:
        random = world.random
        machine: Machine = random.choice([m for m in world.machines if m.twin_of is None])
        away_ms = random.choice((10, 500, 3_000, 15_000, 60_000))
        world.note(f"fault: {name} ({machine}, {away_ms} ms)")
        match name:
            case "link breaks":
                machine.break_link()
            case "link is cut":
                machine.cut_link(away_ms, to_server=True, to_agent=True)
            case "link is cut one way":
                to_server = random.random() < 0.5
                machine.cut_link(away_ms, to_server=to_server, to_agent=not to_server)
            case "link is cut until all is given up":
                rules = world.server.rules
                away_ms = rules.active_timeout_ms + rules.requeue_after_gone_ms
                away_ms += random.randint(500, 4_000)
                machine.cut_link(away_ms, to_server=True, to_agent=True)
            case "machine crashes":
                machine.crash(away_ms, keep_disk=True)
            case "machine loses its disk":
                machine.crash(away_ms, keep_disk=False)
            case "agent restarts":
                machine.end_agent(away_ms // 10, gently=True)
            case "agent dies":
                machine.end_agent(away_ms // 10, gently=False)
            case "keeper dies":
                machine.end_keeper()
            case "twin appears":
                world.twin_of(machine).appear(away_ms + 5_000)
            case "agent leaves":
                machine.leave()
            case "server crashes":
                world.server.crash(away_ms // 4)
            case "server clock jumps":
                world.server.skew_ms += random.randint(-3_000, 3_000)
            case "node is switched":
                world.users.switch_node()
            case "node is removed":
                world.users.remove_node()
