"""Records as people see them: words, marks, shares of a bar, and times as text.

Pure: no requests, no templates, no clock. The words are those of the API and of the docs
(`JobStatus`, `ui_status`); the marks are names in `static/marks.svg`, the tones are names of
colour tokens in `static/roost.css` (`--status-failed`).
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from roost.core.lifecycle import FAILED, FINAL
from roost.core.records import PROGRESS_UNIT, Attempt, AttemptCause, Job, JobStatus, Moment, Rollup
from roost.gateway import JobView, NodeView

S = JobStatus

TONES: dict[JobStatus, str] = {
    S.PAUSING: "paused",
    S.RESUMING: "paused",
    S.WAITING: "runnable",
    S.EJECTED: "ejecting",
}
"""Statuses that share the colour and mark of another one."""

SHOWN = (
    S.RUNNING,
    S.FAILED,
    S.RUNNABLE,
    S.QUEUED,
    S.PAUSED,
    S.ABANDONED,
    S.SUCCEEDED,
    S.CANCELLED,
    S.PAUSING,
    S.RESUMING,
    S.EJECTING,
)
"""Statuses that a job can have, in the order of their interest."""


NODE_TONES = {
    "available": "available",
    "running": "running",
    "draining": "draining",
    "disabled": "drained",
    "outside its hours": "resting",
    "offline": "offline",
}
"""For each of `gateway.NODE_STATES`."""


class Mark(Struct, frozen=True):
    """A status as word, shape and colour."""

    word: str
    tone: str
    detail: str = ""


class Segment(Struct, frozen=True):
    """A part of a bar, in thousandths of it."""

    tone: str
    start: int
    size: int


def tone(status: JobStatus) -> str:
    return TONES.get(status, status.value)


def job_mark(job: Job, rollup: Rollup) -> Mark:
    """What HQueue's page calls the status, with the mark of what it amounts to."""
    words = rollup.ui_status
    if words.startswith("running"):
        count = rollup.clients_assigned
        return Mark("running", "running", f"on {count} clients" if count > 1 else "")
    return Mark(words, tone(job.status))


def node_mark(view: NodeView) -> Mark:
    """Its state, with why its hours keep jobs away."""
    state = view.state
    detail = view.off_duty if state == "outside its hours" else ""
    return Mark(state, NODE_TONES[state], detail)


def segments(job: Job, rollup: Rollup) -> list[Segment]:
    """The bar of a job: done, failed, running, and what is left as its ground."""
    if rollup.tasks_total <= 1:
        own = "failed" if job.status in FAILED and job.status is not S.CANCELLED else "running"
        if job.status is S.SUCCEEDED:
            own = "succeeded"
        size = 1000 if job.status in FINAL else rollup.overall_progress * 1000 // PROGRESS_UNIT
        return [Segment(tone(S.CANCELLED) if job.status is S.CANCELLED else own, 0, size)]
    total = rollup.tasks_total
    done, failed = rollup.tasks_done, rollup.tasks_failed
    running = 0 if job.status in FINAL else min(rollup.clients_assigned, total - done - failed)
    spoilt = "cancelled" if job.status is S.CANCELLED else "failed"
    found, start = [], 0
    for name, count in (("succeeded", done), (spoilt, failed), ("running", running)):
        size = round(count * 1000 / total)
        if count and not size:
            size = 4  # a single failure among thousands is the very thing to be seen
        if size:
            found.append(Segment(name, start, min(size, 1000 - start)))
            start += size
    return found


def duration(ms: int | None) -> str:
    """`0:07`, `12:05`, `3:24:50`, `2d 04:10`; empty for None."""
    if ms is None:
        return ""
    seconds = max(ms, 0) // 1000
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    if hours:
        return f"{hours}:{minutes:02}:{left:02}"
    return f"{minutes}:{left:02}"


def about(ms: int | None) -> str:
    """`~40 s`, `~33 min`, `~4 h`, `~3 d`; empty for None."""
    if ms is None:
        return ""
    for unit, size, most in (("s", 1000, 60), ("min", 60_000, 90), ("h", 3_600_000, 48)):
        if ms <= most * size:
            return f"~{max(round(ms / size), 1)} {unit}"
    return f"~{round(ms / 86_400_000)} d"


def ago(at: Moment | None, now: Moment) -> str:
    """`just now`, `17 min ago`, `3 h ago`, `5 d ago`; `in` for what is to come; empty for None."""
    if at is None:
        return ""
    passed = now - at
    size = abs(passed)
    if size < 10_000:
        return "just now"
    text = about(size).removeprefix("~")
    return f"{text} ago" if passed > 0 else f"in {text}"


def iso(at: Moment | None) -> str:
    """In UTC, for machines; the browser shows it in the viewer's zone."""
    if at is None:
        return ""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds")


def run_time_ms(job: Job, now: Moment) -> int | None:
    """From its first start, or that of what is below it, until now or its end."""
    if job.started_at is None:
        return None
    return (job.ended_at or now) - job.started_at


def share(millionths: int) -> str:
    """`37 %`; never 100 before all is done."""
    return f"{millionths * 100 // PROGRESS_UNIT} %"


def count(number: int, cap: int | None = None) -> str:
    """`10,412`; `10,000+` when counting stopped there."""
    return f"{number:,}" + ("+" if cap is not None and number >= cap else "")


def counted(number: int, noun: str) -> str:
    """`1 job`, `10,412 jobs`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def size(bytes_: int) -> str:
    """`640 B`, `12.5 MB`."""
    if bytes_ < 1000:
        return f"{bytes_} B"
    amount = float(bytes_)
    for unit in ("KB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.5 or unit == "TB":
            return f"{amount:.1f} {unit}" if amount < 99.5 else f"{amount:.0f} {unit}"
    raise AssertionError


def memory(kilobytes: int) -> str:
    return f"{kilobytes / 1_048_576:.1f} GB" if kilobytes else ""


def memory_share(used_kb: int, all_kb: int) -> str:
    """`3.1 / 64.0 GB`."""
    return f"{used_kb / 1_048_576:.1f} / {memory(all_kb)}"


def gpus(names: tuple[str, ...]) -> str:
    """`2 × RTX A6000`, with commas between kinds; empty when there are none."""
    counted = {name: names.count(name) for name in names}
    return ", ".join(name if n == 1 else f"{n} × {name}" for name, n in counted.items())


def outcome(attempt: Attempt) -> str:
    """How an attempt ended: `exit code 1`, `signal 9`, `time limit`; empty while it lives."""
    if attempt.cause is None:
        return ""
    if attempt.exit_code is not None and attempt.cause.value == "exited":
        if attempt.exit_code < 0:
            return f"signal {-attempt.exit_code}"
        return f"exit code {attempt.exit_code}"
    return attempt.cause.value


def has_begun(attempt: Attempt) -> bool:
    """Not so when it was given to a node ahead of time and taken back: nothing was run then."""
    return attempt.started_at is not None or attempt.cause is AttemptCause.NOT_STARTED


def last_run(view: JobView) -> Attempt | None:
    """The latest attempt that is over."""
    return next((one for one in reversed(view.attempts) if one.ended_at is not None), None)


def is_failure(attempt: Attempt) -> bool:
    return attempt.cause is not None and (
        attempt.cause.value in ("not started", "lost", "time limit", "fenced")
        or bool(attempt.exit_code)
    )


def elapsed(attempt: Attempt, now: Moment) -> int | None:
    if attempt.started_at is None:
        return None
    return (attempt.ended_at or now) - attempt.started_at


def first_words(view: JobView, words_max: int = 140) -> str:
    """What the job waits for, short enough for a row."""
    text = view.waiting_for
    return text if len(text) <= words_max else text[: words_max - 1] + "…"
