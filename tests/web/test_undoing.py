"""What can be undone is remembered for a while, and within bounds."""

from __future__ import annotations

import pytest

from roost.core.messages import ResumeJobs, SetPriorities
from roost.core.records import JobId
from roost.errors import NotFound
from roost.server import undoing
from roost.server.undoing import Inverses


def resumed(count: int) -> ResumeJobs:
    return ResumeJobs(tuple(map(JobId, range(1, count + 1))), alone=True)


def test_a_token_is_good_once() -> None:
    inverses = Inverses()
    token = inverses.keep(resumed(2))
    assert inverses.take(token) == resumed(2)
    with pytest.raises(NotFound, match="cannot be undone any more"):
        inverses.take(token)


def test_what_was_refused_can_be_tried_again() -> None:
    inverses = Inverses()
    token = inverses.keep(resumed(2))
    inverses.put_back(token, inverses.take(token))
    assert inverses.take(token) == resumed(2)


def test_what_is_no_inverse_has_no_token() -> None:
    assert Inverses().keep(None) == ""
    assert Inverses().keep([JobId(7)]) == ""


def test_the_oldest_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undoing, "COMMANDS_MAX", 3)
    inverses = Inverses()
    tokens = [inverses.keep(resumed(1)) for _ in range(4)]
    with pytest.raises(NotFound):
        inverses.take(tokens[0])
    assert [inverses.take(token) for token in tokens[1:]] == [resumed(1)] * 3


def test_large_ones_push_others_out_and_the_last_is_always_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(undoing, "IDS_MAX", 10)
    inverses = Inverses()
    small, large = inverses.keep(resumed(4)), SetPriorities(((JobId(1), 1),) * 50)
    token = inverses.keep(large)
    with pytest.raises(NotFound):
        inverses.take(small)
    assert inverses.take(token) == large
    tokens = [inverses.keep(resumed(5)) for _ in range(2)]
    assert [inverses.take(one) for one in tokens] == [resumed(5)] * 2
