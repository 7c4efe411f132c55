"""The loop that owns the farm: take in, decide, save, and only then answer and act.

Everything that arrives while a batch is being saved goes into the next one (group commit), so a
busy server saves rarely and much, an idle one at once. Answers leave first: whoever waited for
one has a turn of the loop before mere onlookers are told.

Nobody else changes the `Farm`, and it is changed only while `lock` is held, never across an await.
Code on this thread may look at it without the lock, as no change is half done there; code on
another thread holds the lock for the length of one look. Either sees all that has been decided so
far, also what is just being saved, and so everything that anybody has been told.

When the record cannot be saved, what was decided since the last save is void: whoever asked is
refused with the reason, agents are cut off and will tell their reports again, and the farm is
loaded anew from what is on disk as soon as the disk takes a write.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import structlog
from msgspec import Struct

from roost.core.activity import told
from roost.core.farm import Farm
from roost.core.messages import (
    AddNote,
    Changes,
    Command,
    DeleteJobs,
    Effect,
    ExpireJobs,
    Message,
    RescheduleJobs,
    Restarted,
    SetAttributes,
    SetBlockedWarning,
    SetConditions,
    SetPriorities,
    SetPriority,
    SubmitJobs,
    Tick,
)
from roost.core.records import JobId, Moment
from roost.core.state import Rules
from roost.errors import Refused, StoreFailure, Unavailable
from roost.store.database import ADVICE_WHEN_DAMAGED, Database
from roost.store.rows import load_component, load_live

INBOX_MAX = 100_000
BATCH_MAX = 2_000
RETRY_SAVING_MS = 1_000

log = structlog.get_logger(__name__)

Done = Callable[[object, Refused | None], None]
"""Called with the reply, or with the refusal, once the batch is on disk."""


class Entry(Struct):
    message: Message
    done: Done | None
    came: Moment
    by: str = ""
    """Who asked; empty when it is nobody's deed."""


class Engine:
    """Owns the farm. `act` and `publish` are called on the loop after each save, in order."""

    def __init__(
        self,
        database: Database,
        rules: Rules,
        act: Callable[[Sequence[Effect]], None],
        publish: Callable[[Changes], None],
        cut_off: Callable[[], None],
    ) -> None:
        self.farm = Farm(rules)
        self.lock = threading.Lock()
        """Held while `farm` is changed, or is looked at from another thread."""
        self.failure: StoreFailure | None = None
        """Set while the server takes no work because it cannot save."""
        self._rules = rules
        self._database = database
        self._act = act
        self._publish = publish
        self._cut_off = cut_off
        self._inbox: deque[Entry] = deque()
        self._resting: asyncio.Future[None] | None = None
        """Ends when something arrives."""
        self._stopping = False

    async def load(self) -> None:
        """Fill the farm from disk. Raises `StoreFailure`."""
        farm = Farm(self._rules)
        with _garbage_ignored():
            try:
                farm.load(await self._database.read(load_live))
            except StoreFailure:
                raise
            except Exception as error:
                log.exception("the record makes no sense")
                raise StoreFailure(
                    f"The database {self._database.place} holds what cannot be "
                    f"({type(error).__name__}: {error}). {ADVICE_WHEN_DAMAGED}"
                ) from error
        farm.handle(Restarted(), now())
        with self.lock:
            self.farm = farm

    # --- the two ways in ------------------------------------------------------------------

    def ask(self, command: Command, by: str = "") -> asyncio.Future[object]:
        """The core's reply, once it is on disk. Raises `Refused`. What is asked by somebody is
        kept among the activities, if it is of their kind."""
        if len(self._inbox) >= INBOX_MAX:
            raise Unavailable(
                f"The server has {INBOX_MAX} requests waiting; try again in a moment."
            )
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def done(reply: object, refusal: Refused | None) -> None:
            if answer.cancelled():
                return
            if refusal is not None:
                answer.set_exception(refusal)
            else:
                answer.set_result(reply)

        self.tell(command, done, by)
        return answer

    def tell(self, message: Message, done: Done | None = None, by: str = "") -> None:
        """Hand a message in; `done` is called on this loop when it is decided and saved."""
        if self._stopping or self.failure is not None:
            if done is not None:
                done(None, self.refusal())
            return
        self._inbox.append(Entry(message, done, now(), by))
        self._rouse()

    def refusal(self) -> Unavailable:
        if self.failure is not None:
            return Unavailable(f"The server takes no work: {self.failure}")
        return Unavailable("The server is stopping; ask again when it is back.")

    def stop(self) -> None:
        """Refuse what comes from now on; `run` returns after saving what has come already."""
        self._stopping = True
        self._rouse()

    # --- the loop -------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until `stop`."""
        while True:
            if not (self._inbox or self._stopping):
                await self._rest(self.farm.next_wakeup())
            batch = [self._inbox.popleft() for _ in range(min(len(self._inbox), BATCH_MAX))]
            try:
                await self._handle(batch)
            except StoreFailure as failure:
                await self._survive(failure, batch)
            if self._stopping and not self._inbox:
                return

    async def _rest(self, until: Moment | None) -> None:
        """Wait until something arrives or we are to stop, but at most until that moment."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        if until is not None:
            if (left := until - now()) <= 0:
                return
            timer = loop.call_later(left / 1000, self._rouse)
        self._resting = loop.create_future()
        try:
            await self._resting
        finally:
            self._resting = None
            if timer is not None:
                timer.cancel()

    def _rouse(self) -> None:
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    async def _handle(self, batch: list[Entry]) -> None:
        farm = self.farm
        effects: list[Effect] = []
        answers: list[tuple[Done, object, Refused | None]] = []
        for entry in batch:
            if (ids := _linked_ids(entry.message)) and (missing := farm.missing(ids)):
                records = await self._database.read(load_component, missing)
                with self.lock:
                    farm.admit(records)
            reply: object = None
            refusal: Refused | None = None
            at = now()
            with self.lock:
                try:
                    outcome = farm.handle(entry.message, at)
                    reply = outcome.reply
                    effects.extend(outcome.effects)
                    if entry.by and (activity := told(entry.message, entry.by, at, reply)):
                        farm.note(activity)
                except Refused as refused:
                    refusal = refused
            if entry.done is not None:
                answers.append((entry.done, reply, refusal))
        with self.lock:
            due = farm.next_wakeup()
            if due is not None and due <= max(now(), farm.now):
                heard = self._inbox[0].came if self._inbox else None
                effects.extend(farm.handle(Tick(heard), now()).effects)
            changes = farm.take_changes()
        if changes:
            await self._database.save(changes)
        for done, reply, refusal in answers:
            done(reply, refusal)
        self._act(effects)
        if answers:
            await asyncio.sleep(0)
        self._publish(changes)

    async def _survive(self, failure: StoreFailure, batch: list[Entry]) -> None:
        """Take no work until the disk takes a write again; then go on from what is on disk."""
        log.error("cannot save, taking no work", reason=str(failure))
        self.failure = failure
        for entry in (*batch, *self._inbox):
            if entry.done is not None:
                entry.done(None, self.refusal())
        self._inbox.clear()
        self._cut_off()
        while not self._stopping:
            await self._rest(Moment(now() + RETRY_SAVING_MS))
            try:
                await self._database.probe()
                await self.load()
            except StoreFailure as again:
                self.failure = again
            else:
                log.info("can save again, taking work")
                self.failure = None
                return


@contextlib.contextmanager
def _garbage_ignored() -> Iterator[None]:
    """Records hold no cycles: collecting while a million of them are made only costs time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def now() -> Moment:
    """The farm's clock: the wall clock, in whole milliseconds."""
    return Moment(time.time_ns() // 1_000_000)


def _linked_ids(message: Message) -> tuple[JobId, ...]:
    """Jobs that must be in memory for this message even if they are finished."""
    match message:
        case RescheduleJobs() | DeleteJobs() | ExpireJobs() | SetPriority():
            return message.ids
        case SetPriorities(priorities=priorities):
            return tuple(job for job, _ in priorities)
        case SetConditions() | SetBlockedWarning() | SetAttributes():
            return (message.id,)
        case AddNote(job=job) if job is not None:
            return (job,)
        case SubmitJobs():
            return tuple(
                [linked for job in message.jobs for linked in (*job.parent_ids, *job.child_ids)]
            )
        case _:
            return ()
