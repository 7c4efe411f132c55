"""The same farm in memory as the tests of the HQueue API use, also on a real socket."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from roost.api import routes as api
from roost.remote import Remote

_FILE = Path(__file__).parents[1] / "hqueue" / "conftest.py"
_spec = importlib.util.spec_from_file_location("fake_gateway_of_hqueue", _FILE)
assert _spec and _spec.loader
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

farm = _module.farm


class Served:
    """The API on a real socket, in a loop of its own."""

    def __init__(self, farm: Any) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        app = Starlette(routes=api.routes(farm))
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        self.loop = asyncio.new_event_loop()
        # The socket queues connections from the start, so there is nothing to wait for.
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.loop.run_until_complete(self.server.serve(sockets=[self.socket]))
        self.loop.close()

    def do(self, wish: Any) -> None:
        asyncio.run_coroutine_threadsafe(wish, self.loop).result(5)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(5)
        self.socket.close()


@pytest.fixture
def served(farm: Any) -> Iterator[Served]:
    served = Served(farm)
    yield served
    served.stop()


@pytest.fixture
def remote(served: Served) -> Iterator[Remote]:
    with Remote(served.url) as remote:
        yield remote
