"""A farm moves to another server, with its ids, and what ran is run there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Farm, Signpost

pytestmark = pytest.mark.slow


def roost(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "roost", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def all_that_callers_see(farm: Farm) -> list[Any]:
    with farm.rpc as rpc:
        ids = [*rpc.getFinishedRootJobIds(), *rpc.getUnfinishedRootJobIds()]
        return [
            rpc.getJobs(ids), [rpc.getJobOutput(job) for job in ids], rpc.getClientGroups(),
            rpc.getResources(), [(c["id"], c["label"]) for c in rpc.getClients()],
        ]  # fmt: skip


def test_a_farm_is_the_same_at_another_place(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    farm.start_agent("a")
    done = [farm.submit(f"echo out {n}", attributes={"N": n}) for n in range(3)]
    for job in done:
        farm.wait(job)
    farm.submit("true", host="nowhere")
    with farm.rpc as rpc:
        rpc.createClientGroup("fast")
        rpc.addNote("remember")
    farm.agents["a"].stop()
    file = tmp_path / "farm.tar.gz"
    ran = roost("export", str(file), "--data", str(farm.folder / "server"))
    assert (ran.returncode, ran.stdout) == (0, "") and "4 jobs" in ran.stderr
    seen = all_that_callers_see(farm)
    assert farm.server is not None
    farm.server.stop()
    new = tmp_path / "new"
    ran = roost("import", str(file), "--data", str(new))
    assert ran.returncode == 0, ran.stderr
    farm.start_server(data=new)
    assert all_that_callers_see(farm) == seen
    farm.start_agent("a")
    later = farm.submit("echo later")
    assert later == max(done) + 2 and farm.wait(later) == "succeeded"


def test_an_export_fits_together_while_jobs_run(
    farm: Farm, tmp_path: Path, signpost: Signpost
) -> None:
    farm.start_server("--active-timeout", "1", "--requeue-after", "1")
    farm.start_agent("a", cpus=8)
    running = farm.submit(f"echo running > {signpost.path}; sleep 1000")
    assert signpost.line() == "running"
    over = threading.Event()

    def keep_submitting() -> None:
        while not over.is_set():
            farm.submit("true")

    busy = threading.Thread(target=keep_submitting)
    busy.start()
    try:
        for number in range(3):
            file = tmp_path / f"farm-{number}.tar.gz"
            assert roost("export", str(file), "--data", str(farm.folder / "server")).returncode == 0
    finally:
        over.set()
        busy.join()
    farm.agents["a"].kill()
    assert farm.server is not None
    farm.server.stop()
    new = tmp_path / "new"
    assert roost("import", str(file), "--data", str(new)).returncode == 0
    farm.start_server("--active-timeout", "1", "--requeue-after", "1", data=new)
    farm.start_agent("b", cpus=8)
    # Its machine does not come back, so it runs elsewhere.
    assert signpost.line() == "running"
    assert farm.status(running) == "running"


def test_a_folder_where_a_server_works_is_not_imported_into(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    file = tmp_path / "farm.tar.gz"
    data = str(farm.folder / "server")
    assert roost("export", str(file), "--data", data).returncode == 0
    ran = roost("import", str(file), "--data", data, "--replace")
    assert ran.returncode == 3 and "Another server" in ran.stderr
    ran = roost("export", str(file), "--data", data)
    assert ran.returncode == 2 and "--force" in ran.stderr
