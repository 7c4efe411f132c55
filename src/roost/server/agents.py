"""The server's end of the agent link: one session per connected agent.

Takes frames apart and hands their messages to the engine; collects what is to be said to an agent
and sends it as one frame when the loop comes to rest. Output goes straight to its file: it is
acknowledged when the bytes are there, in the order of the link, so an attempt's output is stored
before its end is decided. Decides nothing; who may join is the core's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from roost.core.messages import (
    DeleteOutput,
    DropNode,
    Effect,
    NodeBeat,
    NodeDisconnected,
    NodeJoined,
    NodeLeft,
    NodeReported,
    SignalAttempt,
    StartAttempt,
)
from roost.core.records import JobId, NodeId
from roost.errors import Conflict, ProtocolError, Refused, StoreFailure
from roost.server.chirp import Desk
from roost.server.engine import Engine
from roost.store.output import OutputStore
from roost.wire import link

HELLO_SECONDS_MAX = 10.0

log = structlog.get_logger(__name__)
_numbers = itertools.count(1)


class Agents:
    """All sessions, by node."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        output: OutputStore,
        beat_ms: int,
        output_grew: Callable[[JobId], None],
        delete_output: Callable[[Sequence[JobId]], None],
        desk: Desk,
    ) -> None:
        self.engine = engine
        self.output = output
        self.beat_ms = beat_ms
        self.output_grew = output_grew
        self.desk = desk
        self.delete_output = delete_output
        self.sessions: dict[NodeId, Session] = {}
        self._open: set[Session] = set()

    async def serve(self, websocket: WebSocket) -> None:
        """The WebSocket endpoint at `link.PATH`."""
        await websocket.accept()
        session = Session(self, websocket)
        self._open.add(session)
        try:
            await session.run()
        finally:
            self._open.discard(session)
            session.ended = True
            if session.node is not None:
                self.part(session, session.node)

    def part(self, session: Session, node: NodeId) -> None:
        """This connection of the node has ended; another one may have taken its place."""
        if self.sessions.get(node) is session:
            del self.sessions[node]
        for caller in session.callers:
            self.desk.gone(session.number, caller)
        self.engine().tell(NodeDisconnected(node, session.number))

    def act(self, effects: Sequence[Effect]) -> None:
        """Pass the core's effects on. A node that is not connected is told when it joins."""
        deleted: list[JobId] = []
        for effect in effects:
            match effect:
                case StartAttempt():
                    self._say(effect.node, link.Start(effect.order))
                case SignalAttempt():
                    self._say(effect.node, link.Signal(effect.job, effect.number, effect.action))
                case DropNode():
                    if (session := self.sessions.get(effect.node)) is not None:
                        session.close()
                case DeleteOutput():
                    deleted.append(effect.job)
        if deleted:
            self.delete_output(deleted)

    def _say(self, node: NodeId, message: link.FromServer) -> None:
        session = self.sessions.get(node)
        if session is not None:
            session.say(message)

    def cut_off(self) -> None:
        """Close every session; the agents come back and say their unsaved reports again."""
        for session in tuple(self._open):
            session.close()


class Session:
    """One connection of one agent."""

    def __init__(self, agents: Agents, websocket: WebSocket) -> None:
        self.agents = agents
        self.number = next(_numbers)
        self.ended = False
        self.node: NodeId | None = None
        self._websocket = websocket
        self._outbox: list[link.FromServer] = []
        self._filled = asyncio.Event()
        self._closed = asyncio.Event()
        self._refused = False
        self.callers: set[int] = set()
        """Connections of jobs that may have descriptors open."""

    def say(self, message: link.FromServer) -> None:
        self._outbox.append(message)
        self._filled.set()

    def close(self) -> None:
        self._closed.set()

    async def run(self) -> None:
        """Until either side ends the connection."""
        tasks = [
            asyncio.ensure_future(self._receive()),
            asyncio.ensure_future(self._send()),
            asyncio.ensure_future(self._closed.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect):
                await self._websocket.close()

    async def _send(self) -> None:
        while not self._refused or self._outbox:
            await self._filled.wait()
            self._filled.clear()
            messages, self._outbox = self._outbox, []
            try:
                for frame in link.frames(messages):
                    await self._websocket.send_bytes(link.encode(frame))
            except (WebSocketDisconnect, RuntimeError, OSError):
                return

    async def _receive(self) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS_MAX):
                first = link.decode_from_agent(await self._websocket.receive_bytes())
            if not first or not isinstance(first[0], link.Hello):
                raise ProtocolError("The first message of an agent must be its hello.")
            await self._join(first[0])
            for message in first[1:]:
                self._take(message)
            while True:
                for message in link.decode_from_agent(await self._websocket.receive_bytes()):
                    self._take(message)
        except (WebSocketDisconnect, TimeoutError):
            return
        except ProtocolError as error:
            log.warning("an agent broke the protocol", node=self.node, error=str(error))
        except KeyError:
            log.warning("an agent sent a text frame", node=self.node)
        except StoreFailure as failure:
            # It comes back and sends the output again from what is stored.
            log.error("cannot store output", node=self.node, reason=str(failure))

    async def _join(self, hello: link.Hello) -> None:
        if hello.protocol != link.PROTOCOL:
            self._refuse(
                f"This server speaks version {link.PROTOCOL} of the agent link and the agent "
                f"version {hello.protocol}: install the same Roost on both."
            )
            return
        joined = asyncio.get_running_loop().create_future()

        def done(reply: object, refusal: Refused | None) -> None:
            if isinstance(refusal, Conflict):
                self._refuse(str(refusal), kill=True)
            elif refusal is not None:
                self.close()
            else:
                assert isinstance(reply, int)
                self._welcome(NodeId(reply), hello)
            if not joined.cancelled():
                joined.set_result(None)

        joining = NodeJoined(hello.facts, hello.attempts, self.number)
        self.agents.engine().tell(joining, done)
        await joined

    def _refuse(self, text: str, *, kill: bool = False) -> None:
        log.warning("refused an agent", reason=text)
        self._refused = True
        self.say(link.Refusal(text, kill))

    def _welcome(self, node: NodeId, hello: link.Hello) -> None:
        agents = self.agents
        if (before := agents.sessions.get(node)) is not None:
            before.close()
        self.node = node
        if self.ended:
            agents.part(self, node)
            return
        agents.sessions[node] = self
        farm = agents.engine().farm
        stored = tuple(
            (held.job, held.number, agents.output.size(held.job, held.number))
            for held in hello.attempts
            if (held.job, held.number) in farm.attempts
        )
        log.info("node joined", node=hello.facts.label, id=node, attempts=len(hello.attempts))
        self.say(link.Welcome(node, agents.beat_ms, stored))

    def _take(self, message: link.FromAgent) -> None:
        engine, node = self.agents.engine(), self.node
        if node is None or self.agents.sessions.get(node) is not self:
            return
        match message:
            case link.Reports():
                through = message.first + len(message.reports) - 1

                def saved(_: object, refusal: Refused | None) -> None:
                    if refusal is None:
                        self.say(link.ReportsSaved(through))

                for report in message.reports[:-1]:
                    engine.tell(NodeReported(node, report))
                if message.reports:
                    engine.tell(NodeReported(node, message.reports[-1]), saved)
            case link.Output():
                self._store(engine, message)
            case link.Beat():
                engine.tell(
                    NodeBeat(
                        node,
                        message.load,
                        message.idle_minutes,
                        tuple(message.progress),
                        message.memory_used_kb,
                    )
                )
            case link.ChirpCall():
                self.callers.add(message.caller)
                self.agents.desk.take(node, self.number, message, self.say)
            case link.ChirpCallerGone():
                self.callers.discard(message.caller)
                self.agents.desk.gone(self.number, message.caller)
            case link.Farewell():
                engine.tell(NodeLeft(node))
            case link.Hello():
                raise ProtocolError("An agent says hello once per connection.")

    def _store(self, engine: Engine, message: link.Output) -> None:
        """Output of an attempt nobody counts on any more is acknowledged and dropped."""
        key = (message.job, message.number)
        size = message.offset + len(message.data)
        attempt = engine.farm.attempts.get(key)
        if attempt is not None and attempt.nodes[0] == self.node:
            size = self.agents.output.write(
                message.job, message.number, message.offset, message.data
            )
            self.agents.output_grew(message.job)
        self.say(link.OutputSaved(message.job, message.number, size))
