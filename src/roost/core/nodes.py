"""What machines report: joining, beats, starts and ends of attempts, leaving, silence; and what
people say of a machine: that it is drained, when it may work, what it is.

A report states what has happened and is never refused; one about an attempt the farm no longer
counts on changes nothing. The one exception is joining: of two agents with the same name the
second is refused while the first may still be alive, so that they cannot take turns.

Silence has two steps. After the active timeout a node is inactive and its jobs are `abandoned`,
as HQueue does; they go on if it comes back. After `requeue_after_gone_ms` more it is gone: its
attempts are fenced off for ever and the jobs run again, once. If it comes back with one of them,
that is a stray, to be killed: it keeps its room until the node says that it is gone. What was
paused is not run again before it is resumed.

A server that was asleep, or whose clock was set, has been silent itself: it begins to count anew.

Whether availability rules keep a node off duty depends on the rules, on how long nobody has used
the machine, and on the clock. `_review_duty` is asked whenever one of these may have changed.
"""

from __future__ import annotations

from roost.core import availability, blackboard
from roost.core.lifecycle import FINAL
from roost.core.messages import (
    AttemptEnded,
    AttemptPaused,
    AttemptResumed,
    AttemptStarted,
    AttributesReported,
    DropNode,
    EntryReported,
    HeldAttempt,
    NodeBeat,
    NodeDisconnected,
    NodeJoined,
    NodeLeft,
    NodeReported,
    RemoveNodes,
    Restarted,
    SetAvailability,
    SetNodeDescription,
    SetNodesDisabled,
    SignalAttempt,
    StartAttempt,
    Tick,
)
from roost.core.records import (
    Attempt,
    AttemptCause,
    AttemptKey,
    JobStatus,
    Moment,
    Node,
    NodeId,
)
from roost.core.state import State
from roost.errors import Conflict, Invalid, NotFound

S = JobStatus

BEAT_SAVED_EVERY_MS = 60_000
"""How old the last heartbeat on disk may be."""
LATE_MS = 10_000
"""A server that looks so long after it meant to has heard nobody in between."""
DESCRIPTION_CHARACTERS_MAX = 1_000


# --- joining and leaving ----------------------------------------------------------------------


def on_node_joined(farm: State, report: NodeJoined) -> NodeId:
    facts = report.facts
    known_id = farm.node_names.get(facts.key)
    if known_id is None:
        node_id = NodeId(farm.next_node_id)
        farm.next_node_id += 1
        farm.node_names[facts.key] = node_id
        node = Node(node_id, facts, joined_at=farm.now, last_beat_at=farm.now)
        farm.update_node(node)
    else:
        node = farm.nodes[known_id]
        is_other_agent = node.facts.installation != facts.installation
        if is_other_agent:
            _refuse_while_alive(farm, node)
        # One folder may be used by turns: what one system runs is gone when the other is up.
        is_other_system = node.facts.operating_system != facts.operating_system
        # Until its first beat nobody knows whether somebody uses it.
        farm.update_node(
            node,
            facts=facts,
            last_beat_at=farm.now,
            active=True,
            leaving=False,
            idle_minutes=-1,
        )
        if is_other_agent or is_other_system:
            for attempt in farm.attempts_on(node.id):
                farm.conclude(attempt, AttemptCause.LOST, text="its node was installed anew")
        node_id = node.id
    farm.floor.connect(node_id, report.connection)
    farm.remove_strays(node_id)
    _reconcile(farm, node_id, report.attempts)
    farm.expect_starts(node_id)
    farm.watch(node_id, Moment(farm.now + farm.rules.active_timeout_ms))
    _review_duty(farm, node_id)
    return node_id


def _refuse_while_alive(farm: State, node: Node) -> None:
    label = node.facts.label
    if node.id in farm.floor.connected:
        raise Conflict(
            f"Another agent is connected as {label}; give this one a name of its own with --name."
        )
    if node.active and farm.attempts_on(node.id):
        raise Conflict(
            f"Another agent named {label} still has jobs and may come back; "
            f"give this one a name of its own, or try again when that one is inactive."
        )


def _reconcile(farm: State, node_id: NodeId, held: tuple[HeldAttempt, ...]) -> None:
    """Bring what the agent has and what the farm wants together."""
    held_by_key: dict[AttemptKey, HeldAttempt] = {(one.job, one.number): one for one in held}
    for key, one in held_by_key.items():
        attempt = farm.attempts.get(key)
        if attempt is not None and attempt.nodes[0] == node_id:
            _take_back(farm, attempt, one)
        elif one.state != "ended":
            if attempt is None and one.cpus >= 0:
                farm.add_stray(node_id, key, one.cpus)
            farm.emit(SignalAttempt(node_id, one.job, one.number, "kill"))
    for attempt in farm.attempts_on(node_id):
        if attempt.key in held_by_key:
            continue
        if attempt.stopping:
            farm.end_attempt(attempt.key, AttemptCause.CANCELLED, text="it had not been started")
        elif attempt.started_at is not None:
            farm.conclude(attempt, AttemptCause.LOST, text="its node knows nothing of it any more")
        else:
            job = farm.jobs[attempt.job]
            if job.status is S.ABANDONED:
                status = S.PAUSED if attempt.paused else S.RUNNING
                job = farm.set_status(job, status, "its node is back")
            farm.emit(StartAttempt(node_id, farm.order(job, attempt)))
            _repeat_wish(farm, attempt)


def _take_back(farm: State, attempt: Attempt, held: HeldAttempt) -> None:
    job = farm.jobs.get(attempt.job)
    if job is None or attempt.stopping:
        farm.signal(attempt, "cancel")
        return
    if job.status is S.ABANDONED:
        farm.set_status(job, S.PAUSED if attempt.paused else S.RUNNING, "its node is back")
        if attempt.paused != (held.state == "paused"):
            farm.signal(attempt, "pause" if attempt.paused else "resume")
    elif job.status is S.PAUSING and held.state == "paused":
        farm.set_status(job, S.PAUSED)
    elif job.status is S.RESUMING and held.state == "running":
        farm.set_status(job, S.RUNNING)
        farm.tell(job.id, "resumed")
    elif job.status is S.RUNNING and held.state == "paused":
        farm.signal(attempt, "resume")
    else:
        _repeat_wish(farm, attempt)


def _repeat_wish(farm: State, attempt: Attempt) -> None:
    """What people asked of a job may have been lost with the connection: say it again."""
    status = farm.jobs[attempt.job].status
    if status in (S.PAUSING, S.PAUSED):
        farm.signal(attempt, "pause")
    elif status is S.RESUMING:
        farm.signal(attempt, "resume")
    elif status is S.EJECTING:
        farm.signal(attempt, "eject")


def on_node_disconnected(farm: State, report: NodeDisconnected) -> None:
    if farm.floor.connected.get(report.node) == report.connection:
        farm.floor.disconnect(report.node)


def on_node_left(farm: State, report: NodeLeft) -> None:
    """`terminate()` on the node (API page, HQueue Client API)."""
    node = farm.nodes.get(report.node)
    if node is None or node.leaving:
        return
    farm.update_node(node, leaving=True)
    _tell_of_loss(farm, node, "is leaving the farm")
    for attempt in farm.attempts_on(node.id):
        job = farm.jobs.get(attempt.job)
        if job is not None and job.attempt == attempt.number:
            if job.status in (S.PAUSED, S.PAUSING):
                farm.cancel((job.id,), "its node is leaving the farm")


def on_remove_nodes(farm: State, command: RemoveNodes) -> None:
    """Raises `NotFound`. The jobs on them are abandoned at once."""
    for node in [_listed(farm, node_id) for node_id in dict.fromkeys(command.ids)]:
        if node.active:
            _go_silent(farm, node, "was removed from the farm")
        farm.update_node(farm.nodes[node.id], leaving=True)
        farm.emit(DropNode(node.id))


def on_set_nodes_disabled(farm: State, command: SetNodesDisabled) -> SetNodesDisabled | None:
    """Raises `NotFound`."""
    found = [_listed(farm, node_id) for node_id in dict.fromkeys(command.ids)]
    changed = [node for node in found if node.disabled != command.disabled]
    for node in changed:
        farm.update_node(node, disabled=command.disabled)
    ids = tuple(node.id for node in changed)
    return SetNodesDisabled(ids, not command.disabled) if ids else None


def on_set_availability(farm: State, command: SetAvailability) -> None:
    """Raises `NotFound`, or `Invalid` for rules that make no sense."""
    node = _listed(farm, command.id)
    rules = availability.numbered(command.rules, node.availability)
    if node.availability != rules:
        farm.update_node(node, availability=rules)
        _review_duty(farm, node.id)


def on_set_node_description(farm: State, command: SetNodeDescription) -> None:
    """Raises `NotFound`, or `Invalid` for a description that is too long."""
    node = _listed(farm, command.id)
    description = command.description.strip()
    if len(description) > DESCRIPTION_CHARACTERS_MAX:
        raise Invalid(
            f"The description of {node.facts.label} is too long: "
            f"it can have {DESCRIPTION_CHARACTERS_MAX} characters."
        )
    if node.description != description:
        farm.update_node(node, description=description)


def _review_duty(farm: State, node_id: NodeId) -> None:
    """Keep current whether the availability rules let the node take jobs, for all who ask, and
    look again when the clock may change that."""
    node, zone = farm.nodes[node_id], farm.rules.zone
    if not node.availability:
        why = None
    else:
        why = availability.why_off_duty(node.availability, farm.now, zone, node.idle_minutes)
        change = availability.next_change(node.availability, farm.now, zone)
        if change is not None:
            farm.watch(node_id, change)
    farm.floor.set_off_duty(node_id, why)


def _listed(farm: State, node_id: NodeId) -> Node:
    node = farm.nodes.get(node_id)
    if node is None or node.leaving:
        raise NotFound(f"There is no node with id {node_id}.")
    return node


# --- beats and attempts -----------------------------------------------------------------------


def on_node_beat(farm: State, report: NodeBeat) -> None:
    node = farm.nodes.get(report.node)
    if node is None or report.node not in farm.floor.connected:
        return
    farm.update_node(
        node,
        saved=farm.now - node.last_beat_at >= BEAT_SAVED_EVERY_MS,
        last_beat_at=farm.now,
        load=report.load,
        idle_minutes=report.idle_minutes,
        memory_used_kb=report.memory_used_kb,
    )
    if availability.follows_idleness(node.availability):
        _review_duty(farm, node.id)
    for job_id, number, progress in report.progress:
        job = farm.jobs.get(job_id)
        if job is not None and job.attempt == number and (job_id, number) in farm.attempts:
            farm.advance(job, progress, at_once=False)


def on_node_reported(farm: State, message: NodeReported) -> None:
    report = message.report
    key = (report.job, report.number)
    attempt = farm.attempts.get(key)
    if attempt is None:
        use = farm.floor.uses.get(message.node)
        if isinstance(report, AttemptEnded) and use is not None and key in use.strays:
            farm.remove_stray(message.node, key)
        return
    if message.node not in attempt.nodes:
        return
    if isinstance(report, AttributesReported):
        blackboard.take_delayed(farm, attempt, report.attributes)
        return
    if attempt.nodes[0] != message.node:
        return
    match report:
        case EntryReported():
            blackboard.take_entry(farm, attempt, report)
        case AttemptStarted():
            _attempt_started(farm, attempt)
        case AttemptPaused():
            _move(farm, attempt, (S.PAUSING,), S.PAUSED)
        case AttemptResumed():
            _move(farm, attempt, (S.RESUMING,), S.RUNNING)
            farm.tell(attempt.job, "resumed")
        case AttemptEnded():
            if report.cause is AttemptCause.EXITED:
                need = farm.floor.need_of(attempt.key, message.node)
                farm.floor.note_run(need, report.ran_ms)
            started_at = None
            if report.started and attempt.started_at is None:
                started_at = Moment(max(attempt.assigned_at, farm.now - report.ran_ms))
            farm.conclude(
                attempt, report.cause, report.exit_code, report.text, report.progress, started_at
            )


def _attempt_started(farm: State, attempt: Attempt) -> None:
    if attempt.started_at is None:
        farm.attempt_started(attempt)
        job = farm.jobs.get(attempt.job)
        if job is not None and job.attempt == attempt.number and job.status not in FINAL:
            farm.update_job(job, command_started_at=farm.now)


def _move(farm: State, attempt: Attempt, sources: tuple[JobStatus, ...], target: JobStatus) -> None:
    job = farm.jobs.get(attempt.job)
    if job is not None and not attempt.stopping and job.attempt == attempt.number:
        if job.status in sources:
            farm.set_status(job, target)


# --- time -------------------------------------------------------------------------------------


def on_tick(farm: State, tick: Tick) -> None:
    for node_id, due in farm.due_nodes():
        if farm.now - due > LATE_MS:
            _forgive_silence(farm, farm.nodes[node_id])
        else:
            _look_for_silence(farm, farm.nodes[node_id])
        _review_duty(farm, node_id)
    farm.recall_stuck(farm.now if tick.heard is None else tick.heard)
    if farm.floor.has_work:
        farm.floor.place(farm.start_attempt)


def _look_for_silence(farm: State, node: Node) -> None:
    silent_at = Moment(node.last_beat_at + farm.rules.active_timeout_ms)
    gone_at = Moment(silent_at + farm.rules.requeue_after_gone_ms)
    if farm.now < silent_at:
        farm.watch(node.id, silent_at)
        return
    if node.active:
        _go_silent(farm, node, "is silent")
    if not farm.rules.requeue_after_gone_ms:
        return
    if farm.now < gone_at:
        farm.watch(node.id, gone_at)
        return
    for attempt in farm.attempts_on(node.id):
        farm.conclude(attempt, AttemptCause.FENCED, text=f"{node.facts.label} is gone")


def _go_silent(farm: State, node: Node, why: str) -> None:
    farm.update_node(node, active=False)
    farm.floor.disconnect(node.id)  # its farewell may never come
    farm.emit(DropNode(node.id))
    farm.remove_strays(node.id)
    for attempt in farm.attempts_on(node.id):
        if attempt.stopping:
            farm.end_attempt(attempt.key, AttemptCause.FENCED, text="its node is gone")
            continue
        job = farm.jobs[attempt.job]
        if job.status is not S.ABANDONED:
            farm.set_status(job, S.ABANDONED, f"{node.facts.label} {why}")
    if not node.leaving:
        _tell_of_loss(farm, node, why)


def _tell_of_loss(farm: State, node: Node, why: str) -> None:
    """Jobs that have this node besides the one that runs their command go on without it; their
    stories say so (decision 28)."""
    for key in farm.floor.uses[node.id].attempts:
        attempt = farm.attempts[key]
        if attempt.nodes[0] != node.id and not attempt.stopping:
            farm.log(attempt.job, "client lost", f"{node.facts.label} {why}")


def on_restarted(farm: State, _: Restarted) -> None:
    for node in list(farm.nodes.values()):
        _forgive_silence(farm, node)
        _review_duty(farm, node.id)


def _forgive_silence(farm: State, node: Node) -> None:
    """Silence while the server was down, asleep or stopped is nobody's fault, nor that its clock
    was set: a node gets a full timeout, also one that only finishes what it runs, and one that was
    silent before may still come back."""
    timeout = farm.rules.active_timeout_ms
    if node.active:
        farm.update_node(node, saved=False, last_beat_at=farm.now)
        farm.watch(node.id, Moment(farm.now + timeout))
    elif farm.attempts_on(node.id):
        last = Moment(max(node.last_beat_at, farm.now - timeout))
        farm.update_node(node, saved=False, last_beat_at=last)
        farm.watch(node.id, Moment(last + timeout + farm.rules.requeue_after_gone_ms))
