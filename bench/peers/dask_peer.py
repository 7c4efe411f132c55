"""Dask: its own scheduler and two workers, a process for each command."""

from __future__ import annotations

import time
from importlib.metadata import version

from arguments import COUNT, FOLDER, SHELL, WARM_UP, command, report
from distributed import Client, LocalCluster


def main() -> None:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=FOLDER
        ) as cluster,
        Client(cluster) as client,
    ):

        def run(tasks: int) -> float:
            outputs = [str(FOLDER / f"{number}") for number in range(tasks)]
            before = time.perf_counter()
            client.gather(client.map(command, [SHELL] * tasks, outputs, pure=False))
            return time.perf_counter() - before

        run(WARM_UP)
        report(COUNT / run(COUNT), f"Dask distributed {version('distributed')}, 2 workers")


if __name__ == "__main__":
    main()
