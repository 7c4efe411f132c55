"""The built-in job by which a node takes another Roost: which nodes are about to."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from roost.core.records import Job, JobId, JobSpec, JobStatus, Moment, NodeFacts
from roost.core.upgrading import name_of, under_way, upgrade_job

NODE = NodeFacts(hostname="render7")


def job(spec: JobSpec, status: JobStatus = JobStatus.RUNNABLE) -> Job:
    return Job(JobId(1), spec, status, Moment(1))


UPGRADE = upgrade_job(NODE, "new", "digest", 0).spec


def test_one_look_at_the_jobs_of_a_farm_finds_all_nodes_that_are_about_to_be_upgraded() -> None:
    second = NodeFacts(hostname="render8")
    specs = [UPGRADE, JobSpec(name="frame", command="true"), upgrade_job(second, "new", "", 0).spec]
    assert under_way(map(job, specs), "new") == {name_of(NODE), name_of(second)}


@pytest.mark.parametrize(
    "other",
    [
        job(UPGRADE, JobStatus.FAILED),
        job(upgrade_job(NODE, "older", "digest", 0).spec),
        job(replace(UPGRADE, submitted_by="ann")),
    ],
    ids=["is over", "another version", "somebody else's"],
)
def test_another_job_keeps_no_node_from_being_upgraded(other: Job) -> None:
    assert not under_way([other], "new")
