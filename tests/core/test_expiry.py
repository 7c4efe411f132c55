"""Trees go some time after their root ended, and never while anything linked with them lives."""

from __future__ import annotations

import pytest
from tests.core.play import Play

from roost.core import messages as m
from roost.core.records import JobId

AFTER = 2 * 60 * 1000


@pytest.fixture
def play() -> Play:
    play = Play(expire_after_ms=AFTER)
    play.joins("box", cpus=8)
    return play


def expire(play: Play, *ids: int) -> None:
    play.revive(*ids)
    play.send(m.ExpireJobs(tuple(JobId(each) for each in ids)))


def test_a_tree_goes_when_its_time_is_over_and_not_before(play: Play) -> None:
    root, leaf = play.submit({"name": "root", "children": [{"name": "leaf", "command": "true"}]})
    play.ends(leaf)
    play.later(minutes=1)
    expire(play, root)
    assert set(play.records) == {root, leaf}
    play.later(minutes=2)
    expire(play, root)
    assert not play.records
    assert play.has_effect(m.DeleteOutput, job=leaf)


def test_a_tree_that_shares_a_job_with_a_live_one_stays(play: Play) -> None:
    root, leaf = play.submit({"name": "root", "children": [{"name": "leaf", "command": "true"}]})
    play.ends(leaf)
    play.revive(leaf)
    _, busy = play.submit(
        {"name": "other", "childrenIds": [leaf], "children": [{"name": "busy", "command": "b"}]}
    )
    play.later(minutes=3)
    expire(play, root)
    assert root in play.records
    play.ends(busy)
    play.later(minutes=3)
    expire(play, root)
    assert root not in play.records


def test_only_roots_expire(play: Play) -> None:
    root, leaf = play.submit({"name": "root", "children": [{"name": "leaf", "command": "true"}]})
    play.ends(leaf)
    play.later(minutes=3)
    expire(play, leaf)
    assert set(play.records) == {root, leaf}


def test_jobs_stay_for_ever_unless_somebody_wants_them_gone() -> None:
    play = Play()
    play.joins("box")
    job = play.submit()
    play.ends(job)
    play.later(minutes=10**6)
    expire(play, job)
    assert job in play.records
