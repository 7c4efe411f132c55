"""The agent: joins the plan to the keeper, the output files, the server and port 5001.

Everything that happens becomes an event of the plan, and what the plan answers is done here, in
order, on one loop. Nothing is decided twice: which attempt to start, signal or report is the
plan's business (`plan`), how a process is made the keeper's (`keeper`). The daemon may end at any
moment, even by kill -9; whoever comes next on the same data folder goes on from what the keeper
remembers.

What always holds: one agent per data folder; the plan has heard from the keeper before the server
is told what is held; jobs do not notice when the daemon goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_never

from msgspec import Struct

from roost import openfiles, package, stopping
from roost.agent import hqnode, plan, probe
from roost.agent.calls import Calls
from roost.agent.channel import Channels, OutputChannel
from roost.agent.idleness import Idleness
from roost.agent.link import Link, Waits
from roost.agent.plan import Action, Event, Limits, Plan, RunEnded, RunKey, SignalName
from roost.agent.proxy import Proxy
from roost.agent.slots import Slots
from roost.agent.starter import Starter
from roost.agent.tailer import FolderWatch, Tailer
from roost.agent.tether import Tether
from roost.core.messages import (
    AttemptEnded,
    AttemptOrder,
    AttemptReport,
    AttributesReported,
    EntryKind,
    EntryReported,
)
from roost.core.records import AttemptKey, JobId, Moment, NodeFacts
from roost.errors import Conflict, StoreFailure, Unreachable
from roost.wire.chirp import Code
from roost.wire.link import (
    FRAME_BYTES_SOFT,
    PROTOCOL,
    Beat,
    ChirpAnswer,
    Farewell,
    FromAgent,
    FromServer,
    Hello,
    OutputSaved,
    Refusal,
    Reports,
    ReportsSaved,
    Signal,
    Start,
    Welcome,
)

log = logging.getLogger(__name__)

REPORTS_PER_FRAME_MAX = 1_000
UNSAVED_MAX = 4_000
"""Reports that the server has not saved; with more of them, jobs wait that write into their story.
A line is a kilobyte at most."""
ENTRIES_COLLECTED_S = 0.005
"""How long a line waits for others, unless there is something else to send."""
BEAT_S = 10.0
"""Until the server says how often."""
RESTART = -1
"""What `run_agent` returns when the agent is to go on at once, as the package that `upgrade.switch`
finds."""
JOIN_S_MAX = 3.0
"""A start waits at most this long for the server's welcome before the agent is said to be ready."""
OUTPUT_PAUSE_S = 0.02
"""Files that are written to without a break are looked at this often."""
FILES_OF_AGENT = 64
FILES_PER_CPU = 8
"""Descriptors for what jobs print and for their Chirp connections; few jobs need so many."""
OUTPUT_LOOK_S = 0.5
"""How often files are looked at where the system does not tell of writes."""

_NUMBERS: dict[SignalName, int] = {
    "interrupt": signal.SIGINT,
    "terminate": signal.SIGTERM,
    "kill": signal.SIGKILL,
    "stop": signal.SIGSTOP,
    "continue": signal.SIGCONT,
}
_NAMES: dict[int, SignalName] = {number: name for name, number in _NUMBERS.items()}


class AgentOptions(Struct, frozen=True):
    """What an agent is told when it is started."""

    server: str
    """URL of the farm: `http://host:5000`."""
    data: Path
    """Its data folder; made when missing. One agent at a time."""
    name: str = ""
    """Tells several agents of one machine apart."""
    hostname: str = ""
    """Empty: the machine's own."""
    host: str = "127.0.0.1"
    """Where the node's port listens."""
    port: int | None = None
    """None: what `hqnode.port` in the data folder says, else 5001. 0: a free one."""
    cpus: int | None = None
    """None or 0: all that it may use."""
    job_environment: dict[str, str] = {}
    root: str = ""
    """The farm's shared folder as this machine sees it: HQROOT. Empty: what the server has."""
    shared_roots: tuple[Path, ...] = ()
    """Folders that this machine sees as the server does: files of jobs there are used directly."""
    exit_with_stdin: bool = False
    """Stop when standard input ends, as it does when whoever started us is gone."""
    limits: Limits = Limits()
    waits: Waits = Waits()


class AgentReady(Struct, frozen=True):
    url: str
    """Where `wakeup` and `terminate` are served."""
    pid: int


class Agent:
    def __init__(self, options: AgentOptions, folder: hqnode.Folder, port: int) -> None:
        self._options = options
        self._folder = folder
        self._installation = folder.installation()
        self._port = port
        self._platform = probe.platform()
        self._starter = Starter(
            server=options.server,
            platform=self._platform,
            folder=folder.path,
            root=options.root,
            job_environment=options.job_environment,
        )
        self._slots = Slots(folder.path)
        self._plan = Plan(limits=options.limits)
        self._channels = Channels(options.server, lambda: self._link.wake())
        self._tailer = Tailer(OutputChannel(self._channels, lambda: self._link.wake()))
        self._reports: deque[plan.SendReport] = deque()
        self._idleness = Idleness()
        self._beat_due = False
        self._farewell_due = False
        self._beat_s = BEAT_S
        self._farm_root = ""
        """HQROOT as the server has it, where this machine was not told another one."""
        self._next_beat: asyncio.TimerHandle | None = None
        self._started = (time.time_ns(), time.monotonic_ns())
        self._deadline: asyncio.TimerHandle | None = None
        self._collected: asyncio.TimerHandle | None = None
        self.restarting = False
        self._stopped = asyncio.Event()
        self._joined = asyncio.Event()
        self._failure: BaseException | None = None
        self._cpus = options.cpus or probe.cpus()
        self._tether = Tether(
            folder.path,
            self._installation,
            self._starter.common,
            self._cpus,
            self._on_keeper_events,
        )
        self._tether.lost = self._on_keeper_lost
        self._calls = Calls(
            options.shared_roots, self._channels, lambda: self._link.wake(), self._enter
        )
        self._proxy = Proxy(folder.path, self._slots, self._calls, self._channels)
        self._link = Link(
            options.server,
            hello=self._hello,
            receive=self._on_frame,
            fill=self._fill,
            down=self._on_link_down,
            waits=options.waits,
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Until `stop`, or until it has left the farm. Raises `RoostError` or `OSError`."""
        await self._proxy.start()
        stopped = asyncio.create_task(self._stopped.wait())
        tasks = [asyncio.create_task(self._tether.join())]
        try:
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if not self._stopped.is_set() and tasks.pop().result() is None:
                tasks.append(asyncio.create_task(self._link.run()))
                tasks.append(asyncio.create_task(self._watch_output()))
                joined = asyncio.create_task(self._joined.wait())
                await asyncio.wait(
                    [stopped, joined, *tasks],
                    timeout=JOIN_S_MAX,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                joined.cancel()
                if not self._stopped.is_set():
                    ready()
                await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for timer in (self._deadline, self._next_beat, self._collected):
                if timer is not None:
                    timer.cancel()
            self._proxy.close()
            self._calls.close()
            self._tether.close()
            self._tailer.close()
            self._channels.close()
        for result in [self._failure, *results]:
            if isinstance(result, Exception):
                raise result

    def stop(self) -> None:
        """End soon; what runs goes on under the keeper."""
        self._stopped.set()

    def restart(self) -> None:
        """End soon, to go on as the package that has been put in place."""
        self._folder.log("Restarting as another version")
        self.restarting = True
        self.stop()

    def wakeup(self) -> None:
        """Send a beat now."""
        self._beat()
        self._link.hurry()

    def terminate(self) -> None:
        """Take nothing new, cancel what is paused, and stop when what runs has ended."""
        if not self._plan.leaving:
            self._folder.log("Terminating when the last job has ended")
        self._farewell_due = True
        self._tell(plan.Leaving())
        self._settle()

    def _leave(self, reason: str) -> None:
        """Nothing can be started here. Each job that came would fail at once, and others come in
        its place: soon nothing of the queue would be left."""
        if self._failure is None:
            self._failure = StoreFailure(
                f"Nothing can be started with the data folder {self._folder.path}: {reason} "
                "The agent leaves the farm; start it again when the folder can be written."
            )
            log.error("%s", self._failure)
            self.terminate()

    # --- the plan -----------------------------------------------------------------------------

    def _now(self) -> Moment:
        """As the keeper has it, which outlives us and says when runs began: the time at its start
        plus what has passed since. It neither jumps nor runs back."""
        wall, steady = self._started
        return Moment((wall + time.monotonic_ns() - steady) // 1_000_000)

    def _tell(self, event: Event) -> None:
        for action in self._plan.handle(event, self._now()):
            self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case plan.SendReport():
                self._reports.append(action)
                if not isinstance(action.report, EntryReported):
                    self._end_collecting()
                if isinstance(action.report, AttemptEnded):
                    self._folder.log(f"Finished job {action.report.job} ({action.report.cause})")
            case plan.StartRun(run, order, note, slot, cpus, frees):
                key = (order.job, order.number)
                output = self._slots.output(slot)
                if not self._tailer.follow(key, output):
                    self._leave(f"{output} cannot be cleared.")
                    self._tell(plan.RunWithdrawn(run))
                    return
                self._tether.request(
                    "start",
                    _run_name(run),
                    _mark(key),
                    self._starter.argv(order, run[2]),
                    self._environment(order, slot),
                    self._starter.cwd(order),
                    output,
                    note,
                    cpus,
                    frees,
                )
            case plan.DrainOutput(key):
                self._tailer.drain(key)
            case plan.Forget(key, runs):
                for run in runs:
                    self._tether.request("forget", _run_name(run))
                self._tailer.forget(key)
                self._proxy.dismiss(key)
            case plan.WithdrawRun(run):
                self._tether.request("withdraw", _run_name(run))
            case plan.FreeCpus(key):
                self._tether.request("free", _mark(key))
            case plan.SignalRun(run, name):
                everybody = name in ("kill", "stop", "continue")
                if name == "interrupt":
                    self._folder.log(f"Cancelling job {run[0]}")
                self._tether.request("signal", _run_name(run), _NUMBERS[name], everybody)
            case plan.KeepNote(run, note):
                self._tether.request("note", _run_name(run), note)
            case _:
                assert_never(action)

    def _environment(self, order: AttemptOrder, slot: int) -> dict[str, str]:
        environment = order.environment
        if self._farm_root:
            environment = {"HQROOT": self._farm_root, **environment}
        if not (chirp := self._proxy.admit(order, slot)):
            return environment
        path = environment.get("PATH", self._starter.common.get("PATH", os.defpath))
        return {**chirp, **environment, "PATH": f"{path}{os.pathsep}{self._proxy.tools}"}

    def _settle(self) -> None:
        """After a batch of events: the next deadline, the log, and what there is to send."""
        moment = self._plan.next_deadline()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if moment is not None:
            wait = max(0, moment - self._now()) / 1000
            self._deadline = asyncio.get_running_loop().call_later(wait, self._on_deadline)
        self._calls.enter_waiting()
        self._link.wake()
        if not self._link.connected:
            self._folder.flush_log()  # else when the link comes to rest
        if self._plan.leaving and self._plan.idle and not self._link.connected:
            self.stop()
        if self._failure is not None and not self._plan.courses:
            self.stop()

    def _on_deadline(self) -> None:
        self._tell(plan.TimePassed())
        self._settle()

    # --- the keeper ---------------------------------------------------------------------------

    def _on_keeper_events(self, events: list[list[Any]]) -> None:
        # By word and length alone: to compare all types costs as much as what is done here.
        for event in events:
            match event:
                case ["ran", name, started_at, status, at]:
                    run = _run_key(name)
                    self._log_start(run)
                    self._tell(RunEnded(run, Moment(at), status, started_at=Moment(started_at)))
                case ["started", name, at]:
                    run = _run_key(name)
                    self._log_start(run)
                    self._tell(plan.RunStarted(run, Moment(at)))
                case ["ended", name, status, at, text]:
                    self._tell(RunEnded(_run_key(name), Moment(at), status, text))
                case ["unfit", str(text)]:
                    self._leave(text)
                case ["withdrawn", name]:
                    self._tell(plan.RunWithdrawn(_run_key(name)))
                case ["signalled", name, number]:
                    self._tell(plan.RunSignalled(_run_key(name), _NAMES[number]))
                case ["held", records, int(now)]:
                    self._started = (now * 1_000_000, time.monotonic_ns())
                    self._on_held(records)
                case ["held", records]:  # by the keeper of an earlier version
                    self._on_held(records)
                case _:
                    log.warning("The keeper says what nobody understands: %r", event)
        self._settle()

    def _log_start(self, run: RunKey) -> None:
        if run[2] in ("command", "on_child_error"):
            self._folder.log(f"Running job {run[0]} (attempt {run[1]})")

    def _on_held(self, records: list[dict[str, object]]) -> None:
        joined = plan.KeeperJoined(tuple(map(_kept_run, records)))
        actions = self._plan.handle(joined, self._now())
        courses = self._plan.courses.values()
        for course in courses:
            self._tailer.follow(course.key, self._slots.output(course.slot))
        for action in actions:
            self._do(action)
        for course in courses:
            if not course.over:
                self._proxy.admit(course.order, course.slot)
        self._proxy.sweep()
        self._tailer.clear(self._slots.spare_outputs(course.slot for course in courses))

    def _on_keeper_lost(self, error: BaseException) -> None:
        self._failure = error
        self.stop()

    # --- the server ---------------------------------------------------------------------------

    def _hello(self) -> Hello:
        facts = NodeFacts(
            hostname=self._options.hostname or probe.hostname(),
            name=self._options.name,
            installation=self._installation,
            ip=probe.address_towards(self._options.server),
            port=self._port,
            platform=self._platform,
            cpus=self._cpus,
            cpu_speed_mhz=probe.cpu_speed_mhz(),
            memory_kb=probe.memory_kb(),
            gpus=probe.gpus(),
            version=package.version(),
        )
        return Hello(PROTOCOL, facts, self._plan.held())

    def _on_frame(self, messages: list[FromServer]) -> None:
        if all(isinstance(message, ChirpAnswer) for message in messages):
            for message in messages:
                assert isinstance(message, ChirpAnswer)
                self._calls.answered(message)
            return  # the plan has heard nothing
        for message in messages:
            match message:
                case Start(order):
                    self._tell(plan.OrderReceived(order))
                case Signal(job, number, action):
                    self._tell(plan.SignalReceived(job, number, action))
                case ReportsSaved(through):
                    self._tell(plan.ReportsSaved(through))
                case ChirpAnswer():
                    self._calls.answered(message)
                case OutputSaved(job, number, size, ahead=True):
                    self._tailer.answer((job, number), size)
                case OutputSaved(job, number, size):
                    self._tailer.acknowledge((job, number), size)
                case Welcome():
                    self._on_welcome(message)
                case Refusal(text, kill):
                    self._folder.log(f"The server refuses this node: {text}")
                    self._failure = Conflict(text)
                    if kill:
                        self._tell(plan.Unwanted())
                    else:
                        self.stop()
                case _:
                    assert_never(message)
        self._settle()

    def _on_welcome(self, welcome: Welcome) -> None:
        self._folder.log(f"Connected to {self._options.server} as node {welcome.node}")
        self._joined.set()
        self._beat_s = welcome.beat_ms / 1000
        self._farm_root = welcome.root if "HQROOT" not in self._starter.common else ""
        self._beat()
        self._farewell_due = self._plan.leaving
        self._reports.clear()
        self._channels.welcomed(welcome.ticket, welcome.unix_socket)
        stored = {(job, number): size for job, number, size in welcome.outputs}
        self._tailer.rewind(stored)
        self._tell(plan.Welcomed(frozenset(stored)))

    def _on_link_down(self) -> None:
        self._folder.log("The connection to the server has ended")
        self._calls.link_down()
        self._tailer.link_down()
        self._channels.link_down()
        self._settle()

    def _fill(self) -> list[FromAgent]:
        """The next frame. An attempt's end comes after its output, and a call after what its
        attempt has reported before it."""
        messages: list[FromAgent] = []
        if self._farewell_due:
            self._farewell_due = False
            messages.append(Farewell())
        if self._beat_due:
            self._beat_due = False
            messages.append(self._make_beat())
            for key in self._proxy.delaying():
                self._send_delayed(key)
        if self._calls.waiting:
            self._end_collecting()
        messages.extend(self._take_reports())
        if not self._reports:
            messages.extend(self._calls.pull(FRAME_BYTES_SOFT))
        messages.extend(self._channels.pull())
        outputs, drained = self._tailer.pull(FRAME_BYTES_SOFT)
        messages.extend(outputs)
        for key, progress in drained:
            self._send_delayed(key)
            self._tell(plan.OutputSent(key, progress))
        if messages:
            self._end_collecting()
        messages.extend(self._take_reports())
        if not messages:
            self._folder.flush_log()
            if self._plan.leaving and self._plan.idle:
                self.stop()
        return messages

    def _enter(self, key: AttemptKey, kind: EntryKind, text: str) -> int:
        """Take a line of a job over, if there is room; see `Calls`."""
        if not self._plan.may_write(key):
            return Code.TOO_BIG
        if len(self._plan.unsaved) >= UNSAVED_MAX:
            return Code.OFFLINE
        self._tell(plan.EntryWritten(key, kind, text))
        if self._collected is None:
            loop = asyncio.get_running_loop()
            self._collected = loop.call_later(ENTRIES_COLLECTED_S, self._send_collected)
        return 0

    def _send_collected(self) -> None:
        self._end_collecting()
        self._link.wake()

    def _end_collecting(self) -> None:
        if self._collected is not None:
            self._collected.cancel()
            self._collected = None

    def _send_delayed(self, key: AttemptKey) -> None:
        if attributes := self._proxy.take_delayed(key):
            self._tell(plan.AttributesSet(key, attributes))

    def _take_reports(self) -> list[FromAgent]:
        """About as much as fits into one frame, in groups, as only consecutive numbers travel
        together; nothing while there are only lines that wait for others."""
        groups: list[FromAgent] = []
        if self._collected is not None:
            return groups
        group: list[plan.SendReport] = []
        size = 0
        for _ in range(min(len(self._reports), REPORTS_PER_FRAME_MAX)):
            if size >= FRAME_BYTES_SOFT:
                break
            report = self._reports.popleft()
            size += _text_bytes(report.report)
            if group and report.number != group[-1].number + 1:
                groups.append(_reports(group))
                group = []
            group.append(report)
        if group:
            groups.append(_reports(group))
        return groups

    def _make_beat(self) -> Beat:
        progressed = self._tailer.progressed()
        progress = tuple((job, number, millionths) for (job, number), millionths in progressed)
        idle_minutes = self._idleness.minutes(time.time())
        return Beat(probe.load(), idle_minutes, progress, probe.memory_used_kb())

    def _beat(self) -> None:
        """A beat now, and the next one in time."""
        self._beat_due = True
        self._link.wake()
        if self._next_beat is not None:
            self._next_beat.cancel()
        self._next_beat = asyncio.get_running_loop().call_later(self._beat_s, self._beat)

    # --- output -------------------------------------------------------------------------------

    async def _watch_output(self) -> None:
        """Files that are written to all the time are looked at now and then, not at each write."""
        try:
            watch = FolderWatch(self._slots.outputs)
        except OSError:
            while True:
                await asyncio.sleep(OUTPUT_LOOK_S)
                self._tailer.look()
                self._link.wake()
        loop = asyncio.get_running_loop()
        written = asyncio.Event()
        loop.add_reader(watch.file, written.set)
        try:
            while True:
                await written.wait()
                watch.read(self._tailer.written, self._tailer.look)
                self._link.wake()
                # Readable descriptors would ring on every turn of the loop during the pause.
                loop.remove_reader(watch.file)
                await asyncio.sleep(OUTPUT_PAUSE_S)
                written.clear()
                loop.add_reader(watch.file, written.set)
        finally:
            loop.remove_reader(watch.file)
            watch.close()


async def run_agent(options: AgentOptions, on_ready: Callable[[AgentReady], None]) -> int:
    """Be an agent until told to stop: by SIGTERM, SIGINT, `terminate`, or the end of stdin.

    `on_ready` is called once, when the farm has welcomed the agent, or after `JOIN_S_MAX` seconds
    of trying: port and keeper are there then, and the server may come later. Returns the exit
    status, 0, or `RESTART` after SIGHUP. Raises `Conflict` when the folder or the port is
    another's, `Unreachable` when the keeper cannot be started, `OSError` when the folder cannot be
    used.
    """
    _warn_of_few_files(options.cpus or probe.cpus())
    folder = hqnode.Folder(options.data)
    try:
        wanted = folder.wanted_port() if options.port is None else options.port
        with hqnode.listen(options.host, wanted) as listener:
            port: int = listener.getsockname()[1]
            folder.write_port(port)
            agent = Agent(options, folder, port)
            calls = {"wakeup": agent.wakeup, "terminate": agent.terminate}
            server = hqnode.Server(calls, options.host)
            await server.start(listener)
            host = f"[{options.host}]" if ":" in options.host else options.host

            def ready() -> None:
                folder.log(f"Listening on {options.host} port {port}")
                folder.flush_log()
                on_ready(AgentReady(f"http://{host}:{port}", os.getpid()))

            on_signals = {
                signal.SIGTERM: agent.stop,
                signal.SIGINT: agent.stop,
                signal.SIGHUP: agent.restart,
            }
            try:
                with contextlib.ExitStack() as stack:
                    stack.enter_context(stopping.on_signals(on_signals))
                    if options.exit_with_stdin:
                        stack.enter_context(stopping.on_end_of_stdin(agent.stop))
                    await agent.run(ready)
            finally:
                await server.close()
        folder.log("Stopped")
    finally:
        folder.close()
    return RESTART if agent.restarting else 0


def _warn_of_few_files(cpus: int) -> None:
    allowed, wanted = openfiles.allowed(), FILES_OF_AGENT + FILES_PER_CPU * cpus
    if allowed < wanted:
        log.warning(
            "This agent may have %d files open at a time and, with %d CPUs, can need %d: without, "
            "output comes late and Chirp calls of jobs fail. Raise the hard limit (ulimit -Hn), "
            "such as LimitNOFILE=65536 in a unit of systemd, or give it fewer CPUs (--cpus).",
            allowed,
            cpus,
            wanted,
        )


# --- names: a run is `<job>.<number>/<purpose>` to the keeper --------------------------------


def _mark(key: AttemptKey) -> str:
    return f"{key[0]}.{key[1]}"


def _run_name(run: RunKey) -> str:
    return f"{run[0]}.{run[1]}/{run[2]}"


def _run_key(name: str) -> RunKey:
    mark, _, purpose = name.partition("/")
    job, _, number = mark.partition(".")
    assert purpose in plan.SCRIPT_OF
    return (JobId(int(job)), int(number), purpose)


def _kept_run(record: dict[str, object]) -> plan.KeptRun:
    """What `ledger.Run.as_record` has made."""
    match record:
        case {
            "name": str(name),
            "note": str(note),
            "started_at": int(started_at),
            "over": bool(over),
            "ended_at": int(ended_at),
            "status": int() | None as status,
            "text": str(text),
        }:
            run = _run_key(name)
            ended = RunEnded(run, Moment(ended_at), status, text) if over else None
            return plan.KeptRun(run, note, Moment(started_at) if started_at else None, ended)
    raise Unreachable("The keeper tells of its runs in an unknown way: is it another version?")


def _reports(group: list[plan.SendReport]) -> Reports:
    return Reports(group[0].number, tuple(sent.report for sent in group))


def _text_bytes(report: AttemptReport) -> int:
    """The size of those texts in it that can be long."""
    match report:
        case AttributesReported(attributes=attributes):
            return sum(len(name) + len(text.encode()) for name, text in attributes)
        case AttemptEnded(text=text) | EntryReported(text=text):
            return len(text.encode())
    return 0
