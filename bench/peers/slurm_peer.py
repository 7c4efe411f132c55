"""Slurm: a controller and a daemon of our own for one node of two CPUs, an array job.

As it is by default, without accounting and cgroups; other schedulers and intervals made it no
quicker. Needs to be started as root, as its daemon does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import ExitStack

from arguments import COUNT, FOLDER, SHELL, WARM_UP, report

SETTINGS = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MaxArraySize=100001
MaxJobCount=100000
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def main() -> None:
    with ExitStack() as stack:
        _start(stack)

        def run(tasks: int) -> float:
            array = ["--array", f"0-{tasks - 1}", "--output", str(FOLDER / "%a")]
            before = time.perf_counter()
            wrapped = f"--wrap={SHELL} -c true"
            subprocess.run(["sbatch", "--quiet", *array, wrapped], check=True, cwd=FOLDER)
            # `sbatch --wait` looks every half a minute.
            while subprocess.check_output(["squeue", "--noheader"]):
                time.sleep(0.1)
            return time.perf_counter() - before

        run(min(WARM_UP, 10))
        version = subprocess.check_output(["sbatch", "--version"], text=True).strip().title()
        report(COUNT / run(COUNT), f"{version}, an array job on one node with 2 CPUs")


def _start(stack: ExitStack) -> None:
    for name in ("state", "spool"):
        (FOLDER / name).mkdir()
    key = FOLDER / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    settings = FOLDER / "slurm.conf"
    settings.write_text(
        SETTINGS.format(host=host, controller=_port(), daemon=_port(), folder=FOLDER)
    )
    os.environ["SLURM_CONF"] = str(settings)
    folders = [f"--{kind}-file={FOLDER}/munged.{kind}" for kind in ("log", "pid", "seed")]
    munged = ["munged", "--foreground", "--force", f"--socket={FOLDER}/munge.sock"]
    _daemon(stack, [*munged, f"--key-file={key}", *folders])
    while not (FOLDER / "munge.sock").exists():
        time.sleep(0.05)
    _daemon(stack, ["slurmctld", "-D"])
    _daemon(stack, ["slurmd", "-D", "-N", host])
    deadline = time.monotonic() + 30
    while (
        "idle"
        not in subprocess.run(
            ["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False
        ).stdout
    ):
        if time.monotonic() > deadline:
            raise RuntimeError("the node of Slurm does not become idle")
        time.sleep(0.1)


def _daemon(stack: ExitStack, command: list[str]) -> None:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
