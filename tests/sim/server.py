"""The server of a world: the real core, rows and codecs in the loop that `roost.server` has.

Takes a batch, decides, saves, and only then answers and acts; may crash between any two of these
and then knows what is in the store and nothing else. Sessions do what `roost.server.agents` does,
message by message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from roost.core import messages as m
from roost.core.farm import Farm
from roost.core.records import AttemptKey, JobId, Moment, NodeId
from roost.core.state import Rules
from roost.errors import Conflict, Refused, Unavailable
from roost.store import journal, rows, schema
from roost.wire import link
from sim.network import Connection

if TYPE_CHECKING:
    from sim.world import World

BEAT_MS = 5_000
BATCHES_MAX = (2, 20)
"""A server that takes little at a time hears late of the rest."""

Done = Callable[[object, Refused | None], None]


class Store:
    """A SQLite database in memory, which no crash of the server reaches. New jobs go into the
    journal, and get their rows before anything else is done, as in `roost.store.database`."""

    def __init__(self) -> None:
        engine = create_engine("sqlite://", poolclass=StaticPool)
        event.listen(engine, "connect", self._prepare)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        schema.metadata.create_all(engine)
        self._engine = engine
        self._connection = engine.connect()

    @staticmethod
    def _prepare(driver: object, record: object) -> None:
        driver.isolation_level = None  # type: ignore[attr-defined]
        driver.execute("PRAGMA foreign_keys = ON").close()  # type: ignore[attr-defined]

    @staticmethod
    def _refused(sentence: str) -> None:
        raise AssertionError(sentence)

    def save(self, changes: m.Changes, *, torn: bool = False) -> None:
        """`torn`: everything is written, but the crash comes before the commit."""
        with self._connection.begin() as transaction:
            if journal.takes(changes):
                journal.append(self._connection, journal.entry(changes))
            else:
                journal.expand(self._connection, self._refused)
                rows.save_changes(self._connection, changes)
            if torn:
                transaction.rollback()

    def read(self, function: Callable[..., object], *arguments: object) -> object:
        with self._connection.begin():
            journal.expand(self._connection, self._refused)
            return function(self._connection, *arguments)

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


class Server:
    def __init__(self, world: World, rules: Rules) -> None:
        self.world = world
        self.rules = rules
        self.batch_max = world.random.choice(BATCHES_MAX)
        self.store = Store()
        self.output: dict[AttemptKey, bytearray] = {}
        self.skew_ms = 0
        self.farm = Farm(rules)
        self.up = False
        self.sessions: dict[NodeId, Session] = {}
        self._open: list[Session] = []
        self._inbox: list[tuple[m.Message, Done | None, Moment]] = []
        """Each with when it came."""
        self._life = 0
        """Everything scheduled by an earlier life is void."""
        self.busy = False
        """Between taking a batch and having acted on it."""
        self._timer_at: Moment | None = None

    # --- life -----------------------------------------------------------------------------

    def start(self) -> None:
        if self.up:
            return
        self.world.note("server: starts")
        self.up = True
        self._load()

    def _load(self) -> None:
        self.farm = Farm(self.rules)
        self.farm.load(self.store.read(rows.load_live))  # type: ignore[arg-type]
        self.world.oracle.loaded(self.farm)
        self.farm.handle(m.Restarted(), self._now())
        self.busy = False
        self._wake()

    def crash(self, away_ms: int) -> None:
        if not self.up:
            return
        self.world.note("server: crashes")
        self.up = False
        self._forget()
        self.sessions.clear()
        for session in list(self._open):
            session.close()
        self.world.after(away_ms, self.start)

    def _survive(self, answers: list[tuple[Done, object, Refused | None]]) -> None:
        """The disk took no write: what was decided is void, and whoever asked hears of it."""
        self.world.note("server: cannot save")
        refusal = Unavailable("The server takes no work.")
        waiting = [done for done, _, _ in answers]
        waiting += [done for _, done, _ in self._inbox if done is not None]
        self.up = False
        self._forget()
        for done in waiting:
            done(None, refusal)
        for session in list(self._open):
            session.close()
        self.world.after(1_000, self.start)

    def _forget(self) -> None:
        self._life += 1
        self._inbox.clear()
        self.busy = True
        self._timer_at = None

    def _now(self) -> Moment:
        return Moment(self.world.now + self.skew_ms)

    # --- the loop -------------------------------------------------------------------------

    def tell(self, message: m.Message, done: Done | None = None) -> None:
        if not self.up:
            if done is not None:
                done(None, Unavailable("The server takes no work."))
            return
        self._inbox.append((message, done, self._now()))
        self._wake()

    def _wake(self) -> None:
        if self.busy or not self.up:
            return
        if self._inbox:
            self.busy = True
            self._later(self.world.random.randint(0, 2), self._decide)
            return
        due = self.farm.next_wakeup()
        if due is not None and (self._timer_at is None or due < self._timer_at):
            self._timer_at = due
            self._later(max(0, due - self._now()), self._ring)

    def _ring(self) -> None:
        self._timer_at = None
        if not self.busy:
            self.busy = True
            self._decide()

    def _later(self, ms: int, action: Callable[..., None], *arguments: object) -> None:
        life = self._life

        def act() -> None:
            if life == self._life:
                action(*arguments)

        self.world.after(ms, act)

    def _decide(self) -> None:
        farm, oracle = self.farm, self.world.oracle
        batch, self._inbox = self._inbox[: self.batch_max], self._inbox[self.batch_max :]
        effects: list[m.Effect] = []
        answers: list[tuple[Done, object, Refused | None]] = []
        for message, done, _ in batch:
            if missing := farm.missing(linked_ids(message)):
                farm.admit(self.store.read(rows.load_component, missing))  # type: ignore[arg-type]
            reply: object = None
            refusal: Refused | None = None
            try:
                outcome = farm.handle(message, self._now())
                reply = outcome.reply
                effects.extend(outcome.effects)
            except Refused as refused:
                refusal = refused
            oracle.handled(farm, message)
            if done is not None:
                answers.append((done, reply, refusal))
        heard = self._inbox[0][2] if self._inbox else None
        placed = farm.handle(m.Tick(heard), self._now()).effects
        oracle.placed(farm, placed, heard)
        effects.extend(placed)
        changes = farm.take_changes()
        if self.world.faults.slip(self.world, "crash before save"):
            self.crash(self.world.random.choice((0, 100, 5_000)))
        else:
            slow = self.world.faults.slip(self.world, "slow disk")
            took = self.world.random.randint(*((300, 3_000) if slow else (0, 3)))
            self._later(took, self._save, changes, answers, effects)

    def _save(
        self,
        changes: m.Changes,
        answers: list[tuple[Done, object, Refused | None]],
        effects: list[m.Effect],
    ) -> None:
        world = self.world
        if changes:
            if world.faults.slip(world, "crash while saving"):
                self.store.save(changes, torn=True)
                self.crash(world.random.choice((0, 100, 5_000)))
                return
            if world.faults.slip(world, "disk full"):
                self._survive(answers)
                return
            self.store.save(changes)
            world.oracle.saved(self.farm, changes)
        if world.faults.slip(world, "crash after save"):
            self.crash(world.random.choice((0, 100, 5_000)))
            return
        self._later(0, self._answer, answers, effects)

    def _answer(
        self, answers: list[tuple[Done, object, Refused | None]], effects: list[m.Effect]
    ) -> None:
        for done, reply, refusal in answers:
            done(reply, refusal)
        for effect in effects:
            self._act(effect)
        self.busy = False
        self._wake()

    def _act(self, effect: m.Effect) -> None:
        match effect:
            case m.StartAttempt():
                self._say(effect.node, link.Start(effect.order))
            case m.SignalAttempt():
                self._say(effect.node, link.Signal(effect.job, effect.number, effect.action))
            case m.DropNode():
                if (session := self.sessions.get(effect.node)) is not None:
                    session.close()
            case m.DeleteOutput():
                for key in [key for key in self.output if key[0] == effect.job]:
                    del self.output[key]

    def _say(self, node: NodeId, message: link.FromServer) -> None:
        if (session := self.sessions.get(node)) is not None:
            session.say(message)

    # --- agents ---------------------------------------------------------------------------

    def accept(self) -> Session:
        session = Session(self)
        self._open.append(session)
        return session

    def closed(self, session: Session) -> None:
        if session in self._open:
            self._open.remove(session)
        if session.node is not None and self.sessions.get(session.node) is session:
            del self.sessions[session.node]
            self.tell(m.NodeDisconnected(session.node))

    def write_output(self, key: AttemptKey, offset: int, data: bytes) -> int:
        if offset > len(self.output.get(key, b"")):
            return len(self.output.get(key, b""))
        stored = self.output.setdefault(key, bytearray())
        stored[offset : offset + len(data)] = data
        return max(len(stored), offset + len(data))


class Session:
    """The server's end of one connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection: Connection | None = None
        self.node: NodeId | None = None
        self._closed = False
        self._greeted = False
        self._joining = False
        self._waiting: list[bytes] = []
        self._outbox: list[link.FromServer] = []

    def receive(self, frame: bytes | None) -> None:
        if frame is None:
            self.close()
        elif self._joining:
            self._waiting.append(frame)
        elif not self._closed:
            for message in link.decode_from_agent(frame):
                self._take(message)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            assert self.connection is not None
            self.connection.close_by_server()
            self.server.closed(self)

    def say(self, message: link.FromServer) -> None:
        if not self._closed:
            if not self._outbox:
                self.server.world.after(0, self._flush)
            self._outbox.append(message)

    def _flush(self) -> None:
        messages, self._outbox = self._outbox, []
        if not self._closed and self.connection is not None:
            self.connection.to_agent.send(link.encode(messages))

    def _take(self, message: link.FromAgent) -> None:
        server, node = self.server, self.node
        if isinstance(message, link.Hello):
            assert not self._greeted
            self._greeted = self._joining = True
            server.tell(
                m.NodeJoined(message.facts, message.attempts),
                lambda reply, refusal: self._joined(message, reply, refusal),
            )
            return
        if node is None:
            return
        match message:
            case link.Reports(first, reports):
                through = first + len(reports) - 1
                for report in reports[:-1]:
                    server.tell(m.NodeReported(node, report))
                server.tell(
                    m.NodeReported(node, reports[-1]),
                    lambda _, refusal: None if refusal else self.say(link.ReportsSaved(through)),
                )
            case link.Output(job, number, offset, data):
                size = offset + len(data)
                attempt = server.farm.attempts.get((job, number))
                if attempt is not None and attempt.nodes[0] == node:
                    size = server.write_output((job, number), offset, data)
                    server.world.oracle.output_stored((job, number))
                self.say(link.OutputSaved(job, number, size))
            case link.Beat(load, idle_minutes, progress):
                server.tell(m.NodeBeat(node, load, idle_minutes, tuple(progress)))
            case link.Farewell():
                server.tell(m.NodeLeft(node))

    def _joined(self, hello: link.Hello, reply: object, refusal: Refused | None) -> None:
        if refusal is not None:
            if isinstance(refusal, Conflict):
                self.say(link.Refusal(str(refusal), kill=True))
                self._flush()
            self.close()
            return
        node = NodeId(reply)  # type: ignore[arg-type]
        server = self.server
        if (before := server.sessions.get(node)) is not None:
            before.node = None
            before.close()
        if self._closed:
            # It broke while the farm was being asked: it is the last to say so.
            server.sessions.pop(node, None)
            server.tell(m.NodeDisconnected(node))
            return
        self.node = node
        server.sessions[node] = self
        stored = tuple(
            (held.job, held.number, len(server.output.get((held.job, held.number), b"")))
            for held in hello.attempts
            if (held.job, held.number) in server.farm.attempts
        )
        server.world.note(f"server: welcomes {hello.facts.label} as node {node}")
        self.say(link.Welcome(node, BEAT_MS, stored))
        self._joining = False
        frames, self._waiting = self._waiting, []
        for frame in frames:
            self.receive(frame)


def linked_ids(message: m.Message) -> tuple[JobId, ...]:
    """Jobs that must be in memory for this message even if they are finished."""
    match message:
        case m.RescheduleJobs() | m.DeleteJobs() | m.ExpireJobs() | m.SetPriority():
            return message.ids
        case m.SetPriorities(priorities=priorities):
            return tuple(job for job, _ in priorities)
        case m.SetConditions() | m.SetBlockedWarning() | m.SetAttributes():
            return (message.id,)
        case m.AddNote(job=job) if job is not None:
            return (job,)
        case m.SubmitJobs():
            return tuple(
                linked for job in message.jobs for linked in (*job.parent_ids, *job.child_ids)
            )
        case _:
            return ()
