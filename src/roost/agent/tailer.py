"""Follows the output files of attempts: what has been sent, what is to send, what it tells.

Jobs write straight into their files; nobody is in between. The tailer learns of new bytes from
one inotify watch on the folder (elsewhere from a look at the sizes now and then), and gives them
out in pieces when the link has room. What always holds: an attempt's bytes leave in order and
without gaps; never more than the window is under way unacknowledged, over all attempts together,
so memory stays flat and other messages get through; after a break everything goes on from
what the server says it has.

Of an attempt that prints much, whole stretches of the file leave beside the link if there is a
data channel to be had. What leaves on the link and what leaves beside it never overtake each
other: while stretches are unanswered, nothing of that attempt takes the link, and its end waits
for their answers.

Progress (`PROGRESS: n/m` at the start of a line, `ALF_PROGRESS n%` anywhere) is read in passing
from the bytes that are sent, each of them once. Of a stretch only the end is read: a line that is
followed by more than `LOOK_BYTES` in the same stretch is passed over, and the next one counts.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

from roost.agent.channel import STRETCH_BYTES_MAX, OutputChannel
from roost.agent.slots import clear_output
from roost.core.records import PROGRESS_UNIT, AttemptKey
from roost.wire.link import OUTPUT_CHUNK_BYTES_MAX, OUTPUT_WINDOW_BYTES, Output, OutputAhead

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 4096
"""A line longer than this is not looked at for progress."""
STRETCH_BYTES_MIN = 256 * 1024
"""A data channel is not worth its two messages when there is less than this to send."""
LOOK_BYTES = 256 * 1024
"""Of a stretch, what is read for progress, at its end. What comes by less than this in
`daemon.OUTPUT_PAUSE_S`, 12 MiB a second, is read wholly."""

_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})
"""What keeps a file from being read now says nothing of the next time."""
_WORD = b"PROGRESS"
"""What every line about progress has."""
_PROGRESS = re.compile(
    rb"[\r\n]PROGRESS:[ \t]*(\d{1,18})[ \t]*/[ \t]*(\d{1,18})"
    rb"|ALF_PROGRESS[ \t]+(\d{1,9})[ \t]*%"
)


def _memmem() -> Callable[[bytes, int, bytes, int], int | None] | None:
    try:
        function = ctypes.CDLL(None).memmem
    except (OSError, AttributeError, TypeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return cast("Callable[[bytes, int, bytes, int], int | None]", function)


_found = _memmem()


def _has_word(text: bytes, end: int) -> bool:
    """Before `end`. The C library finds it five times as fast as Python does in ordinary lines."""
    if _found is None:
        return text.find(_WORD, 0, end) >= 0
    return _found(text, min(end, len(text)), _WORD, len(_WORD)) is not None


class ProgressReader:
    """Takes an output in pieces; `progress` is the highest fraction seen so far, in millionths."""

    def __init__(self) -> None:
        self.progress = 0
        self._rest = b"\n"
        """The beginning of a line that has no end yet, with the end of the line before."""

    def pass_over(self) -> None:
        """Some of the output is not read: what comes next begins within a line."""
        self._rest = b""

    def read(self, data: bytes, *, last: bool = False) -> None:
        """`last`: no more comes, so that the rest is a line too."""
        text = self._rest + data
        feed = text.rfind(b"\n")
        end = len(text) if last else max(feed, text.rfind(b"\r", feed + 1))
        # The end of a line belongs to both: it closes this one and opens the next.
        self._rest = text[max(0, end) :]
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        if not _has_word(text, end + 1):
            return
        for found in _PROGRESS.finditer(text, 0, end + 1):
            done, total, percent = found.groups()
            part, whole = (int(done), int(total)) if percent is None else (int(percent), 100)
            if whole:
                millionths = min(PROGRESS_UNIT, part * PROGRESS_UNIT // whole)
                self.progress = max(self.progress, millionths)


class _Tail:
    __slots__ = (
        "acknowledged", "cut_short", "draining", "file", "flooding", "key", "linked", "name",
        "path", "progress", "read_to", "sent", "stretches",
    )  # fmt: skip

    def __init__(self, key: AttemptKey, path: str) -> None:
        self.key = key
        self.path = path
        self.name = path.rpartition(os.sep)[2]
        self.file = -1
        self.sent = 0
        self.linked = 0
        """Up to where bytes have been sent over the link."""
        self.acknowledged = 0
        """Up to where the server has said that it has them."""
        self.read_to = 0
        self.draining = False
        self.flooding = False
        """More was there than the link takes at a time."""
        self.stretches: deque[int] = deque()
        """Where those end that were announced and are not answered yet."""
        self.cut_short = False
        """One of them was not stored whole: when all are answered, go on from what is stored."""
        self.progress = ProgressReader()


class Tailer:
    def __init__(self, channel: OutputChannel) -> None:
        self._channel = channel
        self._tails: dict[AttemptKey, _Tail] = {}
        self._names: dict[str, _Tail] = {}
        self._dirty: dict[AttemptKey, _Tail] = {}
        """Those that may have something to send, the longest waiting first."""
        self._under_way = 0
        self._progressed: dict[AttemptKey, _Tail] = {}
        self._uncleared: set[str] = set()
        """Files with the output of earlier attempts."""

    def clear(self, paths: Iterable[str]) -> None:
        """What is in these files is nobody's any more. Where it cannot be cleared now, it is when
        the file gets its next attempt."""
        for path in paths:
            try:
                clear_output(path)
            except OSError as error:
                self._uncleared.add(path)
                log.warning("The output of an earlier attempt stays for now: %s", error)

    def follow(self, key: AttemptKey, path: str) -> bool:
        """Begin to follow an attempt; its file need not exist yet. False: the attempt must not
        start, as its file has the output of an earlier one and cannot be cleared."""
        if key in self._tails:
            return True
        if path in self._uncleared:
            self._uncleared.discard(path)
            self.clear([path])
        is_clear = path not in self._uncleared
        tail = self._tails[key] = _Tail(key, path if is_clear else "")
        self._names[tail.name] = tail
        return is_clear

    def written(self, names: Iterable[str]) -> None:
        """These files have grown."""
        for name in names:
            tail = self._names.get(name)
            if tail is not None:
                self._dirty[tail.key] = tail

    def look(self) -> None:
        """Any file may have grown."""
        self._dirty.update(self._tails)

    def drain(self, key: AttemptKey) -> None:
        """Nothing more will be written: `pull` tells when all has been given out."""
        tail = self._tails[key]
        tail.draining = True
        self._dirty[key] = tail

    def link_down(self) -> None:
        """What is under way beside the link will not be answered."""
        self._channel.reset()

    def rewind(self, stored: dict[AttemptKey, int]) -> None:
        """A new link: go on from what the server has, in bytes per attempt."""
        self._under_way = 0
        for key, tail in self._tails.items():
            tail.stretches.clear()
            tail.cut_short = False
            tail.sent = tail.linked = tail.acknowledged = stored.get(key, 0)
            self._dirty[key] = tail

    def acknowledge(self, key: AttemptKey, size: int) -> None:
        tail = self._tails.get(key)
        if tail is not None and size > tail.acknowledged:
            self._under_way -= min(size, tail.linked) - tail.acknowledged
            tail.acknowledged = min(size, tail.linked)

    def answer(self, key: AttemptKey, size: int) -> None:
        """The server answers the first unanswered stretch: it has `size` bytes of the output."""
        tail = self._tails.get(key)
        if tail is None or not tail.stretches:
            self._channel.answered(whole=True)
            return
        whole = size >= tail.stretches.popleft()
        self._channel.answered(whole=whole)
        tail.cut_short |= not whole
        if not tail.stretches:
            if tail.cut_short:
                tail.cut_short = False
                tail.sent = size
            tail.linked = tail.acknowledged = tail.sent
        self._dirty[key] = tail

    def pull(self, size: int) -> tuple[list[Output | OutputAhead], list[tuple[AttemptKey, int]]]:
        """What to send, with about `size` bytes in it, and who has been drained with it: (key,
        progress).

        Empty lists: nothing to send, or the window is full.
        """
        outputs: list[Output | OutputAhead] = []
        drained: list[tuple[AttemptKey, int]] = []
        waiting = list(self._dirty.values())
        for tail in waiting:
            if tail.stretches or (tail.flooding and self._is_flood(tail)):
                outputs += self._announce(tail)
                continue
            room = min(OUTPUT_WINDOW_BYTES - self._under_way, OUTPUT_CHUNK_BYTES_MAX, size)
            finished = tail.draining and _size(tail.path) <= tail.sent
            if room <= 0 and not finished:
                continue
            data = b"" if finished else self._read(tail, room, tail.sent)
            if data is None:
                continue
            # Taken out and, if there may be more, put in last: everybody gets a turn.
            del self._dirty[tail.key]
            if data:
                outputs.append(Output(*tail.key, tail.sent, data))
                size -= len(data)
                tail.sent += len(data)
                tail.linked = tail.sent
                self._under_way += len(data)
                self._learn(tail, tail.sent - len(data), data)
                tail.flooding = len(data) == OUTPUT_CHUNK_BYTES_MAX
            if not finished and len(data) == room:
                self._dirty[tail.key] = tail
            elif tail.draining:
                if tail.sent:
                    self._learn(tail, tail.sent, b"", last=True)
                drained.append((tail.key, tail.progress.progress))
                self._close(tail)
        return outputs, drained

    @property
    def ready(self) -> bool:
        """Whether `pull` may have something."""
        return bool(self._dirty) and self._under_way < OUTPUT_WINDOW_BYTES

    def progressed(self) -> list[tuple[AttemptKey, int]]:
        """Whose progress has changed since this was last asked, in millionths."""
        changed, self._progressed = self._progressed, {}
        return [(key, tail.progress.progress) for key, tail in changed.items()]

    def forget(self, key: AttemptKey) -> None:
        """Its output has been saved elsewhere: the file is cleared for the next attempt."""
        tail = self._tails.pop(key, None)
        if tail is None:
            return
        self._close(tail)
        self._names.pop(tail.name, None)
        self._dirty.pop(key, None)
        self._progressed.pop(key, None)
        self._under_way -= tail.linked - tail.acknowledged
        self.clear([tail.path])

    def close(self) -> None:
        self._channel.reset()
        for tail in self._tails.values():
            self._close(tail)

    def _is_flood(self, tail: _Tail) -> bool:
        """Is there enough to send of it, and a way beside the link?"""
        return self._channel.may_send and _size(tail.path) - tail.sent >= STRETCH_BYTES_MIN

    def _announce(self, tail: _Tail) -> Iterator[OutputAhead]:
        """Its next stretch, if there is room for one; every answer to one has us look again."""
        del self._dirty[tail.key]
        size = min(STRETCH_BYTES_MAX, _size(tail.path) - tail.sent)
        if size > 0 and not tail.cut_short and self._channel.may_send:
            look = min(size, LOOK_BYTES)
            end = self._read(tail, look, tail.sent + size - look)
            if tail.file < 0 or end is None:
                tail.flooding = False  # `pull` knows what becomes of it
                self._dirty[tail.key] = tail
                return
            offset = tail.sent
            tail.sent += size
            tail.stretches.append(tail.sent)
            self._learn(tail, tail.sent - look, end)
            yield self._channel.send(tail.key, tail.file, offset, size)
            self._dirty[tail.key] = tail

    def _read(self, tail: _Tail, size: int, offset: int) -> bytes | None:
        """None: not now, it has to be tried again. Empty: there is no more to be had."""
        try:
            if tail.file < 0:
                tail.file = self._open(tail)
            return os.pread(tail.file, size, offset)
        except FileNotFoundError:
            return b""
        except OSError as error:
            if error.errno in _PASSING:
                return None
            log.warning("The rest of an output cannot be read: %s: %s", tail.path, error.strerror)
            return b""

    def _open(self, tail: _Tail) -> int:
        """Files are kept open to save time only: where no descriptor is left, others do without."""
        try:
            return os.open(tail.path, os.O_RDONLY)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            for other in self._tails.values():
                self._close(other)
            return os.open(tail.path, os.O_RDONLY)

    def _learn(self, tail: _Tail, offset: int, data: bytes, *, last: bool = False) -> None:
        if offset > tail.read_to:
            tail.progress.pass_over()
        fresh = data[max(0, tail.read_to - offset) :]
        tail.read_to = max(tail.read_to, offset + len(data))
        if fresh or last:
            before = tail.progress.progress
            tail.progress.read(fresh, last=last)
            if tail.progress.progress != before:
                self._progressed[tail.key] = tail

    def _close(self, tail: _Tail) -> None:
        if tail.file >= 0:
            os.close(tail.file)
            tail.file = -1


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  (once per job)
    except OSError:
        return 0


_IN_MODIFY = 0x2
_IN_Q_OVERFLOW = 0x4000
_IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_EVENT = struct.Struct("iIII")


class FolderWatch:
    """One inotify descriptor that tells which files of a folder are written to."""

    def __init__(self, folder: Path) -> None:
        """Raises `OSError` where there is no inotify."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self.file: int = libc.inotify_init1(_IN_FLAGS)
        except AttributeError as error:
            raise OSError("There is no inotify.") from error
        if self.file < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if libc.inotify_add_watch(self.file, os.fsencode(folder), _IN_MODIFY) < 0:
            os.close(self.file)
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(folder))

    def read(self, written: Callable[[set[str]], None], overflow: Callable[[], None]) -> None:
        """Pass on what is there to read."""
        names: set[str] = set()
        try:
            data = os.read(self.file, 65536)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            _, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            if mask & _IN_Q_OVERFLOW:
                overflow()
            names.add(os.fsdecode(data[at : at + length].rstrip(b"\0")))
            at += length
        written(names)

    def close(self) -> None:
        os.close(self.file)
