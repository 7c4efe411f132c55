"""Follows the output files of attempts: what has been sent, what is to send, what it tells.

Jobs write straight into their files; nobody is in between. The tailer learns of new bytes from
one inotify watch on the folder (elsewhere from a look at the sizes now and then), and gives them
out in pieces when the link has room. What always holds: an attempt's bytes leave in order and
without gaps; never more than the window is under way unacknowledged, over all attempts together,
so memory stays flat and other messages get through; after a break everything goes on from
what the server says it has.

Progress (`PROGRESS: n/m` at the start of a line, `ALF_PROGRESS n%` anywhere) is read in passing
from the bytes that are sent, each of them once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from roost.agent.slots import clear_output
from roost.core.records import PROGRESS_UNIT, AttemptKey
from roost.wire.link import OUTPUT_CHUNK_BYTES_MAX, OUTPUT_WINDOW_BYTES, Output

LINE_BYTES_MAX = 4096
"""A line longer than this is not looked at for progress."""

_PROGRESS = re.compile(
    rb"[\r\n]PROGRESS:[ \t]*(\d{1,18})[ \t]*/[ \t]*(\d{1,18})"
    rb"|ALF_PROGRESS[ \t]+(\d{1,9})[ \t]*%"
)


class ProgressReader:
    """Takes an output in pieces; `progress` is the highest fraction seen so far, in millionths."""

    def __init__(self) -> None:
        self.progress = 0
        self._rest = b"\n"
        """The beginning of a line that has no end yet, with the end of the line before."""

    def read(self, data: bytes, *, last: bool = False) -> None:
        """`last`: no more comes, so that the rest is a line too."""
        text = self._rest + data
        end = len(text) if last else max(text.rfind(b"\n"), text.rfind(b"\r"))
        # The end of a line belongs to both: it closes this one and opens the next.
        lines, self._rest = text[: end + 1], text[max(0, end) :]
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        if b"PROGRESS" not in lines:
            return
        for found in _PROGRESS.finditer(lines):
            done, total, percent = found.groups()
            part, whole = (int(done), int(total)) if percent is None else (int(percent), 100)
            if whole:
                millionths = min(PROGRESS_UNIT, part * PROGRESS_UNIT // whole)
                self.progress = max(self.progress, millionths)


class _Tail:
    __slots__ = (
        "acknowledged", "draining", "file", "key", "name", "path", "progress", "read_to", "sent",
    )  # fmt: skip

    def __init__(self, key: AttemptKey, path: str) -> None:
        self.key = key
        self.path = path
        self.name = path.rpartition(os.sep)[2]
        self.file = -1
        self.sent = 0
        self.acknowledged = 0
        self.read_to = 0
        self.draining = False
        self.progress = ProgressReader()


class Tailer:
    def __init__(self) -> None:
        self._tails: dict[AttemptKey, _Tail] = {}
        self._names: dict[str, _Tail] = {}
        self._dirty: dict[AttemptKey, _Tail] = {}
        """Those that may have something to send, the longest waiting first."""
        self._under_way = 0
        self._progressed: dict[AttemptKey, _Tail] = {}

    def follow(self, key: AttemptKey, path: str) -> None:
        """Once per attempt; the file need not exist yet."""
        if key not in self._tails:
            tail = self._tails[key] = _Tail(key, path)
            self._names[tail.name] = tail

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

    def rewind(self, stored: dict[AttemptKey, int]) -> None:
        """A new link: go on from what the server has, in bytes per attempt."""
        self._under_way = 0
        for key, tail in self._tails.items():
            tail.sent = tail.acknowledged = stored.get(key, 0)
            self._dirty[key] = tail

    def acknowledge(self, key: AttemptKey, size: int) -> None:
        tail = self._tails.get(key)
        if tail is not None and size > tail.acknowledged:
            self._under_way -= min(size, tail.sent) - tail.acknowledged
            tail.acknowledged = min(size, tail.sent)

    def pull(self, size: int) -> tuple[list[Output], list[tuple[AttemptKey, int]]]:
        """About `size` bytes to send, and who has been drained with them: (key, progress).

        Empty lists: nothing to send, or the window is full.
        """
        outputs: list[Output] = []
        drained: list[tuple[AttemptKey, int]] = []
        waiting = list(self._dirty.values())
        for tail in waiting:
            room = min(OUTPUT_WINDOW_BYTES - self._under_way, OUTPUT_CHUNK_BYTES_MAX, size)
            finished = tail.draining and _size(tail.path) <= tail.sent
            if room <= 0 and not finished:
                continue
            data = b"" if finished else self._read(tail, room)
            # Taken out and, if there may be more, put in last: everybody gets a turn.
            del self._dirty[tail.key]
            if data:
                outputs.append(Output(*tail.key, tail.sent, data))
                size -= len(data)
                tail.sent += len(data)
                self._under_way += len(data)
                self._learn(tail, data)
            if not finished and len(data) == room:
                self._dirty[tail.key] = tail
            elif tail.draining:
                if tail.sent:
                    self._learn(tail, b"")
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
        self._under_way -= tail.sent - tail.acknowledged
        with contextlib.suppress(OSError):
            clear_output(tail.path)

    def close(self) -> None:
        for tail in self._tails.values():
            self._close(tail)

    def _read(self, tail: _Tail, room: int) -> bytes:
        try:
            if tail.file < 0:
                tail.file = os.open(tail.path, os.O_RDONLY)
            return os.pread(tail.file, room, tail.sent)
        except OSError:
            return b""

    def _learn(self, tail: _Tail, data: bytes) -> None:
        fresh = data[max(0, tail.read_to - (tail.sent - len(data))) :]
        tail.read_to = max(tail.read_to, tail.sent)
        if fresh or (tail.draining and not data):
            before = tail.progress.progress
            tail.progress.read(fresh, last=not data)
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
