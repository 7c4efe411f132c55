"""Jobs as their authors know them: scripts, tries, pauses, progress, several hosts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil


def test_scripts_run_when_their_time_has_come_and_write_to_the_same_log(farm: Any) -> None:
    farm.start_up("--cpus", "2")
    scripts = {
        "onSuccess": "echo success",
        "onError": "echo error",
        "onChildError": "echo child error",
        "cleanup": "echo cleanup",
    }
    good = farm.submit("echo good", **scripts)
    bad = farm.submit("echo bad; exit 3", **scripts)
    with farm.rpc as rpc:
        parent = rpc.newjob(
            {
                "name": "parent",
                "command": "echo never",
                "children": [{"name": "child", "command": "false"}],
                **scripts,
            }
        )[0]
    assert farm.wait(good) == "succeeded"
    assert farm.wait(bad) == "failed"
    assert farm.wait(parent) == "failed"
    assert sorted(farm.output(good).splitlines()) == ["cleanup", "good", "success"]
    assert sorted(farm.output(bad).splitlines()) == ["bad", "cleanup", "error"]
    assert farm.output(parent) == "child error\n"


def test_a_job_is_tried_again_as_often_as_it_may_and_its_log_keeps_every_run(
    farm: Any, tmp_path: Path
) -> None:
    farm.start_up("--cpus", "1")
    marker = tmp_path / "tried"
    job = farm.submit(
        f"echo attempt; test -e {marker} || {{ touch {marker}; exit 1; }}",
        triesLeft=2,
        onError="echo gave up",
    )
    assert farm.wait(job) == "succeeded"
    assert farm.job(job, "triesLeft") == {"triesLeft": 1}
    assert farm.output(job).count("attempt\n") == 2
    assert "gave up" not in farm.output(job)


def test_pausing_stops_the_whole_group_and_resuming_lets_it_go_on(
    farm: Any, signpost: Any, gate: Any
) -> None:
    farm.start_up("--cpus", "1")
    job = farm.submit(f"sleep 1000 & echo $! > {signpost.path}; read x < {gate.path}; kill $!")
    child = psutil.Process(int(signpost.line()))
    with farm.rpc as rpc:
        rpc.pauseJobs([job])
        farm.wait(job, "paused")
        assert child.status() == psutil.STATUS_STOPPED
        gate.path.write_text("go\n")
        assert rpc.getJob(job, ["status", "waitingFor"])["status"] == "paused"
        rpc.resumeJobs([job])
    assert farm.wait(job) == "succeeded"
    assert [s for s in farm.story(job) if s != "succeeded"] == [
        "runnable",
        "running",
        "pausing",
        "paused",
        "resuming",
        "running",
    ]


def test_a_job_beyond_its_time_is_cancelled(farm: Any) -> None:
    farm.start_up("--cpus", "1")
    job = farm.submit("echo begun; sleep 1000", maxTime=1)
    assert farm.wait(job) == "cancelled"
    assert "time" in farm.job(job, "logs")["logs"][-1]["message"]
    assert farm.output(job) == "begun\n"


def test_an_ejected_job_runs_again(farm: Any, signpost: Any, gate: Any) -> None:
    farm.start_up("--cpus", "1")
    job = farm.submit(f"echo started > {signpost.path}; read x < {gate.path}")
    signpost.line()
    with farm.rpc as rpc:
        rpc.ejectJobs([job])
    signpost.line()
    gate.path.write_text("go\n")
    assert farm.wait(job) == "succeeded"
    assert "ejected" in farm.story(job)


def test_progress_lines_move_the_job_and_its_parent(farm: Any, signpost: Any, gate: Any) -> None:
    farm.start_server("--heartbeat", "0.2")
    farm.start_agent(cpus=2)
    command = f"echo 'PROGRESS: 1/4'; echo at > {signpost.path}; read x < {gate.path}"
    with farm.rpc as rpc:
        root, child, _ = rpc.newjob(
            {
                "name": "root",
                "children": [
                    {"name": "slow", "command": command},
                    {"name": "later", "command": "true", "conditions": [_nowhere()]},
                ],
            }
        )
        signpost.line()
        farm.wait_until(child, lambda: farm.job(child, "progress")["progress"] == 0.25)
        assert rpc.getJob(root, ["overallProgress", "uiStatus", "progress"]) == {
            "overallProgress": 0.125,
            "uiStatus": "running (1 clients assigned)",
            "progress": 0.0,
        }
        assert rpc.getJob(root, ["ETA"])["ETA"] >= 0
        rpc.cancelJobs([root])


def _nowhere() -> dict[str, str]:
    return {"type": "client", "name": "hostname", "op": "==", "value": "nowhere"}


def test_a_job_for_two_hosts_gets_both_and_knows_them(farm: Any) -> None:
    farm.start_server()
    farm.start_agent("a", cpus=1)
    job = farm.submit("echo $HQHOSTS", minHosts=2, maxHosts=2)
    assert farm.status(job) == "runnable"
    assert len(farm.job(job, "clientsOnHold")["clientsOnHold"]) <= 1
    farm.start_agent("b", cpus=1)
    assert farm.wait(job) == "succeeded"
    assert len(farm.output(job).strip().split(",")) == 2
    assert {client["name"] for client in farm.job(job, "clients")["clients"]} == {"a", "b"}
    with farm.rpc as rpc:
        for name in ("a", "b"):
            assert rpc.getJobHistory(farm.node(name)["id"]) == [job]


def test_several_agents_of_one_machine_have_names_folders_and_ports_of_their_own(farm: Any) -> None:
    farm.start_server()
    agents = [farm.start_agent(name, cpus=1) for name in ("left", "right")]
    ports = [(farm.agent_folder(name) / "hqnode.port").read_text() for name in ("left", "right")]
    assert len(set(ports)) == 2
    hosted = farm.submit(
        "true",
        conditions=[
            {"type": "client", "name": "hostname:name", "op": "==", "value": _label(farm, "right")}
        ],
    )
    assert farm.wait(hosted) == "succeeded"
    assert [client["name"] for client in farm.job(hosted, "clients")["clients"]] == ["right"]
    assert all(agent.stop() == 0 for agent in agents)


def _label(farm: Any, name: str) -> str:
    return str(farm.node(name)["label"])


def test_no_agent_outlives_an_up_that_was_killed(farm: Any) -> None:
    up = farm.start_up("--cpus", "1")
    family = psutil.Process(up.announced["pid"]).children(recursive=True)
    agents = [process for process in family if "agent" in process.cmdline()]
    assert agents
    ends = [os.pidfd_open(agent.pid) for agent in agents]
    up.kill()
    for end in ends:
        farm.wait_for_exit(end)
