"""Which line of an output log is where: lines by number, and which of them match a pattern.

A log is a list of `output.Piece`s, as large as they were when it was asked for. Files only grow,
so the newlines of a full chunk are counted once and remembered; a log of 200 MB is counted when
it is first opened, and after that a line is found by looking at one chunk. Lines are numbered
from 1 and separated by newlines only.

A line is what a terminal would be left with: of text that overwrites itself by carriage returns
(progress, mostly) the last. Of a long line the beginning is given. However large a log or a line
is, memory stays small. Patterns are run in `linesearch`, a process of its own, because Python's
regular expressions can take for ever, and hold up every thread while they do.

Everything here blocks, and may be called from any thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from roost.gateway import OutputLines, OutputMatches
from roost.store import linesearch
from roost.store.output import Piece, read_pieces

CHUNK_BYTES = 1 << 20
BLOCK_BYTES = 1 << 16
LINE_BYTES_MAX = 4096
"""What is given of a longer line."""
FILES_MAX = 256
"""Files whose counts are remembered; a count of 200 MB takes 2 KB."""
SEARCH_S_MAX = 2.5

ArrivedAt = Callable[[bytes | Path, Sequence[int]], list[int]]
"""Given a piece and offsets in it: when these bytes arrived, in seconds since 1970, or 0."""


class LineIndex:
    """Counts of newlines in the files that were asked for lately."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, _Counts] = OrderedDict()
        self._lock = threading.Lock()
        self._searches: set[subprocess.Popen[bytes]] = set()

    def read(
        self,
        pieces: Sequence[Piece],
        first: int,
        count: int,
        arrived_at: ArrivedAt | None = None,
    ) -> OutputLines:
        """At most `count` lines from number `first` on, or the last `-first` when it is negative.

        What lies outside of the log is left out. `arrived_at` tells when bytes of a piece came, if
        that is wanted for each line.
        """
        counts = [self._newlines(*piece) for piece in pieces]
        size = sum(size for _, size in pieces)
        is_open = size > 0 and read_pieces(pieces, size - 1, size) != b"\n"
        total = sum(counts) + is_open
        first = max(1, total + first + 1 if first < 0 else first)
        count = min(count, total - first + 1)
        texts: list[str] = []
        offsets: list[int] = []
        if count > 0:
            start = self._offset(pieces, counts, first)
            for offset, line in _lines(pieces, start, size):
                offsets.append(offset)
                texts.append(line)
                if len(texts) == count:
                    break
        times = _times(pieces, offsets, arrived_at) if arrived_at else []
        return OutputLines(first, texts, total, is_open, size, times=times)

    def search(
        self,
        pieces: Sequence[Piece],
        pattern: str,
        first: int,
        matches_max: int,
        seconds_max: float = SEARCH_S_MAX,
    ) -> OutputMatches:
        """Which lines from number `first` on match, as far as time and `matches_max` allow.

        The pattern must be one that `linesearch.compiled` takes.
        """
        counts = [self._newlines(*piece) for piece in pieces]
        start = self._offset(pieces, counts, first)
        parts = []
        for piece, size in pieces:
            if start < size:
                # Latin-1 has a character for each byte.
                text = piece.decode("latin-1") if isinstance(piece, bytes) else None
                parts.append([text, str(piece) if text is None else "", start, size])
            start = max(0, start - size)
        question = {"pattern": pattern, "parts": parts, "first": first, "matches_max": matches_max}
        answer = self._ask(json.dumps(question), seconds_max)
        numbers: list[int] = []
        searched_to = first - 1
        # The last line of a killed search may be cut short.
        for line in answer.split(b"\n")[:-1]:
            kind, _, number = line.partition(b" ")
            if kind == b"match":
                numbers.append(int(number))
            else:
                searched_to = int(number)
        return OutputMatches(numbers, searched_to)

    def stop_searches(self) -> None:
        """Have those that run end with what they have found."""
        for process in tuple(self._searches):
            process.kill()

    def _ask(self, question: str, seconds_max: float) -> bytes:
        """What a search has printed by the time it ended or was stopped."""
        with subprocess.Popen(
            [sys.executable, "-I", "-S", linesearch.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            self._searches.add(process)
            try:
                return process.communicate(question.encode(), seconds_max)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                return process.communicate()[0]
            finally:
                self._searches.discard(process)

    def _newlines(self, piece: bytes | Path, size: int) -> int:
        if isinstance(piece, bytes):
            return piece.count(b"\n", 0, size)
        return self._counts(piece).up_to(size)

    def _counts(self, path: Path) -> _Counts:
        with self._lock:
            counts = self._files.pop(path, None) or _Counts(path)
            self._files[path] = counts
            while len(self._files) > FILES_MAX:
                self._files.popitem(last=False)
            return counts

    def _offset(self, pieces: Sequence[Piece], counts: Sequence[int], line: int) -> int:
        """Where a line of the log begins; its end for one that it does not have."""
        offset, newlines = 0, line - 1
        for (piece, size), count in zip(pieces, counts, strict=True):
            if newlines == 0:
                return offset
            if newlines <= count:
                if isinstance(piece, bytes):
                    return offset + _after_newline(piece, newlines)
                return offset + self._counts(piece).after(newlines)
            newlines -= count
            offset += size
        return offset


class _Counts:
    """How many newlines there are in each full chunk of a file, and all before it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._sums: array[int] = array("Q")

    def up_to(self, size: int) -> int:
        """Newlines in the first `size` bytes."""
        full = size // CHUNK_BYTES
        # One thread counts, the others wait for what it finds.
        with self._lock:
            while len(self._sums) < full:
                before = self._sums[-1] if self._sums else 0
                self._sums.append(before + self._chunk(len(self._sums)).count(b"\n"))
        counted = self._sums[full - 1] if full else 0
        rest = size % CHUNK_BYTES
        return counted + (self._chunk(full).count(b"\n", 0, rest) if rest else 0)

    def after(self, newlines: int) -> int:
        """The offset just behind that many newlines; `up_to` has counted as many."""
        chunk = bisect_left(self._sums, newlines)
        before = self._sums[chunk - 1] if chunk else 0
        return chunk * CHUNK_BYTES + _after_newline(self._chunk(chunk), newlines - before)

    def _chunk(self, number: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(number * CHUNK_BYTES)
                return file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return b""  # deleted meanwhile


def last_lines(pieces: Sequence[Piece], bytes_max: int) -> list[str]:
    """The texts of the lines that begin in the last `bytes_max` bytes, as a `LineIndex` gives them;
    of a longer line its end. Nothing else of the log is read."""
    size = sum(size for _, size in pieces)
    start = max(0, size - bytes_max)
    found = [text for _, text in _lines(pieces, start, size)]
    is_whole = start == 0 or read_pieces(pieces, start - 1, start) == b"\n"
    return found if is_whole or len(found) <= 1 else found[1:]


def _after_newline(data: bytes, count: int) -> int:
    at = 0
    for _ in range(count):
        at = data.find(b"\n", at) + 1
    return at


def _times(pieces: Sequence[Piece], offsets: Sequence[int], arrived_at: ArrivedAt) -> list[int]:
    """When the lines that begin at these offsets of the log began to arrive."""
    times: list[int] = []
    before = 0
    for piece, size in pieces:
        own = offsets[len(times) : bisect_left(offsets, before + size)]
        times += arrived_at(piece, [offset - before for offset in own])
        before += size
    return times


def _lines(pieces: Sequence[Piece], start: int, stop: int) -> Iterator[tuple[int, str]]:
    """Where each line between two offsets begins, and its text; the first begins a line."""
    line = b""
    began = start
    while start < stop:
        block = read_pieces(pieces, start, min(start + BLOCK_BYTES, stop))
        if not block:
            return  # deleted meanwhile
        *ended, rest = block.split(b"\n")
        at = start
        for end in ended:
            yield began, _kept(line + end).rstrip(b"\r").decode("utf-8", "replace")
            at += len(end) + 1
            began = at
            line = b""
        start += len(block)
        line = _kept(line + rest)
    if line:
        yield began, line.rstrip(b"\r").decode("utf-8", "replace")


def _kept(line: bytes) -> bytes:
    """What is shown of a line, however much more of it may come."""
    # A carriage return at the end has not overwritten anything yet.
    overwritten = line.rfind(b"\r", 0, len(line.rstrip(b"\r")))
    return line[overwritten + 1 :][:LINE_BYTES_MAX]
