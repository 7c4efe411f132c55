"""What a job may set with delay: nothing that the core would leave out when it is told."""

from __future__ import annotations

import pytest

from roost.agent.contact import Contact
from roost.core.messages import ChirpOrder, Gates
from roost.core.records import JobId
from roost.wire.chirp import Code


def contact(prefix: str) -> Contact:
    order = ChirpOrder(Gates(False, False, True), "ada", "", JobId(1), prefix)
    return Contact(order, (JobId(1), 1), 0, "scratch", b"digest")


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("ChirpLoss", "0.5", 0),
        ("Chirp" + "x" * 250, "1", 0),
        ("Chirp" + "x" * 251, "1", Code.INVALID_REQUEST),
        ("Progress", "0.5", 0),
        ("Progress", "50", Code.INVALID_REQUEST),
        ("JobPrio", "3", 0),
        ("JobPrio", "high", Code.INVALID_REQUEST),
        ("Owner", '"root"', Code.NOT_AUTHORIZED),
        ("ChirpLoss", "1 +", Code.INVALID_REQUEST),
        ("ChirpText", '"' + "x" * 992 + '"', Code.TOO_BIG),
    ],
)
def test_what_is_answered_as_set_is_what_the_core_takes(name: str, text: str, answer: int) -> None:
    job = contact("*")
    assert job.set_delayed(name.encode(), text.encode()) == answer
    assert [known for known, _ in job.take_delayed()] == [name] * (answer == 0)


def test_only_names_that_the_farm_allows_are_set_with_delay() -> None:
    job = contact("Chirp*")
    assert job.set_delayed(b"Progress", b"0.5") == Code.NOT_AUTHORIZED
    assert job.set_delayed(b"chirpProgress", b"50") == 0
