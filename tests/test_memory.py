"""Memory that a program frees stays at hand: it is not fetched from the system again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from roost import memory
{call}
piece = bytearray(1024 * 1024)
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def turn():
    held = [bytes(piece) for _ in range(8)]
for _ in range(3):
    turn()
before = pages()
for _ in range(20):
    turn()
print(pages() - before)
"""


def pages_fetched(call: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_pieces_that_are_freed_are_used_again() -> None:
    assert pages_fetched("memory.keep_freed()") < pages_fetched("pass") / 10
