"""What the Chirp proxy cannot answer itself, on its way to who can.

Most goes over the agent link to the server. A caller that asks much of its files, or often reads
attributes, gets a lane beside the link (`lane`) while it does, and these calls go there; it is lent
for that caller alone, as files that hang must not hold up others. Files in a folder that this
machine was told to see as well (`shared_roots`) are worked on here, in threads, by the code that
the server uses. Lines for a job's story are answered as soon as the agent has taken them over, to
be delivered with its reports; when it has too many that the server has not saved, they wait.

A call is sent once. If the link breaks before its answer has come, the answer is `OFFLINE`: it may
have happened, and an append must not happen twice. A call that has not left waits for the link
for a while, as a server that is started anew is back in a moment. Descriptors of before a break
are gone with it: `epoch` counts the breaks. A lane that is lost by itself takes what is under way
there with it, and nothing else.

Calls of one caller are done in the order in which they were begun, also from the link to a lane
and back: what is begun between the two is kept until the server has agreed.

An answer is what `begin` gives, or is given to a function on the loop after it has returned.
Nothing here keeps it, or what was asked, any longer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from roost.agent.channel import Channel, Channels
from roost.agent.lane import Answered, Lane
from roost.beneath import remove_tree
from roost.busypoll import BusyPoll
from roost.core import attributes
from roost.core.messages import ChirpOrder, EntryKind
from roost.core.records import AttemptKey
from roost.submitfolder import Answer, LanesOfRoots, files_beneath, root_of
from roost.wire.chirp import COMMANDS, GETS, Code, Gate
from roost.wire.link import LANE, NO_CHANNEL, ChirpAnswer, ChirpCall, ChirpCallerGone, FromAgent

LINK_S_MAX = 5.0
"""A call waits so long for a link that is down; clients give up after 10 seconds."""

LANES_MAX = 4
"""At a time; the other channels are for bulk."""
LANE_CALLS = 8
"""That a lane could carry, by one caller over the link, before it is worth one."""
LANE_IDLE_S = 2.0
"""A lane without calls for about so long is ended."""

_ENTRIES: dict[str, EntryKind] = {"ulog": "ulog", "phase": "phase"}
"""Commands that write into the story."""


class Caller(Struct, eq=False):
    """A job's connection."""

    number: int
    key: AttemptKey
    order: ChirpOrder
    root: Path | None
    """The folder above its files that this machine sees too."""
    may_have_lane: bool
    """It may use files, and was not refused one."""
    used: bool = False
    """The server may have descriptors open for it, or a lane."""
    gone: bool = False
    asked: int = 0
    """Calls over the link, since it has no lane, that one could carry."""
    lane: Lane | None = None
    kept: deque[tuple[ChirpCall, Answered]] | None = None
    """While a lane begins or ends: calls that are to go the new way."""


class _Waiting(NamedTuple):
    """What has not left yet."""

    message: FromAgent
    until: float = float("inf")
    answered: Answered | None = None

    @property
    def size(self) -> int:
        return len(self.message.data) if isinstance(self.message, ChirpCall) else 0


class _Entry(Struct, eq=False):
    """A line that waits to be taken over."""

    key: AttemptKey
    kind: EntryKind
    text: str
    answered: Answered
    patience: asyncio.TimerHandle | None = None
    """Gives it up."""


class Calls:
    def __init__(
        self,
        shared_roots: Sequence[Path],
        channels: Channels,
        wake: Callable[[], None],
        enter: Callable[[AttemptKey, EntryKind, str], int],
    ) -> None:
        """`wake` is called when there is something to `pull`. `enter` takes a line for a job's
        story over, or refuses it; its answer is the job's, but for `OFFLINE`: no room for now."""
        self.epoch = 0
        self.jobs, self.server = BusyPoll(), BusyPoll()
        """What comes from either side, as an answer or after one."""
        self._enter = enter
        self._entries: deque[_Entry] = deque()
        self._channels = channels
        self._lanes: set[Caller] = set()
        """Who has one, or is to get one."""
        self._opening: set[asyncio.Task[None]] = set()
        self._look: asyncio.TimerHandle | None = None
        """For lanes that are not used."""
        self._shared_roots = shared_roots
        self._wake = wake
        self._files = LanesOfRoots()
        self._callers = itertools.count(1)
        self._numbers = itertools.count(1)
        self._waiting: deque[_Waiting] = deque()
        self._under_way: dict[int, Answered] = {}
        self._patience: asyncio.TimerHandle | None = None
        """Goes off when a call may have waited for too long."""

    def close(self) -> None:
        for timer in (self._patience, self._look):
            if timer is not None:
                timer.cancel()
        for task in self._opening:
            task.cancel()
        for caller in self._lanes:
            if caller.lane is not None:
                caller.lane.close()
        self._files.close()

    # --- for the proxy ------------------------------------------------------------------------

    def new_caller(self, key: AttemptKey, order: ChirpOrder) -> Caller:
        root = self._shared_root(order)
        return Caller(next(self._callers), key, order, root, may_have_lane=order.gates.io)

    def begin(
        self,
        caller: Caller,
        answered: Answered,
        command: str,
        words: tuple[bytes, ...] = (),
        numbers: tuple[int, ...] = (),
        data: bytes = b"",
        channel: int = NO_CHANNEL,
    ) -> Answer | None:
        """The answer, if it is known, or `answered` is told. A data channel is for calls that are
        not done here. To be followed by `flush`."""
        if caller.root is not None and COMMANDS[command].gate is Gate.IO:
            self._begin_here(caller, caller.root, answered, command, words, numbers, data)
            return None
        if (kind := _ENTRIES.get(command)) is not None:
            return self._begin_entry(caller.key, kind, words[0], answered)
        number = next(self._numbers)
        call = ChirpCall(number, *caller.key, caller.number, command, words, numbers, data, channel)
        if COMMANDS[command].gate is Gate.IO or (command in GETS and caller.may_have_lane):
            self._begin_either_way(caller, call, answered)
        else:
            self._send(call, answered)
        return None

    def flush(self, caller: Caller) -> None:
        """Nothing more is begun for now."""
        if caller.lane is not None:
            caller.lane.flush()

    def gone(self, caller: Caller) -> None:
        """This connection has ended: nobody waits for its answers, its descriptors can close."""
        caller.gone = True
        if caller.root is not None:
            self._files.of(caller.root).close_lane(caller)
        if caller.lane is not None:
            self._end_lane(caller, caller.lane)
        elif caller.kept is None:
            self._say_gone(caller)

    def remove_folder(self, folder: Path) -> None:
        self._files.of(None).do(lambda: remove_tree(folder))

    def _begin_here(
        self,
        caller: Caller,
        root: Path,
        answered: Answered,
        command: str,
        words: tuple[bytes, ...],
        numbers: tuple[int, ...],
        data: bytes,
    ) -> None:
        loop = asyncio.get_running_loop()

        def answer(answer: Answer) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(answered, answer)

        order = caller.order
        self._files.of(root).run(
            caller, lambda: files_beneath(root, order), command, words, numbers, data, answer
        )

    def _begin_entry(
        self, key: AttemptKey, kind: EntryKind, line: bytes, answered: Answered
    ) -> Answer | None:
        try:
            text = attributes.entry(line.decode())
        except UnicodeDecodeError:
            return Answer(Code.INVALID_REQUEST)
        if not self._entries and (result := self._enter(key, kind, text)) != Code.OFFLINE:
            return Answer(result)
        entry = _Entry(key, kind, text, answered)
        loop = asyncio.get_running_loop()
        entry.patience = loop.call_later(LINK_S_MAX, self._give_up_entry, entry)
        self._entries.append(entry)
        return None

    def _give_up_entry(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        entry.answered(Answer(Code.OFFLINE))

    # --- to the server ------------------------------------------------------------------------

    def _begin_either_way(self, caller: Caller, call: ChirpCall, answered: Answered) -> None:
        """Over the caller's lane, or, without one, over the link."""
        caller.used = True
        if caller.kept is not None:
            caller.kept.append((call, answered))
        elif caller.lane is None:
            self._send(call, answered)
            caller.asked += 1
            if caller.asked >= LANE_CALLS and caller.may_have_lane:
                self._open_lane(caller)
        elif call.channel == NO_CHANNEL:
            caller.lane.begin(call, answered)
        else:
            self._end_lane(caller, caller.lane)
            self._begin_either_way(caller, call, answered)

    def _send(self, call: ChirpCall, answered: Answered) -> None:
        loop = asyncio.get_running_loop()
        self._waiting.append(_Waiting(call, loop.time() + LINK_S_MAX, answered))
        if self._patience is None:
            self._patience = loop.call_later(LINK_S_MAX, self._give_up)
        self._wake()

    def _say_gone(self, caller: Caller) -> None:
        if caller.used:
            self._waiting.append(_Waiting(ChirpCallerGone(caller.number)))
            self._wake()

    def _open_lane(self, caller: Caller) -> None:
        if caller in self._lanes or len(self._lanes) >= LANES_MAX or caller.gone:
            return
        if self._channels.has_idle or self._channels.may_open:
            self._lanes.add(caller)
            task = asyncio.get_running_loop().create_task(self._ask_for_lane(caller))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _ask_for_lane(self, caller: Caller) -> None:
        channel = await self._channels.take()
        if channel is None or caller.gone:
            self._lanes.discard(caller)
            caller.asked = 0
            if channel is not None:
                self._channels.give_back(channel, clean=True)
            return
        caller.kept = deque()
        number = next(self._numbers)
        call = ChirpCall(number, *caller.key, caller.number, LANE, channel=channel.number)
        self._send(call, lambda answer: self._begin_lane(caller, channel, answer))

    def _begin_lane(self, caller: Caller, channel: Channel, answer: Answer) -> None:
        if answer.result < 0:
            caller.may_have_lane = answer.result == Code.OFFLINE
            self._without_lane(caller, channel, clean=False)
            return
        lane = Lane(channel, self.server, partial(self._lane_over, caller))
        caller.lane = lane
        if self._look is None:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(LANE_IDLE_S, self._end_idle_lanes)
        self._send_kept(caller)
        if caller.gone:
            self._end_lane(caller, lane)

    def _end_lane(self, caller: Caller, lane: Lane) -> None:
        """Once it is, the channel may be used for something else."""
        if caller.kept is None:
            caller.kept = deque()
            lane.end()

    def _lane_over(self, caller: Caller, lane: Lane, clean: bool) -> None:
        lost, lane.under_way = lane.under_way, deque()
        if caller.kept is None:
            caller.kept = deque()
        for answered in lost:
            answered(Answer(Code.OFFLINE))
        self._without_lane(caller, lane.channel, clean)

    def _without_lane(self, caller: Caller, channel: Channel, clean: bool) -> None:
        """Until its next one, all calls go over the link."""
        self._channels.give_back(channel, clean=clean)
        self._lanes.discard(caller)
        caller.lane = None
        caller.asked = 0
        self._send_kept(caller)
        if caller.gone:
            self._say_gone(caller)

    def _send_kept(self, caller: Caller) -> None:
        kept, caller.kept = caller.kept or deque(), None
        for call, answered in kept:
            self._begin_either_way(caller, call, answered)
        self.flush(caller)

    def _end_idle_lanes(self) -> None:
        self._look = None
        for caller in tuple(self._lanes):
            if (lane := caller.lane) is not None and caller.kept is None:
                if not lane.calls and not lane.under_way:
                    self._end_lane(caller, lane)
                lane.calls = 0
        if self._lanes:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(LANE_IDLE_S, self._end_idle_lanes)

    def _shared_root(self, order: ChirpOrder) -> Path | None:
        return root_of(order.submit_dir, self._shared_roots) if order.submit_dir else None

    # --- for the daemon -----------------------------------------------------------------------

    def enter_waiting(self) -> None:
        """There may be room for lines again."""
        while self._entries:
            entry = self._entries.popleft()
            result = self._enter(entry.key, entry.kind, entry.text)
            if result == Code.OFFLINE:
                self._entries.appendleft(entry)
                return
            assert entry.patience is not None
            entry.patience.cancel()
            entry.answered(Answer(result))

    @property
    def waiting(self) -> bool:
        """Whether there is something to `pull`."""
        return bool(self._waiting)

    def pull(self, bytes_max: int) -> list[FromAgent]:
        """What to send next, in order; one more than `bytes_max` allows, at most."""
        messages: list[FromAgent] = []
        size = 0
        while self._waiting and size < bytes_max:
            waiting = self._waiting.popleft()
            if isinstance(waiting.message, ChirpCall):
                assert waiting.answered is not None
                self._under_way[waiting.message.call] = waiting.answered
                self.server.waits()
            messages.append(waiting.message)
            size += waiting.size
        return messages

    def answered(self, answer: ChirpAnswer) -> None:
        self.server.came()
        answered = self._under_way.pop(answer.call, None)
        if answered is not None:
            answered(Answer(answer.result, answer.data, answer.descriptor))

    def link_down(self) -> None:
        self.epoch += 1
        lost = list(self._under_way.values())
        self._under_way.clear()
        for caller in tuple(self._lanes):
            if caller.lane is not None:
                caller.lane.close()
                self._lane_over(caller, caller.lane, clean=False)
        # What has not left may still go, unless it is about what is gone.
        lost += self._take_back(_goes_with_link)
        for answered in lost:
            answered(Answer(Code.OFFLINE))
        for answered in self._take_back(_goes_with_link):  # of what was kept until now
            answered(Answer(Code.OFFLINE))

    def _give_up(self) -> None:
        """What has waited for too long never leaves."""
        now = asyncio.get_running_loop().time()
        lost = self._take_back(lambda waiting: waiting.until <= now)
        next_one = min((waiting.until for waiting in self._waiting), default=float("inf"))
        self._patience = None
        if next_one < float("inf"):
            loop = asyncio.get_running_loop()
            self._patience = loop.call_at(next_one, self._give_up)
        for answered in lost:
            answered(Answer(Code.OFFLINE))

    def _take_back(self, which: Callable[[_Waiting], bool]) -> list[Answered]:
        taken = [waiting for waiting in self._waiting if which(waiting)]
        self._waiting = deque(waiting for waiting in self._waiting if not which(waiting))
        return [waiting.answered for waiting in taken if waiting.answered is not None]


def _goes_with_link(waiting: _Waiting) -> bool:
    """It is about a descriptor or a channel."""
    call = waiting.message
    if not isinstance(call, ChirpCall):
        return False
    return call.channel != NO_CHANNEL or COMMANDS[call.command].numbers[:1] == ("fd",)
