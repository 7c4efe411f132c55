"""Roost beside others that run commands, in turns, with what each of them prints in files.

The peers live in an environment of their own, `.bench-peers`, which `make bench-peers` fills from
PyPI; Celery and Huey need Debian's `redis-server`, Slurm its `slurmctld`, `slurmd`, `slurm-client`
and `munge`. Those that are not there are left out. Roost alone keeps a durable record of each job.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from farms import farm
from report import Row

HERE = Path(__file__).parent
PYTHON = HERE.parent / ".bench-peers" / "bin" / "python"
SHELLS = ("sh", "bash")
ANSWER_S_MAX = 300


class Peer(NamedTuple):
    name: str
    slowness: int
    """It gets so many times fewer commands, to be done in time."""
    programs: tuple[str, ...] = ()
    """What must be installed beside its Python package."""


PEERS = (
    Peer("hyperqueue", 2),
    Peer("dask", 5),
    Peer("huey", 2, ("redis-server",)),
    Peer("celery", 5, ("redis-server",)),
    Peer("slurm", 250, ("slurmctld", "slurmd", "sbatch", "munged")),
)


def against_peers(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """Jobs per second, few where the peer is slow; a ratio above 1 says that Roost is faster."""
    rows = []
    for peer in PEERS:
        missing = [program for program in peer.programs if shutil.which(program) is None]
        if not PYTHON.exists() or missing:
            what = f"there is no {missing[0]}" if missing else "`make bench-peers` was not run"
            print(f"Roost is not measured beside {peer.name}: {what}.", file=sys.stderr)
            continue
        for shell in SHELLS:
            rows += _beside(folder, peer, shell, max(20, sizes.jobs // peer.slowness), repetitions)
    return rows


def _beside(folder: Path, peer: Peer, shell: str, count: int, repetitions: int) -> list[Row]:
    ours: list[float] = []
    theirs: list[float] = []
    how = ""
    job = {"command": "true", **({} if shell == "sh" else {"shell": shell})}
    with farm(folder) as up:
        up.run(job, 50)
        own_count = max(count, 1_000)
        for _ in range(repetitions):
            ours.append(own_count / up.run(job, own_count, look_s=0.02))
            rate, how = _peer_rate(folder, peer, shell, count)
            theirs.append(rate)
    return [Row("q", f"jobs of `{shell} -c true`, beside {how}", "jobs/s", ours, theirs)]


def _peer_rate(folder: Path, peer: Peer, shell: str, count: int) -> tuple[float, str]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        program = HERE / "peers" / f"{peer.name}_peer.py"
        done = subprocess.run(
            [PYTHON, program, str(count), shutil.which(shell) or shell, place],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
            timeout=ANSWER_S_MAX,
        )
    rate, how = done.stdout.strip().splitlines()[-1].split("\t")
    return float(rate), how
