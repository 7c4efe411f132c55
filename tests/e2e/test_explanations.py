"""Why a job waits is one sentence, whoever asks: the scheduler's."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.e2e.conftest import Farm

import roost
from roost.remote import Remote

pytestmark = pytest.mark.slow


def test_everybody_is_given_the_same_sentences(farm: Farm) -> None:
    farm.start_server()
    farm.start_agent("a", cpus=2)
    farm.start_agent("b", cpus=4)
    with farm.rpc as rpc:
        assert rpc.setdisabled(farm.node("b")["label"], True)
        (parent, _) = rpc.newjob(
            {"name": "parent", "children": [{"name": "c", "command": "true", "host": "nowhere"}]}
        )
        paused = farm.submit("true", host="nowhere")
        rpc.pauseJobs([paused])
    jobs = {
        parent: ["It waits for 1 of its 1 children."],
        paused: ["It is paused; resume it to let it run."],
        farm.submit("true", cpus=3): ["CPUs", "disabled"],
        farm.submit("true", resources={"licence": 1}): ["licence"],
        farm.submit("true", minHosts=2, maxHosts=2): ["2 machines at once"],
    }
    for job, parts in jobs.items():
        farm.wait(job, "runnable", "queued", "paused")
        with Remote(farm.url) as remote:
            reasons = remote.reasons(job)
        texts = [reason.text for reason in reasons]
        assert texts and all(part in " ".join(texts) for part in parts), texts
        assert farm.job(job, "waitingFor")["waitingFor"] == " ".join(texts)
        with roost.connect(farm.url) as connected:
            assert connected.job(job).waiting_for == " ".join(texts)
        command = [sys.executable, "-m", "roost", "why", str(job), "--server", farm.url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert all(
            line.startswith(text) for line, text in zip(said.splitlines(), texts, strict=True)
        )
    too_large = list(jobs)[2]
    with Remote(farm.url) as remote:
        nodes = [tuple(reason.nodes) for reason in remote.reasons(too_large)]
    assert sorted(nodes) == sorted((farm.node(name)["id"],) for name in ("a", "b"))
