"""What the server answers to jobs: the same over the link and over a lane, on a real engine."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.core.messages import ChirpOrder, NewJob, NodeJoined, SetAttributes, SubmitJobs
from roost.core.records import JobId, JobSpec, NodeFacts, NodeId
from roost.core.state import Rules
from roost.server.channel import Channel
from roost.server.chirp import Desk, SubmitFolders
from roost.server.engine import Engine
from roost.store.database import Database
from roost.submitfolder import THREADS, Answer, JobFiles, files_beneath
from roost.wire import channel as wire
from roost.wire import link
from roost.wire.chirp import Code
from roost.wire.link import LANE, ChirpAnswer, ChirpCall

PATIENCE_S = 60
SESSION = 1
CALLER = 7
UNKNOWN = (b"NoSuch",)
GATES = {"WantIOProxy": "true", "WantRemoteUpdates": "true"}


class Office:
    """A desk, and a job that runs on a node; the test speaks for the agent."""

    def __init__(self, desk: Desk, engine: Engine, node: NodeId) -> None:
        self.desk = desk
        self.engine = engine
        self.node = node
        self.job = JobId(0)
        self.peer, self._own = socket.socketpair()
        self.peer.setblocking(False)
        self._channel: Channel | None = None
        self._frames = wire.FrameReader()
        self._loop = asyncio.get_running_loop()

    async def run(self, attributes: dict[str, str], submit_dir: str = "") -> None:
        spec = JobSpec("job", "true", attributes=attributes, submit_dir=submit_dir)
        [self.job] = await self.engine.ask(SubmitJobs((NewJob(spec, "job"),)))  # type: ignore[misc]

    def call(self, command: str, *words: bytes) -> ChirpCall:
        return ChirpCall(1, self.job, 1, CALLER, command, words)

    def ask(self, caller: int, command: str, *words: bytes) -> asyncio.Future[ChirpAnswer]:
        """Of another connection of the job's."""
        answer: asyncio.Future[ChirpAnswer] = self._loop.create_future()
        call = ChirpCall(1, self.job, 1, caller, command, words)
        self.desk.take(self.node, SESSION, call, answer.set_result)
        return answer

    async def on_link(
        self, command: str, *words: bytes, channel: Channel | None = None
    ) -> ChirpAnswer:
        answer: asyncio.Future[ChirpAnswer] = self._loop.create_future()
        call = self.call(command, *words)
        self.desk.take(self.node, SESSION, call, answer.set_result, channel)
        return await asyncio.wait_for(answer, PATIENCE_S)

    async def have_lane(self) -> int:
        """What is answered to who asks for one."""
        self._channel = Channel(self._own)
        assert await self._loop.sock_recv(self.peer, len(wire.ACCEPTED)) == wire.ACCEPTED
        return (await self.on_link(LANE, channel=self._channel)).result

    def close(self) -> None:
        self.peer.close()
        if self._channel is not None:
            self._channel.close()
        else:
            self._own.close()

    async def on_lane(self, command: str, *words: bytes) -> ChirpAnswer:
        """Raises `ConnectionError` when it was cut."""
        return await self.send(self.call(command, *words))

    async def send(self, call: ChirpCall) -> ChirpAnswer:
        async with asyncio.timeout(PATIENCE_S):
            await self._loop.sock_sendall(self.peer, wire.frame(link.encode([call])))
            while (frame := self._frames.next_frame()) is None:
                got = await self._loop.sock_recv_into(self.peer, self._frames.room())
                if not got:
                    raise ConnectionResetError
                self._frames.received(got)
        [answer] = link.decode_from_server(frame)
        assert isinstance(answer, ChirpAnswer)
        return answer


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    database = Database(f"sqlite:///{tmp_path / 'roost.db'}")
    await database.migrate()
    projects = tmp_path / "projects"
    projects.mkdir()
    desk = Desk(lambda: engine, SubmitFolders(tmp_path / "folders", (projects,)))
    rules = Rules(submit_roots=(str(projects),))
    engine = Engine(database, rules, lambda _: desk.review(), lambda _: None, lambda: None)
    await engine.load()
    running = asyncio.ensure_future(engine.run())
    node = await engine.ask(NodeJoined(NodeFacts("render1", cpus=2)))
    assert isinstance(node, int)
    office = Office(desk, engine, NodeId(node))
    yield office
    office.close()
    desk.close()
    engine.stop()
    await running
    await database.close()


@pytest.mark.parametrize(
    ("command", "words", "answer"),
    [
        ("get_job_attr", (b"Scene",), Answer(3, b'"a"')),
        ("get_job_attr", (b"sCENE",), Answer(3, b'"a"')),
        ("get_job_attr", (b"NumJobStarts",), Answer(1, b"1")),
        ("get_job_attr", UNKNOWN, Answer(9, b"UNDEFINED")),
        ("get_job_attr", (b"\xe9",), Answer(Code.INVALID_REQUEST)),
        ("get_job_attr", (), Answer(Code.INVALID_REQUEST)),
        ("get_job_attr", (b"Scene", b"Scene"), Answer(Code.INVALID_REQUEST)),
        ("get_job_attr_delayed", (b"Scene",), Answer(3, b'"a"')),
        ("get_job_attr_delayed", UNKNOWN, Answer(Code.DOESNT_EXIST)),
        ("constrain", (b"true",), Answer(Code.INVALID_REQUEST)),
        ("nonsense", (), Answer(Code.INVALID_REQUEST)),
    ],
)
async def test_a_lane_answers_as_the_link_does(
    office: Office, command: str, words: tuple[bytes, ...], answer: Answer
) -> None:
    await office.run({**GATES, "Scene": '"a"'})
    said = ChirpAnswer(1, *answer)
    assert await office.on_link(command, *words) == said
    assert await office.have_lane() == 0
    assert await office.on_lane(command, *words) == said


async def test_what_was_answered_as_set_is_what_a_lane_reads(office: Office) -> None:
    await office.run(GATES)
    assert await office.have_lane() == 0
    for take in range(50):
        text = b"%d" % take
        assert (await office.on_link("set_job_attr", b"Take", text)).result == 0
        assert (await office.on_lane("get_job_attr", b"Take")).data == text


async def test_a_lane_reads_the_attributes_of_its_own_job_only(office: Office) -> None:
    await office.run({"Secret": "1"})
    other = office.job
    await office.run(GATES)
    assert await office.have_lane() == 0
    call = ChirpCall(1, other, 1, CALLER, "get_job_attr", (b"Secret",))
    assert (await office.send(call)).data == b"UNDEFINED"


async def test_nothing_is_set_on_a_lane(office: Office) -> None:
    await office.run(GATES)
    assert await office.have_lane() == 0
    assert (await office.on_lane("set_job_attr", b"Take", b"1")).result == Code.INVALID_REQUEST
    assert (await office.on_lane("get_job_attr", b"Take")).data == b"UNDEFINED"


@pytest.mark.parametrize(
    ("gate", "command"),
    [("WantRemoteUpdates", "get_job_attr"), ("WantDelayedUpdates", "get_job_attr_delayed")],
)
async def test_each_attribute_has_its_gate_on_a_lane_too(
    office: Office, gate: str, command: str
) -> None:
    await office.run({**GATES, gate: "false", "Scene": "1"})
    assert await office.have_lane() == 0
    assert (await office.on_lane(command, b"Scene")).result == Code.INVALID_REQUEST
    assert (await office.on_lane("stat", b".")).result == 0


@pytest.mark.parametrize("gate", GATES)
async def test_who_was_told_that_a_gate_is_shut_reads_nothing_more_on_a_lane(
    office: Office, gate: str
) -> None:
    await office.run({**GATES, "Scene": "1"})
    assert await office.have_lane() == 0
    assert (await office.on_lane("get_job_attr", b"Scene")).data == b"1"
    await office.engine.ask(SetAttributes(office.job, {gate: "false"}))
    with pytest.raises(ConnectionError):
        await office.on_lane("get_job_attr", b"Scene")


async def test_no_lane_is_lent_to_who_may_not_use_files(office: Office) -> None:
    await office.run({"WantIOProxy": "false", "WantRemoteUpdates": "true", "Scene": "1"})
    assert await office.have_lane() == Code.INVALID_REQUEST
    assert (await office.on_link("get_job_attr", b"Scene")).data == b"1"
    with pytest.raises(ConnectionError):
        await office.on_lane("get_job_attr", b"Scene")


async def test_a_submit_folder_that_hangs_holds_up_only_the_jobs_of_its_root(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = threading.Event()

    def hang(root: Path, order: ChirpOrder) -> JobFiles:
        mount.wait()
        return files_beneath(root, order)

    monkeypatch.setattr("roost.server.chirp.files_beneath", hang)
    await office.run(GATES, submit_dir=str(tmp_path / "projects"))
    waiting = [office.ask(caller, "stat", b".") for caller in range(THREADS + 1)]
    await office.run(GATES)
    try:
        answer = await asyncio.wait_for(office.ask(CALLER, "stat", b"."), PATIENCE_S)
        assert answer.result == 0
        assert not any(other.done() for other in waiting)
    finally:
        mount.set()
    assert {answer.result for answer in await asyncio.gather(*waiting)} == {0}
