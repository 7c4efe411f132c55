"""Who is told what happened to a job: by mail, if it says so, and by webhooks of the farm.

A notice is decided with what it tells of and saved in the same transaction, so none is lost and
none is made twice; `server.postman` delivers it, however long that takes. What is written down in
a job's story can be told, under the same word; `resumed` and `rescheduled` are said besides.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from roost.core.lifecycle import FINAL
from roost.core.records import Job

REASONS = frozenset(
    (
        "abandoned", "cancelled", "ejected", "ejecting", "failed", "paused", "pausing",
        "priority changed", "queued", "rescheduled", "resumed", "resuming", "runnable", "running",
        "succeeded", "waiting",
    )
)  # fmt: skip
"""The words of `emailReasons`."""
MAIL, WEBHOOK = "mail", "webhook"
ENDS = tuple(sorted(status.value for status in FINAL))


class HookRules(Struct, frozen=True):
    """What one webhook is told."""

    url: str
    events: tuple[str, ...] = ()
    """Of `REASONS`; none means the ends of jobs."""
    every_job: bool = False
    """Else only jobs without parents."""

    def wants(self, reason: str, *, is_root: bool) -> bool:
        return (self.every_job or is_root) and reason in (self.events or ENDS)


class NoticeRules(Struct, frozen=True):
    """What is set up to tell people; nothing by default."""

    mail: bool = False
    webhooks: tuple[HookRules, ...] = ()

    def __bool__(self) -> bool:
        return self.mail or bool(self.webhooks)


def recipients(
    job: Job, reason: str, rules: NoticeRules, *, is_root: bool
) -> Iterator[tuple[str, str]]:
    """(channel, address or URL) of everybody who is to be told this."""
    if reason not in REASONS:
        return
    if rules.mail and job.spec.email_to and reason in words(job.spec.email_reasons):
        yield MAIL, job.spec.email_to
    for hook in rules.webhooks:
        if hook.wants(reason, is_root=is_root):
            yield WEBHOOK, hook.url


def words(reasons: str) -> list[str]:
    """A list with commas between, as Houdini writes it."""
    return [word.strip().lower() for word in reasons.split(",")]
