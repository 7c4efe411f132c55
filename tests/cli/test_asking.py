"""The client commands: what they ask, what they print, and their exit codes."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from typing import Any

import pytest

from roost import ranges
from roost.cli import tables
from roost.cli.asking import compact
from roost.cli.tables import duration
from roost.cli.watching import exit_code
from roost.wire import rest


def test_the_farm_is_named_by_option_or_environment_or_default(
    farm: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("jobs")
    assert farm.url == "http://127.0.0.1:5000"
    monkeypatch.setenv("ROOST_SERVER", "http://b:1")
    run("jobs")
    assert farm.url == "http://b:1"
    run("jobs", "--server", "http://c:1")
    assert farm.url == "http://c:1"


def test_a_list_without_a_terminal_is_tabs_and_nothing_cut(farm: Any, run: Any, known: Any) -> None:
    farm.known = {3: known(3, name="a\tlong [bold]name" * 9)}
    code, out, _ = run("jobs")
    header, row = out.splitlines()
    assert code == 0
    assert header.split("\t")[:3] == ["ID", "NAME", "STATUS"]
    assert row.split("\t")[:3] == ["3", "a long [bold]name" * 9, "running"]


@pytest.mark.parametrize(
    ("width", "name"),
    [("120", "a long [name] of a shot"), ("80", "a long [name] of a s…"), ("40", "a long [nam…")],
)
def test_a_list_on_a_terminal_has_a_line_for_each_and_cuts_names_alone(
    farm: Any, run: Any, known: Any, monkeypatch: pytest.MonkeyPatch, width: str, name: str
) -> None:
    farm.known = {3: known(3, name="a long [name] of a shot")}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for variable, value in {"COLUMNS": width, "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(variable, value)
    heads, _, row = re.sub(r"\x1b\[[0-9;]*m", "", run("jobs")[1]).splitlines()
    assert heads.split()[:3] == ["ID", "NAME", "STATUS"]
    assert row.split(name)[1].split() == [
        "running",
        "0%",
        "0/1",
        "0",
        *tables.moment(1_000).split(),
    ]


def test_no_status_and_no_name_makes_two_lines_of_one(
    farm: Any, run: Any, known: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.known = {3: known(3, name="two\nlines", ui_status="waiting for resources")}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for variable, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(variable, value)
    *_, row = re.sub(r"\x1b\[[0-9;]*m", "", run("jobs")[1]).splitlines()
    assert row.startswith(" 3  two lines  waiting for") and len(row) <= 80


def test_a_list_as_json_has_the_keys_of_the_api(farm: Any, run: Any, known: Any) -> None:
    farm.known = {3: known(3)}
    document = json.loads(run("jobs", "--json")[1])
    assert set(document) == {"jobs", "next"}
    assert {"id", "name", "status", "ui_status", "overall_progress"} <= set(document["jobs"][0])


def test_filters_reach_the_farm(farm: Any, run: Any, known: Any) -> None:
    run("jobs", "--status", "failed", "--status", "running", "--name", "x", "--limit", "7")
    assert farm.listed == {
        "statuses": ("failed", "running"),
        "roots_only": True,
        "parent": None,
        "name_contains": "x",
        "limit": 7,
    }
    farm.known = {3: known(3)}
    run("jobs", "--parent", "3")
    assert (farm.listed["roots_only"], farm.listed["parent"]) == (False, 3)


def test_children_of_an_unknown_job_are_not_none(farm: Any, run: Any) -> None:
    assert run("jobs", "--parent", "9") == (4, "", "roost: There is no job 9.\n")


def test_a_job_shows_attempts_story_and_children(farm: Any, run: Any, known: Any) -> None:
    attempt = rest.JobAttempt(
        number=1,
        purpose="command",
        nodes=[1],
        assigned_at=0,
        started_at=0,
        ended_at=1500,
        cause="exited",
        exit_code=3,
        text="",
    )
    event = rest.JobEvent(at=0, status="failed", message="exit code 3")
    farm.known = {3: known(3, "failed", attempts=[attempt], events=[event], children=[4, 5, 6])}
    code, out, _ = run("job", "3")
    assert code == 0
    for text in ("job 3", "failed", "tiny:a", "1.5s", "exited\t3", "exit code 3", "4-6"):
        assert text in out
    assert json.loads(run("job", "3", "--json")[1])["attempts"][0]["exit_code"] == 3


def test_output_is_printed_byte_for_byte(
    farm: Any, known: Any, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from roost.cli import main

    farm.known, farm.log = {3: known(3)}, b"\xff\x1b[31mred\n\x00end"
    assert main(["output", "3"]) == 0
    assert main(["output", "3", "-f"]) == 0
    assert main(["output", "3", "--last", "3"]) == 0
    assert capfdbinary.readouterr().out == farm.log * 2 + b"end"


def test_output_as_json_is_text(farm: Any, run: Any, known: Any) -> None:
    farm.known, farm.log = {3: known(3)}, b"a\xff"
    assert json.loads(run("output", "3", "--json")[1]) == {"id": 3, "output": "a\ufffd"}
    assert run("output", "3", "--json", "-f")[0] == 2


def test_output_has_the_time_before_each_line_if_wanted(farm: Any, run: Any, known: Any) -> None:
    farm.known = {3: known(3)}
    untimed, timed = run("output", "3", "--timestamps")[1].splitlines()
    assert untimed == "- one"
    moment, text = timed.split()
    assert (datetime.fromisoformat(moment).timestamp(), text) == (1_700_000_000, "two")
    assert farm.listed == {"follow": False}
    assert run("output", "3", "-t", "-f")[0] == 0 and farm.listed == {"follow": True}
    lines = json.loads(run("output", "3", "-t", "--json")[1])["lines"]
    assert lines[1] == {"arrived_at": 1_700_000_000_000, "text": "two"}
    assert run("output", "3", "-t", "--last", "9")[0] == 2


def test_why_tells_every_reason_and_its_nodes(farm: Any, run: Any, known: Any) -> None:
    reasons = [rest.JobReason("Too few CPUs.", [1]), rest.JobReason("No node.", [])]
    farm.known = {3: known(3, "runnable", reasons=reasons), 4: known(4)}
    assert run("why", "3")[1] == "Too few CPUs. (tiny:a)\nNo node.\n"
    assert run("why", "4")[1] == "Job 4 waits for nothing; its status is running.\n"
    assert json.loads(run("why", "3", "--json")[1]) == {
        "id": 3,
        "status": "runnable",
        "reasons": [
            {"text": "Too few CPUs.", "nodes": [1]},
            {"text": "No node.", "nodes": []},
        ],
    }


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "reschedule", "eject", "delete"])
def test_actions_take_ids_and_ranges(farm: Any, run: Any, known: Any, action: str) -> None:
    farm.known = {number: known(number) for number in range(1, 10)}
    code, out, err = run(action, "3", "5-7", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "action": action,
        "ids": [3, 5, 6, 7],
        "applied": [3, 5, 6, 7],
        "skipped": [],
        "undo": "",
    }
    assert farm.acted == [(action, [3, 5, 6, 7])]


def test_an_action_on_an_unknown_job_does_nothing(farm: Any, run: Any, known: Any) -> None:
    farm.known = {3: known(3)}
    code, out, err = run("cancel", "3", "99")
    assert (code, out, err) == (4, "", "roost: There is no job 99.\n")
    assert farm.acted == []


def test_an_action_says_what_it_left_out_and_how_it_is_undone(
    farm: Any, run: Any, known: Any
) -> None:
    farm.known = {number: known(number) for number in (3, 4)}
    farm.known[7] = known(7, "failed")
    farm.token = "5ead"
    assert run("pause", "3,4,7")[2] == (
        "Paused 2 jobs; roost undo 5ead takes it back.\n"
        "Job 7 was left out: its status does not allow it.\n"
    )
    assert run("priority", "5", "3")[2] == (
        "Priority 5 for job 3; roost undo 5ead takes it back.\n"
    )
    for arguments in (["nodes", "drain", "1"], ["groups", "add", "fast", "1"]):
        assert run(*arguments)[2].endswith("; roost undo 5ead takes it back.\n")
    farm.known = {number: known(number, "succeeded") for number in (3, 4)}
    assert run("pause", "3-4")[2] == "Jobs 3-4 were left out: their status does not allow it.\n"


def test_only_what_failed_is_rescheduled_where_that_is_wanted(
    farm: Any, run: Any, known: Any
) -> None:
    farm.known = {3: known(3), 4: known(4, "succeeded")}
    assert json.loads(run("reschedule", "--failed", "3", "--json")[1])["applied"] == [3]
    assert farm.acted == [("reschedule_failed", [3])]
    assert run("reschedule", "--failed", "3-4")[2] == (
        "Rescheduled job 3.\nJob 4 was left out: nothing there has failed.\n"
    )
    assert run("eject", "4")[2] == "Job 4 was left out: nothing there is on a machine.\n"


def test_of_many_ids_some_may_be_no_jobs(farm: Any, run: Any, known: Any) -> None:
    farm.known = {number: known(number, "succeeded") for number in range(1, 201)}
    assert run("pause", "1-200")[2] == (
        "Jobs 1-200 were left out: their status does not allow it, or there is no such job.\n"
    )


def test_what_was_done_is_undone_and_that_as_well(farm: Any, run: Any) -> None:
    farm.token = "5ead"
    code, out, err = run("undo", "5ead")
    assert (code, out) == (0, "")
    assert err == "Undone: 2 jobs and machine 1 as before. roost undo again does it again.\n"
    assert json.loads(run("undo", "5ead", "--json")[1])["jobs"] == [3, 5]
    assert run("undo", "old")[0] == 4


def test_waiting_for_several_ends_with_the_worst(farm: Any, run: Any, standing: Any) -> None:
    farm.changes = [standing(1, "cancelled"), standing(2, "failed"), standing(3, "succeeded")]
    code, out, _ = run("wait", "1-3", "--json")
    assert code == 1
    assert json.loads(out) == {"statuses": {"1": "cancelled", "2": "failed", "3": "succeeded"}}


def test_many_jobs_that_ended_are_counted(farm: Any, run: Any, standing: Any) -> None:
    farm.changes = [standing(n, "failed" if n > 21 else "succeeded") for n in range(1, 24)]
    code, _, err = run("wait", "1-23")
    assert code == 1
    assert err.splitlines()[-2:] == [
        "23 jobs: 21 succeeded, 2 failed.",
        "The first that failed: roost job 22",
    ]


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 0),
        (["succeeded"], 0),
        (["succeeded", "cancelled"], 3),
        (["cancelled", "failed"], 1),
        (["something new"], 1),
    ],
)
def test_fates(statuses: list[str], code: int) -> None:
    assert exit_code(statuses) == code


def test_a_farm_that_does_not_answer_is_one_sentence(farm: Any, run: Any) -> None:
    farm.down = True
    assert run("jobs") == (6, "", "roost: Nothing answers at http://127.0.0.1:5000.\n")


def test_a_number_is_called_one(run: Any) -> None:
    code, _, err = run("job", "3-5")
    assert code == 2 and "'3-5' is not a valid whole number." in err


def test_a_server_that_is_away_for_longer_is_told_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    wait = tables.patience("http://a:1")
    for seconds in (0.1, 0.3):
        wait(seconds)
    assert capsys.readouterr().err == ""
    for seconds in (1.0, 3.0, 5.0):
        wait(seconds)
    assert capsys.readouterr().err.count("http://a:1 does not answer; trying again") == 1
    assert slept == [0.1, 0.3, 1.0, 3.0, 5.0]


def test_the_help_lists_each_command_in_one_section(run: Any) -> None:
    from roost.cli import SECTIONS, cli

    listed = [name for names in SECTIONS.values() for name in names.split()]
    assert sorted(listed) == sorted(cli.commands)
    assert all(f"\n  {name} " in run("--help")[1] for name in listed)


@pytest.mark.parametrize("group", [[], ["nodes"], ["groups"], ["resources"], ["notes"]])
def test_no_command_is_told_of_in_half_a_sentence(run: Any, group: list[str]) -> None:
    listed = run(*group, "--help")[1].partition("Commands:")[2] or run("--help")[1]
    assert "..." not in listed.replace("[ARGS]...", "")


def test_statuses_are_completed() -> None:
    from click.shell_completion import ShellComplete

    from roost.cli import cli

    found = ShellComplete(cli, {}, "roost", "_ROOST_COMPLETE")
    completions = found.get_completions(["jobs", "--status"], "runn")
    assert [one.value for one in completions] == ["runnable", "running"]


def test_an_unknown_command_is_answered_with_the_nearest(run: Any) -> None:
    code, out, err = run("cancle", "3")
    assert (code, out) == (2, "")
    assert "cancel" in err


@pytest.mark.parametrize(
    "arguments",
    [["job"], ["job", "x"], ["job", "0"], ["cancel"], ["cancel", "x"], ["jobs", "--limit", "0"]],
)
def test_wrong_usage_ends_with_2(farm: Any, run: Any, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(run: Any, shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_ROOST_COMPLETE" in out


def test_help_and_version_succeed(run: Any) -> None:
    assert run("--help")[0] == 0
    assert run("submit", "--help")[0] == 0
    assert "roost" in run("--version")[1]


def test_ids_in_short_can_be_read_again() -> None:
    ids = [1, 2, 3, 7, 9, 10]
    assert compact(ids) == "1-3, 7, 9-10"
    assert ranges.parse(compact(ids)) == ids


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0.0s"),
        (1_500, "1.5s"),
        (61_000, "1m 01s"),
        (3_660_000, "1h 01m"),
        (90_000_000, "1d 01h"),
    ],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert duration(0, milliseconds) == text


def test_importing_the_command_is_quick() -> None:
    """It may bring in nothing that only one command needs."""
    import subprocess
    import sys

    script = "import sys, roost.cli; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    heavy = {"asyncio", "httpx2", "rich", "sqlalchemy", "starlette", "structlog", "uvicorn"}
    assert heavy.isdisjoint(loaded)
