"""A farm that has nothing but the files of HQueue."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.e2e.conftest import Farm

pytestmark = pytest.mark.slow


def test_a_farm_starts_from_hqueue_s_files_alone(farm: Farm, tmp_path: Path) -> None:
    server, node = tmp_path / "hqserver.ini", tmp_path / "hqnode.ini"
    server.write_text(
        "[main]\nport = 0\nactive_timeout = 3\njob_logs_dir = %(here)s/logs\n"
        "hqserver.sharedNetwork.mount.linux = %(here)s/hq\nsqlalchemy.default.url = mysql://u:p@h/d\n"
    )
    started = farm._start("--ini", str(server), "server", "--data", str(farm.folder / "server"))
    farm.server = started
    port = started.url.rpartition(":")[2]
    node.write_text(
        f"[main]\nserver = 127.0.0.1\nport = {port}\nname = second\ncpus = 3\n"
        "[job_environment]\nOCIO = /mnt/hq/config.ocio\n"
    )
    farm.agents["second"] = farm._start(
        "--ini", str(node), "agent", "--port", "0", "--data", str(farm.agent_folder("second"))
    )
    assert farm.node("second")["cpus"] == 3
    job = farm.submit("echo $OCIO $HQROOT")
    assert farm.wait(job) == "succeeded"
    assert farm.output(job) == f"/mnt/hq/config.ocio {tmp_path}/hq\n"
    with farm.rpc as rpc:
        assert rpc.getConfig("active_timeout") == "3"
        assert rpc.getConfig("job_logs_dir") == f"{tmp_path}/logs"
        assert rpc.getHQRoot("linux") == f"{tmp_path}/hq"
        assert rpc.getConfig("sqlalchemy.default.url") is None


def test_an_agent_of_root_s_refuses_to_run_jobs_unless_told(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid():
        pytest.skip("needs to be root")
    monkeypatch.delenv("ROOST_ALLOW_ROOT")
    farm.start_server()
    assert not farm.start_agent().announced
    assert "--allow-root" in (farm.folder / "log").read_text()
    farm.start_agent("", "--allow-root")
    assert farm.wait(farm.submit("true")) == "succeeded"
