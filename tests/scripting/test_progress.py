"""Three ways of showing progress, and who sees which."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from roost.scripting import progress
from roost.wire.rest import JobChange


def change(number: int, share: float, status: str = "running", **more: Any) -> JobChange:
    fields: dict[str, Any] = {
        "ui_status": status,
        "progress": share,
        "overall_progress": share,
        "tasks_total": 1,
        "tasks_done": 0,
        "tasks_failed": 0,
        "clients_assigned": 0,
        "finished": status in ("succeeded", "failed"),
    }
    return JobChange(id=number, status=status, **{**fields, **more})


def test_without_a_terminal_lines_tell_what_is_worth_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = [change(1, share) for share in (0.0, 0.01, 0.02, 0.15)]
    last = progress.watch([*changes, change(1, 1.0, "succeeded")], [1])
    assert last[1].status == "succeeded"
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == (
        "",
        ["job 1:   0%  running", "job 1:  15%  running", "job 1: 100%  succeeded"],
    )


def test_a_bar_is_drawn_on_a_terminal_also_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        progress.watch([change(1, 0.5), change(1, 1.0, "succeeded")], [1], progress=None)
    drawn = read_all(ours).decode()
    assert "━" in drawn and "100%" in drawn and "succeeded" in drawn


def read_all(descriptor: int) -> bytes:
    """What was written to a terminal that has been closed."""
    with os.fdopen(descriptor, "rb", buffering=0) as terminal:
        read = b""
        with suppress(OSError):  # Linux ends it so
            while piece := terminal.read(65536):
                read += piece
        return read


def test_nothing_is_shown_when_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    for wish in (False, None):
        assert progress.watch([change(1, 1.0, "failed")], [1], wish)[1].status == "failed"
    assert capsys.readouterr() == ("", "")


def test_each_job_has_a_row_and_many_share_one() -> None:
    few = progress.Watched([1, 2])
    few.take(change(1, 0.5, tasks_total=4, tasks_done=2, tasks_failed=1))
    assert few.rows() == [
        ("job 1", 0.5, "running, 2/4 tasks done, 1 failed"),
        ("job 2", 0.0, ""),
    ]
    many = progress.Watched(range(1, progress.ROWS_MAX + 2))
    for news in ((1, 0.5), (1, 1.0, "succeeded"), (2, 1.0, "failed"), (3, 0.5), (3, 0.125)):
        many.take(change(*news))
    assert many.rows() == [("21 jobs", 2.125 / 21, "2/21 done, 1 failed")]


def test_without_a_terminal_many_jobs_share_lines(capsys: pytest.CaptureFixture[str]) -> None:
    ids = range(1, 101)
    progress.watch([change(number, 1.0, "succeeded") for number in ids], ids)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "100 jobs:   1%  1/100 done"
    assert lines[-1] == "100 jobs: 100%  100/100 done"
    assert len(lines) == 11


def test_a_job_that_stands_alone_has_no_tasks() -> None:
    assert progress.standing(change(1, 1.0, "failed", tasks_failed=1)) == "failed"


def test_a_table_for_notebooks_is_escaped() -> None:
    page = progress.as_html([("<job>", 0.25, "a & b")])
    assert "&lt;job&gt;" in page and "a &amp; b" in page and 'value="0.2500"' in page


def test_ctrl_c_reaches_the_caller() -> None:
    def changes() -> Iterator[JobChange]:
        yield change(1, 0.5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        progress.watch(changes(), [1], False)
