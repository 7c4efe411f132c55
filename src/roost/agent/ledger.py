"""What a keeper has started, on disk: how the attempts of a killed keeper are found again.

A file of JSON lines, appended by the one keeper of the folder, read when the next one starts; a
line is a list of everything that was noted since the one before. A run is *begun* before its
process is spawned and *started* after it, so a crash leaves no process without a line. Ends are
appended before they are told to anybody. Nothing is synced: the ledger survives the death of
processes; that of the machine ends all runs anyway, which the boot id tells. A last line cut short
by a crash is ignored. When the file has grown well beyond what is remembered it is written afresh;
where the disk has no room for that, the old one goes on.

Standard library only. Knows lines and runs; neither processes nor agents.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path

REWRITE_BYTES_MIN = 4 * 1024 * 1024


class Run:
    """One process tree that was to be started: the command of an attempt, or one script of it."""

    __slots__ = (
        "at", "boot", "cpus", "ended_at", "frees", "mark", "name", "note", "output",
        "over", "pid", "status", "text",
    )  # fmt: skip

    def __init__(
        self, name: str, mark: str, output: str, note: str, boot: str, cpus: int, frees: bool
    ) -> None:
        self.name = name
        self.mark = mark
        """What all runs of one attempt share: `<job>.<number>`."""
        self.output = output
        self.note = note
        """Whatever the agent wants to be told again when it returns."""
        self.boot = boot
        self.cpus = cpus
        self.frees = frees
        """Whether its end frees the CPUs of the attempt."""
        self.pid = 0
        self.at = 0
        """When it was started, in milliseconds since 1970; 0 before."""
        self.over = False
        self.ended_at = 0
        self.status: int | None = None
        """As `subprocess` counts; None while it runs, when it never ran, or when it was lost."""
        self.text = ""
        """Why it never ran."""

    def as_record(self) -> dict[str, object]:
        """What an agent is told about it."""
        return {
            "name": self.name,
            "mark": self.mark,
            "note": self.note,
            "started_at": self.at,
            "over": self.over,
            "ended_at": self.ended_at,
            "status": self.status,
            "text": self.text,
        }


class Ledger:
    """`ledger.runs` is what the file said when it was opened, in the order of the starts."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` when the file can be neither read nor written."""
        self.path = path
        self.runs: dict[str, Run] = {}
        self._noted: list[str] = []
        self._pending = b""
        """What the disk did not take of the last line."""
        line = "\n"
        with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as file:
            for line in file:
                self._read(line)
        try:
            self._file = self._open(self.runs.values())
        except OSError:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._size = os.fstat(self._file).st_size
            self._rewrite_at = self._size + REWRITE_BYTES_MIN
            if not line.endswith("\n"):
                self._pending = b"\n"

    def close(self) -> None:
        os.close(self._file)

    def note(self, line: str) -> None:
        """One of what `begun`, `started`, `ended`, `noted` and `forgotten` give; then `save`."""
        self._noted.append(line)

    def save(self, remembered: Iterable[Run]) -> None:
        """Append what was noted since the last time. Raises `OSError`, then tries again later."""
        if self._noted:
            self._pending += _line(self._noted)
            self._noted.clear()
        if not self._pending:
            return
        written = os.write(self._file, self._pending)
        self._size += written
        self._pending = self._pending[written:]
        if self._pending:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if self._size > self._rewrite_at:
            old = self._file
            try:
                self._file = self._open(remembered)
            except OSError:
                self._rewrite_at = self._size + REWRITE_BYTES_MIN
            else:
                os.close(old)

    def _open(self, remembered: Iterable[Run]) -> int:
        """A fresh file with only what is remembered takes the place of the old one at once. Raises
        `OSError`, and then the old one is what it was."""
        fresh = self.path.with_suffix(".fresh")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            self._fill(file, remembered)
            fresh.replace(self.path)
        except OSError:
            os.close(file)
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        return file

    def _fill(self, file: int, remembered: Iterable[Run]) -> None:
        known = []
        for run in remembered:
            known.append(begun(run))
            if run.at:
                known.append(started(run))
            if run.over:
                known.append(ended(run))
        whole = _line(known)
        if os.write(file, whole) < len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._size = len(whole)
        self._rewrite_at = max(REWRITE_BYTES_MIN, 4 * self._size)

    def _read(self, line: str) -> None:
        try:
            for noted in json.loads(line):
                self._learn(noted)
        except (ValueError, TypeError):
            return  # cut short by a crash

    def _learn(self, noted: object) -> None:
        try:
            match noted:
                case [
                    "begun", str(name), str(mark), str(output), str(note), str(boot),
                    int(cpus), bool(frees),
                ]:  # fmt: skip
                    self.runs[name] = Run(name, mark, output, note, boot, cpus, frees)
                case ["started", str(name), int(pid), int(at)]:
                    run = self.runs[name]
                    run.pid, run.at = pid, at
                case ["ended", str(name), int() | None as status, int(at), str(text)]:
                    run = self.runs[name]
                    run.over, run.status, run.ended_at, run.text = True, status, at, text
                case ["noted", str(name), str(note)]:
                    self.runs[name].note = note
                case ["forgotten", str(name)]:
                    self.runs.pop(name, None)
        except KeyError:
            return  # about a run whose beginning was cut short: there is nothing to learn from it


_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


def encode(told: list[tuple[object, ...]]) -> bytes:
    """What is told an agent, as a line."""
    return _encode(told).encode() + b"\n"


def _line(noted: list[str]) -> bytes:
    return f"[{','.join(noted)}]\n".encode()


# What the ledger notes of a run. The encoder is quick for single texts, and slow for lists.


def begun(run: Run) -> str:
    texts = ",".join(map(_encode, (run.name, run.mark, run.output, run.note, run.boot)))
    return f'["begun",{texts},{run.cpus},{"true" if run.frees else "false"}]'


def started(run: Run) -> str:
    return f'["started",{_encode(run.name)},{run.pid},{run.at}]'


def ended(run: Run) -> str:
    status = "null" if run.status is None else run.status
    return f'["ended",{_encode(run.name)},{status},{run.ended_at},{_encode(run.text)}]'


def noted(run: Run) -> str:
    return f'["noted",{_encode(run.name)},{_encode(run.note)}]'


def forgotten(run: Run) -> str:
    return f'["forgotten",{_encode(run.name)}]'
