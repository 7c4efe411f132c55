"""What the Chirp proxy cannot answer itself, on its way to who can.

Most goes over the agent link to the server. Files in a folder that this machine was told to see
as well (`shared_roots`) are worked on here, in threads, by the code that the server uses.

A call is sent once. If the link breaks before its answer has come, the answer is `OFFLINE`: it may
have happened, and an append must not happen twice. A call that has not left waits for the link
for a while, as a server that is started anew is back in a moment. Descriptors of before a break
are gone with it: `epoch` counts the breaks.

An answer is given to a function on the loop, never before `begin` has returned. Nothing here keeps
it, or what was asked, any longer.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from roost.beneath import Beneath
from roost.core.messages import ChirpOrder
from roost.core.records import AttemptKey
from roost.submitfolder import Answer, FileLanes, FileRules, JobFiles, Space
from roost.wire.chirp import COMMANDS, Code, Gate
from roost.wire.link import NO_CHANNEL, ChirpAnswer, ChirpCall, ChirpCallerGone, FromAgent

LINK_S_MAX = 5.0
"""A call waits so long for a link that is down; clients give up after 10 seconds."""

Answered = Callable[[Answer], None]


class Caller:
    """A job's connection: its calls are done in the order in which they are begun."""

    __slots__ = ("key", "number", "order", "root", "used")

    def __init__(self, number: int, key: AttemptKey, order: ChirpOrder, root: Path | None) -> None:
        self.number = number
        self.key = key
        self.order = order
        self.root = root
        """The folder above its files that this machine sees too."""
        self.used = False
        """Somebody may have descriptors open for it."""


class _Waiting(NamedTuple):
    """What has not left yet."""

    message: FromAgent
    until: float = float("inf")
    answered: Answered | None = None

    @property
    def size(self) -> int:
        return len(self.message.data) if isinstance(self.message, ChirpCall) else 0


class Calls:
    def __init__(self, shared_roots: Sequence[Path], wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to `pull`."""
        self.epoch = 0
        self._shared_roots = shared_roots
        self._wake = wake
        self._lanes = FileLanes()
        self._callers = itertools.count(1)
        self._numbers = itertools.count(1)
        self._waiting: deque[_Waiting] = deque()
        self._under_way: dict[int, Answered] = {}
        self._patience: asyncio.TimerHandle | None = None
        """Goes off when a call may have waited for too long."""

    def close(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._lanes.close()

    # --- for the proxy ------------------------------------------------------------------------

    def new_caller(self, key: AttemptKey, order: ChirpOrder) -> Caller:
        return Caller(next(self._callers), key, order, self._shared_root(order))

    def begin(
        self,
        caller: Caller,
        answered: Answered,
        command: str,
        words: tuple[bytes, ...] = (),
        numbers: tuple[int, ...] = (),
        data: bytes = b"",
        channel: int = NO_CHANNEL,
    ) -> None:
        """A data channel is for calls that are not done here."""
        if caller.root is not None and COMMANDS[command].gate is Gate.IO:
            self._begin_here(caller, caller.root, answered, command, words, numbers, data)
            return
        number = next(self._numbers)
        call = ChirpCall(number, *caller.key, caller.number, command, words, numbers, data, channel)
        caller.used = True
        loop = asyncio.get_running_loop()
        self._waiting.append(_Waiting(call, loop.time() + LINK_S_MAX, answered))
        if self._patience is None:
            self._patience = loop.call_later(LINK_S_MAX, self._give_up)
        self._wake()

    def gone(self, caller: Caller) -> None:
        """This connection has ended: nobody waits for its answers, its descriptors can close."""
        if caller.root is not None:
            self._lanes.close_lane(caller)
        if caller.used:
            self._waiting.append(_Waiting(ChirpCallerGone(caller.number)))
            self._wake()

    def remove_folder(self, folder: Path) -> None:
        self._lanes.do(lambda: shutil.rmtree(folder, ignore_errors=True))

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
        self._lanes.run(caller, lambda: _open(root, order), command, words, numbers, data, answer)

    def _shared_root(self, order: ChirpOrder) -> Path | None:
        if not order.submit_dir or not self._shared_roots:
            return None
        folder = Path(order.submit_dir)
        return next((root for root in self._shared_roots if folder.is_relative_to(root)), None)

    # --- for the daemon -----------------------------------------------------------------------

    def pull(self, bytes_max: int) -> list[FromAgent]:
        """What to send next, in order; one more than `bytes_max` allows, at most."""
        messages: list[FromAgent] = []
        size = 0
        while self._waiting and size < bytes_max:
            waiting = self._waiting.popleft()
            if isinstance(waiting.message, ChirpCall):
                assert waiting.answered is not None
                self._under_way[waiting.message.call] = waiting.answered
            messages.append(waiting.message)
            size += waiting.size
        return messages

    def answered(self, answer: ChirpAnswer) -> None:
        answered = self._under_way.pop(answer.call, None)
        if answered is not None:
            answered(Answer(answer.result, answer.data, answer.descriptor))

    def link_down(self) -> None:
        self.epoch += 1
        lost = list(self._under_way.values())
        self._under_way.clear()
        # What has not left may still go, unless it is about a descriptor that is gone.
        lost += self._take_back(_names_descriptor)
        for answered in lost:
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


def _names_descriptor(waiting: _Waiting) -> bool:
    call = waiting.message
    return isinstance(call, ChirpCall) and COMMANDS[call.command].numbers[:1] == ("fd",)


def _open(root: Path, order: ChirpOrder) -> JobFiles:
    with Beneath.at(root) as allowed:
        folder = allowed.below(bytes(Path(order.submit_dir).relative_to(root)))
    folder.virtual_root = order.virtual_root
    return JobFiles(folder, FileRules(order.read_only, order.umask), Space(0))
