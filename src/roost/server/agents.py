"""The server's end of the agent link: one session per connected agent.

Takes frames apart as they come and hands their messages to the engine; collects what is to be said
to an agent and sends it as one frame in the loop's next turn. Output goes straight to its file,
from the link or from a data channel: it is acknowledged when the bytes are there, so an attempt's
output is stored before its end is decided. Decides nothing; who may join is the core's answer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
from collections.abc import Callable, Sequence

import structlog

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
from roost.server.channel import Channel, on_loop
from roost.server.chirp import Desk
from roost.server.engine import Engine
from roost.server.local import is_here
from roost.store.output import OutputStore
from roost.websocket import WebSocket
from roost.wire import channel as wire
from roost.wire import link

HELLO_S_MAX = 10.0
CHANNELS_MAX = 256
"""Data channels of all agents together, each with a thread; beyond them, all takes the links."""

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
        unix_socket: str = "",
        root: Callable[[str], str] = lambda operating_system: "",
    ) -> None:
        """`unix_socket` is where those of this machine get data channels, `root` the farm's shared
        folder on an operating system."""
        self.engine = engine
        self.output = output
        self.beat_ms = beat_ms
        self.output_grew = output_grew
        self.desk = desk
        self.unix_socket = unix_socket
        self.root = root
        self.delete_output = delete_output
        self.sessions: dict[NodeId, Session] = {}
        self.channels = 0
        """How many are open."""
        self._open: set[Session] = set()
        self._tickets: dict[str, Session] = {}

    def open_session(self, socket: WebSocket) -> Session:
        """The listener of a connection at `link.PATH`."""
        session = Session(self, socket)
        self._open.add(session)
        return session

    def forget(self, session: Session) -> None:
        """Its connection has ended."""
        self._open.discard(session)
        self._tickets.pop(session.ticket, None)
        session.close_channels()
        if session.node is not None:
            self.part(session, session.node)

    def give_ticket(self, session: Session) -> None:
        session.ticket = secrets.token_hex(16)
        self._tickets[session.ticket] = session

    def open_channel(self, request: bytes, take: Callable[[], socket.socket]) -> bytes:
        """What to answer to a request for a data channel, if anything: `take` gives the connection
        from then on to whom the ticket belongs."""
        asked = wire.parse(request)
        session = None if asked is None else self._tickets.get(asked.ticket)
        if asked is None or session is None or asked.number in session.channels:
            return wire.STRANGER
        if self.channels >= CHANNELS_MAX:
            return wire.REFUSED
        session.add_channel(asked.number, take())
        return b""

    def part(self, session: Session, node: NodeId) -> None:
        """This connection of the node has ended; another one may have taken its place."""
        if self.sessions.get(node) is session:
            del self.sessions[node]
        for caller in session.callers:
            self.desk.gone(session.number, caller)
        self.engine().tell(NodeDisconnected(node, session.number))

    def act(self, effects: Sequence[Effect]) -> None:
        """Pass the core's effects on. A node that is not connected is told when it joins."""
        self.desk.review()
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

    def __init__(self, agents: Agents, socket: WebSocket) -> None:
        self.agents = agents
        self.number = next(_numbers)
        self.ended = False
        self.node: NodeId | None = None
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._outbox: list[link.FromServer] = []
        self._hello_due = self._loop.call_later(HELLO_S_MAX, self.close)
        self._greeted = False
        self._early: list[link.FromAgent] | None = []
        """What came before the agent was welcomed or refused."""
        self._refused = False
        self.callers: set[int] = set()
        """Connections of jobs that may have descriptors open."""
        self.ticket = ""
        self.channels: dict[int, Channel] = {}

    def say(self, message: link.FromServer) -> None:
        """In one frame with all else that is said in this turn of the loop."""
        if not self._outbox and not self._socket.is_full:
            self._loop.call_soon(self.drained)
        self._outbox.append(message)

    def close(self) -> None:
        self._socket.close()

    def add_channel(self, number: int, peer: socket.socket) -> None:
        try:
            self.channels[number] = Channel(peer)
        except OSError as error:
            peer.close()
            log.info("a data channel did not open", node=self.node, reason=str(error))
        else:
            self.agents.channels += 1

    def close_channel(self, number: int) -> None:
        if (channel := self.channels.pop(number, None)) is not None:
            self.agents.channels -= 1
            channel.close()

    def close_channels(self) -> None:
        for number in tuple(self.channels):
            self.close_channel(number)

    # --- what the connection calls --------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """A frame of the agent."""
        try:
            messages = link.decode_from_agent(data)
            if not self._greeted:
                self._greet(messages)
            elif self._early is not None:
                self._early += messages
            else:
                for message in messages:
                    self._take(message)
        except (ProtocolError, StoreFailure) as failure:
            self._give_up(failure)

    def drained(self) -> None:
        """Send what was said, as far as the agent takes it."""
        messages, self._outbox = self._outbox, []
        for frame in link.frames(messages):
            if self._socket.is_full:
                self._outbox += frame
            else:
                self._socket.send(link.encode(frame))
        if self._refused and not self._outbox:
            self.close()

    def end(self) -> None:
        """The connection has ended."""
        self.ended = True
        self._hello_due.cancel()
        self.agents.forget(self)

    # --- joining --------------------------------------------------------------------------

    def _greet(self, messages: list[link.FromAgent]) -> None:
        if not messages or not isinstance(messages[0], link.Hello):
            raise ProtocolError("The first message of an agent must be its hello.")
        self._greeted = True
        self._hello_due.cancel()
        self._early = messages[1:]
        self._join(messages[0])

    def _join(self, hello: link.Hello) -> None:
        if hello.protocol != link.PROTOCOL:
            self._refuse(
                f"This server speaks version {link.PROTOCOL} of the agent link and the agent "
                f"version {hello.protocol}: install the same Roost on both."
            )
            return

        def done(reply: object, refusal: Refused | None) -> None:
            self._socket.resume_reading()
            if isinstance(refusal, Conflict):
                self._refuse(str(refusal), kill=True)
            elif refusal is not None:
                self.close()
            else:
                assert isinstance(reply, int)
                self._welcome(NodeId(reply), hello)
                early, self._early = self._early or [], None
                try:
                    for message in early:
                        self._take(message)
                except (ProtocolError, StoreFailure) as failure:
                    self._give_up(failure)

        self._socket.pause_reading()
        joining = NodeJoined(hello.facts, hello.attempts, self.number)
        self.agents.engine().tell(joining, done)

    def _give_up(self, failure: ProtocolError | StoreFailure) -> None:
        if isinstance(failure, ProtocolError):
            log.warning("an agent broke the protocol", node=self.node, error=str(failure))
        else:
            # It comes back and sends the output again from what is stored.
            log.error("cannot store output", node=self.node, reason=str(failure))
        self.close()

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
        agents.give_ticket(self)
        unix_socket = agents.unix_socket if is_here(*self._socket.addresses) else ""
        root = agents.root(hello.facts.operating_system)
        self.say(link.Welcome(node, agents.beat_ms, stored, self.ticket, unix_socket, root))

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
            case link.OutputAhead():
                self._store_ahead(engine, message)
            case link.ChannelClosed():
                self.close_channel(message.channel)
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
                channel = self.channels.get(message.channel)
                self.agents.desk.take(node, self.number, message, self.say, channel)
            case link.ChirpCallerGone():
                self.callers.discard(message.caller)
                self.agents.desk.gone(self.number, message.caller)
            case link.Farewell():
                engine.tell(NodeLeft(node))
            case link.Hello():
                raise ProtocolError("An agent says hello once per connection.")

    def _store(self, engine: Engine, message: link.Output) -> None:
        """Output of an attempt nobody counts on any more is acknowledged and dropped."""
        size = message.offset + len(message.data)
        if self._wants(engine, message):
            size = self.agents.output.write(
                message.job, message.number, message.offset, message.data
            )
            self.agents.output_grew(message.job)
        self.say(link.OutputSaved(message.job, message.number, size))

    def _store_ahead(self, engine: Engine, message: link.OutputAhead) -> None:
        """The same for output that passes beside the link."""
        job, number, end = message.job, message.number, message.offset + message.size
        channel, output = self.channels.get(message.channel), self.agents.output
        if channel is None:
            self.say(link.OutputSaved(job, number, output.size(job, number), ahead=True))
            return
        wanted = self._wants(engine, message)
        loop = asyncio.get_running_loop()

        def work() -> None:
            size, failure = end, None
            try:
                if message.handed_over:
                    with channel.file_taken() as source:
                        if wanted:
                            size = _store_file(source, channel, output, message)
                elif wanted:
                    size = _store_next(channel, output, message)
                else:
                    channel.discard(message.size)
            except (OSError, StoreFailure) as error:
                failure = error
            on_loop(loop, done, size, failure)

        def done(size: int, failure: OSError | StoreFailure | None) -> None:
            if failure is not None:
                # As on the link: it comes back and goes on from what is stored.
                log.error("cannot store output", node=self.node, reason=str(failure))
                self.close()
                return
            if wanted:
                self.agents.output_grew(job)
            self.say(link.OutputSaved(job, number, size, ahead=True))

        channel.add(work)

    def _wants(self, engine: Engine, message: link.Output | link.OutputAhead) -> bool:
        attempt = engine.farm.attempts.get((message.job, message.number))
        return attempt is not None and attempt.nodes[0] == self.node


def _store_next(channel: Channel, output: OutputStore, message: link.OutputAhead) -> int:
    """In the channel's thread: the bytes that come next. Gives how many are stored of the attempt.
    Raises `OSError`, `StoreFailure`."""
    with output.opened(message.job, message.number, create=message.offset == 0) as file:
        if file is None or (stored := os.fstat(file).st_size) < message.offset:
            channel.discard(message.size)
            return 0 if file is None else stored
        return max(stored, message.offset + channel.receive(file, message.offset, message.size))


def _store_file(
    source: int | None, channel: Channel, output: OutputStore, message: link.OutputAhead
) -> int:
    """Likewise for the bytes of a file, which becomes the log itself if it can."""
    job, number, offset, size = message.job, message.number, message.offset, message.size
    if source is not None and output.adopt(job, number, source, offset, size):
        return offset + size
    with output.opened(job, number, create=offset == 0) as file:
        if file is None or (stored := os.fstat(file).st_size) < offset or source is None:
            return 0 if file is None else stored
        return max(stored, offset + channel.copy(source, file, offset, size))
