"""What must hold of a world, whatever happened in it.

Safety is asked at every step, from two sides that do not know of each other: what the server has
saved, and what really runs. Liveness is asked when the trouble is over: everything that can end
does, and of what does not, `explain` names a cause that a naive look at the world confirms.

An attempt is *given up* when it is on record as fenced or lost: its node was silent for too long,
or came back without it. Such an attempt may still run on a machine nobody can reach; any other
runs alone, and counts for the room it takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from msgspec.structs import replace

from roost.agent.plan import RunKey
from roost.core import messages as m
from roost.core.attributes import fold, stride
from roost.core.explanation import explain
from roost.core.farm import Farm
from roost.core.invariants import check
from roost.core.lifecycle import FINAL, INITIAL, TRANSITIONS
from roost.core.records import (
    Attempt,
    AttemptCause,
    AttemptKey,
    Event,
    Job,
    JobId,
    JobStatus,
    Moment,
    Node,
    NodeId,
)
from roost.core.state import RECALL_AFTER_MS
from roost.gateway import Part
from roost.store import queries, rows
from sim.chirp import number_in

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

S = JobStatus
C = AttemptCause
GIVEN_UP = (C.FENCED, C.LOST)
STORE_COMPARED_EVERY = 12
CHECKED_WHOLE_JOBS_MAX = 60
"""Larger farms are checked once per batch instead of after each message."""


class Oracle:
    def __init__(self, world: World) -> None:
        self.world = world
        self.jobs: dict[JobId, Job] = {}
        """The last saved state of every job that exists."""
        self.attempts: dict[AttemptKey, Attempt] = {}
        """The same of attempts, also of jobs that were deleted since."""
        self._given: dict[AttemptKey, Moment] = {}
        """When a node was last told to start them, if it has not been asked for them since."""
        self._placed: dict[AttemptKey, Moment] = {}
        """When this life of the server gave them to a node."""
        self._told: dict[NodeId, dict[AttemptKey, int]] = {}
        """What nodes said they have when they joined, and its CPUs, until they say it has ended."""
        self.strays = 0
        """How often a node had something that was given up."""
        self._heard = Moment(0)
        """All that came before then has been handled."""
        self.late_ms = 0
        """How far that was behind, at most."""
        self.recalls = 0
        """How many jobs were asked back."""
        self.deleted: dict[JobId, None] = {}
        self._last_status: dict[JobId, JobStatus] = {}
        self._parents: dict[JobId, list[JobId]] = {}
        self._children: dict[JobId, list[JobId]] = {}
        self._started: dict[RunKey, str] = {}
        self._exit_codes: dict[AttemptKey, int] = {}
        self._written: dict[AttemptKey, bytearray] = {}
        self._may_vanish: dict[JobId, None] = {}
        self._saves = 0
        self._reality_changed = False

    # --- what really runs -----------------------------------------------------------------

    def process_started(self, machine: Machine, run: RunKey) -> None:
        assert run not in self._started, f"#{run[0]}.{run[1]} {run[2]} was started twice"
        self._started[run] = str(machine)
        self._reality_changed = True
        attempt = self.attempts.get(run[:2])
        assert attempt is not None, f"#{run[0]}.{run[1]} runs and was never saved"

    def process_ended(self, run: RunKey, exit_code: int) -> None:
        if run[2] in ("command", "on_child_error"):
            self._exit_codes[run[:2]] = exit_code

    def output_written(self, key: AttemptKey, data: bytes) -> None:
        self._written.setdefault(key, bytearray()).extend(data)

    def output_stored(self, key: AttemptKey) -> None:
        stored = self.world.server.output.get(key, b"")
        assert self._written.get(key, b"").startswith(stored), f"output of #{key} is not its own"

    def stepped(self) -> None:
        if self._reality_changed:
            self._reality_changed = False
            self._look_at_what_runs()

    def _look_at_what_runs(self) -> None:
        counted: dict[JobId, AttemptKey] = {}
        for machine in self.world.machines:
            running: dict[AttemptKey, Attempt] = {}
            here: dict[JobId, AttemptKey] = {}
            for process in machine.processes():
                key = process.run[:2]
                other = here.setdefault(key[0], key)
                assert other == key, f"#{key[0]} runs twice on {machine}: {other[1]} and {key[1]}"
                attempt = self.attempts[key]
                if attempt.cause in GIVEN_UP or key[0] in self.deleted:
                    continue
                assert attempt.ended_at is None, f"#{key[0]}.{key[1]} has ended and runs"
                other = counted.setdefault(key[0], key)
                assert other == key, f"#{key[0]} runs twice: {other[1]} and {key[1]}"
                running[key] = attempt
            self._look_at_room(machine, [self.jobs[key[0]] for key in running])

    def _look_at_room(self, machine: Machine, jobs: list[Job]) -> None:
        cpus = sum(job.spec.cpus for job in jobs)
        assert cpus <= machine.cpus, f"{machine} runs {cpus} CPUs of jobs and has {machine.cpus}"
        tags = [tag for job in jobs for tag in job.spec.tags if tag.startswith("single")]
        assert "single" not in tags or len(jobs) == 1, f"{machine} is not given to one job alone"
        assert len(tags) == len(set(tags)), f"{machine} runs two jobs with one of {tags}"

    # --- what the server decides ----------------------------------------------------------

    def handled(self, farm: Farm, message: m.Message) -> None:
        if isinstance(message, m.NodeJoined):
            node = farm.node_names[message.facts.key]
            if farm.nodes[node].facts.installation == message.facts.installation:  # not refused
                self._given.update((key, farm.now) for key in farm.floor.uses[node].attempts)
                held = [one for one in message.attempts if one.state != "ended"]
                self._told[node] = {(one.job, one.number): one.cpus for one in held}
                self.strays += bool(self._strays(farm, node))
        if isinstance(message, m.NodeReported) and isinstance(message.report, m.AttemptEnded):
            ended = message.report
            self._told.get(message.node, {}).pop((ended.job, ended.number), None)
        if len(farm.jobs) <= CHECKED_WHOLE_JOBS_MAX:
            try:
                check(farm)
            except AssertionError as error:
                raise AssertionError(f"after {message}: {error}") from error

    def placed(self, farm: Farm, effects: Iterable[m.Effect], heard: Moment | None) -> None:
        """Placement is over; every start among these is a fresh decision. `heard` as in `Tick`."""
        check(farm)
        until = farm.now if heard is None else heard
        self._heard = max(self._heard, until)
        self.late_ms = max(self.late_ms, farm.now - until)
        for effect in effects:
            if isinstance(effect, m.SignalAttempt) and effect.action == "recall":
                self.recalls += 1
                key = effect.job, effect.number
                self._given.pop(key)  # asked once
                waited = self._heard - self._placed.get(key, Moment(0))
                assert waited >= RECALL_AFTER_MS, f"#{effect.job} is asked back too early"
            if not isinstance(effect, m.StartAttempt):
                continue
            job_id = effect.order.job
            children = [farm.jobs[child] for child in farm.tree.children.get(job_id, ())]
            assert all(c.status in FINAL for c in children), f"#{job_id} starts before its children"
            bad = any(child.status is not S.SUCCEEDED for child in children)
            assert bad == (not effect.order.command), f"#{job_id} runs the wrong thing"
            assert job_id not in self.world.users.cancelled, f"#{job_id} was cancelled and starts"
            for node in farm.attempts[(job_id, effect.order.number)].nodes:
                may_run = _may_run(farm, farm.jobs[job_id], farm.nodes[node])
                assert may_run, f"#{job_id} starts on node {node}, which may not run it"
                on_duty = _is_on_duty(farm.nodes[node], farm.now, farm.rules.zone)
                assert on_duty, f"#{job_id} starts on node {node}, which is off duty"
            key = job_id, effect.order.number
            self._given[key] = self._placed[key] = farm.now
            for node in farm.floor.connected:
                strays = [stray[0] for stray in self._strays(farm, node)]
                assert job_id not in strays, f"#{job_id} starts while node {node} still has it"
        for node in farm.floor.connected:
            self._look_for_stuck(farm, node, until)

    def _strays(self, farm: Farm, node: NodeId) -> dict[AttemptKey, int]:
        """What the node has and the farm does not count on, with the CPUs it keeps."""
        told = self._told.get(node, {})
        return {key: cpus for key, cpus in told.items() if key not in farm.attempts}

    def _look_for_stuck(self, farm: Farm, node: NodeId, heard: Moment) -> None:
        """Nobody waits for long behind what the node is known to run."""
        strays = self._strays(farm, node)
        assert farm.floor.uses[node].strays.keys() == strays.keys(), f"strays on node {node}"
        left = farm.nodes[node].facts.cpus - sum(strays.values())
        waiting = []
        for key, (_, need) in farm.floor.uses[node].attempts.items():
            if farm.attempts[key].started_at is None:
                waiting.append((key, need.cpus))
            else:
                left -= need.cpus
        if not waiting or waiting[0][1] <= left:
            return
        for key, _ in waiting:
            long_ago = heard - self._given.get(key, heard) >= RECALL_AFTER_MS
            assert not long_ago or farm.attempts[key].stopping, f"#{key} is stuck on node {node}"

    # --- what the server saves ------------------------------------------------------------

    def saved(self, farm: Farm, changes: m.Changes) -> None:
        self._reality_changed = True
        for job, _ in (*changes.submitted, *changes.jobs):
            self.jobs[job.id] = job
        for event in changes.events:
            self._follow_status(event.job, event.status)
        for job_id in dict.fromkeys(event.job for event in changes.events):
            if job_id in changes.deleted:
                continue
            job = self.jobs[job_id]
            assert self._last_status[job_id] is job.status, f"#{job_id}: its story ends otherwise"
        for attempt in changes.attempts:
            self._follow_attempt(attempt)
        for parent, child in changes.edges:
            self._children.setdefault(parent, []).append(child)
            self._parents.setdefault(child, []).append(parent)
        # What came below them while the server was busy goes as well.
        self.may_vanish([job_id for job_id in changes.deleted if job_id in self._may_vanish])
        for job_id in changes.deleted:
            self._forget(job_id)
        for node in changes.nodes:
            state = "active" if node.active else "inactive"
            self.world.note(f"saved: node {node.id} is {state}{' leaving' * node.leaving}")
        self._saves += 1
        if self._saves % STORE_COMPARED_EVERY == 0:
            self._compare_store(farm)

    def _follow_status(self, job: JobId, word: str) -> None:
        if word not in S._value2member_map_ or word == S.EJECTED:
            return
        status, before = S(word), self._last_status.get(job)
        if before is None:
            assert status in INITIAL, f"#{job} begins as {status}"
        else:
            assert status in TRANSITIONS[before], f"#{job}: {before} -> {status}"
        self._last_status[job] = status
        self.world.note(f"saved: #{job} {status}")

    def _follow_attempt(self, attempt: Attempt) -> None:
        key, before = attempt.key, self.attempts.get(attempt.key)
        if before is not None and before.ended_at is not None:
            assert before == attempt, f"#{key} changes after its end"
        self.attempts[key] = attempt
        if before is None:
            others = [a for a in self.attempts.values() if a.job == attempt.job and a != attempt]
            assert all(other.number < attempt.number for other in others)
        if attempt.ended_at is None:
            return
        self.world.note(f"saved: #{key[0]}.{key[1]} {attempt.cause} {attempt.exit_code}")
        if attempt.cause is C.EXITED:
            assert attempt.exit_code == self._exit_codes[key], f"#{key}: another exit status"
        if attempt.cause not in GIVEN_UP and key[0] not in self._may_vanish:
            stored = self.world.server.output.get(key, b"")
            written = self._written.get(key, b"")
            assert stored == written, f"#{key}: {len(stored)} of {len(written)} bytes"

    def _forget(self, job: JobId) -> None:
        self.deleted[job] = None
        assert job in self._may_vanish, f"#{job} was deleted and nobody asked"
        self.jobs.pop(job, None)
        for other in self._children.pop(job, ()):
            if job in self._parents.get(other, ()):
                self._parents[other].remove(job)
        for other in self._parents.pop(job, ()):
            if job in self._children.get(other, ()):
                self._children[other].remove(job)

    def may_vanish(self, ids: Iterable[JobId]) -> None:
        """Somebody asks to delete these: whatever is below them may go too, now or on its way."""
        waiting = list(ids)
        for job in waiting:
            if job not in self._may_vanish or self._children.get(job):
                self._may_vanish[job] = None
                waiting.extend(c for c in self._children.get(job, ()) if c not in waiting)

    def is_cancelled(self, job: JobId) -> bool:
        return job in self.jobs and self.jobs[job].status is S.CANCELLED

    # --- the store ------------------------------------------------------------------------

    def _compare_store(self, farm: Farm) -> None:
        stored = self.world.server.store.read(rows.load_live)
        assert isinstance(stored, m.LiveRecords)
        for job in stored.jobs:
            known = farm.jobs.get(job.id)
            if known is not None and job.id in farm.tree.advanced:
                known = replace(known, progress=min(known.progress, job.progress))
            assert known == job, f"#{job.id} is stored otherwise: {job}"
        live = {job.id for job in farm.jobs.values() if job.status not in FINAL}
        assert live <= {job.id for job in stored.jobs}, "live jobs are not stored as such"
        for parent, found in stored.children.items():
            assert farm.tree.children[parent] == found, f"children of #{parent} differ"
        for child, above in stored.parents.items():
            assert farm.tree.parents[child] == above, f"parents of #{child} differ"
        kept = {key: one for key, one in farm.attempts.items() if key[0] in farm.jobs}
        assert {one.key: one for one in stored.attempts} == kept, "attempts are stored otherwise"
        self._compare_attributes(farm, stored)
        for node in stored.nodes:
            assert _lasting(node) == _lasting(farm.nodes[node.id]), f"node {node.id} differs"
        threads = {thread.id: thread for thread in stored.threads}
        assert threads == farm.board.threads, "threads are stored otherwise"
        assert {one.name: one for one in stored.groups} == farm.groups, "groups differ"
        assert {one.name: one for one in stored.resources} == farm.floor.stock.resources
        assert (stored.next_job_id, stored.next_node_id) == (farm.next_job_id, farm.next_node_id)

    def _compare_attributes(self, farm: Farm, stored: m.LiveRecords) -> None:
        live = {job.id for job in stored.jobs}
        kept = [one for job in live for one in farm.attributes.get(job, {}).values()]
        assert {(one.job, fold(one.name)): one for one in stored.attributes} == {
            (one.job, fold(one.name)): one for one in kept
        }, "attributes are stored otherwise"

    def _look_at_what_jobs_said(self) -> None:
        """What they were told is saved is there, or something that was set later."""
        chirp, read = self.world.chirp, self.world.server.store.read
        parts = {Part.ATTRIBUTES, Part.EVENTS}
        ids = sorted({*(job for job, _ in chirp.acknowledged), *(job for job, _ in chirp.lines)})
        views = {view.job.id: view for view in read(queries.job_views, ids, parts)}  # type: ignore[attr-defined]
        for (job, name), value in chirp.acknowledged.items():
            if job not in self._may_vanish:
                texts = [one.text for one in views[job].attributes if fold(one.name) == name]
                assert texts, f"#{job} was told that it has {name}, and it has not"
                assert number_in(texts[0]) >= value, f"#{job}: {name} was {value}, is {texts[0]}"
        for job, view in views.items():
            self._look_at_lines(job, view.events)
            points = read(queries.attribute_points, job)
            for one in view.attributes:
                kept = [point.number for point in points.get(fold(one.name), ())]  # type: ignore[attr-defined]
                assert kept == list(range(0, one.count, stride(one.count))), f"#{job} {one.name}"

    def _look_at_lines(self, job: JobId, story: Iterable[Event]) -> None:
        """Each line once, in order, and before the end of its attempt; none is lost but with an
        agent, or with an attempt that was given up."""
        chirp = self.world.chirp
        keys = sorted(key for key in chirp.lines if key[0] == job)
        written = {line: None for key in keys for line in chirp.lines[key]}
        told: list[str] = []
        before, ended = "", False
        for event in story:
            if event.status == "ulog":
                assert not ended, f"#{job}: {event.message} comes after the end"
                told.append(event.message)
            elif event.status in S._value2member_map_:
                # What failed with its children has not run again: its last run may still end.
                ended = event.status in (S.SUCCEEDED, S.FAILED) and before != S.QUEUED
                before = event.status
        missing = written.keys() - told
        assert told == [line for line in written if line not in missing], f"#{job}: {told}"
        for key in keys:
            attempt = self.attempts[key]
            if attempt.ended_at is not None and attempt.cause not in GIVEN_UP:
                lost = missing.intersection(chirp.lines[key]) - chirp.may_be_lost
                assert not lost or job in self._may_vanish, f"#{job}: {lost} is not told"

    def loaded(self, farm: Farm) -> None:
        """A server has started from the store: what was promised is there."""
        self._heard = Moment(0)
        self._placed.clear()
        self._told.clear()
        check(farm)
        self._compare_store(farm)
        for job_id in self.world.users.promised:
            if job_id not in self._may_vanish:
                assert job_id in self.jobs, f"#{job_id} was promised and is not there"
        self._look_at_what_jobs_said()

    # --- rest -----------------------------------------------------------------------------

    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.status not in FINAL]

    def unrest(self) -> str | None:
        """Why the farm is not at rest yet, or None."""
        server = self.world.server
        farm = server.farm
        if not server.up or farm.floor.has_work:
            return "the server has work"
        paused = {job.id for job in farm.jobs.values() if job.status is S.PAUSED}
        for key in farm.attempts:
            if key[0] not in paused:
                return f"#{key[0]}.{key[1]} has not ended"
        for job in farm.jobs.values():
            if job.status in FINAL or job.status in (S.PAUSED, S.QUEUED):
                continue
            if job.status is not S.RUNNABLE:
                return f"#{job.id} is {job.status}"
            if self._could_run(farm, job):
                return f"#{job.id} waits and could run: {_why(farm, job.id)!r}"
        for machine in self.world.machines:
            for process in machine.processes():
                if process.run[0] not in paused:
                    return f"{machine} still runs #{process.run[0]}.{process.run[1]}"
            plan = machine.agent.plan if machine.agent is not None else None
            if machine.twin_of is None and plan is None:
                return f"{machine} has no agent"
            if plan is not None:
                left = [key for key in plan.courses if key[0] not in paused]
                if left or plan.waiting or plan.unsaved:
                    return f"{machine} has not forgotten {left} {plan.waiting} {plan.unsaved}"
            if any(run[0] not in paused for run in machine.ledger):
                return f"the keeper of {machine} has not forgotten {list(machine.ledger)}"
        return None

    def at_rest(self) -> None:
        """What is not finished has a reason, and the same one from both sides."""
        farm = self.world.server.farm
        check(farm)
        self._compare_store(farm)
        self._look_at_what_jobs_said()
        for job in self.unfinished():
            assert farm.jobs[job.id] == job
            assert _why(farm, job.id), f"#{job.id} is {job.status} without a reason"
            if job.status is S.QUEUED:
                children = [self.jobs[child] for child in self._children[job.id]]
                assert any(child.status not in FINAL for child in children)

    def _could_run(self, farm: Farm, job: Job) -> bool:
        """A naive scheduler: count the machines that would do."""
        fitting = 0
        served = _served(farm, job)
        for node in farm.nodes.values():
            present = [farm.jobs[key[0]] for key, a in farm.attempts.items() if node.id in a.nodes]
            if farm.attempts:  # paused ones: what waits for their room may hold other room
                present += [
                    farm.jobs[waiting]
                    for waiting in farm.floor.uses[node.id].holds
                    if waiting != job.id
                    and (-farm.jobs[waiting].priority, waiting) < (-job.priority, job.id)
                ]
            now = Moment(self.world.now + self.world.server.skew_ms)
            if _is_on_duty(node, max(now, farm.now), farm.rules.zone):
                fits = _may_run(farm, job, node) and _has_room(job, node, present)
                if fits and served.get(node.id, served[NodeId(0)]):
                    fitting += 1
                    if node.id not in served:
                        served[NodeId(0)] -= 1
        return fitting >= job.spec.min_hosts


def _may_run(farm: Farm, job: Job, node: Node) -> bool:
    root = job
    while farm.tree.parents.get(root.id):
        root = farm.jobs[farm.tree.parents[root.id][0]]
    if node.disabled or node.leaving or not node.active:
        return False
    system = node.facts.platform.partition("-")[0]
    if isinstance(job.spec.command, dict) and system not in job.spec.command:
        return False
    for condition in job.spec.conditions or root.spec.conditions:
        if condition.name == "group":
            group = farm.groups.get(condition.value)
            holds = group is not None and node.id in group.nodes
        else:
            ours = system if condition.name == "os" else node.facts.hostname
            holds = ours == condition.value
        if holds == (condition.op == "!="):
            return False
    limit = farm.rules.max_failures_per_client
    return not limit or dict(root.failures).get(node.id, 0) <= limit


def _has_room(job: Job, node: Node, present: list[Job]) -> bool:
    if sum(one.spec.cpus for one in (*present, job)) > node.facts.cpus:
        return False
    if present and any("single" in one.spec.tags for one in (*present, job)):
        return False
    return not any("single:1" in one.spec.tags for one in present if "single:1" in job.spec.tags)


def _served(farm: Farm, job: Job) -> dict[NodeId, bool | int]:
    """Whether a node has what the job needs of its resource; under 0, how many other nodes can."""
    for name, amount in job.spec.resources.items():
        resource = farm.floor.stock.resources.get(name)
        if resource is None:
            return {NodeId(0): 0}
        users = [
            one for key, one in farm.attempts.items() if name in farm.jobs[key[0]].spec.resources
        ]
        if resource.max is None:
            continue
        if resource.per_machine:
            having = {node for one in users for node in one.nodes}
            return {**dict.fromkeys(having, True), NodeId(0): resource.max - len(having)}
        taken = sum(farm.jobs[one.job].spec.resources[name] for one in users)
        if taken + amount > resource.max:
            return {NodeId(0): 0}
    return {NodeId(0): len(farm.nodes)}


def _lasting(node: Node) -> tuple[object, ...]:
    """What of a node is on disk at once; load and the last beat may be a minute old there."""
    return (
        node.id,
        node.facts,
        node.joined_at,
        node.active,
        node.disabled,
        node.leaving,
        node.availability,
    )


def _is_on_duty(node: Node, now: Moment, zone: tzinfo) -> bool:
    """By the calendar: some rule began today or yesterday and has not ended yet."""
    wall = datetime.fromtimestamp(now / 1000, zone).replace(tzinfo=None)
    today = datetime.combine(wall, time())
    for rule in node.availability:
        if not rule.enabled:
            continue
        if rule.type == "idle" and node.idle_minutes >= rule.idle_minutes:
            return True
        for day in (today, today - timedelta(days=1)) if rule.type == "time" else ():
            begin = day + timedelta(minutes=rule.start)
            end = day + timedelta(days=rule.start >= rule.end, minutes=rule.end)
            kinds = ("any", f"{day:%A}".lower(), "weekends" if day.weekday() > 4 else "weekdays")
            if rule.day in kinds and begin <= wall < end:
                return True
    return not node.availability


def _why(farm: Farm, job: JobId) -> str:
    return " ".join(reason.text for reason in explain(farm, [job])[job])
