"""The built-in job by which a node takes the server's own Roost (decision 38).

It is a job like others: it can be seen, waited for and cancelled, it has a priority, and with the
tag `single` it waits until the node has ended what it runs, which gets nothing new meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable

from roost.core.lifecycle import FINAL
from roost.core.messages import NewJob
from roost.core.records import Condition, Job, JobSpec, NodeFacts

SUBMITTER = "roost"
MODULE = "roost.agent.upgrade"


def name_of(node: NodeFacts) -> str:
    """What the job for a node is called."""
    return f"Upgrade {node.label}"


def upgrade_job(node: NodeFacts, version: str, digest: str, priority: int) -> NewJob:
    """The job that installs the package of this version, whose archive has this SHA-256."""
    spec = JobSpec(
        name_of(node),
        command=f'exec "$ROOST_PYTHON" -m {MODULE} {version} {digest}',
        description=f"Gives the machine Roost {version} when it has ended what it runs.",
        submitted_by=SUBMITTER,
        conditions=(Condition("hostname:name", "==", f"{node.hostname}:{node.name}"),),
        tags=("single",),
    )
    return NewJob(spec, f'job "{spec.name}"', priority=priority)


def under_way(jobs: Iterable[Job], version: str) -> set[str]:
    """The names of those jobs that bring a node to this version and are not over."""
    return {
        job.spec.name
        for job in jobs
        if job.spec.submitted_by == SUBMITTER
        and job.status not in FINAL
        and isinstance(job.spec.command, str)
        and f" {version} " in job.spec.command
    }
