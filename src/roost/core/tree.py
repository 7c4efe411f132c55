"""Who is whose child, and what every job knows of all its descendants.

Jobs form a directed acyclic graph: a job may have several parents. Each job that has children
owns a `Tally` of *distinct* descendants, so a job reachable by two paths counts once. A change
of one job costs one small update per distinct ancestor (the depth, in a tree), and reading a
roll-up costs nothing. What a job adds to its ancestors is its `share`, a pure function of its
record, so the old record and the new one give the difference and nothing is stored twice.

Links that are made together cost what there is of them, however deep they go: they are made from
the bottom up, and a family in which nobody has two parents is added as a whole.

The tree holds ids and counts; it reads job records from the mapping its owner passes in, and it
tells which roll-ups it touched through `touched`. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from roost.core.lifecycle import FAILED, FINAL, ui_status
from roost.core.records import PROGRESS_UNIT, Job, JobId, JobStatus, NodeId, Rollup

EXCLUDE_PROGRESS_TAG = "excludeProgress"
_TALLIED = FINAL | FAILED
"""Between the other statuses a job moves without a difference to its ancestors."""


class Share(Struct, frozen=True, gc=False):
    """What one job adds to the tally of each of its ancestors."""

    tasks: int
    done: int
    failed: int
    counted: int
    """1 when it takes part in the mean progress."""
    progress: int
    open: int

    def since(self, before: Share) -> Share:
        """What has to be added to a tally that has the earlier one in it."""
        return Share(
            self.tasks - before.tasks,
            self.done - before.done,
            self.failed - before.failed,
            self.counted - before.counted,
            self.progress - before.progress,
            self.open - before.open,
        )


class Tally:
    """Sums over the distinct descendants of a job, and over its direct children."""

    __slots__ = (
        "children_failed",
        "children_open",
        "counted",
        "done",
        "failed",
        "nodes",
        "open",
        "progress",
        "shared",
        "tasks",
    )

    def __init__(self) -> None:
        self.tasks = 0
        self.done = 0
        self.failed = 0
        self.counted = 0
        self.progress = 0
        self.open = 0
        """Descendants that are not in a final status."""
        self.nodes: dict[NodeId, int] = {}
        """Nodes that run descendants, with how many."""
        self.children_open = 0
        self.children_failed = 0
        """Direct children that ended failed or cancelled (decision 7)."""
        self.shared = False
        """A descendant has, or has had, several parents. It is then said of all above as well."""

    def add(self, share: Share, times: int = 1) -> None:
        self.tasks += times * share.tasks
        self.done += times * share.done
        self.failed += times * share.failed
        self.counted += times * share.counted
        self.progress += times * share.progress
        self.open += times * share.open

    def add_nodes(self, nodes: Iterable[NodeId], sign: int = 1) -> None:
        for node in nodes:
            count = self.nodes.get(node, 0) + sign
            if count:
                self.nodes[node] = count
            else:
                del self.nodes[node]

    def add_all(self, below: Tally) -> None:
        """Everything that is below a job which is now below this one."""
        self.tasks += below.tasks
        self.done += below.done
        self.failed += below.failed
        self.counted += below.counted
        self.progress += below.progress
        self.open += below.open
        for node, count in below.nodes.items():
            self.nodes[node] = self.nodes.get(node, 0) + count

    def as_tuple(self) -> tuple[object, ...]:
        """For comparison with a naive recount."""
        return (
            self.tasks,
            self.done,
            self.failed,
            self.counted,
            self.progress,
            self.open,
            dict(sorted(self.nodes.items())),
            self.children_open,
            self.children_failed,
        )


def share_of(job: Job, has_children: bool) -> Share:
    """Tasks are leaves and jobs with a command; containers only group them (decision 25)."""
    status = job.status
    is_open = 0 if status in FINAL else 1
    if has_children and not job.spec.has_command:
        return Share(0, 0, 0, 0, 0, is_open)
    counted = 0 if EXCLUDE_PROGRESS_TAG in job.spec.tags else 1
    progress = (job.progress if is_open else PROGRESS_UNIT) if counted else 0
    return Share(
        1,
        1 if status is JobStatus.SUCCEEDED else 0,
        1 if status in FAILED else 0,
        counted,
        progress,
        is_open,
    )


def share_alike(one: Job, other: Job) -> bool:
    """Whether two jobs without children add the same: all that `share_of` looks at."""
    return (
        one.status is other.status
        and one.progress == other.progress
        and one.spec.tags == other.spec.tags
    )


class Tree:
    """The edges between the jobs in memory, and the tallies over them."""

    def __init__(self, jobs: Mapping[JobId, Job]) -> None:
        self.jobs = jobs
        self.children: dict[JobId, list[JobId]] = {}
        self.parents: dict[JobId, tuple[JobId, ...]] = {}
        """Children that were linked one after another share one tuple, as most are frames of a job:
        that is a tenth of what a job takes in memory."""
        self._last_parents: tuple[JobId, ...] = ()
        self.tallies: dict[JobId, Tally] = {}
        self.assigned: dict[JobId, tuple[NodeId, ...]] = {}
        self.touched: dict[JobId, None] = {}
        """Jobs whose roll-up changed since their owner last cleared this; insertion-ordered."""

    # --- walking --------------------------------------------------------------------------

    def ancestors(self, job: JobId) -> list[JobId]:
        """Every job above, each once, nearest first."""
        found: list[JobId] = []
        parents = self.parents.get(job)
        while parents:
            if len(parents) > 1:
                return self._walk(found, parents, self.parents)
            found.append(parents[0])
            parents = self.parents.get(parents[0])
        return found

    def descendants(self, job: JobId) -> list[JobId]:
        """Every job below, each once, level by level."""
        children = self.children.get(job)
        return self._walk([], children, self.children) if children else []

    @staticmethod
    def _walk(
        found: list[JobId], level: Iterable[JobId], step: Mapping[JobId, Sequence[JobId]]
    ) -> list[JobId]:
        seen = dict.fromkeys(found)
        waiting = list(level)
        for job in waiting:
            if job not in seen:
                seen[job] = None
                waiting.extend(step.get(job, ()))
        return list(seen)

    def with_descendants(self, ids: Iterable[JobId]) -> list[JobId]:
        """The given jobs and everything below them, each once; unknown ids are left out."""
        return self._walk([], (job for job in ids if job in self.jobs), self.children)

    def with_ancestors(self, ids: Iterable[JobId]) -> list[JobId]:
        """The given jobs and everything above them, each once."""
        return self._walk([], ids, self.parents)

    def root_of(self, job: JobId) -> JobId:
        """Follow first parents to the top (decision 13)."""
        while parents := self.parents.get(job):
            job = parents[0]
        return job

    def component(self, job: JobId) -> list[JobId]:
        """All jobs linked with this one through edges in either direction."""
        seen: dict[JobId, None] = {}
        waiting = [job]
        for one in waiting:
            if one not in seen:
                seen[one] = None
                waiting.extend(self.parents.get(one, ()))
                waiting.extend(self.children.get(one, ()))
        return list(seen)

    def has_open_children(self, job: JobId) -> bool:
        tally = self.tallies.get(job)
        return tally is not None and tally.children_open > 0

    def has_failed_children(self, job: JobId) -> bool:
        tally = self.tallies.get(job)
        return tally is not None and tally.children_failed > 0

    def is_open(self, job: Job) -> bool:
        """The job or one below it has not ended; costs nothing, however many there are."""
        tally = self.tallies.get(job.id)
        return job.status not in FINAL or (tally is not None and tally.open > 0)

    # --- reading --------------------------------------------------------------------------

    def share(self, job: Job) -> Share:
        return share_of(job, job.id in self.children)

    def rollup(self, job: Job) -> Rollup:
        share = self.share(job)
        tally = self.tallies.get(job.id)
        tasks, done, failed = share.tasks, share.done, share.failed
        counted, progress = share.counted, share.progress
        clients = len(self.assigned.get(job.id, ()))
        if tally is not None:
            tasks += tally.tasks
            done += tally.done
            failed += tally.failed
            counted += tally.counted
            progress += tally.progress
            clients = len(tally.nodes) or clients
        if counted:
            overall = progress // counted
        else:
            overall = PROGRESS_UNIT if job.status in FINAL else 0
        return Rollup(ui_status(job.status, clients), overall, tasks, done, failed, clients)

    def rollups(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Rollup]]:
        """Each with its roll-up; neighbours that are alike, as new frames are, share one."""
        last: Job | None = None
        rollup: Rollup | None = None
        for job in jobs:
            if job.id in self.tallies or job.id in self.assigned:
                yield job, self.rollup(job)
            else:
                if rollup is None or last is None or not share_alike(job, last):
                    rollup = self.rollup(job)
                last = job
                yield job, rollup

    # --- changing -------------------------------------------------------------------------

    def job_changed(self, old: Job, new: Job, touched: dict[JobId, None] | None = None) -> None:
        """The record was replaced: carry the difference to all ancestors. Whose roll-up changed is
        put down in `touched`, or else in that of the tree."""
        if touched is None:
            touched = self.touched
        touched[new.id] = None
        is_same = old.status is new.status or not (old.status in _TALLIED or new.status in _TALLIED)
        if is_same and old.progress == new.progress and old.spec is new.spec:
            return
        has_children = new.id in self.children
        before = share_of(old, has_children)
        after = share_of(new, has_children)
        if before != after:
            difference = after.since(before)
            for ancestor in self.ancestors(new.id):
                self.tallies[ancestor].add(difference)
                touched[ancestor] = None
        was_open, is_open = old.status not in FINAL, new.status not in FINAL
        was_bad, is_bad = _spoils_parent(old.status), _spoils_parent(new.status)
        if was_open != is_open or was_bad != is_bad:
            for parent in self.parents.get(new.id, ()):
                tally = self.tallies[parent]
                tally.children_open += is_open - was_open
                tally.children_failed += is_bad - was_bad

    def set_assigned(self, job: JobId, nodes: tuple[NodeId, ...]) -> None:
        """The nodes the job occupies now; empty when it occupies none."""
        before = self.assigned.pop(job, ())
        if nodes:
            self.assigned[job] = nodes
        if before != nodes:
            self.touched[job] = None
            for ancestor in self.ancestors(job):
                tally = self.tallies[ancestor]
                tally.add_nodes(before, -1)
                tally.add_nodes(nodes)
                self.touched[ancestor] = None

    def link_pairs(self, pairs: Sequence[tuple[JobId, JobId]]) -> None:
        """Link each (parent, child): a parent's in the order of its children, a child's in that of
        its parents. None of the pairs may be linked yet."""
        below: dict[JobId, list[JobId]] = {}
        for parent, child in pairs:
            below.setdefault(parent, []).append(child)
        self.link_all(below)
        parents: dict[JobId, dict[JobId, None]] = {}
        for parent, child in pairs:
            if len(self.parents[child]) > 1:
                parents.setdefault(child, {})[parent] = None
        for child, new in parents.items():
            above = (*(one for one in self.parents[child] if one not in new), *new)
            if above != self._last_parents:
                self._last_parents = above
            self.parents[child] = self._last_parents

    def link_all(self, children: Mapping[JobId, Sequence[JobId]]) -> None:
        """Link each of these parents with its children: those at the bottom first, so that what is
        linked has little above it yet, in whichever order a chain of jobs was listed."""
        order: Iterable[JobId] = children
        if any(not children.keys().isdisjoint(below) for below in children.values()):
            order = _from_the_bottom(children)
        for parent in order:
            self.link(parent, *children[parent])

    def link(self, parent: JobId, *children: JobId) -> None:
        """Make these, in their order, children of `parent`. None of them may be one yet, nor be
        above it. Leaves without a parent, as the frames of a new job are, are counted together."""
        parent_job = self.jobs[parent]
        above = [parent, *self.ancestors(parent)]
        if parent not in self.children:
            leaf, container = share_of(parent_job, False), share_of(parent_job, True)
            if leaf != container:
                difference = container.since(leaf)
                for ancestor in above[1:]:
                    self.tallies[ancestor].add(difference)
            self.children[parent] = []
            self.tallies[parent] = Tally()
        if self._last_parents != (parent,):
            self._last_parents = (parent,)
        alone = self._last_parents
        alike: list[list[Job]] = []
        """Leaves without a parent, as far as neighbours add the same."""
        families: list[JobId] = []
        for child in children:
            if child in self.parents or child in self.children or child in self.assigned:
                families.append(child)
                continue
            job = self.jobs[child]
            if alike and share_alike(alike[-1][0], job):
                alike[-1].append(job)
            else:
                alike.append([job])
            self.parents[child] = alone
        self._link_families(parent, above, families)
        for first, *others in alike:
            count = 1 + len(others)
            self._count_child(parent, first.status, count)
            for ancestor in above:
                self.tallies[ancestor].add(share_of(first, False), count)
        self.touched.update(dict.fromkeys(above))
        self.children[parent].extend(children)

    def _link_families(
        self, parent: JobId, above: Sequence[JobId], families: Sequence[JobId]
    ) -> None:
        """Link jobs that have relatives already: `above` them is now `parent` and what is above
        it, and they and those below them count there, where they do not yet."""
        reached: dict[JobId, set[JobId]] = {}
        """What is below those above, as far as somebody had to know."""
        linked: list[JobId] = []

        def below(ancestor: JobId) -> set[JobId]:
            if ancestor not in reached:
                # Its children are not yet told of those that are being linked.
                known = [*self.children.get(ancestor, ()), *linked]
                reached[ancestor] = set(self._walk([], known, self.children))
            return reached[ancestor]

        for child in families:
            before = self.parents.get(child, ())
            gaining = above
            if len(above) == 1 and not (self.children[parent] or linked):
                pass  # Nothing is below any of them.
            elif before and len(families) == 1:
                known = set(self.ancestors(child))
                gaining = [ancestor for ancestor in above if ancestor not in known]
            elif before:
                gaining = [ancestor for ancestor in above if child not in below(ancestor)]
            self._count_family(child, gaining, below)
            for ancestor in reached.keys() & gaining:
                self._walk_into(reached[ancestor], child)
            linked.append(child)
            self._count_child(parent, self.jobs[child].status, 1)
            parents = (*before, parent)
            if parents != self._last_parents:
                self._last_parents = parents
            self.parents[child] = self._last_parents
            if before or ((tally := self.tallies.get(child)) is not None and tally.shared):
                # Above its earlier parents as well; where there were several, this is known there.
                self._mark_shared(parents if len(before) == 1 else (parent,))

    def _count_family(
        self, job: JobId, gaining: Sequence[JobId], below: Callable[[JobId], set[JobId]]
    ) -> None:
        """Add a job that gets these ancestors, and those below it, where they do not count yet."""
        tally = self.tallies.get(job)
        if tally is None or not tally.shared:
            # What is above one of them is above the job, so all are as new there as it is.
            share, nodes = self.share(self.jobs[job]), self.assigned.get(job, ())
            for ancestor in gaining:
                above = self.tallies[ancestor]
                above.add(share)
                above.add_nodes(nodes)
                if tally is not None:
                    above.add_all(tally)
            return
        for ancestor in gaining:
            above = self.tallies[ancestor]
            for member in self._walk_into(below(ancestor), job):
                above.add(self.share(self.jobs[member]))
                above.add_nodes(self.assigned.get(member, ()))

    def _walk_into(self, reached: set[JobId], job: JobId) -> list[JobId]:
        """Add the job and all below it; returns those that had not been reached."""
        found: list[JobId] = []
        waiting = [job]
        for one in waiting:
            if one not in reached:
                reached.add(one)
                found.append(one)
                waiting.extend(self.children.get(one, ()))
        return found

    def _mark_shared(self, ids: Iterable[JobId]) -> None:
        waiting = list(ids)
        for one in waiting:
            if not self.tallies[one].shared:
                self.tallies[one].shared = True
                waiting.extend(self.parents.get(one, ()))

    def _count_child(self, parent: JobId, status: JobStatus, times: int) -> None:
        tally = self.tallies[parent]
        tally.children_open += times * (status not in FINAL)
        tally.children_failed += times * _spoils_parent(status)

    def remove(self, doomed: Iterable[JobId]) -> list[tuple[JobId, JobId]]:
        """Forget these jobs and every edge that touches them; returns those edges.

        Call it while the records of the doomed jobs are still in the mapping.
        """
        gone = dict.fromkeys(doomed)
        orphans = dict.fromkeys(
            child for job in gone for child in self.children.get(job, ()) if child not in gone
        )
        kept_below = [job for job in self.with_descendants(orphans) if job not in gone]
        above_before = {job: self.ancestors(job) for job in kept_below}
        is_whole = all(parent in gone for job in gone for parent in self.parents.get(job, ()))
        for job in gone:
            share, nodes = self.share(self.jobs[job]), self.assigned.pop(job, ())
            for ancestor in () if is_whole else self.ancestors(job):
                if ancestor not in gone:
                    self.tallies[ancestor].add(share, -1)
                    self.tallies[ancestor].add_nodes(nodes, -1)
                    self.touched[ancestor] = None
        edges: list[tuple[JobId, JobId]] = []
        thinned: dict[JobId, None] = {}
        for job in gone:
            for parent in self.parents.pop(job, ()):
                edges.append((parent, job))
                if parent not in gone:
                    thinned[parent] = None
                    tally = self.tallies[parent]
                    tally.children_open -= self.jobs[job].status not in FINAL
                    tally.children_failed -= _spoils_parent(self.jobs[job].status)
            for child in self.children.pop(job, ()):
                if child not in gone:
                    edges.append((job, child))
                    left = tuple(one for one in self.parents.pop(child) if one != job)
                    if left:
                        self.parents[child] = left
            self.tallies.pop(job, None)
            self.touched.pop(job, None)
        for job in kept_below:
            share, nodes = self.share(self.jobs[job]), self.assigned.get(job, ())
            for ancestor in set(above_before[job]).difference(self.ancestors(job), gone):
                self.tallies[ancestor].add(share, -1)
                self.tallies[ancestor].add_nodes(nodes, -1)
                self.touched[ancestor] = None
        for parent in thinned:
            self.children[parent] = [job for job in self.children[parent] if job not in gone]
            if not self.children[parent]:
                self._become_leaf(parent)
        return edges

    def _become_leaf(self, job: JobId) -> None:
        del self.children[job], self.tallies[job]
        record = self.jobs[job]
        container, leaf = share_of(record, True), share_of(record, False)
        if leaf != container:
            difference = leaf.since(container)
            for ancestor in self.ancestors(job):
                self.tallies[ancestor].add(difference)
                self.touched[ancestor] = None


def _from_the_bottom(children: Mapping[JobId, Sequence[JobId]]) -> list[JobId]:
    """The parents, each after those of its descendants that are parents too."""
    ordered: dict[JobId, None] = {}
    for first in children:
        stack = [(first, False)]
        while stack:
            job, leaving = stack.pop()
            if leaving:
                ordered[job] = None
            elif job not in ordered:
                stack.append((job, True))
                stack.extend((one, False) for one in children[job] if one in children)
    return list(ordered)


def _spoils_parent(status: JobStatus) -> bool:
    return status is JobStatus.FAILED or status is JobStatus.CANCELLED


def find_cycle(start: Iterable[int], children: Mapping[int, Iterable[int]]) -> list[int] | None:
    """A cycle reachable from `start`, as the list of its members, or None."""
    finished: set[int] = set()
    for first in start:
        path: dict[int, None] = {}
        stack: list[tuple[int, bool]] = [(first, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                del path[node]
                finished.add(node)
            elif node in path:
                members = list(path)
                return members[members.index(node) :]
            elif node not in finished:
                path[node] = None
                stack.append((node, True))
                stack.extend((child, False) for child in children.get(node, ()))
    return None
