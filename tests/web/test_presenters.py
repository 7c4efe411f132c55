"""Words, shares and times as people see them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from roost.core.records import Job, JobId, JobSpec, JobStatus, Moment, Rollup
from roost.web import presenters
from roost.web.site import FOLDER

S = JobStatus
JOB = Job(JobId(1), JobSpec("job"), S.RUNNING, Moment(0))
TREE = Rollup(
    "running", 500_000, tasks_total=100, tasks_done=40, tasks_failed=1, clients_assigned=9
)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(None, ""), (0, "0:00"), (65_000, "1:05"), (3_600_000, "1:00:00"), (90_000_000, "1d 01:00")],
)
def test_durations(ms: int | None, text: str) -> None:
    assert presenters.duration(ms) == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (9_999, "just now"),
        (40_000, "40 s ago"),
        (120_000, "2 min ago"),
        (7_200_000, "2 h ago"),
        (6 * 86_400_000, "6 d ago"),
        (-120_000, "in 2 min"),
    ],
)
def test_times_are_told_from_now(passed: int, text: str) -> None:
    assert presenters.ago(Moment(10**12 - passed), Moment(10**12)) == text


def test_a_bar_is_what_is_done_failed_and_running() -> None:
    found = [(one.tone, one.start, one.size) for one in presenters.segments(JOB, TREE)]
    assert found == [("succeeded", 0, 400), ("failed", 400, 10), ("running", 410, 90)]


def test_a_single_failure_among_thousands_is_seen() -> None:
    tree = replace(TREE, tasks_total=10_000, tasks_done=0, clients_assigned=0)
    assert [one.tone for one in presenters.segments(JOB, tree)] == ["failed"]


def test_what_was_cancelled_is_not_shown_as_failed() -> None:
    job = replace(JOB, status=S.CANCELLED, ended_at=Moment(1))
    assert {one.tone for one in presenters.segments(job, TREE)} == {"succeeded", "cancelled"}


def test_every_status_has_a_mark_and_a_colour_in_both_themes() -> None:
    marks = (FOLDER / "static/marks.svg").read_text()
    colours = (FOLDER / "static/roost.css").read_text()
    for status in presenters.SHOWN:
        tone = presenters.tone(status)
        assert f'id="{tone}"' in marks, tone
        assert f"--status-{tone}:" in colours, tone
        assert f".tone-{tone} " in colours, tone
