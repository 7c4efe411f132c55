"""The attributes of a job as it runs: what it reads, what it sets, what it adds to its story.

Every node of an attempt may set and read them, so parallel jobs have one blackboard. What a job
asks for is refused before anything has changed. What is reported of it, attributes set with delay
and lines for its story, is taken where it can be, and a line once, however often it is reported. A
job that is not in memory has no standard attributes here: readers of finished jobs have the store
(`queries`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from roost.core import attributes
from roost.core.attributes import PRIORITY, PROGRESS, STANDARD, fold
from roost.core.classad import format_value, parse_value, quote
from roost.core.jobs import change_priority
from roost.core.lifecycle import FINAL
from roost.core.messages import EntryReported, SetAttribute, SetAttributes
from roost.core.records import PROGRESS_UNIT, Attempt, Job, JobId, JobStatus, Moment, NodeId
from roost.core.state import State
from roost.errors import Conflict, NotFound, Refused, TooLarge

S = JobStatus

SHOWN_CHARACTERS_MAX = 200
"""How much of a value is shown in the story."""
ATTRIBUTE = "attribute"
"""The word of such an event in the story of a job."""

# --- reading ----------------------------------------------------------------------------------


def value_of(farm: State, job_id: JobId, name: str) -> str | None:
    """The text of an attribute, without regard to case; None if there is none.

    A job's own ones come first, then the standard ones, which are answered from the job. None for
    a job that is not in memory.
    """
    job = farm.jobs.get(job_id)
    if job is None:
        return None
    changed = farm.attributes.get(job_id)
    if changed and (attribute := changed.get(fold(name))) is not None:
        return attribute.text
    submitted = job.spec.attributes
    if submitted and (spelled := attributes.spelled(submitted, name)) is not None:
        return submitted[spelled]
    compute = _STANDARD.get(fold(name))
    return compute(farm, job) if compute else None


def all_of(farm: State, job_id: JobId) -> dict[str, str]:
    """Every attribute with a value, the job's own ones first."""
    job = farm.jobs.get(job_id)
    if job is None:
        return {}
    found = {one.name: one.text for one in farm.own_attributes(job).values()}
    for name in STANDARD:
        text = value_of(farm, job_id, name)
        if text is not None and attributes.spelled(found, name) is None:
            found[name] = text
    return found


def _status(farm: State, job: Job) -> str:
    """HTCondor's number."""
    if job.status in FINAL:
        return "3" if job.status is S.CANCELLED else "4"
    if job.status is S.PAUSED:
        return "5"
    return "1" if job.status in (S.QUEUED, S.RUNNABLE) else "2"


def _command(farm: State, job: Job) -> str:
    command = job.spec.command
    if isinstance(command, dict):
        attempt = farm.live_attempt(job)
        system = farm.nodes[attempt.nodes[0]].facts.operating_system if attempt else ""
        command = command.get(system) or next(iter(command.values()))
    return quote(command)


def _process(farm: State, job: Job) -> str:
    """0 for the root itself; else the job's id, which no other job of the tree has."""
    return "0" if farm.tree.root_of(job.id) == job.id else str(job.id)


def _folder(farm: State, job: Job) -> str | None:
    if job.spec.submit_dir:
        return quote(job.spec.submit_dir)
    folder = farm.rules.submit_folder
    return quote(f"{folder}/{farm.tree.root_of(job.id)}") if folder else None


def _host(farm: State, node: NodeId) -> str:
    return quote(farm.nodes[node].facts.label)


def _remote_host(farm: State, job: Job) -> str | None:
    attempt = farm.live_attempt(job)
    return _host(farm, attempt.nodes[0]) if attempt else None


def _last_remote_host(farm: State, job: Job) -> str | None:
    node = job.nodes[-1] if job.nodes else None
    return _host(farm, node) if node in farm.nodes and not farm.live_attempt(job) else None


def _current_hosts(farm: State, job: Job) -> str:
    attempt = farm.live_attempt(job)
    return str(len(attempt.nodes) if attempt else 0)


def _current_start(farm: State, job: Job) -> str | None:
    attempt = farm.live_attempt(job)
    return _seconds(attempt.assigned_at) if attempt else None


def _transferring(farm: State, job: Job) -> str:
    """Has the live attempt said so?"""
    attempt = farm.live_attempt(job)
    said = farm.attributes.get(job.id, {}).get(fold(attributes.TRANSFER_TIME))
    return "true" if attempt and said and said.at >= attempt.assigned_at else "false"


def _seconds(moment: Moment | None) -> str | None:
    return None if moment is None else str(moment // 1000)


_STANDARD: dict[str, Callable[[State, Job], str | None]] = {
    fold(name): compute
    for name, compute in {
        "ClusterId": lambda farm, job: str(farm.tree.root_of(job.id)),
        "ProcId": _process,
        "Owner": lambda farm, job: quote(job.spec.submitted_by),
        "Iwd": _folder,
        "Cmd": _command,
        "JobStatus": _status,
        PRIORITY: lambda farm, job: str(job.priority),
        "RequestCpus": lambda farm, job: str(job.spec.cpus),
        "MinHosts": lambda farm, job: str(job.spec.min_hosts),
        "MaxHosts": lambda farm, job: str(job.spec.max_hosts),
        "CurrentHosts": _current_hosts,
        "NumJobStarts": lambda farm, job: str(job.attempt),
        "RemoteHost": _remote_host,
        "LastRemoteHost": _last_remote_host,
        "QDate": lambda farm, job: _seconds(job.queued_at),
        "JobStartDate": lambda farm, job: _seconds(job.started_at),
        "JobCurrentStartDate": _current_start,
        "CompletionDate": lambda farm, job: _seconds(job.ended_at) or "0",
        "JobTransferringOutput": _transferring,
        PROGRESS: lambda farm, job: format_value(job.progress / PROGRESS_UNIT),
    }.items()
}
assert set(_STANDARD) == set(map(fold, STANDARD))


# --- setting ----------------------------------------------------------------------------------


def on_set_attribute(farm: State, command: SetAttribute) -> None:
    """See the command for what it raises."""
    job = _running(farm, command.node, command.job, command.number)
    checked = _checked(farm, job, {command.name: command.text})
    if fold(command.name) == fold(PRIORITY) and not _has_room(farm, job):
        # The story tells of every change of priority.
        raise TooLarge(
            f"This run of job {job.id} has told {attributes.ENTRIES_MAX} things already; "
            f"let it tell less."
        )
    if _set_all(farm, job, checked, is_told=_has_room(farm, job)):
        _count(farm, job)


def on_set_attributes(farm: State, command: SetAttributes) -> None:
    """Raises `NotFound`, `Forbidden`, `Invalid`, `TooLarge`."""
    job = farm.jobs.get(command.id)
    if job is None:
        raise NotFound(f"There is no job {command.id}; it may have been deleted.")
    _set_all(farm, job, _checked(farm, job, command.attributes), is_told=True)


def take_delayed(farm: State, attempt: Attempt, reported: Iterable[tuple[str, str]]) -> None:
    """Each for itself: a bad one is left out. As with HTCondor, the story does not tell."""
    job = farm.jobs.get(attempt.job)
    if job is None or job.attempt != attempt.number:
        return
    for name, text in reported:
        try:
            checked = _checked(farm, job, {name: text})
        except Refused:
            continue
        for name, text in checked.items():
            _set(farm, farm.jobs[job.id], name, text)


def _running(farm: State, node: NodeId, job_id: JobId, number: int) -> Job:
    """The job, if this attempt of it runs on this node. Raises `Conflict`."""
    attempt = farm.attempts.get((job_id, number))
    job = farm.jobs.get(job_id)
    if job is None or attempt is None or attempt.stopping or node not in attempt.nodes:
        raise Conflict(f"Run {number} of job {job_id} is over, or is not on this node.")
    return job


def _set_all(farm: State, job: Job, checked: dict[str, str], *, is_told: bool) -> bool:
    """Does the story tell of any?"""
    lines = 0
    for name, text in checked.items():
        before = value_of(farm, job.id, name)
        _set(farm, farm.jobs[job.id], name, text)
        if fold(name) == fold(PRIORITY):
            lines += 1
        elif is_told and (line := _change(name, before, text)):
            farm.log(job.id, ATTRIBUTE, line)
            lines += 1
    return lines > 0


def _checked(farm: State, job: Job, texts: dict[str, str]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, text in texts.items():
        attributes.check_name(name)
        checked[name] = attributes.checked_text(name, text)
    known = farm.attributes.get(job.id, {})
    if any(
        (before := known.get(fold(name))) is None or len(text.encode()) > len(before.text.encode())
        for name, text in checked.items()
    ):
        texts = {fold(name): text for name, text in job.spec.attributes.items()}
        texts |= {folded: attribute.text for folded, attribute in known.items()}
        texts |= {fold(name): text for name, text in checked.items()}
        attributes.check_room(texts)
    return checked


def _set(farm: State, job: Job, name: str, text: str) -> None:
    if fold(name) == fold(PRIORITY):
        priority = parse_value(text)
        assert isinstance(priority, int)
        change_priority(farm, job, priority)
        return
    farm.set_attribute(job, name, text)
    if fold(name) == fold(PROGRESS) and farm.live_attempt(job) is not None:
        share = attributes.number_of(text)
        assert share is not None
        farm.advance(job, round(share * PROGRESS_UNIT))


def _change(name: str, before: str | None, text: str) -> str:
    """As HTCondor's event 033 says it; empty for what is not told. Numbers that follow numbers are
    not: these are in the history of the attribute, and a loss curve would bury everything else in
    the story."""
    if before == text:
        return ""
    if before is None:
        return f"Setting job attribute {name} to {_cut(text)}"
    if attributes.number_of(before) is not None and attributes.number_of(text) is not None:
        return ""
    return f"Changing job attribute {name} from {_cut(before)} to {_cut(text)}"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


# --- the story --------------------------------------------------------------------------------


def take_entry(farm: State, attempt: Attempt, entry: EntryReported) -> None:
    """Left out are lines of an earlier run, those that are here, and those of a run that floods."""
    job = farm.jobs.get(attempt.job)
    if job is None or job.attempt != attempt.number or entry.entry <= attempt.last_entry:
        return
    if not _has_room(farm, job):
        return
    farm.update_attempt(attempt, last_entry=entry.entry)
    farm.log(job.id, entry.kind, entry.text)
    _count(farm, job)
    if entry.kind == "phase" and entry.text.lower() == "output":
        farm.set_attribute(job, attributes.TRANSFER_TIME, str(farm.now // 1000))


def _has_room(farm: State, job: Job) -> bool:
    return farm.entries.get((job.id, job.attempt), 0) < attributes.ENTRIES_MAX


def _count(farm: State, job: Job) -> None:
    key = (job.id, job.attempt)
    farm.entries[key] = farm.entries.get(key, 0) + 1
