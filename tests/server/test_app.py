"""The server as a whole, from its start to its end."""

from __future__ import annotations

import asyncio
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


async def test_a_stop_leaves_nothing_to_complain_of(tmp_path: Path) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))

    def on_ready(_: ServerReady) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert await app.run_server(ServerOptions(data=tmp_path, port=0), on_ready) == 0
    gc.collect()
    assert not complaints
