"""The page of HQueue's Python API, function by function, against one running farm.

`page_functions.txt` has the page's signatures. Each function has its test here, marked `@page`,
whose docstring says in brief what the page says of it; and every answer that a test gets is held
against the type that the page promises, whatever else the test looks at.
"""

from __future__ import annotations

import re
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import roost
from roost.hqueue import dispatch

# --- the page ------------------------------------------------------------------------------------


class Function(NamedTuple):
    name: str
    arguments: str
    answer: str


def read_page() -> tuple[dict[str, Function], dict[str, Function]]:
    """The functions of the server, and those of the client."""
    sections: list[dict[str, Function]] = []
    for line in Path(__file__).with_name("page_functions.txt").read_text().splitlines():
        if line.startswith("["):
            sections.append({})
        elif match := re.fullmatch(r"(\w+)\((.*)\) -> (.+)", line):
            sections[-1][match[1]] = Function(*match.groups())
    server, client = sections
    return server, client


SERVER, CLIENT = read_page()
TYPES: dict[str, type] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "dict": dict,
    "list": list,
    "None": type(None),
    "DateTime": xmlrpc.client.DateTime,
}
ON_THE_WIRE = {
    "bool": "boolean", "int": "int", "str": "string", "dict": "struct", "list": "array",
    "None": "nil", "DateTime": "dateTime.iso8601",
}  # fmt: skip
MAY_BE_LEFT_OUT = {"addNote": ("thread_id", "job_id", "client_id")}
"""Arguments that the page has no default for and Roost has: None, which scripts without
`allow_none` could not send."""

TESTED: set[str] = set()

Test = Callable[..., None]


def page(name: str) -> Callable[[Test], Test]:
    """This is the test of that function of the page."""

    def mark(test: Test) -> Test:
        assert name in SERVER or name in CLIENT
        assert name not in TESTED, f"{name} has two tests"
        assert test.__doc__, f"the test of {name} does not say what the page says"
        TESTED.add(name)
        return test

    return mark


def fits(value: object, kind: str) -> bool:
    """Whether a value has exactly the type in the page's words: `list of int`, `str or None`."""
    if kind.endswith(" or None"):
        return value is None or fits(value, kind.removesuffix(" or None"))
    if kind.startswith("list of "):
        item = kind.removeprefix("list of ")
        return type(value) is list and all(fits(each, item) for each in value)
    if kind == "DateTime" and not re.fullmatch(r"\d{8}T\d\d:\d\d:\d\d", str(value)):
        return False
    return type(value) is TYPES[kind]


def check_attributes(found: dict[str, Any], kinds: dict[str, str]) -> None:
    wrong = {
        name: (found.get(name, "missing"), kind)
        for name, kind in kinds.items()
        if name not in found or not fits(found[name], kind)
    }
    assert wrong == {}


class Checked:
    """A proxy that holds every answer against the page."""

    def __init__(self, proxy: Any, functions: dict[str, Function]) -> None:
        self._proxy = proxy
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: object) -> Any:
            answer = getattr(self._proxy, name)(*arguments)
            kind = self._functions[name].answer
            assert fits(answer, kind), f"{name} -> {kind} answered {answer!r}"
            return answer

        return call


def test_every_function_of_the_page_has_a_test() -> None:
    assert len(SERVER) == 64 and len(CLIENT) == 2
    assert set(SERVER) | set(CLIENT) == TESTED


@pytest.mark.parametrize("name", SERVER)
def test_the_table_of_methods_has_the_page_s_arguments_defaults_and_answer(name: str) -> None:
    _, arguments, answer = SERVER[name]
    known = {**dispatch.METHODS}
    for method in dispatch.METHODS.values():
        known |= dict.fromkeys(method.aliases, method)
    assert name in known, f"the table of methods has no {name}"
    method = known[name]
    assert method.answer == ON_THE_WIRE[answer.split(" ")[0]]
    ours = [
        parameter.name if parameter.name in MAY_BE_LEFT_OUT.get(name, ()) else str(parameter)
        for parameter in method.parameters
    ]
    theirs = arguments.split(", ") if arguments else []
    if name in dispatch.METHODS:
        assert ours == theirs
    else:  # served by another name, whose arguments may be called otherwise
        assert [each.partition("=")[2] for each in ours] == [
            each.partition("=")[2] for each in theirs
        ]


# --- the farm ------------------------------------------------------------------------------------

SETTINGS = """
[hqueue]
"hqserver.port" = "5000"
"hqserver.sharedNetwork.host" = "files"
"hqserver.sharedNetwork.path.windows" = "hq"
"hqserver.sharedNetwork.mount.linux" = "/mnt/hq"
"hqserver.sharedNetwork.mount.windows" = "H:"
"hqserver.sharedNetwork.mount.macosx" = "/Volumes/HQShared"
"""


@pytest.fixture(scope="module")
def house(new_farm: Any) -> Iterator[Any]:
    """A server with two clients on this machine: one without a name, and `gpu`.

    They beat once a minute, so that whatever happens sooner has been asked for.
    """
    with new_farm() as farm:
        settings = farm.folder / "roost.toml"
        settings.write_text(SETTINGS)
        farm.start_server("--heartbeat", "60", environment={"ROOST_CONFIG": str(settings)})
        farm.start_agent(cpus=2)
        farm.start_agent("gpu", cpus=2)
        yield farm


@pytest.fixture
def hq(house: Any) -> Iterator[Any]:
    with house.rpc as rpc:
        yield Checked(rpc, SERVER)


@pytest.fixture(scope="module")
def host(house: Any) -> str:
    return str(house.node("")["hostname"])


@pytest.fixture(scope="module")
def plain(house: Any) -> int:
    """The id of the client without a name."""
    return int(house.node("")["id"])


@pytest.fixture(scope="module")
def gpu(house: Any) -> int:
    """The id of the client named `gpu`."""
    return int(house.node("gpu")["id"])


@pytest.fixture(scope="module")
def done(house: Any) -> int:
    """A job that has succeeded."""
    job = house.submit("echo one; echo zwölf")
    house.wait(job, "succeeded")
    return int(job)


@pytest.fixture
def waiting(house: Any, hq: Any) -> Iterator[int]:
    """A job that waits for a machine that the farm does not have."""
    job = house.submit("true", host="nowhere")
    yield job
    hq.cancelJobs([job])


@pytest.fixture
def held(house: Any, hq: Any, gate: Any, signpost: Any) -> Iterator[int]:
    """A job that runs on `gpu` until it is ended."""
    job = house.submit(f"echo $JOBID > {signpost.path}; read x < {gate.path}", conditions=[ON_GPU])
    assert int(signpost.line()) == job
    yield job
    hq.cancelJobs([job])
    house.final_output(job)


ON_GPU = {"type": "client", "name": "group", "op": "==", "value": "only gpu"}


@pytest.fixture(scope="module", autouse=True)
def group_of_gpu(house: Any, gpu: int) -> int:
    with house.rpc as rpc:
        group = int(rpc.createClientGroup("only gpu"))
        rpc.addClientToGroup(group, gpu)
    return group


# --- the server ----------------------------------------------------------------------------------


@page("ping")
def test_ping(hq: Any) -> None:
    """Whether the server is active: always True."""
    assert hq.ping() is True


@page("getVersion")
def test_get_version(hq: Any) -> None:
    """The version of the server."""
    assert hq.getVersion() == roost.__version__


@page("getServerTime")
def test_get_server_time(hq: Any) -> None:
    """The current time of the server, in UTC."""
    told = datetime.strptime(str(hq.getServerTime()), "%Y%m%dT%H:%M:%S").replace(tzinfo=UTC)
    assert abs(told - datetime.now(UTC)) < timedelta(minutes=5)


@page("getServerErrors")
def test_get_server_errors(hq: Any) -> None:
    """Keys `total` and `errors`; an empty dict if no error is reported."""
    assert hq.getServerErrors() == {}


@page("getConfig")
def test_get_config(hq: Any) -> None:
    """The configuration value of the key, or None if the file does not have it."""
    assert hq.getConfig("hqserver.port") == "5000"
    assert hq.getConfig("hqserver.colour") is None


@page("getHQRoot")
def test_get_hq_root(hq: Any) -> None:
    """$HQROOT on linux, windows or macosx, else None; the UNC path for a client on windows."""
    assert hq.getHQRoot("linux") == "/mnt/hq"
    assert hq.getHQRoot("macosx") == "/Volumes/HQShared"
    assert hq.getHQRoot("windows") == hq.getHQRoot("windows", True) == r"\\files\hq"
    assert hq.getHQRoot("windows", False) == "H:"
    assert hq.getHQRoot("macos") is None and hq.getHQRoot("") is None


# --- the lists of names --------------------------------------------------------------------------

ALL = {
    "abandoned", "cancelled", "ejected", "ejecting", "failed", "paused", "pausing", "queued",
    "resuming", "runnable", "running", "succeeded", "waiting",
}  # fmt: skip


@page("getAllJobStatusNames")
def test_all_status_names(hq: Any) -> None:
    """All the possible job statuses."""
    names = hq.getAllJobStatusNames()
    assert set(names) == ALL and len(names) == len(ALL)


@page("getSucceededStatusNames")
def test_succeeded_names(hq: Any) -> None:
    """What is considered a succeeded job status."""
    assert hq.getSucceededStatusNames() == ["succeeded"]


@page("getFailedJobStatusNames")
def test_failed_names(hq: Any) -> None:
    """The statuses that denote a failed job."""
    assert set(hq.getFailedJobStatusNames()) == {"failed", "cancelled", "abandoned"}


@page("getFinishedJobStatusNames")
def test_finished_names(hq: Any) -> None:
    """The statuses that denote a finished job."""
    finished = {"succeeded", "failed", "abandoned", "cancelled", "ejected"}
    assert set(hq.getFinishedJobStatusNames()) == finished


@page("getUnfinishedJobStatusNames")
def test_unfinished_names(hq: Any) -> None:
    """The statuses that denote an unfinished job."""
    assert set(hq.getUnfinishedJobStatusNames()) == ALL - set(hq.getFinishedJobStatusNames())


@page("getRunningJobStatusNames")
def test_running_names(hq: Any) -> None:
    """The statuses that denote a running job."""
    assert set(hq.getRunningJobStatusNames()) == {"running", "pausing", "resuming"}


@page("getPausedJobStatusNames")
def test_paused_names(hq: Any) -> None:
    """The statuses that denote a paused job."""
    assert hq.getPausedJobStatusNames() == ["paused"]


@page("getWaitingJobStatusNames")
def test_waiting_names(hq: Any) -> None:
    """The statuses that denote a waiting job."""
    assert set(hq.getWaitingJobStatusNames()) == {"runnable", "waiting"}


@page("getStartedJobEventNames")
def test_started_events(hq: Any) -> None:
    """What is considered a start job event."""
    assert hq.getStartedJobEventNames() == ["running"]


@page("getRescheduledEventNames")
def test_rescheduled_events(hq: Any) -> None:
    """The reschedule events."""
    assert hq.getRescheduledEventNames() == ["rescheduled"]


@page("getResumedEventNames")
def test_resumed_events(hq: Any) -> None:
    """The resume events."""
    assert hq.getResumedEventNames() == ["resumed"]


@page("getPriorityChangedEventNames")
def test_priority_events(hq: Any) -> None:
    """The priority change events."""
    assert hq.getPriorityChangedEventNames() == ["priority changed"]


# --- submitting ----------------------------------------------------------------------------------


@page("newjob")
def test_newjob(hq: Any, house: Any) -> None:
    """A JSON string, a dictionary or a list of them; parent_id and child_ids link existing jobs."""
    (one,) = hq.newjob({"name": "one", "command": "true", "host": "nowhere"})
    two, three = hq.newjob([{"name": "two", "host": "nowhere", "command": "x"}, {"name": "three"}])
    (four,) = hq.newjob('{"name": "four", "command": "true"}', one)
    (five,) = hq.newjob({"name": "five"}, None, [one, two])
    assert hq.getJob(four, ["parents", "name"]) == {"parents": [one], "name": "four"}
    assert hq.getJob(five, ["children", "parents"]) == {"children": [one, two], "parents": []}
    assert house.wait(three) == "succeeded"
    hq.cancelJobs([five])


@page("runcmd")
def test_runcmd(hq: Any, house: Any) -> None:
    """Executes the command on the farm as an anonymous job, whose id it returns."""
    job = hq.runcmd("echo from $JOBID")
    assert house.wait(job) == "succeeded"
    assert hq.getJobOutput(job) == f"from {job}\n"


# --- acting on jobs and on all that is linked to them ---------------------------------------------


def container(hq: Any, command: str, **more: object) -> tuple[int, int]:
    """A parent without a command, and its child."""
    child = {"name": "child", "command": command, **more}
    parent_id, child_id = hq.newjob({"name": "parent", "children": [child]})
    return parent_id, child_id


@page("cancelJobs")
def test_cancel_jobs(hq: Any, house: Any) -> None:
    """Cancels all the jobs linked to each job in the list."""
    jobs = container(hq, "true", host="nowhere")
    assert hq.cancelJobs([jobs[0]]) is None
    assert [house.status(job) for job in jobs] == ["cancelled", "cancelled"]


@page("pauseJobs")
def test_pause_jobs(hq: Any, house: Any, held: int, waiting: int) -> None:
    """Pauses all the jobs linked to each job in the list."""
    parent, child = container(hq, "true", host="nowhere")
    hq.pauseJobs([parent, held, waiting])
    assert house.status(child) == house.status(waiting) == "paused"
    assert house.wait(held, "paused") == "paused"
    hq.cancelJobs([parent])


@page("resumeJobs")
def test_resume_jobs(hq: Any, house: Any, held: int, gate: Any) -> None:
    """Resumes all the jobs linked to each job in the list."""
    parent, child = container(hq, "true", host="nowhere")
    hq.pauseJobs([parent, held])
    house.wait(held, "paused")
    hq.resumeJobs([parent, held])
    assert house.wait(held, "running") == "running"
    assert (house.status(parent), house.status(child)) == ("queued", "runnable")
    gate.path.write_text("go\n")
    assert house.wait(held) == "succeeded"
    hq.cancelJobs([parent])


@page("rescheduleJobs")
def test_reschedule_jobs(hq: Any, house: Any, tmp_path: Path) -> None:
    """Reschedules all the jobs linked to each job in the list: its parents, its failed children."""
    parent, child = container(hq, f"test -e {tmp_path}/second")
    assert house.wait(parent) == "failed"
    (tmp_path / "second").touch()
    hq.rescheduleJobs([parent])
    assert house.wait(parent) == "succeeded"
    assert house.story(child).count("running") == 2


@page("deleteJobs")
def test_delete_jobs(hq: Any, house: Any, waiting: int) -> None:
    """Deletes all the jobs linked to each job in the list; completed ones only."""
    parent, child = container(hq, "true")
    house.wait(parent)
    hq.deleteJobs([parent, waiting])
    assert hq.getJobs([parent, child, waiting], ["id"]) == [{"id": waiting}]


@page("ejectJobs")
def test_eject_jobs(hq: Any, house: Any, signpost: Any, gate: Any) -> None:
    """Ejects all the jobs linked to each job in the list: off the client, and queued again."""
    parent, child = container(hq, f"echo {{}} > {signpost.path}; read x < {gate.path}")
    signpost.line()
    hq.ejectJobs([parent])
    signpost.line()
    assert "ejected" in house.story(child)
    gate.path.write_text("go\n")
    assert house.wait(parent) == "succeeded"


# --- asking about jobs ---------------------------------------------------------------------------

JOB_ATTRIBUTES = {
    "children": "list of int",
    "clients": "list of dict",
    "clientsOnHold": "list of dict",
    "conditions": "list of dict",
    "endTime": "DateTime or None",
    "ETA": "int",
    "id": "int",
    "latestNote": "str",
    "logs": "list of dict",
    "name": "str",
    "overallProgress": "float",
    "parents": "list of int",
    "priority": "int",
    "progress": "float",
    "queueTime": "DateTime",
    "resources": "dict or None",
    "showBlockedClientsWarning": "bool",
    "startTime": "DateTime or None",
    "status": "str",
    "tags": "list of str",
    "threadId": "int or None",
    "triesLeft": "int",
    "uiStatus": "str",
    "waitingFor": "str",
}
CLIENT_IN_JOB = {"id": "int", "hostname": "str", "name": "str", "label": "str", "ip": "str"}


def test_job_attributes(hq: Any, house: Any, held: int, waiting: int, done: int, gpu: int) -> None:
    parent, child = container(
        hq, "true", host="nowhere", tags=["single", "seen"], priority=7, triesLeft=2,
        resources={"sidefx.license.render": 1},
    )  # fmt: skip
    for each in hq.getJobs([held, waiting, done, parent, child]):
        check_attributes(each, JOB_ATTRIBUTES)
        for entry in each["logs"]:
            check_attributes(entry, {"date": "DateTime", "status": "str", "message": "str"})
        for condition in each["conditions"]:
            assert {type(word) for word in condition.values()} == {str}
            assert set(condition) == {"type", "name", "op", "value"}
        for client in (*each["clients"], *each["clientsOnHold"]):
            check_attributes(client, CLIENT_IN_JOB)
    running = hq.getJob(held)
    assert (running["status"], running["uiStatus"], running["endTime"]) == ("running",) * 2 + (
        None,
    )
    assert running["startTime"] is not None and running["resources"] is None
    assert [client["id"] for client in running["clients"]] == [gpu]
    assert (running["progress"], running["ETA"], running["waitingFor"]) == (0.0, -1, "")
    assert running["threadId"] is None and running["latestNote"] == ""
    late = hq.getJob(waiting)
    assert (late["status"], late["uiStatus"]) == ("runnable", "waiting for resources")
    assert "nowhere" in late["waitingFor"] and late["startTime"] is None
    finished = hq.getJob(done)
    assert (finished["status"], finished["progress"]) == ("succeeded", 1.0)
    assert finished["overallProgress"] == 1.0 and finished["endTime"] is not None
    assert finished["clientsOnHold"] == [] and finished["ETA"] == -1
    assert [entry["status"] for entry in finished["logs"]] == ["runnable", "running", "succeeded"]
    above, below = hq.getJobs([parent, child])
    assert (above["status"], above["children"], above["progress"]) == ("queued", [child], 0.0)
    assert (below["parents"], below["tags"]) == ([parent], ["single", "seen"])
    assert (below["priority"], below["triesLeft"]) == (7, 2)
    assert below["resources"] == {"sidefx.license.render": 1}
    assert below["showBlockedClientsWarning"] is False
    hq.cancelJobs([parent])


@page("getJob")
def test_get_job(hq: Any, done: int) -> None:
    """A dictionary of attributes of the job, of those in attribs if it is given."""
    assert hq.getJob(done, ["name", "id", "colour"]) == {"name": "job", "id": done}
    assert set(hq.getJob(done)) == set(hq.getJob(done, None)) >= set(JOB_ATTRIBUTES)
    with pytest.raises(xmlrpc.client.Fault, match=r"^<Fault 404: 'There is no job 4711"):
        hq.getJob(4711)


@page("getJobs")
def test_get_jobs(hq: Any, done: int, waiting: int) -> None:
    """A list of dictionaries, one for each job in job_ids."""
    assert hq.getJobs([waiting, 4711, done], ["id"]) == [{"id": waiting}, {"id": done}]
    assert hq.getJobs([]) == []


@page("getJobIdsBySatus")
def test_get_job_ids_by_status(hq: Any, done: int, waiting: int, held: int) -> None:
    """The ids of jobs with one of these statuses, which may be any of the names."""
    assert held in hq.getJobIdsBySatus(["running"])
    assert waiting in hq.getJobIdsBySatus(["waiting"])
    both = hq.getJobIdsBySatus(["runnable", "succeeded"])
    assert {done, waiting} <= set(both) and held not in both
    for name in ALL:
        hq.getJobIdsBySatus([name])


@page("getFinishedRootJobIds")
def test_get_finished_root_job_ids(hq: Any, done: int, waiting: int, house: Any) -> None:
    """The ids of all finished jobs that have no parent."""
    parent, child = container(hq, "true")
    house.wait(parent)
    finished = set(hq.getFinishedRootJobIds())
    assert {done, parent} <= finished and finished.isdisjoint({child, waiting})


@page("getUnfinishedRootJobIds")
def test_get_unfinished_root_job_ids(hq: Any, done: int, waiting: int) -> None:
    """The ids of all unfinished jobs that have no parent."""
    parent, child = container(hq, "true", host="nowhere")
    unfinished = set(hq.getUnfinishedRootJobIds())
    assert {waiting, parent} <= unfinished and unfinished.isdisjoint({child, done})
    hq.cancelJobs([parent])


@page("getJobHistory")
def test_get_job_history(hq: Any, house: Any, gpu: int) -> None:
    """The ids of jobs that ran on the client, the last to finish first; at most limit, 5 if not
    given."""
    jobs = [house.submit(conditions=[ON_GPU], cpus=2) for _ in range(6)]
    for job in jobs:
        house.wait(job)
    assert hq.getJobHistory(gpu) == jobs[:0:-1]
    assert hq.getJobHistory(gpu, 2) == [jobs[5], jobs[4]]
    assert hq.getJobHistory(gpu, 6) == jobs[::-1]
    assert hq.getJobHistory(4711) == []


@page("getJobIdsAssignedToClient")
def test_get_job_ids_assigned_to_client(hq: Any, held: int, gpu: int) -> None:
    """The ids of jobs assigned to the client; an empty list if there is no such client."""
    assert hq.getJobIdsAssignedToClient(gpu) == [held]
    assert hq.getJobIdsAssignedToClient(4711) == []


@page("getNumWaitingJobs")
def test_get_num_waiting_jobs(hq: Any, house: Any) -> None:
    """How many jobs have waited for so many minutes, 0 or less counts all; with a priority within
    the bounds, below 0 is none."""
    before = hq.getNumWaitingJobs()
    jobs = [house.submit(host="nowhere", priority=priority) for priority in (0, 3, 9)]
    assert hq.getNumWaitingJobs() == hq.getNumWaitingJobs(-1, -1, -1) == before + 3
    assert hq.getNumWaitingJobs(0, 3) == 2
    assert hq.getNumWaitingJobs(0, 3, 3) == hq.getNumWaitingJobs(0, 4, 9) == 1
    assert hq.getNumWaitingJobs(0, 10) == hq.getNumWaitingJobs(60) == 0
    hq.cancelJobs(jobs)


@page("getJobOutput")
def test_get_job_output(hq: Any, done: int) -> None:
    """The output log, or at most its last max_last_chars characters; all of it if below one."""
    assert hq.getJobOutput(done) == "one\nzwölf\n"
    assert hq.getJobOutput(done, 4) == "ölf\n"
    assert hq.getJobOutput(done, 0) == hq.getJobOutput(done, -3) == "one\nzwölf\n"


@page("getPermittedClientsList")
def test_get_permitted_clients_list(hq: Any, host: str, held: int, waiting: int, done: int) -> None:
    """The clients that may run the job, as hostname, or hostname:name where there is a name."""
    assert hq.getPermittedClientsList(held) == [f"{host}:gpu"]
    assert hq.getPermittedClientsList(waiting) == []
    assert sorted(hq.getPermittedClientsList(done)) == [host, f"{host}:gpu"]


@page("savePermittedClientsList")
def test_save_permitted_clients_list(hq: Any, house: Any, host: str, waiting: int) -> None:
    """Only these clients may run the job from now on, whatever conditions it had: `hostname` is any
    client there, `hostname:name` one, `hostname:` the one without a name."""
    never = house.submit(host="nowhere", cpus=1000)
    for given, permitted in (
        ([host], [host, f"{host}:gpu"]),
        ([f"{host}:gpu"], [f"{host}:gpu"]),
        ([f"{host}:"], [host]),
        ([], []),
    ):
        assert hq.savePermittedClientsList(never, given) is None
        assert sorted(hq.getPermittedClientsList(never)) == permitted
    assert len(hq.getJob(never, ["conditions"])["conditions"]) == 1
    hq.savePermittedClientsList(waiting, [f"{host}:gpu"])
    assert house.wait(waiting) == "succeeded"
    assert house.job(waiting, "clients")["clients"][0]["label"] == f"{host}:gpu"
    hq.cancelJobs([never])


@page("setShowBlockedClientsWarning")
def test_set_show_blocked_clients_warning(hq: Any, waiting: int) -> None:
    """Sets the attribute showBlockedClientsWarning of the job."""
    shown = ["showBlockedClientsWarning"]
    for state in (True, False):
        assert hq.setShowBlockedClientsWarning(waiting, state) is None
        assert hq.getJob(waiting, shown) == {"showBlockedClientsWarning": state}


# --- clients -------------------------------------------------------------------------------------

CLIENT_ATTRIBUTES = {
    "availabilityRules": "list of dict",
    "available": "bool",
    "cpus": "int",
    "cpuSpeed": "int",
    "description": "str",
    "disabled": "bool",
    "groups": "list of int",
    "hostname": "str",
    "id": "int",
    "idleTime": "int",
    "ip": "str",
    "label": "str",
    "lastHeartbeat": "DateTime",
    "latestNote": "str",
    "load": "float",
    "memory": "int",
    "name": "str",
    "needsUpgrade": "bool",
    "platform": "str",
    "runningJobs": "list of int",
    "threadId": "int or None",
    "version": "str",
}
RULE = {"id": "int", "type": "str", "enabled": "bool", "anytime": "bool", "idleMinutes": "int"}


def test_client_attributes(hq: Any, held: int, gpu: int, plain: int, group_of_gpu: int) -> None:
    for each in hq.getClients():
        check_attributes(each, CLIENT_ATTRIBUTES)
        for rule in each["availabilityRules"]:
            check_attributes(rule, RULE)
    named, unnamed = hq.getClient(gpu), hq.getClient(plain)
    assert (named["name"], unnamed["name"]) == ("gpu", "")
    assert named["hostname"] == unnamed["hostname"] == unnamed["label"] != ""
    assert named["label"] == f"{named['hostname']}:gpu"
    assert (named["runningJobs"], unnamed["runningJobs"]) == ([held], [])
    assert (named["groups"], unnamed["groups"]) == ([group_of_gpu], [])
    assert named["cpus"] == 2 and named["memory"] > 100_000 and named["ip"] == "127.0.0.1"
    assert re.fullmatch(r"(linux|macosx|windows)-\w+", named["platform"])
    assert (named["available"], named["disabled"], named["needsUpgrade"]) == (True, False, False)
    assert named["idleTime"] >= -1 and len(named["version"]) > 7
    assert (named["description"], named["latestNote"], named["threadId"]) == ("", "", None)


@page("getClients")
def test_get_clients(hq: Any, gpu: int, plain: int) -> None:
    """A list of dictionaries, one for each client in client_ids, or for all registered ones."""
    both = [{"id": plain}, {"id": gpu}]
    assert hq.getClients(None, ["id"]) == [{"id": each["id"]} for each in hq.getClients()] == both
    assert hq.getClients([gpu, 4711, plain], ["id"]) == both[::-1]
    assert hq.getClients([]) == []


@page("getClient")
def test_get_client(hq: Any, gpu: int) -> None:
    """A dictionary of attributes of the client."""
    assert hq.getClient(gpu, ["name", "colour"]) == {"name": "gpu"}
    assert hq.getClient(4711) == {}


@page("getClientByName")
def test_get_client_by_name(hq: Any, host: str, gpu: int, plain: int) -> None:
    """A dictionary of attributes of the client called hostname or hostname:name."""
    assert hq.getClientByName(host, ["id"]) == {"id": plain}
    assert hq.getClientByName(f"{host}:gpu", ["id"]) == {"id": gpu}
    assert hq.getClientByName("nowhere") == {}


@page("getClientsByName")
def test_get_clients_by_name(hq: Any, host: str, gpu: int, plain: int) -> None:
    """A list of dictionaries, one for each client in clientnames."""
    names = [f"{host}:gpu", "nowhere", host]
    assert hq.getClientsByName(names, ["id"]) == [{"id": gpu}, {"id": plain}]


@page("getClientByHostname")
def test_get_client_by_hostname(hq: Any, host: str, plain: int) -> None:
    """Deprecated. A dictionary of attributes of the client with the hostname."""
    assert hq.getClientByHostname(host, ["id"]) == {"id": plain}


@page("getClientsByHostname")
def test_get_clients_by_hostname(hq: Any, host: str, plain: int) -> None:
    """Deprecated. A list of dictionaries, one for each client in hostnames."""
    assert hq.getClientsByHostname([host, "nowhere"], ["id"]) == [{"id": plain}]


@page("getClientErrors")
def test_get_client_errors(hq: Any, house: Any, gpu: int, plain: int) -> None:
    """Keys `total` and `errors`, a list of dicts; an empty dict if no error is reported."""
    assert hq.getClientErrors(plain) == hq.getClientErrors(4711) == {}
    job = house.submit("true", shell="no-such-shell", conditions=[ON_GPU])
    assert house.wait(job) == "failed"
    errors = hq.getClientErrors(gpu)
    assert errors["total"] == 1
    (error,) = errors["errors"]
    check_attributes(
        error, {"id": "int", "date": "DateTime", "text": "str", "clientId": "int", "jobId": "int"}
    )
    assert (error["clientId"], error["jobId"]) == (gpu, job)
    assert "no-such-shell" in error["text"]


@page("setdisabled")
def test_setdisabled(hq: Any, host: str, gpu: int) -> None:
    """Disables or enables the client. True if that succeeds, None otherwise."""
    for disabled in (True, False):
        assert hq.setdisabled(f"{host}:gpu", disabled) is True
        now = hq.getClient(gpu, ["disabled", "available"])
        assert now == {"disabled": disabled, "available": not disabled}
    assert hq.setdisabled("nowhere", True) is None


@page("upgradeClients")
def test_upgrade_clients(hq: Any, house: Any, plain: int) -> None:
    """Upgrades the clients. These have the server's version already."""
    assert hq.upgradeClients([plain, 4711]) is None
    assert hq.getClient(plain, ["needsUpgrade"]) == {"needsUpgrade": False}


# --- client groups -------------------------------------------------------------------------------


@pytest.fixture
def group(hq: Any) -> Iterator[int]:
    group = hq.createClientGroup("fast ones")
    yield group
    if hq.getClientGroup(group):
        hq.deleteClientGroup(group)


def test_group_attributes(hq: Any, gpu: int, group_of_gpu: int) -> None:
    (found,) = hq.getClientGroups([group_of_gpu])
    check_attributes(found, {"clients": "list of int", "id": "int", "name": "str"})
    assert found == {"clients": [gpu], "id": group_of_gpu, "name": "only gpu"}


@page("createClientGroup")
def test_create_client_group(hq: Any, group: int) -> None:
    """Creates a group with this name, and returns its id."""
    assert hq.getClientGroup(group) == {"clients": [], "id": group, "name": "fast ones"}


@page("deleteClientGroup")
def test_delete_client_group(hq: Any, group: int) -> None:
    """Deletes the group."""
    assert hq.deleteClientGroup(group) is None
    assert hq.getClientGroup(group) == {}


@page("addClientToGroup")
def test_add_client_to_group(hq: Any, group: int, plain: int, gpu: int) -> None:
    """Adds the client to the group: the group comes first."""
    assert hq.addClientToGroup(group, plain) is None
    hq.addClientToGroup(group, gpu)
    assert hq.getClientGroup(group)["clients"] == [plain, gpu]
    assert group in hq.getClient(plain)["groups"]


@page("removeClientFromGroup")
def test_remove_client_from_group(hq: Any, group: int, plain: int) -> None:
    """Removes the client from the group: the group comes first."""
    hq.addClientToGroup(group, plain)
    assert hq.removeClientFromGroup(group, plain) is None
    assert hq.getClientGroup(group)["clients"] == hq.getClient(plain)["groups"] == []


@page("getClientGroups")
def test_get_client_groups(hq: Any, group: int, group_of_gpu: int) -> None:
    """A list of dictionaries, one for each group in group_ids, or for all of them."""
    assert [each["id"] for each in hq.getClientGroups()] == [group_of_gpu, group]
    assert hq.getClientGroups([group, 4711, group_of_gpu], ["name"]) == [
        {"name": "fast ones"}, {"name": "only gpu"},
    ]  # fmt: skip


@page("getClientGroup")
def test_get_client_group(hq: Any, group: int) -> None:
    """A dictionary of attributes of the group."""
    assert hq.getClientGroup(group, ["id"]) == {"id": group}


@page("getClientGroupByName")
def test_get_client_group_by_name(hq: Any, group: int) -> None:
    """A dictionary of attributes of the group with this name."""
    assert hq.getClientGroupByName("fast ones", ["id"]) == {"id": group}
    assert hq.getClientGroupByName("slow ones") == {}


# --- notes ---------------------------------------------------------------------------------------


class Notes(NamedTuple):
    """Two notes on a job, one on a client, one on nothing; by thread."""

    of_job: int
    of_client: int
    of_nothing: int
    first: int
    reply: int


@pytest.fixture
def notes(hq: Any, waiting: int, plain: int) -> Iterator[Notes]:
    hq.addNote("too dark", None, waiting, None)
    of_job = hq.getJob(waiting)["threadId"]
    hq.addNote("fixed", of_job, None, None)
    hq.addNote("new disk", None, None, plain)
    hq.addNote("hello", None, None, None)
    of_client = hq.getClient(plain)["threadId"]
    first, reply = hq.getNoteThreads([of_job], ["notes"], ["id"])[0]["notes"]
    made = Notes(of_job, of_client, hq.getNoteThreadIds()[-1], first["id"], reply["id"])
    yield made
    hq.removeThreads(hq.getNoteThreadIds())


NOTE_ATTRIBUTES = {
    "clientHostname": "str",
    "clientId": "int or None",
    "clientLabel": "str",
    "date": "DateTime",
    "jobId": "int or None",
    "text": "str",
}
THREAD_ATTRIBUTES = {
    "clientHostname": "str",
    "clientId": "int or None",
    "clientLabel": "str",
    "jobId": "int or None",
    "notes": "list of dict",
}


def test_note_attributes(hq: Any, notes: Notes, waiting: int, plain: int, host: str) -> None:
    of_job, of_client, of_nothing = hq.getLatestNotes(list(notes[:3]))
    for note in (of_job, of_client, of_nothing):
        check_attributes(note, NOTE_ATTRIBUTES)
        del note["date"], note["id"]
    nobody = {"clientHostname": "", "clientId": None, "clientLabel": ""}
    assert of_job == {**nobody, "jobId": waiting, "text": "fixed"}
    assert of_client == {
        "clientHostname": host, "clientId": plain, "clientLabel": host, "jobId": None,
        "text": "new disk",
    }  # fmt: skip
    assert of_nothing == {**nobody, "jobId": None, "text": "hello"}
    assert hq.getJob(waiting)["latestNote"] == "fixed"
    assert hq.getClient(plain)["latestNote"] == "new disk"


def test_thread_attributes(hq: Any, notes: Notes, waiting: int, plain: int, host: str) -> None:
    threads = hq.getNoteThreads(list(notes[:3]))
    for thread in threads:
        check_attributes(thread, THREAD_ATTRIBUTES)
        for note in thread["notes"]:
            check_attributes(note, NOTE_ATTRIBUTES)
    assert [(each["jobId"], each["clientId"], each["clientLabel"]) for each in threads] == [
        (waiting, None, ""), (None, plain, host), (None, None, ""),
    ]  # fmt: skip
    assert [note["text"] for note in threads[0]["notes"]] == ["too dark", "fixed"]


@page("addNote")
def test_add_note(hq: Any, notes: Notes, waiting: int, plain: int) -> None:
    """To the thread of the client, of the job, or the given one, else to a new one; blank text is
    not added; always True."""
    before = hq.getNoteThreadIds()
    assert hq.addNote("one", None, None, plain) is True
    assert hq.addNote("two", None, waiting, None) is True
    assert hq.addNote("three", notes.of_nothing, None, None) is True
    assert hq.addNote(" \n", None, None, None) is True
    assert hq.getNoteThreadIds() == before
    texts = hq.getLatestNotes([notes.of_client, notes.of_job, notes.of_nothing], ["text"])
    assert [note["text"] for note in texts] == ["one", "two", "three"]
    assert hq.addNote("four", 4711, None, None) is True
    assert len(hq.getNoteThreadIds()) == len(before) + 1


@page("getLatestNotes")
def test_get_latest_notes(hq: Any, notes: Notes) -> None:
    """A list of dictionaries, one for the latest note of each thread in thread_ids, or of all."""
    assert hq.getLatestNotes([notes.of_job, 4711], ["text"]) == [{"text": "fixed"}]
    assert [note["text"] for note in hq.getLatestNotes()] == ["fixed", "new disk", "hello"]


@page("getNoteThreadIds")
def test_get_note_thread_ids(hq: Any, notes: Notes) -> None:
    """The ids of all threads."""
    assert hq.getNoteThreadIds() == list(notes[:3])


@page("getNoteThreads")
def test_get_note_threads(hq: Any, notes: Notes, waiting: int) -> None:
    """A list of dictionaries, one for each thread in thread_ids, or for all of them, with these
    attributes of the threads and of their notes."""
    assert len(hq.getNoteThreads()) == 3
    wanted = ["jobId", "notes"]
    assert hq.getNoteThreads([notes.of_job, 4711], wanted, ["text"]) == [
        {"jobId": waiting, "notes": [{"text": "too dark"}, {"text": "fixed"}]}
    ]


@page("removeSingleNote")
def test_remove_single_note(hq: Any, notes: Notes) -> None:
    """Removes the note. True if successful, False otherwise."""
    assert hq.removeSingleNote(notes.reply) is True
    assert hq.removeSingleNote(notes.reply) is False
    assert hq.removeSingleNote(4711) is False


@page("removeNotes")
def test_remove_notes(hq: Any, notes: Notes) -> None:
    """Removes the notes, a thread's first one if it comes last. The ids that could not be."""
    assert hq.removeNotes([notes.first, 4711]) == [notes.first, 4711]
    assert hq.removeNotes([notes.reply, notes.first]) == []
    assert notes.of_job not in hq.getNoteThreadIds()


@page("removeSingleThread")
def test_remove_single_thread(hq: Any, notes: Notes, waiting: int) -> None:
    """Removes the thread and its notes. True if successful, False otherwise."""
    assert hq.removeSingleThread(notes.of_job) is True
    assert hq.removeSingleThread(notes.of_job) is False
    assert hq.getJob(waiting)["threadId"] is None


@page("removeThreads")
def test_remove_threads(hq: Any, notes: Notes) -> None:
    """Removes the threads and their notes. The ids that could not be."""
    assert hq.removeThreads([notes.of_job, 4711, notes.of_client]) == [4711]
    assert hq.getNoteThreadIds() == [notes.of_nothing]


@page("threadExists")
def test_thread_exists(hq: Any, notes: Notes) -> None:
    """Whether there is a thread with this id."""
    assert hq.threadExists(notes.of_job) is True
    assert hq.threadExists(4711) is False


# --- resources -----------------------------------------------------------------------------------


@page("getResources")
def test_get_resources(hq: Any) -> None:
    """A list of dictionaries, one for each resource in resource_ids, or for all of them."""
    resources = hq.getResources()
    for each in resources:
        check_attributes(
            each, {"id": "int", "name": "str", "max": "int", "inUse": "int", "perMachine": "bool"}
        )
    names = {each["name"] for each in resources}
    assert {"sidefx.license.houdini", "sidefx.license.render"} <= names
    assert hq.getResources([resources[0]["id"], 4711]) == resources[:1]


# --- the client's own two ------------------------------------------------------------------------


@page("wakeup")
def test_wakeup(house: Any) -> None:
    """Forces the client to send a heartbeat to the server."""
    before = house.node("gpu")["lastHeartbeat"]
    deadline = time.monotonic() + 30
    with house.client("gpu") as proxy:
        client = Checked(proxy, CLIENT)
        # Heartbeats are told to the second, and nothing else makes one within the minute.
        while house.node("gpu")["lastHeartbeat"] <= before:
            assert client.wakeup() is None
            assert time.monotonic() < deadline, "no heartbeat came"


@page("terminate")
def test_terminate(house: Any, hq: Any) -> None:
    """The client leaves the server's list, and its daemon exits when its jobs have ended. What its
    jobs see of it is told in test_compatibility.py."""
    agent = house.start_agent("leaver")
    leaver = house.node("leaver")["id"]
    with house.client("leaver") as proxy:
        assert Checked(proxy, CLIENT).terminate() is None
    assert agent.popen.wait(60) == 0
    assert hq.getClient(leaver) == {}
    assert leaver not in [client["id"] for client in hq.getClients()]


def test_a_client_has_no_other_method(house: Any) -> None:
    with house.client("gpu") as client, pytest.raises(xmlrpc.client.Fault) as refused:
        getattr(client, "x" * 1000)()
    assert refused.value.faultCode == 0
    assert refused.value.faultString.endswith('x…" on a node; it has wakeup and terminate.')
