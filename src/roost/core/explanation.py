"""Why a job does not run: the sentences behind `waitingFor`, `roost why` and the API.

Nothing is decided here. What stands against each node comes from the same chain of tests that
placement walks (`matching`); nodes with the same obstacle are named together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from roost.core.matching import Need, Rank, rank_of
from roost.core.records import Job, JobId, JobStatus, NodeId, Reason
from roost.core.state import State

S = JobStatus
NODES_NAMED_MAX = 4


def explain(farm: State, ids: Iterable[JobId]) -> dict[JobId, tuple[Reason, ...]]:
    """Of each of these jobs; nothing when it is not waiting, or is about to be placed.

    Jobs that need the same wait for the same, and are looked at once: unless they come before or
    behind a job that holds machines, their ranks make no difference.
    """
    ranks_that_hold = sorted(farm.floor.waiting[job][0] for job in farm.floor.holds)
    found: dict[JobId, tuple[Reason, ...]] = {}
    shared: dict[tuple[Need, int], tuple[Reason, ...]] = {}
    for job_id in ids:
        job = farm.jobs.get(job_id)
        if job is None:
            found[job_id] = ()
        elif job.status is not S.RUNNABLE or job_id in farm.stopping:
            found[job_id] = _why_not_runnable(farm, job)
        else:
            need, rank = farm.need(job), rank_of(job)
            alike = need, bisect_left(ranks_that_hold, rank)
            if alike not in shared:
                shared[alike] = _why_no_node(farm, need, rank)
            found[job_id] = shared[alike]
    return found


def _why_not_runnable(farm: State, job: Job) -> tuple[Reason, ...]:
    job_id = job.id
    if job.status is S.QUEUED:
        tally = farm.tree.tallies[job_id]
        total = len(farm.tree.children[job_id])
        return (Reason(f"It waits for {tally.children_open} of its {total} children."),)
    if job.status is S.PAUSED:
        return (Reason("It is paused; resume it to let it run."),)
    if job.status is S.RUNNABLE:
        return (Reason("Its previous run is still being stopped."),)
    return ()


def _why_no_node(farm: State, need: Need, rank: Rank) -> tuple[Reason, ...]:
    found = farm.floor.obstacles(need, rank)
    if not found:
        return (Reason("No machine has joined the farm."),)
    shortage = farm.floor.stock.shortage(need.resources)
    reasons = [Reason(shortage)] if shortage else []
    by_text: dict[str, list[NodeId]] = {}
    fitting: list[NodeId] = []
    for node, text in found.items():
        if text is None:
            fitting.append(node)
        else:
            by_text.setdefault(text, []).append(node)
    if fitting and need.hosts_min <= len(fitting):
        served = len(farm.floor.stock.afford(need.resources, fitting))
        if served < need.hosts_min:
            reasons.append(
                Reason(
                    f"It needs {need.hosts_min} machines at once, "
                    f"and what is free of its resources serves {served}."
                )
            )
        return tuple(reasons)
    if need.hosts_min > 1:
        reasons.append(
            Reason(f"It needs {need.hosts_min} machines at once, and {len(fitting)} can take it.")
        )
    for text, nodes in by_text.items():
        reasons.append(Reason(f"{_subject(farm, nodes)} {text}.", tuple(nodes)))
    return tuple(reasons)


def _subject(farm: State, nodes: Sequence[NodeId]) -> str:
    """What the obstacle of one node, such as "is disabled", can be said of."""
    *names, last = [farm.nodes[node].facts.label for node in nodes[:NODES_NAMED_MAX]]
    if len(nodes) > NODES_NAMED_MAX:
        names, last = [*names, last], f"{len(nodes) - NODES_NAMED_MAX} more"
    return f"Each of {', '.join(names)} and {last}" if names else last
