"""What people ask of jobs: submit, cancel, pause, resume, reschedule, delete, eject.

One handler per command; which linked jobs an action reaches is decision 2. Actions
skip jobs in a state they do not apply to, and ids nobody knows (decisions 2, 3, 35, 36): callers
send overlapping lists of roots and children as a matter of course. Submitting refuses, and so
does what concerns one job only; they do it before anything has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from roost.core.jobspec import show
from roost.core.lifecycle import FAILED, FINAL, MOVABLE
from roost.core.messages import (
    CancelJobs,
    DeleteJobs,
    DeleteOutput,
    EjectJobs,
    ExpireJobs,
    NewJob,
    PauseJobs,
    RescheduleJobs,
    ResumeJobs,
    SetBlockedWarning,
    SetConditions,
    SetPriorities,
    SetPriority,
    SubmitJobs,
)
from roost.core.records import AttemptCause, Job, JobId, JobStatus
from roost.core.state import State
from roost.core.tree import find_cycle
from roost.errors import Conflict, Invalid, NotFound

S = JobStatus

CYCLE_SHOWN_MAX = 3
"""How many jobs of a cycle a refusal names."""


def on_submit_jobs(farm: State, command: SubmitJobs) -> list[JobId]:
    """All of the jobs or none. Raises `NotFound`, `Conflict` or `Invalid`, naming the job."""
    new_jobs = command.jobs
    linked: list[NewJob] = []
    """With known jobs."""
    with_children: set[int] = set()
    for new in new_jobs:
        if new.parent_ids or new.child_ids:
            _refuse_bad_links(farm, new)
            linked.append(new)
        if new.spec.submit_dir:
            _refuse_submit_folder(farm, new)
        with_children.update(new.parents)
    if linked or with_children:
        _refuse_cycles(farm, new_jobs)
    first, now = farm.next_job_id, farm.now
    farm.next_job_id += len(new_jobs)
    jobs: list[Job] = []
    edges: list[tuple[JobId, JobId]] = []
    last: NewJob | None = None
    parents: list[JobId] = []
    submitter = ""
    for index, new in enumerate(new_jobs):
        job_id, spec = JobId(first + index), new.spec
        if not (last and new.parents is last.parents and new.parent_ids is last.parent_ids):
            parents, submitter = [], ""
            if new.parents or new.parent_ids:
                parents = [*(JobId(first + parent) for parent in new.parents), *new.parent_ids]
                parents = [*dict.fromkeys(parents)]
                submitter = _submitter(parents, first, jobs, farm)
        last = new
        if submitter and not spec.submitted_by:
            spec = replace(spec, submitted_by=submitter)
        if index in with_children or new.child_ids:
            job = Job(job_id, spec, S.QUEUED, now, new.priority, new.tries_left)
            farm.unsettle(job_id)
        elif spec.command:
            job = Job(job_id, spec, S.RUNNABLE, now, new.priority, new.tries_left, runnable_at=now)
        else:
            job = Job(job_id, spec, S.SUCCEEDED, now, new.priority, new.tries_left, ended_at=now)
        jobs.append(job)
        if parents:
            edges += [(parent, job_id) for parent in parents]
        if new.child_ids:
            edges += [(job_id, child) for child in dict.fromkeys(new.child_ids)]
    farm.add_jobs(jobs, edges)
    if linked:
        for parent_id in dict.fromkeys(parent for new in linked for parent in new.parent_ids):
            _open_again(farm, parent_id)
            farm.unsettle(parent_id)
        farm.requeue_below(child for new in linked for child in new.child_ids)
        for job, new in zip(jobs, new_jobs, strict=True):
            if new.child_ids:
                _start_with_children(farm, job.id, new.child_ids)
    return [job.id for job in jobs]


def _start_with_children(farm: State, job_id: JobId, children: Iterable[JobId]) -> None:
    """A job above one that runs already has started; what had ended before it came is history."""
    begun = [job for job in map(farm.jobs.__getitem__, children) if job.status not in FINAL]
    starts = [job.started_at for job in begun if job.started_at is not None]
    if starts:
        for above in (job_id, *farm.tree.ancestors(job_id)):
            farm.start_with_others(farm.jobs[above], min(starts))


def _submitter(parents: Iterable[JobId], first: int, fresh: Sequence[Job], farm: State) -> str:
    """Of the first of these that has one: known jobs, or `fresh` ones, numbered from `first` on,
    as far as there are any yet."""
    for parent in parents:
        place = parent - first
        job = farm.jobs[parent] if place < 0 else fresh[place] if place < len(fresh) else None
        if job is not None and job.spec.submitted_by:
            return job.spec.submitted_by
    return ""


def _refuse_submit_folder(farm: State, new: NewJob) -> None:
    """Kept from what is certain to fail; links are seen when the folder is opened."""
    folder = new.spec.submit_dir
    roots = farm.rules.submit_roots
    if not any(f"{folder}/".startswith(f"{root.rstrip('/')}/") for root in roots):
        allowed = f"the farm allows {' and '.join(roots)}" if roots else "the farm allows none"
        raise Invalid(f"{new.where} has the submitDir {folder}: {allowed} (setting submit_roots).")


def _refuse_bad_links(farm: State, new: NewJob) -> None:
    for linked in (*new.parent_ids, *new.child_ids):
        if linked not in farm.jobs:
            raise NotFound(
                f"{new.where} names job {linked} as its "
                f"{'parent' if linked in new.parent_ids else 'child'}, and there is no such job."
            )
    for parent in new.parent_ids:
        if farm.jobs[parent].status is S.CANCELLED:
            raise Conflict(
                f"{new.where} cannot become a child of job {parent}, which is cancelled; "
                f"reschedule that job first."
            )


def _refuse_cycles(farm: State, new_jobs: tuple[NewJob, ...]) -> None:
    """New jobs are numbered -1, -2, … here, so that they cannot be mixed up with known ones."""
    if not any(
        new.child_ids or max(new.parents, default=-1) >= i for i, new in enumerate(new_jobs)
    ):
        return
    children: dict[int, list[int]] = {}
    for index, new in enumerate(new_jobs):
        me = -1 - index
        for parent in new.parents:
            children.setdefault(-1 - parent, []).append(me)
        for parent_id in new.parent_ids:
            children.setdefault(parent_id, []).append(me)
        children.setdefault(me, []).extend(new.child_ids)
    known = farm.tree.children
    merged = _Merged(children, known)
    cycle = find_cycle([-1 - index for index in range(len(new_jobs))], merged)
    if cycle is not None:
        first = max((-1 - member for member in cycle if member < 0), default=0)
        names = [
            show(new_jobs[-1 - member].spec.name) if member < 0 else f"job {member}"
            for member in cycle
        ]
        if len(names) > CYCLE_SHOWN_MAX:
            names[CYCLE_SHOWN_MAX - 1 : -1] = ["…"]
        way = " -> ".join(names)
        raise Invalid(f"{new_jobs[first].where} would be its own descendant: {way}.")


class _Merged(dict[int, list[int]]):
    """New edges laid over the known ones, without copying either."""

    def __init__(self, new: dict[int, list[int]], known: dict[JobId, list[JobId]]) -> None:
        super().__init__(new)
        self.known = known

    def get(self, key: int, default: object = None) -> list[int]:
        return [*super().get(key, ()), *self.known.get(JobId(key), ())]


def _open_again(farm: State, job_id: JobId) -> None:
    """The job has an open child: it waits for it, and so do the jobs above that were past it.

    A cancelled job is past it for good, and one that is running or paused asks when it is done.
    """
    waiting = [job_id]
    for one in waiting:
        job = farm.jobs[one]
        if not farm.tree.has_open_children(one):
            continue
        if job.status is S.RUNNABLE:
            farm.set_status(job, S.QUEUED, "waits for a child")
        elif job.status in (S.SUCCEEDED, S.FAILED):
            outcome = job.command_outcome or (job.status.value if job.attempt else "")
            farm.set_status(job, S.QUEUED, "waits for a child", command_outcome=outcome)
            waiting.extend(farm.tree.parents.get(one, ()))


def on_cancel_jobs(farm: State, command: CancelJobs) -> None:
    farm.cancel(command.ids)


def on_pause_jobs(farm: State, command: PauseJobs) -> ResumeJobs | None:
    changed: list[JobId] = []
    for job_id in _reached(farm, command):
        job = farm.jobs[job_id]
        if job.status in (S.RUNNABLE, S.QUEUED):
            farm.set_status(job, S.PAUSED)
        elif job.status in (S.RUNNING, S.RESUMING, S.EJECTING, S.ABANDONED):
            attempt = farm.live_attempt(job)
            assert attempt is not None
            if attempt.paused:
                continue
            attempt = farm.update_attempt(attempt, paused=True)
            if job.status is not S.ABANDONED:
                farm.set_status(job, S.PAUSING)
            if job.status in (S.RUNNING, S.RESUMING):
                farm.signal(attempt, "pause")  # what is ejected is paused when the node lets go
        else:
            continue
        changed.append(job_id)
    return ResumeJobs(tuple(changed), alone=True) if changed else None


def _reached(farm: State, command: PauseJobs | ResumeJobs) -> Iterable[JobId]:
    if command.alone:
        return [job for job in dict.fromkeys(command.ids) if job in farm.jobs]
    return farm.tree.with_descendants(command.ids)


def on_resume_jobs(farm: State, command: ResumeJobs) -> PauseJobs | None:
    changed: list[JobId] = []
    for job_id in _reached(farm, command):
        job = farm.jobs[job_id]
        attempt = farm.live_attempt(job)
        if job.status not in (S.PAUSED, S.PAUSING) and (attempt is None or not attempt.paused):
            continue
        changed.append(job_id)
        if attempt is not None:
            attempt = farm.update_attempt(attempt, paused=False)
            if job.status is not S.ABANDONED:
                farm.set_status(job, S.RESUMING)
                farm.signal(attempt, "resume")
        else:
            farm.set_status(job, S.QUEUED)
            farm.tell(job_id, "resumed")
            farm.unsettle(job_id)
    return PauseJobs(tuple(changed), alone=True) if changed else None


def on_reschedule_jobs(farm: State, command: RescheduleJobs) -> None:
    """Finished jobs, their finished ancestors, their failed descendants (decision 2)."""
    jobs = farm.jobs
    named = [job for job in command.ids if job in jobs and _may_reschedule(jobs[job])]
    again = dict.fromkeys(named)
    below = farm.tree.with_descendants(named)
    again.update(dict.fromkeys(job for job in below if jobs[job].status in FAILED))
    above = farm.tree.with_ancestors(again)
    again.update(dict.fromkeys(job for job in above if _may_reschedule(jobs[job])))
    forgiven: list[JobId] = []
    for job_id in again:
        job = farm.jobs[job_id]
        attempt = farm.live_attempt(job)
        if attempt is not None:
            farm.end_attempt(attempt.key, AttemptCause.FENCED, text="rescheduled by hand")
        if farm.floor.forgive(job_id):
            forgiven.append(job_id)
        farm.set_status(
            job,
            S.QUEUED,
            "rescheduled",
            progress=0,
            started_at=None,
            command_started_at=None,
            command_ended_at=None,
            command_outcome="",
            failures=(),
            blocked_warning=False,
        )
        farm.tell(job_id, "rescheduled")
        farm.unsettle(job_id)
    farm.requeue_below(forgiven)
    for job_id in again:
        for parent in farm.tree.parents.get(job_id, ()):
            _open_again(farm, parent)


def _may_reschedule(job: Job) -> bool:
    return job.status in FINAL or job.status is S.ABANDONED


def on_delete_jobs(farm: State, command: DeleteJobs) -> None:
    _delete(farm, command.ids)


def on_expire_jobs(farm: State, command: ExpireJobs) -> None:
    _delete(farm, list(_expired(farm, command.ids)))


def _expired(farm: State, ids: Iterable[JobId]) -> Iterator[JobId]:
    """Spec §4.4: finished → gone. Any job linked with them may still be asked about them."""
    is_over: dict[JobId, bool] = {}
    """Whether all jobs linked with this one are."""
    after = farm.rules.expire_after_ms
    for job_id in ids:
        job = farm.jobs.get(job_id)
        if job is None or job.ended_at is None or not after or farm.tree.parents.get(job_id):
            continue
        if job.ended_at + after > farm.now:
            continue
        if job_id not in is_over:
            linked = farm.tree.component(job_id)
            is_over.update(dict.fromkeys(linked, all(map(farm.is_over, linked))))
        if is_over[job_id]:
            yield job_id


def _delete(farm: State, ids: Sequence[JobId]) -> None:
    """A job below the deleted ones stays while it has a parent that stays (decision 2)."""
    doomed: dict[JobId, None] = {}
    kept_by: dict[JobId, int] = {}
    """How many parents of a job are not to be deleted."""
    waiting = [job for job in ids if job in farm.jobs]
    for job_id in waiting:
        if job_id in doomed or not _may_reschedule(farm.jobs[job_id]):
            continue
        doomed[job_id] = None
        for child in farm.tree.children.get(job_id, ()):
            kept_by[child] = kept_by.get(child, len(farm.tree.parents[child])) - 1
            if not kept_by[child]:
                waiting.append(child)
    for job_id in doomed:
        attempt = farm.live_attempt(farm.jobs[job_id])
        if attempt is not None:
            farm.end_attempt(attempt.key, AttemptCause.FENCED, text="its job was deleted")
    farm.forget_jobs(doomed)
    for job_id in doomed:
        farm.emit(DeleteOutput(job_id))


def on_eject_jobs(farm: State, command: EjectJobs) -> None:
    for job_id in farm.tree.with_descendants(command.ids):
        job = farm.jobs[job_id]
        attempt = farm.live_attempt(job)
        if attempt is not None and job.status in MOVABLE:
            attempt = farm.update_attempt(attempt, paused=False)
            farm.set_status(job, S.EJECTING)
            farm.signal(attempt, "eject")


def on_set_priority(farm: State, command: SetPriority) -> SetPriorities | None:
    wished = dict.fromkeys(command.ids, command.priority)
    return on_set_priorities(farm, SetPriorities(tuple(wished.items())))


def on_set_priorities(farm: State, command: SetPriorities) -> SetPriorities | None:
    before: list[tuple[JobId, int]] = []
    for job_id, priority in command.priorities:
        job = farm.jobs.get(job_id)
        if job is not None and job.priority != max(priority, 0):
            before.append((job_id, job.priority))
            change_priority(farm, job, priority)
    return SetPriorities(tuple(before)) if before else None


def change_priority(farm: State, job: Job, priority: int) -> None:
    """Below 0 means 0. Nothing is told of a priority that stays what it is."""
    priority = max(priority, 0)
    if priority == job.priority:
        return
    changed = farm.update_job(job, priority=priority)
    farm.log(job.id, "priority changed", f"from {job.priority} to {changed.priority}")
    farm.requeue(changed)


def on_set_conditions(farm: State, command: SetConditions) -> None:
    """Raises `NotFound`. Jobs beneath it that inherit its conditions follow. Where its runs failed
    is forgiven: who says which nodes may run a job has seen the blocked ones, and means these."""
    job = _known(farm, command.id)
    is_new = job.spec.conditions != command.conditions
    if is_new:
        job = farm.update_spec(job, replace(job.spec, conditions=command.conditions))
        farm.log(job.id, "conditions changed")
    if job.failures:
        farm.update_job(job, failures=(), blocked_warning=False)
    if farm.floor.forgive(job.id) or is_new:
        farm.requeue_below((job.id,))


def on_set_blocked_warning(farm: State, command: SetBlockedWarning) -> None:
    """Raises `NotFound`."""
    job = _known(farm, command.id)
    if job.blocked_warning != command.shown:
        farm.update_job(job, blocked_warning=command.shown)


def _known(farm: State, job_id: JobId) -> Job:
    job = farm.jobs.get(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}; it may have been deleted.")
    return job
