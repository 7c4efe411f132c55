"""Nodes held for a job with several hosts, and what becomes of their room when the hold is lost."""

from __future__ import annotations

from play import Play


def test_room_that_is_left_where_a_hold_was_pushed_out_goes_to_others(play: Play) -> None:
    play.joins("a", cpus=4)
    play.joins("b", cpus=4)
    busy = play.submit(host="b", cpus=4)
    wide = play.submit(cpus=4, minHosts=2)
    other = play.submit(host="a", cpus=3)
    assert list(play.farm.floor.holds[wide]) == [play.node_ids["a"]]
    assert play.status(other) == "runnable"
    better = play.submit(host="a", cpus=1, priority=5)
    play.later(ms=1)
    assert [play.status(job) for job in (busy, better, other)] == ["running"] * 3
    assert play.status(wide) == "runnable"
