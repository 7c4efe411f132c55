"""What each peer is run with, and how it answers.

    python bench/peers/NAME_peer.py COUNT SHELL FOLDER

Each runs `SHELL -c true` COUNT times with two at a time, what it prints in a file of its own
beneath FOLDER, after a few to warm up. The last line it prints is the rate and how it was run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WARM_UP = 50
COUNT, SHELL, FOLDER = 0, "", Path()
"""Of no use in the workers of a peer, which load this as well."""
if Path(sys.argv[0]).stem.endswith("_peer"):
    COUNT, SHELL, FOLDER = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])


def command(shell: str, output: str) -> int:
    """What a task of those does that have no processes of their own."""
    with Path(output).open("wb") as file:
        return subprocess.run([shell, "-c", "true"], stdout=file, check=True).returncode


def report(rate: float, how: str) -> None:
    print(f"\n{rate}\t{how}", flush=True)
