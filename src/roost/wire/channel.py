"""How a data channel is opened: a connection beside the agent link, for bytes in bulk or for calls.

The link says what goes over a channel, in which order and how much of it (`wire.link`); the channel
itself is nothing but those bytes, so that they need not pass through either program. An agent opens
it on the server's own port with an HTTP/1.1 upgrade that shows the ticket of its link and gives
the channel a number. Whoever has no ticket, or asks a server that has channels enough, stays with
the link, which can carry everything.

An agent on the server's machine can ask for the same on a Unix socket of which the link's welcome
tells. Over such a channel, the file with the bytes may be handed over in their place: one byte that
carries a descriptor. Whoever gets it keeps the file under a name of its own, or copies what was
announced, and lets the descriptor go.

When the link says so, a channel is a lane instead: it carries the calls of one caller and their
answers, as frames of the link with their length in front. An empty frame ends the lane; the server
answers with another one, and nothing is sent in between, so the channel can then be used again.

Pure: bytes in, words out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from roost.errors import ProtocolError

PATH = "/api/v1/agent/channel/"
REQUEST = b"GET " + PATH.encode()
"""What every request for a channel begins with."""
REQUEST_BYTES_MAX = 4096
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: roost-channel\r\n\r\n"
)
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
STRANGER = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_NUMBER = re.compile(re.escape(REQUEST) + rb"(\d{1,9}) HTTP/1\.1\r\n")
_TICKET = re.compile(rb"\r\nauthorization: bearer ([0-9a-f]{32})\r\n", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade: roost-channel\r\n", re.IGNORECASE)


HANDOVER = b"\0"
"""Comes with the descriptor of a file that is handed over."""
HEAD_BYTES = 4
FRAME_BYTES_MAX = 16 * 1024 * 1024
READ_BYTES = 64 * 1024
"""Frames up to here are taken from one buffer."""
END = bytes(HEAD_BYTES)
"""An empty frame."""


class Asked(NamedTuple):
    ticket: str
    number: int


def request(host: str, base: str, ticket: str, number: int) -> bytes:
    """`base` is the path that the server's own paths begin with, mostly empty."""
    return (
        f"GET {base}{PATH}{number} HTTP/1.1\r\nHost: {host}\r\n"
        f"Connection: Upgrade\r\nUpgrade: roost-channel\r\nAuthorization: Bearer {ticket}\r\n\r\n"
    ).encode()


def parse(data: bytes) -> Asked | None:
    """None for anything but a whole request and nothing more."""
    number, ticket = _NUMBER.match(data), _TICKET.search(data)
    if not data.endswith(b"\r\n\r\n") or len(data) > REQUEST_BYTES_MAX:
        return None
    if number is None or ticket is None or _UPGRADE.search(data) is None:
        return None
    return Asked(ticket[1].decode(), int(number[1]))


def accepted(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"\r\n\r\n")


# --- frames of a lane -------------------------------------------------------------------------


def frame(content: bytes) -> bytes:
    return b"%b%b" % (len(content).to_bytes(HEAD_BYTES, "big"), content)


class FrameReader:
    """Frames out of what a lane gives, in whatever pieces it comes.

        got = socket.recv_into(reader.room())
        reader.received(got)
        while (frame := reader.next_frame()) is not None: ...

    Nothing is copied but the begin of a frame that did not fit behind the ones before it.
    """

    def __init__(self) -> None:
        self._usual = self._buffer = memoryview(bytearray(READ_BYTES))
        """The buffer is another one for the time of a frame that is longer."""
        self._start = self._end = 0
        """What is in it and not taken yet."""
        self._wanted = HEAD_BYTES
        """Bytes from there without which there is no next frame."""

    def room(self) -> memoryview:
        """Where the next bytes are to be put, one at least. Earlier frames are void from now on."""
        if self._start == self._end:
            self._start = self._end = 0
            self._buffer = self._usual
        if self._start + self._wanted > len(self._buffer):
            held = self._buffer[self._start : self._end]
            if self._wanted > len(self._usual):
                self._buffer = memoryview(bytearray(self._wanted))
            self._buffer[: len(held)] = bytes(held)
            self._start, self._end = 0, len(held)
        return self._buffer[self._end :]

    def received(self, size: int) -> None:
        """So many bytes have been put into the `room`."""
        self._end += size

    def next_frame(self) -> memoryview | None:
        """The next one that is whole, good until `room` is asked for; an empty one is the end.
        None: receive more. Raises `ProtocolError` for one that is longer than any may be."""
        start = self._start + HEAD_BYTES
        if start > self._end:
            self._wanted = HEAD_BYTES
            return None
        length = int.from_bytes(self._buffer[self._start : start], "big")
        if length > FRAME_BYTES_MAX:
            raise ProtocolError("A frame of a lane is longer than any may be.")
        if start + length > self._end:
            self._wanted = HEAD_BYTES + length
            return None
        self._start = start + length
        return self._buffer[start : self._start]
