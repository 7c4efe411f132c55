"""When the bytes of an output arrived, by the second: for who reads a log with the clock in mind.

Beside the file `12345.2.log` there may be `12345.2.times`, pairs of an offset and a second: what
lies from that offset on, up to the next pair's, arrived then. At most one pair is added a second,
and only when there are new bytes. Output that came within one second, that of most jobs, needs
none: the file itself says when it was last written. So the clock costs a short job nothing.

Files that are older than this way of keeping time say nothing, hence `since`.
"""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

_PAIR = struct.Struct("<QI")


def times_file(log: Path) -> Path:
    return log.with_suffix(".times")


def note(log: Path, before: os.stat_result, now: float, since: int) -> None:
    """Bytes are about to be added to `log`, which is so `before`. Raises `OSError`."""
    second = int(now)
    if not before.st_size or second <= int(before.st_mtime):
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(times_file(log), flags, 0o640)
    try:
        pairs = _PAIR.pack(before.st_size, second)
        if not os.fstat(descriptor).st_size and before.st_mtime >= since:
            pairs = _PAIR.pack(0, int(before.st_mtime)) + pairs
        os.write(descriptor, pairs)
    finally:
        os.close(descriptor)


def note_ahead(log: Path, before: os.stat_result | None, offset: int, now: float) -> None:
    """Bytes have arrived from `offset` on in a log that others write to, which so does not tell
    when; `before`, it was so. Raises `OSError`."""
    second = int(now)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(times_file(log), flags, 0o640)
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            first = second if before is None or not before.st_size else int(before.st_mtime)
            place, latest = 0, first
            os.write(descriptor, _PAIR.pack(place, latest))
        else:
            place, latest = _PAIR.unpack(os.pread(descriptor, _PAIR.size, size - _PAIR.size))
        if latest < second and place < offset:  # what is said again has arrived before
            os.write(descriptor, _PAIR.pack(offset, second))
    finally:
        os.close(descriptor)


def seconds(log: Path, offsets: Sequence[int], since: int) -> list[int]:
    """When the bytes at these offsets arrived, in seconds since 1970; 0 where that is not known."""
    try:
        with times_file(log).open("rb") as file:
            return _looked_up(file.fileno(), offsets)
    except FileNotFoundError:
        pass
    try:
        written_at = log.stat().st_mtime
    except FileNotFoundError:
        return [0] * len(offsets)  # deleted meanwhile
    return [int(written_at) if written_at >= since else 0] * len(offsets)


def _looked_up(descriptor: int, offsets: Sequence[int]) -> list[int]:
    count = os.fstat(descriptor).st_size // _PAIR.size
    if not count:
        return [0] * len(offsets)
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as pairs:

        def pair(number: int) -> tuple[int, int]:
            return _PAIR.unpack_from(pairs, number * _PAIR.size)

        found = [bisect_right(range(count), at, key=lambda n: pair(n)[0]) - 1 for at in offsets]
        return [pair(number)[1] if number >= 0 else 0 for number in found]
