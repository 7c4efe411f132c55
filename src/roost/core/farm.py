"""The farm: all live state in one object, and the one way to change it.

`Farm.handle(message, now)` takes a command, a report or a tick and answers with a reply and
effects; `take_changes()` hands out what has to be saved, merged over everything handled since.
The shell handles a batch, takes the changes, saves them, and only then answers and acts.

A command is refused (an exception of `roost.errors`) before anything has changed. A report is
never refused, except a joining node whose name is taken. Same messages, same moments: same
outcome, in any process. There is no clock, no I/O and no randomness here.

The handlers are in `jobs` (what people ask) and `nodes` (what machines report); this module has
the state, the steps they share, and the rules by which a job moves on.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from roost.core import groups, jobs, nodes, notes, resources
from roost.core import messages as m
from roost.core.board import Board
from roost.core.lifecycle import FINAL, INITIAL, ON_NODE, TRANSITIONS
from roost.core.matching import Need, NodeUse, need_of, rank_of
from roost.core.messages import (
    AttemptOrder,
    Changes,
    Effect,
    LiveRecords,
    Message,
    Outcome,
    SignalAction,
    SignalAttempt,
    StartAttempt,
)
from roost.core.placement import Floor
from roost.core.records import (
    PROGRESS_UNIT,
    Attempt,
    AttemptCause,
    AttemptKey,
    Condition,
    Event,
    Group,
    GroupId,
    Job,
    JobId,
    JobStatus,
    Moment,
    Node,
    NodeId,
    Resource,
    ResourceId,
)
from roost.core.tree import Tree

S = JobStatus
C = AttemptCause

RECALL_AFTER_MS = 1_000
"""An attempt that waits on its node for longer is taken back."""
CHILD_ERROR = "child error"
"""Purpose of an attempt that runs only the onChildError script."""


class Rules(Struct, frozen=True):
    """The farm's own settings; durations in milliseconds."""

    active_timeout_ms: int = 300_000
    """A node silent for this long is inactive and its jobs are abandoned (decision 32)."""
    requeue_after_gone_ms: int = 300_000
    """An abandoned job is run again this long after; 0 leaves it to people, as HQueue does."""


class Farm:
    """See the module's text. Attributes are for the handlers of this package and for reading."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.now = Moment(0)
        self.jobs: dict[JobId, Job] = {}
        self.tree = Tree(self.jobs)
        self.attempts: dict[AttemptKey, Attempt] = {}
        """Every attempt without an end, also those being stopped."""
        self.stopping: dict[JobId, set[int]] = {}
        """Attempts that still occupy a node although their job went on without them."""
        self.groups: dict[str, Group] = {}
        """By name, as conditions refer to them."""
        self.floor = Floor(self.groups)
        self.nodes = self.floor.nodes
        self.board = Board()
        self.node_names: dict[tuple[str, str], NodeId] = {}
        self.next_job_id = 1
        self.next_node_id = 1
        self._saved_next_node_id = 1
        self.next_group_id = 1
        self._saved_next_group_id = 1
        self.next_resource_id = 1
        self._saved_next_resource_id = 1
        self._deadlines: list[tuple[Moment, NodeId]] = []
        self._backlog: deque[tuple[Moment, AttemptKey]] = deque()
        """Attempts given to a node beyond its CPUs, and when they should have started."""
        self._unsettled: dict[JobId, None] = {}
        self._effects: list[Effect] = []
        self._changes = Changes()
        self._new_jobs: dict[JobId, None] = {}
        self._changed_nodes: dict[NodeId, None] = {}
        self._changed_attempts: dict[AttemptKey, Attempt] = {}
        self._changed_groups: dict[GroupId, Group] = {}
        self._changed_resources: dict[ResourceId, Resource] = {}
        self._finished_roots: dict[JobId, None] = {}

    # --- the contract ---------------------------------------------------------------------

    def handle(self, message: Message, now: Moment) -> Outcome:
        """Take one message in. Raises `Refused` (nothing changed) for what cannot be."""
        self.now = max(now, self.now)
        assert not self._effects
        try:
            reply = HANDLERS[type(message)](self, message)
            self._settle()
        except BaseException:
            self._effects = []
            raise
        effects, self._effects = self._effects, []
        return Outcome(reply, tuple(effects))

    def next_wakeup(self) -> Moment | None:
        """When to send the next `Tick` at the latest; None when nothing is due ever."""
        if self.floor.has_work or self._finished_roots:
            return self.now
        due = [self._deadlines[0][0]] if self._deadlines else []
        if self._backlog:
            due.append(self._backlog[0][0])
        return min(due, default=None)

    def take_changes(self) -> Changes:
        """What has to be saved since the last call: every record once, in its latest state."""
        changes, self._changes = self._changes, Changes()
        touched = dict(self.tree.touched)
        self.tree.touched.clear()
        rollup = self.tree.rollup
        for job_id in self._new_jobs:
            if (job := self.jobs.get(job_id)) is not None:
                changes.submitted.append((job, rollup(job)))
        for job_id in touched:
            if job_id not in self._new_jobs and (job := self.jobs.get(job_id)) is not None:
                changes.jobs.append((job, rollup(job)))
        if self._new_jobs:
            changes.next_job_id = self.next_job_id
        changes.attempts.extend(self._changed_attempts.values())
        changes.nodes.extend(self.nodes[node] for node in self._changed_nodes)
        if self.next_node_id != self._saved_next_node_id:
            changes.next_node_id = self._saved_next_node_id = self.next_node_id
        changes.groups.extend(self._changed_groups.values())
        if self.next_group_id != self._saved_next_group_id:
            changes.next_group_id = self._saved_next_group_id = self.next_group_id
        changes.resources.extend(self._changed_resources.values())
        if self.next_resource_id != self._saved_next_resource_id:
            changes.next_resource_id = self._saved_next_resource_id = self.next_resource_id
        self.board.hand_out(changes)
        self._new_jobs = {}
        self._changed_groups = {}
        self._changed_resources = {}
        self._changed_attempts = {}
        self._changed_nodes = {}
        self._evict_finished()
        return changes

    def load(self, records: LiveRecords) -> None:
        """Fill an empty farm from the store; follow it with a `Restarted` message."""
        assert not self.jobs and not self.nodes
        self.next_job_id = records.next_job_id
        self.next_node_id = self._saved_next_node_id = records.next_node_id
        for node in records.nodes:
            self.nodes[node.id] = node
            self.floor.uses[node.id] = NodeUse()
            self.node_names[node.facts.key] = node.id
        self.next_group_id = self._saved_next_group_id = records.next_group_id
        self.groups.update((group.name, group) for group in records.groups)
        self.next_resource_id = self._saved_next_resource_id = records.next_resource_id
        self.floor.stock.resources.update((one.name, one) for one in records.resources)
        self.board.load(records)
        self.admit(records)

    def admit(self, records: LiveRecords) -> None:
        """Take whole linked sets of jobs into memory: at the start, or to revive finished ones."""
        fresh = [job for job in records.jobs if job.id not in self.jobs]
        for job in fresh:
            self.jobs[job.id] = job
        known = {job.id for job in fresh}
        for parent, child in records.edges:
            if parent in known and child in known:
                self.tree.link(parent, child)
        for attempt in records.attempts:
            job = self.jobs[attempt.job]
            self.attempts[attempt.key] = attempt
            if attempt.stopping:
                self.stopping.setdefault(job.id, set()).add(attempt.number)
            for node in attempt.nodes:
                self.floor.uses[node].occupy(attempt.key, self.need(job))
            self.floor.take(self.need(job), attempt.nodes)
        for job in fresh:
            self._update_assigned(job)
            if job.status is S.RUNNABLE:
                self._enqueue(job)
            if job.status in FINAL and not self.tree.parents.get(job.id):
                self._finished_roots[job.id] = None
            # It is as it was saved. What earlier messages of the batch changed stays to be saved.
            self.tree.touched.pop(job.id, None)

    def missing(self, ids: Iterable[JobId]) -> list[JobId]:
        """Which of these jobs are not in memory: finished ones, or unknown.

        A job deleted since the changes were last taken is still on disk, and must not come back.
        """
        gone = set(self._changes.deleted)
        return [job for job in ids if job not in self.jobs and job not in gone]

    # --- what handlers share --------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def log(self, job: JobId, status: str, message: str = "") -> None:
        """Append a line to the job's story."""
        self._changes.events.append(Event(job, self.now, status, message))

    def add_job(self, job: Job) -> None:
        """A new job; `requeue` it once its links are known, for its conditions may be inherited."""
        assert job.status in INITIAL and job.id not in self.jobs
        self.jobs[job.id] = job
        self._new_jobs[job.id] = None
        self.tree.touched[job.id] = None
        self.log(job.id, job.status.value)

    def add_edge(self, parent: JobId, child: JobId) -> None:
        self.tree.link(parent, child)
        self._changes.edges.append((parent, child))

    def update_job(self, job: Job, **fields: Any) -> Job:
        """Replace fields of a record, other than its status."""
        new = replace(job, **fields)
        self.jobs[job.id] = new
        self.tree.job_changed(job, new)
        return new

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
        self.tree.job_changed(job, new)
        self.log(job.id, status.value, message)
        if job.status is S.RUNNABLE:
            self.floor.withdraw(job.id)
        if status is S.RUNNABLE:
            self._enqueue(new)
        self._update_assigned(new)
        if status in FINAL:
            parents = self.tree.parents.get(job.id)
            if parents:
                self._unsettled.update(dict.fromkeys(parents))
            else:
                self._finished_roots[job.id] = None
        return new

    def forget_jobs(self, doomed: Iterable[JobId]) -> None:
        """Delete these jobs, with every edge that touches them."""
        gone = list(doomed)
        parents = {parent for job in gone for parent in self.tree.parents.get(job, ())}
        children = dict.fromkeys(child for job in gone for child in self.tree.children.get(job, ()))
        for parent, child in self.tree.remove(gone):
            self._changes.edges_removed.append((parent, child))
        for job in gone:
            del self.jobs[job]
            self._finished_roots.pop(job, None)
            self._changes.deleted.append(job)
            self.board.forget_job(job)
        for parent in sorted(parents.difference(gone)):
            self.unsettle(parent)
        self.requeue_below(children)

    def unsettle(self, job: JobId) -> None:
        """Have `_settle` look at a waiting job again before the message ends."""
        self._unsettled[job] = None

    def next_status(self, job: Job) -> JobStatus:
        """Where a job that is neither running nor paused belongs now (spec §4.4)."""
        if self.tree.has_open_children(job.id):
            return S.QUEUED
        if self.tree.has_failed_children(job.id):
            return S.RUNNABLE if job.spec.on_child_error else S.FAILED
        if job.command_outcome:
            return JobStatus(job.command_outcome)
        return S.RUNNABLE if job.spec.has_command else S.SUCCEEDED

    def move_on(self, job: Job, message: str = "", **fields: Any) -> Job:
        """Set the status that `next_status` finds for the job with these fields."""
        if fields:
            job = self.update_job(job, **fields)
        status = self.next_status(job)
        if status is S.FAILED and not message:
            message = self._children_failed_text(job) or "its command failed"
        return self.set_status(job, status, message)

    def _settle(self) -> None:
        """Waiting jobs whose children have changed move on; this may end their parents too.

        A runnable one does when the failed child that it was to report on has been deleted.
        """
        while self._unsettled:
            job_id = next(iter(self._unsettled))
            del self._unsettled[job_id]
            job = self.jobs.get(job_id)
            if job is None or job.status not in (S.QUEUED, S.RUNNABLE):
                continue
            if self.next_status(job) is not job.status:
                self.move_on(job)

    def _children_failed_text(self, job: Job) -> str:
        tally = self.tree.tallies.get(job.id)
        if tally is None or not tally.children_failed:
            return ""
        return f"{tally.children_failed} of its {len(self.tree.children[job.id])} children failed"

    def conditions(self, job: Job) -> tuple[Condition, ...]:
        """Those in force: its own, or else its root's (decision 13)."""
        if job.spec.conditions:
            return job.spec.conditions
        return self.jobs[self.tree.root_of(job.id)].spec.conditions

    def need(self, job: Job) -> Need:
        return need_of(job.spec, self.conditions(job))

    def _enqueue(self, job: Job) -> None:
        if job.id not in self.stopping:
            self.floor.enqueue(rank_of(job), self.need(job))

    def requeue(self, job: Job) -> None:
        """Its rank or need changed, or what kept it from the queue is gone."""
        if job.status is S.RUNNABLE:
            self.floor.withdraw(job.id)
            self._enqueue(job)

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

    def start_attempt(self, job_id: JobId, nodes: tuple[NodeId, ...]) -> None:
        """Placement found room: the job runs from now on."""
        job = self.jobs[job_id]
        purpose = CHILD_ERROR if self.tree.has_failed_children(job_id) else "command"
        number = job.attempt + 1
        attempt = Attempt(job_id, number, nodes, assigned_at=self.now, purpose=purpose)
        need = self.need(job)
        self.attempts[attempt.key] = attempt
        self._changed_attempts[attempt.key] = attempt
        for node in nodes:
            use = self.floor.uses[node]
            use.occupy(attempt.key, need)
            if use.cpus_busy > self.nodes[node].facts.cpus:
                self._backlog.append((Moment(self.now + RECALL_AFTER_MS), attempt.key))
        self.floor.take(need, nodes)
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
        for ancestor_id in self.tree.ancestors(job_id):
            ancestor = self.jobs[ancestor_id]
            if ancestor.started_at is None:
                self.update_job(ancestor, started_at=self.now)
        self.emit(StartAttempt(nodes[0], self.order(job, attempt)))

    def order(self, job: Job, attempt: Attempt) -> AttemptOrder:
        """What the attempt's first node is told; the same each time it is asked for."""
        spec = job.spec
        command = spec.command
        if isinstance(command, dict):
            command = command[self.nodes[attempt.nodes[0]].facts.operating_system]
        hosts = ",".join(self.nodes[node].facts.hostname for node in attempt.nodes)
        environment = {
            "JOBID": str(job.id),
            "ROOTJOBID": str(self.tree.root_of(job.id)),
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
            on_cancel=spec.on_cancel,
            on_error=spec.on_error,
            on_success=spec.on_success,
            cleanup=spec.cleanup,
            last_try=job.tries_left == 0,
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
    ) -> Attempt:
        """The attempt no longer occupies anything; what becomes of the job is the caller's."""
        attempt = replace(
            self.attempts.pop(key), ended_at=self.now, cause=cause, exit_code=exit_code, text=text
        )
        self._changed_attempts[key] = attempt
        self.floor.give_back(self.floor.uses[attempt.nodes[0]].attempts[key], attempt.nodes)
        for node in attempt.nodes:
            self.floor.uses[node].vacate(key)
            self.floor.wake(node)
        if attempt.job in self.jobs:
            self._finished_roots[self.tree.root_of(attempt.job)] = None
        if attempt.stopping:
            numbers = self.stopping[attempt.job]
            numbers.discard(attempt.number)
            if not numbers:
                del self.stopping[attempt.job]
                if (job := self.jobs.get(attempt.job)) is not None:
                    self.requeue(job)
        return attempt

    def conclude(
        self,
        attempt: Attempt,
        cause: AttemptCause,
        exit_code: int | None = None,
        text: str = "",
        progress: int = 0,
    ) -> None:
        """An attempt is over: end it and move its job on (decisions 6, 9, 24, 30)."""
        ended = self.end_attempt(attempt.key, cause, exit_code, text)
        job = self.jobs.get(attempt.job)
        if job is None or job.attempt != ended.number or job.status in FINAL:
            return
        if attempt.stopping and job.status is not S.EJECTING:
            return
        job = self.update_job(
            job,
            command_ended_at=self.now if cause in (C.EXITED, C.TIME_LIMIT) else None,
            progress=max(job.progress, min(progress, PROGRESS_UNIT)),
        )
        if cause in (C.CANCELLED, C.TIME_LIMIT):
            reason = text or f"its {cause.value} was reached" if cause is C.TIME_LIMIT else text
            self.set_status(job, S.CANCELLED, reason)
        elif cause in (C.EJECTED, C.LOST, C.FENCED):
            if job.status is S.EJECTING:
                self.log(job.id, S.EJECTED.value)
            job = self.update_job(job, progress=0)
            if job.status is S.PAUSING:
                self.set_status(job, S.PAUSED)
            elif job.status is S.PAUSED:
                self._update_assigned(job)
            else:
                self.move_on(job, text or f"to run again: {cause.value}")
        elif attempt.purpose == CHILD_ERROR:
            if self.tree.has_open_children(job.id):
                self.move_on(job)
            else:
                self.set_status(job, S.FAILED, self._children_failed_text(job))
        elif cause is C.EXITED and exit_code == 0:
            self.move_on(job, command_outcome="succeeded", progress=PROGRESS_UNIT)
        elif job.tries_left > 0:
            tries_left = job.tries_left - 1
            message = f"{failure_text(exit_code, text)}; trying again, {tries_left} tries left"
            self.move_on(job, message, tries_left=tries_left)
        else:
            self.move_on(job, failure_text(exit_code, text), command_outcome="failed")

    def recall_backlog(self) -> None:
        """What a node was given ahead and could not start goes back to the queue: another node
        may have room by now. The node decides; what it has just started goes on."""
        while self._backlog and self._backlog[0][0] <= self.now:
            attempt = self.attempts.get(self._backlog.popleft()[1])
            if attempt is not None and attempt.started_at is None and not attempt.stopping:
                self.signal(attempt, "recall")

    # --- nodes ----------------------------------------------------------------------------

    def update_node(self, node: Node, *, saved: bool = True, **fields: Any) -> Node:
        """Replace fields of a node; `saved=False` for what may be a minute old on disk."""
        new = replace(node, **fields)
        self.nodes[node.id] = new
        if saved:
            self._changed_nodes[node.id] = None
        return new

    def watch(self, node: NodeId, at: Moment) -> None:
        """Look at a node again at that moment."""
        heapq.heappush(self._deadlines, (at, node))

    def due_nodes(self) -> list[NodeId]:
        """Nodes whose time to be looked at has come."""
        due = []
        while self._deadlines and self._deadlines[0][0] <= self.now:
            due.append(heapq.heappop(self._deadlines)[1])
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

    # --- memory ---------------------------------------------------------------------------

    def _evict_finished(self) -> None:
        """Trees that are over leave memory, once their last change has been handed out."""
        roots, self._finished_roots = self._finished_roots, {}
        for root in roots:
            if root not in self.jobs or self.tree.is_open(self.jobs[root]):
                continue
            members = self.tree.component(root)
            if any(
                self.jobs[job].status not in FINAL
                or job in self.stopping
                or (job, self.jobs[job].attempt) in self.attempts
                for job in members
            ):
                continue
            self.tree.remove(members)
            for job in members:
                del self.jobs[job]
        self.tree.touched.clear()


def failure_text(exit_code: int | None, text: str) -> str:
    """One phrase for how a command failed."""
    if text:
        return text
    if exit_code is not None and exit_code < 0:
        return f"its command was ended by signal {-exit_code}"
    return f"its command ended with exit status {exit_code}"


HANDLERS: dict[type, Callable[[Farm, Any], object]] = {
    m.SubmitJobs: jobs.on_submit_jobs,
    m.CancelJobs: jobs.on_cancel_jobs,
    m.PauseJobs: jobs.on_pause_jobs,
    m.ResumeJobs: jobs.on_resume_jobs,
    m.RescheduleJobs: jobs.on_reschedule_jobs,
    m.DeleteJobs: jobs.on_delete_jobs,
    m.EjectJobs: jobs.on_eject_jobs,
    m.SetPriority: jobs.on_set_priority,
    m.SetNodeDisabled: nodes.on_set_node_disabled,
    m.RemoveNode: nodes.on_remove_node,
    m.CreateGroup: groups.on_create_group,
    m.DeleteGroup: groups.on_delete_group,
    m.AddToGroup: groups.on_add_to_group,
    m.RemoveFromGroup: groups.on_remove_from_group,
    m.SetResource: resources.on_set_resource,
    m.RemoveResource: resources.on_remove_resource,
    m.AddNote: notes.on_add_note,
    m.RemoveNotes: notes.on_remove_notes,
    m.RemoveThreads: notes.on_remove_threads,
    m.NodeJoined: nodes.on_node_joined,
    m.NodeDisconnected: nodes.on_node_disconnected,
    m.NodeBeat: nodes.on_node_beat,
    m.NodeReported: nodes.on_node_reported,
    m.NodeLeft: nodes.on_node_left,
    m.Tick: nodes.on_tick,
    m.Restarted: nodes.on_restarted,
}
"""Who answers which message."""
