"""The vocabulary of the core: what goes in (commands, reports, ticks) and what comes out.

A *command* is somebody's wish and may be refused. A *report* is a fact stated by a node and is
never refused; a stale one changes nothing. A *tick* says that time has passed. Out come a reply,
*effects* for the outside world, and *changes* for the record; effects and replies leave the
server only after the changes are on disk.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from roost.core.records import (
    Activity,
    Attempt,
    AttemptCause,
    Attribute,
    AttributePoint,
    AvailabilityRule,
    Condition,
    Event,
    Group,
    GroupId,
    Job,
    JobId,
    JobSpec,
    Moment,
    Node,
    NodeFacts,
    NodeId,
    Note,
    NoteId,
    Notice,
    NoticeId,
    Resource,
    ResourceId,
    Rollup,
    Thread,
    ThreadId,
)

# --- commands ---------------------------------------------------------------------------------


class NewJob(Struct, frozen=True, gc=False):
    """One job of a submission, already coerced, with its place among the others."""

    spec: JobSpec
    where: object
    """Prints as its place in the submitted document, for refusals: see `jobspec.Place`."""
    priority: int = 0
    tries_left: int = 0
    parents: tuple[int, ...] = ()
    """Indexes of its parents within the submission; they come before it or after it."""
    parent_ids: tuple[JobId, ...] = ()
    """Existing jobs that become its parents."""
    child_ids: tuple[JobId, ...] = ()
    """Existing jobs that it adopts."""


class SubmitJobs(Struct, frozen=True, tag=True):
    """Create all of these jobs or none. Reply: their ids in the same order."""

    jobs: tuple[NewJob, ...]


class CancelJobs(Struct, frozen=True, tag=True):
    """Each job and its descendants, where not yet finished."""

    ids: tuple[JobId, ...]


class PauseJobs(Struct, frozen=True, tag=True):
    """Each job and its descendants. Reply: what takes it back, see `Inverse`."""

    ids: tuple[JobId, ...]
    alone: bool = False
    """Not what is below them."""


class ResumeJobs(Struct, frozen=True, tag=True):
    """Each job and its descendants. Reply: what takes it back, see `Inverse`."""

    ids: tuple[JobId, ...]
    alone: bool = False
    """Not what is below them."""


class RescheduleJobs(Struct, frozen=True, tag=True):
    """Each finished job, its finished ancestors and its failed descendants (decision 2)."""

    ids: tuple[JobId, ...]


class DeleteJobs(Struct, frozen=True, tag=True):
    """Each finished job and its descendants, for ever; unfinished ones stay (decision 35)."""

    ids: tuple[JobId, ...]


class ExpireJobs(Struct, frozen=True, tag=True):
    """Those of these root jobs that ended `Rules.expire_after_ms` ago, with their trees; one that
    is linked with anything that is not over stays."""

    ids: tuple[JobId, ...]


class EjectJobs(Struct, frozen=True, tag=True):
    ids: tuple[JobId, ...]


class SetPriority(Struct, frozen=True, tag=True):
    """Reply: what takes it back, see `Inverse`."""

    ids: tuple[JobId, ...]
    priority: int


class SetPriorities(Struct, frozen=True, tag=True):
    """Give each job its own. Reply: what takes it back, see `Inverse`."""

    priorities: tuple[tuple[JobId, int], ...]


class SetConditions(Struct, frozen=True, tag=True):
    """Replace all conditions of a job; what runs already goes on."""

    id: JobId
    conditions: tuple[Condition, ...]


class SetBlockedWarning(Struct, frozen=True, tag=True):
    """Show or hide the warning that nodes are blocked for this job."""

    id: JobId
    shown: bool


class SetNodesDisabled(Struct, frozen=True, tag=True):
    """Drain nodes (they finish what they run and get nothing new), or enable them again: all of
    these or none. Reply: what takes it back, see `Inverse`."""

    ids: tuple[NodeId, ...]
    disabled: bool


class SetAvailability(Struct, frozen=True, tag=True):
    """Replace all availability rules of a node; those with the number 0 are given one. What it
    runs goes on."""

    id: NodeId
    rules: tuple[AvailabilityRule, ...]


class SetNodeDescription(Struct, frozen=True, tag=True):
    """What people say of a node; empty takes it away."""

    id: NodeId
    description: str


class RemoveNodes(Struct, frozen=True, tag=True):
    """Take nodes out of the farm, all of these or none; what they run is abandoned."""

    ids: tuple[NodeId, ...]


class CreateGroup(Struct, frozen=True, tag=True):
    """Reply: the id of the new, empty group."""

    name: str


class DeleteGroup(Struct, frozen=True, tag=True):
    """Conditions may go on naming it; they hold for no node then."""

    id: GroupId


class AddToGroup(Struct, frozen=True, tag=True):
    """Reply: what takes it back, see `Inverse`."""

    id: GroupId
    nodes: tuple[NodeId, ...]


class RemoveFromGroup(Struct, frozen=True, tag=True):
    """Reply: what takes it back, see `Inverse`."""

    id: GroupId
    nodes: tuple[NodeId, ...]


class SetGroupNodes(Struct, frozen=True, tag=True):
    """These and no other listed nodes are in the group."""

    id: GroupId
    nodes: tuple[NodeId, ...]


class SetNodeGroups(Struct, frozen=True, tag=True):
    """The node is in these groups and in no other."""

    id: NodeId
    groups: tuple[GroupId, ...]


class SetResource(Struct, frozen=True, tag=True):
    """Enter a resource into the table, or change it. Reply: its id."""

    name: str
    max: int | None = None
    per_machine: bool = False


class RemoveResource(Struct, frozen=True, tag=True):
    """Jobs that need it wait from then on."""

    name: str


class AddNote(Struct, frozen=True, tag=True):
    """Add to the thread of the node, else of the job, else to that thread, else to a new one
    (decision 46). Reply: the id of the note."""

    text: str
    thread: ThreadId | None = None
    job: JobId | None = None
    node: NodeId | None = None


class RemoveNotes(Struct, frozen=True, tag=True):
    """Reply: the ids that could not be removed, unknown ones included."""

    ids: tuple[NoteId, ...]


class RemoveThreads(Struct, frozen=True, tag=True):
    """With all of their notes. Reply: the ids that could not be removed."""

    ids: tuple[ThreadId, ...]


class SetAttributes(Struct, frozen=True, tag=True):
    """Somebody outside sets attributes of a job, running or not: all of these or none."""

    id: JobId
    attributes: dict[str, str]
    """Name to ClassAd text."""


class SetAttribute(Struct, frozen=True, tag=True):
    """A running attempt sets an attribute of its job (Chirp's `set_job_attr`).

    Refused with `Conflict` when the attempt does not run on that node (any more), `Forbidden` for
    a protected name, `Invalid` for a bad name or text, `TooLarge` for one too long or too much.
    """

    node: NodeId
    job: JobId
    number: int
    name: str
    text: str


class NoticesDone(Struct, frozen=True, tag=True):
    """These were delivered, or given up: forget them."""

    ids: tuple[NoticeId, ...]


Command = (
    SubmitJobs
    | CancelJobs
    | PauseJobs
    | ResumeJobs
    | RescheduleJobs
    | DeleteJobs
    | ExpireJobs
    | EjectJobs
    | SetPriority
    | SetPriorities
    | SetConditions
    | SetBlockedWarning
    | SetNodesDisabled
    | SetAvailability
    | SetNodeDescription
    | RemoveNodes
    | CreateGroup
    | DeleteGroup
    | AddToGroup
    | RemoveFromGroup
    | SetGroupNodes
    | SetNodeGroups
    | SetResource
    | RemoveResource
    | AddNote
    | RemoveNotes
    | RemoveThreads
    | SetAttributes
    | SetAttribute
    | NoticesDone
)

Inverse = PauseJobs | ResumeJobs | SetPriorities | SetNodesDisabled | AddToGroup | RemoveFromGroup
"""What takes a command back: exactly for those jobs or nodes that it changed, and as they were
before. A handler replies with one, or with None when it has changed nothing."""

# --- reports ----------------------------------------------------------------------------------


class HeldAttempt(Struct, frozen=True, array_like=True):
    """An attempt that a joining agent has: alive, or ended and not yet reported as saved."""

    job: JobId
    number: int
    state: Literal["running", "paused", "ended"]
    cpus: int = -1
    """What it has of the node's CPUs, or will have. -1 from an agent that does not say, and does
    not report the end of what it is told to kill either."""


class NodeJoined(Struct, frozen=True, tag=True):
    """An agent connected. Reply: the node's id, or `Refused` when another agent has its name."""

    facts: NodeFacts
    attempts: tuple[HeldAttempt, ...] = ()
    connection: int = 0
    """Numbers the server's connections, so that the end of an old one is not taken for this."""


class NodeDisconnected(Struct, frozen=True, tag=True):
    """The agent's connection broke. Its jobs go on; only silence has consequences."""

    node: NodeId
    connection: int = 0


class NodeBeat(Struct, frozen=True, tag=True):
    node: NodeId
    load: float = 0.0
    idle_minutes: int = -1
    progress: tuple[tuple[JobId, int, int], ...] = ()
    """(job, attempt number, millionths) of what progressed since the last beat."""
    memory_used_kb: int = 0


class AttemptStarted(Struct, frozen=True, gc=False, tag=True):
    job: JobId
    number: int


class AttemptPaused(Struct, frozen=True, tag=True):
    job: JobId
    number: int


class AttemptResumed(Struct, frozen=True, tag=True):
    job: JobId
    number: int


class AttemptEnded(Struct, frozen=True, gc=False, tag=True):
    """The attempt is over and nothing of it lives on; its output has been sent before this."""

    job: JobId
    number: int
    cause: AttemptCause
    exit_code: int | None = None
    text: str = ""
    ran_ms: int = 0
    progress: int = 0
    started: bool = False
    """It has run. A start that was over so soon is not reported by itself."""


class AttributesReported(Struct, frozen=True, tag=True):
    """What an attempt set with delay, each name with its latest text; bad ones are ignored."""

    job: JobId
    number: int
    attributes: tuple[tuple[str, str], ...]


EntryKind = Literal["ulog", "phase"]
"""What a job writes: any line, or what it is about to do, where `output` can be told from its
attributes (Chirp decision 2)."""


class EntryReported(Struct, frozen=True, gc=False, tag=True):
    """An attempt has added a line to its job's story. One that cannot be taken is left out."""

    job: JobId
    number: int
    entry: int
    """Grows from each line of an attempt to the next, so that one said again is known."""
    kind: EntryKind
    text: str


class NodeLeft(Struct, frozen=True, tag=True):
    """`terminate()`: it takes no new jobs, finishes what runs, and is not listed any more."""

    node: NodeId


AttemptReport = (
    AttemptStarted
    | AttemptPaused
    | AttemptResumed
    | AttemptEnded
    | AttributesReported
    | EntryReported
)


class NodeReported(Struct, frozen=True, gc=False, tag=True):
    """An attempt report together with the node that made it, so that strangers cannot report."""

    node: NodeId
    report: AttemptReport


Report = NodeJoined | NodeDisconnected | NodeBeat | NodeReported | NodeLeft


class Tick(Struct, frozen=True, tag=True):
    """Time has passed: silence, and placement that had reached its work limit."""

    heard: Moment | None = None
    """What came before then has been handled; None when all that came has been."""


class Restarted(Struct, frozen=True, tag=True):
    """The server has loaded the farm from disk: nodes get a full timeout to come back."""


Message = Command | Report | Tick | Restarted

# --- effects ----------------------------------------------------------------------------------

SignalAction = Literal["cancel", "eject", "pause", "resume", "kill", "recall"]
"""`cancel` and `eject` interrupt, then terminate, then kill; `cancel` runs the onCancel script.
`kill` is for attempts the farm no longer knows: at once, no scripts; all that is reported of it is
its end, as fenced.
`recall` ejects an attempt that still waits for a free CPU of its node, and no other."""


class Gates(Struct, frozen=True, array_like=True):
    """Which commands of Chirp a job may use."""

    io: bool
    """Files."""
    updates: bool
    """Attributes at once, ulog, phase, version."""
    delayed: bool
    """Attributes with delay."""

    def __bool__(self) -> bool:
        return self.io or self.updates or self.delayed


class ChirpOrder(Struct, frozen=True, array_like=True):
    """What an agent has to know to offer Chirp to an attempt."""

    gates: Gates
    owner: str
    """Who submitted the job; may be empty."""
    submit_dir: str
    """Absolute, or empty for the root job's own folder on the server."""
    root: JobId
    prefix: str
    """Names that may be set with delay: `attributes.matches_prefix`."""
    virtual_root: bool = False
    """Absolute paths begin at the folder (attribute `WantVirtualRoot`, Chirp decision 10)."""
    read_only: bool = False
    umask: int = 0o022
    """Rights that files it makes do not get."""


class AttemptOrder(Struct, frozen=True, gc=False):
    """All that an agent needs to run an attempt, and nothing it would have to ask for."""

    job: JobId
    number: int
    name: str
    command: str
    """For the node's platform; empty for the onChildError script alone."""
    environment: dict[str, str]
    """JOBID, ROOTJOBID, HQHOSTS and the spec's own; the agent adds what only it knows."""
    shell: str = ""
    cwd: str = ""
    cpus: int = 1
    max_time_ms: int | None = None
    on_cancel: str = ""
    on_error: str = ""
    on_success: str = ""
    on_child_error: str = ""
    """Only set when it is what this attempt is for."""
    cleanup: str = ""
    last_try: bool = True
    """False while a failure would be retried: then onError does not run (decision 29)."""
    chirp: ChirpOrder | None = None
    """None when the job may use nothing of it."""


class StartAttempt(Struct, frozen=True, gc=False, tag=True):
    """Idempotent: an agent that already has the attempt answers with its present state."""

    node: NodeId
    order: AttemptOrder


class SignalAttempt(Struct, frozen=True, tag=True):
    node: NodeId
    job: JobId
    number: int
    action: SignalAction


class DropNode(Struct, frozen=True, tag=True):
    """Close this node's connection: it was removed, or another agent took its place."""

    node: NodeId


class DeleteOutput(Struct, frozen=True, tag=True):
    """Remove the stored output of a deleted job."""

    job: JobId


Effect = StartAttempt | SignalAttempt | DropNode | DeleteOutput


class Outcome(Struct, frozen=True):
    reply: object = None
    effects: tuple[Effect, ...] = ()


class Changes(Struct, omit_defaults=True):
    """What has to be saved, merged over all messages since the last time it was taken."""

    submitted: list[tuple[Job, Rollup]] = field(default_factory=list)
    """New jobs, in their present state."""
    jobs: list[tuple[Job, Rollup]] = field(default_factory=list)
    """Known jobs whose state or roll-up changed; their spec is as it was."""
    specs: list[tuple[JobId, JobSpec]] = field(default_factory=list)
    """Of known jobs whose spec did change."""
    edges: list[tuple[JobId, JobId]] = field(default_factory=list)
    """New (parent, child) pairs, in order; children of a parent keep this order."""
    edges_removed: list[tuple[JobId, JobId]] = field(default_factory=list)
    deleted: list[JobId] = field(default_factory=list)
    """Jobs to forget, with their edges, attempts and events."""
    attempts: list[Attempt] = field(default_factory=list)
    """New or changed; written whole."""
    nodes: list[Node] = field(default_factory=list)
    """New or changed; written whole."""
    events: list[Event] = field(default_factory=list)
    """To be appended, in this order."""
    next_job_id: int | None = None
    """Set when the counter moved; ids are never used twice."""
    next_node_id: int | None = None
    groups: list[Group] = field(default_factory=list)
    """New or changed ones."""
    groups_deleted: list[GroupId] = field(default_factory=list)
    next_group_id: int | None = None
    resources: list[Resource] = field(default_factory=list)
    """New or changed ones."""
    resources_deleted: list[ResourceId] = field(default_factory=list)
    next_resource_id: int | None = None
    threads: list[Thread] = field(default_factory=list)
    """New ones; a thread is about the same thing for ever, and its notes are listed below."""
    threads_deleted: list[ThreadId] = field(default_factory=list)
    """To forget with all of their notes."""
    next_thread_id: int | None = None
    notes: list[Note] = field(default_factory=list)
    """New ones, in order."""
    notes_deleted: list[NoteId] = field(default_factory=list)
    next_note_id: int | None = None
    notices: list[Notice] = field(default_factory=list)
    """New ones, in order."""
    notices_done: list[NoticeId] = field(default_factory=list)
    next_notice_id: int | None = None
    attributes: list[Attribute] = field(default_factory=list)
    """New or changed ones."""
    points: list[AttributePoint] = field(default_factory=list)
    """New ones, in order."""
    strides: list[tuple[JobId, str, int]] = field(default_factory=list)
    """(job, folded name, stride): points with other numbers than its multiples are forgotten."""

    activities: list[Activity] = field(default_factory=list)
    """To be appended, in this order."""

    def __bool__(self) -> bool:
        return self != _NO_CHANGES


_NO_CHANGES = Changes()


class LiveRecords(Struct):
    """Everything `Farm.load` needs: the unfinished trees, all nodes, and the counters."""

    jobs: list[Job] = field(default_factory=list)
    children: dict[JobId, list[JobId]] = field(default_factory=dict)
    """Of each of them that has some, in their order."""
    parents: dict[JobId, tuple[JobId, ...]] = field(default_factory=dict)
    """Of each of them that has several, in their order."""
    attempts: list[Attempt] = field(default_factory=list)
    """Attempts without an end."""
    nodes: list[Node] = field(default_factory=list)
    next_job_id: int = 1
    next_node_id: int = 1
    groups: list[Group] = field(default_factory=list)
    next_group_id: int = 1
    resources: list[Resource] = field(default_factory=list)
    next_resource_id: int = 1
    threads: list[Thread] = field(default_factory=list)
    next_thread_id: int = 1
    next_note_id: int = 1
    next_notice_id: int = 1
    attributes: list[Attribute] = field(default_factory=list)
    """Of the jobs given, as far as they were set after submission."""
