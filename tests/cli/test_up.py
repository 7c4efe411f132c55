"""The real thing: `roost up`, `server` and `agent` as processes, and jobs through them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PATIENCE_S = 30
"""For what must happen soon; how soon is measured in bench/."""


class Process:
    """A `roost` process that announces itself; standard error goes to a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / f"{arguments[0]}.log"
        with self.log.open("ab") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "roost", *arguments, "--announce"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        assert self.popen.stdout
        line = self.popen.stdout.readline()
        assert line, self.log.read_text()
        self.announced: dict[str, Any] = json.loads(line)
        self.url: str = self.announced["url"]

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.popen.stdout
        self.popen.send_signal(number)
        self.popen.wait(PATIENCE_S)
        self.popen.stdout.close()

    def roost(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A client command against this farm."""
        return subprocess.run(
            [sys.executable, "-m", "roost", *arguments],
            env={**os.environ, "ROOST_SERVER": self.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        process = Process(tmp_path, *arguments)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.popen.returncode is None:
            process.stop()


@pytest.fixture
def up(start: Start, tmp_path: Path) -> Process:
    return start("up", "--port", "0", "--agent-port", "0", "--data", str(tmp_path / "farm"))


def gone(pid: int) -> bool:
    """Waits for a process that is not our child to end."""
    import select

    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE_S)[0])
    finally:
        os.close(handle)


def agent_pid(farm: Process) -> int:
    children = Path(f"/proc/{farm.popen.pid}/task/{farm.popen.pid}/children").read_text()
    return int(children.split()[0])


def test_it_announces_where_it_is(up: Process) -> None:
    assert up.announced["pid"] == up.popen.pid
    assert set(up.announced) == {"url", "agent_url", "pid"}
    for address in (up.url, up.announced["agent_url"]):
        methods = xmlrpc.client.ServerProxy(address)
        with pytest.raises(xmlrpc.client.Fault):
            methods.noSuchMethod()
        methods("close")()


def test_a_script_can_submit_wait_and_read(up: Process) -> None:
    done = up.roost("submit", "--wait", "--frames", "1-5x2", "--", "echo frame $FRAME")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert up.roost("output", "3", "-f").stdout == "frame 3\n"
    listed = json.loads(up.roost("jobs", "--parent", "1", "--json").stdout)["jobs"]
    assert sorted((job["name"], job["status"]) for job in listed) == [
        (f"echo frame $FRAME [{frame}]", "succeeded") for frame in (1, 3, 5)
    ]


def test_the_exit_code_is_the_fate(up: Process) -> None:
    failed = up.roost("submit", "--wait", "--", "sh", "-c", "exit 7")
    assert failed.returncode == 1
    story = up.roost("job", failed.stdout.strip()).stdout
    assert "\t7\t" in story
    job = up.roost("submit", "--", "sleep", "100").stdout.strip()
    assert up.roost("cancel", job).returncode == 0
    assert up.roost("wait", job).returncode == 3


def test_a_job_that_cannot_run_says_why(up: Process) -> None:
    job = up.roost("submit", "--cpus", "10000", "--", "true").stdout.strip()
    why = up.roost("why", job)
    assert why.returncode == 0
    assert "10000" in why.stdout


def test_unknown_jobs_and_bad_jobs_are_one_sentence(up: Process, tmp_path: Path) -> None:
    missing = up.roost("job", "99")
    assert (missing.returncode, missing.stdout) == (4, "")
    assert missing.stderr.startswith("roost: ")
    assert missing.stderr.count("\n") == 1
    file = tmp_path / "bad.json"
    file.write_text('{"name": "a", "children": [{"name": "b", "cpus": -1}]}')
    bad = up.roost("submit", str(file))
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "cpus" in bad.stderr


def test_the_doctor_finds_the_farm(up: Process) -> None:
    found = json.loads(up.roost("doctor", "--json").stdout)
    state = {finding["check"]: finding["state"] for finding in found["findings"]}
    assert (state["farm"], state["clocks"]) == ("ok", "ok")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_server_and_agent(up: Process, number: int) -> None:
    agent = agent_pid(up)
    up.stop(number)
    assert gone(agent)
    assert up.popen.returncode == 0


def test_kill_9_takes_the_agent_along(up: Process) -> None:
    agent = agent_pid(up)
    up.stop(signal.SIGKILL)
    assert gone(agent)


def test_jobs_outlive_the_farm_and_are_found_again(
    up: Process, start: Start, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = up.roost("submit", "--", f"echo begun; cat {gate}").stdout.strip()
    with subprocess.Popen(
        [sys.executable, "-m", "roost", "output", "-f", job, "--server", up.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as following:
        assert following.stdout
        assert following.stdout.readline() == b"begun\n"
        following.kill()
    up.stop()
    assert "Running jobs go on" in up.log.read_text()
    with gate.open("w") as end:
        end.write("ended\n")
    again = start("up", "--port", "0", "--agent-port", "0", "--data", str(tmp_path / "farm"))
    assert again.roost("wait", job).returncode == 0
    assert again.roost("output", job).stdout == "begun\nended\n"


def test_an_agent_that_dies_is_started_again(up: Process) -> None:
    agent = agent_pid(up)
    os.kill(agent, signal.SIGKILL)
    assert gone(agent)
    assert up.roost("submit", "--wait", "--", "true").returncode == 0
    assert "starting it again" in up.log.read_text()


def test_an_agent_that_cannot_start_ends_the_farm(up: Process, tmp_path: Path) -> None:
    port = up.announced["agent_url"].rpartition(":")[2]
    second = up.roost("up", "--port", "0", "--agent-port", port, "--data", str(tmp_path / "b"))
    assert second.returncode not in (0, None)
    assert port in second.stderr


def test_a_second_farm_on_the_same_folder_is_refused_with_the_first_one_s_pid(
    up: Process, tmp_path: Path
) -> None:
    second = up.roost("server", "--port", "0", "--data", str(tmp_path / "farm"))
    assert second.returncode == 3
    assert str(up.popen.pid) in second.stderr


def test_server_and_agents_may_be_apart(start: Start, tmp_path: Path) -> None:
    server = start("server", "--port", "0", "--data", str(tmp_path / "server"))
    assert set(server.announced) == {"url", "pid"}
    for name in ("a", "b"):
        folder = str(tmp_path / name)
        options = ("--name", name, "--port", "0", "--data", folder, "--cpus", "1")
        agent = start("agent", "--server", server.url, *options)
        assert set(agent.announced) == {"url", "agent_url", "pid"}
        assert agent.url == server.url
    done = server.roost("submit", "--wait", "--frames", "1-4", "--", "true")
    assert done.returncode == 0
    nodes = json.loads(server.roost("nodes", "--json").stdout)["nodes"]
    assert sorted((node["name"], node["cpus"]) for node in nodes) == [("a", 1), ("b", 1)]


def test_without_a_farm_there_is_one_sentence_and_exit_code_6(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "roost", "jobs", "--server", "http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (6, "")
    assert run.stderr.startswith("roost: Nothing answers")


def test_a_reader_that_has_seen_enough_is_no_error(up: Process) -> None:
    up.roost("submit", "--frames", "1-300", "--", "true")
    line = f"{sys.executable} -m roost jobs --all --limit 300 --server {up.url} | head -n 1"
    run = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert run.stdout.startswith("ID\t")
    assert run.stderr == ""
