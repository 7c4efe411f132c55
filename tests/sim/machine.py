"""A machine of a world: processes, the keeper that starts them, and an agent with the real plan.

Three things with three lives. Processes end when they want to, or are made to. The keeper and its
ledger outlive the agent. The agent is the real `roost.agent.plan.Plan` in a shell that does what
`roost.agent.daemon` and `tailer` do; what passes between it and the keeper takes a moment, and is
lost when either of them ends in that moment.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec.structs import replace

from roost.agent import plan
from roost.agent.admission import Admission
from roost.agent.plan import Limits, Plan, RunKey
from roost.core.messages import AttemptReport
from roost.core.records import AttemptKey, Moment, NodeFacts
from roost.wire import link
from sim.network import Connection
from sim.server import BEAT_MS

if TYPE_CHECKING:
    from sim.world import World

LIMITS = Limits(interrupt_ms=2_000, terminate_ms=2_000, script_ms_max=8_000)
START_TOLD_MS = 20
OUTPUT_BYTES_MAX = 40
"""Per frame: small, so that output takes several."""
LIFE_MS_MAX = 30_000


class Process:
    """One run in the flesh: it writes, waits, can be stopped, and may shrug off signals."""

    def __init__(self, machine: Machine, run: RunKey) -> None:
        random = machine.world.random
        self.machine = machine
        self.run = run
        self.alive = True
        self.stopped = False
        self.exit_code = random.choice((0, 0, 0, 1, 3))
        self._refuses = random.choice(((), (), ("interrupt",), ("interrupt", "terminate")))
        self._killed = False
        self._dies_ms = random.choice((0, 0, 0, random.randint(1, 6_000)))
        """How long the kernel takes to end it."""
        life = random.choice((1, 200, 2_000, 8_000, 12_000, LIFE_MS_MAX))
        if run[2] != "command":
            life = random.choice((1, 100, 1_000, 20_000))
        if random.random() < 0.97:  # else others may be stuck behind it
            life //= machine.world.haste
        self._left_ms = random.randint(0, life)
        self._goes_on_at = machine.world.now
        self._turn = 0
        for _ in range(random.randint(0, 3)):
            machine.world.after(random.randint(0, life), self._write)
        for _ in range(random.choice((0, 1, 5, 20))):
            machine.world.after(random.randint(0, life), self._speak)
        self._go_on()

    def _go_on(self) -> None:
        self._goes_on_at = self.machine.world.now
        self._turn += 1
        self.machine.world.after(self._left_ms, self._end_by_itself, self._turn)

    def _end_by_itself(self, turn: int) -> None:
        if turn == self._turn and self.alive and not self.stopped:
            self._write()
            self.die(self.exit_code)

    def _write(self) -> None:
        if self.alive and not self.stopped:
            self.machine.write(self.run, f"{self.machine.world.now} {self.run[2]}\n".encode())

    def _speak(self) -> None:
        if self.alive and not self.stopped:
            self.machine.world.chirp.speak(self.machine, self.run[:2])

    def signal(self, name: plan.SignalName) -> None:
        if not self.alive:
            return
        match name:
            case "stop":
                if not self.stopped:
                    self.stopped = True
                    self._left_ms -= min(self._left_ms, self.machine.world.now - self._goes_on_at)
            case "continue":
                if self.stopped and not self._killed:
                    self.stopped = False
                    self._go_on()
            case "kill":
                if not self._killed:
                    self._killed = self.stopped = True
                    self.machine.world.after(self._dies_ms, self.die, -9)
            case _:
                if name not in self._refuses and not self.stopped:
                    self.machine.world.after(5, self.die, -2 if name == "interrupt" else -15)

    def die(self, exit_code: int) -> None:
        if self.alive:
            self.alive = False
            self.exit_code = exit_code
            self.machine.process_ended(self)


class Kept:
    """A run as the keeper's ledger has it."""

    def __init__(self, start: plan.StartRun) -> None:
        self.run = start.run
        self.note = start.note
        self.slot = start.slot
        self.cpus = start.cpus
        self.frees = start.frees
        self.started_at: Moment | None = None
        self.start_told = False
        self.ended: plan.RunEnded | None = None
        self.process: Process | None = None
        self.is_found = False
        """Started by an earlier keeper, so its exit status will not be known."""


class Machine:
    """A keeper's ledger, output files, processes; at most one agent."""

    def __init__(self, world: World, name: str, cpus: int, platform: str) -> None:
        self.world = world
        self.name = name
        self.cpus = cpus
        self.platform = platform
        self.skew_ms = world.random.randint(-5_000, 5_000)
        self.twin_of: Machine | None = None
        self.installations = 1
        self.on = False
        self.ledger: dict[RunKey, Kept] = {}
        self.waiting: dict[RunKey, Kept] = {}
        """What the keeper has without a CPU for it."""
        self.admission = Admission(cpus)
        self.files: dict[AttemptKey, bytearray] = {}
        self.agent: Agent | None = None
        self.keeper = 1
        """Its number; requests to an earlier one are lost."""
        self.connection: Connection | None = None
        self._cuts: dict[str, int] = {"to_server": 0, "to_agent": 0}

    def __str__(self) -> str:
        return self.name if self.twin_of is None else f"{self.name}'s twin"

    @property
    def installation(self) -> str:
        return f"{self}-{self.installations}"

    def clock(self) -> Moment:
        return Moment(self.world.now + self.skew_ms)

    def note(self, text: str) -> None:
        self.world.note(f"{self}: {text}")

    def processes(self) -> list[Process]:
        return [k.process for k in self.ledger.values() if k.process and k.process.alive]

    # --- lives ----------------------------------------------------------------------------

    def boot(self) -> None:
        if not self.on:
            self.on = True
            self.start_agent()

    def start_agent(self) -> None:
        if self.on and self.agent is None:
            self.note("agent starts")
            self.agent = Agent(self)
            self._introduce()

    def end_agent(self, away_ms: int, *, gently: bool) -> None:
        """Gently: what it had to say to the keeper still gets there."""
        if self.agent is not None:
            self.note("agent ends")
            agent, self.agent = self.agent, None
            agent.end(gently=gently)
            self.world.after(away_ms, self.start_agent)

    def end_keeper(self) -> None:
        """Its processes go on; the next one finds them again, in the ledger and alive."""
        self.note("keeper ends")
        self._lose_keeper()
        for kept in self.ledger.values():
            kept.is_found = True
            if kept.process is not None and kept.process.alive:
                self.admission.take(_mark(kept.run), kept.cpus)
        self.world.after(20, self._introduce)

    def _lose_keeper(self) -> None:
        self.keeper += 1
        self.waiting.clear()
        self.admission = Admission(self.cpus)

    def crash(self, away_ms: int, *, keep_disk: bool) -> None:
        if not self.on:
            return
        self.note("goes dark")
        self.on = False
        self._lose_keeper()
        if self.agent is not None:
            agent, self.agent = self.agent, None
            agent.end(gently=False, vanished=True)
        for process in self.processes():
            process.alive = False
        if keep_disk:
            for kept in self.ledger.values():
                kept.is_found = True
                if kept.ended is None:
                    kept.ended = plan.RunEnded(kept.run, self.clock())
        else:
            self.ledger.clear()
            self.files.clear()
            self.installations += 1
        self.world.after(away_ms, self.boot)

    def appear(self, stays_ms: int) -> None:
        """As a twin: the same name, another disk."""
        if not self.on:
            self.boot()
            self.world.after(stays_ms, self.disappear)

    def disappear(self) -> None:
        if self.on:
            self.crash(1 << 40, keep_disk=False)

    def leave(self) -> None:
        if self.agent is not None:
            self.agent.terminate()

    # --- the network ----------------------------------------------------------------------

    def break_link(self) -> None:
        if self.connection is not None:
            self.connection.break_off()

    def cut_link(self, ms: int, *, to_server: bool, to_agent: bool) -> None:
        until = self.world.now + ms
        self._cuts["to_server"] = until if to_server else self._cuts["to_server"]
        self._cuts["to_agent"] = until if to_agent else self._cuts["to_agent"]
        if self.connection is not None:
            self.connection.cut(until, to_server=to_server, to_agent=to_agent)

    def heal_link(self) -> None:
        self._cuts = {"to_server": 0, "to_agent": 0}
        if self.connection is not None:
            self.connection.to_server.heal()
            self.connection.to_agent.heal()

    @property
    def is_cut(self) -> bool:
        return max(self._cuts.values()) > self.world.now

    # --- the keeper -----------------------------------------------------------------------

    def _introduce(self) -> None:
        """What a keeper says first. Runs whose process is gone by now have ended."""
        if not self.on or self.agent is None:
            return
        for kept in self.ledger.values():
            if kept.ended is None and (kept.process is None or not kept.process.alive):
                kept.ended = plan.RunEnded(kept.run, self.clock())
        runs = [*self.ledger.values(), *self.waiting.values()]
        held = tuple(plan.KeptRun(k.run, k.note, k.started_at, k.ended) for k in runs)
        for kept in runs:
            kept.start_told = True
        self._tell(plan.KeeperJoined(held))

    def _tell(self, event: plan.Event) -> None:
        agent, keeper = self.agent, self.keeper

        def arrive() -> None:
            if agent is not None and agent is self.agent and keeper == self.keeper:
                agent.tell(event)

        self.world.after(1, arrive)

    def request(self, agent: Agent, action: plan.Action) -> None:
        keeper = self.keeper

        def arrive() -> None:
            if keeper == self.keeper and self.on and not agent.requests_lost:
                self._obey(action)

        self.world.after(1, arrive)

    def _obey(self, action: plan.Action) -> None:
        match action:
            case plan.StartRun(run):
                if run not in self.ledger and run not in self.waiting:
                    kept = Kept(action)
                    if self.admission.enter(_name(run), _mark(run), kept.cpus):
                        self._start(kept)
                    else:
                        self.waiting[run] = kept
            case plan.WithdrawRun(run):
                if self.admission.withdraw(_name(run)):
                    del self.waiting[run]
                    self._tell(plan.RunWithdrawn(run))
            case plan.FreeCpus(key):
                self.admission.free(_mark(key))
            case plan.SignalRun(run, signal):
                kept = self.ledger.get(run)
                if kept is not None and kept.ended is None and kept.process is not None:
                    kept.process.signal(signal)
                    self._tell(plan.RunSignalled(run, signal))
            case plan.KeepNote(run, note):
                if kept := self.waiting.get(run) or self.ledger.get(run):
                    kept.note = note
            case plan.Forget(_, runs):
                for run in runs:
                    kept = self.ledger.get(run)
                    if kept is not None and kept.ended is not None:
                        del self.ledger[run]
        self._go_on()

    def _go_on(self) -> None:
        while (name := self.admission.next()) is not None:
            self._start(self.waiting.pop(_run_of(name)))

    def _start(self, kept: Kept) -> None:
        run = kept.run
        for other in self.ledger.values():
            taken = other.slot == kept.slot and other.run[:2] != run[:2] and other.ended is None
            assert not taken, f"{self} starts {run} in the slot of {other.run}"
        self.ledger[run] = kept
        if self.world.random.random() < 0.02:
            kept.ended = plan.RunEnded(run, self.clock(), None, "The command could not be run.")
            self._ended(kept)
            return
        self.note(f"#{run[0]}.{run[1]} {run[2]} starts")
        kept.started_at = self.clock()
        kept.process = Process(self, run)
        self.world.after(START_TOLD_MS, self._tell_start, kept)
        self.world.oracle.process_started(self, run)

    def _tell_start(self, kept: Kept) -> None:
        """A while later: one that is over by then is told with its end."""
        if not kept.start_told and kept.started_at is not None:
            kept.start_told = True
            self._tell(plan.RunStarted(kept.run, kept.started_at))

    def process_ended(self, process: Process) -> None:
        run, kept = process.run, self.ledger[process.run]
        self.note(f"#{run[0]}.{run[1]} {run[2]} ends: {process.exit_code}")
        if not kept.is_found:
            self.world.oracle.process_ended(run, process.exit_code)
        code = None if kept.is_found else process.exit_code
        kept.ended = plan.RunEnded(run, self.clock(), code)
        if not kept.start_told:
            kept.start_told = True
            kept.ended = replace(kept.ended, started_at=kept.started_at)
        self._ended(kept)
        self._go_on()

    def _ended(self, kept: Kept) -> None:
        if kept.frees:
            self.admission.free(_mark(kept.run))
        assert kept.ended is not None
        self._tell(kept.ended)

    def write(self, run: RunKey, data: bytes) -> None:
        key = run[:2]
        self.files.setdefault(key, bytearray()).extend(data)
        self.world.oracle.output_written(key, data)
        if self.agent is not None:
            self.agent.wake()


def _mark(key: AttemptKey | RunKey) -> str:
    return f"{key[0]}.{key[1]}"


def _name(run: RunKey) -> str:
    return f"{run[0]}.{run[1]}.{run[2]}"


def _run_of(name: str) -> RunKey:
    job, number, purpose = name.split(".")
    return (int(job), int(number), purpose)


class Tail:
    """How far the output of an attempt has been sent."""

    def __init__(self) -> None:
        self.sent = 0
        self.draining = False
        self.progress = 0


class Agent:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.world = machine.world
        self.plan = Plan(limits=LIMITS)
        self.requests_lost = False
        self._ended = False
        self._knows_keeper = False
        self._tails: dict[AttemptKey, Tail] = {}
        self._reports: deque[plan.SendReport] = deque()
        self._beat_due = False
        self._farewell_due = False
        self._connection: Connection | None = None
        self._connected = False
        self._awake = False
        self._beats = 0
        self._deadlines = 0

    def end(self, *, gently: bool, vanished: bool = False) -> None:
        self._ended = True
        self.world.chirp.agent_ends(self.plan.unsaved)
        self.requests_lost = not gently
        connection, self._connection = self._connection, None
        self.machine.connection = None
        if connection is not None:
            if vanished:
                connection.vanish()
            else:
                connection.close_by_agent()

    def terminate(self) -> None:
        self.machine.note("agent leaves")
        self._farewell_due = True
        self.tell(plan.Leaving())

    # --- the plan -------------------------------------------------------------------------

    def tell(self, event: plan.Event) -> None:
        self._handle(event)
        if isinstance(event, plan.KeeperJoined) and not self._knows_keeper:
            self._knows_keeper = True
            self._connect()
        self._settle()

    def _handle(self, event: plan.Event) -> None:
        if isinstance(event, plan.KeeperJoined):
            for kept in event.runs:
                self._tails.setdefault(kept.run[:2], Tail())
        for action in self.plan.handle(event, self.machine.clock()):
            match action:
                case plan.SendReport():
                    self._reports.append(action)
                case plan.DrainOutput(key):
                    self._tails.setdefault(key, Tail()).draining = True
                case _:
                    if isinstance(action, plan.StartRun):
                        self._tails.setdefault(action.run[:2], Tail())
                    if isinstance(action, plan.Forget):
                        self._tails.pop(action.key, None)
                        self.machine.files.pop(action.key, None)
                    self.machine.request(self, action)

    def _settle(self) -> None:
        self._deadlines += 1
        moment = self.plan.next_deadline()
        if moment is not None:
            wait = max(0, moment - self.machine.clock())
            self.world.after(wait, self._on_deadline, self._deadlines)
        self.wake()
        if self.plan.leaving and self.plan.idle and not self._connected:
            self._stop()

    def _stop(self) -> None:
        if self.machine.agent is self:
            self.machine.end_agent(5_000, gently=True)

    def _on_deadline(self, turn: int) -> None:
        if turn == self._deadlines and not self._ended:
            self.tell(plan.TimePassed())

    # --- the link -------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._ended or self._connection is not None:
            return
        machine, server = self.machine, self.world.server
        if machine.is_cut or not server.up:
            self._connect_later(500)
            return
        session = server.accept()
        connection: Connection

        def receive(frame: bytes | None) -> None:
            self._receive(connection, frame)

        connection = Connection(self.world, session.receive, receive)
        session.connection = self._connection = machine.connection = connection
        facts = NodeFacts(
            hostname=machine.name,
            installation=machine.installation,
            platform=machine.platform,
            cpus=machine.cpus,
        )
        hello: list[link.FromAgent] = [link.Hello(link.PROTOCOL, facts, self.plan.held())]
        connection.to_server.send(link.encode(hello))

    def _connect_later(self, ms: int) -> None:
        self.world.after(self.world.random.randint(ms // 2, ms), self._connect)

    def _receive(self, connection: Connection, frame: bytes | None) -> None:
        if connection is not self._connection:
            return
        if frame is None:
            self._down(500)
            return
        for message in link.decode_from_server(frame):
            match message:
                case link.Start(order):
                    self._handle(plan.OrderReceived(order))
                case link.Signal(job, number, action):
                    self._handle(plan.SignalReceived(job, number, action))
                case link.ReportsSaved(through):
                    self._handle(plan.ReportsSaved(through))
                case link.Welcome():
                    self._welcomed(message)
                case link.Refusal(_, kill):
                    self.machine.note("is refused")
                    if kill:
                        self._handle(plan.Unwanted())
                    self._settle()
                    self._down(5_000)
                    return
        self._settle()

    def _down(self, wait_ms: int) -> None:
        connection, self._connection = self._connection, None
        self._connected = False
        self.machine.connection = None
        if connection is not None:
            connection.close_by_agent()
        self._settle()
        self._connect_later(wait_ms)

    def _welcomed(self, welcome: link.Welcome) -> None:
        self._connected = True
        self._beats += 1
        self._beat(self._beats)
        self._farewell_due = self.plan.leaving
        self._reports.clear()
        stored = {(job, number): size for job, number, size in welcome.outputs}
        for key, tail in self._tails.items():
            tail.sent = stored.get(key, 0)
        self._handle(plan.Welcomed(frozenset(stored)))

    def _beat(self, turn: int) -> None:
        if turn == self._beats and self._connected and not self._ended:
            self._beat_due = True
            self.wake()
            self.world.after(BEAT_MS, self._beat, turn)

    def wake(self) -> None:
        if not self._awake and self._connected and not self._ended:
            self._awake = True
            self.world.after(1, self._send)

    def _send(self) -> None:
        self._awake = False
        if self._ended or not self._connected or self._connection is None:
            return
        messages = self._fill()
        if messages:
            self._connection.to_server.send(link.encode(messages))
            self.wake()
        elif self.plan.leaving and self.plan.idle:
            self._stop()

    def _fill(self) -> list[link.FromAgent]:
        """Output goes before reports, so that an end follows its output."""
        messages: list[link.FromAgent] = []
        if self._farewell_due:
            self._farewell_due = False
            messages.append(link.Farewell())
        if self._beat_due:
            self._beat_due = False
            progress = tuple((*key, tail.progress) for key, tail in self._tails.items())
            idle = self.machine.world.random.choice((-1, 0, 5, 30))
            messages.append(link.Beat(idle_minutes=idle, progress=progress))
        drained: list[AttemptKey] = []
        for key, tail in self._tails.items():
            data = bytes(self.machine.files.get(key, b"")[tail.sent :][:OUTPUT_BYTES_MAX])
            if data:
                messages.append(link.Output(*key, tail.sent, data))
                tail.sent += len(data)
                tail.progress = min(1_000_000, tail.progress + 90_001)
            if tail.draining and tail.sent >= len(self.machine.files.get(key, b"")):
                tail.draining = False
                drained.append(key)
        for key in drained:
            self._handle(plan.OutputSent(key, self._tails[key].progress))
        messages.extend(self._take_reports())
        return messages

    def _take_reports(self) -> list[link.FromAgent]:
        """Only consecutive numbers travel together."""
        groups: list[tuple[int, list[AttemptReport]]] = []
        while self._reports:
            sent = self._reports.popleft()
            if groups and groups[-1][0] + len(groups[-1][1]) == sent.number:
                groups[-1][1].append(sent.report)
            else:
                groups.append((sent.number, [sent.report]))
        return [link.Reports(first, tuple(reports)) for first, reports in groups]
