"""Huey on Redis: two worker processes, a process of its own for each command."""

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
        from huey_tasks import run as task

        consumer = Path(sys.executable).with_name("huey_consumer")
        worker = subprocess.Popen(
            [consumer, "huey_tasks.huey", "-w", "2", "-k", "process", "-n", "-q"],
            cwd=Path(__file__).parent,
            stdout=subprocess.DEVNULL,
        )
        try:

            def run(tasks: int) -> float:
                before = time.perf_counter()
                results = [task(SHELL, str(FOLDER / f"{n}")) for n in range(tasks)]
                for result in results:
                    result.get(blocking=True, max_delay=0.05)
                return time.perf_counter() - before

            run(WARM_UP)
            report(COUNT / run(COUNT), f"Huey {version('huey')} on Redis, 2 processes")
        finally:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    main()
