"""The server's end of the link as a small real server, and agents in it or beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from roost.agent import kin
from roost.agent.daemon import AgentOptions, AgentReady, run_agent
from roost.agent.link import Waits
from roost.agent.plan import Limits
from roost.core.messages import AttemptEnded, AttemptOrder, AttemptReport
from roost.core.records import AttemptKey
from roost.wire import link

PATIENCE_S = 10.0


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Agents have either loop. Its own ways, as in when it writes and closes, are the link's."""
    loops = {"asyncio": asyncio.new_event_loop}
    if item.path.name == "test_link.py":
        loops["uvloop"] = pytest.importorskip("uvloop").new_event_loop
    return loops


class ServerEnd:
    """Stores what agents send as a server must, and lets tests wait for it."""

    def __init__(self) -> None:
        self.hellos: list[link.Hello] = []
        self.reports: list[AttemptReport] = []
        self.messages: list[link.FromAgent] = []
        self.output: dict[AttemptKey, bytearray] = {}
        self.saves = True
        self.acknowledges = True
        self.unwanted: set[AttemptKey] = set()
        self.refusal: link.Refusal | None = None
        self.takes_nobody = False
        """As a server that cannot save: it closes every connection without a word."""
        self.beat_ms = 60_000
        self.root = ""
        self.url = ""
        self.through = 0
        self._socket: ServerConnection | None = None
        self._changed = asyncio.Condition()

    # --- what tests say -----------------------------------------------------------------------

    async def send(self, *messages: link.FromServer) -> None:
        assert self._socket is not None
        await self._socket.send(link.encode(list(messages)))

    async def order(self, command: str, job: int = 1, number: int = 1, **more: object) -> None:
        environment = {"JOBID": str(job)}
        order = AttemptOrder(job, number, "", command, more.pop("environment", environment), **more)
        await self.send(link.Start(order))

    async def signal(self, action: str, job: int = 1, number: int = 1) -> None:
        await self.send(link.Signal(job, number, action))

    def drop(self) -> None:
        """Break the connection without a word."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def until(self, true: Callable[[], object]) -> object:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(true)
        return true()

    async def joined(self, times: int = 1) -> link.Hello:
        await self.until(lambda: len(self.hellos) >= times and self._socket is not None)
        return self.hellos[-1]

    async def said(self, kind: type, job: int = 1, number: int = 1) -> AttemptReport:
        def found() -> AttemptReport | None:
            of = [r for r in self.reports if isinstance(r, kind)]
            return next((r for r in of if (r.job, r.number) == (job, number)), None)

        return await self.until(found)

    async def ended(self, job: int = 1, number: int = 1) -> AttemptEnded:
        return await self.said(AttemptEnded, job, number)

    async def printed(self, text: str, job: int = 1, number: int = 1) -> str:
        await self.until(lambda: text in self.text(job, number))
        return self.text(job, number)

    def text(self, job: int = 1, number: int = 1) -> str:
        return self.output.get((job, number), b"").decode()

    # --- what a server does -------------------------------------------------------------------

    async def handle(self, socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            [hello] = link.decode_from_agent(await socket.recv())
            assert isinstance(hello, link.Hello)
            if self.refusal is not None or self.takes_nobody:
                if self.refusal is not None:
                    await socket.send(link.encode([self.refusal]))
                async with self._changed:
                    self.hellos.append(hello)
                    self._changed.notify_all()
                return
            outputs = [
                (held.job, held.number, len(self.output.get((held.job, held.number), b"")))
                for held in hello.attempts
                if (held.job, held.number) not in self.unwanted
            ]
            self.through = 0
            welcome = link.Welcome(1, self.beat_ms, tuple(outputs), root=self.root)
            await socket.send(link.encode([welcome]))
            async with self._changed:
                self._socket = socket
                self.hellos.append(hello)
                self._changed.notify_all()
            async for frame in socket:
                answers = self._take(link.decode_from_agent(frame))
                async with self._changed:
                    self._changed.notify_all()
                if answers:
                    await socket.send(link.encode(answers))
        if self._socket is socket:
            self._socket = None

    def _take(self, messages: list[link.FromAgent]) -> list[link.FromServer]:
        self.messages += messages
        answers: list[link.FromServer] = []
        for message in messages:
            match message:
                case link.Reports(first, reports):
                    assert first > self.through, "report numbers must grow"
                    self.through = first + len(reports) - 1
                    self.reports += reports
                    if self.saves:
                        answers.append(link.ReportsSaved(self.through))
                case link.Output(job, number, offset, data):
                    stored = self.output.setdefault((job, number), bytearray())
                    assert offset <= len(stored), "output must have no gaps"
                    ended = [r for r in self.reports if isinstance(r, AttemptEnded)]
                    assert (job, number) not in [(r.job, r.number) for r in ended]
                    stored[offset : offset + len(data)] = data
                    if self.acknowledges:
                        answers.append(link.OutputSaved(job, number, len(stored)))
        return answers


@pytest.fixture
async def server() -> AsyncIterator[ServerEnd]:
    end = ServerEnd()
    async with serve(
        end.handle, "127.0.0.1", 0, compression=None, max_size=link.FRAME_BYTES_MAX
    ) as listening:
        [listener] = listening.sockets
        end.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield end


class AgentInTest:
    """An agent in a task of the test, or in a process of its own that can be killed."""

    def __init__(self, options: AgentOptions) -> None:
        self.options = options
        self.ready: AgentReady | None = None
        self.task: asyncio.Task[int] | None = None
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> AgentReady:
        up: asyncio.Future[AgentReady] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(run_agent(self.options, up.set_result))
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([up, self.task], return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            self.task.result()
        self.ready = up.result()
        return self.ready

    async def stop(self) -> None:
        """As SIGTERM does."""
        if self.task is not None and not self.task.done():
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                assert await self.task == 0
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.gone()

    async def start_process(self) -> int:
        program = (
            "import sys, msgspec, pathlib\n"
            "from roost.agent.daemon import AgentOptions, run_agent\n"
            "from roost.cli.upkeep import run\n"
            "options = msgspec.json.decode(\n"
            "    sys.argv[1], type=AgentOptions, dec_hook=lambda kind, value: kind(value))\n"
            "sys.exit(run(run_agent(options, lambda ready: print(ready.pid, flush=True))))\n"
        )
        options = msgspec.json.encode(self.options, enc_hook=str).decode()
        start = asyncio.create_subprocess_exec  # noqa: TID251  (not a job)
        self.process = await start(
            sys.executable, "-c", program, options, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return int(await self.process.stdout.readline())

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.gone()

    async def gone(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    # --- the keeper and what it runs ----------------------------------------------------------

    @property
    def keeper_pid(self) -> int:
        return int((self.options.data / "keeper.lock").read_text())

    def kill_keeper(self) -> None:
        os.kill(self.keeper_pid, signal.SIGKILL)

    def members(self, job: int = 1, number: int = 1) -> list[kin.Process]:
        """Everything that lives of an attempt, wherever it has gone."""
        owner = (self.options.data / "installation").read_text().strip()
        return kin.members(-1, kin.Family.of(f"{job}.{number}", owner))


AgentMaker = Callable[..., AgentInTest]


@pytest.fixture
async def make_agent(server: ServerEnd, tmp_path: Path) -> AsyncIterator[AgentMaker]:
    made: list[AgentInTest] = []

    def make(**more: object) -> AgentInTest:
        options = AgentOptions(
            server=server.url,
            data=more.pop("data", tmp_path / "agent"),
            port=0,
            hostname="testhost",
            limits=Limits(interrupt_ms=100, terminate_ms=100),
            waits=Waits(0.01, 0.05),
        )
        made.append(AgentInTest(msgspec.structs.replace(options, **more)))
        return made[-1]

    yield make
    for agent in made:
        try:
            await agent.stop()
        finally:
            if agent.process is not None and agent.process.returncode is None:
                agent.process.kill()
                await agent.gone()
    for data in {agent.options.data for agent in made}:
        clear_away(data)


@pytest.fixture
async def agent(make_agent: AgentMaker, server: ServerEnd) -> AgentInTest:
    """One that has joined."""
    agent = make_agent()
    await agent.start()
    await server.joined()
    return agent


def clear_away(data: Path) -> None:
    """End the keeper and everything of this data folder that still runs."""
    with contextlib.suppress(OSError, ValueError):
        keeper = int((data / "keeper.lock").read_text())
        if b"roost.agent.keeper" in Path(f"/proc/{keeper}/cmdline").read_bytes():
            os.kill(keeper, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(keeper, 0)
    with contextlib.suppress(OSError):
        owner = (data / "installation").read_text().strip()
        for process in kin.everybody():
            tag = kin.tag_of(process.pid)
            if tag is not None and tag >> 32 == kin.Family.of("", owner).tag >> 32:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


async def gone(pid: int) -> None:
    """Wait until this process has ended."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(process, ended.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
        finally:
            loop.remove_reader(process)
            os.close(process)


@pytest.fixture
def wait_gone() -> Callable[[int], Awaitable[None]]:
    return gone


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
