"""Who is told what: decided with what happened, once."""

from __future__ import annotations

import pytest
from tests.core.play import Play

from roost.core import messages as m
from roost.core.notices import MAIL, REASONS, WEBHOOK, HookRules, NoticeRules

LEAF = {"name": "leaf", "command": "x"}
ANN = {"emailTo": "ann@x.example", "emailReasons": "running, Failed,priority changed, resumed"}


def told(play: Play) -> list[tuple[str, str, int, str]]:
    notices = play.notices.values()
    return [(one.channel, one.target, one.job, one.reason) for one in notices]


@pytest.fixture
def play() -> Play:
    return Play(notices=NoticeRules(mail=True))


def test_a_job_says_whom_to_tell_at_which_words(play: Play) -> None:
    play.joins("box")
    job = play.submit(**ANN)
    play.send(m.SetPriority((job,), 3))
    play.starts(job)
    play.fails(job)
    assert told(play) == [
        (MAIL, "ann@x.example", job, reason) for reason in ("running", "priority changed", "failed")
    ]


def test_nobody_is_told_without_a_mail_server_or_addresses_or_words() -> None:
    silent = Play()
    silent.joins("box")
    silent.submit(**ANN)
    assert told(silent) == []
    play = Play(notices=NoticeRules(mail=True))
    play.joins("box")
    play.submit(emailTo="ann@x.example")
    play.submit(emailReasons="running")
    assert told(play) == []


def test_what_is_rescheduled_is_said_to_be(play: Play) -> None:
    play.joins("box")
    job = play.submit(emailTo="a@b.example", emailReasons="rescheduled")
    play.fails(job)
    play.reschedule(job)
    assert told(play) == [(MAIL, "a@b.example", job, "rescheduled")]


def test_a_job_that_only_holds_others_runs_from_the_start_of_the_first(play: Play) -> None:
    play.joins("box", cpus=2)
    shot, a, b = play.submit({"name": "shot", **ANN, "children": [LEAF, LEAF]})
    assert told(play) == [(MAIL, "ann@x.example", shot, "running")]
    assert play.job(a).status == play.job(b).status == "running"


def test_a_job_with_a_command_runs_when_its_command_does(play: Play) -> None:
    play.joins("box")
    comp, frame = play.submit({"name": "comp", "command": "x", **ANN, "children": [LEAF]})
    assert told(play) == []
    play.ends(frame)
    assert told(play) == [(MAIL, "ann@x.example", comp, "running")]


def test_a_job_that_was_paused_off_the_machines_is_said_to_be_resumed(play: Play) -> None:
    shot, _ = play.submit({"name": "shot", **ANN, "children": [LEAF]})
    play.pause(shot)
    play.resume(shot)
    assert told(play) == [(MAIL, "ann@x.example", shot, "resumed")]


def test_a_job_that_a_returning_node_has_resumed_is_said_to_be(play: Play) -> None:
    play.joins("box")
    job = play.submit(emailTo="a@b.example", emailReasons="resumed")
    play.pause(job)
    play.pauses(job)
    play.resume(job)
    play.joins("box", held=[(job, 1, "running")])
    assert told(play) == [(MAIL, "a@b.example", job, "resumed")]


@pytest.mark.parametrize(
    ("rules", "reasons"),
    [
        (HookRules("u"), ["succeeded"]),
        (HookRules("u", ("running", "succeeded"), every_job=True), ["running", "succeeded"]),
        (HookRules("u", ("failed",)), []),
    ],
)
def test_a_webhook_is_told_of_roots_and_their_ends_unless_it_asks_for_more(
    rules: HookRules, reasons: list[str]
) -> None:
    play = Play(notices=NoticeRules(webhooks=(rules,)))
    play.joins("box")
    job = play.submit()
    play.starts(job)
    play.ends(job)
    assert told(play) == [(WEBHOOK, "u", job, reason) for reason in reasons]


def test_notices_are_numbered_and_forgotten_when_they_are_done(play: Play) -> None:
    play.joins("box")
    play.submit(**ANN)
    assert list(play.notices) == [1]
    play.send(m.NoticesDone(tuple(play.notices)))
    assert not play.notices
    play.submit(**ANN, name="another")
    play.joins("second")
    assert list(play.notices) == [2]


def test_the_words_are_those_of_the_manual() -> None:
    assert len(REASONS) == 16
