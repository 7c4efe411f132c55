"""What a keeper makes of what an earlier one has left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from roost.agent import kin
from roost.agent.ledger import Ledger, Run, begun

PATIENCE_S = 30


def test_a_stray_is_not_taken_for_the_leader_that_has_ended(tmp_path: Path) -> None:
    command = "setsid sh -c 'echo up; exec sleep 1000' & sleep 1000 >/dev/null & wait"
    with subprocess.Popen(
        ["sh", "-c", command],
        env={**os.environ, kin.MARK: "1.1", kin.OWNER: "me"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        assert leader.stdout is not None and leader.stdout.readline() == b"up\n"
        leader.kill()
        leader.wait()
        run = Run("1.1/command", "1.1", str(tmp_path / "output"), "", kin.boot_id(), 1, True)
        ledger = Ledger(tmp_path / "ledger")
        ledger.note(begun(run))
        ledger.save([run])
        ledger.close()
        keeper = [sys.executable, "-m", "roost.agent.keeper", str(tmp_path), "me"]
        subprocess.run(keeper, timeout=PATIENCE_S, check=True)
    found = Ledger(tmp_path / "ledger")
    found.close()
    assert found.runs["1.1/command"].over
    assert found.runs["1.1/command"].status is None
