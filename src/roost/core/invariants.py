"""Every statement that must hold of a whole farm at any moment between two messages.

`check(farm)` recomputes from scratch, naively, what the farm keeps incrementally, and asserts
that both agree. On in tests and after every step of the simulator.
"""

from __future__ import annotations

from collections import Counter

from roost.core import attributes
from roost.core.attributes import fold
from roost.core.lifecycle import FINAL, ON_NODE
from roost.core.matching import ELIGIBLE_TESTS, Need, NodeUse, Rank, obstacle, rank_of
from roost.core.nodeset import bit, members
from roost.core.records import JobId, JobStatus, NodeId
from roost.core.state import State
from roost.core.stock import Stock
from roost.core.tree import Tally, share_of

S = JobStatus
NO_RANK = (0, 0)


def check(farm: State) -> None:
    """Raise `AssertionError` naming the first statement that does not hold."""
    _edges_are_symmetric_and_acyclic(farm)
    _tallies_equal_a_recount(farm)
    _standing_equals_a_recount(farm)
    _statuses_fit_children(farm)
    _attempts_fit_statuses(farm)
    _uses_equal_a_recount(farm)
    _queue_is_the_runnable_jobs(farm)
    _placement_knows_its_nodes(farm)
    _nodes_are_blocked_where_too_much_failed(farm)
    _holds_are_symmetric(farm)
    _groups_fit_nodes(farm)
    _only_rules_keep_nodes_off_duty(farm)
    _stock_equals_a_recount(farm)
    _threads_fit_what_they_are_about(farm)
    _attributes_belong_to_jobs(farm)


def _edges_are_symmetric_and_acyclic(farm: State) -> None:
    tree = farm.tree
    down = {(p, c) for p, children in tree.children.items() for c in children}
    up = {(p, c) for c, parents in tree.parents.items() for p in parents}
    assert down == up, f"edges differ: {down ^ up}"
    assert all(children for children in tree.children.values())
    assert set(tree.tallies) == set(tree.children)
    for parent, child in down:
        assert parent in farm.jobs and child in farm.jobs, f"dangling edge {parent} -> {child}"
        assert parent not in tree.descendants(child), f"cycle through {parent} -> {child}"
    for job in farm.jobs:
        top = job
        while above := tree.parents.get(top):
            top = above[0]
        assert tree.root_of(job) == top, f"the root of {job}"


def _standing_equals_a_recount(farm: State) -> None:
    assert +farm.standing == Counter(job.status for job in farm.jobs.values())


def _tallies_equal_a_recount(farm: State) -> None:
    tree = farm.tree
    tree.settle()
    for parent, tally in tree.tallies.items():
        naive = Tally()
        for below in tree.descendants(parent):
            naive.add(share_of(farm.jobs[below], below in tree.children))
            naive.add_nodes(tree.assigned.get(below, ()))
        children = [farm.jobs[child] for child in tree.children[parent]]
        naive.children_open = sum(child.status not in FINAL for child in children)
        naive.children_failed = sum(child.status in (S.FAILED, S.CANCELLED) for child in children)
        assert tally.as_tuple() == naive.as_tuple(), f"tally of {parent} is off"
        if any(len(tree.parents[below]) > 1 for below in tree.descendants(parent)):
            assert tally.shared, f"{parent} does not know that it shares descendants"


def _statuses_fit_children(farm: State) -> None:
    for job in farm.jobs.values():
        assert (job.ended_at is not None) == (job.status in FINAL), f"job {job.id} end time"
        assert job.status not in (S.WAITING, S.EJECTED)
        tally = farm.tree.tallies.get(job.id)
        children_open = tally.children_open if tally is not None else 0
        if job.status is S.QUEUED:
            assert children_open, f"job {job.id} is queued and waits for nobody"
        if job.status in (S.RUNNABLE, S.SUCCEEDED):
            assert not children_open, f"job {job.id} is {job.status} with open children"
        if job.status is S.SUCCEEDED and tally is not None:
            assert not tally.children_failed, f"job {job.id} succeeded over failed children"


def _attempts_fit_statuses(farm: State) -> None:
    for key, attempt in farm.attempts.items():
        assert attempt.ended_at is None and attempt.key == key
    stopping = [key for key, attempt in farm.attempts.items() if attempt.stopping]
    strays = [key for use in farm.floor.uses.values() for key in use.strays]
    kept = [(job_id, number) for job_id, numbers in farm.stopping.items() for number in numbers]
    assert sorted(kept) == sorted(stopping + strays), "what is being stopped"
    assert all(farm.stopping.values()), "an empty set of attempts being stopped"
    for job in farm.jobs.values():
        live = farm.live_attempt(job)
        others = [
            key for key in farm.attempts if key[0] == job.id and not farm.attempts[key].stopping
        ]
        if live is not None and job.status is not S.ABANDONED:
            paused = job.status in (S.PAUSING, S.PAUSED)
            assert live.paused == paused, f"job {job.id} is {job.status}, its attempt is not"
        if job.status in ON_NODE:
            assert live is not None, f"job {job.id} is {job.status} without an attempt"
            assert others == [live.key], f"job {job.id} has two live attempts"
        elif job.status is S.PAUSED:
            assert len(others) <= 1
        else:
            assert not others, f"job {job.id} is {job.status} with a live attempt"


def _uses_equal_a_recount(farm: State) -> None:
    for node_id, use in farm.floor.uses.items():
        naive = NodeUse()
        for key, attempt in farm.attempts.items():
            if node_id in attempt.nodes:
                naive.occupy(key, *use.attempts[key])
        for key, need in use.strays.items():
            naive.add_stray(key, need)
            assert key not in farm.attempts and not need.resources
            assert farm.nodes[node_id].active, f"strays on node {node_id}, which is silent"
        assert use.attempts.keys() == naive.attempts.keys(), f"node {node_id} attempts"
        assert use.cpus_busy == naive.cpus_busy and use.singles == naive.singles
        assert use.unlike == naive.unlike
        needs = [need for _, need in use.attempts.values()]
        alone = not any(need.single for need in needs) or len(needs) == 1
        assert alone, f"node {node_id} is shared"
        tags = [tag for need in needs for tag in need.unlike]
        assert len(tags) == len(set(tags)), f"node {node_id} tags"
        jobs = [key[0] for key in use.attempts]
        assert len(jobs) == len(set(jobs)), f"node {node_id} has two attempts of one job"


def _queue_is_the_runnable_jobs(farm: State) -> None:
    runnable = {
        job.id
        for job in farm.jobs.values()
        if job.status is S.RUNNABLE and job.id not in farm.stopping
    }
    assert runnable == set(farm.floor.waiting), "the queue is not the set of runnable jobs"
    for job_id, (rank, kind) in farm.floor.waiting.items():
        job = farm.jobs[job_id]
        assert rank == rank_of(job), f"job {job_id} is queued with an old priority"
        assert kind.need == farm.need(job), f"job {job_id} is queued with an old need"


def _placement_knows_its_nodes(farm: State) -> None:
    """What kinds found out of nodes is still so, but for nodes that are to be asked again."""
    floor = farm.floor
    naive: dict[int, set[NodeId]] = {}
    for node in floor.nodes:
        naive.setdefault(floor.free(node), set()).add(node)
    assert {free: set(members(nodes)) for free, nodes in floor.levels.items()} == naive
    firsts: dict[Need, Rank] = {}
    jobs = Counter(kind for _, kind in floor.waiting.values())
    for rank, kind in floor.waiting.values():
        firsts[kind.need] = min(rank, firsts.get(kind.need, rank))
    queue = [(rank, kind.need) for rank, kind in floor.queue]
    assert queue == sorted((rank, need) for need, rank in firsts.items()), "the queue of kinds"
    for kind in floor.kinds.values():
        assert kind.rank == firsts.get(kind.need)
        assert kind.jobs == jobs[kind], f"how many jobs wait of {kind.need}"
        assert not kind.fit & kind.unfit
        for node in members((kind.fit | kind.unfit) & ~floor.reviewed):
            asked = floor.candidate(kind.need, NO_RANK, node)
            fits = obstacle(asked, ELIGIBLE_TESTS) is None
            assert fits == bool(kind.fit & bit(node)), f"node {node} was asked about {kind.need}"


def _nodes_are_blocked_where_too_much_failed(farm: State) -> None:
    naive: dict[JobId, set[NodeId]] = {}
    if limit := farm.rules.max_failures_per_client:
        for job in farm.jobs.values():
            for node, count in job.failures:
                if count > limit:
                    naive.setdefault(job.id, set()).add(node)
    assert {job: set(members(nodes)) for job, nodes in farm.floor.blocked.items()} == naive


def _holds_are_symmetric(farm: State) -> None:
    by_job = {(job, node) for job, nodes in farm.floor.holds.items() for node in nodes}
    by_node = {(job, node) for node, use in farm.floor.uses.items() for job in use.holds}
    assert by_job == by_node, f"holds differ: {by_job ^ by_node}"
    assert all(job in farm.floor.waiting for job, _ in by_job), "a hold for a job not waiting"


def _groups_fit_nodes(farm: State) -> None:
    assert all(name == group.name for name, group in farm.groups.items())
    assert len({group.id for group in farm.groups.values()}) == len(farm.groups)
    for group in farm.groups.values():
        assert group.id < farm.next_group_id
        assert len(set(group.nodes)) == len(group.nodes)
        assert all(node in farm.nodes for node in group.nodes)


def _only_rules_keep_nodes_off_duty(farm: State) -> None:
    for node, why in farm.floor.off_duty.items():
        assert why and farm.nodes[node].availability, f"node {node} is off duty without rules"


def _stock_equals_a_recount(farm: State) -> None:
    stock, naive = farm.floor.stock, Stock()
    for key, attempt in farm.attempts.items():
        _, need = farm.floor.uses[attempt.nodes[0]].attempts[key]
        naive.take(need.resources, attempt.nodes)
    assert (stock.amounts, stock.machines) == (naive.amounts, naive.machines), "resources in use"
    for name, resource in stock.resources.items():
        assert name == resource.name and resource.id < farm.next_resource_id
        in_use = stock.in_use(name, resource.per_machine)
        assert resource.max is None or in_use <= resource.max, f"{in_use} of {name} are in use"


def _threads_fit_what_they_are_about(farm: State) -> None:
    board = farm.board
    threads = board.threads.values()
    assert all(key == thread.id < board.next_thread_id for key, thread in board.threads.items())
    assert all(thread.notes for thread in threads), "a thread without notes"
    assert all(thread.job is None or thread.node is None for thread in threads)
    assert all(thread.node is None or thread.node in farm.nodes for thread in threads)
    by_job = {thread.job: thread.id for thread in threads if thread.job is not None}
    by_node = {thread.node: thread.id for thread in threads if thread.node is not None}
    by_note = {note: thread.id for thread in threads for note in thread.notes}
    assert (board.thread_of_job, board.thread_of_node) == (by_job, by_node)
    assert board.thread_of_note == by_note
    assert sum(len(thread.notes) for thread in threads) == len(by_note), "a note in two threads"
    assert all(note < board.next_note_id for note in by_note)
    assert all(list(thread.notes) == sorted(thread.notes) for thread in threads)


def _attributes_belong_to_jobs(farm: State) -> None:
    assert farm.entries.keys() <= farm.attempts.keys(), "entries of attempts that are over"
    for job_id, known in farm.attributes.items():
        assert job_id in farm.jobs, f"attributes of job {job_id}, which is not there"
        assert known, f"job {job_id} has an empty set of attributes"
        own = farm.own_attributes(farm.jobs[job_id])
        assert len(own) <= attributes.NAMES_MAX, f"job {job_id} has too many attributes"
        for key, one in known.items():
            assert (one.job, fold(one.name)) == (job_id, key)
            attributes.check_name(one.name)
            text = attributes.checked_text(one.name, one.text)
            assert text == one.text, f"{one.name} of job {job_id} would not be taken so again"
            assert one.count or attributes.number_of(one.text) is None
