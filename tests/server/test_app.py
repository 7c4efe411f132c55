"""The server as a whole, from its start to its end."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from roost.server import app
from roost.server.removal import Removal
from roost.settings import ServerOptions, ServerReady


async def test_a_part_that_fails_is_in_the_log_and_the_server_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Removal) -> None:
        raise OSError("the disk has gone")

    monkeypatch.setattr(Removal, "run", fails)
    options = ServerOptions(data=tmp_path, port=0)

    def on_ready(_: ServerReady) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with capture_logs() as logs:
        assert await app.run_server(options, on_ready) == 0
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "a part of the server has ended"
    ]


async def test_a_server_that_is_stopped_has_nothing_to_complain_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ServerOptions(data=tmp_path, port=0)
    with capture_logs() as logs:
        assert await app.run_server(options, lambda _: os.kill(os.getpid(), signal.SIGTERM)) == 0
    gc.collect()  # what nobody asked for its failure says so when it goes
    assert [line for line in logs if line["log_level"] in ("warning", "error")] == []
    assert caplog.records == []
