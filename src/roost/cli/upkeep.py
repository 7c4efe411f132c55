"""What `roost up` does while it is up: a server in this process, an agent in a child process.

Two processes, because either must be able to end without the other. The child holds the read end
of a pipe from us and ends when the pipe does, so not even `kill -9` leaves it behind. It has a
session of its own: a Ctrl-C at the terminal is for us, and we tell it in our own way. Jobs belong
to neither; they go on under their keeper and are found again at the next start.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from roost import memory, openfiles
from roost.agent import keeper
from roost.settings import ServerReady, Settings, Values

AGENT_REST_S = 0.5
"""Between the end of an agent and the start of the next."""
AGENT_STOP_S_MAX = 1.5
KEEPER_END_S_MAX = 0.3
"""How long a keeper that has nothing left to keep may take to be gone."""


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run on the fastest loop there is, with memory and descriptors at hand; returns the exit
    code."""
    memory.keep_freed()
    openfiles.raise_limit()
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        from uvloop import new_event_loop

        factory = new_event_loop
    except ImportError:
        pass  # asyncio's own loop then
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def say(announce: bool, line: dict[str, object], text: str) -> None:
    """Tell that something is ready: one JSON line for programs, or sentences for people."""
    click.echo(json.dumps(line) if announce else text)
    sys.stdout.flush()


async def up(found: Settings, *, announce: bool, exit_with_stdin: bool) -> int:
    """Run both until told to stop; returns the exit code."""
    from roost.server.app import run_server

    ready: asyncio.Future[ServerReady] = asyncio.get_running_loop().create_future()
    server_options = found.server_options(exit_with_stdin=exit_with_stdin)
    server = asyncio.ensure_future(run_server(server_options, ready.set_result))
    either: set[asyncio.Future[Any]] = {server, ready}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        return await server
    agent = LocalAgent(found, ready.result(), announce)
    tending = asyncio.ensure_future(agent.tend())
    try:
        await asyncio.wait({server, tending}, return_when=asyncio.FIRST_COMPLETED)
        if not server.done():
            # The agent gave up. The server is asked to end the way anybody else would ask it.
            signal.raise_signal(signal.SIGTERM)
        code = await server
    finally:
        agent.stop()
        await asyncio.wait({tending})
    if await keeper_stays(found.agent_data):
        click.echo("Stopped. Running jobs go on; the next roost up finds them again.", err=True)
    return code or tending.result()


async def keeper_stays(folder: Path) -> bool:
    """Whether jobs go on: their keeper holds its lock as long as one lives, and ends with it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + KEEPER_END_S_MAX
    try:
        with (folder / keeper.LOCK).open() as lock:
            while loop.time() < deadline:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(0.02)
                else:
                    return False
    except OSError:
        return False
    return True


class LocalAgent:
    """The agent of `roost up`: started, announced, started again when it dies, and stopped."""

    def __init__(self, found: Settings, server: ServerReady, announce: bool) -> None:
        self.server = server
        self.announce = announce
        self.command = _agent_command(found, server.url)
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False

    async def tend(self) -> int:
        """Keep it running until `stop`.

        Returns its exit code when it ends before it was ready: whatever the reason is, starting it
        again does not remove it.
        """
        announced = False
        while True:
            # Starting does not wait for anything; the two waits below happen in threads.
            self.process = subprocess.Popen(  # noqa: ASYNC220
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            # It is still loading Python, and starts nothing that would inherit ours.
            openfiles.give_back(self.process.pid)
            assert self.process.stdin and self.process.stdout
            with self.process.stdin, self.process.stdout:
                line = await asyncio.to_thread(self.process.stdout.readline)
                if line and not announced:
                    announced = True
                    self._say(json.loads(line))
                code = await asyncio.to_thread(self.process.wait)
            if self.stopping:
                return 0
            click.echo(f"roost: the agent ended by itself with exit code {code}.", err=True)
            if not line:
                return code or 1
            await asyncio.sleep(AGENT_REST_S)
            if self.stopping:
                return 0
            click.echo("roost: starting it again; its jobs went on meanwhile.", err=True)

    def stop(self) -> None:
        """Ask it to end, and soon make sure."""
        self.stopping = True
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        # Harmless when it has ended by then: Popen remembers that and sends nothing.
        asyncio.get_running_loop().call_later(AGENT_STOP_S_MAX, process.kill)

    def _say(self, agent: dict[str, Any]) -> None:
        url = self.server.url
        line = {"url": url, "agent_url": agent["agent_url"], "pid": os.getpid()}
        at = "" if url == Values().server else f" --server {url}"
        say(
            self.announce,
            line,
            f"Roost is up at {url}\n"
            f"  submit a job:  roost submit --wait{at} -- echo hello\n"
            f'  from Python:   xmlrpc.client.ServerProxy("{url}").newjob({{"name": "hello", '
            '"command": "echo hello"})\n'
            "  stop:          Ctrl-C; running jobs go on and are found again at the next start",
        )


def _agent_command(found: Settings, server_url: str) -> list[str]:
    """The command line of the agent beside this server; it reads the other settings itself."""
    values = found.values
    command = [sys.executable, "-m", "roost"]
    if found.file.exists():
        command += ["--config", str(found.file.absolute())]
    for ini in found.inis:
        command += ["--ini", str(ini.absolute())]
    command += ["agent", "--server", server_url, "--announce", "--exit-with-stdin"]
    command += ["--host", values.agent_host, "--log-level", values.log_level]
    command += ["--data", str(found.agent_data.absolute())]
    if values.agent_port is not None:
        command += ["--port", str(values.agent_port)]
    if values.allow_root:
        command += ["--allow-root"]
    if values.cpus is not None:
        command += ["--cpus", str(values.cpus)]
    return command
