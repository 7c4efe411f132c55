"""The Chirp proxy of an agent: the starter's side of Chirp for every attempt that may use it.

One listener on loopback serves all attempts; the cookie, which only the attempt's contact file
has, tells whose connection it is. Cookies are made from a secret of the agent's folder, and the
port is kept there too, so that a job's contact is still good when the agent was started anew.

A request is answered once and in order. What the agent cannot answer itself goes through `Calls`:
to the server over the agent link, or, for files in a folder that this machine sees as well, to
threads here. Requests that a client sends ahead are begun ahead, if each is one call and needs no
answer of an earlier one. Bulk data passes in pieces, a few under way at a time, so memory stays
flat whatever the sizes are; whole files that are large pass from socket to socket, if there is a
data channel to be had. What always holds (Chirp spec §9): no request is made of half a line;
a payload is taken in full before it is answered; a connection with a request outstanding is reset,
never ended quietly, since clients take an end for silence and wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import shlex
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, field

from roost.agent.calls import Calls
from roost.agent.channel import Channel, Channels, forward
from roost.agent.slots import Slots, changed_at, holds_only, is_plain
from roost.core import attributes
from roost.core.classad import canonical, is_name
from roost.core.messages import AttemptOrder, ChirpOrder
from roost.core.records import AttemptKey
from roost.errors import Invalid
from roost.submitfolder import PIECE_BYTES, WRITE_BYTES_MAX, Answer
from roost.wire.chirp import (
    COMMANDS,
    PROTOCOL_VERSION,
    Blank,
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
from roost.wire.chirp import (
    Invalid as Misspelled,
)
from roost.wire.link import NO_CHANNEL

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
CONTACT = ".chirp.config"
COOKIE_LETTERS = 31
CONNECTIONS_MAX = 512
"""Of one attempt; and of those that have not said whose they are."""
COOKIES_WRONG_MAX = 5
COOKIE_WRONG_S = 1.0
"""Before a wrong cookie is answered; nobody else waits."""
COOKIE_S_MAX = 60.0
"""A connection that has not said by then whose it is is reset."""
PAYLOAD_S_MAX = 300.0
"""So long the next bytes of an announced payload may take."""
SETTLED_NS = 1_000_000_000
"""A folder that changed so long ago would tell of another change by another time."""
WINDOW = 4
"""Pieces under way at a time in one transfer, and requests begun ahead of their answers."""
CHANNEL_BYTES_MIN = 4 * 1024 * 1024
"""Less than this of a file is not worth the way to a data channel."""
RECEIVE_BYTES = 256 * 1024
DRAIN_BYTES_MAX = 1024 * 1024
"""Read of an over-long line before the connection is reset, so that its answer arrives."""
WHOAMI = b"CONDOR"
WHOAREYOU = b"UNKNOWN"
"""What users of HTCondor expect to be told (decision 9)."""
_AHEAD = frozenset(name for name, form in COMMANDS.items() if form.gate is Gate.IO) - {
    "open", "putfile", "sread", "getfile", "getdir", "getlongdir", "whoami", "whoareyou",
}  # fmt: skip
"""Commands on files that are one call each. A caller's files are worked on in the order of its
calls; attributes are not, and wait their turn."""


class Contact(Struct):
    """An attempt that may use Chirp."""

    order: ChirpOrder
    key: AttemptKey
    slot: int
    scratch: str
    digest: bytes
    """Of its cookie."""
    delayed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What was set with delay in this attempt: folded name → name and text."""
    unsent: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of that, what the server was not told yet."""
    connections: set[Connection] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        """What a job finds (Chirp spec §1.2)."""
        return {
            "_CONDOR_CHIRP_CONFIG": f"{self.scratch}{os.sep}{CONTACT}",
            "_CONDOR_SCRATCH_DIR": self.scratch,
            "_CHIRP_DELAYED_UPDATE_PREFIX": self.order.prefix,
        }


class Proxy:
    def __init__(self, folder: Path, slots: Slots, calls: Calls, channels: Channels) -> None:
        """`folder` is the agent's own. Raises `OSError`."""
        self._slots = slots
        self._clean: set[int] = set()
        """Slots whose scratch folder has nothing but a contact file that we wrote."""
        self._listed: dict[int, int] = {}
        """When that folder had changed last, long before it was last listed: it need not be listed
        again while it says the same."""
        self.tools = folder / "bin"
        """Has `condor_chirp`, for jobs to find after everything that is on their own PATH."""
        _make_tool(self.tools)
        self._state = folder / "chirp"
        self._secret, self._wanted_port = _restore(self._state)
        self._calls = calls
        self.channels = channels
        self._contacts: dict[AttemptKey, Contact] = {}
        self._by_cookie: dict[bytes, Contact] = {}
        self._strangers: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    async def start(self) -> None:
        """Listen, on the port of last time if it is free. Raises `OSError`."""
        try:
            listener = socket.create_server((HOST, self._wanted_port), backlog=1024)
        except OSError:
            listener = socket.create_server((HOST, 0), backlog=1024)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = listener.getsockname()[1]
        if self._port != self._wanted_port:
            _keep(self._state, self._secret, self._port)
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=RECEIVE_BYTES)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections():
            connection.reset()

    def _connections(self) -> Iterator[Connection]:
        yield from tuple(self._strangers)
        for contact in self._contacts.values():
            yield from tuple(contact.connections)

    # --- attempts -----------------------------------------------------------------------------

    def admit(self, order: AttemptOrder, slot: int) -> dict[str, str]:
        """Offer Chirp to an attempt that is about to start, or that an earlier agent started;
        gives its environment. Nothing happens when it may not use Chirp, or is known already."""
        if order.chirp is None or self._server is None:
            return {}
        key = (order.job, order.number)
        contact = self._contacts.get(key)
        if contact is None:
            scratch = self._slots.folder(slot)
            cookie = _cookie(self._secret, key)
            try:
                self._write_contact(slot, scratch, cookie)
            except OSError as error:
                log.warning("No Chirp for attempt %s.%s: %s", *key, error)
                return {}
            contact = Contact(order.chirp, key, slot, scratch, _digest(cookie))
            self._contacts[key] = self._by_cookie[contact.digest] = contact
        return contact.environment

    def _write_contact(self, slot: int, scratch: str, cookie: str) -> None:
        """Whole before anybody reads it, and nobody else's."""
        line = self._contact_line(cookie)
        file = f"{scratch}{os.sep}{CONTACT}"
        if slot in self._clean:
            self._clean.discard(slot)
            # In place: to truncate it first makes some file systems write it to the disk at once.
            _write(file, line, 0)
            return
        try:
            os.mkdir(scratch, 0o700)  # noqa: PTH102
        except FileExistsError:  # of an earlier agent, and the job may be reading it
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{file}.new")  # noqa: PTH108
            _write_new(f"{file}.new", line)
            os.rename(f"{file}.new", file)  # noqa: PTH104
        else:
            _write_new(file, line)

    def _contact_line(self, cookie: str) -> bytes:
        """What a contact file says; of the same length for every attempt."""
        return f"{HOST} {self._port} {cookie}\n".encode()

    def sweep(self) -> None:
        """Remove what attempts of an earlier agent have left that are not admitted by now."""
        self._clean.clear()
        known = {contact.scratch for contact in self._contacts.values()}
        for folder in map(str, self._slots.scratch.iterdir()):
            if folder not in known:
                self._remove(folder)

    def dismiss(self, key: AttemptKey) -> None:
        """Nothing of the attempt lives any more."""
        contact = self._contacts.pop(key, None)
        if contact is None:
            return
        del self._by_cookie[contact.digest]
        for connection in tuple(contact.connections):
            connection.reset()
        if self._is_clean(contact.slot, contact.scratch):
            self._clean.add(contact.slot)
        else:
            self._remove(contact.scratch)

    def _is_clean(self, slot: int, scratch: str) -> bool:
        """Whether there is nothing but the contact file, as we made it."""
        size = len(self._contact_line("?" * COOKIE_LETTERS))
        changed = changed_at(scratch)
        if changed and self._listed.get(slot) == changed:
            return is_plain(f"{scratch}{os.sep}{CONTACT}", size)
        is_clean = holds_only(scratch, CONTACT, size)
        if is_clean and time.time_ns() - changed > SETTLED_NS:
            self._listed[slot] = changed
        return is_clean

    def _remove(self, folder: str) -> None:
        """At once for whoever comes next, in good time for the disk."""
        doomed = f"{folder}.{secrets.token_hex(4)}.doomed"
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, doomed)  # noqa: PTH104
            self._calls.remove_folder(Path(doomed))

    def take_delayed(self, key: AttemptKey) -> tuple[tuple[str, str], ...]:
        """What the attempt has set with delay since the last time."""
        contact = self._contacts.get(key)
        if contact is None or not contact.unsent:
            return ()
        unsent, contact.unsent = contact.unsent, {}
        return tuple(unsent.values())

    def delaying(self) -> list[AttemptKey]:
        """Attempts with something to take."""
        return [key for key, contact in self._contacts.items() if contact.unsent]

    # --- connections --------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, self._calls, reader, writer)
        if len(self._strangers) >= CONNECTIONS_MAX:
            connection.reset()
            return
        self._strangers.add(connection)
        try:
            await connection.serve()
        except (OSError, _Gone):
            connection.reset()
        except asyncio.CancelledError:
            connection.reset()
        finally:
            self._strangers.discard(connection)
            if connection.contact is not None:
                connection.contact.connections.discard(connection)
            self._calls.gone(connection.caller)
            writer.close()

    def recognise(self, connection: Connection, cookie: bytes) -> Contact | None:
        """Whose cookie it is. Looked up by its hash, so that time tells nothing of the cookie."""
        contact = self._by_cookie.get(_digest(cookie.decode("latin-1")))
        if contact is None or len(contact.connections) >= CONNECTIONS_MAX:
            return None
        self._strangers.discard(connection)
        contact.connections.add(connection)
        return contact


class _Gone(Exception):
    """The client has closed, or took too long, in the middle of something."""


class Connection:
    """One connection of a job."""

    def __init__(
        self,
        proxy: Proxy,
        calls: Calls,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.contact: Contact | None = None
        self.caller = calls.new_caller()
        self._proxy = proxy
        self._calls = calls
        self._reader = reader
        self._writer = writer
        self._requests = RequestReader()
        self._descriptors = _Descriptors()
        self._owed: deque[tuple[Request, asyncio.Future[Answer]]] = deque()
        """What was begun and is to be said, in this order."""
        self._said = asyncio.Event()
        """One of these was said since somebody began to wait."""
        self._forwarding: asyncio.Task[object] | None = None
        """Ours, while it moves bytes past the writer, which then notices nothing."""

    def reset(self) -> None:
        """End it so that the client notices at once."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        if self._forwarding is not None:
            self._forwarding.cancel()

    async def serve(self) -> None:
        if not await self._authenticate():
            return
        while True:
            event = await self._next_event()
            if not (isinstance(event, Request) and self._goes_ahead(event)):
                await self._owe_less_than(1)
            match event:
                case Request() as request:
                    await self._answer(request)
                case Ended():
                    return
                case TooLong():
                    await self._refuse_line()
                    return
                case _:
                    self._say(format_code(Code.INVALID_REQUEST))
            await self._writer.drain()

    # --- reading ------------------------------------------------------------------------------

    async def _next_event(self, patience: float | None = None) -> Event:
        while (event := self._requests.next_event()) is None:
            try:
                async with asyncio.timeout(patience):
                    self._requests.receive(await self._reader.read(RECEIVE_BYTES))
            except TimeoutError:
                raise _Gone from None
        return event

    async def _payload(self, length: int) -> bytes:
        """The next bytes of a payload: at least `length`, and little more if there is more."""
        pieces: list[bytes] = []
        while length > 0:
            event = await self._next_event(PAYLOAD_S_MAX)
            if not isinstance(event, Payload):
                raise _Gone
            pieces.append(event.chunk)
            length -= len(event.chunk)
        return b"".join(pieces)

    async def _skip(self, request: Request) -> None:
        """Take the payload of a request that is refused."""
        left = request.payload
        while left > 0:
            left -= len(await self._payload(1))

    async def _authenticate(self) -> bool:
        wrong = 0
        deadline = time.monotonic() + COOKIE_S_MAX
        while self.contact is None:
            match await self._next_event(max(0.0, deadline - time.monotonic())):
                case Request("cookie", (cookie,)):
                    self.contact = self._proxy.recognise(self, cookie)
                    if self.contact is None:
                        wrong += 1
                        if wrong == COOKIES_WRONG_MAX:
                            raise _Gone
                        await asyncio.sleep(COOKIE_WRONG_S)
                    self._say(format_code(Code.NOT_AUTHENTICATED if self.contact is None else 0))
                case Ended():
                    return False
                case TooLong():
                    await self._refuse_line()
                    return False
                case Payload():
                    continue
                case Request() | Misspelled() | Blank():
                    self._say(format_code(Code.NOT_AUTHENTICATED))
            await self._writer.drain()
        return True

    async def _refuse_line(self) -> None:
        self._say(format_code(Code.TOO_BIG))
        await self._writer.drain()
        left = DRAIN_BYTES_MAX
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while left > 0 and (data := await self._reader.read(RECEIVE_BYTES)):
                    left -= len(data)
        if left <= 0:
            self.reset()

    def _say(self, code: bytes, data: bytes = b"") -> None:
        """A number, and what follows it; that may be large and is not copied."""
        self._writer.writelines((code, data) if data else (code,))

    # --- answering ----------------------------------------------------------------------------

    async def _answer(self, request: Request) -> None:
        contact = self.contact
        assert contact is not None
        if not _allowed(contact.order, request):
            await self._skip(request)
            self._say(format_code(Code.INVALID_REQUEST))
            return
        if _names_descriptor(request):
            number = self._descriptors.get(request.numbers[0], self._epoch)
            if number < 0:
                await self._skip(request)
                await self._owe_less_than(1)
                self._say(format_code(number))
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
                self._say(format_code(_set_delayed(contact, *request.words)))
            case "get_job_attr_delayed" if known := _delayed(contact, request.words[0]):
                self._say(format_counted(known.encode()))
            case "open":
                answer = await self._begin("open", request.words, request.numbers)
                result = answer.result
                if result >= 0:
                    result = self._descriptors.add(result, self._epoch)
                self._say(format_code(result), answer.data)
            case "putfile":
                await self._take_file(request)
            case "write" | "pwrite" | "swrite" if request.payload > WRITE_BYTES_MAX:
                await self._take_payload(request)
            case "read" | "pread" if request.numbers[1] > PIECE_BYTES:
                await self._give(request)
            case "sread" | "getfile" | "getdir" | "getlongdir":
                await self._give(request)
            case _:
                await self._begin_one(request)

    # --- requests that are one call -----------------------------------------------------------

    def _goes_ahead(self, request: Request) -> bool:
        """May it be begun while answers to earlier ones are outstanding?"""
        assert self.contact is not None
        if request.command not in _AHEAD or not _allowed(self.contact.order, request):
            return False
        if request.command in ("read", "pread"):
            return request.numbers[1] <= PIECE_BYTES
        return request.payload <= WRITE_BYTES_MAX

    async def _begin_one(self, request: Request) -> None:
        numbers, data = request.numbers, b""
        if request.payload:
            data = await self._payload(request.payload)
            numbers = _numbers_of_part(request, 0, len(data))
        await self._owe_less_than(WINDOW)
        future = self._begin(request.command, request.words, numbers, data)
        self._owed.append((request, future))
        future.add_done_callback(self._say_owed)

    def _say_owed(self, _: object) -> None:
        if self._writer.is_closing():
            self._owed.clear()
            self._said.set()
        while self._owed and self._owed[0][1].done():
            request, future = self._owed.popleft()
            answer = future.result()
            if request.command == "close" and answer.result >= 0:
                self._descriptors.remove(request.numbers[0])
            self._say(format_code(answer.result), answer.data)
            self._said.set()

    async def _owe_less_than(self, count: int) -> None:
        while len(self._owed) >= count:
            self._said.clear()
            await self._said.wait()

    @property
    def _epoch(self) -> int:
        assert self.contact is not None
        return 0 if self._calls.is_here(self.contact.order) else self._calls.epoch

    def _begin(
        self,
        command: str,
        words: tuple[bytes, ...] = (),
        numbers: tuple[int, ...] = (),
        data: bytes = b"",
        channel: int = NO_CHANNEL,
    ) -> asyncio.Future[Answer]:
        assert self.contact is not None
        order, key = self.contact.order, self.contact.key
        return self._calls.begin(order, key, self.caller, command, words, numbers, data, channel)

    # --- past this program --------------------------------------------------------------------

    async def _channel_for(self, size: int) -> Channel | None:
        """To move so many bytes to or from the server."""
        assert self.contact is not None
        if size < CHANNEL_BYTES_MIN or self._calls.is_here(self.contact.order):
            return None
        return await self._proxy.channels.take()

    @contextlib.contextmanager
    def _bare(self) -> Iterator[socket.socket]:
        """The job's end of the connection itself. Resetting us meanwhile cancels the task."""
        peer = socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno()))
        self._forwarding = asyncio.current_task()
        try:
            yield peer
        finally:
            self._forwarding = None
            peer.close()

    async def _send_all(self) -> None:
        """Return when all that was said has left."""
        transport = self._writer.transport
        transport.set_write_buffer_limits(0)
        while transport.get_write_buffer_size() and not transport.is_closing():
            await self._writer.drain()
            await asyncio.sleep(0)
        transport.set_write_buffer_limits()

    async def _received(self) -> bytes:
        """The next of a payload, if some has been received already. The rest stays with the system
        until the transport's reading is resumed."""
        while (event := self._requests.next_event()) is None:
            self._writer.transport.pause_reading()  # type: ignore[attr-defined]
            try:
                async with asyncio.timeout(0):
                    self._requests.receive(await self._reader.read(RECEIVE_BYTES))
            except TimeoutError:
                return b""
        if not isinstance(event, Payload):
            raise _Gone
        return event.chunk

    async def _pour(self, descriptor: int, done: int, total: int) -> int:
        """Give the job what follows the first `done` bytes of a file; gives how much it was, which
        is nothing when there is no channel to be had."""
        channel = await self._channel_for(total - done)
        if channel is None:
            return 0
        size, given = total - done, 0
        try:
            numbers = (descriptor, size, done)
            sent = self._begin("pread", numbers=numbers, channel=channel.number)
            await self._send_all()
            with self._bare() as job:
                _, given = await forward(channel.socket, job, size)
            if given == size:
                await sent
        finally:
            self._proxy.channels.give_back(channel, clean=given == size)
        if given < size:
            raise _Gone
        return given

    async def _draw(self, descriptor: int, length: int) -> tuple[int, int]:
        """Take a file from the job for the server; gives how much of it was taken, which is nothing
        when there is no channel to be had, and a code if it is not written."""
        channel = await self._channel_for(length)
        if channel is None:
            return 0, 0
        transport = self._writer.transport
        taken = given = result = 0
        try:
            numbers = (descriptor, length, 0)
            written = self._begin("pwrite", numbers=numbers, channel=channel.number)
            with contextlib.suppress(OSError), self._bare() as job:
                while taken < length and (chunk := await self._received()):
                    taken += len(chunk)
                    await asyncio.get_running_loop().sock_sendall(channel.socket, chunk)
                    given += len(chunk)
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
            self._proxy.channels.give_back(channel, clean=result == length)
            if not transport.is_closing():
                transport.resume_reading()  # type: ignore[attr-defined]
        return taken, 0 if result == length else min(result, 0) or Code.OFFLINE

    # --- to the job ---------------------------------------------------------------------------

    async def _give(self, request: Request) -> None:
        """An answer that is bytes, the first piece at once and the others as they come."""
        first = await self._begin(request.command, request.words, request.numbers)
        total, done = first.result, len(first.data)
        self._say(format_code(total), first.data)
        if first.descriptor >= 0:
            done += await self._pour(first.descriptor, done, total)
        asked: deque[asyncio.Future[Answer]] = deque()
        ahead = done
        while done < total:
            while ahead < total and len(asked) < WINDOW:
                size = min(PIECE_BYTES, total - ahead)
                asked.append(self._begin_rest(request, first.descriptor, ahead, size))
                ahead += size
            await self._writer.drain()
            piece = (await asked.popleft()).data
            done += len(piece)
            if len(piece) != PIECE_BYTES and done != total:
                raise _Gone  # the file has become shorter: what was promised cannot be kept
            self._say(piece)
        if first.descriptor >= 0:
            await self._begin("close", numbers=(first.descriptor,))

    def _begin_rest(
        self, request: Request, descriptor: int, done: int, size: int
    ) -> asyncio.Future[Answer]:
        """Ask for the piece after the first `done` bytes of an answer."""
        match request.command, request.numbers:
            case "read", (number, _):
                return self._begin("read", numbers=(number, size))
            case "pread", (number, _, offset):
                return self._begin("pread", numbers=(number, size, offset + done))
            case "sread", numbers:
                return self._begin("sread", numbers=(*numbers, done))
        return self._begin("pread", numbers=(descriptor, size, done))

    # --- from the job -------------------------------------------------------------------------

    async def _take_payload(self, request: Request) -> None:
        """Pieces are written one after the other, as each may be an append."""
        done = failed = 0
        while True:
            data = await self._payload(min(request.payload - done, WRITE_BYTES_MAX))
            if not failed:
                answer = await self._begin(
                    request.command, numbers=_numbers_of_part(request, done, len(data)), data=data
                )
                failed = min(0, answer.result)
                if failed and done:
                    failed = done  # what has been written, as write(2) says it
            done += len(data)
            if done >= request.payload:
                break
        self._say(format_code(failed or done))

    async def _take_file(self, request: Request) -> None:
        path, (mode, length) = request.words[0], request.numbers
        if length < 0:
            self._say(format_code(Code.INVALID_REQUEST))
            return
        opened = await self._begin("open", (path, b"wct"), (mode,))
        if opened.result < 0:
            self._say(format_code(opened.result))
            return
        self._requests.expect_payload(length)
        self._say(format_code(0))
        await self._writer.drain()
        under_way: deque[asyncio.Future[Answer]] = deque()
        done, failed = await self._draw(opened.result, length)
        while done < length or under_way:
            if done < length and len(under_way) < WINDOW:
                data = await self._payload(min(length - done, PIECE_BYTES))
                if not failed:
                    numbers = (opened.result, len(data), done)
                    under_way.append(self._begin("pwrite", numbers=numbers, data=data))
                done += len(data)
            else:
                answer = await under_way.popleft()
                failed = failed or min(0, answer.result)
        closed = await self._begin("close", numbers=(opened.result,))
        self._say(format_code(failed or min(0, closed.result) or length))


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

    def remove(self, number: int) -> None:
        own = next(own for own, (open_, _) in self._open.items() if open_ == number)
        del self._open[own]


def _allowed(order: ChirpOrder, request: Request) -> bool:
    gates = order.gates
    match request.gate:
        case Gate.IO:
            return gates.io
        case Gate.UPD:
            return gates.updates
        case Gate.DLY:
            return gates.delayed
    return request.command == "version"


def _names_descriptor(request: Request) -> bool:
    return COMMANDS[request.command].numbers[:1] == ("fd",)


def _numbers_of_part(request: Request, done: int, length: int) -> tuple[int, ...]:
    """What to say of a part of a payload that begins after `done` bytes."""
    match request.command, request.numbers:
        case "write", (number, _):
            return (number, length)
        case "pwrite", (number, _, offset):
            return (number, length, offset + done)
    return (*request.numbers, done)


# --- attributes with delay --------------------------------------------------------------------


def _set_delayed(contact: Contact, name_bytes: bytes, text_bytes: bytes) -> int:
    """Taken, or refused by a code that every client notices (decisions 6 to 8)."""
    if len(text_bytes) > attributes.DELAYED_BYTES_MAX:
        return Code.TOO_BIG
    try:
        name, text = name_bytes.decode(), canonical(text_bytes.decode(), "new")
    except (UnicodeDecodeError, Invalid):
        return Code.INVALID_REQUEST
    if not is_name(name):
        return Code.INVALID_REQUEST
    folded = attributes.fold(name)
    known = contact.delayed
    if not attributes.matches_prefix(name, contact.order.prefix) or (
        folded not in known and len(known) >= attributes.DELAYED_NAMES_MAX
    ):
        return Code.NOT_AUTHORIZED
    known[folded] = contact.unsent[folded] = (name, text)
    return 0


def _delayed(contact: Contact, name: bytes) -> str | None:
    known = contact.delayed.get(attributes.fold(name.decode("utf-8", "replace")))
    return known[1] if known else None


def _write_new(file: str, data: bytes) -> None:
    _write(file, data, os.O_CREAT | os.O_EXCL)


def _write(file: str, data: bytes, flags: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _make_tool(folder: Path) -> None:
    """Runs the client with the Python that runs us."""
    folder.mkdir(exist_ok=True)
    tool = folder / "condor_chirp"
    new = tool.with_suffix(".new")
    new.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m roost.htchirp "$@"\n')
    new.chmod(0o755)
    new.rename(tool)


# --- cookies ----------------------------------------------------------------------------------

_LETTERS = bytes(ord("a") + value % 26 for value in range(256))


def _cookie(secret: bytes, key: AttemptKey) -> str:
    """31 letters, as every client's scanner takes them."""
    digest = hmac.digest(secret, b"%d.%d" % key, "sha256")
    return digest[:COOKIE_LETTERS].translate(_LETTERS).decode()


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()


def _restore(file: Path) -> tuple[bytes, int]:
    """Secret and port of an earlier agent; new ones if there are none, or none to be read."""
    try:
        secret, port = file.read_text().split()
        return bytes.fromhex(secret), int(port)
    except (OSError, ValueError):
        return secrets.token_bytes(32), 0


def _keep(file: Path, secret: bytes, port: int) -> None:
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    _write_new(str(new), f"{secret.hex()} {port}\n".encode())
    new.rename(file)
