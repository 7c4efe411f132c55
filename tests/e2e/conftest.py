"""Real farms for tests: a server and agents as processes of their own, on free ports.

Nothing here sleeps: waiting is for a line a process announces, for an event of the farm, or for
the end of a process. Every process a test starts is gone when the test is over, keepers and jobs
included.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from roost.errors import NotFound
from roost.remote import Remote

PATIENCE_S = 60
"""How long a test waits for what must happen; never a measure of speed."""
QUIET = {"ROOST_LOG": "json", "ROOST_LOG_LEVEL": "warning"}


class Process:
    """One `roost` process that announces where it can be reached."""

    def __init__(self, *arguments: str, log: Path, environment: dict[str, str] | None = None):
        self.log = log
        with log.open("ab") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "roost", *arguments, "--announce"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **QUIET, **(environment or {})},
            )
        self.announced: dict[str, Any] = json.loads(self._line() or "{}")

    def _line(self) -> bytes:
        assert self.popen.stdout is not None
        ready, _, _ = select.select([self.popen.stdout], [], [], PATIENCE_S)
        assert ready, f"nothing announced: {self.log.read_text()}"
        return self.popen.stdout.readline()

    @property
    def url(self) -> str:
        return str(self.announced["url"])

    def kill(self) -> None:
        """As `kill -9`: no goodbye."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """As a service manager does; returns the exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(PATIENCE_S)

    def close(self) -> None:
        if self.popen.poll() is None:
            self.kill()
        if self.popen.stdout is not None:
            self.popen.stdout.close()


class Farm:
    """A server and any number of agents in one temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.server: Process | None = None
        self.agents: dict[str, Process] = {}
        self._all: list[Process] = []

    # --- processes ------------------------------------------------------------------------

    def start_server(
        self, *options: str, data: Path | None = None, environment: dict[str, str] | None = None
    ) -> Process:
        """On the same port as before, so that agents and callers find it again."""
        self.server = self._start(
            "server",
            "--port",
            str(self.port),
            "--data",
            str(data or self.folder / "server"),
            *options,
            environment=environment,
        )
        self.port = int(self.server.url.rpartition(":")[2])
        return self.server

    def start_agent(self, name: str = "", *options: str, cpus: int = 2, url: str = "") -> Process:
        agent = self._start(
            "agent",
            "--server",
            url or self.url,
            "--name",
            name,
            "--port",
            "0",
            "--data",
            str(self.agent_folder(name)),
            "--cpus",
            str(cpus),
            *options,
        )
        self.agents[name] = agent
        return agent

    def start_up(self, *options: str) -> Process:
        """Server and agent in one."""
        up = self._start(
            "up", "--port", "0", "--agent-port", "0", "--data", str(self.folder / "up"), *options
        )
        self.server = up
        self.port = int(up.url.rpartition(":")[2])
        return up

    def _start(self, *arguments: str, environment: dict[str, str] | None = None) -> Process:
        process = Process(*arguments, log=self.folder / "log", environment=environment)
        self._all.append(process)
        return process

    def agent_folder(self, name: str) -> Path:
        return self.folder / f"agent-{name}"

    # --- asking ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        assert self.server is not None
        return self.server.url

    @property
    def rpc(self) -> Any:
        return xmlrpc.client.ServerProxy(self.url, allow_none=True)

    def client(self, name: str = "") -> Any:
        """The methods of an agent itself."""
        return xmlrpc.client.ServerProxy(self.agents[name].announced["agent_url"], allow_none=True)

    def submit(self, command: str = "true", **spec: Any) -> int:
        """Submit one job; returns its id."""
        with self.rpc as rpc:
            return int(rpc.newjob({"name": "job", "command": command, **spec})[0])

    def job(self, job: int, *attributes: str) -> dict[str, Any]:
        with self.rpc as rpc:
            return dict(rpc.getJob(job, list(attributes) or None))

    def status(self, job: int) -> str:
        return str(self.job(job, "status")["status"])

    def output(self, job: int) -> str:
        with self.rpc as rpc:
            return str(rpc.getJobOutput(job))

    def final_output(self, job: int) -> str:
        """All of it, once nothing more can come."""
        with Remote(self.url) as remote:
            return b"".join(remote.follow_output(job)).decode()

    def story(self, job: int) -> list[str]:
        return [entry["status"] for entry in self.job(job, "logs")["logs"]]

    def wait(self, job: int, *statuses: str) -> str:
        """Until the job has one of the statuses; told by the server, not by polling."""
        wanted = statuses or ("succeeded", "failed", "cancelled")

        def reached() -> bool:
            return self.status(job) in wanted

        self.wait_until(job, reached)
        return self.status(job)

    def wait_until(self, job: int, reached: Callable[[], bool]) -> None:
        """Look again each time the server says that the job changed."""
        with Remote(self.url) as remote:
            for _ in remote.follow([job]):
                if reached():
                    return
        assert reached(), f"job {job} is {self.status(job)}: {self.job(job)}"

    def wait_until_gone(self, job: int) -> None:
        """Until there is no such job any more."""

        def gone() -> bool:
            with self.rpc as rpc:
                return rpc.getJobs([job], ["id"]) == []

        with Remote(self.url) as remote:
            try:
                for _ in remote.follow([job]):
                    if gone():
                        return
            except NotFound:
                return
        assert gone()

    def wait_for_exit(self, pidfd: int) -> None:
        """Until the process behind a descriptor of `os.pidfd_open` is gone."""
        ready, _, _ = select.select([pidfd], [], [], PATIENCE_S)
        assert ready, "a process that should be gone lives on"
        os.close(pidfd)

    def node(self, name: str) -> dict[str, Any]:
        with self.rpc as rpc:
            return next(client for client in rpc.getClients() if client["name"] == name)

    # --- the end --------------------------------------------------------------------------

    def close(self) -> None:
        for process in reversed(self._all):
            process.close()
        for process in psutil.process_iter():
            try:
                if str(self.folder) in " ".join(process.cmdline()) or str(
                    self.folder
                ) in process.environ().get("ROOST_TEST_FOLDER", ""):
                    process.kill()
            except psutil.Error:
                continue


@contextlib.contextmanager
def _new_farm() -> Iterator[Farm]:
    with tempfile.TemporaryDirectory(prefix="roost-") as folder:
        farm = Farm(Path(folder))
        try:
            # Jobs inherit this, so that what a failed test leaves behind can be found.
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ROOST_TEST_FOLDER", folder)
                yield farm
        finally:
            farm.close()


@pytest.fixture
def farm() -> Iterator[Farm]:
    with _new_farm() as farm:
        yield farm


@pytest.fixture(scope="session")
def new_farm() -> Callable[[], contextlib.AbstractContextManager[Farm]]:
    """For farms that several tests share: `with new_farm() as farm`."""
    return _new_farm


class Signpost:
    """A named pipe: jobs write lines to it, the test reads them as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""

    def line(self) -> str:
        """The next line; fails when none comes."""
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._descriptor], [], [], PATIENCE_S)
            assert ready, "no job wrote to the signpost"
            self._rest += os.read(self._descriptor, 65536)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def is_silent(self) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], 0)
        return not ready and not self._rest

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def signpost(tmp_path: Path) -> Iterator[Signpost]:
    post = Signpost(tmp_path / "signpost")
    yield post
    post.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Signpost]:
    """A pipe the other way: a job that reads from it waits until the test opens it."""
    post = Signpost(tmp_path / "gate")
    yield post
    post.close()


@pytest.fixture(scope="module")
def farm_with_one() -> Iterator[Farm]:
    """A server without agents and with one job, for tests that must not change it."""
    with _new_farm() as farm:
        farm.start_server()
        farm.submit(name="one")
        yield farm
