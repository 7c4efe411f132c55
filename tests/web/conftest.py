"""A farm with a real engine, record and output store behind the real pages, without agents."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette

from roost.core import jobspec
from roost.core import messages as m
from roost.core.records import AttemptCause, JobId, NodeFacts, NodeId
from roost.core.state import Rules
from roost.hqueue import dispatch
from roost.sameorigin import SameOrigin
from roost.server.access import Access
from roost.server.engine import Engine
from roost.store.database import Database
from roost.store.output import OutputStore
from roost.web import pages
from roost.web.site import Look, Site


class World:
    """A farm without agents: what they would report is reported by the tests."""

    def __init__(self, engine: Engine, output: OutputStore, client: httpx2.AsyncClient) -> None:
        self.engine = engine
        self.output = output
        self.client = client
        self.access: Access

    async def ask(self, message: Any) -> Any:
        reply = await self.engine.ask(message)
        await asyncio.sleep(0)  # answers come first: now those who look on have been told, too
        return reply

    async def submit(self, spec: dict[str, Any]) -> list[JobId]:
        return await self.ask(jobspec.parse(json.dumps(spec).encode(), None))

    async def node(self, name: str, cpus: int = 4) -> NodeId:
        facts = NodeFacts(name, cpus=cpus, memory_kb=8_000_000)
        return await self.ask(m.NodeJoined(facts))

    async def report(self, node: NodeId, report: Any) -> None:
        await self.ask(m.NodeReported(node, report))

    async def run(self, node: NodeId, job: JobId, number: int, exit_code: int = 0) -> None:
        await self.report(node, m.AttemptStarted(job, number))
        ended = m.AttemptEnded(job, number, AttemptCause.EXITED, exit_code)
        await self.report(node, ended)

    def print(self, job: JobId, number: int, text: str) -> None:
        size = self.output.size(job, number)
        self.output.write(job, number, size, text.encode())
        self.access.job_changed(job)

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        response = await self.client.get(f"/drawings{path}", params=query or None)
        assert response.status_code == status, response.text
        body = response.json()
        return body if status == 200 else body["error"]["message"]

    async def page(self, path: str, status: int = 200, **headers: str) -> str:
        response = await self.client.get(path, headers=headers)
        assert response.status_code == status, response.text
        return response.text

    async def post(self, path: str, fields: Any, **headers: str) -> httpx2.Response:
        """A form as a browser sends it, without following where it leads."""
        return await self.client.post(path, data=fields, headers=headers)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    database = Database(f"sqlite:///{tmp_path / 'roost.db'}")
    await database.migrate()
    output = OutputStore(tmp_path / "output")
    engine = Engine(
        database,
        Rules(),
        lambda _: None,
        lambda changes: access.publish(changes),
        lambda: None,
    )
    access = Access(engine, database, output, {})
    await engine.load()
    running = asyncio.ensure_future(engine.run())
    listener = socket.create_server(("127.0.0.1", 0))
    site = Site(access, Look("Test farm", settings=(("port", "5000", "default"),)))
    others = Starlette(routes=pages.routes(site), exception_handlers={404: site.nothing_here})
    app = SameOrigin(dispatch.Endpoint(access, others))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with _signals_kept(server):
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
            world = World(engine, output, client)
            world.access = access
            yield world
        access.stop_following()
        server.should_exit = True
        await serving
    engine.stop()
    await running
    output.close()
    await database.close()
    listener.close()


@contextmanager
def _signals_kept(server: uvicorn.Server) -> Iterator[None]:
    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    server.capture_signals = nothing  # type: ignore[method-assign]
    yield
