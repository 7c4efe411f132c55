"""What the Chirp proxy cannot answer itself, on its way to who can.

Most goes over the agent link to the server. Files in a folder that this machine was told to see
as well (`shared_roots`) are worked on here, in threads, by the code that the server uses. Lines for
a job's story are answered as soon as the agent has taken them over, to be delivered with its
reports; when it has too many that the server has not saved, they wait.

A call is sent once. If the link breaks before its answer has come, the answer is `OFFLINE`: it may
have happened, and an append must not happen twice. A call that has not left waits for the link
for a while, as a server that is started anew is back in a moment. Descriptors of before a break
are gone with it: `epoch` counts the breaks.
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
from roost.core import attributes
from roost.core.messages import ChirpOrder, EntryKind
from roost.core.records import AttemptKey
from roost.submitfolder import Answer, FileLanes, FileRules, JobFiles, Space
from roost.wire.chirp import COMMANDS, Code, Gate
from roost.wire.link import NO_CHANNEL, ChirpAnswer, ChirpCall, ChirpCallerGone, FromAgent

LINK_S_MAX = 5.0
"""A call waits so long for a link that is down; clients give up after 10 seconds."""

_ENTRIES: dict[str, EntryKind] = {"ulog": "ulog", "phase": "phase"}
"""Commands that write into the story."""


class _Waiting(NamedTuple):
    """What has not left yet."""

    message: FromAgent
    size: int = 0
    """Of its data."""
    future: asyncio.Future[Answer] | None = None
    patience: asyncio.TimerHandle | None = None
    """Gives it up."""


class _Entry(NamedTuple):
    """A line that waits to be taken over."""

    key: AttemptKey
    kind: EntryKind
    text: str
    future: asyncio.Future[Answer]
    patience: asyncio.TimerHandle


class Calls:
    def __init__(
        self,
        shared_roots: Sequence[Path],
        wake: Callable[[], None],
        enter: Callable[[AttemptKey, EntryKind, str], int],
    ) -> None:
        """`wake` is called when there is something to `pull`. `enter` takes a line for a job's
        story over, or refuses it; its answer is the job's, but for `OFFLINE`: no room for now."""
        self.epoch = 0
        self._shared_roots = shared_roots
        self._wake = wake
        self._enter = enter
        self._entries: deque[_Entry] = deque()
        self._lanes = FileLanes()
        self._callers = itertools.count(1)
        self._numbers = itertools.count(1)
        self._waiting: deque[_Waiting] = deque()
        self._under_way: dict[int, asyncio.Future[Answer]] = {}
        self._here: set[int] = set()
        self._there: set[int] = set()

    def close(self) -> None:
        self._lanes.close()

    # --- for the proxy ------------------------------------------------------------------------

    def new_caller(self) -> int:
        return next(self._callers)

    def begin(
        self,
        order: ChirpOrder,
        key: AttemptKey,
        caller: int,
        command: str,
        words: tuple[bytes, ...],
        numbers: tuple[int, ...],
        data: bytes = b"",
        channel: int = NO_CHANNEL,
    ) -> asyncio.Future[Answer]:
        """Calls of one caller are done in the order in which they were begun. A data channel is
        for those that are not done here."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if (kind := _ENTRIES.get(command)) is not None:
            self._begin_entry(key, kind, words[0], future)
            return future
        root = self._shared_root(order) if COMMANDS[command].gate is Gate.IO else None
        if root is not None:
            self._here.add(caller)
            self._lanes.run(
                caller,
                lambda: _open(root, order),
                command,
                words,
                numbers,
                data,
                lambda answer: _settle_on(loop, future, answer),
            )
            return future
        number = next(self._numbers)
        call = ChirpCall(number, *key, caller, command, words, numbers, data, channel)
        self._there.add(caller)
        patience = loop.call_later(LINK_S_MAX, _give_up, future)
        self._waiting.append(_Waiting(call, len(data), future, patience))
        self._wake()
        return future

    def _begin_entry(
        self, key: AttemptKey, kind: EntryKind, line: bytes, future: asyncio.Future[Answer]
    ) -> None:
        try:
            text = attributes.entry(line.decode())
        except UnicodeDecodeError:
            future.set_result(Answer(Code.INVALID_REQUEST))
            return
        if not self._entries and (result := self._enter(key, kind, text)) != Code.OFFLINE:
            future.set_result(Answer(result))
            return
        patience = future.get_loop().call_later(LINK_S_MAX, _give_up, future)
        self._entries.append(_Entry(key, kind, text, future, patience))

    def gone(self, caller: int) -> None:
        """This connection has ended: nobody waits for its answers, its descriptors can close."""
        if caller in self._here:
            self._here.discard(caller)
            self._lanes.close_lane(caller)
        if caller in self._there:
            self._there.discard(caller)
            self._waiting.append(_Waiting(ChirpCallerGone(caller)))
            self._wake()

    def is_here(self, order: ChirpOrder) -> bool:
        """Whether this attempt's files are worked on here."""
        return self._shared_root(order) is not None

    def remove_folder(self, folder: Path) -> None:
        self._lanes.do(lambda: shutil.rmtree(folder, ignore_errors=True))

    def _shared_root(self, order: ChirpOrder) -> Path | None:
        if not order.submit_dir or not self._shared_roots:
            return None
        folder = Path(order.submit_dir)
        return next((root for root in self._shared_roots if folder.is_relative_to(root)), None)

    # --- for the daemon -----------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        return bool(self._waiting)

    def enter_waiting(self) -> None:
        """There may be room for lines again."""
        while self._entries:
            key, kind, text, future, patience = self._entries[0]
            if not future.done():
                if (result := self._enter(key, kind, text)) == Code.OFFLINE:
                    return
                future.set_result(Answer(result))
            patience.cancel()
            self._entries.popleft()

    def pull(self, bytes_max: int) -> list[FromAgent]:
        """What to send next, in order; one more than `bytes_max` allows, at most."""
        messages: list[FromAgent] = []
        size = 0
        while self._waiting and size < bytes_max:
            message, length, future, patience = self._waiting.popleft()
            if isinstance(message, ChirpCall):
                assert future is not None and patience is not None
                # It would keep the answer, and all the data in it, for as long as it lasts.
                patience.cancel()
                if future.done():
                    continue
                self._under_way[message.call] = future
            messages.append(message)
            size += length
        return messages

    def answered(self, answer: ChirpAnswer) -> None:
        future = self._under_way.pop(answer.call, None)
        if future is not None and not future.done():
            future.set_result(Answer(answer.result, answer.data, answer.descriptor))

    def link_down(self) -> None:
        self.epoch += 1
        lost = list(self._under_way.values())
        self._under_way.clear()
        # What has not left may still go, unless it is about a descriptor that is gone.
        lost += [
            future
            for message, _, future, _ in self._waiting
            if isinstance(message, ChirpCall) and future is not None and _names_descriptor(message)
        ]
        for future in lost:
            if not future.done():
                future.set_result(Answer(Code.OFFLINE))


def _give_up(future: asyncio.Future[Answer]) -> None:
    """It has not left yet, and never will."""
    if not future.done():
        future.set_result(Answer(Code.OFFLINE))


def _names_descriptor(call: ChirpCall) -> bool:
    return COMMANDS[call.command].numbers[:1] == ("fd",)


def _open(root: Path, order: ChirpOrder) -> JobFiles:
    with Beneath.at(root) as allowed:
        folder = allowed.below(bytes(Path(order.submit_dir).relative_to(root)))
    folder.virtual_root = order.virtual_root
    return JobFiles(folder, FileRules(order.read_only, order.umask), Space(0))


def _settle_on(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Answer], answer: Answer
) -> None:
    def settle() -> None:
        if not future.done():
            future.set_result(answer)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
