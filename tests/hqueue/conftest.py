"""A farm in a few lists: what the front ends ask of `roost.gateway`, answered from memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from roost.core import actions
from roost.core.messages import (
    AddNote,
    AddToGroup,
    Command,
    CreateGroup,
    RemoveFromGroup,
    RemoveNodes,
    RemoveNotes,
    RemoveThreads,
    SetAvailability,
    SetNodeDescription,
    SetNodesDisabled,
    SetResource,
    SubmitJobs,
)
from roost.core.records import (
    Attempt,
    AttemptCause,
    Attribute,
    AttributePoint,
    Condition,
    Event,
    Group,
    GroupId,
    Job,
    JobId,
    JobSpec,
    JobStatus,
    Moment,
    Node,
    NodeFacts,
    NodeId,
    Reason,
    Resource,
    ResourceId,
    Rollup,
    ThreadId,
)
from roost.errors import NotFound
from roost.gateway import (
    Acted,
    FarmCounts,
    JobFilter,
    JobView,
    NodeFilter,
    NodesActed,
    NodeView,
    OutputLines,
    OutputPart,
    Pace,
    Part,
    ResourceView,
    ServerError,
    ServerErrors,
    ThreadView,
    Undone,
)
from roost.store.lines import LineIndex

NOW = Moment(1_760_000_000_000)  # 2025-10-09T08:53:20 UTC


class FakeGateway:
    """Holds views whole and hands out the parts that were asked for; notes every command."""

    def __init__(self) -> None:
        self.views: dict[int, JobView] = {}
        self.node_views: dict[int, NodeView] = {}
        self.group_list: list[Group] = []
        self.thread_views: dict[int, ThreadView] = {}
        self.logs: dict[int, bytes] = {}
        self.asked: list[Command] = []
        self.parts_asked: list[frozenset[Part]] = []
        self.waiting_asked: tuple[int, int | None, int | None] | None = None
        self.failure: Exception | None = None
        self.settings = {"port": "5000"}
        self.errors: list[ServerError] = []
        self.history: dict[int, list[JobId]] = {}
        self.unstarted: dict[int, list[Attempt]] = {}
        self.changed = asyncio.Condition()
        self.stopped = False

    # --- given -------------------------------------------------------------------------------

    def add_job(self, job_id: int, status: str = "runnable", **more: object) -> JobView:
        spec = more.pop("spec", None) or JobSpec(name=f"job {job_id}")
        parts = {k: more.pop(k) for k in list(more) if k in JobView.__struct_fields__}
        job = Job(JobId(job_id), spec, JobStatus(status), Moment(NOW - 60_000), **more)
        parts.setdefault("rollup", Rollup(status, 0, 1, 0, 0, 0))
        view = JobView(job, **parts)
        self.views[job_id] = view
        self.logs.setdefault(job_id, b"")
        return view

    def add_rich_job(self, job_id: int = 7) -> JobView:
        """One with something in every part."""
        return self.add_job(
            job_id,
            "running",
            spec=JobSpec(
                name="comp",
                command={"linux": "render", "windows": "render.exe"},
                shell="bash",
                description="night run",
                submitted_by="ann",
                environment={"SHOT": "a<b>&c"},
                conditions=(Condition("os", "==", "linux"),),
                tags=("single",),
                cpus=4,
                max_time_ms=90_000,
                resources={"licence": 2},
            ),
            priority=5,
            tries_left=1,
            progress=250_000,
            attempt=1,
            nodes=(NodeId(1), NodeId(99)),
            runnable_at=Moment(NOW - 50_000),
            started_at=Moment(NOW - 30_000),
            command_started_at=Moment(NOW - 30_000),
            rollup=Rollup("running", 750_000, 4, 2, 1, 1),
            parents=(JobId(3),),
            children=(JobId(8), JobId(9)),
            conditions=(Condition("hostname", "in", "a,b"),),
            held_nodes=(NodeId(2),),
            attributes=(
                Attribute(JobId(job_id), "Loss", "0.5", NOW, 3),
                Attribute(JobId(job_id), "Stage", '"a b"', Moment(NOW - 5)),
                Attribute(JobId(job_id), "Twice", "Loss * 2", Moment(NOW - 5)),
            ),
            events=(Event(JobId(job_id), Moment(NOW - 60_000), "runnable", "submitted"),),
            attempts=(
                Attempt(
                    JobId(job_id),
                    1,
                    (NodeId(1),),
                    NOW,
                    cause=AttemptCause.EXITED,
                    exit_code=0,
                ),
            ),
            reasons=(Reason("No node is free.", (NodeId(1),)), Reason("It is late.")),
        )

    def add_node(self, node_id: int, hostname: str, name: str = "", **more: object) -> None:
        needs_upgrade = bool(more.pop("needs_upgrade", False))
        offset = int(more.pop("utc_offset_minutes", 0))
        facts = NodeFacts(
            hostname,
            name,
            ip=f"10.0.0.{node_id}",
            cpus=8,
            cpu_speed_mhz=3000,
            memory_kb=2 * 1024**3,
            version="abc",
        )
        node = Node(NodeId(node_id), facts, NOW, Moment(NOW - 5_000), load=0.5, **more)
        self.node_views[node_id] = NodeView(
            node,
            True,
            not node.disabled,
            groups=(4,),
            running=(JobId(7),),
            cpus_busy=4,
            needs_upgrade=needs_upgrade,
            time_zone="Europe/Berlin",
            utc_offset_minutes=offset,
        )

    async def change(self, job_id: int, status: str, log: bytes = b"") -> None:
        """Move a job on and tell whoever follows it."""
        async with self.changed:
            view = self.views[job_id]
            job = msgspec.structs.replace(view.job, status=JobStatus(status))
            self.views[job_id] = msgspec.structs.replace(view, job=job)
            self.logs[job_id] += log
            self.changed.notify_all()

    async def stop(self) -> None:
        async with self.changed:
            self.stopped = True
            self.changed.notify_all()

    # --- the gateway -------------------------------------------------------------------------

    def _check(self) -> None:
        if self.failure:
            raise self.failure

    async def ask(self, command: Command) -> object:
        self._check()
        self.asked.append(command)
        if isinstance(command, SubmitJobs):
            first = max(self.views, default=0) + 1
            ids = [JobId(first + place) for place in range(len(command.jobs))]
            for job_id, new in zip(ids, command.jobs, strict=True):
                self.add_job(job_id, spec=new.spec)
            return ids
        about_node = SetNodesDisabled | SetAvailability | SetNodeDescription | RemoveNodes
        if isinstance(command, about_node):
            for node in getattr(command, "ids", None) or (command.id,):
                if node not in self.node_views:
                    raise NotFound(f"There is no node {node}.")
        if isinstance(command, RemoveNotes | RemoveThreads):
            return tuple(each for each in command.ids if each > 10)
        if isinstance(command, CreateGroup | SetResource | AddNote):
            return 5
        return None

    async def act(
        self,
        action: str,
        which: JobFilter | None = None,
        ids: Sequence[JobId] = (),
        priority: int | None = None,
    ) -> Acted:
        known = [view.job.id for view in await self._chosen(which, ids)]
        value = () if priority is None else (priority,)
        await self.ask(actions.find(action).command(tuple(ids or known), *value))
        return Acted(tuple(known), tuple(one for one in ids if one not in known))

    async def act_on_nodes(
        self,
        action: str,
        which: NodeFilter | None = None,
        ids: Sequence[NodeId] = (),
        group: GroupId | None = None,
    ) -> NodesActed:
        chosen = (
            tuple(ids)
            if which is None
            else tuple(node for node, view in self.node_views.items() if which.passes(view))
        )
        if command := actions.NODE_ACTIONS[action].command:
            await self.ask(command(chosen))
        elif group is not None:
            grouping = AddToGroup if action == "add_to_group" else RemoveFromGroup
            await self.ask(grouping(group, chosen))
        return NodesActed(chosen, (), undo=f"undo {action}")

    async def undo(self, token: str) -> Undone:
        self._check()
        if not token.startswith("undo "):
            raise NotFound("That cannot be undone any more.")
        return Undone(nodes=(NodeId(1),))

    async def _chosen(self, which: JobFilter | None, ids: Sequence[JobId]) -> list[JobView]:
        if which is not None:
            return await self.list_jobs(which, frozenset())
        return await self.job_views(ids, frozenset())

    async def job_views(self, ids: Sequence[JobId], parts: frozenset[Part]) -> list[JobView]:
        self._check()
        self.parts_asked.append(parts)
        return [self._reduced(self.views[i], parts) for i in ids if i in self.views]

    def _reduced(self, view: JobView, parts: frozenset[Part]) -> JobView:
        kept = {
            field: getattr(view, field)
            for part, field in (
                (Part.PARENTS, "parents"),
                (Part.CHILDREN, "children"),
                (Part.EVENTS, "events"),
                (Part.ATTEMPTS, "attempts"),
                (Part.CONDITIONS, "conditions"),
                (Part.REASONS, "reasons"),
                (Part.HOLDS, "held_nodes"),
                (Part.NOTES, "latest_note"),
                (Part.ATTRIBUTES, "attributes"),
            )
            if part in parts
        }
        job = view.job
        if Part.SPEC not in parts:
            job = msgspec.structs.replace(job, spec=JobSpec(name=job.spec.name))
        return JobView(job, view.rollup, **kept)

    async def attribute_points(self, job: JobId) -> dict[str, list[AttributePoint]]:
        self._check()
        return {"loss": [AttributePoint(job, "loss", n, Moment(NOW - n), 2.0) for n in (0, 1)]}

    async def list_jobs(self, which: JobFilter, parts: frozenset[Part]) -> list[JobView]:
        found = [
            view
            for job_id, view in sorted(self.views.items(), reverse=True)
            if (which.before is None or job_id < which.before)
            and (not which.statuses or view.job.status in which.statuses)
            and which.name_contains in view.job.spec.name
            and (not which.roots_only or not view.parents)
            and (which.parent is None or which.parent in view.parents)
        ]
        return [self._reduced(view, parts) for view in found[: which.limit]]

    async def job_ids(
        self, statuses: Sequence[JobStatus] | None = None, *, roots_only: bool = False
    ) -> list[JobId]:
        return [
            JobId(job_id)
            for job_id, view in sorted(self.views.items())
            if (statuses is None or view.job.status in statuses)
            and not (roots_only and view.parents)
        ]

    async def count_waiting(self, before: Moment, low: int | None, high: int | None) -> int:
        self.waiting_asked = (before, low, high)
        return 3

    async def nodes(self, *, with_former: bool = False) -> list[NodeView]:
        return [view for _, view in sorted(self.node_views.items())]

    async def job_history(self, node: NodeId, limit: int) -> list[JobId]:
        return self.history.get(node, [])[:limit]

    async def start_failures(self, node: NodeId, limit: int) -> tuple[int, list[Attempt]]:
        found = self.unstarted.get(node, [])
        return len(found), found[:limit]

    def note_error(self, text: str) -> None:
        self.errors.insert(0, ServerError(len(self.errors) + 1, NOW, text))

    def server_errors(self) -> ServerErrors:
        return ServerErrors(len(self.errors), tuple(self.errors))

    async def groups(self) -> list[Group]:
        return self.group_list

    async def resources(self) -> list[ResourceView]:
        return [
            ResourceView(Resource(ResourceId(1), "nuke", 4), 3),
            ResourceView(Resource(ResourceId(2), "houdini", None, True), 0),
        ]

    async def thread_ids(self) -> list[ThreadId]:
        self._check()
        return [view.id for view in self.thread_views.values()]

    async def threads(
        self, ids: Sequence[ThreadId] | None = None, *, latest_only: bool = False
    ) -> list[ThreadView]:
        self._check()
        wanted = await self.thread_ids() if ids is None else ids
        views = [self.thread_views[each] for each in wanted if each in self.thread_views]
        if latest_only:
            return [msgspec.structs.replace(view, notes=view.notes[-1:]) for view in views]
        return views

    async def output(self, job: JobId, last_bytes: int | None = None) -> bytes:
        if job not in self.logs:
            raise NotFound(f"There is no job {job}.")
        log = self.logs[job]
        return log if last_bytes is None else log[-last_bytes:]

    async def output_part(self, job: JobId, offset: int, size_max: int) -> OutputPart:
        if job not in self.logs:
            raise NotFound(f"There is no job {job}.")
        log = self.logs[job]
        complete = self.views[job].job.status in ("succeeded", "failed", "cancelled")
        return OutputPart(offset, log[offset : offset + size_max], len(log), complete)

    async def output_lines(
        self, job: JobId, first: int, count: int, attempt: int | None = None, *, timed: bool = False
    ) -> OutputLines:
        """The byte at offset 3 arrived at 3 s, the first one at an unknown time."""
        part = await self.output_part(job, 0, 1 << 20)
        pieces = [(part.data, part.total)]
        found = LineIndex().read(pieces, first, count, (lambda _, at: [*at]) if timed else None)
        return msgspec.structs.replace(found, complete=part.complete)

    async def follow(self, jobs: Sequence[JobId]) -> AsyncIterator[tuple[JobId, ...]]:
        seen: dict[JobId, tuple[object, int] | None] = {}
        while not self.stopped:
            async with self.changed:
                now = {
                    i: (self.views[i].job.status, len(self.logs[i])) if i in self.views else None
                    for i in jobs
                }
                changed = tuple(i for i in jobs if i not in seen or seen[i] != now[i])
                if not changed:
                    await self.changed.wait()
                    continue
                seen = now
            yield changed

    async def counts(self) -> FarmCounts:
        self._check()
        jobs: dict[str, int] = {}
        for view in self.views.values():
            jobs[view.job.status.value] = jobs.get(view.job.status.value, 0) + 1
        return FarmCounts(jobs, len(self.node_views), 0, len(self.node_views), 16, 4)

    def pace(self) -> Pace:
        return Pace(7, 2, 10, 20, 30)

    def config(self, key: str) -> str | None:
        return self.settings.get(key)

    def now(self) -> Moment:
        return NOW


@pytest.fixture
def farm() -> FakeGateway:
    return FakeGateway()
