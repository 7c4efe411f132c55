"""HyperQueue: its own server and one worker with two cores, a task for each command."""

from __future__ import annotations

import time
from importlib.metadata import version

from arguments import COUNT, FOLDER, SHELL, WARM_UP, report
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main() -> None:
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client = cluster.client()

        def run(tasks: int) -> float:
            job = Job()
            for number in range(tasks):
                job.program([SHELL, "-c", "true"], stdout=FOLDER / f"{number}", stderr=None)
            before = time.perf_counter()
            client.wait_for_jobs([client.submit(job)])
            return time.perf_counter() - before

        run(WARM_UP)
        report(COUNT / run(COUNT), f"HyperQueue {version('hyperqueue')}, one worker with 2 cores")


if __name__ == "__main__":
    main()
