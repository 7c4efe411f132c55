"""The files that an agent keeps in its folder as HQueue did, and its port."""

import asyncio
import errno
import functools
import xmlrpc.client
from pathlib import Path

import httpx2
import pytest

from roost.agent import hqnode
from roost.agent.hqnode import Folder

FULL = "/dev/full"
"""What is written there finds no room."""


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_full_disk_leaves_no_pid_file_and_no_lock(tmp_path):
    folder = Folder(tmp_path)
    (tmp_path / "hqnode.log").symlink_to(FULL)
    folder.log("Running job 1")
    folder.flush_log()
    folder.log("Stopped")
    folder.close()
    assert not (tmp_path / "hqnode.pid").exists()
    Folder(tmp_path).close()


def test_the_log_goes_on_when_there_is_room_again(tmp_path, monkeypatch):
    monkeypatch.setattr(hqnode, "LOG_BYTES_MAX", 10)
    folder = Folder(tmp_path)
    (tmp_path / "hqnode.log").symlink_to(FULL)
    folder.log("nobody reads this")
    folder.flush_log()
    (tmp_path / "hqnode.log").unlink()
    folder.log("but this")
    folder.close()
    assert "but this" in (tmp_path / "hqnode.log.1").read_text()


@pytest.mark.parametrize("name", ["hqnode.pid", "hqnode.port", "installation.fresh"])
def test_a_full_disk_is_told_with_the_file_that_found_no_room(tmp_path, name):
    (tmp_path / name).symlink_to(FULL)
    before = open_files()
    with pytest.raises(OSError) as told:
        folder = Folder(tmp_path)
        try:
            folder.write_port(5001)
            folder.installation()
        finally:
            folder.close()
    assert told.value.errno == errno.ENOSPC
    assert told.value.filename == str(tmp_path / name)
    assert open_files() == before


@pytest.fixture
async def node():
    """A node's port: its address, and the calls that have come."""
    came = []
    with hqnode.listen("127.0.0.1", 0) as listener:
        calls = {name: functools.partial(came.append, name) for name in ("wakeup", "terminate")}
        server = hqnode.Server(calls, "127.0.0.1")
        await server.start(listener)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", came
        await server.close()


@pytest.mark.parametrize(
    "of_a_page",
    [
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
        # DNS rebinding: to the browser the page is the node's own.
        {"host": "evil.example:5001", "origin": "http://evil.example:5001"},
    ],
)
async def test_a_page_in_a_browser_wakes_and_ends_no_agent(node, of_a_page):
    url, came = node
    call = xmlrpc.client.dumps((), "terminate").encode()
    async with httpx2.AsyncClient() as client:
        for path in hqnode.PATHS:
            headers = {"content-type": "text/xml", "accept-language": "de", **of_a_page}
            answer = await client.post(url + path, content=call, headers=headers)
            assert answer.status_code == 403
            assert answer.text.endswith(".\n")
            assert answer.text.count("\n") == 1
    assert came == []


async def test_hqueue_s_callers_wake_and_end_agents(node):
    url, came = node

    def call():
        with xmlrpc.client.ServerProxy(url) as proxy:
            proxy.wakeup()
            proxy.terminate()

    await asyncio.to_thread(call)
    assert came == ["wakeup", "terminate"]


async def test_an_agent_that_a_browser_asks_by_a_strange_name_says_where_it_is_set(node):
    url, _ = node
    async with httpx2.AsyncClient() as client:
        headers = {"host": "render1.studio.example:5001", "accept-language": "de"}
        answer = await client.get(url, headers=headers)
    assert answer.status_code == 403
    assert "in its setting agent_host" in answer.text
