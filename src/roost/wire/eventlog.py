r"""Jobs' stories in the text form of HTCondor's event logs, which its own tools read.

An event is a line that begins with its number, `(cluster.proc.subproc)` and a time, perhaps more
lines that begin with a tab, and `...` alone on the last (HTCondor's manual, "Job Event Log Codes").
What HTCondor has no event for is told by 008, the one for any text. Usage of CPU time and network
is not known here and stands as 0.

Pure: records in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from msgspec import Struct

from roost.wire.rest import JobAttempt, JobDetail, JobEvent

FIRST_LINE_BYTES_MAX = 1023
"""A reader takes so much of the line that an event begins with."""
HELD_BY_USER = "Code 1 Subcode 0"

_FINAL = ("succeeded", "failed", "cancelled")
_SILENT = ("pausing", "resuming", "ejecting", "ejected")
"""On the way to a status that is told."""
_LINE_ENDS = re.compile(r"[\r\n]+")
_NO_TIME = "Usr 0 00:00:00, Sys 0 00:00:00"


class Story(Struct, frozen=True):
    job: JobDetail
    cluster: int
    """The id of its root job."""
    labels: dict[int, str]
    """The labels of nodes, by their ids."""


def text(stories: Iterable[Story], submitted_at: str, clock: Callable[[int], str]) -> str:
    """The log of all of these jobs, in the order of time.

    `submitted_at` is the farm's address (`host:port`); `clock` writes a moment as
    `2026-05-01 13:37:00`, in local time, as readers expect it.
    """
    found: list[tuple[int, str]] = []
    for story in stories:
        proc = 0 if story.job.id == story.cluster else story.job.id
        for at, number, body in _Teller(story, submitted_at).events():
            first, *others = body.split("\n")
            first = f"{number:03} ({story.cluster:03}.{proc:03}.000) {clock(at)} {first}"
            found.append((at, "\n".join((_cut(first), *others, "...\n"))))
    found.sort(key=lambda event: event[0])  # equal moments stay in the order of the story
    return "".join(event for _, event in found)


class _Teller:
    """Goes through one story and remembers what a job was doing."""

    def __init__(self, story: Story, submitted_at: str) -> None:
        self._job = story.job
        self._labels = story.labels
        self._submitted_at = submitted_at
        self._starts = 0
        self._on_node = False
        self._suspended = False
        self._held = False
        self._before = ""

    def events(self) -> list[tuple[int, int, str]]:
        """Moment, number and text of each, without the head and the end."""
        told: list[tuple[int, int, str]] = []
        for event in self._job.events:
            if not told:
                told.append((event.at, 0, f"Job submitted from host: <{self._submitted_at}>"))
            told += [(event.at, number, body) for number, body in self._tell(event)]
        return told

    def _tell(self, event: JobEvent) -> list[tuple[int, str]]:
        status, message = event.status, _line(event.message)
        before = self._before
        match status:
            case "ulog":
                return [(8, message)]
            case "phase":
                return [(8, f"Job indicated transition to phase {message}")]
            case "attribute":
                return [(33, message)]
            case "running":
                self._before = status
                return self._running(before, message)
            case "paused":
                self._before = status
                return self._paused()
            case "queued" | "runnable":
                self._before = status
                return self._waiting(before, message)
            case "abandoned":
                self._before = status
                where = self._host()
                again = f"    Trying to reconnect to {where} <{where}>"
                why = f"Job disconnected, attempting to reconnect\n    {message or 'no answer'}"
                return [(22, f"{why}\n{again}")]
            case "succeeded" | "failed" | "cancelled":
                self._before = status
                return self._over(status, message)
            case _ if status in _SILENT:
                self._before = status
                return []
        return [(8, f"{status} {message}".strip())]

    def _running(self, before: str, message: str) -> list[tuple[int, str]]:
        if self._on_node and before == "abandoned":
            where = self._host()
            here = f"    startd address: <{where}>\n    starter address: <{where}>"
            return [(23, f"Job reconnected to {where}\n{here}")]
        if self._on_node:
            was_suspended, self._suspended = self._suspended, False
            return [(11, "Job was unsuspended.")] if was_suspended else []
        released = self._release("")
        self._on_node = True
        self._starts += 1
        return [*released, (1, f"Job executing on host: <{self._host()}>")]

    def _paused(self) -> list[tuple[int, str]]:
        if self._on_node:
            if self._suspended:
                return []
            self._suspended = True
            return [(10, "Job was suspended.\n\tNumber of processes actually suspended: 1")]
        self._held = True
        return [(12, f"Job was held.\n\tpaused\n\t{HELD_BY_USER}")]

    def _waiting(self, before: str, message: str) -> list[tuple[int, str]]:
        if self._on_node:
            self._leave()
            return [(4, self._evicted(message))]
        if before in _FINAL:
            return [(8, f"Job is to run again: {message}")]
        return self._release(message)

    def _over(self, status: str, message: str) -> list[tuple[int, str]]:
        released = self._release(message) if status != "cancelled" else []
        self._leave()
        if status == "cancelled":
            return [(9, f"Job was aborted.\n\t{message or 'cancelled'}")]
        attempt = self._attempt()
        if status == "failed" and attempt is not None and attempt.exit_code is None:
            return [*released, (9, f"Job was aborted.\n\t{message or 'failed'}")]
        code = attempt.exit_code if attempt is not None else int(status == "failed")
        if status == "failed" and not code:
            code = 1  # its children failed, whatever its own command said
        usage = "\n".join(
            f"\t\t{_NO_TIME}  -  {which} Usage"
            for which in ("Run Remote", "Run Local", "Total Remote", "Total Local")
        )
        sent = "\n".join(
            f"\t0  -  {which} By Job"
            for which in (
                "Run Bytes Sent",
                "Run Bytes Received",
                "Total Bytes Sent",
                "Total Bytes Received",
            )
        )
        return [*released, (5, f"Job terminated.\n{_termination(code or 0)}\n{usage}\n{sent}")]

    def _evicted(self, message: str) -> str:
        attempt = self._attempt()
        code = attempt.exit_code if attempt is not None and attempt.cause == "exited" else None
        what = "CPU times" if code is None else "Job terminated and was requeued"
        lines = [
            "Job was evicted.",
            f"\t(0) {what}",
            f"\t\t{_NO_TIME}  -  Run Remote Usage",
            f"\t\t{_NO_TIME}  -  Run Local Usage",
            "\t0  -  Run Bytes Sent By Job",
            "\t0  -  Run Bytes Received By Job",
        ]
        if code is not None:
            lines.append(_termination(code))
        if message:
            lines.append(f"\t{'Reason: ' if code is None else ''}{message}")
        return "\n".join(lines)

    def _release(self, message: str) -> list[tuple[int, str]]:
        was_held, self._held = self._held, False
        return [(13, f"Job was released.\n\t{message or 'resumed'}")] if was_held else []

    def _leave(self) -> None:
        self._on_node = self._suspended = self._held = False

    def _attempt(self) -> JobAttempt | None:
        """The one that was started last, so far in the story."""
        attempts = self._job.attempts[: self._starts]
        return attempts[-1] if attempts else None

    def _host(self) -> str:
        attempt = self._attempt()
        node = attempt.nodes[0] if attempt is not None and attempt.nodes else 0
        return self._labels.get(node, f"node{node}")


def _termination(code: int) -> str:
    if code < 0:
        return f"\t(0) Abnormal termination (signal {-code})\n\t(0) No core file"
    return f"\t(1) Normal termination (return value {code})"


def _line(text: str) -> str:
    return _LINE_ENDS.sub(" ", text).strip()


def _cut(line: str) -> str:
    return line.encode()[:FIRST_LINE_BYTES_MAX].decode(errors="ignore")
