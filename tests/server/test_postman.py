"""Mail: what keeps one letter from being delivered keeps no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiosmtpd.controller import UnthreadedController

from roost.core.messages import NoticesDone
from roost.core.notices import MAIL
from roost.core.records import JobId, Moment, Notice, NoticeId
from roost.server.postman import Postman
from roost.settings import MailOptions

PATIENCE_S = 60


class MailServer(UnthreadedController):
    """Takes letters in plain ASCII, for those who are there."""

    def __init__(self) -> None:
        super().__init__(
            self, hostname="127.0.0.1", port=0, loop=asyncio.get_running_loop(),
            enable_SMTPUTF8=False,
        )  # fmt: skip
        self.told: list[str] = []

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        name = address.partition("@")[0]
        if name in ("away", "nobody"):
            return "450 try again later" if name == "away" else "550 there is no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.told += envelope.rcpt_tos
        return "250 OK"


class Post:
    """A postman, and what he says."""

    def __init__(self, port: int) -> None:
        self.done: set[NoticeId] = set()
        self.complaints: list[str] = []
        self._some = asyncio.Event()
        mail = MailOptions(
            host="127.0.0.1", port=port, sender="farm@studio.example", security="none"
        )
        self.postman = Postman(mail, (), "http://farm.example", self._note, self.complaints.append)

    def _note(self, done: NoticesDone) -> None:
        self.done.update(done.ids)
        self._some.set()

    def take(self, *targets: str) -> None:
        self.postman.take(
            Notice(NoticeId(n), MAIL, target, JobId(7), "comp", "failed", Moment(0), "")
            for n, target in enumerate(targets, 1)
        )

    async def finished(self, *ids: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.done != {*ids}:
                self._some.clear()
                await self._some.wait()


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    server = MailServer()
    server.server = await server._create_server()
    yield server
    server.server.close()
    await server.server.wait_closed()


@pytest.fixture
async def post(server: MailServer) -> AsyncIterator[Post]:
    assert server.server is not None
    post = Post(server.server.sockets[0].getsockname()[1])
    yield post
    await post.postman.close()


async def test_who_cannot_be_reached_for_now_holds_up_nobody_else(
    server: MailServer, post: Post
) -> None:
    post.take("away@studio.example", "ann@studio.example")
    await post.finished(2)
    assert server.told == ["ann@studio.example"]
    assert not post.complaints


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("jörg@studio.example", "SMTPUTF8"),
        ("nobody@studio.example", "nobody@studio.example: there is no such person"),
        ("a@b@c", "'a@b@c' is no address"),
    ],
)
async def test_an_address_that_takes_no_letter_is_complained_of_once(
    server: MailServer, post: Post, target: str, reason: str
) -> None:
    post.take(target, "ann@studio.example")
    await post.finished(1, 2)
    assert server.told == ["ann@studio.example"]
    [complaint] = post.complaints
    assert complaint.startswith(f"{target} could not be told that job 7 is failed: ")
    assert reason in complaint


async def test_of_several_addresses_those_are_named_that_were_not_told(
    server: MailServer, post: Post
) -> None:
    post.take("ann@studio.example, nobody@studio.example")
    await post.finished(1)
    assert server.told == ["ann@studio.example"]
    [complaint] = post.complaints
    assert complaint.endswith(": nobody@studio.example: there is no such person")
