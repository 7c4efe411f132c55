"""What running jobs ask of their submit machine: files in threads, attributes by the core.

A call comes from the Chirp proxy of an agent. It is granted only while the attempt runs on that
node and its job's gates are open, whatever the agent thinks. Calls that come over a data channel,
those on files and those that read attributes, are done in the channel's thread, without this loop,
which lends the files for that and cuts the channel when they would not be granted any more. An
attribute is read as the engine has it, with what is just being saved: on a lane as on the link,
whoever was told that it is set reads it so. Files are those of the job's submit
folder: the one it names, if it lies beneath a folder that the administrator allows, else one of
its root job's own, made when it is first used and removed with that job.
"""

from __future__ import annotations

import asyncio
import errno
import operator
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
from msgspec import Struct, field
from msgspec.structs import replace

from roost.beneath import Beneath, remove_tree
from roost.busypoll import BusyPoll
from roost.core import blackboard
from roost.core.attributes import SWITCHES
from roost.core.messages import ChirpOrder, Gates, SetAttribute
from roost.core.records import JobId, NodeId
from roost.errors import Forbidden, Invalid, ProtocolError, Refused, TooLarge, Unavailable
from roost.server.channel import Channel, on_loop
from roost.server.engine import Engine
from roost.submitfolder import (
    Answer,
    JobFiles,
    LanesOfRoots,
    Run,
    Space,
    files_beneath,
    files_in,
    is_known,
    root_of,
)
from roost.wire import link
from roost.wire.chirp import COMMANDS, GETS, Code, Gate, code_of_errno
from roost.wire.link import LANE, NO_CHANNEL, ChirpAnswer, ChirpCall

_Seen = tuple[object, ...]

BESIDE = frozenset(("pread", "pwrite"))
"""Commands whose bytes may pass over a data channel."""
OUTSIDE = "is not beneath any of the server's submit_roots"

log = structlog.get_logger(__name__)


class SubmitFolders:
    """Which folder is whose."""

    def __init__(self, own: Path, roots: Sequence[Path], bytes_max: int = 0) -> None:
        """`own` holds the folders of root jobs, each of which may hold `bytes_max` (0: any number);
        it is made when the first of them is. `roots` are the ones that jobs may name."""
        self._own = own
        self._roots = roots
        self._bytes_max = bytes_max
        self._spaces: dict[JobId, Space] = {}
        self._warned: set[str] = set()

    def open(self, order: ChirpOrder) -> JobFiles:
        """Raises `OSError`."""
        if not order.submit_dir:
            return self._open_own(order)
        if root := self.root_of(order):
            return files_beneath(root, order)
        if order.submit_dir not in self._warned:
            self._warned.add(order.submit_dir)
            log.warning("a job's submit folder " + OUTSIDE, folder=order.submit_dir)
        raise PermissionError(errno.EACCES, OUTSIDE, order.submit_dir)

    def _open_own(self, order: ChirpOrder) -> JobFiles:
        place = self._own / str(order.root)
        place.mkdir(0o700, parents=True, exist_ok=True)
        space = self._spaces.setdefault(order.root, Space(self._bytes_max))
        return files_in(Beneath.at(place), order, space)

    def root_of(self, order: ChirpOrder) -> Path | None:
        """Of those that jobs may name; None for a folder of our own."""
        return root_of(order.submit_dir, self._roots) if order.submit_dir else None

    def remove(self, job: JobId) -> None:
        """Of a deleted job; blocks on the disk."""
        self._spaces.pop(job, None)
        remove_tree(self._own / str(job))

    def has(self, job: JobId) -> bool:
        return job in self._spaces or (self._own / str(job)).exists()


class _Grant(Struct, eq=False):
    """What a channel may do as a lane."""

    channel: Channel
    node: NodeId
    call: ChirpCall
    order: ChirpOrder
    seen: _Seen
    """What that was made of; records are never changed."""
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self) -> None:
        """In the channel's thread: the channel is for something else from now on."""
        with self.lock:
            self.ended = True

    def revoke(self) -> None:
        with self.lock:
            if not self.ended:
                self.channel.cut()


class Desk:
    """Answers the calls of all agents."""

    def __init__(self, engine: Callable[[], Engine], folders: SubmitFolders) -> None:
        self._engine = engine
        self._folders = folders
        self._lanes = LanesOfRoots()
        self._lent: set[_Grant] = set()
        self._awake = BusyPoll()

    def close(self) -> None:
        self._lanes.close()

    def take(
        self,
        node: NodeId,
        session: int,
        call: ChirpCall,
        say: Callable[[ChirpAnswer], None],
        channel: Channel | None = None,
    ) -> None:
        """`say` is called once, on this loop; for files in the order of the caller's calls.
        `channel` is the one that the call names, if there is such a one."""

        def reply(answer: Answer) -> None:
            say(ChirpAnswer(call.call, answer.result, answer.data, answer.descriptor))

        def refuse(code: Code) -> None:
            if channel is not None:
                channel.cut()  # as nobody takes from it or gives to it what was announced
            reply(Answer(code))

        order = self._order(node, call)
        if order is None:
            refuse(Code.NOT_AUTHORIZED)
        elif not _is_offered(call, order.gates):
            refuse(Code.INVALID_REQUEST)
        elif not _is_about_files(call):
            self._take_attribute(node, call, reply)
        elif call.channel == NO_CHANNEL and call.command != LANE:
            self._run(session, order, call, reply)
        elif channel is None:
            refuse(Code.OFFLINE)
        elif call.command == LANE:
            self._lend(session, _Grant(channel, node, call, order, self._seen(call)), reply)
        else:
            self._run_beside(session, order, call, reply, channel)

    def _run(
        self,
        session: int,
        order: ChirpOrder,
        call: ChirpCall,
        reply: Callable[[Answer], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._lanes.of(self._folders.root_of(order)).run(
            (session, call.caller),
            lambda: self._folders.open(order),
            call.command,
            call.words,
            call.numbers,
            call.data,
            lambda answer: on_loop(loop, reply, answer),
        )

    def _run_beside(
        self,
        session: int,
        order: ChirpOrder,
        call: ChirpCall,
        reply: Callable[[Answer], None],
        channel: Channel,
    ) -> None:
        """The files lend a descriptor, and the bytes pass between it and the channel."""
        loop = asyncio.get_running_loop()
        writes = call.command == "pwrite"
        move = _receive if writes else _send
        _, length, offset = call.numbers

        def begin(lent: Answer) -> None:
            channel.add(lambda: on_loop(loop, reply, move(channel, lent.result, offset, length)))

        lend = replace(call, command="lend", numbers=(*call.numbers, writes))
        self._run(session, order, lend, begin)

    def _lend(self, session: int, grant: _Grant, reply: Callable[[Answer], None]) -> None:
        """From its answer on, the caller's calls come over the channel."""
        loop = asyncio.get_running_loop()
        self._lent.add(grant)

        def borrow(run: Run, give_back: Callable[[], None]) -> None:
            def work() -> None:
                on_loop(loop, reply, Answer(0))
                try:
                    answer = partial(self._on_lane, grant, run)
                    grant.channel.serve(partial(_answer_frame, answer), grant.end)
                finally:
                    give_back()
                    on_loop(loop, self._lent.discard, grant)

            grant.channel.add(work)

        order = grant.order
        self._lanes.of(self._folders.root_of(order)).lend(
            (session, grant.call.caller), lambda: self._folders.open(order), borrow
        )

    def _on_lane(self, grant: _Grant, run: Run, call: ChirpCall) -> Answer:
        """In the channel's thread: one call, of the grant's caller whatever it says."""
        if call.command in GETS:
            if COMMANDS[call.command].gate.is_open(grant.order.gates):
                return self._attribute(grant.call.job, call)
        elif is_known(call.command, call.words, call.numbers):
            return run(call.command, call.words, call.numbers, call.data)
        return Answer(Code.INVALID_REQUEST)

    def review(self) -> None:
        """The farm may have changed: cut off what is not granted any more."""
        for grant in self._lent:
            seen = self._seen(grant.call)
            if all(map(operator.is_, seen, grant.seen)):
                continue
            grant.seen = seen
            if self._order(grant.node, grant.call) != grant.order:
                grant.revoke()

    def _seen(self, call: ChirpCall) -> _Seen:
        farm = self._engine().farm
        own = farm.attributes.get(call.job, {})
        return (
            farm.attempts.get((call.job, call.number)),
            farm.jobs.get(call.job),
            *map(own.get, SWITCHES),
        )

    def gone(self, session: int, caller: int) -> None:
        self._lanes.close_lane((session, caller))

    def forget(self, job: JobId) -> None:
        """A job was deleted: its folder goes with it."""
        if self._folders.has(job):
            self._lanes.of(None).do(lambda: self._folders.remove(job))

    def _order(self, node: NodeId, call: ChirpCall) -> ChirpOrder | None:
        farm = self._engine().farm
        attempt = farm.attempts.get((call.job, call.number))
        if attempt is None or node not in attempt.nodes:
            return None
        return farm.chirp_order(farm.jobs[call.job], farm.tree.root_of(call.job))

    def _take_attribute(
        self, node: NodeId, call: ChirpCall, reply: Callable[[Answer], None]
    ) -> None:
        self._awake.came()

        def done(_: object, refusal: Refused | None) -> None:
            reply(Answer(0 if refusal is None else _code(refusal)))
            self._awake.waits()

        if call.command in GETS:
            reply(self._attribute(call.job, call))
            self._awake.waits()
            return
        try:
            words = [word.decode() for word in call.words]
        except UnicodeDecodeError:
            words = []
        match call.command, words:
            case "set_job_attr", [name, text]:
                message = SetAttribute(node, call.job, call.number, name, text)
                self._engine().tell(message, done)
            case _:  # `constrain`: a job's requirements are its conditions (Chirp decision 18)
                reply(Answer(Code.INVALID_REQUEST))

    def _attribute(self, job: JobId, call: ChirpCall) -> Answer:
        """What one of `GETS` is answered, in any thread."""
        try:
            [name] = [word.decode() for word in call.words]
        except ValueError:  # not one word, or not text
            return Answer(Code.INVALID_REQUEST)
        engine = self._engine()
        with engine.lock:
            text = blackboard.value_of(engine.farm, job, name)
        if text is not None:
            return _text(text)
        return _text("UNDEFINED") if call.command == "get_job_attr" else Answer(Code.DOESNT_EXIST)


def _is_about_files(call: ChirpCall) -> bool:
    return call.command == LANE or COMMANDS[call.command].gate is Gate.IO


def _is_offered(call: ChirpCall, gates: Gates) -> bool:
    """Whether there is such a call, for a job with these gates."""
    if call.command == LANE:
        return gates.io
    form = COMMANDS.get(call.command)
    if form is None or not form.gate.is_open(gates):
        return False
    if form.gate is not Gate.IO:
        return True
    goes_there = call.channel == NO_CHANNEL or call.command in BESIDE
    return goes_there and is_known(call.command, call.words, call.numbers)


def _answer_frame(answer: Callable[[ChirpCall], Answer], frame: memoryview) -> bytes:
    """In the channel's thread: one frame of a lane."""
    answers: list[link.FromServer] = []
    for call in link.decode_from_agent(frame):
        if not isinstance(call, ChirpCall):
            raise ProtocolError("On a lane there are calls and nothing else.")
        said = answer(call)
        answers.append(ChirpAnswer(call.call, said.result, said.data, said.descriptor))
    return link.encode(answers)


def _send(channel: Channel, file: int, offset: int, length: int) -> Answer:
    """In the channel's thread. A `file` below 0 is why there is none."""
    if file < 0:
        channel.cut()
        return Answer(file)
    try:
        sent = channel.send(file, offset, length)
    finally:
        os.close(file)
    if sent < length:
        channel.cut()
    return Answer(sent)


def _receive(channel: Channel, file: int, offset: int, length: int) -> Answer:
    """Likewise. All that was announced is taken, whether it can be written or not."""
    if file < 0:
        channel.discard(length)
        return Answer(file)
    try:
        return Answer(channel.receive(file, offset, length))
    except OSError as error:
        return Answer(code_of_errno(error.errno))
    finally:
        os.close(file)


def _text(text: str) -> Answer:
    data = text.encode()
    return Answer(len(data), data)


def _code(refusal: Refused) -> Code:
    match refusal:
        case Forbidden():
            return Code.NOT_AUTHORIZED
        case TooLarge():
            return Code.TOO_BIG
        case Invalid():
            return Code.INVALID_REQUEST
        case Unavailable():
            return Code.OFFLINE
    return Code.NOT_AUTHORIZED
