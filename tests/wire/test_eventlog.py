"""Stories as HTCondor event logs: which event tells what, and HTCondor's own reader takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roost.wire import eventlog, rest

HOSTS = {1: "box", 2: "far"}


def attempt(number: int, cause: str | None = "exited", code: int | None = 0) -> rest.JobAttempt:
    return rest.JobAttempt(
        number=number, purpose="command", nodes=[number], assigned_at=0, started_at=0,
        ended_at=None if cause is None else 1, cause=cause, exit_code=code, text="",
    )  # fmt: skip


def story(
    *events: tuple[str, str] | str, attempts: Any = (), job: int = 12, cluster: int = 12
) -> eventlog.Story:
    """One event a second, each a status or a status and a message."""
    pairs = [(event, "") if isinstance(event, str) else event for event in events]
    told = [rest.JobEvent(1000 * at, *pair) for at, pair in enumerate(pairs)]
    detail = rest.JobDetail(
        id=job, status="", ui_status="", progress=0, overall_progress=0, tasks_total=1,
        tasks_done=0, tasks_failed=0, clients_assigned=0, finished=False, name="sim", priority=0,
        submitted_by="ada", queued_at=0, started_at=None, ended_at=None, nodes=[], spec={},
        tries_left=0, attempt=len(attempts), runnable_at=None, command_started_at=None,
        command_ended_at=None, parents=[], children=[], conditions=[], held_nodes=[], events=told,
        attempts=list(attempts), reasons=[],
    )  # fmt: skip
    return eventlog.Story(detail, cluster, HOSTS)


def log_of(*stories: eventlog.Story) -> str:
    return eventlog.text(stories, "farm:5000", lambda at: f"2026-05-01 00:00:{at // 1000:02}")


def numbers(*events: tuple[str, str] | str, attempts: Any = ()) -> list[int]:
    blocks = log_of(story(*events, attempts=attempts)).split("...\n")
    return [int(block[:3]) for block in blocks if block]


RUN = ("running", "on box")


def test_a_job_that_runs_and_ends_is_told_to_the_letter() -> None:
    events = ("runnable", RUN, ("ulog", "frame  7\nis done"), "succeeded")
    assert log_of(story(*events, attempts=[attempt(1)])) == (
        "000 (012.000.000) 2026-05-01 00:00:00 Job submitted from host: <farm:5000>\n...\n"
        "001 (012.000.000) 2026-05-01 00:00:01 Job executing on host: <box>\n...\n"
        "008 (012.000.000) 2026-05-01 00:00:02 frame  7 is done\n...\n"
        "005 (012.000.000) 2026-05-01 00:00:03 Job terminated.\n"
        "\t(1) Normal termination (return value 0)\n"
        "\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage\n"
        "\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage\n"
        "\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Total Remote Usage\n"
        "\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Total Local Usage\n"
        "\t0  -  Run Bytes Sent By Job\n"
        "\t0  -  Run Bytes Received By Job\n"
        "\t0  -  Total Bytes Sent By Job\n"
        "\t0  -  Total Bytes Received By Job\n...\n"
    )


@pytest.mark.parametrize(
    ("events", "attempts", "expected"),
    [
        (("queued", "succeeded"), [], [0, 5]),
        (("runnable", RUN, ("runnable", "again"), RUN, "failed"), [1, 1], [0, 1, 4, 1, 5]),
        (("runnable", RUN, "ejecting", "ejected", "runnable"), [None], [0, 1, 4]),
        (("runnable", RUN, "cancelled"), [None], [0, 1, 9]),
        (("runnable", "cancelled"), [], [0, 9]),
        (("runnable", RUN, "pausing", "paused", "resuming", "running"), [0], [0, 1, 10, 11]),
        (("runnable", "paused", "queued", "runnable", RUN), [0], [0, 12, 13, 1]),
        (("runnable", "paused", "cancelled"), [], [0, 12, 9]),
        (("runnable", RUN, "abandoned", ("running", "its node is back")), [0], [0, 1, 22, 23]),
        (("runnable", RUN, "abandoned", "runnable"), [None], [0, 1, 22, 4]),
        (("runnable", RUN, "failed"), [None], [0, 1, 9]),
        (("runnable", RUN, "succeeded", ("queued", "rescheduled")), [0], [0, 1, 5, 8]),
        (("runnable", ("attribute", "Setting job attribute A to 1")), [], [0, 33]),
        (("runnable", ("phase", "output"), ("priority changed", "from 0 to 5")), [], [0, 8, 8]),
    ],
)
def test_each_turn_of_a_story_has_its_event(
    events: Any, attempts: list[int | None], expected: list[int]
) -> None:
    runs = [
        attempt(number, "exited" if code is not None else "not started", code)
        for number, code in enumerate(attempts, 1)
    ]
    assert numbers(*events, attempts=runs) == expected


def test_signals_requeues_and_failed_children_say_how_it_ended() -> None:
    killed = log_of(story("runnable", RUN, "failed", attempts=[attempt(1, code=-9)]))
    assert "\t(0) Abnormal termination (signal 9)\n\t(0) No core file\n" in killed
    again = log_of(story("runnable", RUN, "runnable", attempts=[attempt(1, code=3)]))
    assert "(0) Job terminated and was requeued\n" in again
    assert "(return value 3)" in again
    below = log_of(story("queued", ("failed", "1 of its 2 children failed")))
    assert "(return value 1)" in below


def test_several_jobs_are_told_in_the_order_of_time_under_their_root() -> None:
    root, child = (
        story("queued", "succeeded"),
        story("runnable", RUN, job=13, attempts=[attempt(1)]),
    )
    heads = [line[:17] for line in log_of(root, child).splitlines() if line[:1] == "0"]
    assert heads == [
        "000 (012.000.000)", "000 (012.013.000)", "005 (012.000.000)", "001 (012.013.000)",
    ]  # fmt: skip


def test_a_text_stays_on_its_line_and_within_what_readers_take() -> None:
    body = log_of(story("runnable", ("ulog", "...\n...\r\n001 (1.0.0) " + "é" * 1000)))
    assert len([line for line in body.splitlines() if line == "..."]) == 2
    assert max(len(line.encode()) for line in body.splitlines()) in (1022, 1023)


# --- read by HTCondor itself ------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader() -> Any:
    """HTCondor's event log reader, from its own wheel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDOR_CONFIG", "ONLY_ENV")
        import htcondor2

        yield htcondor2.JobEventLog


def read(reader: Any, log: str, file: Path) -> list[dict[str, Any]]:
    file.write_text(log)
    return [dict(event.items()) for event in reader(str(file)).events(stop_after=0)]


def test_htcondor_reads_every_event_that_we_write(reader: Any, tmp_path: Path) -> None:
    long_text = "x" * 5000
    told = story(
        "runnable",
        "paused",
        "queued",
        "runnable",
        RUN,
        ("attribute", 'Setting job attribute Scene to "a b"'),
        ("attribute", 'Changing job attribute Scene from "a b" to "c"'),
        ("ulog", "frame 7: 'done' & dusted?"),
        ("ulog", long_text),
        ("phase", "output"),
        "pausing",
        "paused",
        "resuming",
        "running",
        ("abandoned", "box is silent"),
        ("running", "its node is back"),
        ("runnable", "its command ended with exit status 3; trying again"),
        RUN,
        "ejecting",
        "ejected",
        ("runnable", "to run again: ejected"),
        RUN,
        ("failed", "its command was ended by signal 9"),
        ("queued", "rescheduled"),
        "runnable",
        "cancelled",
        attempts=[attempt(1, code=3), attempt(2, "ejected", None), attempt(3, code=-9)],
    )
    other = story("queued", ("failed", "1 of its 1 children failed"), job=1, cluster=1)
    log = log_of(told, other)
    found = read(reader, log, tmp_path / "log")
    kinds = [int(block[:3]) for block in log.split("...\n") if block]
    assert [event["EventTypeNumber"] for event in found] == kinds
    assert set(kinds) == {0, 1, 4, 5, 8, 9, 10, 11, 12, 13, 22, 23, 33}
    by_kind: dict[int, list[dict[str, Any]]] = {}
    for event in found:
        by_kind.setdefault(event["EventTypeNumber"], []).append(event)
    assert {event["Cluster"] for event in found} == {1, 12}
    assert by_kind[0][0]["SubmitHost"] == "<farm:5000>"
    assert [event["ExecuteHost"] for event in by_kind[1]] == ["<box>", "<far>", "<node3>"]
    assert by_kind[8][0]["Info"] == "frame 7: 'done' & dusted?"
    head = "008 (012.000.000) 2026-05-01 00:00:08 "
    assert by_kind[8][1]["Info"] == long_text[: 1023 - len(head)]
    # HTCondor's reader does not understand its own "Setting"; that it is an event 033 it sees.
    assert [event["Attribute"] for event in by_kind[33]] == ["", "Scene"]
    assert [event["TerminatedAndRequeued"] for event in by_kind[4]] == [True, False]
    assert by_kind[4][0]["ReturnValue"] == 3
    assert by_kind[4][1]["Reason"] == "to run again: ejected"
    assert [event.get("ReturnValue") for event in by_kind[5]] == [1, None]
    assert by_kind[5][1]["TerminatedBySignal"] == 9
    assert by_kind[9][0]["Reason"] == "cancelled"
    assert by_kind[22][0]["DisconnectReason"] == "box is silent"
