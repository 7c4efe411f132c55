"""Attributes of jobs on a real farm: on disk when acknowledged, the same through every door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roost.errors import Forbidden, Invalid, NotFound
from roost.remote import Remote

pytestmark = pytest.mark.slow


def roost(farm: Any, *arguments: str) -> str:
    command = [sys.executable, "-m", "roost", *arguments]
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, "ROOST_SERVER": farm.url}
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_what_was_acknowledged_is_there_after_the_server_was_killed(farm: Any) -> None:
    farm.start_server()
    job = farm.submit("true", attributes={"Scene": "a b", "Begun": 1})
    with Remote(farm.url) as remote:
        for loss in range(600, 0, -1):
            remote.set_attributes(job, {"Loss": loss / 8})
        remote.set_attributes(job, {"scene": "c", "JobPrio": 9, "Sum": {"expr": "Loss + 1"}})
        before = remote.attributes(job)
        farm.server.kill()
        farm.start_server()
        assert remote.attributes(job) == before
        loss = next(one for one in before if one.name == "Loss")
        assert [value for _, value in loss.history] == [
            *(number / 8 for number in range(600, 0, -4)), 1 / 8,
        ]  # fmt: skip
        found = farm.job(job, "attributes", "priority")
        assert found == {
            "attributes": {"Scene": "c", "Begun": 1, "Loss": 0.125, "Sum": {"expr": "Loss + 1"}},
            "priority": 9,
        }
        assert remote.job(job).attributes == found["attributes"]


def test_refusals_come_through_and_change_nothing(farm: Any) -> None:
    farm.start_server()
    job = farm.submit("true", attributes={"A": 1})
    with Remote(farm.url) as remote:
        for values, refusal in (
            ({"A": 2, "JobStatus": 5}, Forbidden),
            ({"A": 2, "b c": 5}, Invalid),
            ({"A": {"expr": "1 +"}}, Invalid),
        ):
            with pytest.raises(refusal):
                remote.set_attributes(job, values)
        with pytest.raises(NotFound):
            remote.set_attributes(job + 1, {"A": 2})
    assert farm.job(job, "attributes") == {"attributes": {"A": 1}}


def test_a_finished_job_is_annotated_from_the_command_line(farm: Any) -> None:
    farm.start_server()
    farm.start_agent()
    job = farm.submit("true", submittedBy="ada")
    farm.wait(job)
    roost(farm, "attribute", str(job), "Rating=4", "Verdict=looks good")
    assert 'Verdict = "looks good"' in roost(farm, "job", str(job))
    shown = json.loads(roost(farm, "attribute", str(job), "--json"))["attributes"]
    assert [one["text"] for one in shown] == ["4", '"looks good"']
    logs = farm.job(job, "logs")["logs"]
    assert [log["message"] for log in logs if log["status"] == "attribute"] == [
        "Setting job attribute Rating to 4",
        'Setting job attribute Verdict to "looks good"',
    ]


def test_htcondor_reads_the_event_log_of_real_jobs(
    farm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", "ONLY_ENV")
    import htcondor2

    farm.start_server()
    farm.start_agent()
    with farm.rpc as rpc:
        children = [
            {"name": "a", "command": "exit 3", "triesLeft": 1},
            {"name": "b", "command": ":"},
        ]
        ids = rpc.newjob({"name": "root", "children": children})
    for job in ids:
        farm.wait(job)
    log = tmp_path / "log"
    log.write_text(roost(farm, "event-log", *map(str, ids)))
    events = list(htcondor2.JobEventLog(str(log)).events(stop_after=0))
    by_job: dict[tuple[int, int], list[int]] = {}
    for event in events:
        by_job.setdefault((event.cluster, event.proc), []).append(event["EventTypeNumber"])
    root = ids[0]
    assert by_job == {
        (root, 0): [0, 5],
        (root, ids[1]): [0, 1, 4, 1, 5],
        (root, ids[2]): [0, 1, 5],
    }
    ends = {event.proc: event["ReturnValue"] for event in events if event["EventTypeNumber"] == 5}
    assert ends == {0: 1, ids[1]: 3, ids[2]: 0}
