"""People are told what they asked to be told: by a real mail server, by real webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import http.server
import json
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from tests.e2e.conftest import PATIENCE_S, Farm

pytestmark = pytest.mark.slow


class Letterbox:
    """A mail server that wants TLS and a password, and keeps what it is given."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.letters: queue.Queue[EmailMessage] = queue.Queue()
        self.callers: set[Any] = set()
        self.port = port or free_port()
        self.controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=self.check,
        )
        self.controller.start()

    def close(self) -> None:
        """What callers have left open is closed too."""

        async def hang_up() -> None:
            for transport in self.callers:
                with contextlib.suppress(AttributeError):  # Python 3.11.2's, once closed twice
                    transport.abort()
            for _ in range(3):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(hang_up(), self.controller.loop).result(PATIENCE_S)
        self.controller.stop()

    async def handle_EHLO(  # noqa: N802
        self, server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.callers.add(server.transport)
        session.host_name = hostname
        return responses

    def check(self, _server: Any, _session: Any, _envelope: Any, _kind: Any, data: Any) -> Any:
        known = (data.login, data.password) == (b"farm", b"secret")
        return AuthResult(success=known, handled=known)  # else nobody answers the client

    async def handle_RCPT(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address.startswith("nobody"):
            return "550 there is no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        letter = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.put(letter)
        return "250 OK"

    def letter(self) -> EmailMessage:
        return self.letters.get(timeout=PATIENCE_S)

    def settings(self) -> dict[str, str]:
        return {
            "ROOST_MAIL_HOST": "127.0.0.1",
            "ROOST_MAIL_PORT": str(self.port),
            "ROOST_MAIL_SECURITY": "starttls",
            "ROOST_MAIL_USER": "farm",
            "ROOST_MAIL_PASSWORD": "secret",
            "ROOST_MAIL_CA_FILE": str(self.ca_file),
            "ROOST_MAIL_SENDER": "farm@studio.example",
            "ROOST_PUBLIC_URL": "http://farm.example",
        }


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def letterbox(tmp_path: Path) -> Iterator[Letterbox]:
    box = Letterbox(tmp_path)
    yield box
    box.close()


def test_a_job_writes_to_those_it_names_at_the_words_it_names(
    farm: Farm, letterbox: Letterbox
) -> None:
    farm.start_server(environment=letterbox.settings())
    farm.start_agent()
    job = farm.submit(
        "exit 3",
        name="comp\nof shot 7",
        emailTo="ann@studio.example, bob@studio.example",
        emailReasons="running,Failed, succeeded",
    )
    farm.submit("true", emailTo="ann@studio.example", emailReasons="")
    farm.wait(job)
    first, second = letterbox.letter(), letterbox.letter()
    assert first["Subject"] == f"Job {job} is running: comp of shot 7"
    assert second["Subject"] == f"Job {job} is failed: comp of shot 7"
    assert second["To"] == "ann@studio.example, bob@studio.example"
    assert second["From"] == "farm@studio.example"
    assert first["Message-ID"] != second["Message-ID"]
    assert f"http://farm.example/jobs/view/{job}" in second.get_content()
    assert letterbox.letters.empty()


def test_a_mail_server_that_is_down_delays_mail_and_never_jobs(farm: Farm, tmp_path: Path) -> None:
    box = Letterbox(tmp_path)
    settings = box.settings()
    box.close()
    farm.start_server(environment=settings)
    farm.start_agent()
    wanted = {"emailTo": "ann@studio.example", "emailReasons": "succeeded"}
    jobs = [farm.submit("true", **wanted) for _ in range(3)]
    assert [farm.wait(job) for job in jobs] == ["succeeded"] * 3
    assert farm.server is not None
    farm.server.kill()  # what was not delivered is not forgotten either
    again = Letterbox(tmp_path, box.port)
    try:
        farm.start_server(environment={**settings, **again.settings()})
        subjects = {again.letter()["Subject"] for _ in jobs}
        assert subjects == {f"Job {job} is succeeded: job" for job in jobs}
    finally:
        again.close()


def test_an_address_that_is_refused_holds_up_nobody(farm: Farm, letterbox: Letterbox) -> None:
    farm.start_server(environment=letterbox.settings())
    farm.start_agent()
    bad = farm.submit("true", emailTo="nobody@studio.example", emailReasons="succeeded")
    farm.wait(bad)
    good = farm.submit("true", emailTo="ann@studio.example", emailReasons="succeeded")
    farm.wait(good)
    assert letterbox.letter()["Subject"].startswith(f"Job {good} ")
    with farm.rpc as rpc:
        (error,) = rpc.getServerErrors()["errors"]
    assert f"nobody@studio.example could not be told that job {bad} is succeeded" in error["text"]


# --- webhooks ---------------------------------------------------------------------------------


class Receiver(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        self.answers: list[int] = []
        threading.Thread(target=self.serve_forever).start()

    def call(self) -> tuple[dict[str, str], dict[str, Any], bytes]:
        headers, body = self.calls.get(timeout=PATIENCE_S)
        return headers, json.loads(body), body


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        self.server.calls.put((dict(self.headers.items()), body))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.shutdown()
    receiver.server_close()


def start(farm: Farm, receiver: Receiver, more: str = "") -> None:
    config = farm.folder / "roost.toml"
    config.write_text(
        f'[[webhooks]]\nurl = "http://127.0.0.1:{receiver.server_port}/hook"\n'
        f'secret = "shared"\n{more}\n'
    )
    farm.start_server(environment={"ROOST_CONFIG": str(config)})
    farm.start_agent()


def test_a_webhook_is_told_how_jobs_end_and_can_tell_who_says_so(
    farm: Farm, receiver: Receiver
) -> None:
    start(farm, receiver)
    with farm.rpc as rpc:
        root, _ = rpc.newjob({"name": "tree", "children": [{"name": "leaf", "command": "true"}]})
    farm.wait(root)
    headers, told, body = receiver.call()
    assert (told["event"], told["job"], told["name"]) == ("succeeded", root, "tree")
    assert headers["X-Roost-Event"] == "succeeded"
    signature = hmac.new(b"shared", body, hashlib.sha256).hexdigest()
    assert headers["X-Roost-Signature-256"] == f"sha256={signature}"
    assert receiver.calls.empty()


def test_a_webhook_can_ask_for_every_job_and_other_words(farm: Farm, receiver: Receiver) -> None:
    start(farm, receiver, 'events = ["running", "failed"]\nevery_job = true')
    with farm.rpc as rpc:
        rpc.newjob({"name": "tree", "children": [{"name": "leaf", "command": "false"}]})
    seen = [(told["event"], told["name"]) for _, told, _ in (receiver.call() for _ in range(4))]
    assert seen == [(word, name) for word in ("running", "failed") for name in ("leaf", "tree")]


def test_a_webhook_that_fails_is_tried_again_and_one_that_refuses_is_not(
    farm: Farm, receiver: Receiver
) -> None:
    receiver.answers = [500, 429, 204, 404, 302]
    start(farm, receiver)
    first = farm.submit("true")
    farm.wait(first)
    deliveries = [receiver.call() for _ in range(3)]
    assert {told["job"] for _, told, _ in deliveries} == {first}
    assert len({headers["X-Roost-Delivery"] for headers, _, _ in deliveries}) == 1
    later = [farm.submit("true") for _ in range(3)]
    for job in later:
        farm.wait(job)
    assert sorted(receiver.call()[1]["job"] for _ in later) == later
    last = farm.submit("true")
    assert receiver.call()[1]["job"] == last  # told after what became of those before was noted
    with farm.rpc as rpc:
        texts = [error["text"] for error in rpc.getServerErrors()["errors"]]
    assert len(texts) == 2 and any("status 404" in text for text in texts)
