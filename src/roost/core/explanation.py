"""Why a job does not run: the sentences behind `waitingFor`, `roost why` and the API.

Nothing is decided here. What stands against each node comes from the same chain of tests that
placement walks (`matching`); nodes with the same obstacle are named together.
"""

from __future__ import annotations

from roost.core.matching import rank_of
from roost.core.records import JobId, JobStatus, NodeId, Reason
from roost.core.state import State

S = JobStatus
NODES_NAMED_MAX = 4


def explain(farm: State, job_id: JobId) -> tuple[Reason, ...]:
    """Empty when the job is not waiting, or is about to be placed."""
    job = farm.jobs.get(job_id)
    if job is None:
        return ()
    if job.status is S.QUEUED:
        tally = farm.tree.tallies[job_id]
        total = len(farm.tree.children[job_id])
        return (Reason(f"It waits for {tally.children_open} of its {total} children."),)
    if job.status is S.PAUSED:
        return (Reason("It is paused; resume it to let it run."),)
    if job.status is not S.RUNNABLE:
        return ()
    if job_id in farm.stopping:
        return (Reason("Its previous run is still being stopped."),)
    return _why_no_node(farm, job_id)


def _why_no_node(farm: State, job_id: JobId) -> tuple[Reason, ...]:
    job = farm.jobs[job_id]
    need = farm.need(job)
    found = farm.floor.obstacles(need, rank_of(job))
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
        names = [farm.nodes[node].facts.label for node in nodes[:NODES_NAMED_MAX]]
        if len(nodes) > NODES_NAMED_MAX:
            names.append(f"and {len(nodes) - NODES_NAMED_MAX} more")
        reasons.append(Reason(f"{', '.join(names)} {text}.", tuple(nodes)))
    return tuple(reasons)
