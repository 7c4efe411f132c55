"""The farm: all live state in one object, and the one way to change it.

`Farm.handle(message, now)` takes a command, a report or a tick and answers with a reply and
effects; `take_changes()` hands out what has to be saved, merged over everything handled since.
The shell handles a batch, takes the changes, saves them, and only then answers and acts.

A command is refused (an exception of `roost.errors`) before anything has changed. A report is
never refused, except a joining node whose name is taken. Same messages, same moments: same
outcome, in any process. There is no clock, no I/O and no randomness here.

The state and its steps are in `state`; the handlers in `jobs`, `groups`, `resources` and `notes`
(what people ask) and `nodes` (what machines report). This module leads a message to its handler,
and decides what is in memory: trees that are over leave it, and come back when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from roost.core import blackboard, groups, jobs, nodes, notes, resources
from roost.core import messages as m
from roost.core.attributes import fold
from roost.core.lifecycle import FINAL
from roost.core.matching import rank_of
from roost.core.messages import Changes, LiveRecords, Message, Outcome
from roost.core.records import JobId, JobStatus, Moment
from roost.core.state import PROGRESS_SAVED_EVERY_MS, State

S = JobStatus


class Farm(State):
    """See the module's text."""

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
        if self.floor.has_work or self._finished_roots or self._lines:
            return self.now
        due = [self._deadlines[0][0]] if self._deadlines else []
        if self._backlog:
            due.append(self._backlog[0][0])
        if self.tree.advanced:
            due.append(self._advanced_due)
        return min(due, default=None)

    def take_changes(self) -> Changes:
        """What has to be saved since the last call: every record once, in its latest state."""
        changes, self._changes = self._changes, Changes()
        self.tree.settle()
        touched = dict(self.tree.touched)
        self.tree.touched.clear()
        if self.tree.advanced and self.now >= self._advanced_due:
            touched.update(self.tree.advanced)
            self.tree.advanced.clear()
            self._advanced_due = Moment(self.now + PROGRESS_SAVED_EVERY_MS)
        rollup = self.tree.rollup
        for job_id in touched:
            if job_id not in self._new_jobs and (job := self.jobs.get(job_id)) is not None:
                changes.jobs.append((job, rollup(job)))
        if self._changed_specs:
            changes.specs.extend(
                (job_id, self.jobs[job_id].spec)
                for job_id in self._changed_specs
                if job_id in self.jobs and job_id not in self._new_jobs
            )
            self._changed_specs = {}
        if self._new_jobs:
            new = [job for job_id in self._new_jobs if (job := self.jobs.get(job_id)) is not None]
            changes.submitted.extend(self.tree.rollups(new))
            changes.next_job_id = self.next_job_id
            self._new_jobs = {}
        if self._changed_attempts:
            changes.attempts.extend(self._changed_attempts.values())
            self._changed_attempts = {}
        if self._changed_nodes:
            changes.nodes.extend(self.nodes[node] for node in self._changed_nodes)
            self._changed_nodes = {}
        if self.next_node_id != self._saved_next_node_id:
            changes.next_node_id = self._saved_next_node_id = self.next_node_id
        if self._changed_groups:
            changes.groups.extend(self._changed_groups.values())
            self._changed_groups = {}
        if self.next_group_id != self._saved_next_group_id:
            changes.next_group_id = self._saved_next_group_id = self.next_group_id
        if self._changed_resources:
            changes.resources.extend(self._changed_resources.values())
            self._changed_resources = {}
        if self.next_resource_id != self._saved_next_resource_id:
            changes.next_resource_id = self._saved_next_resource_id = self.next_resource_id
        self.board.hand_out(changes)
        if self._changed_attributes:
            changes.attributes.extend(self._changed_attributes.values())
            self._changed_attributes = {}
        self._evict_finished()
        return changes

    def load(self, records: LiveRecords) -> None:
        """Fill an empty farm from the store; follow it with a `Restarted` message."""
        assert not self.jobs and not self.nodes
        self.next_job_id = records.next_job_id
        self.next_node_id = self._saved_next_node_id = records.next_node_id
        for node in records.nodes:
            self.floor.set_node(node)
            self.node_names[node.facts.key] = node.id
        self.next_group_id = self._saved_next_group_id = records.next_group_id
        self.groups.update((group.name, group) for group in records.groups)
        self.next_resource_id = self._saved_next_resource_id = records.next_resource_id
        self.floor.stock.resources.update((one.name, one) for one in records.resources)
        self.next_notice_id = records.next_notice_id
        self.board.load(records)
        self.admit(records)

    def admit(self, records: LiveRecords) -> None:
        """Take whole linked sets of jobs into memory: at the start, or to revive finished ones."""
        fresh = [job for job in records.jobs if job.id not in self.jobs]
        known = {job.id: job for job in fresh}
        self.jobs.update(known)
        self.standing.update(job.status for job in fresh)
        self.tree.link_all(
            {job: children for job, children in records.children.items() if job in known},
            {job: parents for job, parents in records.parents.items() if job in known},
        )
        self._block_again(fresh)
        for attribute in records.attributes:
            if attribute.job in known:
                own = self.attributes.setdefault(attribute.job, {})
                own[fold(attribute.name)] = attribute
        for attempt in records.attempts:
            job = self.jobs[attempt.job]
            self.attempts[attempt.key] = attempt
            if attempt.stopping:
                self.stopping.setdefault(job.id, set()).add(attempt.number)
            self.floor.occupy(attempt.key, rank_of(job), self.need(job), attempt.nodes)
        for attempt in records.attempts:
            self._update_assigned(self.jobs[attempt.job])
        self.enqueue_all(fresh)
        parents = self.tree.parents
        self._finished_roots.update(
            (job.id, None) for job in fresh if job.status in FINAL and job.id not in parents
        )
        # They are as they were saved. What earlier messages of the batch changed stays to be saved.
        self.tree.settle()
        for job_id in known:
            self.tree.touched.pop(job_id, None)

    def missing(self, ids: Iterable[JobId]) -> list[JobId]:
        """Which of these jobs are not in memory: finished ones, or unknown.

        A job deleted since the changes were last taken is still on disk, and must not come back.
        """
        gone = set(self._changes.deleted)
        return [job for job in ids if job not in self.jobs and job not in gone]

    # --- memory ---------------------------------------------------------------------------

    def _evict_finished(self) -> None:
        """Trees that are over leave memory, once their last change has been handed out."""
        roots, self._finished_roots = self._finished_roots, {}
        for root in roots:
            if root not in self.jobs or self.tree.is_open(self.jobs[root]):
                continue
            if self._awaits_another(root):
                continue
            members = self.tree.component(root)
            if left := [job for job in members if not self.is_over(job)]:
                above = self.tree.parents
                self._awaited.update((job, left) for job in members if job not in above)
                continue
            self.tree.remove(members)
            for job in members:
                self.standing[self.jobs.pop(job).status] -= 1
                self.attributes.pop(job, None)
                self.floor.forgive(job)
                self._awaited.pop(job, None)
        self.tree.touched.clear()

    def _awaits_another(self, root: JobId) -> bool:
        """A job that its tree was found to wait for is still not over."""
        left = self._awaited.get(root, [])
        while left:
            if left[-1] in self.jobs and not self.is_over(left[-1]):
                return True
            left.pop()
        return False


HANDLERS: dict[type, Callable[[State, Any], object]] = {
    m.SubmitJobs: jobs.on_submit_jobs,
    m.CancelJobs: jobs.on_cancel_jobs,
    m.PauseJobs: jobs.on_pause_jobs,
    m.ResumeJobs: jobs.on_resume_jobs,
    m.RescheduleJobs: jobs.on_reschedule_jobs,
    m.DeleteJobs: jobs.on_delete_jobs,
    m.ExpireJobs: jobs.on_expire_jobs,
    m.EjectJobs: jobs.on_eject_jobs,
    m.SetPriority: jobs.on_set_priority,
    m.SetPriorities: jobs.on_set_priorities,
    m.SetConditions: jobs.on_set_conditions,
    m.SetBlockedWarning: jobs.on_set_blocked_warning,
    m.NoticesDone: lambda farm, command: farm.notices_done(command.ids),
    m.SetNodesDisabled: nodes.on_set_nodes_disabled,
    m.SetAvailability: nodes.on_set_availability,
    m.SetNodeDescription: nodes.on_set_node_description,
    m.RemoveNodes: nodes.on_remove_nodes,
    m.CreateGroup: groups.on_create_group,
    m.DeleteGroup: groups.on_delete_group,
    m.AddToGroup: groups.on_add_to_group,
    m.RemoveFromGroup: groups.on_remove_from_group,
    m.SetGroupNodes: groups.on_set_group_nodes,
    m.SetNodeGroups: groups.on_set_node_groups,
    m.SetResource: resources.on_set_resource,
    m.RemoveResource: resources.on_remove_resource,
    m.AddNote: notes.on_add_note,
    m.RemoveNotes: notes.on_remove_notes,
    m.RemoveThreads: notes.on_remove_threads,
    m.SetAttributes: blackboard.on_set_attributes,
    m.SetAttribute: blackboard.on_set_attribute,
    m.NodeJoined: nodes.on_node_joined,
    m.NodeDisconnected: nodes.on_node_disconnected,
    m.NodeBeat: nodes.on_node_beat,
    m.NodeReported: nodes.on_node_reported,
    m.NodeLeft: nodes.on_node_left,
    m.Tick: nodes.on_tick,
    m.Restarted: nodes.on_restarted,
}
"""Who answers which message."""
