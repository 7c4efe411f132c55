"""The gateway as this server fulfils it: commands go to the engine, reads to the database.

Jobs and notes are read from disk, so a reader never sees what could still be lost and never holds
up the engine; only why a job waits, and the nodes, are asked of the farm in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct
from msgspec.structs import replace

from roost import package
from roost.core import actions
from roost.core.availability import midnight, offset_minutes
from roost.core.explanation import explain
from roost.core.lifecycle import FAILED, FINAL, MOVABLE
from roost.core.messages import (
    AddToGroup,
    Changes,
    Command,
    PauseJobs,
    RemoveFromGroup,
    ResumeJobs,
    SetNodesDisabled,
    SetPriorities,
    SubmitJobs,
)
from roost.core.records import (
    Activity,
    Attempt,
    AttributePoint,
    Group,
    GroupId,
    Job,
    JobId,
    JobStatus,
    Moment,
    NodeId,
    Note,
    ThreadId,
)
from roost.core.upgrading import name_of, under_way, upgrade_job
from roost.errors import Forbidden, Invalid, NotFound, Refused
from roost.gateway import (
    ACTING,
    Acted,
    AttemptView,
    FarmChange,
    FarmCounts,
    Headline,
    JobFilter,
    JobStanding,
    JobView,
    Kind,
    NodeFilter,
    NodesActed,
    NodeView,
    OutputLines,
    OutputMatches,
    OutputPart,
    Pace,
    Part,
    ResourceView,
    Sample,
    ServerError,
    ServerErrors,
    ThreadView,
    Undone,
)
from roost.server.engine import Engine, now
from roost.server.signs import Signs
from roost.server.statistics import Statistics
from roost.server.undoing import Inverses
from roost.store import linesearch, queries
from roost.store.database import Database
from roost.store.lines import LineIndex, last_lines
from roost.store.output import OutputStore, Piece

ERRORS_KEPT = 100
CHANGES_KEPT = 1_000
CHANGE_JOBS_MAX = 200
"""How many jobs a change may name that is remembered."""
HEADLINE_MS = 1_000
FAILED_COUNT_MAX = 10_000
SEARCHES_MAX = 2
"""Searches of output at a time; more wait for their turn."""
LEGACY_SECRETS = frozenset({"sqlalchemy.default.url", "smtp_password", "database_url"})


class Upgrades(Struct, frozen=True):
    """How this server passes its own Roost on."""

    allowed: bool = False
    priority: int = 0


class Access:
    """A `roost.gateway.Gateway`."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        output: OutputStore,
        config: dict[str, str],
        upgrades: Upgrades = Upgrades(),  # noqa: B008  (immutable)
    ) -> None:
        self._engine = engine
        self._database = database
        self._output = output
        self._lines = LineIndex()
        self._searching = asyncio.Semaphore(SEARCHES_MAX)
        self._config = config
        self._upgrades = upgrades
        self._inverses = Inverses()
        self._signs = Signs(database, output)
        self._followers: dict[JobId, set[_Follower]] = {}
        self._watchers: set[_Follower] = set()
        # Not one that an earlier server has told, so that a page which outlives it starts afresh.
        self._revision: int = now()
        # The latest revisions, the newest last: what a page may have missed while it was loaded.
        self._recent: deque[FarmChange] = deque(maxlen=CHANGES_KEPT)
        self._every_follower: set[_Follower] = set()
        self.statistics = Statistics(database, self.counts)
        self._headline: Headline | None = None
        self._headline_at = Moment(0)
        self._errors: deque[ServerError] = deque(maxlen=ERRORS_KEPT)
        self._errors_total = 0
        self._version = package.version()

    # --- commands -------------------------------------------------------------------------

    def ask(self, command: Command) -> Awaitable[object]:
        return self._engine.ask(command, ACTING.get())

    async def act(
        self,
        action: str,
        which: JobFilter | None = None,
        ids: Sequence[JobId] = (),
        priority: int | None = None,
    ) -> Acted:
        what = actions.find(action)
        found = await self.standings(which, ids)
        applied = [one.id for one in found if one.status in what.applies]
        named = [one.id for one in found]
        if action == "reschedule_failed":
            applied += self._failed_below(one.id for one in found if one.tasks_failed)
            # A job may be chosen together with what is above it.
            applied = [*dict.fromkeys(applied)]
            named = applied
        elif action == "eject":
            applied = self._on_nodes(named)
        reply: object = None
        if named:
            # Also those it does not apply to: it may to what is below them.
            value = () if priority is None else (priority,)
            reply = await self.ask(what.command(tuple(named), *value))
        known = set(applied)
        if action in ("reschedule_failed", "eject"):
            # It was meant for what is below as well.
            known.update(self._engine.farm.tree.with_ancestors(applied))
        left_out = [one for one in ids or [each.id for each in found] if one not in known]
        return Acted(tuple(applied), tuple(left_out), self._inverses.keep(reply))

    async def act_on_nodes(
        self,
        action: str,
        which: NodeFilter | None = None,
        ids: Sequence[NodeId] = (),
        group: GroupId | None = None,
    ) -> NodesActed:
        listed = {view.node.id: view for view in await self.nodes()}
        for node in ids:
            if node not in listed:
                raise NotFound(f"There is no node with id {node}.")
        found = [listed[node] for node in dict.fromkeys(ids)]
        if which is not None:
            found = [view for view in listed.values() if which.passes(view)]
        applied = tuple(view.node.id for view in found if view.allows(action, group))
        left_out = tuple(view.node.id for view in found if not view.allows(action, group))
        command = actions.NODE_ACTIONS[action].command
        if action == "upgrade":
            jobs = await self.upgrade_nodes(applied)
            return NodesActed(applied, left_out, tuple(jobs))
        if command is None:
            assert group is not None
            grouping = AddToGroup if action == "add_to_group" else RemoveFromGroup
            # Also for none: that there is no such group has to be said.
            reply = await self.ask(grouping(group, applied))
        else:
            reply = await self.ask(command(applied)) if applied else None
        return NodesActed(applied, left_out, undo=self._inverses.keep(reply))

    async def undo(self, token: str) -> Undone:
        command = self._inverses.take(token)
        try:
            again = self._inverses.keep(await self.ask(command))
        except Refused:
            self._inverses.put_back(token, command)
            raise
        match command:
            case PauseJobs(ids=jobs) | ResumeJobs(ids=jobs):
                return Undone(jobs, undo=again)
            case SetPriorities(priorities=priorities):
                return Undone(tuple(job for job, _ in priorities), undo=again)
            case (
                SetNodesDisabled(ids=nodes) | AddToGroup(nodes=nodes) | RemoveFromGroup(nodes=nodes)
            ):
                return Undone(nodes=nodes, undo=again)

    def _failed_below(self, parents: Iterable[JobId]) -> list[JobId]:
        """The failed ones among those of these jobs that are not over, and all below them."""
        farm = self._engine.farm
        below = farm.tree.with_descendants(parents)
        return sorted(job for job in below if farm.jobs[job].status in FAILED)

    def _on_nodes(self, ids: Sequence[JobId]) -> list[JobId]:
        """Of these jobs and all below them, those that can be taken off their nodes."""
        farm = self._engine.farm
        chosen = [farm.jobs[job] for job in farm.tree.with_descendants(ids)]
        return [one.id for one in chosen if one.status in MOVABLE and farm.live_attempt(one)]

    # --- jobs -----------------------------------------------------------------------------

    async def job_views(self, ids: Sequence[JobId], parts: frozenset[Part]) -> list[JobView]:
        views = await self._database.read(queries.job_views, ids, parts)
        return await self._completed(views, parts)

    async def attribute_points(self, job: JobId) -> dict[str, list[AttributePoint]]:
        return await self._database.read(queries.attribute_points, job)

    async def child_statuses(self, job: JobId) -> list[tuple[JobId, JobStatus]]:
        return await self._database.read(queries.child_statuses, job)

    async def attempts_on_node(self, node: NodeId, since: Moment, limit: int) -> list[AttemptView]:
        return await self._database.read(queries.attempts_on_node, node, since, limit)

    async def attempts_of_family(self, job: JobId, limit: int) -> list[AttemptView]:
        return await self._database.read(queries.attempts_of_family, job, limit)

    async def list_jobs(self, which: JobFilter, parts: frozenset[Part]) -> list[JobView]:
        views = await self._database.read(queries.list_jobs, which, parts)
        return await self._completed(views, parts)

    async def count_jobs(self, which: JobFilter, count_max: int) -> dict[JobStatus, int]:
        return await self._database.read(queries.count_jobs, which, count_max)

    async def standings(
        self, which: JobFilter | None = None, ids: Sequence[JobId] = ()
    ) -> list[JobStanding]:
        return await self._database.read(queries.standings, which, ids)

    async def _completed(self, views: list[JobView], parts: frozenset[Part]) -> list[JobView]:
        """The same views, with those parts that are not in the record."""
        if Part.SIGNS in parts:
            views = await self._signs.given(views)
        return self._with_reasons(views, parts)

    def _with_reasons(self, views: list[JobView], parts: frozenset[Part]) -> list[JobView]:
        if Part.REASONS not in parts and Part.HOLDS not in parts:
            return views
        farm = self._engine.farm
        live = [view.job.id for view in views if view.job.status not in FINAL]
        reasons = explain(farm, live) if Part.REASONS in parts else {}
        return [
            view
            if view.job.status in FINAL
            else replace(
                view,
                reasons=reasons.get(view.job.id, ()),
                held_nodes=tuple(farm.floor.holds.get(view.job.id, ())),
            )
            for view in views
        ]

    async def job_ids(
        self, statuses: Sequence[JobStatus] | None = None, *, roots_only: bool = False
    ) -> list[JobId]:
        return await self._database.read(queries.job_ids, statuses, roots_only)

    async def count_waiting(
        self, runnable_before: Moment, priority_min: int | None, priority_max: int | None
    ) -> int:
        return await self._database.read(
            queries.count_waiting, runnable_before, priority_min, priority_max
        )

    # --- nodes ----------------------------------------------------------------------------

    async def nodes(self, *, with_former: bool = False) -> list[NodeView]:
        latest: dict[NodeId, Note] = {}
        if self._engine.farm.board.thread_of_node:
            latest = await self._database.read(queries.latest_notes_of_nodes)
        farm = self._engine.farm
        groups: dict[NodeId, list[GroupId]] = {}
        for group in farm.groups.values():
            for member in group.nodes:
                groups.setdefault(member, []).append(group.id)
        return [
            self._node_view(node.id, tuple(groups.get(node.id, ())), latest.get(node.id))
            for node in farm.nodes.values()
            if with_former or not node.leaving
        ]

    def node_labels(self) -> dict[NodeId, str]:
        return {node.id: node.facts.label for node in self._engine.farm.nodes.values()}

    def _node_view(
        self, node_id: NodeId, groups: tuple[GroupId, ...], latest_note: Note | None
    ) -> NodeView:
        farm, floor = self._engine.farm, self._engine.farm.floor
        node, use = floor.nodes[node_id], floor.uses[node_id]
        connected = node_id in floor.connected
        return NodeView(
            node=node,
            connected=connected,
            available=connected
            and node.active
            and not node.disabled
            and node_id not in floor.off_duty,
            off_duty=floor.off_duty.get(node_id, ""),
            time_zone=str(farm.rules.zone),
            utc_offset_minutes=offset_minutes(now(), farm.rules.zone),
            groups=groups,
            # A deleted job's run may still be on its way out; nobody could ask about that job.
            running=tuple(dict.fromkeys(job for job, _ in use.attempts if job in farm.jobs)),
            cpus_busy=min(use.cpus_busy, node.facts.cpus),
            needs_upgrade=bool(node.facts.version) and node.facts.version != self._version,
            latest_note=latest_note,
        )

    async def upgrade_nodes(self, ids: Sequence[NodeId]) -> list[JobId]:
        farm = self._engine.farm
        outdated = [
            farm.nodes[id].facts
            for id in dict.fromkeys(ids)
            if id in farm.nodes
            and not farm.nodes[id].leaving
            and farm.nodes[id].facts.version not in ("", self._version)
        ]
        if outdated and not self._upgrades.allowed:
            raise Forbidden(
                "Upgrades over the network are switched off. Set upgrades = true in the server's "
                "settings if you trust the network, or install the server's Roost by hand."
            )
        known = under_way(farm.jobs.values(), self._version)
        new = [facts for facts in outdated if name_of(facts) not in known]
        if not new:
            return []
        digest = await asyncio.to_thread(package.archive_digest)
        jobs = [upgrade_job(facts, self._version, digest, self._upgrades.priority) for facts in new]
        created = await self.ask(SubmitJobs(tuple(jobs)))
        assert isinstance(created, list)
        return created

    async def job_history(self, node: NodeId, limit: int) -> list[JobId]:
        return await self._database.read(queries.job_history, node, limit)

    async def start_failures(self, node: NodeId, limit: int) -> tuple[int, list[Attempt]]:
        return await self._database.read(queries.start_failures, node, limit)

    async def groups(self) -> list[Group]:
        farm = self._engine.farm
        return [
            replace(group, nodes=tuple(n for n in group.nodes if not farm.nodes[n].leaving))
            for group in sorted(farm.groups.values(), key=lambda group: group.id)
        ]

    async def resources(self) -> list[ResourceView]:
        stock = self._engine.farm.floor.stock
        return [
            ResourceView(one, stock.in_use(one.name, one.per_machine))
            for one in sorted(stock.resources.values(), key=lambda one: one.id)
        ]

    # --- notes ----------------------------------------------------------------------------

    async def thread_ids(self) -> list[ThreadId]:
        return await self._database.read(queries.thread_ids)

    async def threads(
        self, ids: Sequence[ThreadId] | None = None, *, latest_only: bool = False
    ) -> list[ThreadView]:
        return await self._database.read(queries.threads, ids, latest_only)

    # --- output ---------------------------------------------------------------------------

    async def _record(self, job: JobId) -> Job:
        views = await self.job_views([job], frozenset())
        if not views:
            raise NotFound(f"There is no job {job}; it may have been deleted.")
        return views[0].job

    def _is_over(self, job: Job) -> bool:
        """Nothing more will be printed, or none of it is taken."""
        farm = self._engine.farm
        stopping = farm.stopping.get(job.id, ())
        return job.status in FINAL and not any((job.id, n) in farm.attempts for n in stopping)

    async def output(self, job: JobId, last_bytes: int | None = None) -> bytes:
        attempts = (await self._record(job)).attempt
        if last_bytes is None:
            return await asyncio.to_thread(self._output.read_all, job, attempts)
        return await asyncio.to_thread(self._output.read_last, job, attempts, last_bytes)

    async def output_part(self, job: JobId, offset: int, size_max: int) -> OutputPart:
        record = await self._record(job)
        is_over = self._is_over(record)
        data, total = await asyncio.to_thread(
            self._output.read_range, job, record.attempt, offset, size_max
        )
        return OutputPart(offset, data, total, is_over and offset + len(data) >= total)

    async def output_lines(
        self, job: JobId, first: int, count: int, attempt: int | None = None, *, timed: bool = False
    ) -> OutputLines:
        record = await self._record(job)
        is_over = self._is_over(record) or (attempt or record.attempt) < record.attempt

        def read() -> OutputLines:
            arrived_at = self._output.arrived_at if timed else None
            return self._lines.read(self._pieces(record, attempt), first, count, arrived_at)

        return replace(await asyncio.to_thread(read), complete=is_over)

    async def output_end(
        self, job: JobId, bytes_max: int, attempt: int | None = None
    ) -> tuple[list[str], int]:
        record = await self._record(job)

        def read() -> tuple[list[str], int]:
            pieces = self._pieces(record, attempt)
            return last_lines(pieces, bytes_max), sum(size for _, size in pieces)

        return await asyncio.to_thread(read)

    async def search_output(
        self, job: JobId, pattern: str, first: int, matches_max: int, attempt: int | None = None
    ) -> OutputMatches:
        record = await self._record(job)
        try:
            linesearch.compiled(pattern)
        except ValueError as error:
            raise Invalid(f"The pattern is not a regular expression: {error}.") from None

        def search() -> OutputMatches:
            pieces = self._pieces(record, attempt)
            return self._lines.search(pieces, pattern, first, matches_max)

        async with self._searching:
            return await asyncio.to_thread(search)

    def _pieces(self, job: Job, attempt: int | None) -> list[Piece]:
        if attempt is not None and not 1 <= attempt <= job.attempt:
            raise NotFound(
                f"Job {job.id} has no attempt {attempt}; it has had {job.attempt} so far."
            )
        return self._output.pieces(job.id, job.attempt, attempt)

    # --- following ------------------------------------------------------------------------

    async def follow(self, jobs: Sequence[JobId]) -> AsyncIterator[tuple[JobId, ...]]:
        with self._following(jobs) as follower:
            while change := await follower.next():
                yield change.jobs

    def revision(self) -> int:
        return self._revision

    async def watch(self, jobs: Sequence[JobId], seen: int = 0) -> AsyncIterator[FarmChange]:
        with self._following(jobs) as follower:
            follower.begin_with(self._since(seen, jobs))
            self._watchers.add(follower)
            try:
                while change := await follower.next():
                    yield change
            finally:
                self._watchers.discard(follower)

    def _since(self, seen: int, jobs: Sequence[JobId]) -> FarmChange:
        """What has changed since that revision; everything when it is not remembered."""
        missed = self._revision - seen
        if not 0 <= missed <= len(self._recent):
            return FarmChange(tuple(jobs), submitted=True, counts=True, nodes=True)
        changes = [*self._recent][len(self._recent) - missed :]
        changed = {job for change in changes for job in change.jobs}
        return FarmChange(
            tuple(job for job in jobs if job in changed),
            submitted=any(change.submitted for change in changes),
            counts=any(change.counts for change in changes),
            nodes=any(change.nodes for change in changes),
        )

    @contextmanager
    def _following(self, jobs: Sequence[JobId]) -> Iterator[_Follower]:
        follower = _Follower(jobs)
        self._every_follower.add(follower)
        for job in jobs:
            self._followers.setdefault(job, set()).add(follower)
        try:
            yield follower
        finally:
            self._every_follower.discard(follower)
            for job in jobs:
                self._followers[job].discard(follower)
                if not self._followers[job]:
                    del self._followers[job]

    def stop_following(self) -> None:
        """The server stops: streams that follow the farm, and searches, end instead of being
        cut."""
        self._lines.stop_searches()
        for follower in self._every_follower:
            follower.stop()

    def publish(self, changes: Changes) -> None:
        """Wake whoever follows one of the jobs that changed, or watches the farm."""
        self.statistics.take(changes)
        self._signs.take(changes)
        submitted = bool(changes.submitted)
        counts = submitted or bool(changes.jobs or changes.deleted or changes.attributes)
        nodes = bool(changes.nodes or changes.groups or changes.groups_deleted)
        nodes = nodes or bool(changes.resources or changes.resources_deleted or changes.notes)
        nodes = nodes or bool(changes.notes_deleted or changes.threads_deleted)
        found = dict.fromkeys(job.id for job, _ in changes.submitted)
        found.update(dict.fromkeys(job.id for job, _ in changes.jobs))
        found.update(dict.fromkeys(changes.deleted))
        found.update(dict.fromkeys(attribute.job for attribute in changes.attributes))
        found.update(dict.fromkeys(attempt.job for attempt in changes.attempts))
        found.update(dict.fromkeys(event.job for event in changes.events))
        threads = self._engine.farm.board.threads
        about = (threads[note.thread] for note in changes.notes if note.thread in threads)
        found.update(dict.fromkeys(thread.job for thread in about if thread.job is not None))
        if not (found or nodes):
            return
        jobs = tuple(found)
        self._revision += 1
        if len(jobs) > CHANGE_JOBS_MAX:
            self._recent.clear()  # not worth the memory: who missed it is told everything
        else:
            self._recent.append(FarmChange(jobs, submitted, counts, nodes))
        if counts or nodes:
            for follower in self._watchers:
                follower.note(submitted, counts, nodes)
        if self._followers:
            for job_id in jobs:
                self.job_changed(job_id)

    def job_changed(self, job: JobId) -> None:
        for follower in self._followers.get(job, ()):
            follower.add(job)

    # --- the farm -------------------------------------------------------------------------

    async def counts(self) -> FarmCounts:
        farm = self._engine.farm
        if self._engine.failure is not None:
            raise self._engine.refusal()
        listed = [node for node in farm.nodes.values() if not node.leaving]
        active = [node for node in listed if node.active]
        return FarmCounts(
            jobs={status.value: count for status, count in farm.standing.items() if count},
            nodes=len(listed),
            nodes_busy=sum(bool(farm.floor.uses[node.id].attempts) for node in active),
            nodes_active=len(active),
            cpus=sum(node.facts.cpus for node in active),
            cpus_busy=sum(
                min(farm.floor.uses[node.id].cpus_busy, node.facts.cpus) for node in active
            ),
        )

    def pace(self) -> Pace:
        return self.statistics.pace()

    async def samples(self, since: Moment, count_max: int) -> list[Sample]:
        return await self._database.read(queries.samples, since, count_max)

    async def kinds(self, roots_max: int) -> list[Kind]:
        return await self._database.read(queries.ended_kinds, roots_max)

    async def activities(
        self, limit: int, before: int | None = None, words: str = ""
    ) -> list[tuple[int, Activity]]:
        return await self._database.read(queries.activities, limit, before, words)

    async def headline(self) -> Headline:
        if self._headline is None or now() - self._headline_at > HEADLINE_MS:
            failed = JobFilter(
                statuses=(JobStatus.FAILED,),
                roots_only=True,
                ended_after=midnight(now(), self._engine.farm.rules.zone),
            )
            # Taken before the question, so that the next to come does not ask it as well.
            self._headline_at = now()
            count = await self.count_jobs(failed, FAILED_COUNT_MAX)
            self._headline = Headline(await self.counts(), sum(count.values()))
        return self._headline

    def note_error(self, text: str) -> None:
        self._errors_total += 1
        self._errors.appendleft(ServerError(self._errors_total, now(), text))

    def server_errors(self) -> ServerErrors:
        return ServerErrors(self._errors_total, tuple(self._errors))

    def config(self, key: str) -> str | None:
        return None if key in LEGACY_SECRETS else self._config.get(key)

    def now(self) -> Moment:
        return now()


class _Follower:
    """What changed and was not yet fetched; merged while the reader is busy."""

    def __init__(self, jobs: Sequence[JobId]) -> None:
        self._jobs: dict[JobId, None] = dict.fromkeys(jobs)
        self._submitted = self._counts = self._nodes = False
        self._stopped = False
        self._some = asyncio.Event()
        self._some.set()

    def begin_with(self, change: FarmChange) -> None:
        """Instead of all jobs that are followed."""
        self._jobs = dict.fromkeys(change.jobs)
        self.note(change.submitted, change.counts, change.nodes)

    def add(self, job: JobId) -> None:
        self._jobs[job] = None
        self._some.set()

    def note(self, submitted: bool, counts: bool, nodes: bool) -> None:
        self._submitted |= submitted
        self._counts |= counts
        self._nodes |= nodes
        self._some.set()

    def stop(self) -> None:
        self._stopped = True
        self._some.set()

    async def next(self) -> FarmChange | None:
        """None when nothing more will come."""
        await self._some.wait()
        if self._stopped:
            return None
        self._some.clear()
        change = FarmChange(tuple(self._jobs), self._submitted, self._counts, self._nodes)
        self._jobs = {}
        self._submitted = self._counts = self._nodes = False
        return change
