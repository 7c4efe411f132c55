"""The keeper: parent of everything an agent starts, and little else.

It outlives its agent, so that jobs go on when the agent is stopped or killed and their true exit
status is there when it returns. An agent connects to a socket in the data folder, a newer
connection takes the place of an older one, and lines of JSON go both ways, each a list of
requests or of events:

    ["node", {…}, cpus]       the environment that all later starts have in common; how much runs
    ["start", name, mark, argv, env, cwd, output, note, cpus, frees]   a name is started once, ever
    ["withdraw", name]        do not start it, if it has not been
    ["signal", name, number, everybody]               to its group, or to all of its processes
    ["free", mark]            what this attempt had of the CPUs
    ["note", name, note]      ["forget", name]

    ["held", [run, …], now]   first: everything it remembers (see `ledger.Run.as_record`)
    ["started", name, at]     ["ended", name, status, at, text]     ["signalled", name, number]
    ["ran", name, started at, status, at]             instead of both, if it was over so soon
    ["withdrawn", name]       ["unfit", text]                   nothing can be started here, and why

A run that finds no CPU free waits here (see `admission`) and starts when another one ends, without
a word to the agent, who is then told of many at once: nobody waits for it.

What always holds: a run is in the ledger before its process exists, and its end before it is
told. When an end is told nothing of the run lives on. As the keeper is a subreaper, whatever a
leader leaves is by then the keeper's child, or below one: without any such child nobody is left.
Otherwise the group is killed while its leader is a zombie, so the ids cannot belong to anybody
else, and who has left the group is known by its tag (see `kin`).

Standard library only, one thread, never blocks on its agent. When no agent is connected and
nothing lives it ends; the ledger remembers for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from roost.agent import kin, ledger
from roost.agent.admission import Admission
from roost.agent.ledger import Ledger, Run, encode
from roost.agent.spawn import Command, Spawner

SOCKET = "keeper.sock"
LOCK = "keeper.lock"
LEDGER = "ledger"
START_TOLD_S = 0.02
"""A start is told after so long at the latest."""
COLLECT_S = 0.05
"""So is everything while there are runs that wait for a CPU: there is always something to do. Well
below the work that a node is given ahead (`core.placement.BACKLOG_MS`)."""
RECEIVE_BYTES = 64 * 1024
"""Small enough for the allocator to keep: beyond 128 KiB each buffer is mapped afresh."""
_PR_SET_CHILD_SUBREAPER = 36
_NOBODY = -1
"""Stands for a leader that is gone, and whose process id may be anybody's by now."""
_START = [str, str, str, list, dict, str, str, str, int, bool]
"""Types of a request to start. Compared at once: patterns for each take as long as reading it."""
_AS_USUAL = (
    signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ,
)  # fmt: skip
"""Signals that Python, we or a careless shell above us may have set to be ignored."""


class Start(NamedTuple):
    """A run that was handed over and has not been started. All that can be made ready for its start
    is: when a CPU comes free there is nothing in the caches."""

    run: Run
    begun: str
    """The line that says so in the ledger."""
    command: Command | ValueError
    """Or why there can be none."""
    cwd: str
    tag: int


class Keeper:
    def __init__(self, folder: Path, owner: str) -> None:
        """`owner` is the installation that the marks belong to. Raises `OSError`."""
        self._owner = owner
        self._own_tag = kin.own_tag()
        self._is_elsewhere = False
        """Whether this process still has the folder and the tag of the last job that it started."""
        self._boot = kin.boot_id()
        self._ledger = Ledger(folder / LEDGER)
        self._runs = self._ledger.runs
        self._leaders: dict[int, Run] = {}
        """Our own children that lead a run, by process id."""
        self._clearing: list[Run] = []
        """Runs whose leader has ended, and which are over once nobody of them is left."""
        self._found: set[Run] = set()
        """Runs of an earlier keeper that go on: not our children, so there is no status."""
        self._watched: set[int] = set()
        """Processes of those, by process id, with a pidfd on each."""
        self._living = 0
        self._admission = Admission()
        self._waiting: dict[str, Start] = {}
        """Runs without a CPU. Not in the ledger: if we die, the agent hands them over again."""
        self._spawner = Spawner(_AS_USUAL)
        self._agent: socket.socket | None = None
        self._received = b""
        self._to_send = b""
        self._waits_to_send = False
        """Whether some of it stays here until the agent takes more."""
        self._events: list[tuple[object, ...]] = []
        self._starts: dict[str, int] = {}
        """Starts that are to be told: moments by name."""
        self._tell_at: float | None = None
        """When these must be told at the latest, by the monotonic clock."""
        self._poll = select.poll()
        self._heard: dict[int, Callable[[int], None]] = {}
        """What to do when there is something on a descriptor; gets the events."""
        self._children = kin.Children()
        self._adopts = _become_subreaper()
        """Whether what a leader leaves becomes our child."""
        self._watch_children()
        for run in list(self._runs.values()):
            if not run.over:
                self._find_again(run)

    def serve(self, listener: socket.socket, agent: socket.socket | None = None) -> None:
        """Until no agent is connected and nothing lives."""
        listener.setblocking(False)
        self._hear(listener.fileno(), lambda _: self._accept(listener))
        if agent is not None:
            self._join(agent)
        while self._agent is not None or self._living:
            wait = None if self._tell_at is None else self._tell_at - time.monotonic()
            if wait is not None and wait <= 0:
                self._settle()
                wait = None
            ready = self._poll.poll(None if wait is None else wait * 1000)
            for act, events in [(self._heard[file], events) for file, events in ready]:
                act(events)
        self._settle()

    def _hear(self, file: int, act: Callable[[int], None]) -> None:
        self._heard[file] = act
        self._poll.register(file, select.POLLIN)

    def _hear_no_more(self, file: int) -> None:
        del self._heard[file]
        self._poll.unregister(file)

    def _tell(self, event: tuple[object, ...], within_s: float = 0) -> None:
        self._events.append(event)
        self._tell_within(within_s)

    def _tell_within(self, seconds: float) -> None:
        """What can wait is told with what comes after it: many jobs end at once, and then their
        start and their end travel and are written together."""
        at = time.monotonic() + seconds
        self._tell_at = at if self._tell_at is None else min(self._tell_at, at)

    def _settle(self) -> None:
        """Save, then tell: in this order."""
        self._tell_at = None
        if self._is_elsewhere:
            # Neither keep the last job's folder busy nor look like one of its processes.
            os.chdir("/")
            kin.set_tag(self._own_tag)
            self._is_elsewhere = False
        self._save()
        events = [*(("started", name, at) for name, at in self._starts.items()), *self._events]
        if events and self._agent is not None:
            self._to_send += encode(events)
            self._send()
        self._events.clear()
        self._starts.clear()

    def _save(self) -> OSError | None:
        try:
            self._ledger.save(self._runs.values())
        except OSError as error:
            # The disk is full. Memory still has it, as long as this process lives.
            _complain(f"The ledger cannot be written: {error}")
            return error
        return None

    # --- the agent ---------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            self._join(listener.accept()[0])

    def _join(self, agent: socket.socket) -> None:
        self._leave()
        agent.setblocking(False)
        self._agent = agent
        self._hear(agent.fileno(), lambda events: self._talk(agent, events))
        # It is told everything at once; what was waiting to be told is part of it.
        self._events.clear()
        self._starts.clear()
        runs = [*self._runs.values(), *(start.run for start in self._waiting.values())]
        self._tell(("held", [run.as_record() for run in runs], _now()))

    def _leave(self) -> None:
        if self._agent is not None:
            self._hear_no_more(self._agent.fileno())
            self._agent.close()
        self._agent = None
        self._received = self._to_send = b""
        self._waits_to_send = False

    def _send(self) -> None:
        assert self._agent is not None
        try:
            self._to_send = self._to_send[self._agent.send(self._to_send) :]
        except BlockingIOError:
            pass
        except OSError:
            self._leave()
            return
        if bool(self._to_send) != self._waits_to_send:
            self._waits_to_send = bool(self._to_send)
            wanted = select.POLLIN | (select.POLLOUT if self._to_send else 0)
            self._poll.modify(self._agent, wanted)

    def _talk(self, agent: socket.socket, events: int) -> None:
        if agent is not self._agent:
            return
        if events & select.POLLOUT:
            self._send()
            if agent is not self._agent:
                return
        try:
            data = agent.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        try:
            for line in lines:
                self._obey(json.loads(line))
        except ValueError as error:
            # An agent that talks nonsense must not cost the jobs their parent.
            _complain(f"The agent is not understood: {error}")
            self._leave()

    def _obey(self, requests: list[list[Any]]) -> None:
        starts: list[Start] = []
        for request in requests:
            match request:
                case [
                    "start", name, mark, argv, environment, cwd, output, note, cpus, frees,
                ] if [*map(type, request)] == _START:  # fmt: skip
                    if name not in self._runs and name not in self._waiting:
                        run = Run(name, mark, output, note, self._boot, cpus, frees)
                        start = self._make_ready(run, argv, environment, cwd)
                        if self._admission.enter(name, mark, cpus):
                            starts.append(start)
                        else:
                            self._waiting[name] = start
                case ["withdraw", str(name)]:
                    if self._admission.withdraw(name):
                        del self._waiting[name]
                        self._tell(("withdrawn", name))
                case ["signal", str(name), int(number), bool(everybody)]:
                    self._start(starts)
                    self._signal(name, number, everybody)
                case ["free", str(mark)]:
                    self._admission.free(mark)
                case ["note", str(name), str(note)]:
                    self._keep(name, note)
                case ["forget", str(name)]:
                    self._forget(name)
                case ["node", dict(environment), int(cpus)]:
                    self._spawner.share(environment)
                    self._admission.cpus = cpus
                case _:
                    raise ValueError(f"there is no such request: {request[:2]}")
        self._start(starts)
        self._go_on()

    def _make_ready(
        self, run: Run, argv: list[str], environment: dict[str, str], cwd: str
    ) -> Start:
        command: Command | ValueError
        try:
            command = self._spawner.command(
                argv, {**environment, kin.MARK: run.mark, kin.OWNER: self._owner}
            )
        except ValueError as error:
            command = error
        folder = os.path.join("/", cwd)  # noqa: PTH118  (once per job)
        return Start(run, ledger.begun(run), command, folder, kin.tag(run.mark, self._owner))

    def _keep(self, name: str, note: str) -> None:
        if start := self._waiting.get(name):
            start.run.note = note
            self._waiting[name] = start._replace(begun=ledger.begun(start.run))
        elif run := self._runs.get(name):
            run.note = note
            self._ledger.note(ledger.noted(run))

    def _go_on(self) -> None:
        """Start whoever may by now. Each that cannot be started makes room for another one."""
        while (name := self._admission.next()) is not None:
            starts = [self._waiting.pop(name)]
            while (name := self._admission.next()) is not None:
                starts.append(self._waiting.pop(name))
            self._start(starts)

    def _start(self, starts: list[Start]) -> None:
        """Put them into the ledger together, then start them. Empties the list."""
        if not starts:
            return
        for start in starts:
            self._runs[start.run.name] = start.run
            self._ledger.note(start.begun)
        error = self._save()
        for start in starts:
            if error is None:
                self._spawn(start)
            else:
                self._give_back(start.run, f"The node cannot record it: {error}.")
        starts.clear()

    def _give_back(self, run: Run, text: str) -> None:
        """It is no fault of the job's that nothing can be started here."""
        if not run.cpus:  # what follows a command is not for others to run
            self._not_started(run, text)
            return
        del self._runs[run.name]
        self._ledger.note(ledger.forgotten(run))
        self._admission.free(run.mark)
        self._tell(("unfit", text))
        self._tell(("withdrawn", run.name))

    # --- starting and signalling -------------------------------------------------------------

    def _spawn(self, start: Start) -> None:
        # Every error here has one cause, which the text can name: that is why the folder is
        # changed and the file opened by us and not on the way to exec.
        run = start.run
        try:
            output = os.open(run.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            self._give_back(run, f"Its output cannot be written: {error}.")
            return
        try:
            if isinstance(start.command, ValueError):
                raise start.command
            os.chdir(start.cwd)
            kin.set_tag(start.tag)
            run.pid = self._spawner.spawn(start.command, output)
        except (OSError, ValueError) as error:
            text = f"The command could not be run: {error}."
            with contextlib.suppress(OSError):
                os.write(output, f"{error}\nThe command could not be run.\n".encode())
            self._not_started(run, text)
        else:
            run.at = _now()
            self._leaders[run.pid] = run
            self._living += 1
            self._ledger.note(ledger.started(run))
            self._starts[run.name] = run.at
            self._tell_within(COLLECT_S if self._waiting else START_TOLD_S)
        finally:
            os.close(output)
            self._is_elsewhere = True

    def _not_started(self, run: Run, text: str) -> None:
        run.text = text
        self._end(run, None)

    def _signal(self, name: str, number: int, everybody: bool) -> None:
        run = self._runs.get(name)
        if run is None or run.over or not run.pid:
            return
        if run not in self._clearing and self._leads(run):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(run.pid, number)
        if everybody:
            leader = run.pid if self._leads(run) else _NOBODY
            for process in kin.members(leader, self._family(run)):
                _kill(process.pid, number)
        self._tell(("signalled", name, number))

    def _leads(self, run: Run) -> bool:
        """Whether its process id still is what it was: the leader lives, or nobody reaped it."""
        return run.pid in self._leaders or run.pid in self._watched

    def _forget(self, name: str) -> None:
        run = self._runs.get(name)
        if run is not None and run.over:
            del self._runs[name]
            self._ledger.note(ledger.forgotten(run))

    # --- ends --------------------------------------------------------------------------------

    def _watch_children(self) -> None:
        """SIGCHLD tells of leaders and of adopted orphans alike, one descriptor for all."""
        bell, clapper = os.pipe()
        os.set_blocking(bell, False)
        os.set_blocking(clapper, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(clapper, warn_on_full_buffer=False)
        self._hear(bell, lambda _: self._reap(bell))

    def _reap(self, bell: int) -> None:
        os.read(bell, 4096)
        while True:
            try:
                # It stays a zombie, so that its id cannot be used again while its group is killed.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if ended is None:
                break
            pid = ended.si_pid
            run = self._leaders.pop(pid, None)
            if run is None:
                os.waitpid(pid, 0)
                continue
            run.status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            # Whatever it has left is our child by now, or has a parent that is.
            alone = self._orphans() == [pid]
            if not alone:
                _kill_group(pid)
            os.waitpid(pid, 0)
            if alone:
                self._living -= 1
                self._end(run, run.status)
            else:
                self._clearing.append(run)
        if self._clearing:
            self._clear()
        self._go_on()

    def _orphans(self) -> list[int] | None:
        """Our children that lead no run, zombies included; None where that cannot be known."""
        children = self._children.read() if self._adopts else None
        return children and [pid for pid in children if pid not in self._leaders]

    def _clear(self) -> None:
        """End the runs of which nobody is left; kill what is left of the others."""
        orphans = self._orphans()
        for run in list(self._clearing):
            if (orphans != [] or run in self._found) and self._kill_the_rest(run, orphans):
                continue  # their deaths ring again
            self._clearing.remove(run)
            self._found.discard(run)
            self._living -= 1
            self._end(run, run.status)

    def _kill_the_rest(self, run: Run, orphans: list[int] | None) -> bool:
        """True when somebody had to be killed, whose end is to be waited for."""
        family = self._family(run)
        found = run in self._found
        if orphans is None or found:
            rest = [process.pid for process in kin.members(_NOBODY if found else run.pid, family)]
        else:
            rest = [pid for pid in orphans if self._is_of(pid, run, family)]
        for pid in rest:
            if found:
                self._watch(pid, run)
            _kill(pid, signal.SIGKILL)
        return bool(rest)

    def _is_of(self, pid: int, run: Run, family: kin.Family) -> bool:
        process = kin.look(pid)
        if process is None or process.state in "ZX":
            return False
        # Somebody without any sign of its origin goes with the last run that can have been it.
        return process.session == run.pid or family.claims(pid) or not self._leaders

    def _end(self, run: Run, status: int | None) -> None:
        run.over, run.status, run.ended_at = True, status, _now()
        self._ledger.note(ledger.ended(run))
        if run.frees:
            self._admission.free(run.mark)
        waits = COLLECT_S if self._waiting else 0
        if started := self._starts.pop(run.name, 0):
            self._tell(("ran", run.name, started, status, run.ended_at), waits)
        else:
            self._tell(("ended", run.name, status, run.ended_at, run.text), waits)

    # --- runs of an earlier keeper ------------------------------------------------------------

    def _find_again(self, run: Run) -> None:
        self._living += 1
        self._admission.take(run.mark, run.cpus)
        self._found.add(run)
        family = self._family(run)
        if run.boot == self._boot and not run.pid:
            # Its keeper died between the two lines of the ledger.
            members = list(kin.members(_NOBODY, family))
            # Others may lead sessions too, but the leader was there before them.
            first = min((process.session for process in members), default=0)
            if any(process.pid == first for process in members):
                run.pid, run.at = first, _now()
                self._ledger.note(ledger.started(run))
        if run.boot == self._boot and run.pid and family.claims(run.pid):
            self._watch(run.pid, run)
        else:
            self._clearing.append(run)
            self._clear()

    def _watch(self, pid: int, run: Run) -> None:
        if pid in self._watched:
            return
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return

        def gone(_: int) -> None:
            self._hear_no_more(process)
            os.close(process)
            self._watched.discard(pid)
            if pid == run.pid and run not in self._clearing:
                self._clearing.append(run)
            self._clear()
            self._go_on()

        self._watched.add(pid)
        self._hear(process, gone)

    def _family(self, run: Run) -> kin.Family:
        return kin.Family.of(run.mark, self._owner)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _complain(text: str) -> None:
    """Into our log, which mostly is on the disk that the ledger is on."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())


def _become_subreaper() -> bool:
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False


def _kill_group(pid: int) -> None:
    try:  # noqa: SIM105  (once per job)
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _now() -> int:
    """In milliseconds since 1970 by the clock at our start and what has passed since: whoever sets
    the clock changes nothing in how long a run has taken. Agents go by it too."""
    return (_STARTED_NS + time.monotonic_ns()) // 1_000_000


_STARTED_NS = time.time_ns() - time.monotonic_ns()


def connect(folder: Path) -> socket.socket:
    """A connection to the keeper of this folder. Raises `OSError` when there is none."""
    # The path of a Unix socket is limited to about 100 bytes; through the descriptor it is short.
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{here}/{SOCKET}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(here)
    return connection


def main(arguments: list[str]) -> int:
    """`DATA_FOLDER OWNER [CONNECTION]`: the last is the number of an inherited socket.

    Returns 75 when another keeper serves the folder.
    """
    folder = Path(arguments[0]).absolute()
    agent = socket.socket(fileno=int(arguments[2])) if len(arguments) > 2 else None
    if agent is not None:
        os.set_inheritable(agent.fileno(), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.EX_TEMPFAIL
    with contextlib.suppress(OSError):  # the lock holds on a full disk too
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # jobs inherit it
    os.close(null)
    os.chdir(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(SOCKET)  # noqa: PTH108  (relative to the folder, on purpose)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        usual = os.umask(0o077)
        listener.bind(SOCKET)
        os.umask(usual)  # jobs inherit it
        listener.listen()
        os.chdir("/")
        Keeper(folder, arguments[1]).serve(listener, agent)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
