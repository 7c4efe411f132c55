"""Celery on Redis: two worker processes, a process of its own for each command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from arguments import COUNT, FOLDER, SHELL, WARM_UP, report
from redis_server import redis


def main() -> None:
    with redis(FOLDER) as socket:
        os.environ["BENCH_REDIS"] = socket
        from celery import group
        from celery_tasks import run as task

        worker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "celery_tasks",
                "worker",
                "-c",
                "2",
                "-l",
                "error",
            ],
            cwd=Path(__file__).parent,
            stdout=subprocess.DEVNULL,
        )
        try:

            def run(tasks: int) -> float:
                before = time.perf_counter()
                signatures = (task.s(SHELL, str(FOLDER / f"{n}")) for n in range(tasks))
                group(signatures).apply_async().get()
                return time.perf_counter() - before

            run(WARM_UP)
            how = f"Celery {version('celery')} on Redis, 2 processes, prefetching 64"
            report(COUNT / run(COUNT), how)
        finally:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    main()
