"""The agent link: what an agent and the server say to each other over one WebSocket.

A frame is a msgpack list of messages, sent when the sender's loop comes to rest or the frame has
reached `FRAME_BYTES_SOFT`. The link is ordered; it may break at any moment and be opened again:

* **Orders** are idempotent by (job, attempt number).
* **Reports** carry a number that only grows per agent process; the agent keeps each until the
  server says `ReportsSaved(through)`. After a break it sends the unsaved ones again: each can be
  said twice without harm. A call goes behind the reports that were made before it.
* **Output** is addressed by attempt and byte offset and may be sent again. `Welcome` tells how
  much of each held attempt's output the server already has.
* An attempt's `AttemptEnded` is sent after the last byte of its output, on the same link.
* **Bulk** may pass beside the link, over a data channel (`wire.channel`): the link says what the
  next bytes there are, and answers for them. Output that went there is acknowledged before its
  attempt's end is told.
* **Calls** on files, and those that read attributes, may pass there as well: after the `LANE` of a
  caller was answered, these calls of it and their answers go over that channel, in their order,
  until the agent ends the lane.

Pure: bytes in, messages out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct

from roost.core.messages import AttemptOrder, AttemptReport, HeldAttempt, SignalAction
from roost.core.records import JobId, NodeFacts, NodeId
from roost.errors import ProtocolError

PROTOCOL = 2
PATH = "/api/v1/agent"
FRAME_BYTES_MAX = 4 * 1024 * 1024
FRAME_BYTES_SOFT = 256 * 1024
MESSAGES_PER_FRAME_MAX = 256
OUTPUT_CHUNK_BYTES_MAX = 256 * 1024
OUTPUT_WINDOW_BYTES = 4 * 1024 * 1024
"""An agent has at most this many unacknowledged bytes of output under way on the link."""

NO_CHANNEL = -1
LANE = "lane"
"""A `ChirpCall` that is no command of Chirp: what comes over its channel are calls of its caller.
When it is answered by 0, all earlier ones have been."""

# --- agent to server --------------------------------------------------------------------------


class Hello(Struct, frozen=True, tag="hello"):
    """First message of an agent."""

    protocol: int
    facts: NodeFacts
    attempts: tuple[HeldAttempt, ...] = ()


class Beat(Struct, frozen=True, tag="beat"):
    load: float = 0.0
    idle_minutes: int = -1
    progress: tuple[tuple[JobId, int, int], ...] = ()
    memory_used_kb: int = 0
    """0 from an agent that does not say."""


class Reports(Struct, frozen=True, tag="reports"):
    """Consecutive reports; the first has number `first`."""

    first: int
    reports: tuple[AttemptReport, ...]


class Output(Struct, frozen=True, tag="output"):
    job: JobId
    number: int
    offset: int
    data: bytes


class OutputAhead(Struct, frozen=True, tag="output ahead"):
    """The next `size` bytes of this data channel are output. Answered once by `OutputSaved` with
    `ahead`, whatever becomes of them; less than all of them stored says that the channel ended."""

    channel: int
    job: JobId
    number: int
    offset: int
    size: int
    handed_over: bool = False
    """Not the bytes come next, but the file that has them, at the same place. It is let go before
    the answer; less than all of them stored may also say that it has no more, or was refused."""


class ChannelClosed(Struct, frozen=True, tag="channel closed"):
    """Nothing more comes over this data channel."""

    channel: int


class ChirpCall(Struct, frozen=True, tag="chirp"):
    """A request that a running job made of its Chirp proxy; answered once, never sent again."""

    call: int
    """Numbers the calls of this connection of the agent."""
    job: JobId
    number: int
    caller: int
    """The job's connection to the proxy: descriptors are its own, its calls run in order."""
    command: str
    words: tuple[bytes, ...] = ()
    numbers: tuple[int, ...] = ()
    data: bytes = b""
    channel: int = NO_CHANNEL
    """Where what is read or written passes, with `pread` and `pwrite`. If less can be read than was
    asked for, the server closes it; what is to be written is taken in full, whatever happens."""


class ChirpCallerGone(Struct, frozen=True, tag="chirp gone"):
    """Its descriptors can be closed."""

    caller: int


class Farewell(Struct, frozen=True, tag="farewell"):
    """The agent was told to terminate; it stays connected until its last attempt has ended."""


# --- server to agent --------------------------------------------------------------------------


class Welcome(Struct, frozen=True, tag="welcome"):
    """First message of the server: the agent is a node of the farm now."""

    node: NodeId
    beat_ms: int
    outputs: tuple[tuple[JobId, int, int], ...] = ()
    """(job, attempt number, bytes stored) for each held attempt that is still wanted."""
    ticket: str = ""
    """For data channels, as long as this connection lasts; empty: there are none."""
    unix_socket: str = ""
    """Where the server's own machine gets data channels that files can be handed over on; empty:
    nowhere."""
    root: str = ""
    """The farm's shared folder as the agent's platform sees it, where it was not told another one;
    empty: the server does not know."""


class Refusal(Struct, frozen=True, tag="refusal"):
    """The agent may not join, `text` says why, and it ends rather than try again.

    `kill`: whatever it runs is not wanted any more. A server that cannot take anybody just now
    closes the connection without a word instead.
    """

    text: str
    kill: bool = False


class Start(Struct, frozen=True, tag="start"):
    order: AttemptOrder


class Signal(Struct, frozen=True, tag="signal"):
    job: JobId
    number: int
    action: SignalAction


class ReportsSaved(Struct, frozen=True, tag="reports saved"):
    through: int


class OutputSaved(Struct, frozen=True, tag="output saved"):
    job: JobId
    number: int
    size: int
    ahead: bool = False
    """The answer to an `OutputAhead`."""


class ChirpAnswer(Struct, frozen=True, tag="chirp answer"):
    """See `submitfolder.Answer`."""

    call: int
    result: int
    data: bytes = b""
    descriptor: int = -1


FromAgent = (
    Hello
    | Beat
    | Reports
    | Output
    | OutputAhead
    | ChannelClosed
    | ChirpCall
    | ChirpCallerGone
    | Farewell
)
FromServer = Welcome | Refusal | Start | Signal | ReportsSaved | OutputSaved | ChirpAnswer

Sent = TypeVar("Sent")

_encoder = msgspec.msgpack.Encoder()
_from_agent = msgspec.msgpack.Decoder(list[FromAgent])
_from_server = msgspec.msgpack.Decoder(list[FromServer])


def frames(messages: list[FromServer]) -> Iterator[list[FromServer]]:
    """Many messages as frames of a bounded size, in their order."""
    frame: list[FromServer] = []
    size = 0
    for message in messages:
        frame.append(message)
        match message:
            case ChirpAnswer(data=data):
                size += len(data)
            case Start():
                size += len(_encoder.encode(message))
        if len(frame) == MESSAGES_PER_FRAME_MAX or size >= FRAME_BYTES_SOFT:
            yield frame
            frame, size = [], 0
    if frame:
        yield frame


def encode(messages: list[FromAgent] | list[FromServer]) -> bytes:
    """One frame holding these messages in this order."""
    return _encoder.encode(messages)


def decode_from_agent(frame: bytes | memoryview) -> list[FromAgent]:
    """Raises `ProtocolError` for anything that is not a frame of known messages."""
    return _decode(_from_agent, frame)


def decode_from_server(frame: bytes | memoryview) -> list[FromServer]:
    """Raises `ProtocolError` for anything that is not a frame of known messages."""
    return _decode(_from_server, frame)


def _decode(decoder: msgspec.msgpack.Decoder[list[Sent]], frame: bytes | memoryview) -> list[Sent]:
    try:
        return decoder.decode(frame)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ProtocolError(f"This is not a frame of the agent link: {error}.") from error
