"""What outlives what: servers, agents and networks die; jobs, records and output do not."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import xmlrpc.client
from pathlib import Path
from typing import Any

import psutil
import pytest


def test_a_server_killed_at_any_moment_forgets_no_acknowledged_job(farm: Any) -> None:
    farm.start_server()
    farm.start_agent()
    acknowledged: list[int] = []
    for round_number in range(3):
        acknowledged += [farm.submit(f"echo {round_number}.{number}") for number in range(10)]
        farm.server.kill()
        farm.start_server()
    for job in acknowledged:
        assert farm.wait(job) == "succeeded"
    outputs = [farm.output(job).strip() for job in acknowledged]
    assert outputs == [f"{one}.{two}" for one in range(3) for two in range(10)]
    assert all(farm.story(job).count("running") == 1 for job in acknowledged)


def test_a_server_starts_without_what_its_record_refuses_and_says_so(farm: Any) -> None:
    farm.start_server()
    farm.server.kill()
    with sqlite3.connect(farm.folder / "server" / "roost.db") as disk:
        disk.execute("INSERT INTO journal (is_last, text) VALUES (1, 'of no Roost')")
    disk.close()
    farm.start_server()
    farm.start_agent()
    job = farm.submit("true")
    assert farm.wait(job) == "succeeded"
    with farm.rpc as rpc:
        [error] = rpc.getServerErrors()["errors"]
    assert error["text"].startswith("The record refuses the new jobs of a save; ")


def test_jobs_of_a_new_record_have_no_output_of_an_earlier_one(farm: Any) -> None:
    for text in ("longer", "new"):
        farm.start_server()
        farm.start_agent()
        job = farm.submit(f"echo {text}")
        assert farm.wait(job) == "succeeded"
        assert (job, farm.output(job)) == (1, f"{text}\n")
        farm.server.stop()
        farm.agents[""].stop()
        (farm.folder / "server" / "roost.db").unlink()
    [kept] = (farm.folder / "server").glob("output/before-new-record-*/000/0000/1.1.log")
    assert kept.read_text() == "longer\n"


@pytest.mark.parametrize("victim", ["server", "agent"])
def test_each_job_runs_once_though_its_server_or_agent_is_killed_again_and_again(
    farm: Any, signpost: Any, victim: str
) -> None:
    farm.start_server()
    farm.start_agent(cpus=2)
    children = [
        {"name": f"{number}", "command": f"echo {number} > {signpost.path}; echo out {number}"}
        for number in range(300)
    ]
    with farm.rpc as rpc:
        root, *jobs = rpc.newjob({"name": "root", "children": children})
    ran: list[str] = []
    for _ in range(4):
        ran += [signpost.line() for _ in range(50)]
        if victim == "server":
            farm.server.kill()
            farm.start_server()
        else:
            farm.agents[""].kill()
            farm.start_agent(cpus=2)
    assert farm.wait(root) == "succeeded"
    ran += [signpost.line() for _ in range(300 - len(ran))]
    assert signpost.is_silent()
    assert sorted(map(int, ran)) == list(range(300))
    assert [farm.output(job) for job in jobs] == [f"out {number}\n" for number in range(300)]


def test_running_jobs_go_on_without_their_server_and_are_not_started_twice(
    farm: Any, signpost: Any, gate: Any
) -> None:
    farm.start_server()
    farm.start_agent()
    job = farm.submit(f"echo one; echo started > {signpost.path}; read x < {gate.path}; echo two")
    assert signpost.line() == "started"
    farm.server.kill()
    gate.path.write_text("go\n")
    farm.start_server()
    assert farm.wait(job) == "succeeded"
    assert farm.output(job) == "one\ntwo\n"
    assert signpost.is_silent()
    assert farm.story(job) == ["runnable", "running", "succeeded"]


def test_a_job_that_runs_while_its_agent_is_dead_is_found_again(
    farm: Any, signpost: Any, gate: Any
) -> None:
    farm.start_server()
    agent = farm.start_agent()
    job = farm.submit(f"echo started > {signpost.path}; read x < {gate.path}; echo on; exit 7")
    assert signpost.line() == "started"
    agent.kill()
    farm.start_agent()
    assert farm.status(job) == "running"
    gate.path.write_text("go\n")
    assert farm.wait(job) == "failed"
    assert farm.output(job) == "on\n"
    assert signpost.is_silent()


def test_a_job_that_ends_while_its_agent_is_dead_keeps_its_true_exit_status(
    farm: Any, signpost: Any, gate: Any
) -> None:
    farm.start_server()
    agent = farm.start_agent(cpus=2)
    command = f"echo $$ > {signpost.path}; kill -STOP $$; exit $STATUS"
    good = farm.submit(command, environment={"STATUS": "0"})
    bad = farm.submit(command, environment={"STATUS": "7"})
    ends = {os.pidfd_open(pid): pid for pid in (int(signpost.line()), int(signpost.line()))}
    agent.kill()
    for end, pid in ends.items():
        psutil.Process(pid).resume()
        ready, _, _ = select.select([end], [], [], 60)
        assert ready, "the job did not end"
        os.close(end)
    farm.start_agent(cpus=2)
    assert farm.wait(good) == "succeeded"
    assert farm.wait(bad) == "failed"
    assert "exit status 7" in farm.job(bad, "logs")["logs"][-1]["message"]


def test_a_job_of_a_machine_that_is_gone_runs_again_exactly_once(
    farm: Any, signpost: Any, gate: Any
) -> None:
    farm.start_server("--active-timeout", "1", "--requeue-after", "1", "--heartbeat", "0.2")
    doomed = farm.start_agent("doomed")
    job = farm.submit(f"echo $HQCLIENT > {signpost.path}; read x < {gate.path}")
    signpost.line()
    farm.start_agent("spare")
    doomed.kill()
    signpost.line()
    assert farm.status(job) == "running"
    gate.path.write_text("go\ngo\n")
    assert farm.wait(job) == "succeeded"
    assert farm.story(job) == [
        "runnable",
        "running",
        "abandoned",
        "runnable",
        "running",
        "succeeded",
    ]
    assert signpost.is_silent()


def test_an_agent_installed_anew_has_lost_its_jobs_and_they_run_again_once(
    farm: Any, signpost: Any, gate: Any
) -> None:
    farm.start_server("--active-timeout", "1", "--requeue-after", "60", "--heartbeat", "0.2")
    agent = farm.start_agent()
    job = farm.submit(f"echo $$ > {signpost.path}; read x < {gate.path}")
    first = int(signpost.line())
    agent.kill()
    for process in psutil.Process(first).parents():
        if "roost.agent.keeper" in " ".join(process.cmdline()):
            process.kill()
    psutil.Process(first).kill()
    shutil.rmtree(farm.agent_folder(""))
    farm.wait(job, "abandoned")
    farm.start_agent()
    assert int(signpost.line()) != first
    gate.path.write_text("go\n")
    assert farm.wait(job) == "succeeded"
    assert farm.story(job).count("running") == 2


class Cable:
    """A TCP path to the server that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.cut = threading.Event()
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.cut.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def break_it(self) -> None:
        self.cut.set()
        for end in self.open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.cut.clear()

    def close(self) -> None:
        self.break_it()
        self.listener.close()
        for end in self.open:
            end.close()


def test_jobs_go_on_while_the_network_is_gone_and_all_is_delivered_afterwards(
    farm: Any, signpost: Any, gate: Any
) -> None:
    farm.start_server()
    cable = Cable(farm.port)
    farm.start_agent("far", url=f"http://127.0.0.1:{cable.port}")
    lines = "for i in $(seq 2000); do echo line $i; done"
    job = farm.submit(
        f"echo started > {signpost.path}; read x < {gate.path}; {lines};"
        f" echo done > {signpost.path}"
    )
    assert signpost.line() == "started"
    cable.break_it()
    gate.path.write_text("go\n")
    assert signpost.line() == "done"
    assert farm.status(job) == "running"
    cable.mend()
    assert farm.wait(job) == "succeeded"
    assert farm.output(job) == "".join(f"line {number}\n" for number in range(1, 2001))
    assert "abandoned" not in farm.story(job)
    cable.close()


def test_a_silent_node_is_abandoned_after_the_active_timeout_and_taken_back(
    farm: Any, signpost: Any, gate: Any
) -> None:
    farm.start_server("--active-timeout", "1", "--requeue-after", "0", "--heartbeat", "0.2")
    cable = Cable(farm.port)
    farm.start_agent("far", url=f"http://127.0.0.1:{cable.port}")
    job = farm.submit(f"echo started > {signpost.path}; read x < {gate.path}")
    assert signpost.line() == "started"
    cable.break_it()
    farm.wait(job, "abandoned")
    cable.mend()
    farm.wait(job, "running")
    gate.path.write_text("go\n")
    assert farm.wait(job) == "succeeded"
    assert signpost.is_silent()
    assert farm.story(job) == ["runnable", "running", "abandoned", "running", "succeeded"]
    cable.close()


def test_a_second_server_on_the_same_folder_is_refused_with_the_first_ones_pid(farm: Any) -> None:
    server = farm.start_server()
    second = subprocess.run(
        [*_roost(), "server", "--port", "0", "--data", str(farm.folder / "server")],
        capture_output=True,
        text=True,
    )
    assert second.returncode == 3
    assert str(server.announced["pid"]) in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1


def test_a_second_agent_on_the_same_folder_is_refused_with_the_first_ones_pid(farm: Any) -> None:
    farm.start_server()
    agent = farm.start_agent()
    second = subprocess.run(
        [*_roost(), "agent", "--server", farm.url, "--data", str(farm.agent_folder(""))],
        capture_output=True,
        text=True,
    )
    assert second.returncode == 3
    assert str(agent.announced["pid"]) in second.stderr


def test_a_second_agent_with_the_same_name_is_refused(farm: Any) -> None:
    farm.start_server()
    farm.start_agent("twin")
    second = subprocess.run(
        [
            *_roost(),
            "agent",
            "--server",
            farm.url,
            "--name",
            "twin",
            "--port",
            "0",
            "--data",
            str(farm.folder / "other"),
            "--announce",
        ],
        capture_output=True,
        text=True,
    )
    assert second.returncode != 0
    assert "name" in second.stderr


def _roost() -> list[str]:
    return [sys.executable, "-m", "roost"]


@pytest.mark.parametrize("together", [True, False])
def test_server_and_agent_take_all_descriptors_they_may_have_and_jobs_as_many_as_before(
    farm: Any, together: bool
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, most = before
    resource.setrlimit(resource.RLIMIT_NOFILE, (most // 2, most))
    try:
        if together:
            up = farm.start_up()
            [agent] = [child.pid for child in psutil.Process(up.popen.pid).children()]
        else:
            farm.start_server()
            agent = farm.start_agent().popen.pid
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    job = farm.submit("ulimit -Sn")
    assert farm.wait(job) == "succeeded"
    assert farm.output(job) == f"{most // 2}\n"
    for process in (farm.server.popen.pid, agent):
        assert resource.prlimit(process, resource.RLIMIT_NOFILE)[0] == most


def test_server_and_agent_end_cleanly_on_sigterm_with_open_clients(
    farm: Any, signpost: Any
) -> None:
    farm.start_server()
    agent = farm.start_agent()
    job = farm.submit(f"echo started > {signpost.path}; exec cat {signpost.path}.never || true")
    signpost.line()
    farm.wait(job)
    running = farm.submit(f"echo $$ > {signpost.path}; exec sleep 1000")
    pid = int(signpost.line())
    keep_alive = socket.create_connection(("127.0.0.1", farm.port))
    events = socket.create_connection(("127.0.0.1", farm.port))
    events.sendall(f"GET /api/v1/jobs/events?ids={running} HTTP/1.1\r\nHost: farm\r\n\r\n".encode())
    assert events.recv(4096).startswith(b"HTTP/1.1 200")
    assert farm.server.stop() == 0
    assert agent.stop() == 0
    assert psutil.pid_exists(pid), "a running job goes on under its keeper"
    keep_alive.close()
    events.close()
    farm.start_server()
    farm.start_agent()
    with farm.rpc as rpc:
        rpc.cancelJobs([running])
    farm.wait(running, "cancelled")
    psutil.Process(pid).wait(60) if psutil.pid_exists(pid) else None


def test_a_full_disk_stops_the_server_taking_work_and_loses_nothing(
    farm: Any, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        farm.start_server(data=disk / "server")
        before = farm.submit("true", name="before")
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 65536)
        refused = 0
        acknowledged = [before]
        for _ in range(200):
            try:
                acknowledged.append(farm.submit("true", description="x" * 20_000))
            except Exception as fault:
                assert "full" in str(fault), fault
                refused += 1
                break
        assert refused
        ballast.unlink()
        _submit_until_taken(farm, acknowledged)
        farm.server.kill()
        farm.start_server(data=disk / "server")
        with farm.rpc as rpc:
            assert [job["id"] for job in rpc.getJobs(acknowledged, ["id"])] == acknowledged
            assert rpc.getUnfinishedRootJobIds() == acknowledged
    finally:
        farm.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _submit_until_taken(farm: Any, acknowledged: list[int]) -> None:
    """The server tries the disk again by itself; a caller sees refusals until then."""
    while True:
        try:
            acknowledged.append(farm.submit("true", name="after"))
            return
        except xmlrpc.client.Fault:
            continue
