"""One end of a WebSocket: messages in the same turn of the loop as their bytes.

The `websockets` library speaks the protocol; here are the socket, the limits and the two directions
of back-pressure, without tasks or queues: a frame that passes through those costs more than all
that is done with what is in it. How a connection comes about is the business of the two ends
(`server.websocket`, `agent.websocket`). Knows nothing of what messages mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol as SansIO
from websockets.protocol import State


class Listener(Protocol):
    """What the messages of one connection are for."""

    def receive(self, data: bytes) -> None:
        """A message has come."""

    def drained(self) -> None:
        """The connection is not full any more."""

    def end(self) -> None:
        """It has ended, or no more can be said or heard on it; called once."""


class WebSocket(asyncio.Protocol):
    """See the module's text."""

    def __init__(self, protocol: SansIO, silent_s_max: float, close_s_max: float) -> None:
        """Whoever says nothing for a period of `silent_s_max` seconds is given up; whoever does
        not agree to the end within `close_s_max` is cut off."""
        self.is_full = False
        """What is sent now stays in memory, as the other side does not take what was sent."""
        self.listener: Listener | None = None
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._silent_s_max = silent_s_max
        self._close_s_max = close_s_max
        self._fragments: list[bytes] = []
        self._heard = False
        self._ending = False
        self._timer: asyncio.TimerHandle | None = None

    # --- what listeners do ----------------------------------------------------------------

    @property
    def addresses(self) -> tuple[str, str]:
        """The IP addresses of the other side and of ours; empty where there is none, or no more."""
        peer, own = map(self._transport.get_extra_info, ("peername", "sockname"))
        return (peer[0] if peer else "", own[0] if own else "")

    def send(self, data: bytes) -> None:
        """One message; dropped when the connection is ending."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(data)
            self._flush()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, code: CloseCode = CloseCode.NORMAL_CLOSURE) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code)
            self._flush()
        self._await_the_end()
        self._end()

    # --- what each of the two ends does in its way ----------------------------------------

    def _shake_hands(self, first: Request | Response) -> None:
        """The other side has asked, or answered: followed by `_watch` if the connection is open."""
        raise NotImplementedError

    def _ask_for_a_sign(self) -> None:
        """Have the other side say something, if it does not by itself."""

    def _on_silence(self) -> None:
        """The other side is given up."""

    def _on_breach(self, what: str) -> None:
        """The other side broke the protocol."""

    # --- what the loop calls --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
            else:
                self._shake_hands(event)
        self._flush()
        if self._protocol.parser_exc is not None and not self._ending:
            self._on_breach(str(self._protocol.parser_exc))
            self._await_the_end()
            self._end()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self.listener is not None:
            self.listener.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    # --- inside ---------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        if self.listener is None:
            return
        match frame.opcode:
            case Opcode.BINARY if frame.fin:
                self.listener.receive(bytes(frame.data))
            case Opcode.BINARY | Opcode.CONT:
                self._fragments.append(bytes(frame.data))
                if frame.fin:
                    whole, self._fragments = b"".join(self._fragments), []
                    self.listener.receive(whole)
            case Opcode.TEXT:
                self._on_breach("a text frame")
                self.close(CloseCode.UNSUPPORTED_DATA)
            case Opcode.CLOSE:
                self._await_the_end()
                self._end()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:  # the library's word for the end
                self._transport.close()

    def _watch(self) -> None:
        self._set_timer(self._silent_s_max, self._look_for_silence)

    def _look_for_silence(self) -> None:
        if self._heard:
            self._heard = False
            self._watch()
            self._ask_for_a_sign()
        else:
            self._on_silence()
            self._transport.abort()

    def _await_the_end(self) -> None:
        """However much the other side goes on to say."""
        if not self._ending:
            self._ending = True
            self._set_timer(self._close_s_max, self._transport.abort)

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, call)

    def _end(self) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.end()
