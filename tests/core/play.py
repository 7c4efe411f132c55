"""`Play`: a farm and a moment, for tests that read as given, when, then.

Placement happens after every message, as the server does it at the end of a batch, and the
whole-state check runs each time. What would be saved is kept in `records`, `edges` and `events`,
and finished trees are brought back from there as the server brings them back from the store.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from roost.core import availability
from roost.core import messages as m
from roost.core.attributes import fold
from roost.core.explanation import explain
from roost.core.farm import Farm
from roost.core.invariants import check
from roost.core.jobspec import parse
from roost.core.records import (
    Attempt,
    AttemptCause,
    AttemptKey,
    Attribute,
    AttributePoint,
    Event,
    GroupId,
    Job,
    JobId,
    Moment,
    NodeFacts,
    NodeId,
    Notice,
    NoticeId,
    Rollup,
)
from roost.core.state import Rules

MINUTE = 60_000


class Play:
    """Drives one `Farm`. Jobs are named by id, nodes by name."""

    def __init__(self, **rules: Any) -> None:
        self.farm = Farm(Rules(**rules))
        self.now = Moment(1_000_000)
        self.node_ids: dict[str, NodeId] = {}
        self.effects: list[m.Effect] = []
        self._unseen: list[m.Effect] = []
        self.in_batch = False
        """More is to be handled before the farm places and saves."""
        self.started: list[tuple[JobId, int, str]] = []
        self.recalled: list[JobId] = []
        self.events: list[Event] = []
        self.records: dict[JobId, tuple[Job, Rollup]] = {}
        self.edges: list[tuple[JobId, JobId]] = []
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.attributes: dict[tuple[JobId, str], Attribute] = {}
        self.points: dict[tuple[JobId, str], list[AttributePoint]] = {}
        self.notices: dict[NoticeId, Notice] = {}
        """What is still to be told."""

    # --- when -----------------------------------------------------------------------------

    def send(self, message: m.Message) -> Any:
        """Handle a message, and place. Raises what the farm refuses with."""
        outcome = self.farm.handle(message, self.now)
        check(self.farm)
        self._unseen.extend(outcome.effects)
        if self.in_batch:
            return outcome.reply
        placed = self.farm.handle(m.Tick(), self.now)
        check(self.farm)
        changes = self.farm.take_changes()
        check(self.farm)
        self.events.extend(changes.events)
        self.notices.update((notice.id, notice) for notice in changes.notices)
        for done in changes.notices_done:
            del self.notices[done]
        for job, rollup in (*changes.submitted, *changes.jobs):
            self.records[job.id] = (job, rollup)
        self.attempts.update((attempt.key, attempt) for attempt in changes.attempts)
        for attribute in changes.attributes:
            self.attributes[attribute.job, fold(attribute.name)] = attribute
        for point in changes.points:
            self.points.setdefault((point.job, point.name), []).append(point)
        for owner, key, step in changes.strides:
            kept = self.points[owner, key]
            kept[:] = [point for point in kept if point.number % step == 0]
        self.edges.extend(changes.edges)
        for edge in changes.edges_removed:
            self.edges.remove(edge)
        for job_id in changes.deleted:
            self.records.pop(job_id, None)  # or it came and went in one batch
            self.attributes = {k: one for k, one in self.attributes.items() if k[0] != job_id}
        self._records_are_up_to_date()
        self._nothing_stays_that_is_over()
        self.effects, self._unseen = [*self._unseen, *placed.effects], []
        names = {node: name for name, node in self.node_ids.items()}
        for effect in self.effects:
            if isinstance(effect, m.StartAttempt):
                node = names.get(effect.node, str(effect.node))
                self.started.append((effect.order.job, effect.order.number, node))
            elif isinstance(effect, m.SignalAttempt) and effect.action == "recall":
                self.recalled.append(effect.job)
        return outcome.reply

    def _records_are_up_to_date(self) -> None:
        """But for progress, which may be late."""
        farm = self.farm
        for job in farm.jobs.values():
            if job.id not in farm.tree.advanced:
                saved = self.records[job.id]
                assert saved == (job, farm.tree.rollup(job)), f"job {job.id} is saved otherwise"
        for key, attempt in farm.attempts.items():
            assert self.attempts[key] == attempt, f"attempt {key} is saved otherwise"

    def _nothing_stays_that_is_over(self) -> None:
        farm = self.farm
        for job in farm.jobs:
            linked = farm.tree.component(job)
            assert not all(map(farm.is_over, linked)), f"job {job} is over and still in memory"

    def joins(self, host: str, cpus: int = 1, **facts: Any) -> NodeId:
        """The node's id. `held`: the (job, number, state) of each attempt that it has."""
        held = tuple(m.HeldAttempt(*one) for one in facts.pop("held", ()))
        facts = {"hostname": host, "installation": f"{host}-1", "cpus": cpus, **facts}
        # Jobs may be placed on it while it joins, so its id has to be known before.
        self.node_ids.setdefault(host, NodeId(self.farm.next_node_id))
        node: NodeId = self.send(m.NodeJoined(NodeFacts(**facts), held))
        self.node_ids[host] = node
        return node

    def disconnects(self, name: str) -> None:
        self.send(m.NodeDisconnected(self.node_ids[name]))

    def beats(self, name: str, *progress: tuple[JobId, int, int], idle: int = -1) -> None:
        self.send(m.NodeBeat(self.node_ids[name], idle_minutes=idle, progress=progress))

    def rules(self, name: str, *texts: str) -> None:
        """The node takes jobs by these availability rules from now on."""
        self.send(m.SetAvailability(self.node_ids[name], tuple(map(availability.parse, texts))))

    def submit(self, *specs: dict[str, Any], parent: int | None = None, **spec: Any) -> Any:
        """One id for keyword arguments, all ids for dicts."""
        if specs:
            return self.send(parse(list(specs), parent))
        return self.send(parse({"name": "job", "command": "true", **spec}, parent))[0]

    def cancel(self, *ids: int) -> None:
        self.send(m.CancelJobs(tuple(map(JobId, ids))))

    def pause(self, *ids: int) -> None:
        self.send(m.PauseJobs(tuple(map(JobId, ids))))

    def resume(self, *ids: int) -> None:
        self.send(m.ResumeJobs(tuple(map(JobId, ids))))

    def reschedule(self, *ids: int) -> None:
        self.revive(*ids)
        self.send(m.RescheduleJobs(tuple(map(JobId, ids))))

    def delete(self, *ids: int) -> None:
        self.revive(*ids)
        self.send(m.DeleteJobs(tuple(map(JobId, ids))))

    def eject(self, *ids: int) -> None:
        self.send(m.EjectJobs(tuple(map(JobId, ids))))

    def sets(self, job: JobId, name: str, text: str, node: str = "") -> None:
        """The latest attempt sets an attribute of its job."""
        node = node or self.nodes_of(job)[-1]
        number = self._number(job)
        self.send(m.SetAttribute(self.node_ids[node], job, number, name, text))

    def set_priority(self, job: int, priority: int) -> None:
        self.revive(job)
        self.send(m.SetPriority((JobId(job),), priority))

    def groups(self, name: str, *nodes: str) -> GroupId:
        """A new group with these members."""
        group: GroupId = self.send(m.CreateGroup(name))
        self.send(m.AddToGroup(group, tuple(self.node_ids[node] for node in nodes)))
        return group

    def resource(self, name: str, maximum: int | None, *, per_machine: bool = False) -> None:
        self.send(m.SetResource(name, maximum, per_machine))

    def in_use(self, name: str) -> int:
        stock = self.farm.floor.stock
        return stock.in_use(name, stock.resources[name].per_machine)

    def revive(self, *ids: int) -> None:
        """Bring back what has left memory: whole linked sets of jobs."""
        linked: dict[JobId, list[JobId]] = {}
        for parent, child in self.edges:
            linked.setdefault(parent, []).append(child)
            linked.setdefault(child, []).append(parent)
        waiting = [job for job in self.farm.missing(map(JobId, ids)) if job in self.records]
        members: dict[JobId, None] = {}
        for job in waiting:
            if job not in members:
                members[job] = None
                waiting.extend(linked.get(job, ()))
        jobs = [self.records[job][0] for job in sorted(members)]
        attributes = list(self.attributes.values())
        self.farm.admit(m.LiveRecords(jobs, *self._links(members), attributes=attributes))

    def _links(
        self, members: Container[JobId]
    ) -> tuple[dict[JobId, list[JobId]], dict[JobId, tuple[JobId, ...]]]:
        """The children of each, and the parents of each that has several."""
        children: dict[JobId, list[JobId]] = {}
        parents: dict[JobId, tuple[JobId, ...]] = {}
        for parent, child in self.edges:
            if parent in members:
                children.setdefault(parent, []).append(child)
                parents[child] = (*parents.get(child, ()), parent)
        return children, {job: above for job, above in parents.items() if len(above) > 1}

    def reports(self, node: str, report: m.AttemptReport) -> None:
        self.send(m.NodeReported(self.node_ids[node], report))

    def starts(self, job: JobId) -> None:
        """The node says that the latest attempt's process has started."""
        self.reports(self.nodes_of(job)[-1], m.AttemptStarted(job, self._number(job)))

    def pauses(self, job: JobId) -> None:
        self.reports(self.nodes_of(job)[-1], m.AttemptPaused(job, self._number(job)))

    def resumes(self, job: JobId) -> None:
        self.reports(self.nodes_of(job)[-1], m.AttemptResumed(job, self._number(job)))

    def ends(
        self,
        job: JobId,
        exit_code: int | None = 0,
        cause: AttemptCause = AttemptCause.EXITED,
        number: int | None = None,
        text: str = "",
        ran_ms: int = MINUTE,
    ) -> None:
        """An attempt of the job, the latest by default, ends on the node that runs it.

        It ran for a minute: jobs known to be short would be given to nodes ahead of time.
        """
        number = number or self._number(job)
        node = next(node for j, n, node in self.started if (j, n) == (job, number))
        self.reports(node, m.AttemptEnded(job, number, cause, exit_code, text, ran_ms))

    def fails(self, job: JobId) -> None:
        self.ends(job, exit_code=1)

    def _number(self, job: JobId) -> int:
        return max(number for one, number, _ in self.started if one == job)

    def later(self, *, minutes: float = 0, ms: int = 0) -> None:
        """Time passes, with a tick whenever the farm asks for one."""
        self.in_batch = False
        end = Moment(self.now + int(minutes * MINUTE) + ms)
        while (due := self.farm.next_wakeup()) is not None and due <= end:
            self.now = Moment(max(due, self.now))
            self.send(m.Tick())
        self.now = end
        self.send(m.Tick())

    def restarts(self) -> None:
        """The server ends and starts again with what was saved."""
        old = self.farm
        # Runs that outlive their deleted job are not in the store either.
        ids = {job for job in self.records if job in old.jobs}
        self.farm = Farm(old.rules)
        self.farm.load(
            m.LiveRecords(
                [self.records[job][0] for job in sorted(ids)],
                *self._links(old.jobs),
                [a for a in self.attempts.values() if a.ended_at is None and a.job in ids],
                list(old.nodes.values()),
                old.next_job_id,
                old.next_node_id,
                list(old.groups.values()),
                old.next_group_id,
                list(old.floor.stock.resources.values()),
                old.next_resource_id,
                attributes=[one for one in self.attributes.values() if one.job in ids],
            )
        )
        self.send(m.Restarted())

    # --- then -----------------------------------------------------------------------------

    def job(self, job: int) -> Job:
        return self.farm.jobs.get(JobId(job)) or self.records[JobId(job)][0]

    def status(self, job: int) -> str:
        return self.job(job).status.value

    def rollup(self, job: int) -> Rollup:
        if job in self.farm.jobs:
            return self.farm.tree.rollup(self.farm.jobs[JobId(job)])
        return self.records[JobId(job)][1]

    def story(self, job: int) -> list[str]:
        return [event.status for event in self.events if event.job == job]

    def why(self, job: int) -> str:
        return " ".join(reason.text for reason in explain(self.farm, [JobId(job)])[JobId(job)])

    def nodes_of(self, job: int) -> list[str]:
        return [node for j, _, node in self.started if j == job]

    def has_effect(self, kind: type, **fields: Any) -> bool:
        return any(
            isinstance(effect, kind)
            and all(getattr(effect, name) == value for name, value in fields.items())
            for effect in self.effects
        )
