"""The Chirp proxy of an agent: the starter's side of Chirp for every attempt that may use it.

One listener on loopback serves all attempts; the cookie, which only the attempt's contact file
has, tells whose connection it is (`connection`). Cookies are made from a secret of the agent's
folder, and the port is kept there too, so that a job's contact is still good when the agent was
started anew. An attempt is admitted before it starts and dismissed when nothing of it lives any
more; its connections and what is in its scratch folder end with it.
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
import sys
import time
from pathlib import Path

import roost
from roost.agent.calls import Calls
from roost.agent.channel import Channels
from roost.agent.connection import RESET, Connection
from roost.agent.contact import FILE as CONTACT
from roost.agent.contact import Contact
from roost.agent.slots import Slots, changed_at, holds_only, is_plain
from roost.core.messages import AttemptOrder
from roost.core.records import AttemptKey
from roost.wire.chirp import Code

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
COOKIE_LETTERS = 31
CONNECTIONS_MAX = 512
"""Of one attempt; and of those that have not said whose they are."""
DOOMED = ".doomed"
"""Ends the names of folders that are to be removed."""
SETTLED_NS = 1_000_000_000
"""A folder that changed so long ago would tell of another change by another time."""


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
        self._channels = channels
        self._contacts: dict[AttemptKey, Contact] = {}
        self._by_cookie: dict[bytes, Contact] = {}
        self._connections: dict[AttemptKey, set[Connection]] = {}
        self._strangers: dict[Connection, None] = {}
        """Connections that have not said whose they are, the oldest first."""
        self._server: asyncio.Server | None = None
        self._port = 0

    async def start(self) -> None:
        """Listen, on the port of last time if it is free. Raises `OSError`."""
        try:
            listener = socket.create_server((HOST, self._wanted_port), backlog=1024)
        except OSError:
            listener = socket.create_server((HOST, 0), backlog=1024)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What is accepted inherits it: if we are killed, the system resets all connections.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._port = listener.getsockname()[1]
        if self._port != self._wanted_port:
            _keep(self._state, self._secret, self._port)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_connection, sock=listener)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in set(self._strangers).union(*self._connections.values()):
            connection.reset()

    def _new_connection(self) -> Connection:
        return Connection(self, self._calls, self._channels)

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
            self._connections[key] = set()
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
        for connection in self._connections.pop(key):
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
        doomed = folder
        with contextlib.suppress(FileNotFoundError):
            if not folder.endswith(DOOMED):  # and could not be removed until now
                doomed = f"{folder}.{secrets.token_hex(4)}{DOOMED}"
                os.rename(folder, doomed)  # noqa: PTH104
            self._calls.remove_folder(Path(doomed))

    def take_delayed(self, key: AttemptKey) -> tuple[tuple[str, str], ...]:
        """What the attempt has set with delay since the last time."""
        contact = self._contacts.get(key)
        return () if contact is None else contact.take_delayed()

    def delaying(self) -> list[AttemptKey]:
        """Attempts with something to take."""
        return [key for key, contact in self._contacts.items() if contact.unsent]

    # --- connections --------------------------------------------------------------------------

    def came(self, connection: Connection) -> None:
        """Beyond the limit the oldest has to go: who is let in says so at once."""
        if len(self._strangers) >= CONNECTIONS_MAX:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.reset()
        self._strangers[connection] = None

    def recognise(self, connection: Connection, cookie: bytes) -> Contact | Code:
        """Whose cookie it is. Looked up by its hash, so that time tells nothing of the cookie."""
        contact = self._by_cookie.get(_digest(cookie.decode("latin-1")))
        if contact is None:
            return Code.NOT_AUTHENTICATED
        connections = self._connections[contact.key]
        if len(connections) >= CONNECTIONS_MAX:
            return Code.TOO_MANY_OPEN
        self._strangers.pop(connection, None)
        connections.add(connection)
        return contact

    def went(self, connection: Connection) -> None:
        self._strangers.pop(connection, None)
        if (contact := connection.contact) is not None and contact.key in self._connections:
            self._connections[contact.key].discard(connection)


def _write_new(file: str, data: bytes) -> None:
    _write(file, data, os.O_CREAT | os.O_EXCL)


def _write(file: str, data: bytes, flags: int) -> None:
    """Raises `OSError` that names the file; of itself, a full disk does not say what it is."""
    descriptor = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    try:
        os.write(descriptor, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from error
    finally:
        os.close(descriptor)


def _make_tool(folder: Path) -> None:
    """Runs the client, which needs nothing but Python, with the one that runs us, and from the
    package that we are from: a job may have a Python of its own, as Houdini has, and say with
    PYTHONHOME and PYTHONPATH where, or have files with names of modules in its folder."""
    place = Path(roost.__file__).parent.parent
    program = (
        f"import sys; sys.path.insert(0, {str(place)!r}); import roost; del sys.path[0]; "
        "from roost.htchirp.command import main; main()"
    )
    command = shlex.join([sys.executable, "-I", "-S", "-c", program])
    folder.mkdir(exist_ok=True)
    tool = folder / "condor_chirp"
    new = tool.with_suffix(".new")
    _write(str(new), f'#!/bin/sh\nexec {command} "$@"\n'.encode(), os.O_CREAT | os.O_TRUNC)
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
