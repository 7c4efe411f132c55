"""`Job`: one job of a farm, for scripts and notebooks.

A `Job` is an id and a snapshot. Its attributes tell where the job stood when it was last looked
at: by `refresh`, by `wait`, or when it came out of a listing. They do not change by themselves, so
that two of them fit together. What no look has told yet, such as the status of a job just
submitted, is looked up when it is first asked for, by a `refresh`. Methods ask the farm anew.

Always holds: two `Job`s are equal when they are the same job of the same farm, whatever they know
of it. Showing one (`repr`) asks nothing of the farm.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Literal, overload

from roost.core.records import JobStatus
from roost.errors import RoostError
from roost.remote import Remote
from roost.scripting import progress as shown
from roost.wire import rest

PAGE_JOBS = 1_000
TAIL_BYTES = 2_000
"""How much of its output a failure carries."""


class JobFailed(RoostError):
    """A job that was waited for did not succeed."""

    def __init__(self, job: Job, culprit: Job, output: str) -> None:
        self.job = job
        """The one that was waited for."""
        self.culprit = culprit
        """The one that failed: the job itself, or one beneath it."""
        self.output = output
        """The end of what the culprit wrote."""
        text = f"Job {job.id} ({job.name}) was {job.status}"
        if job.status == JobStatus.FAILED:
            where = "" if culprit == job else f" because of job {culprit.id} ({culprit.name})"
            code = "" if culprit.exit_code is None else f", exit code {culprit.exit_code}"
            text = f"Job {job.id} ({job.name}) failed{where}{code}"
        super().__init__(f"{text}. Its output ends with:\n{output}" if output else f"{text}.")


class NotFinished(RoostError, TimeoutError):
    """The time to wait was over before the jobs were; they go on."""

    def __init__(self, jobs: Sequence[Job], seconds: float) -> None:
        self.jobs = list(jobs)
        """Those that have not finished."""
        ids = ", ".join(str(job.id) for job in jobs[:5]) + (", …" if len(jobs) > 5 else "")
        many = f"Jobs {ids} have" if len(jobs) > 1 else f"Job {ids} has"
        super().__init__(f"{many} not finished after {seconds:g} seconds.")


class Job:
    """See the module's text. `Farm.submit`, `Farm.job` and `Farm.jobs` make them."""

    def __init__(
        self, remote: Remote, job_id: int, known: rest.JobChange | None = None, name: str = ""
    ) -> None:
        self._remote = remote
        self._id = job_id
        self._known = known
        self._name = known.name if isinstance(known, rest.JobSummary) else name

    # --- what it is -------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        return self._id

    @property
    def url(self) -> str:
        """Where programs find it over HTTP, as JSON."""
        return f"{self._remote.url}{rest.PREFIX}/jobs/{self._id}"

    @property
    def name(self) -> str:
        return self._name or self._summary().name

    @property
    def status(self) -> JobStatus:
        """One of HQueue's thirteen words; compares like text: `job.status == "succeeded"`."""
        return JobStatus(self._standing().status)

    @property
    def ui_status(self) -> str:
        """The status as people see it, with failures beneath it: `running (1 failed)`."""
        return self._standing().ui_status

    @property
    def finished(self) -> bool:
        """Succeeded, failed or cancelled."""
        return self._standing().finished

    @property
    def succeeded(self) -> bool:
        return self.status == JobStatus.SUCCEEDED

    @property
    def progress(self) -> float:
        """How much of it and of all beneath it is done, from 0 to 1."""
        return self._standing().overall_progress

    @property
    def tasks_total(self) -> int:
        """How many jobs with a command, or without children, it and all beneath it are."""
        return self._standing().tasks_total

    @property
    def tasks_done(self) -> int:
        return self._standing().tasks_done

    @property
    def tasks_failed(self) -> int:
        return self._standing().tasks_failed

    @property
    def priority(self) -> int:
        return self._summary().priority

    @property
    def submitted_by(self) -> str:
        return self._summary().submitted_by

    @property
    def submitted_at(self) -> datetime:
        """In UTC, as all moments are."""
        return _moment(self._summary().queued_at)

    @property
    def started_at(self) -> datetime | None:
        """When it or the first beneath it started."""
        at = self._summary().started_at
        return None if at is None else _moment(at)

    @property
    def ended_at(self) -> datetime | None:
        at = self._summary().ended_at
        return None if at is None else _moment(at)

    @property
    def spec(self) -> dict[str, Any]:
        """What was submitted, under HQueue's key names; it can be submitted again."""
        return dict(self._detail().spec)

    @property
    def attributes(self) -> dict[str, Any]:
        """What it was submitted with and what was set since, by the job itself or from outside.

        An expression that is no plain value is a dict, `{"expr": text}`.
        """
        return dict(self._detail().attributes)

    @property
    def attempts(self) -> list[rest.JobAttempt]:
        """Every run of its command, the latest last."""
        return list(self._detail().attempts)

    @property
    def exit_code(self) -> int | None:
        """Of the latest run that has ended; negative for a signal. None before, and without a
        command."""
        codes = [each.exit_code for each in self._detail().attempts if each.purpose == "command"]
        return next((code for code in reversed(codes) if code is not None), None)

    @property
    def waiting_for(self) -> str:
        """Why it did not run, as one text; empty when it did not wait. `why` asks anew."""
        return " ".join(reason.text for reason in self._detail().reasons)

    @property
    def nodes(self) -> list[str]:
        """The labels of the machines that run it or have run it, the latest last."""
        labels = _labels(self._remote) if self._summary().nodes else {}
        return [labels.get(node, f"node {node}") for node in self._summary().nodes]

    @property
    def parents(self) -> list[Job]:
        return [Job(self._remote, number) for number in self._detail().parents]

    @property
    def children(self) -> list[Job]:
        """Its children as they are now, in the order of their ids."""
        found = list(listed(self._remote, parent=self._id))
        return sorted(found, key=lambda job: job.id)

    # --- looking ----------------------------------------------------------------------------------

    def refresh(self) -> Job:
        """Look at the job now. Raises `errors.NotFound` when it has been deleted."""
        self._learn(self._remote.job(self._id))
        return self

    def wait(
        self,
        progress: bool | None = None,
        timeout: float | None = None,
        *,
        check: bool = False,
    ) -> Job:
        """Wait until the job has finished; returns the job itself, as it is then.

        `progress` shows how it goes on; None does so on a terminal and in a notebook. Stopped
        (Ctrl-C) or after `timeout` seconds the job goes on. Raises `NotFinished` after that time,
        `JobFailed` with `check` when the job did not succeed, `errors.NotFound` when somebody
        deleted it, `errors.Unreachable` when the farm has not answered for about two minutes.
        """
        wait_for(self._remote, [self], progress, timeout, check=check)
        return self

    @overload
    def output(self, follow: Literal[False] = False, *, last: int | None = None) -> str: ...
    @overload
    def output(self, follow: Literal[True]) -> Iterator[str]: ...
    @overload
    def output(self, follow: bool) -> str | Iterator[str]: ...
    def output(self, follow: bool = False, *, last: int | None = None) -> str | Iterator[str]:
        """What the job has written so far, all attempts in order; or its `last` bytes.

        With `follow` pieces of text as they come, beginning with the first, until the job has
        ended; a piece need not be a line. Bytes that are not UTF-8 are replaced.
        """
        if follow:
            return self._pieces()
        return self.output_bytes(last).decode("utf-8", "replace")

    def _pieces(self) -> Iterator[str]:
        # A character may be cut in two where one piece ends and the next begins.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for piece in self._remote.follow_output(self._id):
            if text := decoder.decode(piece):
                yield text
        if rest_of_it := decoder.decode(b"", final=True):
            yield rest_of_it

    def output_bytes(self, last: int | None = None) -> bytes:
        """What the job has written so far, byte for byte; or its `last` bytes."""
        return self._remote.output(self._id, last=last)

    def why(self) -> list[str]:
        """Why the job does not run, in the scheduler's own words; empty when it need not wait."""
        reasons = self._remote.reasons(self._id)
        labels = _labels(self._remote) if any(reason.nodes for reason in reasons) else {}
        texts = []
        for reason in reasons:
            names = ", ".join(labels.get(node, f"node {node}") for node in reason.nodes)
            texts.append(f"{reason.text} ({names})" if names else reason.text)
        return texts

    def events(self) -> list[rest.JobEvent]:
        """The job's story, oldest first; `at` is in milliseconds since 1970."""
        return self._remote.job(self._id).events

    def attribute_history(self, name: str) -> list[tuple[datetime, float]]:
        """When a numeric attribute had which value, oldest first; the case of its name does not
        matter. A long history is thinned evenly; the latest value is always there."""
        for each in self._remote.attributes(self._id):
            if each.name.lower() == name.lower():
                return [(_moment(at), value) for at, value in each.history]
        return []

    def notes(self) -> list[rest.NoteDetail]:
        """What people wrote about the job, oldest first."""
        return [note for thread in self._remote.notes(job=self._id) for note in thread.notes]

    # --- acting: the farm is told, the snapshot stays ---------------------------------------------

    def cancel(self) -> None:
        """Stop it and all beneath it."""
        self._remote.act("cancel", [self._id])

    def pause(self) -> None:
        """Halt what runs, hold what waits."""
        self._remote.act("pause", [self._id])

    def resume(self) -> None:
        self._remote.act("resume", [self._id])

    def reschedule(self, *, failed: bool = False) -> None:
        """Run it again once it has finished, and beneath it what has not succeeded.

        With `failed` only what failed, was cancelled or abandoned, of it and beneath it; also
        while the rest still runs.
        """
        self._remote.act("reschedule_failed" if failed else "reschedule", [self._id])

    def eject(self) -> None:
        """Take it off its machine, to run elsewhere."""
        self._remote.act("eject", [self._id])

    def delete(self) -> None:
        """Remove it once it has finished, with all beneath it and their output, for ever."""
        self._remote.act("delete", [self._id])

    def set_priority(self, priority: int) -> None:
        """Higher goes first. Raises `errors.Invalid` below 0."""
        self._remote.set_priority([self._id], priority)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set one of `attributes`. Raises `errors.Forbidden` for what tells about the job itself,
        `errors.Invalid` for what is no name or value."""
        self._remote.set_attributes(self._id, {name: value})

    def permit(self, nodes: Iterable[str] | None) -> None:
        """Let only these machines run it, named by their labels, or any of them (None)."""
        self._remote.set_permitted_nodes(self._id, nodes)

    def add_note(self, text: str) -> None:
        """Write something about the job, for people."""
        self._remote.add_note(text, job=self._id)

    # --- the snapshot -----------------------------------------------------------------------------

    def _learn(self, known: rest.JobChange) -> None:
        self._known = known
        if isinstance(known, rest.JobSummary):
            self._name = known.name

    def _standing(self) -> rest.JobChange:
        return self._detail() if self._known is None else self._known

    def _summary(self) -> rest.JobSummary:
        return self._known if isinstance(self._known, rest.JobSummary) else self._detail()

    def _detail(self) -> rest.JobDetail:
        if not isinstance(self._known, rest.JobDetail):
            self._learn(found := self._remote.job(self._id))
            return found
        return self._known

    # --- showing ----------------------------------------------------------------------------------

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        if self._known is None:
            return f"<Job {self._id}{name}>"
        return f"<Job {self._id}{name}: {self._known.ui_status}, {self.progress:.0%}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        rows = [("job", f"{self._id}  {self._name}")]
        if self._known is not None:
            rows += [("status", shown.standing(self._known)), ("done", f"{self.progress:.0%}")]
        if isinstance(self._known, rest.JobSummary):
            rows += [
                ("priority", str(self._known.priority)),
                ("submitted", f"{self.submitted_at:%Y-%m-%d %H:%M:%S} UTC {self.submitted_by}"),
            ]
        if isinstance(self._known, rest.JobDetail) and self._known.reasons:
            rows.append(("waits because", self.waiting_for))
        cells = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows
        )
        return f"<table>{cells}</table>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return (self._remote.url, self._id) == (other._remote.url, other._id)

    def __hash__(self) -> int:
        return hash((self._remote.url, self._id))


def listed(
    remote: Remote,
    *,
    statuses: Sequence[str] = (),
    roots_only: bool = False,
    parent: int | None = None,
    name_contains: str = "",
    submitted_by: str = "",
    limit: int | None = None,
) -> Iterator[Job]:
    """Jobs, newest first, fetched page by page as they are asked for; `limit` at most."""
    before: int | None = None
    left = limit
    while left is None or left > 0:
        page = remote.jobs(
            statuses=statuses,
            roots_only=roots_only,
            parent=parent,
            name_contains=name_contains,
            submitted_by=submitted_by,
            before=before,
            limit=PAGE_JOBS if left is None else min(left, PAGE_JOBS),
        )
        for summary in page.jobs:
            yield Job(remote, summary.id, summary)
        if page.next is None:
            return
        before = page.jobs[-1].id
        left = None if left is None else left - len(page.jobs)


def wait_for(
    remote: Remote,
    jobs: Sequence[Job],
    progress: bool | None,
    timeout: float | None,
    *,
    check: bool,
) -> None:
    """`Job.wait` for several jobs of one farm. Each learns how it ended."""
    ids = list(dict.fromkeys(job.id for job in jobs))
    last = shown.watch(remote.follow(ids, seconds=timeout), ids, progress) if ids else {}
    for job in jobs:
        if job.id in last:
            job._learn(last[job.id])
    if open_jobs := [job for job in jobs if job.id not in last or not last[job.id].finished]:
        for job in open_jobs:
            job.refresh()  # says so when it has been deleted
        if timeout is not None and (still := [job for job in open_jobs if not job.finished]):
            raise NotFinished(still, timeout)
    for job in jobs:
        if check and not job.succeeded:
            culprit = _culprit(remote, job)
            raise JobFailed(job, culprit, culprit.output(last=TAIL_BYTES))


def _culprit(remote: Remote, job: Job) -> Job:
    """The first failed job that lies deepest beneath this one, or the job itself."""
    while job.status == JobStatus.FAILED:
        failed = list(listed(remote, parent=job.id, statuses=[JobStatus.FAILED]))
        if not failed:
            break
        job = failed[-1]
    return job


def _labels(remote: Remote) -> dict[int, str]:
    return {node.id: node.label for node in remote.nodes()}


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
