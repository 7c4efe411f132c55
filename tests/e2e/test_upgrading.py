"""Nodes take the server's own Roost, and what is not that changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xmlrpc.client
from pathlib import Path

import pytest
from tests.e2e.conftest import Farm, Signpost

import roost
from roost import package

pytestmark = pytest.mark.slow
ALLOWED = {"ROOST_UPGRADES": "true", "ROOST_UPGRADE_PRIORITY": "7"}


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another Roost, which agents are started as; its version."""
    copy = tmp_path / "older"
    shutil.copytree(
        Path(roost.__file__ or "").parent,
        copy / "roost",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    with (copy / "roost" / "telemetry.py").open("a") as file:
        file.write("# one line more\n")
    monkeypatch.setenv("ROOST_OLDER", str(copy))
    return package.version_of(copy / "roost")


def start_older_agent(farm: Farm, monkeypatch: pytest.MonkeyPatch, name: str = "") -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ["ROOST_OLDER"])
        farm.start_agent(name)


def version_of(farm: Farm, name: str = "") -> tuple[str, bool]:
    node = farm.node(name)
    return node["version"], node["needsUpgrade"]


def upgrade(farm: Farm, *ids: int) -> int:
    """The id of the job that upgrades, the newest of all."""
    with farm.rpc as rpc:
        assert rpc.upgradeClients(list(ids)) is None
        return max(rpc.getUnfinishedRootJobIds())


def test_a_node_ends_what_it_runs_takes_the_server_s_package_and_comes_back(
    farm: Farm, older: str, signpost: Signpost, gate: Signpost, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.start_server(environment=ALLOWED)
    start_older_agent(farm, monkeypatch)
    assert version_of(farm) == (older, True)
    busy = farm.submit(f"echo running > {signpost.path}; read line < {gate.path}; echo done")
    assert signpost.line() == "running"
    job = upgrade(farm, farm.node("")["id"], 4711)
    assert upgrade(farm, farm.node("")["id"]) == job  # one at a time
    assert farm.job(job, "name", "priority", "submittedBy") == {
        "name": f"Upgrade {farm.node('')['hostname']}", "priority": 7, "submittedBy": "roost",
    }  # fmt: skip
    later = farm.submit("echo later")
    assert farm.status(job) == "runnable" and version_of(farm) == (older, True)
    gate.path.write_text("\n")
    assert farm.wait(busy) == "succeeded" and farm.output(busy) == "done\n"
    assert farm.wait(job) == "succeeded", farm.final_output(job)
    assert farm.wait(later) == "succeeded"
    assert version_of(farm) == (package.version(), False)
    # An agent that is started as the old one again takes the same step by itself.
    farm.agents[""].stop()
    start_older_agent(farm, monkeypatch)
    assert version_of(farm) == (package.version(), False)


def test_a_package_that_does_not_run_there_leaves_the_node_as_it_is(
    farm: Farm, older: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(Path(roost.__file__ or "").parent, broken / "roost")
    with (broken / "roost" / "agent" / "daemon.py").open("a") as file:
        file.write("import a_library_that_is_not_here\n")
    farm.start_server(environment={**ALLOWED, "PYTHONPATH": str(broken)})
    start_older_agent(farm, monkeypatch)
    job = upgrade(farm, farm.node("")["id"])
    assert farm.wait(job) == "failed"
    assert "No module named 'a_library_that_is_not_here'" in farm.final_output(job)
    assert version_of(farm) == (older, True)
    assert farm.wait(farm.submit("true")) == "succeeded"


def test_upgrades_are_off_until_the_administrator_wants_them(
    farm: Farm, older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.start_server()
    start_older_agent(farm, monkeypatch)
    with farm.rpc as rpc:
        with pytest.raises(xmlrpc.client.Fault, match="upgrades = true"):
            rpc.upgradeClients([farm.node("")["id"]])
        assert rpc.getUnfinishedRootJobIds() == []


def test_the_command_line_upgrades_what_is_out_of_date(
    farm: Farm, older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.start_server(environment=ALLOWED)
    start_older_agent(farm, monkeypatch, "one")
    farm.start_agent("two")
    command = [sys.executable, "-m", "roost", "nodes", "upgrade", "--all", "--wait"]
    ran = subprocess.run(
        [*command, "--server", farm.url], capture_output=True, text=True, check=False
    )
    assert (len(ran.stdout.split()), ran.returncode) == (1, 0), ran.stderr
    assert version_of(farm, "one") == (package.version(), False)
    ran = subprocess.run(
        [*command, "--server", farm.url], capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("", "All are up to date.\n")
