"""We may have as many files open as the system allows, and who is started from here the usual."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, subprocess, sys
from roost import openfiles
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
for _ in range(2):
    openfiles.raise_limit()
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
openfiles.give_back(child.pid)
for pid in (0, child.pid):
    print(resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard if not pid else hard // 2, hard))
child.communicate(b"\\n")
openfiles.give_back()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard // 2, hard))
"""


def test_the_limit_is_raised_for_us_and_given_back_to_whom_we_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["True", "True", "True"]
