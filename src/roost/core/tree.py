"""Who is whose child, and what every job knows of all its descendants.

Jobs form a directed acyclic graph: a job may have several parents. Each job that has children
owns a `Tally` of *distinct* descendants, so a job reachable by two paths counts once. What a job
adds to its ancestors is its `share`, a pure function of its record, so the old record and the new
one give the difference and nothing is stored twice.

Differences wait next to the job until somebody reads a tally or changes an edge; `settle` then
carries all of them up together. So a thousand jobs that change at once cost one step for each of
them and one for each job above, be these jobs beside or beneath each other; and jobs that are
linked together are counted by letting the whole of their shares rise.

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
FEW_RISES = 2
"""So many changes are carried up by themselves: where they meet is not worth finding out."""


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


class Sum:
    """Shares of some jobs, and the nodes that run them."""

    __slots__ = ("counted", "done", "failed", "nodes", "open", "progress", "tasks")

    def __init__(self) -> None:
        self.tasks = 0
        self.done = 0
        self.failed = 0
        self.counted = 0
        self.progress = 0
        self.open = 0
        """Those that are not in a final status."""
        self.nodes: dict[NodeId, int] = {}
        """Nodes, with how many of the jobs each runs; none with none."""

    def add(self, share: Share, times: int = 1) -> None:
        self.tasks += times * share.tasks
        self.done += times * share.done
        self.failed += times * share.failed
        self.counted += times * share.counted
        self.progress += times * share.progress
        self.open += times * share.open

    def add_nodes(self, nodes: Iterable[NodeId], times: int = 1) -> None:
        for node in nodes:
            self._add_node(node, times)

    def add_all(self, other: Sum) -> None:
        self.tasks += other.tasks
        self.done += other.done
        self.failed += other.failed
        self.counted += other.counted
        self.progress += other.progress
        self.open += other.open
        for node, times in other.nodes.items():
            self._add_node(node, times)

    def _add_node(self, node: NodeId, times: int) -> None:
        count = self.nodes.get(node, 0) + times
        if count:
            self.nodes[node] = count
        else:
            self.nodes.pop(node, None)


class Tally(Sum):
    """Sums over the distinct descendants of a job, and over its direct children."""

    __slots__ = ("children_failed", "children_open", "shared")

    def __init__(self) -> None:
        super().__init__()
        self.children_open = 0
        self.children_failed = 0
        """Direct children that ended failed or cancelled (decision 7)."""
        self.shared = False
        """A descendant has, or has had, several parents. It is then said of all above as well."""

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


class Rise(Sum):
    """A difference on its way up: still to be added to some jobs, and to all that is above them."""

    __slots__ = ("at", "at_once")

    def __init__(self) -> None:
        super().__init__()
        self.at_once = False
        """Whether the roll-ups that it changes are to be saved with the next changes."""
        self.at: set[JobId] = set()
        """Where it splits: the jobs that it is still to be added to, and to all above them."""

    def join(self, other: Rise) -> None:
        self.add_all(other)
        self.at_once |= other.at_once


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


class _Alike:
    """A job that is being linked, and how many come with it: neighbours that have the same one
    parent and nothing below them, and that add the same, as the frames of a new job do."""

    __slots__ = ("count", "is_plain", "job")

    def __init__(self, job: Job, is_plain: bool) -> None:
        self.job = job
        self.is_plain = is_plain
        self.count = 1


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
        self.advanced: dict[JobId, None] = {}
        """The same where nothing but progress changed, and its saving may wait."""
        self._roots: dict[JobId, JobId] = {}
        """Of jobs with children, as far as somebody has asked."""
        self._rising: dict[JobId, Rise] = {}
        """By the one parent of jobs that changed: it and all above it are yet to be told."""
        self._branching: dict[JobId, Rise] = {}
        """By the job itself where it has several parents."""

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
        way: list[JobId] = []
        while parents := self.parents.get(job):
            job = parents[0]
            if (known := self._roots.get(job)) is not None:
                job = known
                break
            way.append(job)
        self._roots.update(dict.fromkeys(way, job))
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
        self.settle()
        tally = self.tallies.get(job.id)
        return job.status not in FINAL or (tally is not None and tally.open > 0)

    # --- reading --------------------------------------------------------------------------

    def share(self, job: Job) -> Share:
        return share_of(job, job.id in self.children)

    def rollup(self, job: Job) -> Rollup:
        self.settle()
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

    def job_changed(self, old: Job, new: Job, *, at_once: bool = True) -> None:
        """The record was replaced: the difference is for all ancestors. `at_once=False` puts those
        whose roll-up changes down in `advanced` and not in `touched`."""
        (self.touched if at_once else self.advanced)[new.id] = None
        is_same = old.status is new.status or not (old.status in _TALLIED or new.status in _TALLIED)
        if is_same and old.progress == new.progress and old.spec is new.spec:
            return
        has_children = new.id in self.children
        before = share_of(old, has_children)
        after = share_of(new, has_children)
        if before != after and (rise := self._rise_from(new.id, at_once=at_once)) is not None:
            rise.add(after.since(before))
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
            if (rise := self._rise_from(job)) is not None:
                rise.add_nodes(before, -1)
                rise.add_nodes(nodes)

    def _rise_from(self, job: JobId, *, at_once: bool = True) -> Rise | None:
        """What all ancestors of the job are yet to be told; None when it has none."""
        above = self.parents.get(job)
        if not above:
            return None
        waiting, key = (self._rising, above[0]) if len(above) == 1 else (self._branching, job)
        rise = waiting.get(key)
        if rise is None:
            rise = waiting[key] = Rise()
        rise.at_once |= at_once
        return rise

    def settle(self) -> None:
        """Tell all ancestors what has changed below them, from the bottom up.

        What rises from jobs with one parent joins there. At a job with several parents it splits,
        and what has split joins again where all of its ways meet: then nobody is told twice.
        """
        rising, branching = self._rising, self._branching
        if not (rising or branching):
            return
        self._rising, self._branching = {}, {}
        if len(rising) + len(branching) <= FEW_RISES:
            for parent, rise in rising.items():
                self._tell((parent, *self.ancestors(parent)), rise)
            for job, rise in branching.items():
                self._tell(self.ancestors(job), rise)
            return
        parents = self.parents
        firsts = dict.fromkeys(rising)
        for job in branching:
            firsts.update(dict.fromkeys(parents[job]))
        affected = self._walk([], firsts, parents)
        to_come = dict.fromkeys(affected, 0)
        for job in affected:
            for parent in parents.get(job, ()):
                to_come[parent] += 1
        split: dict[JobId, dict[Rise, None]] = {}
        """What has split, by the jobs that it has come to."""
        fresh: dict[tuple[JobId, ...], Rise] = {}
        """By parents: what came to all of them from one child, for that from the next one."""

        def pass_on(job: JobId, rise: Rise | None, held: Iterable[Rise]) -> None:
            above = parents.get(job, ())
            among = set(above)
            for one in held:
                one.at.discard(job)
                if one.at <= among:  # all that it is still for is above this job
                    for parent in one.at:
                        del split[parent][one]
                    one.at = set()
                    if rise is None:
                        rise = one
                    else:
                        rise.join(one)
                else:
                    for parent in above:
                        split.setdefault(parent, {})[one] = None
                    one.at |= among
            if rise is None or not above:
                return
            if len(above) == 1:
                known = rising.setdefault(above[0], rise)
            elif (known := fresh.setdefault(above, rise)).at != among:
                fresh[above] = known = rise
                rise.at = among
                for parent in above:
                    split.setdefault(parent, {})[rise] = None
            if known is not rise:
                known.join(rise)

        for job in [job for job in branching if job not in to_come]:
            pass_on(job, branching[job], ())
        ready = [job for job in affected if not to_come[job]]
        for job in ready:
            risen, held, own = rising.get(job), split.pop(job, {}), branching.get(job)
            above = parents.get(job, ())
            for told in (*held, *((risen,) if risen is not None else ())):
                self._tell((job,), told)
            if own is not None and risen is not None:
                own.join(risen)
            pass_on(job, own or risen, held)
            for parent in above:
                to_come[parent] -= 1
                if not to_come[parent]:
                    ready.append(parent)

    def _tell(self, ids: Iterable[JobId], rise: Rise) -> None:
        """What is below each of these has changed by so much."""
        changed = self.touched if rise.at_once else self.advanced
        for job in ids:
            self.tallies[job].add_all(rise)
            changed[job] = None

    def link_pairs(self, pairs: Iterable[tuple[JobId, JobId]]) -> None:
        """Link each (parent, child): a parent's in the order of its children, a child's in that of
        its parents. None of the pairs may be linked yet."""
        children: dict[JobId, list[JobId]] = {}
        parents: dict[JobId, tuple[JobId, ...]] = {}
        several: dict[JobId, list[JobId]] = {}
        alone: tuple[JobId, ...] = ()
        for parent, child in pairs:
            children.setdefault(parent, []).append(child)
            if child in parents:
                several.setdefault(child, [*parents[child]]).append(parent)
            else:
                if alone != (parent,):
                    alone = (parent,)
                parents[child] = alone
        parents.update((child, tuple(above)) for child, above in several.items())
        self._link(children, parents)

    def link_all(
        self,
        children: Mapping[JobId, Sequence[JobId]],
        parents: Mapping[JobId, Sequence[JobId]],
    ) -> None:
        """The same, by parent; `parents` are those of each child that has several."""
        above: dict[JobId, tuple[JobId, ...]] = {}
        for parent, below in children.items():
            above |= dict.fromkeys(below, (parent,))
        above.update((child, tuple(its_parents)) for child, its_parents in parents.items())
        self._link(children, above)

    def _link(
        self, below: Mapping[JobId, Sequence[JobId]], above: Mapping[JobId, tuple[JobId, ...]]
    ) -> None:
        """Jobs without relatives are linked at once, and their shares rise. Others bring those
        below them along, of which some may be known above already."""
        self.settle()
        before = {job: self.parents[job] for job in above if job in self.parents}
        families = {job for job in above if job in self.children or job in before}
        for parent in below:
            if parent not in self.children:
                self._become_parent(parent)
        alike: list[_Alike] = []
        for child, its_parents in above.items():
            if child in families:
                continue
            has_last = its_parents == self._last_parents
            if not has_last:
                self._last_parents = its_parents
            self.parents[child] = self._last_parents
            job = self.jobs[child]
            is_plain = len(its_parents) == 1 and not (
                child in self.children or child in self.assigned
            )
            last = alike[-1] if alike and has_last and is_plain else None
            if last is not None and last.is_plain and share_alike(last.job, job):
                last.count += 1
            else:
                alike.append(_Alike(job, is_plain))
        shared: list[JobId] = []
        for one in alike:
            its_parents = self.parents[one.job.id]
            if len(its_parents) > 1:
                shared += its_parents
            rise = self._rise_from(one.job.id)
            assert rise is not None
            rise.add(self.share(one.job), one.count)
            rise.add_nodes(self.assigned.get(one.job.id, ()))
            for parent in its_parents:
                self._count_child(parent, one.job.status, one.count)
        for parent, children in below.items():
            self.children[parent].extend(one for one in children if one not in families)
        self._mark_shared(shared)
        self.settle()
        if families:
            self._roots.clear()
        for parent, children in below.items():
            if found := [one for one in children if one in families]:
                self._link_families(parent, found)
                known = len(self.children[parent]) - (len(children) - len(found))
                self.children[parent][known:] = children
        for child in families:
            self.parents[child] = (*before.get(child, ()), *above[child])

    def _become_parent(self, job: JobId) -> None:
        leaf, container = share_of(self.jobs[job], False), share_of(self.jobs[job], True)
        if leaf != container and (rise := self._rise_from(job)) is not None:
            rise.add(container.since(leaf))
        self.touched[job] = None
        self.children[job] = []
        self.tallies[job] = Tally()

    def _link_families(self, parent: JobId, families: Sequence[JobId]) -> None:
        """Link jobs that have relatives already: above them is now `parent` and what is above it,
        and they and those below them count there, where they do not yet."""
        above = [parent, *self.ancestors(parent)]
        self.touched.update(dict.fromkeys(above))
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
            self._count_child(parent, self.jobs[child].status)
            parents = self.parents[child] = (*before, parent)
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

    def _count_child(self, parent: JobId, status: JobStatus, times: int = 1) -> None:
        tally = self.tallies[parent]
        tally.children_open += times * (status not in FINAL)
        tally.children_failed += times * _spoils_parent(status)

    def remove(self, doomed: Iterable[JobId]) -> list[tuple[JobId, JobId]]:
        """Forget these jobs and every edge that touches them; returns those edges.

        Call it while the records of the doomed jobs are still in the mapping.
        """
        self.settle()
        gone = dict.fromkeys(doomed)
        orphans = dict.fromkeys(
            child for job in gone for child in self.children.get(job, ()) if child not in gone
        )
        is_whole = all(parent in gone for job in gone for parent in self.parents.get(job, ()))
        above_before: dict[JobId, list[JobId]] = {}
        if not is_whole:
            kept_below = [job for job in self.with_descendants(orphans) if job not in gone]
            above_before = {job: self.ancestors(job) for job in kept_below}
            for job in gone:
                if (rise := self._rise_from(job)) is not None:
                    rise.add(self.share(self.jobs[job]), -1)
                    rise.add_nodes(self.assigned.get(job, ()), -1)
            self.settle()
        if not is_whole or orphans:
            self._roots.clear()
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
            edges += [(job, child) for child in self.children.pop(job, ()) if child not in gone]
            self.tallies.pop(job, None)
            self._roots.pop(job, None)
            self.assigned.pop(job, None)
            self.touched.pop(job, None)
            self.advanced.pop(job, None)
        for child in orphans:
            left = tuple(parent for parent in self.parents.pop(child) if parent not in gone)
            if left:
                self.parents[child] = left
        for job, above in above_before.items():
            share, nodes = self.share(self.jobs[job]), self.assigned.get(job, ())
            for ancestor in set(above).difference(self.ancestors(job), gone):
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
        if leaf != container and (rise := self._rise_from(job)) is not None:
            rise.add(leaf.since(container))


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
