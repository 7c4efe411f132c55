"""What a type checker sees of `import roost`; mypy reads this file, nobody runs it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

import roost
from roost.core.records import JobStatus
from roost.wire import rest

farm = roost.connect("http://farm:5000")
assert_type(farm, roost.Farm)

# A job for one, a list of jobs for a list.
assert_type(farm.submit("render", name="film", cpus=4, cwd=Path.cwd()), roost.Job)
assert_type(farm.submit(["render", "-f", "1"], tags=["single"]), roost.Job)
assert_type(farm.submit({"name": "a", "command": "x"}, parent=3), roost.Job)
assert_type(farm.submit([roost.job_spec("x"), roost.job_spec("y")]), list[roost.Job])
assert_type(farm.submit_frames("render {frame}", range(1, 101), group="fast"), roost.Job)
assert_type(farm.submit_frames("render {frame}", "1-100x2"), roost.Job)

# Wrong names and values are found; strict mypy complains of an ignore that ignores nothing.
farm.submit("render", cpu=4)  # type: ignore[call-overload]
farm.submit("render", cpus="4")  # type: ignore[call-overload]
farm.submit_frames("render", 1)  # type: ignore[arg-type]
roost.conect  # type: ignore[attr-defined]  # noqa: B018

job = farm.job(1)
assert_type(job.status, JobStatus)
assert_type(job.status == "succeeded", bool)
assert_type(job.ended_at, datetime | None)
assert_type(job.children, list[roost.Job])
assert_type(job.wait(progress=True, timeout=3.0, check=True), roost.Job)
assert_type(job.output(), str)
assert_type(job.output(last=100), str)
assert_type(job.output(follow=True), Iterator[str])
assert_type(job.output_bytes(), bytes)
assert_type(job.why(), list[str])
assert_type(job.events(), list[rest.JobEvent])
assert_type(job.spec, dict[str, Any])
assert_type(job.attributes, dict[str, Any])
assert_type(job.attribute_history("Loss"), list[tuple[datetime, float]])
assert_type(farm.submit("sim", attributes={"Samples": 64}, submit_dir="/shots"), roost.Job)
assert_type(farm.jobs(status=["failed", "cancelled"], limit=5), Iterator[roost.Job])
assert_type(farm.wait([job]), list[roost.Job])
assert_type(farm.node("render1").running, list[roost.Job])

try:
    job.wait(check=True)
except roost.JobFailed as failure:
    assert_type(failure.culprit, roost.Job)
except roost.NotFinished as late:
    assert_type(late.jobs, list[roost.Job])
