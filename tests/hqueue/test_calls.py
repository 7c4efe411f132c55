"""Every method through bytes: what the API page and the decisions say, values and types."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import xmlrpc.client
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette

import roost
from roost.core.matching import Hosts
from roost.core.messages import (
    AddNote,
    AddToGroup,
    CancelJobs,
    CreateGroup,
    DeleteGroup,
    DeleteJobs,
    EjectJobs,
    PauseJobs,
    RemoveFromGroup,
    RemoveNotes,
    RemoveThreads,
    RescheduleJobs,
    ResumeJobs,
    SetBlockedWarning,
    SetConditions,
    SetNodesDisabled,
    SetPriority,
    SubmitJobs,
)
from roost.core.records import (
    Attempt,
    AttemptCause,
    AvailabilityRule,
    Condition,
    Group,
    JobId,
    JobStatus,
    Moment,
    Note,
)
from roost.errors import Conflict, Unavailable
from roost.gateway import Part, ThreadView
from roost.hqueue import clients, dispatch, jobs

NOW_TEXT = "20251009T08:53:20"
XML = {"content-type": "text/xml"}

Caller = Callable[..., Awaitable[Any]]


@pytest.fixture
def http(farm: Any) -> httpx2.AsyncClient:
    app = dispatch.Endpoint(farm, Starlette(), body_bytes_max=200_000)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://farm")


@pytest.fixture
def call(http: httpx2.AsyncClient) -> Caller:
    async def call(method: str, *params: object) -> Any:
        body = xmlrpc.client.dumps(params, method, allow_none=True).encode()
        answer = await http.post("/RPC2", content=body, headers=XML)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/xml")
        (value,), _ = xmlrpc.client.loads(answer.text)
        return value

    return call


async def fault(call: Caller, *arguments: object) -> tuple[int, str]:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        await call(*arguments)
    return caught.value.faultCode, caught.value.faultString


# --- server --------------------------------------------------------------------------------------


async def test_server_methods(call: Caller) -> None:
    assert await call("ping") is True
    assert await call("getVersion") == roost.__version__
    assert (await call("getServerTime")).value == NOW_TEXT
    assert await call("getConfig", "port") == "5000"
    assert await call("getConfig", "nothing") is None


async def test_name_lists(call: Caller) -> None:
    lists = {
        "getAllJobStatusNames": [status.value for status in JobStatus],
        "getSucceededStatusNames": ["succeeded"],
        "getFailedJobStatusNames": ["failed", "cancelled", "abandoned"],
        "getFinishedJobStatusNames": ["ejected", "succeeded", "failed", "cancelled", "abandoned"],
        "getRunningJobStatusNames": ["running", "pausing", "resuming"],
        "getPausedJobStatusNames": ["paused"],
        "getWaitingJobStatusNames": ["runnable", "waiting"],
        "getStartedJobEventNames": ["running"],
        "getRescheduledEventNames": ["rescheduled"],
        "getResumedEventNames": ["resumed"],
        "getPriorityChangedEventNames": ["priority changed"],
    }
    for name, expected in lists.items():
        assert await call(name) == expected
    finished = set(lists["getFinishedJobStatusNames"])
    assert set(await call("getUnfinishedJobStatusNames")) == set(JobStatus) - finished


# --- asking about jobs ---------------------------------------------------------------------------


async def test_a_job_has_every_attribute_in_its_type(farm: Any, call: Caller) -> None:
    farm.add_node(1, "render1", "gpu")
    farm.add_rich_job(7)
    job = await call("getJob", 7)
    times = {
        name: job.pop(name).value
        for name in ("queueTime", "startTime", "runnableTime", "commandStartTime")
    }
    (log,) = job.pop("logs")
    gone = {"hostname": "", "name": "", "label": "", "ip": ""}
    assert job == {
        "children": [8, 9],
        "clients": [
            {
                "id": 1,
                "hostname": "render1",
                "name": "gpu",
                "label": "render1:gpu",
                "ip": "10.0.0.1",
            },
            {"id": 99, **gone},
        ],
        "clientsOnHold": [{"id": 2, **gone}],
        "conditions": [{"type": "client", "name": "hostname", "op": "in", "value": "a,b"}],
        "endTime": None,
        "ETA": 10,
        "id": 7,
        "latestNote": "",
        "name": "comp",
        "overallProgress": 0.75,
        "parents": [3],
        "priority": 5,
        "progress": 0.25,
        "resources": {"licence": 2},
        "showBlockedClientsWarning": False,
        "status": "running",
        "tags": ["single"],
        "threadId": None,
        "triesLeft": 1,
        "uiStatus": "running",
        "waitingFor": "No node is free. It is late.",
        "cpus": 4,
        "submittedBy": "ann",
        "description": "night run",
        "command": {"linux": "render", "windows": "render.exe"},
        "shell": "bash",
        "environment": {"SHOT": "a<b>&c"},
        "minHosts": 1,
        "maxHosts": 1,
        "maxTime": 90,
        "commandEndTime": None,
        "attributes": {"Loss": 0.5, "Stage": "a b", "Twice": {"expr": "Loss * 2"}},
        "submitDir": "",
    }
    assert times["queueTime"] == "20251009T08:52:20"
    assert times["startTime"] == times["commandStartTime"] == "20251009T08:52:50"
    assert log.pop("date").value == "20251009T08:52:20"
    assert log == {"status": "runnable", "message": "submitted"}
    assert type(job["ETA"]) is int
    assert type(job["progress"]) is float


async def test_a_plain_job_has_the_documented_nothings(farm: Any, call: Caller) -> None:
    farm.add_job(1)
    job = await call("getJob", "1", None)
    for name, nothing in {
        "resources": None, "threadId": None, "endTime": None, "startTime": None, "ETA": -1,
        "waitingFor": "", "latestNote": "", "conditions": [], "clients": [], "progress": 0.0,
    }.items():  # fmt: skip
        assert job[name] == nothing
    assert type(job["progress"]) is float


@pytest.mark.parametrize(
    "attribs", [["status"], ["uiStatus", "overallProgress", "ETA", "name", "progress"]]
)
async def test_cheap_attributes_fetch_no_part(farm: Any, call: Caller, attribs: list[str]) -> None:
    farm.add_rich_job(7)
    assert list(await call("getJob", 7, attribs)) == attribs
    assert farm.parts_asked == [frozenset()]


async def test_attributes_not_known_are_left_out(farm: Any, call: Caller) -> None:
    farm.add_rich_job(7)
    assert await call("getJob", 7, ["cpus", "tags", "colour"]) == {"cpus": 4, "tags": ["single"]}


async def test_jobs_come_in_the_order_asked_for_without_unknown_ones(
    farm: Any, call: Caller
) -> None:
    farm.add_job(1)
    farm.add_job(2)
    rows = await call("getJobs", [2, 5, "1"], ["id"])
    assert rows == [{"id": 2}, {"id": 1}]
    assert await call("getJobs", []) == []


async def test_many_jobs_are_answered_whole(farm: Any, call: Caller) -> None:
    for job_id in range(1, 301):
        farm.add_job(job_id)
    rows = await call("getJobs", list(range(1, 301)))
    assert [row["id"] for row in rows] == list(range(1, 301))
    assert set(rows[0]) == set(jobs.ATTRIBUTES)


async def test_unknown_job_is_a_fault_or_the_documented_nothing(call: Caller) -> None:
    for method in ("getJob", "getstatus", "getJobOutput"):
        code, text = await fault(call, method, 7)
        assert code == 404
        assert "no job 7" in text
    assert await call("getinfo", 7) == {}


async def test_attributes_cost_only_when_they_are_asked_for(farm: Any, call: Caller) -> None:
    farm.add_rich_job(7)
    (one,) = await call("getJobs", [7], ["attributes"])
    assert one == {"attributes": {"Loss": 0.5, "Stage": "a b", "Twice": {"expr": "Loss * 2"}}}
    await call("getJobs", [7], ["name", "status"])
    assert farm.parts_asked == [{Part.ATTRIBUTES}, set()]


async def test_attributes_and_submit_dir_are_keys_of_a_specification(
    farm: Any, call: Caller
) -> None:
    values = {"Num": 3, "Text": "a b", "Sum": {"expr": "Num + 1"}, "Is_": True, "No": None}
    await call("newjob", {"name": "a", "attributes": values, "submitDir": "/shots/a/"})
    spec = farm.asked[-1].jobs[0].spec
    assert spec.submit_dir == "/shots/a"
    assert spec.attributes == {
        "Num": "3", "Text": '"a b"', "Sum": "Num + 1", "Is_": "true", "No": "UNDEFINED",
    }  # fmt: skip


async def test_getinfo_can_be_submitted_again(farm: Any, call: Caller) -> None:
    farm.add_rich_job(7)
    info = await call("getinfo", "7")
    assert info["parents"] == [3]
    assert info["cleanup"] == ""
    assert info["submittedBy"] == "ann"
    assert set(jobs.ATTRIBUTES) <= set(info)
    spec = {"name": "again", "conditions": info["conditions"], "priority": info["priority"]}
    (new_id,) = await call("newjob", spec)
    assert farm.views[new_id].job.spec.conditions == farm.views[7].conditions


async def test_status_ids(farm: Any, call: Caller) -> None:
    for job_id, status in enumerate(
        ("runnable", "running", "pausing", "succeeded", "abandoned", "failed"), 1
    ):
        farm.add_job(job_id, status, parents=(1,) if status == "failed" else ())
    assert await call("getstatus", 2) == "running"
    assert await call("getJobIdsByStatus", ["waiting"]) == [1]
    assert await call("getJobIdsByStatus", ["running", "failed"]) == [2, 6]
    assert await call("getJobIdsBySatus", ["running", "failed"]) == [2, 6]
    assert await call("getRunningJobIds") == [2, 3]
    assert await call("getFinishedRootJobIds") == [4, 5]
    assert await call("getUnfinishedRootJobIds") == [1, 2, 3]
    code, text = await fault(call, "getJobIdsByStatus", ["lazy"])
    assert (code, "lazy" in text) == (400, True)


async def test_waiting_jobs_are_counted_by_minutes_and_priority(farm: Any, call: Caller) -> None:
    assert await call("getNumWaitingJobs") == 3
    assert farm.waiting_asked == (farm.now(), None, None)
    await call("getNumWaitingJobs", 10, 0, 5)
    assert farm.waiting_asked == (farm.now() - 600_000, 0, 5)
    await call("getNumWaitingJobs", 0.5, -1, -1)
    assert farm.waiting_asked == (farm.now() - 30_000, None, None)
    await call("getNumWaitingJobs", 2.0**52)
    assert farm.waiting_asked == (0, None, None)


async def test_output_survives_rubbish_and_counts_characters(farm: Any, call: Caller) -> None:
    farm.add_job(1)
    farm.logs[1] = b"\x1b[0mred\0 \xff " + "äöü€".encode()
    assert await call("getJobOutput", 1) == "\ufffd[0mred\ufffd \ufffd äöü€"
    assert await call("getJobOutput", 1, 2) == "ü€"
    assert await call("getJobOutput", 1, 0) == await call("getJobOutput", 1, None)
    farm.logs[1] = b"x" * 300_000
    assert len(await call("getJobOutput", 1)) == 300_000


# --- submitting and acting -----------------------------------------------------------------------


async def test_newjob_takes_every_documented_form(farm: Any, call: Caller) -> None:
    nested = {"name": "a", "children": [{"name": "b"}, {"name": "c"}]}
    assert await call("newjob", nested) == [1, 2, 3]
    assert await call("newjob", [{"name": "d"}, {"name": "e"}]) == [4, 5]
    assert await call("newjob", json.dumps(nested)) == [6, 7, 8]
    assert await call("newjob", xmlrpc.client.Binary(json.dumps([nested]).encode())) == [9, 10, 11]
    assert await call("newjob", {"name": "f"}, "3") == [12]
    assert farm.asked[-1].jobs[0].parent_ids == (3,)
    assert await call("newjob", {"name": "g"}, None, [4, "5"]) == [13]
    assert farm.asked[-1].jobs[0].child_ids == (4, 5)
    many = {"name": "m", "children": [{"name": f"frame {i}"} for i in range(1500)]}
    assert len(await call("newjob", json.dumps(many))) == 1501


async def test_a_bad_specification_creates_nothing(farm: Any, call: Caller) -> None:
    code, text = await fault(call, "newjob", {"name": "a", "cpus": "many"})
    assert code == 400
    assert text == 'job "a": cpus must be a whole number, not "many".'
    assert farm.asked == []


async def test_runcmd_returns_one_id(farm: Any, call: Caller) -> None:
    assert await call("runcmd", "ls -l") == 1
    assert farm.views[1].job.spec.command == "ls -l"


async def test_actions_return_none(farm: Any, call: Caller) -> None:
    for name, command in {
        "cancelJobs": CancelJobs,
        "pauseJobs": PauseJobs,
        "resumeJobs": ResumeJobs,
        "rescheduleJobs": RescheduleJobs,
        "deleteJobs": DeleteJobs,
        "ejectJobs": EjectJobs,
    }.items():
        assert await call(name, [1, "2", 77]) is None
        assert farm.asked[-1] == command((1, 2, 77))
    assert await call("ejectJobFromClient", 5) is None
    assert farm.asked[-1] == EjectJobs((5,))
    assert await call("setJobPriority", [1], -4) is None
    assert farm.asked[-1] == SetPriority((1,), 0)


# --- clients -------------------------------------------------------------------------------------


@pytest.fixture
def nodes(farm: Any) -> None:
    farm.add_node(1, "render1")
    farm.add_node(2, "render1", "gpu", disabled=True)
    farm.add_node(3, "render3.farm.net", "only")


async def availability_rules(farm: Any, call: Caller, *rules: AvailabilityRule) -> Any:
    farm.add_node(5, "desk", availability=rules, utc_offset_minutes=120)
    return (await call("getClient", 5, ["availabilityRules"]))["availabilityRules"]


async def test_a_client_without_rules_shows_one_for_any_time(farm: Any, call: Caller) -> None:
    assert await availability_rules(farm, call) == [
        {
            "id": 0, "type": "time", "enabled": True, "day": "any", "anytime": True,
            "startHour": 0, "startMinute": 0, "endHour": 24, "endMinute": 0,
            "localStartHour": 0, "localStartMinute": 0, "localEndHour": 24, "localEndMinute": 0,
            "idleMinutes": 0,
        }
    ]  # fmt: skip


async def test_availability_rules_are_told_in_utc_and_in_local_time(
    farm: Any, call: Caller
) -> None:
    night, evening, idle = await availability_rules(
        farm,
        call,
        AvailabilityRule(3, day="weekdays", start=20 * 60 + 30, end=60),
        AvailabilityRule(4, enabled=False, day="friday", start=20 * 60),
        AvailabilityRule(7, "idle", idle_minutes=15),
    )
    assert night == {
        "id": 3, "type": "time", "enabled": True, "day": "weekdays", "anytime": False,
        "startHour": 18, "startMinute": 30, "endHour": 23, "endMinute": 0,
        "localStartHour": 20, "localStartMinute": 30, "localEndHour": 1, "localEndMinute": 0,
        "idleMinutes": 0,
    }  # fmt: skip
    assert (evening["enabled"], evening["localEndHour"], evening["endHour"]) == (False, 24, 22)
    assert (idle["type"], idle["idleMinutes"], idle["anytime"]) == ("idle", 15, False)


@pytest.mark.usefixtures("nodes")
async def test_a_client_has_every_attribute_in_its_type(call: Caller) -> None:
    client = await call("getClient", 2)
    assert client.pop("lastHeartbeat").value == "20251009T08:53:15"
    (rule,) = client.pop("availabilityRules")
    assert rule["anytime"] is True
    assert client == {
        "available": False,
        "cpus": 8,
        "cpuSpeed": 3000,
        "description": "",
        "disabled": True,
        "groups": [4],
        "hostname": "render1",
        "id": 2,
        "idleTime": -1,
        "ip": "10.0.0.2",
        "label": "render1:gpu",
        "latestNote": "",
        "load": 0.5,
        "memory": 2 * 1024**3,
        "name": "gpu",
        "needsUpgrade": False,
        "platform": "linux-x86_64",
        "runningJobs": [7],
        "threadId": None,
        "version": "abc",
    }


@pytest.mark.usefixtures("nodes")
async def test_clients_are_found_by_id_and_by_name(call: Caller) -> None:
    only_id = ["id"]
    assert await call("getClients", None, only_id) == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert len(await call("getClients")) == 3
    assert await call("getClients", []) == []
    assert await call("getClients", [3, 9, 1], only_id) == [{"id": 3}, {"id": 1}]
    assert await call("getClient", 9) == {}
    for name, expected in {
        "render1": {"id": 1},
        "RENDER1": {"id": 1},
        "render1:": {"id": 1},
        "render1:gpu": {"id": 2},
        "render3": {"id": 3},
        "render3.farm.net:only": {"id": 3},
        "render3:": {},
        "nobody": {},
    }.items():
        assert await call("getClientByName", name, only_id) == expected
        assert await call("getClientByHostname", name, only_id) == expected
    by_name = await call("getClientsByName", ["render1:gpu", "nobody", "render3"], only_id)
    assert by_name == [{"id": 2}, {"id": 3}]
    assert await call("getClientsByHostname", ["render3"], only_id) == [{"id": 3}]


async def test_many_clients_are_not_each_compared_with_all_names(
    farm: Any, call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 100
    for number in range(count):
        farm.add_node(number, f"render{number:03}.farm.net")
    compared = 0

    class Counting(Hosts):
        def __contains__(self, name: str) -> bool:
            nonlocal compared
            compared += 1
            return super().__contains__(name)

    monkeypatch.setattr(clients, "Hosts", Counting)
    found = await call("getClientsByName", [f"RENDER{n:03}" for n in range(count)], ["id"])
    assert [each["id"] for each in found] == list(range(count))
    assert compared == count


@pytest.mark.usefixtures("nodes")
async def test_setdisabled_is_true_or_none(farm: Any, call: Caller) -> None:
    assert await call("setdisabled", "nohost", True) is None
    assert farm.asked == []
    assert await call("setdisabled", "render1:gpu", False) is True
    assert farm.asked == [SetNodesDisabled((2,), False)]


# --- a client's past, and what went wrong --------------------------------------------------------


@pytest.mark.usefixtures("nodes")
async def test_what_a_client_ran_and_runs(farm: Any, call: Caller) -> None:
    farm.history = {1: [9, 8, 7, 6, 5, 4]}
    assert await call("getJobHistory", 1) == [9, 8, 7, 6, 5]
    assert await call("getJobHistory", 1, 2) == [9, 8]
    assert await call("getJobHistory", 99) == []
    assert await call("getJobIdsAssignedToClient", 1) == [7]
    assert await call("getJobIdsAssignedToClient", 99) == []


async def test_client_errors_are_runs_that_could_not_start(farm: Any, call: Caller) -> None:
    assert await call("getClientErrors", 1) == {}
    cause, ended = AttemptCause.NOT_STARTED, farm.now()
    farm.unstarted = {
        1: [
            Attempt(JobId(7), 2, (1,), ended, ended_at=ended, cause=cause, text="no such shell"),
            Attempt(JobId(3), 1, (1,), ended, ended_at=ended, cause=cause, text="no folder"),
        ]
    }
    answer = await call("getClientErrors", 1)
    dates = [error.pop("date").value for error in answer["errors"]]
    assert dates == [NOW_TEXT, NOW_TEXT]
    about = "could not be started:"
    assert answer == {
        "total": 2,
        "errors": [
            {"id": 2, "text": f"Job 7 {about} no such shell", "clientId": 1, "jobId": 7},
            {"id": 1, "text": f"Job 3 {about} no folder", "clientId": 1, "jobId": 3},
        ],
    }


async def test_server_errors_are_bugs_that_calls_met(
    farm: Any, call: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await call("getServerErrors") == {}
    farm.failure = ZeroDivisionError("secret detail")
    _, told = await fault(call, "cancelJobs", [1])
    capsys.readouterr()
    answer = await call("getServerErrors")
    assert answer["errors"][0].pop("date").value == NOW_TEXT
    assert answer == {"total": 1, "errors": [{"id": 1, "text": told, "clientId": None}]}


async def test_a_client_with_another_roost_needs_an_upgrade(farm: Any, call: Caller) -> None:
    farm.add_node(1, "old", needs_upgrade=True)
    farm.add_node(2, "new")
    wanted = ["needsUpgrade"]
    assert await call("getClients", None, wanted) == [
        {"needsUpgrade": True},
        {"needsUpgrade": False},
    ]


# --- network folders -----------------------------------------------------------------------------

SHARED = "hqserver.sharedNetwork"


async def test_hqroot_is_none_until_it_is_configured(call: Caller) -> None:
    for platform in ("linux", "windows", "macosx", "macos", ""):
        assert await call("getHQRoot", platform) is None
    assert await call("getNetworkFolders") == []


async def test_hqroot_as_each_platform_sees_it(farm: Any, call: Caller) -> None:
    farm.settings = {
        f"{SHARED}.mount.linux": "/mnt/hq",
        f"{SHARED}.mount.windows": "H:",
        f"{SHARED}.mount.macosx": "/Volumes/HQShared",
    }
    assert await call("getHQRoot", "linux") == "/mnt/hq"
    assert await call("getEnvRoot", "macosx") == "/Volumes/HQShared"
    assert await call("getHQRoot", "macos") is None
    assert await call("getHQRoot", "windows") == "H:"
    farm.settings |= {f"{SHARED}.host": "files", f"{SHARED}.path.windows": "hq"}
    assert await call("getHQRoot", "windows") == r"\\files\hq"
    assert await call("getHQRoot", "windows", False) == "H:"
    assert await call("getHQRoot", "linux", False) == "/mnt/hq"
    farm.settings |= {f"{SHARED}.path.windows": "//nas/hq"}
    assert await call("getHQRoot", "windows", True) == r"\\nas\hq"
    assert await call("getNetworkFolders") == [
        {"name": "HQROOT", "linux": "/mnt/hq", "windows": "H:", "macosx": "/Volumes/HQShared"}
    ]


# --- permitted clients ---------------------------------------------------------------------------


@pytest.mark.usefixtures("nodes", "groups")
async def test_permitted_clients_are_those_that_pass_the_conditions(
    farm: Any, call: Caller
) -> None:
    farm.add_job(1)
    farm.add_job(2, conditions=(Condition("hostname", "in", "RENDER1"),))
    farm.add_job(3, conditions=(Condition("group", "==", "fast"), Condition("os", "==", "linux")))
    farm.add_job(4, conditions=(Condition("hostname", "in", ""),))
    everybody = await call("getPermittedClientsList", 1)
    assert everybody == ["render1", "render1:gpu", "render3.farm.net:only"]
    assert await call("getPermittedClientsList", 2) == ["render1", "render1:gpu"]
    assert await call("getPermittedClientList", 3) == ["render1", "render3.farm.net:only"]
    assert await call("getPermittedClientsList", 4) == []
    assert (await fault(call, "getPermittedClientsList", 9))[0] == 404


async def test_saving_permitted_clients_replaces_all_conditions(farm: Any, call: Caller) -> None:
    assert await call("savePermittedClientsList", 1, ["a", "b"]) is None
    assert await call("savePermittedClientList", 1, ["a:", "b:x"]) is None
    assert await call("savePermittedClientsList", 1, []) is None
    assert farm.asked == [
        SetConditions(1, (Condition("hostname", "in", "a,b"),)),
        SetConditions(1, (Condition("hostname:name", "in", "a:,b:x"),)),
        SetConditions(1, (Condition("hostname", "in", ""),)),
    ]
    for wrong in ([":x"], "", None, [""], [5]):
        assert (await fault(call, "savePermittedClientsList", 1, wrong))[0] == 400
    assert len(farm.asked) == 3


async def test_the_warning_about_blocked_clients(farm: Any, call: Caller) -> None:
    assert await call("setShowBlockedClientsWarning", 1, True) is None
    assert farm.asked == [SetBlockedWarning(1, True)]
    farm.add_job(1, blocked_warning=True)
    warned = await call("getJob", 1, ["showBlockedClientsWarning"])
    assert warned == {"showBlockedClientsWarning": True}


# --- client groups -------------------------------------------------------------------------------


@pytest.fixture
def groups(farm: Any) -> None:
    farm.group_list = [Group(4, "fast", (1, 3)), Group(5, "two words")]


FAST = {"clients": [1, 3], "id": 4, "name": "fast"}
WORDS = {"clients": [], "id": 5, "name": "two words"}


@pytest.mark.usefixtures("groups")
async def test_get_client_groups_by_id_and_by_name(call: Caller) -> None:
    assert await call("getClientGroups") == [FAST, WORDS]
    assert await call("getClientGroups", None, ["name"]) == [{"name": "fast"}, WORDS_NAME]
    assert await call("getClientGroups", [5, 9, 4]) == [WORDS, FAST]
    assert await call("getClientGroups", []) == []
    assert await call("getClientGroup", 4) == FAST
    assert await call("getClientGroup", 4, ["id", "hostname"]) == {"id": 4}
    assert await call("getClientGroup", 9) == {}
    assert await call("getClientGroupByName", "two words") == WORDS
    assert await call("getClientGroupByName", "FAST") == {}
    assert (await fault(call, "getClientGroups", 4))[0] == 400


WORDS_NAME = {"name": "two words"}


async def test_client_groups_are_changed_group_first(farm: Any, call: Caller) -> None:
    assert await call("createClientGroup", "fast") == 5
    assert await call("addClientToGroup", 5, "7") is None
    assert await call("removeClientFromGroup", 5, 7) is None
    assert await call("deleteClientGroup", 5) is None
    assert farm.asked == [
        CreateGroup("fast"),
        AddToGroup(5, (7,)),
        RemoveFromGroup(5, (7,)),
        DeleteGroup(5),
    ]
    farm.failure = Conflict("There is one.")
    assert await fault(call, "createClientGroup", "fast") == (409, "There is one.")


# --- notes ---------------------------------------------------------------------------------------


@pytest.fixture
def threads(farm: Any) -> None:
    farm.add_node(2, "render1", "gpu")
    at = Moment(farm.now() - 5_000)
    for view in (
        ThreadView(3, 7, None, (Note(1, 3, at, "too dark"), Note(4, 3, farm.now(), "fixed\n<b>"))),
        ThreadView(5, None, 2, (Note(2, 5, at, "new disk"),)),
        ThreadView(6, None, None, (Note(3, 6, at, "hello"),)),
        ThreadView(8, None, 99, (Note(9, 8, at, "gone"),)),
    ):
        farm.thread_views[view.id] = view


NO_CLIENT = {"clientHostname": "", "clientId": None, "clientLabel": ""}
OF_JOB = {**NO_CLIENT, "jobId": 7}
OF_CLIENT = {
    "clientHostname": "render1", "clientId": 2, "clientLabel": "render1:gpu", "jobId": None,
}  # fmt: skip
OF_NOTHING = {**NO_CLIENT, "jobId": None}


async def test_a_note_is_added_once_and_a_blank_one_not_at_all(farm: Any, call: Caller) -> None:
    assert await call("addNote", "hello", None, None, None) is True
    assert await call("addNote", " hello\n", "3", 7, 2) is True
    assert await call("addNote", "hello") is True
    for blank in ("", " \t\n"):
        assert await call("addNote", blank, 3, None, None) is True
    assert farm.asked == [
        AddNote("hello"), AddNote(" hello\n", thread=3, job=7, node=2), AddNote("hello"),
    ]  # fmt: skip
    assert (await fault(call, "addNote", 5, None, None, None))[0] == 400
    assert (await fault(call, "addNote", "a", "b", None, None))[0] == 400


@pytest.mark.usefixtures("threads")
async def test_latest_notes_have_every_attribute_in_its_type(call: Caller) -> None:
    notes = await call("getLatestNotes")
    dates = [note.pop("date").value for note in notes]
    assert dates == [NOW_TEXT, *["20251009T08:53:15"] * 3]
    assert notes == [
        {**OF_JOB, "id": 4, "text": "fixed\n<b>"},
        {**OF_CLIENT, "id": 2, "text": "new disk"},
        {**OF_NOTHING, "id": 3, "text": "hello"},
        {**OF_NOTHING, "clientId": 99, "id": 9, "text": "gone"},
    ]
    text = ["text", "colour"]
    assert await call("getLatestNotes", [6, 77, 3], text) == [
        {"text": "hello"}, {"text": "fixed\n<b>"},
    ]  # fmt: skip
    assert await call("getLatestNotes", []) == []
    assert len(await call("getLatestNotes", None, None)) == 4


@pytest.mark.usefixtures("threads")
async def test_threads_hold_their_notes_oldest_first(call: Caller) -> None:
    assert await call("getNoteThreadIds") == [3, 5, 6, 8]
    (thread,) = await call("getNoteThreads", [3])
    assert [note.pop("date").value for note in thread["notes"]] == ["20251009T08:53:15", NOW_TEXT]
    assert thread == {
        **OF_JOB,
        "id": 3,
        "notes": [
            {**OF_JOB, "id": 1, "text": "too dark"},
            {**OF_JOB, "id": 4, "text": "fixed\n<b>"},
        ],
    }
    assert [each["id"] for each in await call("getNoteThreads")] == [3, 5, 6, 8]
    assert await call("getNoteThreads", [5, 77, 3], ["clientLabel", "colour"]) == [
        {"clientLabel": "render1:gpu"}, {"clientLabel": ""},
    ]  # fmt: skip
    assert await call("getNoteThreads", [5], ["notes"], ["id", "clientId"]) == [
        {"notes": [{"id": 2, "clientId": 2}]}
    ]
    assert await call("getNoteThreads", []) == []


async def test_removing_tells_what_is_left(farm: Any, call: Caller) -> None:
    assert await call("removeNotes", [11, "2", 12]) == [11, 12]
    assert await call("removeNotes", [1]) == []
    assert await call("removeSingleNote", 1) is True
    assert await call("removeSingleNote", 11) is False
    assert await call("removeThreads", [3, 14]) == [14]
    assert await call("removeSingleThread", 3) is True
    assert await call("removeSingleThread", 14) is False
    assert farm.asked == [
        RemoveNotes((11, 2, 12)), RemoveNotes((1,)), RemoveNotes((1,)), RemoveNotes((11,)),
        RemoveThreads((3, 14)), RemoveThreads((3,)), RemoveThreads((14,)),
    ]  # fmt: skip


@pytest.mark.usefixtures("threads")
async def test_a_thread_exists_or_not_or_nobody_knows(farm: Any, call: Caller) -> None:
    assert await call("threadExists", 3) is True
    assert await call("threadExists", 4) is False
    farm.failure = Unavailable("The server is stopping.")
    assert await call("threadExists", 3) is None


async def test_jobs_and_clients_tell_their_latest_note(farm: Any, call: Caller) -> None:
    note = Note(4, 3, farm.now(), "fixed")
    farm.add_job(1, latest_note=note)
    farm.add_node(2, "render1")
    farm.node_views[2] = msgspec.structs.replace(farm.node_views[2], latest_note=note)
    told = {"latestNote": "fixed", "threadId": 3}
    assert await call("getJob", 1, ["latestNote", "threadId"]) == told
    assert await call("getClient", 2, ["latestNote", "threadId"]) == told


# --- resources -----------------------------------------------------------------------------------


async def test_resources_have_the_five_keys(call: Caller) -> None:
    nuke = {"id": 1, "name": "nuke", "max": 4, "inUse": 3, "perMachine": False}
    houdini = {"id": 2, "name": "houdini", "max": -1, "inUse": 0, "perMachine": True}
    assert await call("getResources") == [nuke, houdini]
    assert await call("getResources", None) == [nuke, houdini]
    assert await call("getResources", [2, 9, 1]) == [houdini, nuke]
    assert await call("getResources", []) == []
    assert (await fault(call, "getResources", 1))[0] == 400


# --- faults and the protocol ---------------------------------------------------------------------


async def test_wrong_arguments_are_faults_that_name_them(call: Caller) -> None:
    for arguments, sentence in (
        (("getJob",), "getJob needs the argument job_id: call getJob(job_id, attribs=None)."),
        (("getJob", "x"), 'getJob: job_id must be a whole number, not "x".'),
        (("getJob", 1, 5), "getJob: attribs must be a list, not 5."),
        (("getJobs", 5), "getJobs: job_ids must be a list, not 5."),
        (("cancelJobs", ["x"]), 'job_ids holds an item that must be a whole number, not "x".'),
        (("setdisabled", "a", "yes"), 'disabled must be True or False, not "yes".'),
        (("getConfig", 5), "getConfig: key must be text, not 5."),
        (("getConfig", {}), "getConfig: key must be text, not an object."),
        (("newjob", {"name": "a"}, {}), "newjob: parent_id must be a whole number"),
    ):
        code, text = await fault(call, *arguments)
        assert code == 400
        assert sentence in text


async def test_surplus_arguments_are_ignored(call: Caller) -> None:
    assert await call("ping", 1, 2, 3) is True


async def test_unknown_methods_are_fault_0(call: Caller) -> None:
    code, text = await fault(call, "getHats")
    assert code == 0
    assert "getHats" in text
    assert (await fault(call, "__class__"))[0] == 0


async def test_refusals_keep_their_number(farm: Any, call: Caller) -> None:
    farm.failure = Unavailable("The server is stopping.")
    assert await fault(call, "cancelJobs", [1]) == (503, "The server is stopping.")
    farm.failure = Conflict("No.")
    assert (await fault(call, "newjob", {"name": "a"}))[0] == 409


async def test_a_bug_is_told_by_an_id_only(
    farm: Any, call: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.failure = ZeroDivisionError("secret detail")
    code, text = await fault(call, "cancelJobs", [1])
    assert code == 500
    assert "error id" in text
    assert "secret" not in text
    assert "secret detail" in capsys.readouterr().out


async def test_multicall_answers_each_call_on_its_own(farm: Any, call: Caller) -> None:
    farm.add_job(1)
    answers = await call(
        "system.multicall",
        [
            {"methodName": "ping", "params": []},
            {"methodName": "getJob", "params": [9]},
            {"methodName": "getHats", "params": []},
            {"methodName": "system.multicall", "params": [[]]},
            {"params": 5},
            {"methodName": "getstatus", "params": [1]},
        ],
    )
    assert answers[0] == [True]
    assert [answer["faultCode"] for answer in answers[1:5]] == [404, 0, 400, 400]
    assert answers[5] == ["runnable"]
    assert (await fault(call, "system.multicall"))[0] == 400


async def test_the_table_describes_itself(call: Caller) -> None:
    names = await call("system.listMethods")
    assert {*dispatch.METHODS, "getJobIdsBySatus", "system.multicall"} <= set(names)
    for name in names:
        assert name in await call("system.methodHelp", name)
        for signature in await call("system.methodSignature", name):
            assert all(isinstance(word, str) for word in signature)
    assert await call("system.methodSignature", "getJob") == [
        ["struct", "int"],
        ["struct", "int", "array"],
    ]
    assert (await fault(call, "system.methodHelp", "getHats"))[0] == 0
    page = dispatch.reference()
    for name, method in dispatch.METHODS.items():
        assert method.usage(name) in page


PING = b"<methodCall><methodName>ping</methodName></methodCall>"


@pytest.mark.parametrize("path", ["/", "/RPC2", "/xmlrpc"])
async def test_every_path_answers(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.post(path, content=PING, headers={"content-type": "application/xml; a=b"})
    assert b"<boolean>1</boolean>" in answer.content
    others = 404 if path == "/" else 405
    assert (await http.get(path)).status_code == others, "the front page is somebody else's"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
async def test_other_content_types_are_415(http: httpx2.AsyncClient, kind: str) -> None:
    answer = await http.post("/", content=PING, headers={"content-type": kind})
    assert answer.status_code == 415


async def test_a_body_above_the_limit_is_413(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/", content=b"x" * 200_001, headers=XML)).status_code == 413

    async def endless() -> Any:
        while True:
            yield b"x" * 1000

    assert (await http.post("/", content=endless(), headers=XML)).status_code == 413


async def test_bad_xml_is_a_fault(http: httpx2.AsyncClient) -> None:
    for body in (b"", b"rubbish", b"<!DOCTYPE a []><methodCall/>", b"<" * 100_000):
        answer = await http.post("/", content=body, headers=XML)
        assert answer.status_code == 200
        with pytest.raises(xmlrpc.client.Fault) as caught:
            xmlrpc.client.loads(answer.text)
        assert caught.value.faultCode == 400


# --- a real caller over a real socket ------------------------------------------------------------


@pytest.fixture
def served(farm: Any) -> Iterator[str]:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        dispatch.Endpoint(farm, Starlette()), lifespan="off", log_config=None, loop="asyncio"
    )
    server = uvicorn.Server(config)
    # The socket queues connections from the start, so there is nothing to wait for.
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
    )
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(5)
    listening.close()


def test_server_proxy_of_the_standard_library(farm: Any, served: str) -> None:
    for url in (served, f"{served}/", f"{served}/xmlrpc"):
        with xmlrpc.client.ServerProxy(url) as hq:
            assert hq.ping() is True
    with xmlrpc.client.ServerProxy(served, allow_none=True) as hq:
        ids: Any = hq.newjob({"name": "a", "children": [{"name": "b"}]}, None)
        assert ids == [1, 2]
        job: Any = hq.getJob(1, ["name", "queueTime", "endTime"])
        assert (job["name"], job["endTime"]) == ("a", None)
        assert str(job["queueTime"]) == "20251009T08:52:20"
        calls = xmlrpc.client.MultiCall(hq)
        calls.ping()
        calls.getstatus(2)
        assert tuple(calls()) == (True, "runnable")
        assert "ping" in hq.system.listMethods()
        with pytest.raises(xmlrpc.client.Fault, match="no job 77"):
            hq.getJob(77)
    assert isinstance(farm.asked[0], SubmitJobs)
