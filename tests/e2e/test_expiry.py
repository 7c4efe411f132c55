"""Old jobs leave a running farm by themselves, with their output."""

from __future__ import annotations

import pytest
from tests.e2e.conftest import Farm

pytestmark = pytest.mark.slow


def test_jobs_expire_with_their_output_and_younger_ones_stay(farm: Farm) -> None:
    farm.start_server()
    farm.start_agent()
    jobs = [farm.submit("echo out") for _ in range(3)]
    for job in jobs:
        farm.wait(job)
    assert farm.server is not None
    farm.server.stop()
    # A millionth of a day is less than a tenth of a second: what has ended is due at once.
    farm.start_server("--expire-jobs-days", "0.000001")
    young = farm.submit("true", name="young", host="nowhere")
    for job in jobs:
        farm.wait_until_gone(job)
    assert farm.status(young) == "runnable"
    farm.server.stop()
    farm.start_server()
    outputs = list((farm.folder / "server" / "output").rglob("*.log"))
    assert farm.server.stop() == 0 and not outputs
