"""What the machine itself can do: the physical limits that the farm is compared with.

Each is the least that any program would have to do for the same result: spawn and wait in C, one
bare start of a shell, parsing the same body. None of it uses Roost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import xmlrpc.client
from pathlib import Path

SOURCE = Path(__file__).with_name("spawn_loop.c")


class SpawnLoop:
    """`spawn_loop.c`, compiled for this run."""

    def __init__(self, folder: Path) -> None:
        """Raises `LookupError` when there is no C compiler."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise LookupError("there is no C compiler, so no limit to compare with")
        self._program = folder / "spawn_loop"
        self._folder = folder
        subprocess.run([compiler, "-O2", "-o", self._program, SOURCE], check=True)

    def rate(self, count: int, at_once: int, shell: str, command: str) -> float:
        """Commands per second."""
        with tempfile.TemporaryDirectory(dir=self._folder) as outputs:
            arguments = [outputs, str(count), str(at_once), shell, command]
            done = subprocess.run(
                [self._program, *arguments], stdout=subprocess.PIPE, text=True, check=True
            )
        return count / float(done.stdout)


def bare_start(shell: str, command: str, output: Path) -> float:
    """Seconds from now until the command, which prints the time, has printed it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    before = time.time()
    pid = os.posix_spawn(
        shell,
        [shell, "-c", command],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o600)],
    )
    os.waitpid(pid, 0)
    return float(output.read_text()) - before


def parse(body: bytes) -> float:
    """Seconds that the standard library needs to read an XML-RPC call."""
    before = time.perf_counter()
    xmlrpc.client.loads(body)
    return time.perf_counter() - before
