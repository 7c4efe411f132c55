"""What running jobs say of themselves: attributes, at once or with delay, and lines in their story.

Lines are taken over by the plan of the agent, if there is one, and travel with its reports. For the
rest, what the agent's proxy and the link do is left out: a wish is under way for a moment, gets to
the server if the machine has a connection then, and is answered once it is saved. Values only grow
for each name of a job, so that what was acknowledged can be told from what came before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roost.agent import plan
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
        self.lines: dict[AttemptKey, list[str]] = {}
        """What agents have taken over for the story; no two are the same."""
        self.may_be_lost: set[str] = set()
        """Of these, what an agent had not heard of yet when it ended."""
        self._value = 0

    def speak(self, machine: Machine, key: AttemptKey) -> None:
        """A run on this machine has something to say."""
        if self.world.random.random() < 0.3:
            self._write(machine, key)
        else:
            self.world.after(self.world.random.randint(1, 30), self._arrive, machine, key)

    def _write(self, machine: Machine, key: AttemptKey) -> None:
        if machine.agent is None or not machine.agent.plan.may_write(key):
            return
        if self.world.random.random() < 0.1:
            machine.agent.tell(plan.EntryWritten(key, "phase", "output"))
            return
        self._value += 1
        line = f"line {self._value} of {key[0]}.{key[1]}"
        self.lines.setdefault(key, []).append(line)
        machine.agent.tell(plan.EntryWritten(key, "ulog", line))

    def agent_ends(self, unsaved: list[plan.SendReport]) -> None:
        reports = [reported.report for reported in unsaved]
        self.may_be_lost |= {one.text for one in reports if isinstance(one, m.EntryReported)}

    def _arrive(self, machine: Machine, key: AttemptKey) -> None:
        node = self._node(machine)
        if node is None:
            return
        job, number = key
        self._value += 1
        name, value = self.world.random.choice(NAMES), self._value
        text = self.world.random.choice((str(value), str(value), f'"{value}"', f"{value}.0"))
        match self.world.random.randint(2, 9):
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
