"""The state of a farm, and the steps by which it changes.

All live records, the indexes over them, what has changed since it was last saved, and what the
outside world is to be told. The steps here keep these together: whoever sets a status moves the
job in the queue, tells its parents and writes its story in one call. By which rules a job moves
on is here too; who asked for it is in the handlers (`jobs`, `nodes`, `groups`, `resources`), and
how they are reached is in `farm`. No clock, no I/O, no randomness.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roost.core import attributes, notices
from roost.core.attributes import ChirpRules
from roost.core.board import Board
from roost.core.lifecycle import FINAL, INITIAL, ON_NODE, TRANSITIONS
from roost.core.matching import Need, Rank, need_alike, need_of, need_of_stray, rank_of
from roost.core.messages import (
    AttemptOrder,
    Changes,
    ChirpOrder,
    Effect,
    SignalAction,
    SignalAttempt,
    StartAttempt,
)
from roost.core.notices import NoticeRules
from roost.core.placement import Floor
from roost.core.records import (
    PROGRESS_UNIT,
    Activity,
    Attempt,
    AttemptCause,
    AttemptKey,
    Attribute,
    AttributePoint,
    Event,
    Group,
    GroupId,
    Job,
    JobId,
    JobSpec,
    JobStatus,
    Moment,
    Node,
    NodeId,
    Notice,
    NoticeId,
    Resource,
    ResourceId,
)
from roost.core.tree import Tree

S = JobStatus
C = AttemptCause

PROGRESS_SAVED_EVERY_MS = 2_000
"""How old the progress on disk may be that comes with the beats of nodes."""
RECALL_AFTER_MS = 1_000
"""An attempt that waits on its node for longer is asked back if it is stuck there."""
CHILD_ERROR = "child error"
"""Purpose of an attempt that runs only the onChildError script."""


class Rules(Struct, frozen=True):
    """The farm's own settings; durations in milliseconds."""

    active_timeout_ms: int = 300_000
    """A node silent for this long is inactive and its jobs are abandoned (decision 32)."""
    requeue_after_gone_ms: int = 300_000
    """An abandoned job is run again this long after; 0 leaves it to people, as HQueue does."""
    max_failures_per_client: int = 0
    """A node where more runs of a tree failed gets no more of it; 0 never (decision 43)."""
    zone: tzinfo = UTC
    """By whose clocks availability rules go."""
    chirp: ChirpRules = ChirpRules()
    notices: NoticeRules = NoticeRules()
    submit_folder: str = ""
    """Where the server keeps a folder per root job, for jobs without a `submitDir`."""
    submit_roots: tuple[str, ...] = ()
    """Beneath these a `submitDir` may be."""
    expire_after_ms: int = 0
    """A tree of jobs may be deleted this long after its root ended; 0 never."""


class State:
    """See the module's text. Attributes are for the handlers and for reading."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self._usual_gates = attributes.gates({}, self.rules.chirp)
        """The gates of a job without attributes."""
        self.now = Moment(0)
        self.jobs: dict[JobId, Job] = {}
        self.standing: Counter[JobStatus] = Counter()
        """How many of them have each status."""
        self.tree = Tree(self.jobs)
        self.attempts: dict[AttemptKey, Attempt] = {}
        """Every attempt without an end, also those being stopped."""
        self.stopping: dict[JobId, set[int]] = {}
        """Attempts, and strays, that occupy a node although their job went on without them."""
        self.groups: dict[str, Group] = {}
        """By name, as conditions refer to them."""
        self.floor = Floor(self.groups)
        self.nodes = self.floor.nodes
        self.board = Board()
        self.attributes: dict[JobId, dict[str, Attribute]] = {}
        """By folded name: what was set since the job was submitted. Most jobs have no entry."""
        self.entries: dict[AttemptKey, int] = {}
        """How much live attempts have added to their jobs' stories. Most have no entry."""
        self.node_names: dict[tuple[str, str], NodeId] = {}
        self.next_job_id = 1
        self.next_node_id = 1
        self._saved_next_node_id = 1
        self.next_group_id = 1
        self._saved_next_group_id = 1
        self.next_resource_id = 1
        self._saved_next_resource_id = 1
        self.next_notice_id = 1
        self._deadlines: list[tuple[Moment, NodeId]] = []
        self._next_look: dict[NodeId, Moment] = {}
        """Which of the deadlines of a node counts: the earliest."""
        self._backlog: deque[tuple[Moment, AttemptKey]] = deque()
        """Attempts given to a node beyond its CPUs, and when they should have started."""
        self.overdue: dict[AttemptKey, bool] = {}
        """Those of which it should have told the start by now, and whether they were asked back."""
        self._lines: dict[NodeId, None] = {}
        """Nodes where more may be stuck than when they were last looked at."""
        self._unsettled: dict[JobId, None] = {}
        self._started: list[JobId] = []
        """Jobs above which everything has started as well, by the end of the message."""
        self._effects: list[Effect] = []
        self._changes = Changes()
        self._new_jobs: dict[JobId, None] = {}
        self._changed_specs: dict[JobId, None] = {}
        self._changed_nodes: dict[NodeId, None] = {}
        self._changed_attempts: dict[AttemptKey, Attempt] = {}
        self._changed_groups: dict[GroupId, Group] = {}
        self._changed_resources: dict[ResourceId, Resource] = {}
        self._changed_attributes: dict[tuple[JobId, str], Attribute] = {}
        self._finished_roots: dict[JobId, None] = {}
        self._awaited: dict[JobId, list[JobId]] = {}
        """By roots that have ended: jobs linked with them that were not over yet."""
        self._advanced_due = Moment(0)

    # --- what handlers share --------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def log(self, job: JobId, status: str, message: str = "") -> None:
        """Append a line to the job's story."""
        self._changes.events.append(Event(job, self.now, status, message))
        self.tell(job, status, message)

    def tell(self, job_id: JobId, reason: str, message: str = "") -> None:
        """Make a notice for everybody who is to be told this of the job."""
        rules = self.rules.notices
        job = self.jobs.get(job_id) if rules else None
        if job is None:
            return
        is_root = not self.tree.parents.get(job_id)
        for channel, target in notices.recipients(job, reason, rules, is_root=is_root):
            number = NoticeId(self.next_notice_id)
            self.next_notice_id += 1
            self._changes.notices.append(
                Notice(number, channel, target, job_id, job.spec.name, reason, self.now, message)
            )
            self._changes.next_notice_id = self.next_notice_id

    def notices_done(self, ids: Iterable[NoticeId]) -> None:
        self._changes.notices_done.extend(ids)

    def note(self, activity: Activity) -> None:
        """Keep what somebody did, together with what came of it."""
        self._changes.activities.append(activity)

    def add_jobs(self, jobs: Sequence[Job], edges: Sequence[tuple[JobId, JobId]]) -> None:
        """New jobs, and new (parent, child) pairs: each parent's in the order of its children,
        each child's in the order of its parents."""
        new = {job.id: job for job in jobs}
        assert self.jobs.keys().isdisjoint(new)
        self.jobs.update(new)
        for job in jobs:
            assert job.status in INITIAL
            self.standing[job.status] += 1
        self._new_jobs.update(dict.fromkeys(new))
        self.tree.link_pairs(edges)
        parents = self.tree.parents
        self._finished_roots.update(
            (job.id, None) for job in jobs if job.status in FINAL and job.id not in parents
        )
        self._changes.edges.extend(edges)
        now = self.now
        self._changes.events.extend([Event(job.id, now, job.status.value) for job in jobs])
        if self.rules.notices:
            for job in jobs:
                self.tell(job.id, job.status.value)
        self.enqueue_all(jobs)

    def update_job(self, job: Job, **fields: Any) -> Job:
        """Replace fields of a record, other than its status."""
        new = replace(job, **fields)
        self.jobs[job.id] = new
        self.tree.job_changed(job, new)
        return new

    def advance(self, job: Job, progress: int, *, at_once: bool = True) -> None:
        """Its command says how far it is, in millionths; it never goes back while it runs.

        `at_once=False` for what may be `PROGRESS_SAVED_EVERY_MS` old on disk: thousands of jobs
        that advance are then a few pages of the database together, and not one each.
        """
        if job.status not in FINAL and job.spec.has_command and progress > job.progress:
            new = replace(job, progress=min(progress, PROGRESS_UNIT))
            self.jobs[job.id] = new
            self.tree.job_changed(job, new, at_once=at_once)

    def update_spec(self, job: Job, spec: JobSpec) -> Job:
        """Replace a job's specification; `requeue_below` it when its need may have changed."""
        self._changed_specs[job.id] = None
        return self.update_job(job, spec=spec)

    def set_status(self, job: Job, status: JobStatus, message: str = "", **fields: Any) -> Job:
        """Move a job along `TRANSITIONS`; its parents are looked at before the message ends."""
        assert status in TRANSITIONS[job.status], f"job {job.id}: {job.status} -> {status}"
        if status is S.RUNNABLE:
            fields["runnable_at"] = self.now
        if status in FINAL:
            fields["ended_at"] = self.now
        elif job.ended_at is not None:
            fields["ended_at"] = None
        new = replace(job, status=status, **fields)
        self.jobs[job.id] = new
        self.standing[job.status] -= 1
        self.standing[status] += 1
        self.tree.job_changed(job, new)
        self.log(job.id, status.value, message)
        if job.status is S.RUNNABLE:
            self.floor.withdraw(job.id)
        if status is S.RUNNABLE:
            self.enqueue_all((new,))
        self._update_assigned(new)
        if status in FINAL:
            self._unsettled.update(dict.fromkeys(self.tree.parents.get(job.id, ())))
            root = self.tree.root_of(job.id)
            if self.jobs[root].status in FINAL:
                self._finished_roots[root] = None
        return new

    def is_over(self, job_id: JobId) -> bool:
        """Nothing of the job runs, and nothing will unless somebody asks."""
        job = self.jobs[job_id]
        return (
            job.status in FINAL
            and job_id not in self.stopping
            and (job_id, job.attempt) not in self.attempts
        )

    def forget_jobs(self, doomed: Iterable[JobId]) -> None:
        """Delete these jobs, with every edge that touches them."""
        gone = list(doomed)
        parents = {parent for job in gone for parent in self.tree.parents.get(job, ())}
        children = dict.fromkeys(child for job in gone for child in self.tree.children.get(job, ()))
        for parent, child in self.tree.remove(gone):
            self._changes.edges_removed.append((parent, child))
        for job in gone:
            self.standing[self.jobs.pop(job).status] -= 1
            self._finished_roots.pop(job, None)
            self.attributes.pop(job, None)
            self.floor.forgive(job)
            self._changes.deleted.append(job)
            self.board.forget_job(job)
        for parent in sorted(parents.difference(gone)):
            self.unsettle(parent)
        self.requeue_below(children)
        self._awaited.clear()
        for kept in (*parents, *children):
            if kept in self.jobs:
                self._finished_roots[self.tree.root_of(kept)] = None

    def unsettle(self, job: JobId) -> None:
        """Have `_settle` look at a waiting job again before the message ends."""
        self._unsettled[job] = None

    def next_status(self, job: Job, outcome: str) -> JobStatus:
        """Where a job that is neither running nor paused belongs now; `outcome` is that of its
        own command, see `Job.command_outcome`."""
        if self.tree.has_open_children(job.id):
            return S.QUEUED
        if self.tree.has_failed_children(job.id):
            return S.RUNNABLE if job.spec.on_child_error else S.FAILED
        if outcome:
            return JobStatus(outcome)
        return S.RUNNABLE if job.spec.has_command else S.SUCCEEDED

    def move_on(self, job: Job, message: str = "", **fields: Any) -> Job:
        """Set the status that `next_status` finds for the job with these fields; one that people
        have paused stays so until it is over."""
        status = self.next_status(job, fields.get("command_outcome", job.command_outcome))
        if status not in FINAL and job.status is S.PAUSED:
            job = self.update_job(job, **fields)
            self._update_assigned(job)
            self.log(job.id, "run ended", message)
            return job
        if status not in FINAL and job.status is S.PAUSING:
            status = S.PAUSED
        if status is S.FAILED and not message:
            message = self._children_failed_text(job) or "its command failed"
        return self.set_status(job, status, message, **fields)

    def _settle(self) -> None:
        """Waiting jobs whose children have changed move on; this may end their parents too.

        A runnable one does when the failed child that it was to report on has been deleted.
        """
        while self._unsettled:
            unsettled, self._unsettled = self._unsettled, {}
            for job_id in unsettled:
                job = self.jobs.get(job_id)
                if job is None or job.status not in (S.QUEUED, S.RUNNABLE):
                    continue
                if self.next_status(job, job.command_outcome) is not job.status:
                    self.move_on(job)
        if self._started:
            started, self._started = self._started, []
            for job_id in self.tree.with_ancestors(started):
                self.start_with_others(self.jobs[job_id], self.now)

    def _children_failed_text(self, job: Job) -> str:
        tally = self.tree.tallies.get(job.id)
        if tally is None or not tally.children_failed:
            return ""
        return f"{tally.children_failed} of its {len(self.tree.children[job.id])} children failed"

    def need(self, job: Job) -> Need:
        """What matters of a job for where it may run. It has its root's conditions if it has none
        of its own (decision 13)."""
        root = self.tree.root_of(job.id)
        wary = root if root in self.floor.blocked else None
        return need_of(job.spec, job.spec.conditions or self.jobs[root].spec.conditions, wary)

    def _block_again(self, jobs: Iterable[Job]) -> None:
        """Jobs have come into memory: block what was blocked for them."""
        if limit := self.rules.max_failures_per_client:
            for job in jobs:
                for node, count in job.failures:
                    if count > limit:
                        self.floor.block(job.id, node)

    def _count_failure(self, job: Job, node: NodeId) -> Job:
        """A run of the job failed on this node; its root keeps count."""
        root = self.jobs[self.tree.root_of(job.id)]
        counts = dict(root.failures)
        counts[node] = counts.get(node, 0) + 1
        root = self.update_job(root, failures=tuple(counts.items()))
        limit = self.rules.max_failures_per_client
        if limit and counts[node] == limit + 1:
            root = self.update_job(root, blocked_warning=True)
            label = self.nodes[node].facts.label
            self.log(root.id, "client blocked", f"{counts[node]} runs failed on {label}")
            is_first = root.id not in self.floor.blocked
            self.floor.block(root.id, node)
            if is_first:
                self.requeue_below((root.id,))
        return self.jobs[job.id]

    def enqueue_all(self, jobs: Iterable[Job]) -> None:
        """Those of them that may start; siblings that ask for the same are looked at once."""
        ranks: dict[Need, list[Rank]] = {}
        alike: list[Rank] = []
        last: Job | None = None
        parents = self.tree.parents
        for job in jobs:
            if job.status is not S.RUNNABLE or job.id in self.stopping:
                continue
            is_alike = (
                last is not None
                and job.id in parents
                and parents[job.id] == parents.get(last.id)
                and need_alike(job.spec, last.spec)
            )
            if not is_alike:
                alike = ranks.setdefault(self.need(job), [])
            alike.append(rank_of(job))
            last = job
        for need, of_kind in ranks.items():
            self.floor.enqueue(need, of_kind)

    def requeue(self, job: Job) -> None:
        """Its rank or need changed, or what kept it from the queue is gone."""
        if job.status is S.RUNNABLE:
            self.floor.withdraw(job.id)
            self.enqueue_all((job,))

    def requeue_below(self, ids: Iterable[JobId]) -> None:
        """These jobs got or lost a parent: they and those below may inherit other conditions."""
        for job_id in self.tree.with_descendants(ids):
            self.requeue(self.jobs[job_id])

    # --- attempts -------------------------------------------------------------------------

    def live_attempt(self, job: Job) -> Attempt | None:
        """The attempt that can still decide the job's fate, if there is one."""
        attempt = self.attempts.get((job.id, job.attempt))
        return attempt if attempt is not None and not attempt.stopping else None

    def _update_assigned(self, job: Job) -> None:
        occupies = (job.status in ON_NODE and job.status is not S.ABANDONED) or (
            job.status is S.PAUSED
        )
        attempt = self.attempts.get((job.id, job.attempt)) if occupies else None
        self.tree.set_assigned(job.id, attempt.nodes if attempt is not None else ())

    def start_attempt(
        self, job_id: JobId, rank: Rank, need: Need, nodes: tuple[NodeId, ...]
    ) -> None:
        """Placement found room: the job runs from now on."""
        job = self.jobs[job_id]
        purpose = CHILD_ERROR if self.tree.has_failed_children(job_id) else "command"
        number = job.attempt + 1
        attempt = Attempt(job_id, number, nodes, assigned_at=self.now, purpose=purpose)
        self.attempts[attempt.key] = attempt
        self._changed_attempts[attempt.key] = attempt
        self.floor.occupy(attempt.key, rank, need, nodes)
        if any(self.floor.free(node) < 0 for node in nodes):
            self._backlog.append((Moment(self.now + RECALL_AFTER_MS), attempt.key))
        seen = tuple(node for node in job.nodes if node not in nodes)
        names = ", ".join(self.nodes[node].facts.label for node in nodes)
        job = self.set_status(
            job,
            S.RUNNING,
            f"on {names}",
            attempt=number,
            nodes=seen + nodes,
            started_at=self.now if job.started_at is None else job.started_at,
            progress=0,
            command_started_at=None,
            command_ended_at=None,
        )
        self._started.append(job_id)
        self.emit(StartAttempt(nodes[0], self.order(job, attempt)))

    def start_with_others(self, job: Job, at: Moment) -> None:
        """A job below this one started at that moment. One without a command never runs itself:
        whoever wants to hear that it runs hears it when the first below it starts."""
        if job.started_at is None or job.started_at > at:
            self.update_job(job, started_at=at)
        if job.started_at is None and not job.spec.has_command:
            self.tell(job.id, S.RUNNING.value, "the first job beneath it has started")

    def order(self, job: Job, attempt: Attempt) -> AttemptOrder:
        """What the attempt's first node is told; the same each time it is asked for."""
        spec = job.spec
        command = spec.command
        if isinstance(command, dict):
            command = command[self.nodes[attempt.nodes[0]].facts.operating_system]
        hosts = ",".join(self.nodes[node].facts.hostname for node in attempt.nodes)
        root = self.tree.root_of(job.id)
        environment = {
            "JOBID": str(job.id),
            "ROOTJOBID": str(root),
            "HQHOSTS": hosts,
            **spec.environment,
        }
        if attempt.purpose == CHILD_ERROR:
            return AttemptOrder(
                job.id,
                attempt.number,
                spec.name,
                command="",
                environment=environment,
                shell=spec.shell,
                cwd=spec.cwd,
                cpus=spec.cpus,
                max_time_ms=spec.max_time_ms,
                on_cancel=spec.on_cancel,
                on_child_error=spec.on_child_error,
            )
        return AttemptOrder(
            job.id,
            attempt.number,
            spec.name,
            command=command,
            environment=environment,
            shell=spec.shell,
            cwd=spec.cwd,
            cpus=spec.cpus,
            max_time_ms=spec.max_time_ms,
            chirp=self.chirp_order(job, root),
            on_cancel=spec.on_cancel,
            on_error=spec.on_error,
            on_success=spec.on_success,
            cleanup=spec.cleanup,
            last_try=job.tries_left == 0,
        )

    def own_attributes(self, job: Job) -> dict[str, Attribute]:
        """Those it was submitted with and those set since, by folded name."""
        changed = self.attributes.get(job.id, {})
        return attributes.own(job.id, job.spec.attributes, job.queued_at, changed)

    def set_attribute(self, job: Job, name: str, text: str) -> None:
        """Write the text down as it is, and a point of its history if it is a number."""
        key = attributes.fold(name)
        known = self.attributes.setdefault(job.id, {})
        before = known.get(key)
        count = before.count if before else 0
        number = attributes.number_of(text)
        if number is not None:
            count += 1
            step = attributes.stride(count)
            if step != attributes.stride(count - 1):
                self._changes.strides.append((job.id, key, step))
            if (count - 1) % step == 0:
                point = AttributePoint(job.id, key, count - 1, self.now, float(number))
                self._changes.points.append(point)
        name = before.name if before else attributes.spelled(job.spec.attributes, name) or name
        attribute = Attribute(job.id, name, text, self.now, count)
        known[key] = self._changed_attributes[job.id, key] = attribute

    def chirp_order(self, job: Job, root: JobId) -> ChirpOrder | None:
        """What `job`, a job beneath `root`, may use of Chirp; None for nothing."""
        rules = self.rules.chirp
        own: dict[str, Attribute] = {}
        gates = self._usual_gates
        if job.spec.attributes or job.id in self.attributes:
            own = self.own_attributes(job)
            gates = attributes.gates(own, rules)
        if not gates:
            return None
        return ChirpOrder(
            gates,
            job.spec.submitted_by,
            job.spec.submit_dir,
            root,
            rules.delayed_prefix,
            attributes.wish(own, "WantVirtualRoot", False),
            rules.read_only,
            rules.umask,
        )

    def update_attempt(self, attempt: Attempt, **fields: Any) -> Attempt:
        new = replace(attempt, **fields)
        self.attempts[attempt.key] = new
        self._changed_attempts[attempt.key] = new
        return new

    def signal(self, attempt: Attempt, action: SignalAction) -> None:
        self.emit(SignalAttempt(attempt.nodes[0], attempt.job, attempt.number, action))

    def stop_attempt(self, attempt: Attempt, action: SignalAction) -> None:
        """Its job goes on without it; it keeps its room until the node says that it is over."""
        self.update_attempt(attempt, stopping=True)
        self.stopping.setdefault(attempt.job, set()).add(attempt.number)
        if self.nodes[attempt.nodes[0]].active:
            self.signal(attempt, action)
        else:
            self.end_attempt(attempt.key, C.FENCED, text="its node is gone")

    def end_attempt(
        self,
        key: AttemptKey,
        cause: AttemptCause,
        exit_code: int | None = None,
        text: str = "",
        started_at: Moment | None = None,
    ) -> Attempt:
        """The attempt no longer occupies anything; what becomes of the job is the caller's.
        `started_at` is for one whose start was not reported."""
        attempt = self.attempts.pop(key)
        attempt = replace(
            attempt,
            started_at=started_at or attempt.started_at,
            ended_at=self.now,
            cause=cause,
            exit_code=exit_code,
            text=text,
        )
        self._changed_attempts[key] = attempt
        self.entries.pop(key, None)
        self.overdue.pop(key, None)
        self.floor.vacate(key, attempt.nodes)
        if attempt.job in self.jobs:
            self._finished_roots[self.tree.root_of(attempt.job)] = None
        if attempt.stopping:
            self._has_stopped(key)
        return attempt

    def _has_stopped(self, key: AttemptKey) -> None:
        job_id, number = key
        self.stopping[job_id].discard(number)
        if not self.stopping[job_id]:
            del self.stopping[job_id]
            if (job := self.jobs.get(job_id)) is not None:
                self.requeue(job)

    def add_stray(self, node: NodeId, key: AttemptKey, cpus: int) -> None:
        """A node came back with an attempt that was given up. It keeps its room there until the
        node says that it is gone, or is lost again, and its job does not start before that. What it
        had of resources went to others when it was given up. Where another node told of it before,
        as an agent does that is started under another name, it is here now."""
        if key[1] in self.stopping.get(key[0], ()):
            earlier = next(one for one, use in self.floor.uses.items() if key in use.strays)
            self.remove_stray(earlier, key)
        job = self.jobs.get(key[0])
        need = need_of_stray(cpus) if job is None else replace(self.need(job), resources=())
        self.floor.add_stray(key, need, node)
        self.stopping.setdefault(key[0], set()).add(key[1])
        if job is not None:
            self.requeue(job)

    def remove_stray(self, node: NodeId, key: AttemptKey) -> None:
        self.floor.remove_stray(key, node)
        self._has_stopped(key)
        if key[0] in self.jobs:
            self._finished_roots[self.tree.root_of(key[0])] = None

    def remove_strays(self, node: NodeId) -> None:
        """Nobody knows any more what the node still has."""
        for key in list(self.floor.uses[node].strays):
            self.remove_stray(node, key)

    def cancel(self, ids: Sequence[JobId], message: str = "") -> None:
        """These jobs and all below them that are not over are cancelled at once, also when nobody
        but a time limit asks for it; what runs of them is stopped and keeps its room
        until then. The message is for the story of `ids`."""
        named = set(ids)
        for job_id in self.tree.with_descendants(ids):
            job = self.jobs[job_id]
            if job.status not in FINAL:
                attempt = self.live_attempt(job)
                self.set_status(job, S.CANCELLED, message if job_id in named else "")
                if attempt is not None:
                    self.stop_attempt(attempt, "cancel")

    def conclude(
        self,
        attempt: Attempt,
        cause: AttemptCause,
        exit_code: int | None = None,
        text: str = "",
        progress: int = 0,
        started_at: Moment | None = None,
    ) -> None:
        """An attempt is over: end it and move its job on (decisions 6, 9, 24, 30). `started_at` is
        for one whose start was not reported."""
        ended = self.end_attempt(attempt.key, cause, exit_code, text, started_at)
        job = self.jobs.get(attempt.job)
        if job is None or job.attempt != ended.number or job.status in FINAL:
            return
        if attempt.stopping and job.status is not S.EJECTING:
            return
        if cause is C.EXITED and exit_code == 0 and attempt.purpose != CHILD_ERROR:
            self.move_on(
                job,
                command_started_at=started_at or job.command_started_at,
                command_ended_at=self.now,
                command_outcome="succeeded",
                progress=PROGRESS_UNIT,
            )
            return
        job = self.update_job(
            job,
            command_started_at=started_at or job.command_started_at,
            command_ended_at=self.now if cause in (C.EXITED, C.TIME_LIMIT) else None,
            progress=max(job.progress, min(progress, PROGRESS_UNIT)),
        )
        failed = cause is C.NOT_STARTED or (cause is C.EXITED and exit_code != 0)
        if failed and attempt.purpose != CHILD_ERROR:
            job = self._count_failure(job, attempt.nodes[0])
        if cause in (C.CANCELLED, C.TIME_LIMIT):
            reason = text or f"its {cause.value} was reached" if cause is C.TIME_LIMIT else text
            self.set_status(job, S.CANCELLED, reason)
            self.cancel((job.id,))
        elif cause in (C.EJECTED, C.LOST, C.FENCED):
            if job.status is S.EJECTING:
                self.log(job.id, S.EJECTED.value)
            if ended.paused and job.status is S.ABANDONED:
                self.set_status(job, S.PAUSED, text, progress=0)
            else:
                self.move_on(job, text or f"to run again: {cause.value}", progress=0)
        elif attempt.purpose == CHILD_ERROR:
            if self.tree.has_open_children(job.id):
                self.move_on(job)
            else:
                self.set_status(job, S.FAILED, self._children_failed_text(job))
        elif job.tries_left > 0:
            tries_left = job.tries_left - 1
            message = f"{failure_text(exit_code, text)}; trying again, {tries_left} tries left"
            self.move_on(job, message, tries_left=tries_left)
        else:
            self.move_on(job, failure_text(exit_code, text), command_outcome="failed")

    def attempt_started(self, attempt: Attempt) -> None:
        """Its node says so. What waits there may be stuck behind it."""
        self.update_attempt(attempt, started_at=self.now)
        if self.overdue:
            self.overdue.pop(attempt.key, None)
            self._lines[attempt.nodes[0]] = None

    def expect_starts(self, node: NodeId) -> None:
        """Of what it may not have started yet: what was asked of it before may have been lost."""
        for attempt in self.attempts_on(node):
            if attempt.started_at is None:
                self.overdue.pop(attempt.key, None)
                self._backlog.append((Moment(self.now + RECALL_AFTER_MS), attempt.key))

    def recall_stuck(self, heard: Moment) -> None:
        """What was given to a node ahead and is stuck there goes back to the queue: another node
        may have room by now. The node decides; what it has just started goes on. What nodes have
        said was `heard` until that moment: a server that is late does not blame them for it."""
        while self._backlog and self._backlog[0][0] <= heard:
            attempt = self.attempts.get(self._backlog.popleft()[1])
            if attempt is not None and attempt.started_at is None:
                self.overdue.setdefault(attempt.key, False)
                self._lines[attempt.nodes[0]] = None
        lines, self._lines = self._lines, {}
        for node in lines:
            if node in self.floor.connected:
                self._recall_stuck_on(node)

    def _recall_stuck_on(self, node: NodeId) -> None:
        use = self.floor.uses[node]
        running = {key for key in use.attempts if self.attempts[key].started_at is not None}
        for key in self.floor.stuck(node, running):
            attempt = self.attempts[key]
            if self.overdue.get(key) is False and not attempt.stopping:
                self.overdue[key] = True
                self.signal(attempt, "recall")
                use.blocking |= running

    # --- nodes ----------------------------------------------------------------------------

    def update_node(self, node: Node, *, saved: bool = True, **fields: Any) -> Node:
        """Replace fields of a node; `saved=False` for what may be a minute old on disk."""
        new = replace(node, **fields)
        self.floor.set_node(new)
        if saved:
            self._changed_nodes[node.id] = None
        return new

    def watch(self, node: NodeId, at: Moment) -> None:
        """Look at a node again at that moment, or earlier: every look finds out about the next."""
        if node not in self._next_look or at < self._next_look[node]:
            self._next_look[node] = at
            heapq.heappush(self._deadlines, (at, node))

    def due_nodes(self) -> list[tuple[NodeId, Moment]]:
        """Nodes whose time to be looked at has come, and when it came."""
        due = []
        while self._deadlines and self._deadlines[0][0] <= self.now:
            at, node = heapq.heappop(self._deadlines)
            if self._next_look.get(node) == at:
                del self._next_look[node]
                due.append((node, at))
        return due

    def attempts_on(self, node: NodeId) -> list[Attempt]:
        """Live attempts whose command this node runs, oldest first."""
        keys = self.floor.uses[node].attempts
        return [attempt for key in keys if (attempt := self.attempts[key]).nodes[0] == node]

    # --- groups and resources --------------------------------------------------------------

    def set_group(self, group: Group) -> None:
        self.groups[group.name] = group
        self._changed_groups[group.id] = group

    def delete_group(self, group: Group) -> None:
        del self.groups[group.name]
        self._changed_groups.pop(group.id, None)
        self._changes.groups_deleted.append(group.id)

    def set_resource(self, resource: Resource) -> None:
        self.floor.stock.resources[resource.name] = resource
        self._changed_resources[resource.id] = resource

    def remove_resource(self, resource: Resource) -> None:
        del self.floor.stock.resources[resource.name]
        self._changed_resources.pop(resource.id, None)
        self._changes.resources_deleted.append(resource.id)


def failure_text(exit_code: int | None, text: str) -> str:
    """One phrase for how a command failed."""
    if text:
        return text
    if exit_code is not None and exit_code < 0:
        return f"its command was ended by signal {-exit_code}"
    return f"its command ended with exit status {exit_code}"
