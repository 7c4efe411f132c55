"""A data channel as a lane: calls of one caller, and their answers, beside the link.

A call on files that goes over the link wakes the server's loop and one of its threads and the loop
again. Over a lane it wakes the one thread that does it, and so does one that reads an attribute.
Answers come in the order of the calls. What becomes of calls when the lane is lost, and what else a
caller may do, is the business of `Calls`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from roost.agent.channel import Channel
from roost.busypoll import BusyPoll
from roost.errors import ProtocolError
from roost.submitfolder import Answer
from roost.wire import channel as wire
from roost.wire import link
from roost.wire.link import ChirpAnswer, ChirpCall

Answered = Callable[[Answer], None]


class Lane:
    def __init__(
        self, channel: Channel, awake: BusyPoll, over: Callable[[Lane, bool], None]
    ) -> None:
        """From when the server has agreed. `over` is called once, on the loop, when nothing more
        comes; True: because `end` was called, and the channel can be used again."""
        self.channel = channel
        self.calls = 0
        """How many there have been since somebody looked."""
        self.under_way: deque[Answered] = deque()
        """Who is to be told the answers, in this order."""
        self._awake = awake
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._frames = wire.FrameReader()
        self._begun: list[bytes] = []
        """What leaves with the next `flush`."""
        self._unsent: deque[memoryview] = deque()
        """What did not fit into the socket."""
        self._open = True
        self._loop.add_reader(channel.socket, self._receive)

    def begin(self, call: ChirpCall, answered: Answered) -> None:
        """It leaves with the next `flush`: what comes together is done and answered together."""
        self.calls += 1
        self.under_way.append(answered)
        calls: list[link.FromAgent] = [call]
        self._begun.append(wire.frame(link.encode(calls)))

    def flush(self) -> None:
        if self._begun:
            self._send(self._begun[0] if len(self._begun) == 1 else b"".join(self._begun))
            self._begun.clear()
            self._awake.waits()

    def end(self) -> None:
        """After what is under way. Nothing is begun any more."""
        self._begun.append(wire.END)
        self.flush()

    def close(self) -> None:
        """At once; nothing is told."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self.channel.socket)
            if self._unsent:
                self._loop.remove_writer(self.channel.socket)

    def _lose(self) -> None:
        if self._open:
            self.close()
            self._over(self, False)

    def _send(self, data: bytes) -> None:
        sent = 0
        if not self._unsent:
            try:
                sent = self.channel.socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self._loop.call_soon(self._lose)
                return
        if sent < len(data):
            if not self._unsent:
                self._loop.add_writer(self.channel.socket, self._send_more)
            self._unsent.append(memoryview(data)[sent:])

    def _send_more(self) -> None:
        try:
            while self._unsent:
                sent = self.channel.socket.send(self._unsent[0])
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        self._loop.remove_writer(self.channel.socket)

    def _receive(self) -> None:
        try:
            got = self.channel.socket.recv_into(self._frames.room())
        except BlockingIOError:
            return
        except OSError:
            got = 0
        if not got:
            self._lose()
            return
        self._frames.received(got)
        self._awake.came()
        try:
            while self._open and (frame := self._frames.next_frame()) is not None:
                if not frame:
                    self.close()
                    self._over(self, True)
                    return
                self._take(frame)
        except ProtocolError:
            self._lose()

    def _take(self, frame: memoryview) -> None:
        for message in link.decode_from_server(frame):
            if not isinstance(message, ChirpAnswer) or not self.under_way:
                raise ProtocolError("On a lane, calls are answered and nothing else is said.")
            answered = self.under_way.popleft()
            answered(Answer(message.result, message.data, message.descriptor))
