"""What running jobs say of themselves: attributes, at once or with delay, and lines in their story.

What the agent's proxy and the link do with it is left out: a wish is under way for a moment, gets
to the server if the machine has a connection then, and is answered once it is saved. Values only
grow for each name of a job, so that what was acknowledged can be told from what came before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.core import messages as m
from roost.core.attributes import fold, number_of
from roost.core.records import AttemptKey, JobId, NodeId
from roost.errors import Refused

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

NAMES = ("Loss", "LOSS", "Step", "ChirpStage")


class Chirp:
    def __init__(self, world: World) -> None:
        self.world = world
        self.acknowledged: dict[tuple[JobId, str], int] = {}
        """The latest value of each attribute, by folded name, that a job was told is saved."""
        self.entries: dict[JobId, dict[str, None]] = {}
        """Lines that a job was told are saved."""
        self._value = 0

    def speak(self, machine: Machine, key: AttemptKey) -> None:
        """A run on this machine has something to say."""
        self.world.after(self.world.random.randint(1, 30), self._arrive, machine, key)

    def _arrive(self, machine: Machine, key: AttemptKey) -> None:
        node = self._node(machine)
        if node is None:
            return
        job, number = key
        self._value += 1
        name, value = self.world.random.choice(NAMES), self._value
        text = self.world.random.choice((str(value), str(value), f'"{value}"', f"{value}.0"))
        match self.world.random.randint(0, 9):
            case 0:
                self._log(m.LogEntry(node, job, number, f"entry {value}"))
            case 1:
                self._tell(m.EnterPhase(node, job, number, "output"))
            case 2:
                share = self.world.random.random()
                self._tell(m.SetAttribute(node, job, number, "Progress", f"{share}"))
            case 3:
                self._tell(m.SetAttribute(node, job, number, "JobPrio", str(value % 7)))
            case 4:
                bad = self.world.random.choice((("Owner", "1"), ("a b", "1"), ("A", "1 +")))
                self._tell(m.SetAttribute(node, job, number, *bad))
            case 5:
                report = m.AttributesReported(job, number, ((name, text), ("ChirpBad", "1 +")))
                self.world.server.tell(m.NodeReported(node, report))
            case _:
                self.set(m.SetAttribute(node, job, number, name, text), job, name, value)

    def set(self, command: m.Command, job: JobId, name: str, value: int) -> None:
        """Have an attribute set, and remember it when that is acknowledged."""

        def done(_: object, refusal: Refused | None) -> None:
            if refusal is None:
                self.acknowledged[job, fold(name)] = value
                self.world.note(f"chirp: #{job} has {name} = {value}")

        self.world.server.tell(command, done)

    def set_from_outside(self, job: JobId) -> None:
        self._value += 1
        name, value = self.world.random.choice(NAMES), self._value
        self.set(m.SetAttributes(job, {name: str(value)}), job, name, value)

    def _log(self, entry: m.LogEntry) -> None:
        def done(_: object, refusal: Refused | None) -> None:
            if refusal is None:
                self.entries.setdefault(entry.job, {})[entry.text] = None

        self.world.server.tell(entry, done)

    def _tell(self, command: m.Command) -> None:
        self.world.server.tell(command, lambda _, refusal: None)

    def _node(self, machine: Machine) -> NodeId | None:
        if machine.is_cut or machine.connection is None or not self.world.server.up:
            return None
        for node, session in self.world.server.sessions.items():
            if session.connection is machine.connection:
                return node
        return None


def number_in(text: str) -> float:
    """The value that was set, whichever way it was written."""
    number = number_of(text.strip('"'))
    assert number is not None
    return number
