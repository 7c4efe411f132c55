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


def length_of(head: bytes | bytearray | memoryview) -> int:
    """How long the frame is that begins so. Raises `ProtocolError` for none that may be."""
    length = int.from_bytes(head[:HEAD_BYTES], "big")
    if length > FRAME_BYTES_MAX:
        raise ProtocolError("A frame of a lane is longer than any may be.")
    return length


class FrameReader:
    """Frames out of what a lane gave, in whatever pieces it came."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = HEAD_BYTES
        """Bytes without which there is no next frame."""

    def receive(self, data: bytes) -> list[bytes]:
        """The frames that are whole now, an empty one for the end. Raises `ProtocolError`."""
        self._pieces.append(data)
        self._size += len(data)
        frames: list[bytes] = []
        if self._size < self._wanted:
            return frames
        whole = b"".join(self._pieces) if len(self._pieces) > 1 else data
        at, size = 0, self._size
        self._wanted = HEAD_BYTES
        while size - at >= HEAD_BYTES:
            end = at + HEAD_BYTES + length_of(whole[at : at + HEAD_BYTES])
            if end > size:
                self._wanted = end - at
                break
            frames.append(whole[at + HEAD_BYTES : end])
            at = end
        self._pieces = [whole[at:]] if at < size else []
        self._size = size - at
        return frames
