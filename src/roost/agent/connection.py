"""One connection of a job to its Chirp proxy.

A request is answered once and in order. What can be answered at once is, as it is received; what is
one call is begun (`Calls`), and its answer is said when it comes. Only what has more than one step
(bulk, a payload that is still on its way, a wrong cookie) is a task, and while there is one nothing
else is begun. Requests that a client sends ahead are begun ahead, if each is one call and needs no
answer of an earlier one. Bulk data passes in pieces, a few under way at a time, and nothing is read
while enough is waiting, so memory stays flat whatever the sizes are; whole files that are large
pass from socket to socket, if there is a data channel to be had.

What always holds: no request is made of half a line; a payload is taken in full before it is
answered; a connection with a request outstanding is reset, never ended quietly, since clients take
an end for silence and wait for ever. So its socket is one that is reset when it is closed, by
whomever; to end it quietly takes a step of its own (`_end`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any, Protocol, cast

from msgspec import Struct

from roost.agent.calls import Caller, Calls
from roost.agent.channel import Channel, Channels, forward
from roost.agent.contact import Contact
from roost.submitfolder import PIECE_BYTES, STRIDES_MAX, WRITE_BYTES_MAX, Answer
from roost.wire.chirp import (
    COMMANDS,
    PROTOCOL_VERSION,
    Code,
    Ended,
    Event,
    Gate,
    Payload,
    Request,
    RequestReader,
    TooLong,
    format_code,
    format_counted,
)
from roost.wire.link import NO_CHANNEL

COOKIES_WRONG_MAX = 5
COOKIE_WRONG_S = 1.0
"""Before a wrong cookie is answered; nobody else waits."""
COOKIE_S_MAX = 60.0
"""A connection that has not said by then whose it is is reset."""
PAYLOAD_S_MAX = 300.0
"""How long the next bytes of an announced payload may take."""
WINDOW = 4
"""Pieces under way at a time in one transfer, and requests begun ahead of their answers."""
CHANNEL_BYTES_MIN = 4 * 1024 * 1024
"""Less than this of a file is not worth the way to a data channel."""
RECEIVE_BYTES = 256 * 1024
"""No more is read while this much has not been looked at."""
JOIN_BYTES_MAX = 64 * 1024
"""A number and what follows it are one piece up to here; more is not worth a copy."""
DRAIN_BYTES_MAX = 1024 * 1024
"""Read of an over-long line before the connection is reset, so that its answer arrives."""
DRAIN_S_MAX = 1.0
RESET, FLUSH = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""SO_LINGER: what closing a connection does to what has been said and has not arrived."""
WHOAMI = b"CONDOR"
WHOAREYOU = b"UNKNOWN"
"""What users of HTCondor expect to be told (Chirp decision 9)."""
_LONG = frozenset(("read", "pread", "sread", "getfile", "getdir", "getlongdir"))
"""Their answer may have more bytes than come with it."""
_AHEAD = frozenset(name for name, form in COMMANDS.items() if form.gate is Gate.IO) - {
    "open", "putfile", "sread", "getfile", "getdir", "getlongdir", "whoami", "whoareyou",
}  # fmt: skip
"""Commands on files that are one call each. A caller's files are worked on in the order of its
calls; attributes are not, and wait their turn."""
_WITH_DESCRIPTOR = frozenset(n for n, form in COMMANDS.items() if form.numbers[:1] == ("fd",))


class Owner(Protocol):
    """Who listens: it knows whose cookie is whose."""

    def came(self, connection: Connection) -> None: ...

    def recognise(self, connection: Connection, cookie: bytes) -> Contact | Code: ...

    def went(self, connection: Connection) -> None: ...


class _Gone(Exception):
    """The client has closed, or took too long, in the middle of something."""


class _Owed(Struct, eq=False):
    """What was begun and is to be said."""

    request: Request
    own: int
    """The descriptor that the job named."""
    answer: Answer | None = None


class Connection(asyncio.Protocol):
    def __init__(self, owner: Owner, calls: Calls, channels: Channels) -> None:
        self.contact: Contact | None = None
        self._owner = owner
        self._calls = calls
        self._channels = channels
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._requests = RequestReader()
        self._received: deque[bytes] = deque()
        """Not looked at yet."""
        self._received_bytes = 0
        self._reading = True
        """Whatever comes, unless enough is waiting."""
        self._held: Event | None = None
        """What comes next, when there is less to be said."""
        self._owed: deque[_Owed] = deque()
        """In this order."""
        self._alone = False
        """Nothing is begun before what is owed was said."""
        self._task: asyncio.Task[None] | None = None
        """Does the one request that has several steps."""
        self._waiter: asyncio.Future[None] | None = None
        """What that task waits for: that something happens to the connection."""
        self._full = False
        """The client does not read what we say."""
        self._over = False
        """Nothing more is asked."""
        self._cookies_wrong = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._caller: Caller | None = None
        self._descriptors = _Descriptors()

    # --- the transport ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(COOKIE_S_MAX, self.reset)
        self._owner.came(self)

    def data_received(self, data: bytes) -> None:
        self._calls.jobs.came()
        self._received.append(data)
        self._received_bytes += len(data)
        if self._received_bytes > RECEIVE_BYTES:
            self._transport.pause_reading()
        self._go_on()

    def eof_received(self) -> bool:
        self._received.append(b"")
        self._go_on()
        return True  # what was asked is still answered

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._go_on()

    def connection_lost(self, _: Exception | None) -> None:
        self._over = True
        self._owed.clear()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._caller is not None:
            self._calls.gone(self._caller)
        self._owner.went(self)

    def reset(self) -> None:
        """End it so that the client notices at once."""
        self._over = True
        self._transport.abort()

    def _end(self) -> None:
        """End it quietly, when all has been said."""
        with contextlib.suppress(OSError, ValueError):
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, FLUSH)
        self._over = True
        self._transport.close()

    # --- from one request to the next ---------------------------------------------------------

    def _go_on(self) -> None:
        """Take what has come, up to what has to wait for something."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        while self._task is None and not self._full and not self._over:
            event = self._held or self._event()
            self._held = None
            if event is None:
                break
            if self._owed and not self._goes_ahead(event):
                self._held = event
                break
            self._take(event)
        if self._caller is not None:
            self._calls.flush(self._caller)

    def _event(self) -> Event | None:
        """The next one of what has been received."""
        while (event := self._requests.next_event()) is None and self._received:
            self._requests.receive(self._take_received())
        return event

    def _take_received(self) -> bytes:
        data = self._received.popleft()
        was_full = self._received_bytes > RECEIVE_BYTES
        self._received_bytes -= len(data)
        if was_full and self._received_bytes <= RECEIVE_BYTES and self._reading:
            self._transport.resume_reading()
        return data

    def _take(self, event: Event) -> None:
        match event:
            case Ended():
                self._end()
            case TooLong():
                self._say(format_code(Code.TOO_BIG))
                self._begin_task(self._drain_line())
            case _ if self.contact is None:
                self._greet(event)
            case Request() as request:
                self._answer(self.contact, request)
            case _:
                self._say(format_code(Code.INVALID_REQUEST))

    def _say(self, code: bytes, data: bytes = b"") -> None:
        """A number, and what follows it; that may be large and is not copied then."""
        if len(data) <= JOIN_BYTES_MAX:
            self._transport.write(code + data)
        else:
            self._transport.writelines((code, data))
        self._calls.jobs.waits()

    # --- who it is ----------------------------------------------------------------------------

    def _greet(self, event: Event) -> None:
        match event:
            case Request("cookie", (cookie,)):
                contact = self._owner.recognise(self, cookie)
                if isinstance(contact, Contact):
                    assert self._deadline is not None
                    self._deadline.cancel()
                    self.contact = contact
                    self._caller = self._calls.new_caller(contact.key, contact.order)
                    self._say(format_code(0))
                    return
                if contact == Code.TOO_MANY_OPEN:
                    self._say(format_code(contact))
                    return
                self._cookies_wrong += 1
                if self._cookies_wrong == COOKIES_WRONG_MAX:
                    self.reset()
                else:
                    self._begin_task(self._refuse_cookie())
            case Payload():
                pass
            case _:
                self._say(format_code(Code.NOT_AUTHENTICATED))

    async def _refuse_cookie(self) -> None:
        await asyncio.sleep(COOKIE_WRONG_S)
        self._say(format_code(Code.NOT_AUTHENTICATED))

    async def _drain_line(self) -> None:
        """Take more of a line that was too long, so that the answer arrives; then end."""
        left = DRAIN_BYTES_MAX
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S_MAX):
                while left > 0:
                    if not self._received:
                        await self._something()
                    elif data := self._take_received():
                        left -= len(data)
                    else:
                        break
        if left <= 0:
            raise _Gone
        self._end()

    # --- answering ----------------------------------------------------------------------------

    def _answer(self, contact: Contact, request: Request) -> None:
        if request.command == "cookie" or not request.gate.is_open(contact.order.gates):
            self._refuse(request, Code.INVALID_REQUEST)
            return
        own = -1
        if request.command in _WITH_DESCRIPTOR:
            own = request.numbers[0]
            number = self._descriptors.get(own, self._epoch)
            if number < 0:
                self._refuse(request, number)
                return
            request = request._replace(numbers=(number, *request.numbers[1:]))
        match request.command:
            case "version":
                self._say(format_code(PROTOCOL_VERSION))
            case "whoami" | "whoareyou":
                name = WHOAMI if request.command == "whoami" else WHOAREYOU
                short = request.numbers[0] < len(name)
                self._say(format_code(Code.NO_SPACE) if short else format_counted(name))
            case "set_job_attr_delayed":
                self._say(format_code(contact.set_delayed(*request.words)))
            case "get_job_attr_delayed" if known := contact.get_delayed(request.words[0]):
                self._say(format_counted(known.encode()))
            case "putfile":
                if request.numbers[1] < 0:
                    self._say(format_code(Code.INVALID_REQUEST))
                else:
                    self._begin_task(self._take_file(request))
            case _ if request.payload > _part_bytes(request):
                self._begin_task(self._take_payload(request))
            case _ if request.payload:
                self._begin_write(request, own)
            case _:
                self._begin_one(request, own)

    def _refuse(self, request: Request, code: int) -> None:
        if request.payload:
            self._begin_task(self._take_in_vain(request, code))
        else:
            self._say(format_code(code))

    async def _take_in_vain(self, request: Request, code: int) -> None:
        left = request.payload
        while left > 0:
            left -= len(await self._payload(1))
        self._say(format_code(code))

    # --- requests that are one call -----------------------------------------------------------

    def _goes_ahead(self, event: Event) -> bool:
        """May it be begun while answers to earlier ones are outstanding?"""
        if self._alone or len(self._owed) >= WINDOW or not isinstance(event, Request):
            return False
        assert self.contact is not None
        if not _is_one_among_others(event) or not event.gate.is_open(self.contact.order.gates):
            return False
        return (
            event.command not in _WITH_DESCRIPTOR
            or self._descriptors.get(event.numbers[0], self._epoch) >= 0
        )

    def _begin_write(self, request: Request, own: int) -> None:
        event = self._event()
        if isinstance(event, Payload) and event.last:
            self._begin_one(request, own, event.chunk)
        else:
            self._begin_task(self._complete_write(request, own, event))

    async def _complete_write(self, request: Request, own: int, first: Event | None) -> None:
        data = first.chunk if isinstance(first, Payload) else b""
        if first is not None and not data:
            raise _Gone
        rest = await self._payload(request.payload - len(data))
        self._begin_one(request, own, data + rest)

    def _begin_one(self, request: Request, own: int, data: bytes = b"") -> None:
        numbers = _numbers_of_part(request, 0, len(data)) if data else request.numbers
        owed = _Owed(request, own)
        caller, answered = self._caller, partial(self._answered, owed)
        assert caller is not None
        command, words = request.command, request.words
        owed.answer = self._calls.begin(caller, answered, command, words, numbers, data)
        if owed.answer is not None and not self._owed:
            self._say_answer(owed, owed.answer)
            return
        self._alone = not _is_one_among_others(request)
        self._owed.append(owed)

    def _answered(self, owed: _Owed, answer: Answer) -> None:
        owed.answer = answer
        if not self._owed or self._owed[0] is not owed:
            return
        while self._owed and (said := self._owed[0].answer) is not None:
            self._say_answer(self._owed.popleft(), said)
        self._go_on()

    def _say_answer(self, owed: _Owed, answer: Answer) -> None:
        result = answer.result
        if result >= 0:
            match owed.request.command:
                case "open":
                    result = self._descriptors.add(result, self._epoch)
                case "close":
                    self._descriptors.remove(owed.own)
                case command if command in _LONG and result > len(answer.data):
                    self._begin_task(self._give_rest(owed.request, answer))
        self._say(format_code(result), answer.data)

    @property
    def _epoch(self) -> int:
        assert self._caller is not None
        return 0 if self._caller.root is not None else self._calls.epoch

    # --- requests that are several steps ------------------------------------------------------

    def _begin_task(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._task is None
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._end_task)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        match task.exception():
            case None:
                self._go_on()
            case _Gone() | OSError():
                self.reset()
            case failure:
                self.reset()
                raise failure

    async def _something(self) -> None:
        """Until something happens to the connection."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _payload(self, length: int) -> bytes:
        """The next bytes of a payload: at least `length`, and little more if there is more."""
        pieces: list[bytes] = []
        while length > 0:
            event = self._event()
            if event is None:
                try:
                    async with asyncio.timeout(PAYLOAD_S_MAX):
                        await self._something()
                except TimeoutError:
                    raise _Gone from None
                continue
            if not isinstance(event, Payload):
                raise _Gone
            pieces.append(event.chunk)
            length -= len(event.chunk)
        return b"".join(pieces)

    async def _drain(self) -> None:
        """Until the client has read most of what was said."""
        while self._full:
            await self._something()

    def _ask(
        self,
        command: str,
        words: tuple[bytes, ...] = (),
        numbers: tuple[int, ...] = (),
        data: bytes = b"",
        channel: int = NO_CHANNEL,
    ) -> asyncio.Future[Answer]:
        """Make a call whose answer is awaited."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        caller, answered = self._caller, partial(_settle, future)
        assert caller is not None
        known = self._calls.begin(caller, answered, command, words, numbers, data, channel)
        if known is not None:
            future.set_result(known)
        self._calls.flush(caller)
        return future

    # --- past this program --------------------------------------------------------------------

    async def _channel_for(self, size: int) -> Channel | None:
        """A channel to move so many bytes to or from the server; None if they take the link."""
        assert self._caller is not None
        if size < CHANNEL_BYTES_MIN or self._caller.root is not None:
            return None
        return await self._channels.take()

    @contextlib.contextmanager
    def _bare(self) -> Iterator[socket.socket]:
        """The job's end of the connection itself."""
        number = os.dup(self._transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=number) as peer:
            yield peer

    async def _send_all(self) -> None:
        """Return when all that was said has left."""
        transport = self._transport
        transport.set_write_buffer_limits(0)
        while transport.get_write_buffer_size() and not transport.is_closing():
            await self._drain()
            await asyncio.sleep(0)
        transport.set_write_buffer_limits()

    async def _pour(self, descriptor: int, done: int, total: int) -> int:
        """Give the job what follows the first `done` bytes of a file; gives how much it was, which
        is nothing when there is no channel to be had."""
        channel = await self._channel_for(total - done)
        if channel is None:
            return 0
        size, given = total - done, 0
        try:
            numbers = (descriptor, size, done)
            sent = self._ask("pread", numbers=numbers, channel=channel.number)
            await self._send_all()
            with self._bare() as job:
                _, given = await forward(channel.socket, job, size)
            if given == size:
                await sent
        finally:
            self._channels.give_back(channel, clean=given == size)
        if given < size:
            raise _Gone
        return given

    async def _draw(self, descriptor: int, length: int) -> tuple[int, int]:
        """Take a file from the job for the server; gives how much of it was taken, which is nothing
        when there is no channel to be had, and a code if it is not written."""
        channel = await self._channel_for(length)
        if channel is None:
            return 0, 0
        taken = given = result = 0
        try:
            numbers = (descriptor, length, 0)
            written = self._ask("pwrite", numbers=numbers, channel=channel.number)
            with contextlib.suppress(OSError), self._bare() as job, self._not_reading():
                while taken < length and (event := self._event()) is not None:
                    if not isinstance(event, Payload):
                        raise _Gone
                    taken += len(event.chunk)
                    loop = asyncio.get_running_loop()
                    await loop.sock_sendall(channel.socket, event.chunk)
                    given += len(event.chunk)
                more, passed = await forward(job, channel.socket, length - taken, PAYLOAD_S_MAX)
                self._requests.payload_passed(more)
                taken += more
                given += passed
            if given < taken:
                with contextlib.suppress(OSError):
                    channel.socket.shutdown(socket.SHUT_RDWR)  # so that the server answers
            elif taken < length:
                raise _Gone  # the job has ended it
            result = (await written).result
        finally:
            self._channels.give_back(channel, clean=result == length)
        return taken, 0 if result == length else min(result, 0) or Code.OFFLINE

    @contextlib.contextmanager
    def _not_reading(self) -> Iterator[None]:
        """What has not been received yet stays with the system."""
        self._reading = False
        self._transport.pause_reading()
        try:
            yield
        finally:
            self._reading = True
            if self._received_bytes <= RECEIVE_BYTES and not self._transport.is_closing():
                self._transport.resume_reading()

    # --- to the job ---------------------------------------------------------------------------

    async def _give_rest(self, request: Request, first: Answer) -> None:
        """What follows the first piece of an answer, as it comes."""
        total, done = first.result, len(first.data)
        if first.descriptor >= 0:
            done += await self._pour(first.descriptor, done, total)
        if request.command == "sread":
            await self._give_strides(request, done, total)
            return
        asked: deque[asyncio.Future[Answer]] = deque()
        ahead = done
        while done < total:
            while ahead < total and len(asked) < WINDOW:
                size = min(PIECE_BYTES, total - ahead)
                asked.append(self._ask_rest(request, first.descriptor, ahead, size))
                ahead += size
            await self._drain()
            piece = (await asked.popleft()).data
            done += len(piece)
            if len(piece) != PIECE_BYTES and done != total:
                raise _Gone  # the file has become shorter: what was promised cannot be kept
            self._transport.write(piece)
        if first.descriptor >= 0:
            await self._ask("close", numbers=(first.descriptor,))

    async def _give_strides(self, request: Request, done: int, total: int) -> None:
        """Likewise for strides, on which it depends how much comes at a time."""
        while done < total:
            await self._drain()
            piece = (await self._ask("sread", numbers=(*request.numbers, done))).data
            if not piece:
                raise _Gone
            done += len(piece)
            self._transport.write(piece)

    def _ask_rest(
        self, request: Request, descriptor: int, done: int, size: int
    ) -> asyncio.Future[Answer]:
        """Ask for the piece after the first `done` bytes of an answer."""
        match request.command, request.numbers:
            case "read", (number, _):
                return self._ask("read", numbers=(number, size))
            case "pread", (number, _, offset):
                return self._ask("pread", numbers=(number, size, offset + done))
        return self._ask("pread", numbers=(descriptor, size, done))

    # --- from the job -------------------------------------------------------------------------

    async def _take_payload(self, request: Request) -> None:
        """Pieces are written one after the other, as each may be an append. When one fails, that
        is the answer, however much is in the file by then: nobody knows of that piece how much."""
        done = failed = 0
        while done < request.payload:
            part_bytes = _part_bytes(request)
            data = await self._payload(min(request.payload - done, part_bytes))
            if request.command != "swrite":
                part_bytes = len(data)
            for start in range(0, len(data), part_bytes):
                part = data[start : start + part_bytes]
                if not failed:
                    numbers = _numbers_of_part(request, done, len(part))
                    failed = min(0, (await self._ask(request.command, (), numbers, part)).result)
                done += len(part)
        self._say(format_code(failed or done))

    async def _take_file(self, request: Request) -> None:
        path, (mode, length) = request.words[0], request.numbers
        opened = await self._ask("open", (path, b"wct"), (mode,))
        if opened.result < 0:
            self._say(format_code(opened.result))
            return
        self._requests.expect_payload(length)
        self._say(format_code(0))
        under_way: deque[asyncio.Future[Answer]] = deque()
        done, failed = await self._draw(opened.result, length)
        while done < length:
            if len(under_way) == WINDOW:
                failed = failed or min(0, (await under_way.popleft()).result)
            data = await self._payload(min(length - done, PIECE_BYTES))
            if not failed:
                numbers = (opened.result, len(data), done)
                under_way.append(self._ask("pwrite", numbers=numbers, data=data))
            done += len(data)
        under_way.append(self._ask("close", numbers=(opened.result,)))
        for future in under_way:
            failed = failed or min(0, (await future).result)
        self._say(format_code(failed or length))


class _Descriptors:
    """The numbers that a job knows its open files by, and what they are to who has them open."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, int]] = {}

    def add(self, number: int, epoch: int) -> int:
        own = next(own for own in range(len(self._open) + 1) if own not in self._open)
        self._open[own] = (number, epoch)
        return own

    def get(self, own: int, epoch: int) -> int:
        """Below 0 it is a `Code`: `OFFLINE` for one of before the link broke."""
        number, opened = self._open.get(own, (Code.BAD_FD, epoch))
        return number if opened == epoch else Code.OFFLINE

    def remove(self, own: int) -> None:
        del self._open[own]


def _is_one_among_others(request: Request) -> bool:
    """One call, which may be under way together with others."""
    if request.command in ("read", "pread"):
        return request.numbers[1] <= PIECE_BYTES
    return request.command in _AHEAD and request.payload <= _part_bytes(request)


def _part_bytes(request: Request) -> int:
    """How much of a payload is written at once."""
    if request.command == "swrite":
        return min(WRITE_BYTES_MAX, STRIDES_MAX * max(1, request.numbers[3]))
    return WRITE_BYTES_MAX


def _numbers_of_part(request: Request, done: int, length: int) -> tuple[int, ...]:
    """What to say of a part of a payload that begins after `done` bytes."""
    match request.command, request.numbers:
        case "write", (number, _):
            return (number, length)
        case "pwrite", (number, _, offset):
            return (number, length, offset + done)
    return (*request.numbers, done)


def _settle(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)
