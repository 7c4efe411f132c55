"""Delivers notices: mails over SMTP, webhooks over HTTP, each until it is taken or given up.

Notices come with the changes that made them, once these are saved, and at the start from the
database. One that is delivered or given up is removed through the farm, so that a crash in between
delivers it again rather than never: mails keep their Message-ID and webhooks their delivery id, by
which receivers can tell. Each address and each URL is served by itself: one that cannot be reached
delays its own notices and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import random
import smtplib
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses
from typing import TYPE_CHECKING

import structlog

from roost.core.messages import NoticesDone
from roost.core.notices import MAIL
from roost.core.records import Notice, NoticeId
from roost.settings import MailOptions, WebhookOptions

if TYPE_CHECKING:
    import httpx2

RETRY_S_FIRST = 1.0
RETRY_S_MAX = 900.0
GIVE_UP_S = 3 * 24 * 3600.0
TIMEOUT_S = 20.0
TOGETHER_MAX = 100
"""Notices of one connection."""
MAIL_CONNECTIONS_MAX = 4
"""At a time, so that a mail server that hangs does not take all threads."""

log = structlog.get_logger(__name__)


class Rejected(Exception):
    """The receiver does not want it and never will."""


class Postman:
    def __init__(
        self,
        mail: MailOptions,
        webhooks: Sequence[WebhookOptions],
        url: str,
        done: Callable[[NoticesDone], None],
        complain: Callable[[str], None],
    ) -> None:
        """`url` is where people find the farm; `complain` is told what was given up."""
        self._mail = mail
        self._secrets = {hook.url: hook.secret for hook in webhooks}
        self._url = url.rstrip("/")
        self._done = done
        self._complain = complain
        self._mailing = asyncio.Semaphore(MAIL_CONNECTIONS_MAX)
        self._waiting: dict[str, dict[NoticeId, Notice]] = {}
        """By the address or URL that they are for, in their order; each has a task as long as there
        are any."""
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, notices: Iterable[Notice]) -> None:
        """They are saved: deliver them."""
        for notice in notices:
            if notice.target not in self._waiting:
                self._waiting[notice.target] = {}
                task = asyncio.create_task(self._serve(notice.target))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            self._waiting[notice.target][notice.id] = notice

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, target: str) -> None:
        waiting = self._waiting[target]
        wait_s = 0.0
        failing_since: float | None = None
        while waiting:
            batch = list(waiting.values())[:TOGETHER_MAX]
            async with self._mailing if batch[0].channel == MAIL else contextlib.nullcontext():
                finished, failure = await asyncio.to_thread(self.deliver, batch)
            for notice in batch:
                if notice.id in finished:
                    del waiting[notice.id]
                    if reason := finished[notice.id]:
                        self._tell_lost(notice, reason)
            if finished:
                self._done(NoticesDone(tuple(finished)))
            if not failure:
                wait_s, failing_since = 0.0, None
                continue
            log.warning("notices cannot be delivered now", reason=failure, waiting=len(waiting))
            now = time.monotonic()
            failing_since = now if failing_since is None else failing_since
            if now - failing_since > GIVE_UP_S:
                for notice in waiting.values():
                    self._tell_lost(notice, failure)
                self._done(NoticesDone(tuple(waiting)))
                waiting.clear()
            else:
                wait_s = min(RETRY_S_MAX, wait_s * 2) or RETRY_S_FIRST
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
        del self._waiting[target]

    def _tell_lost(self, notice: Notice, reason: str) -> None:
        what = f"job {notice.job} is {notice.reason}"
        self._complain(f"{notice.target} could not be told that {what}: {reason}")

    def deliver(self, batch: Sequence[Notice]) -> tuple[dict[NoticeId, str], str]:
        """In a thread. What is finished, with the reason where it was refused for good; and what
        kept the others from being delivered now, empty if nothing did."""
        if batch[0].channel == MAIL:
            return self._send_mails(batch)
        import httpx2  # most farms have no webhooks

        finished: dict[NoticeId, str] = {}
        try:
            with httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
                for notice in batch:
                    try:
                        self._post(client, notice)
                        finished[notice.id] = ""
                    except (Rejected, httpx2.InvalidURL) as refusal:
                        finished[notice.id] = str(refusal)
        except (httpx2.HTTPError, OSError) as error:
            return finished, f"{batch[0].target}: {error}"
        return finished, ""

    # --- mail ---------------------------------------------------------------------------------

    def _send_mails(self, batch: Sequence[Notice]) -> tuple[dict[NoticeId, str], str]:
        finished: dict[NoticeId, str] = {}
        options = self._mail
        try:
            with self._connect() as smtp:
                for notice in batch:
                    try:
                        refused = smtp.send_message(self.letter(notice))
                        finished[notice.id] = _refusal(refused)
                    except smtplib.SMTPRecipientsRefused as error:
                        if any(code < 500 for code, _ in error.recipients.values()):
                            raise
                        finished[notice.id] = _refusal(error.recipients)
                    except (smtplib.SMTPDataError, smtplib.SMTPSenderRefused) as error:
                        if error.smtp_code < 500:
                            raise
                        finished[notice.id] = _text(error.smtp_error)
                    except (ValueError, smtplib.SMTPNotSupportedError) as error:
                        # An address that is none, or whose letters the server does not take.
                        finished[notice.id] = str(error)
        except (smtplib.SMTPException, OSError) as error:
            return finished, f"the mail server {options.host}:{options.port}: {error}"
        return finished, ""

    def _connect(self) -> smtplib.SMTP:
        options = self._mail
        context = ssl.create_default_context(cafile=options.ca_file or None)
        if options.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                options.host, options.port, timeout=TIMEOUT_S, context=context
            )
        else:
            smtp = smtplib.SMTP(options.host, options.port, timeout=TIMEOUT_S)
        try:
            if options.security == "starttls":
                smtp.starttls(context=context)
            if options.user:
                smtp.login(options.user, options.password)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def letter(self, notice: Notice) -> EmailMessage:
        """Raises `ValueError` for a target that is no address."""
        found = [address for _, address in getaddresses([notice.target])]
        addresses = [address for address in found if address.partition("@")[0]]
        if not addresses:
            raise ValueError(f"{notice.target!r} is no address")
        letter = EmailMessage()
        letter["Subject"] = _one_line(f"Job {notice.job} is {notice.reason}: {notice.name}")
        letter["From"] = self._mail.sender
        letter["To"] = ", ".join(addresses)
        at = datetime.fromtimestamp(notice.at / 1000, UTC)
        letter["Date"] = format_datetime(at)
        domain = self._mail.sender.rpartition("@")[2].strip(" <>") or "roost"
        letter["Message-ID"] = f"<job-{notice.job}.notice-{notice.id}@{domain}>"
        letter["Auto-Submitted"] = "auto-generated"
        lines = [f"Job {notice.job} ({_one_line(notice.name)}) is {notice.reason}."]
        if notice.text:
            lines += ["", notice.text]
        lines += ["", f"When:  {at:%Y-%m-%d %H:%M:%S} UTC", f"Where: {self._link(notice)}"]
        letter.set_content("\n".join(lines) + "\n")
        return letter

    def _link(self, notice: Notice) -> str:
        return f"{self._url}/jobs/view/{notice.job}"

    # --- webhooks -----------------------------------------------------------------------------

    def _post(self, client: httpx2.Client, notice: Notice) -> None:
        body = json.dumps(
            {
                "event": notice.reason,
                "job": notice.job,
                "name": notice.name,
                "text": notice.text,
                "at": datetime.fromtimestamp(notice.at / 1000, UTC).isoformat(),
                "url": self._link(notice),
            }
        ).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Roost",
            "X-Roost-Event": notice.reason,
            "X-Roost-Delivery": str(notice.id),
        }
        if secret := self._secrets.get(notice.target, ""):
            signature = hmac.digest(secret.encode(), body, "sha256").hex()
            headers["X-Roost-Signature-256"] = f"sha256={signature}"
        answer = client.post(notice.target, content=body, headers=headers)
        if answer.status_code >= 500 or answer.status_code in (408, 425, 429):
            raise OSError(f"status {answer.status_code}")
        if not answer.is_success:
            raise Rejected(f"status {answer.status_code}")


def _refusal(refused: Mapping[str, tuple[int, bytes]]) -> str:
    """Who does not take a letter, and why; empty if everybody does."""
    return ", ".join(f"{address}: {_text(text)}" for address, (_, text) in refused.items())


def _text(answer: bytes | str) -> str:
    return answer if isinstance(answer, str) else answer.decode(errors="replace")


def _one_line(text: str) -> str:
    return " ".join(text.split())
