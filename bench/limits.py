"""What the machine itself can do: the physical limits that the farm is compared with.

Each is the least that any program would have to do for the same result: spawn and wait in C, lines
passed on in C, one bare start of a shell, parsing the same body. None of it uses Roost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path


def compiled(name: str, folder: Path) -> Path:
    """The program made of `name.c` for this run. Raises `LookupError` without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LookupError("there is no C compiler, so no limit to compare with")
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-O2", "-o", folder / name, source], check=True)
    return folder / name


class SpawnLoop:
    """`spawn_loop.c`."""

    def __init__(self, folder: Path) -> None:
        """Raises `LookupError` when there is no C compiler."""
        self._program = compiled("spawn_loop", folder)
        self._folder = folder

    def rate(self, count: int, at_once: int, shell: str, command: str) -> float:
        """Commands per second."""
        with tempfile.TemporaryDirectory(dir=self._folder) as outputs:
            arguments = [outputs, str(count), str(at_once), shell, command]
            done = subprocess.run(
                [self._program, *arguments], stdout=subprocess.PIPE, text=True, check=True
            )
        return count / float(done.stdout)


@contextlib.contextmanager
def chirp_floor(folder: Path) -> Iterator[dict[str, Path]]:
    """`chirp_floor.c` while it runs: the contact file of a server in C that answers `alone`, and of
    one that has each request `relayed` to another process. Raises `LookupError` as above."""
    program = compiled("chirp_floor", folder)
    contacts = {kind: folder / f"{kind}.contact" for kind in ("alone", "relayed")}
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        for contact, port in zip(contacts.values(), process.stdout.readline().split(), strict=True):
            contact.write_text(f"127.0.0.1 {int(port)} {'x' * 31}\n")
        try:
            yield contacts
        finally:
            process.stdin.close()


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
