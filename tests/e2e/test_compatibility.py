"""What HQueue's callers rely on, case by case: the numbered list of what real submitters, browsers
and farm scripts were seen to do. Each rule has its one test here; most share a farm.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest


@pytest.fixture(scope="module")
def house(new_farm: Any) -> Iterator[Any]:
    """A server, and on this machine two clients: one without a name, and `b`, which is in the group
    `fast ones`."""
    with new_farm() as farm:
        farm.start_server()
        farm.start_agent(cpus=2)
        farm.start_agent("b", cpus=2)
        with farm.rpc as rpc:
            group = rpc.createClientGroup("fast ones")
            rpc.addClientToGroup(group, farm.node("b")["id"])
        yield farm


@pytest.fixture
def rpc(house: Any) -> Iterator[Any]:
    """As most scripts make it: no `allow_none`."""
    with xmlrpc.client.ServerProxy(house.url) as rpc:
        yield rpc


NOWHERE = [{"type": "client", "name": "hostname", "op": "==", "value": "nowhere"}]
ON_B = [{"type": "client", "name": "group", "op": "==", "value": "fast ones"}]


def names(rpc: Any, ids: list[int]) -> list[str]:
    return [job["name"] for job in rpc.getJobs(ids, ["name"])]


@pytest.mark.parametrize("path", ["", "/", "/RPC2", "/xmlrpc"])
def test_every_address_callers_use_answers(house: Any, path: str) -> None:
    """1. With no path, `/`, `/RPC2` and `/xmlrpc`."""
    with xmlrpc.client.ServerProxy(house.url + path) as rpc:
        assert rpc.ping() is True


def test_a_specification_may_be_a_dict_a_list_or_json_of_either(rpc: Any) -> None:
    """2."""
    spec = {"name": "a", "tags": ["seen"], "conditions": NOWHERE, "command": "true"}
    wanted = {"name": "a", "tags": ["seen"], "conditions": NOWHERE}
    one, two = rpc.newjob(spec), rpc.newjob([spec, spec])
    three, four = rpc.newjob(json.dumps(spec)), rpc.newjob(json.dumps([spec, spec]))
    assert [len(made) for made in (one, two, three, four)] == [1, 2, 1, 2]
    ids = one + two + three + four
    assert rpc.getJobs(ids, list(wanted)) == [wanted] * 6
    rpc.cancelJobs(ids)


def test_a_parent_may_be_named_by_text_or_by_nothing(house: Any, rpc: Any) -> None:
    """3. As `$JOBID` has it, or as `sendJob` always passes it."""
    (parent,) = rpc.newjob({"name": "parent", "conditions": NOWHERE, "command": "true"})
    (child,) = rpc.newjob({"name": "child"}, str(parent))
    with house.rpc as with_none:
        (free,) = with_none.newjob({"name": "free"}, None)
    parents = rpc.getJobs([child, free], ["parents"])
    assert parents == [{"parents": [parent]}, {"parents": []}]
    rpc.cancelJobs([parent])


EXAMPLE_PING = """
import xmlrpc.client
hq_server = xmlrpc.client.ServerProxy("http://localhost:5000")
try:
    hq_server.ping()
except:
    print("HQueue server is down.")
"""

EXAMPLE_SUBMIT = """
import time
import xmlrpc.client

# Connect to the HQueue server.
hq_server = xmlrpc.client.ServerProxy("http://hq_server_hostname:5000")

# Define a job which renders an image from an IFD using Mantra.
job_spec = {
    "name" : "Render My Image",
    "shell" : "bash",
    "command": "echo PROGRESS: 1/2;"
               + " echo rendering;"
               + " echo PROGRESS: 2/2"
}

# Submit the job to the server.
# newjob() returns a list of job ids (in case multiple jobs are passed in at once).
job_ids = hq_server.newjob(job_spec)

# Periodically check the job progress and status.
while True:
    # Get the job status.
    job_details = hq_server.getJob(job_ids[0], ["progress", "status"])
    status = job_details["status"]

    # Check if the job is finished.
    if status in ("succeeded", "failed", "cancelled", "abandoned"):
        break

    # Job is not finished.  Output its progress.
    progress = job_details["progress"]
    print("Progress: %.2f" % (progress * 100))

# Output final status.
print("Status: ", job_details["status"])
"""
"""The two examples of the API page, changed for Python 3 and for a command that exists."""


def run_example(text: str, url: str) -> str:
    text = text.replace("http://localhost:5000", url)
    text = text.replace("http://hq_server_hostname:5000", url)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_the_api_page_run_as_they_are(house: Any, rpc: Any) -> None:
    """4."""
    assert run_example(EXAMPLE_PING, house.url) == ""
    assert run_example(EXAMPLE_PING, "http://127.0.0.1:9") == "HQueue server is down.\n"
    printed = run_example(EXAMPLE_SUBMIT, house.url)
    assert printed.splitlines()[-1] == "Status:  succeeded"
    job = rpc.getFinishedRootJobIds()[-1]
    assert rpc.getJobOutput(job) == "PROGRESS: 1/2\nrendering\nPROGRESS: 2/2\n"
    assert rpc.getJob(job, ["progress"]) == {"progress": 1.0}


def test_the_first_id_is_the_root_and_the_others_are_all_its_jobs(rpc: Any) -> None:
    """5. A GUI looks up the names of all nodes among the ids."""
    leaf = {"name": "leaf", "command": "true", "conditions": NOWHERE}
    ids = rpc.newjob(
        {"name": "root", "children": [{"name": "left", "children": [leaf]}, {"name": "right"}]}
    )
    assert names(rpc, ids) == ["root", "left", "right", "leaf"]
    assert rpc.getUnfinishedRootJobIds()[-1] == ids[0]
    rpc.cancelJobs(ids)


def test_specifications_of_one_list_name_each_other_in_any_order(house: Any, rpc: Any) -> None:
    """6. As Houdini sends a dictionary's values: the one above may come before the ones below."""
    comp, tile, frame = rpc.newjob(
        [
            {"name": "comp", "stubId": "/out/comp", "childStubIds": ["/out/tile", "/out/frame"]},
            {"name": "tile", "stubId": "/out/tile", "childStubIds": [], "command": "true"},
            {"name": "frame", "stubId": "/out/frame", "childStubIds": ["/out/tile"],
             "command": "true"},
        ]
    )  # fmt: skip
    assert rpc.getJob(comp, ["children"]) == {"children": [tile, frame]}
    assert rpc.getJob(tile, ["parents"]) == {"parents": [comp, frame]}
    assert house.wait(comp) == "succeeded"
    ended = [str(job["endTime"]) for job in rpc.getJobs([tile, frame, comp], ["endTime"])]
    assert ended == sorted(ended)


def test_a_parent_takes_new_children_while_it_waits_and_while_it_runs(
    house: Any, rpc: Any, signpost: Any, gate: Any
) -> None:
    """7. `parentIds` of text, from inside a running job."""
    at_gate = f"echo $JOBID > {signpost.path}; read x < {gate.path}"
    first = {"name": "first", "command": at_gate}
    (parent, first_id) = rpc.newjob({"name": "parent", "command": at_gate, "children": [first]})
    assert int(signpost.line()) == first_id and house.status(parent) == "queued"
    (second,) = rpc.newjob({"name": "second", "parentIds": [str(parent)], "command": at_gate})
    assert int(signpost.line()) == second
    gate.path.write_text("go\n")
    house.wait_until(parent, lambda: "succeeded" in (house.status(first_id), house.status(second)))
    assert house.status(parent) == "queued"
    gate.path.write_text("go\n")
    assert int(signpost.line()) == parent
    (third,) = rpc.newjob({"name": "third", "parentIds": [str(parent)], "command": at_gate})
    assert int(signpost.line()) == third
    gate.path.write_text("go\ngo\n")
    assert house.wait(parent) == house.wait(third) == "succeeded"
    assert rpc.getJob(parent, ["children"])["children"] == [first_id, second, third]
    assert house.story(parent).count("running") == 1


def test_both_parents_of_a_job_wait_for_it(house: Any, rpc: Any, signpost: Any, gate: Any) -> None:
    """8. A slice of a simulation belongs to the container and to the clean-up."""
    one, two, shared = rpc.newjob(
        [
            {"name": "container", "childStubIds": ["slice"], "stubId": "a"},
            {"name": "clean-up", "childStubIds": ["slice"], "stubId": "b", "command": "true"},
            {"name": "slice", "stubId": "slice",
             "command": f"echo at > {signpost.path}; read x < {gate.path}"},
        ]
    )  # fmt: skip
    signpost.line()
    assert rpc.getJob(shared, ["parents"]) == {"parents": [one, two]}
    assert [house.status(job) for job in (one, two)] == ["queued", "queued"]
    gate.path.write_text("go\n")
    assert house.wait(one) == house.wait(two) == "succeeded"


def test_a_container_with_empty_fields_succeeds_last(house: Any, rpc: Any) -> None:
    """9. As a submitter writes one."""
    child = {"name": "child", "command": "true"}
    ids = rpc.newjob(
        {"name": "container", "command": "", "environment": {}, "conditions": [], "tags": [],
         "children": [child, child]}
    )  # fmt: skip
    assert house.wait(ids[0]) == "succeeded"
    container, *children = rpc.getJobs(ids, ["status", "endTime", "progress", "overallProgress"])
    assert {job["status"] for job in children} == {"succeeded"}
    assert max(str(job["endTime"]) for job in children) <= str(container["endTime"])
    assert (container["progress"], container["overallProgress"]) == (0.0, 1.0)


def test_a_failed_child_fails_its_parent_unless_another_try_succeeds(
    house: Any, rpc: Any, tmp_path: Path
) -> None:
    """10."""
    good, bad = {"name": "good", "command": "true"}, {"name": "bad", "command": "exit 3"}
    above = {"name": "parent", "command": "echo ran"}
    failing = rpc.newjob({**above, "children": [good, bad]})
    assert house.wait(failing[0]) == "failed"
    assert names(rpc, failing[1:]) == ["good", "bad"]
    assert [house.status(job) for job in failing[1:]] == ["succeeded", "failed"]
    assert rpc.getJobOutput(failing[0]) == ""
    assert "running" not in house.story(failing[0])
    once = f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 1; }}"
    parent, child = rpc.newjob(
        {**above, "children": [{"name": "unlucky", "command": once, "triesLeft": 1}]}
    )
    assert house.wait(parent) == "succeeded"
    assert rpc.getJobOutput(parent) == "ran\n"
    assert rpc.getJob(child, ["triesLeft", "status"]) == {"triesLeft": 0, "status": "succeeded"}


def test_jobs_share_a_machine_by_cpus_and_tags(farm: Any, signpost: Any, gate: Any) -> None:
    """11. `single`, the pairs of `single:1`, CPUs, and 0 CPUs for an unknown number."""
    farm.start_server()
    farm.start_agent(cpus=4)
    command = f"echo $JOBID > {signpost.path}; read x < {gate.path}"
    two = farm.submit(command, cpus=2)
    one = farm.submit(command, cpus=1, tags=["single:1"])
    assert {int(signpost.line()), int(signpost.line())} == {two, one}
    twin = farm.submit(command, tags=["single:1"])
    assert "another job with the tag single:1" in farm.job(twin, "waitingFor")["waitingFor"]
    too_big = farm.submit(command, cpus=5)
    assert "4 CPUs" in farm.job(too_big, "waitingFor")["waitingFor"]
    with farm.rpc as rpc:
        rpc.cancelJobs([twin, too_big])
    alone = farm.submit(command, tags=["single"])
    assert "wants a machine for itself" in farm.job(alone, "waitingFor")["waitingFor"]
    with farm.rpc as rpc:
        rpc.cancelJobs([two, one])
    assert int(signpost.line()) == alone
    small = farm.submit(command)
    assert "given to a job that wants it for itself" in farm.job(small, "waitingFor")["waitingFor"]
    with farm.rpc as rpc:
        rpc.cancelJobs([alone])
    assert int(signpost.line()) == small
    unknown = farm.submit(command, cpus=0)
    assert int(signpost.line()) == unknown
    assert farm.job(unknown, "cpus") == {"cpus": 1}
    with farm.rpc as rpc:
        rpc.cancelJobs([small, unknown])
    assert signpost.is_silent()


def test_a_client_runs_its_platform_s_command_and_no_other(house: Any, rpc: Any) -> None:
    """12."""
    here = house.node("b")["platform"].partition("-")[0]
    others = {"linux", "windows", "macosx"} - {here}
    (job,) = rpc.newjob({"name": "both", "command": {here: "echo here", others.pop(): "exit 1"}})
    assert house.wait(job) == "succeeded"
    assert rpc.getJobOutput(job) == "here\n"
    (elsewhere,) = rpc.newjob({"name": "elsewhere", "command": {others.pop(): "true"}})
    waits = rpc.getJob(elsewhere, ["status", "waitingFor"])
    assert waits["status"] == "runnable" and "command" in waits["waitingFor"]
    rpc.cancelJobs([elsewhere])


@pytest.mark.parametrize("name", ["hostname", "hostname:name", "group", "os"])
@pytest.mark.parametrize("op", ["==", "!=", "in", "not_in", "any"])
def test_a_condition_of_each_kind_holds_for_its_clients_only(
    house: Any, rpc: Any, name: str, op: str
) -> None:
    """13. Values are compared without case; lists are separated by commas."""
    host = house.node("b")["hostname"]
    everybody, only_b = {host, f"{host}:b"}, {f"{host}:b"}
    system = house.node("b")["platform"].partition("-")[0]
    value, named = {
        "hostname": (host.upper(), everybody),
        "hostname:name": (f"{host}:b", only_b),
        "group": ("fast ones", only_b),
        "os": (system, everybody),
    }[name]
    if op in ("in", "not_in", "any"):
        value = f"nothing, {value}"
    permitted = named if op in ("==", "in", "any") else everybody - named
    condition = {"type": "client", "name": name, "op": op, "value": value}
    (job,) = rpc.newjob({"name": "job", "command": "true", "conditions": [condition]})
    assert set(rpc.getPermittedClientsList(job)) == permitted
    if permitted:
        assert house.wait(job) == "succeeded"
        assert rpc.getJob(job, ["clients"])["clients"][0]["label"] in permitted
    else:
        assert "condition" in rpc.getJob(job, ["waitingFor"])["waitingFor"]
        rpc.cancelJobs([job])


def test_conditions_are_inherited_from_the_root_and_survive_being_sent_back(
    house: Any, rpc: Any
) -> None:
    """13. A farm script reads them with `getinfo` and puts them into new jobs."""
    child = {"name": "child", "children": [{"name": "grandchild", "command": "true"}]}
    ids = rpc.newjob({"name": "root", "conditions": ON_B, "children": [child]})
    assert house.wait(ids[0]) == "succeeded"
    assert [client["name"] for client in rpc.getJob(ids[2])["clients"]] == ["b"]
    for job in ids:
        assert rpc.getinfo(str(job))["conditions"] == ON_B
    told = rpc.getinfo(str(ids[2]))
    assert told["parents"] == [ids[1]] and rpc.getinfo(4711) == {}
    (again,) = rpc.newjob(
        {"name": "again", "conditions": told["conditions"], "priority": told["priority"]}
    )
    assert rpc.getJob(again, ["conditions", "priority"]) == {"conditions": ON_B, "priority": 0}


def test_both_spellings_of_get_job_ids_by_status_answer_alike(house: Any, rpc: Any) -> None:
    """14. The page's and the right one."""
    house.wait(house.submit())
    for status in rpc.getAllJobStatusNames():
        assert rpc.getJobIdsBySatus([status]) == rpc.getJobIdsByStatus([status])
    assert rpc.getJobIdsByStatus(["succeeded"])


def test_times_parse_as_callers_parse_them_and_are_none_before_they_are_known(
    house: Any, rpc: Any
) -> None:
    """15."""
    done = house.submit()
    house.wait(done)
    job = rpc.getJob(done, ["queueTime", "startTime", "endTime"])
    times = [job["queueTime"], job["startTime"], job["endTime"], rpc.getServerTime()]
    read = [datetime.strptime(str(time), "%Y%m%dT%H:%M:%S") for time in times]
    assert read == sorted(read)
    assert read == [datetime.strptime(time.value, "%Y%m%dT%H:%M:%S") for time in times]
    waiting = house.submit(conditions=NOWHERE)
    assert rpc.getJob(waiting, ["startTime", "endTime"]) == {"startTime": None, "endTime": None}
    rpc.cancelJobs([waiting])


def test_a_browser_lists_finished_and_unfinished_jobs_with_all_they_have(
    house: Any, rpc: Any
) -> None:
    """16. Without attribs; `clients[0]["hostname"]` of what has run."""
    done = house.submit(conditions=ON_B)
    house.wait(done)
    waiting = house.submit(conditions=NOWHERE)
    finished = rpc.getJobs(rpc.getFinishedRootJobIds())
    unfinished = rpc.getJobs(rpc.getUnfinishedRootJobIds())
    assert finished[-1]["id"] == done and unfinished[-1]["id"] == waiting
    assert finished[-1]["clients"][0]["hostname"] == house.node("b")["hostname"]
    assert unfinished[-1]["clients"] == []
    for job in (*finished, *unfinished):
        assert job["queueTime"].value and round(job["progress"] * 100) >= 0
        assert job["ETA"] / 60 >= -1 and type(job["id"]) is int
    rpc.cancelJobs([waiting])


def test_no_ids_mean_none_and_nothing_means_all(house: Any, rpc: Any) -> None:
    """17. And a farm script asks for `cpus` and `tags` together."""
    job = house.submit(cpus=2, tags="single, seen", conditions=NOWHERE)
    assert rpc.getJob(job, ["cpus", "tags"]) == {"cpus": 2, "tags": ["single", "seen"]}
    assert rpc.getJobs([]) == rpc.getClients([]) == []
    with house.rpc as with_none:
        assert len(with_none.getClients(None, ["id", "hostname"])) == len(rpc.getClients()) == 2
    rpc.cancelJobs([job])


def test_output_that_xml_cannot_hold_is_still_told(house: Any, rpc: Any) -> None:
    """18. ESC, NUL and what is no UTF-8; `max_last_chars` counts characters."""
    job = house.submit(r"printf '\033[31mred\033[0m \000 \377 äöü€'")
    house.wait(job)
    assert rpc.getJobOutput(job) == "\ufffd[31mred\ufffd[0m \ufffd \ufffd äöü€"
    assert rpc.getJobOutput(job, 2) == "ü€"


READ_OWN_OUTPUT = (
    "import os, xmlrpc.client as x; hq = x.ServerProxy(os.environ['HQSERVER']);"
    "print('read:', hq.getJobOutput(int(os.environ['JOBID'])).upper())"
)


def test_an_on_error_script_reads_its_job_s_output(house: Any, rpc: Any) -> None:
    """19. Through the API, while the job is not over."""
    script = f'{sys.executable} -c "{READ_OWN_OUTPUT}"'
    job = house.submit("echo went wrong; exit 1", onError=script)
    assert house.wait(job) == "failed"
    assert "read: WENT WRONG" in rpc.getJobOutput(job)


def test_a_method_that_an_older_server_lacks_is_a_fault_and_nothing_more(
    house: Any, rpc: Any
) -> None:
    """20. Submitters fill their check boxes for mail so, and go on without them."""

    def reasons(method: str) -> str | None:
        try:
            return ",".join(getattr(rpc, method)())
        except xmlrpc.client.Fault as fault:
            assert fault.faultCode == 0 and method in fault.faultString
            return None

    assert reasons("getTeaBreakEventNames") is None
    probed = [
        reasons(f"get{kind}Names")
        for kind in (
            "StartedJobEvent", "SucceededStatus", "FailedJobStatus", "PausedJobStatus",
            "ResumedEvent", "RescheduledEvent", "PriorityChangedEvent",
        )
    ]  # fmt: skip
    assert all(probed)
    job = house.submit(emailTo="a@b.example", emailReasons=",".join(map(str, probed)))
    assert house.wait(job) == "succeeded"


def test_cancelling_interrupts_and_leaves_nothing_behind_not_even_what_hid(
    house: Any, rpc: Any, signpost: Any
) -> None:
    """21. SIGINT first, then the onCancel script."""
    job = house.submit(
        f"trap 'echo interrupted' INT; (setsid sh -c 'echo $$ > {signpost.path}; sleep 1000' &);"
        f" sleep 1000 & echo $! > {signpost.path}; wait; wait",
        onCancel="echo on cancel",
    )
    pids = [int(signpost.line()), int(signpost.line())]
    ends = [os.pidfd_open(pid) for pid in pids]
    rpc.cancelJobs([job])
    assert house.status(job) == "cancelled"
    printed = house.final_output(job)
    assert "interrupted" in printed and "on cancel" in printed
    for end in ends:
        house.wait_for_exit(end)


def test_what_a_client_runs_can_be_asked_for_also_when_it_was_deleted_meanwhile(
    house: Any, rpc: Any, signpost: Any
) -> None:
    job = house.submit(f"trap '' INT; echo $$ > {signpost.path}; sleep 1000")
    pid = int(signpost.line())
    [client] = [one["id"] for one in rpc.getClients() if job in one["runningJobs"]]
    rpc.cancelJobs([job])
    assert job in running(rpc, client)
    rpc.deleteJobs([job])
    assert job not in running(rpc, client)
    assert job not in rpc.getJobIdsAssignedToClient(client)
    os.killpg(pid, signal.SIGKILL)


def running(rpc: Any, client: int) -> list[int]:
    jobs: list[int] = rpc.getClient(client, ["runningJobs"])["runningJobs"]
    return jobs


def test_a_job_of_a_killed_node_is_abandoned_and_runs_again_when_the_node_returns(
    farm: Any, signpost: Any, gate: Any
) -> None:
    """22. The same run: its process has outlived the agent."""
    farm.start_server("--active-timeout", "1", "--requeue-after", "0", "--heartbeat", "0.2")
    agent = farm.start_agent()
    job = farm.submit(f"echo at > {signpost.path}; read x < {gate.path}")
    signpost.line()
    agent.kill()
    farm.wait(job, "abandoned")
    assert farm.job(job, "uiStatus") == {"uiStatus": "abandoned"}
    with farm.rpc as rpc:
        assert job in rpc.getFinishedRootJobIds()
    farm.start_agent()
    farm.wait(job, "running")
    gate.path.write_text("go\n")
    assert farm.wait(job) == "succeeded"
    assert signpost.is_silent()
    assert farm.story(job) == ["runnable", "running", "abandoned", "running", "succeeded"]


def test_a_job_sees_the_variables_that_hqueue_promises(house: Any, rpc: Any) -> None:
    """23. In the forms that farm scripts take apart."""
    names = "JOBID ROOTJOBID HQSERVER HQHOSTS HQCLIENTARCH HQCLIENT MINE"
    child_spec = {
        "name": "child",
        "command": f"for n in {names}; do eval echo $n=\\$$n; done",
        "environment": {"MINE": "a value; with $signs"},
    }
    root, child = rpc.newjob({"name": "root", "children": [child_spec]})
    house.wait(root)
    seen = dict(line.split("=", 1) for line in rpc.getJobOutput(child).splitlines())
    assert seen["JOBID"] == str(child) and seen["ROOTJOBID"] == str(root)
    assert seen["HQSERVER"] == house.url
    assert seen["HQSERVER"][7:].split(":")[0] == "127.0.0.1"
    assert seen["HQHOSTS"].split(",") == [rpc.getJob(child)["clients"][0]["hostname"]]
    assert seen["HQCLIENTARCH"].partition("-")[0] in ("linux", "macosx")
    assert Path(seen["HQCLIENT"]).is_dir()
    assert seen["MINE"] == "a value; with $signs"


def test_the_node_s_log_tells_of_jobs_in_the_words_that_scripts_look_for(
    house: Any, rpc: Any, signpost: Any
) -> None:
    """24. Containers find out from it whether they are idle."""
    agent = house.start_agent("logger")
    label = house.node("logger")["label"]
    at = [{"type": "client", "name": "hostname:name", "op": "==", "value": label}]
    done = house.submit(conditions=at)
    house.wait(done)
    cut = house.submit(f"echo at > {signpost.path}; sleep 1000", conditions=at)
    signpost.line()
    rpc.cancelJobs([cut])
    house.final_output(cut)
    with house.client("logger") as client:
        client.terminate()
    assert agent.popen.wait(60) == 0
    log = (house.agent_folder("logger") / "hqnode.log").read_text()
    told = [line.split(" ", 2)[2] for line in log.splitlines() if " job " in line]
    for line in (f"Running job {done}", f"Finished job {done}", f"Running job {cut}",
                 f"Cancelling job {cut}", f"Finished job {cut}"):  # fmt: skip
        assert [each for each in told if each.startswith(line)], (line, told)


def test_many_calls_in_one_and_the_server_s_own_list_of_methods(house: Any, rpc: Any) -> None:
    """25. As Python's `MultiCall` sends them."""
    job = house.submit(name="one", conditions=NOWHERE)
    calls = xmlrpc.client.MultiCall(rpc)
    calls.ping()
    calls.getJob(job, ["name"])
    calls.getJob(4711)
    answers = calls()
    assert [answers[0], answers[1]] == [True, {"name": "one"}]
    with pytest.raises(xmlrpc.client.Fault, match="no job 4711"):
        answers[2]
    listed = rpc.system.listMethods()
    assert {"ping", "newjob", "getJobIdsBySatus", "system.multicall"} <= set(listed)
    assert all(rpc.system.methodHelp(name) for name in listed)
    rpc.cancelJobs([job])


def test_disabling_answers_true_or_none(house: Any, rpc: Any) -> None:
    """26."""
    host = house.node("b")["hostname"]
    assert rpc.setdisabled("nohost", True) is None
    assert rpc.setdisabled(f"{host}:nobody", True) is None
    assert rpc.setdisabled(f"{host}:b", True) is True
    drained = house.submit(conditions=ON_B)
    assert "disabled" in rpc.getJob(drained, ["waitingFor"])["waitingFor"]
    assert rpc.setdisabled(f"{host}:b", False) is True
    assert house.wait(drained) == "succeeded"


def test_a_node_that_terminates_ends_paused_jobs_and_finishes_running_ones(
    house: Any, rpc: Any, signpost: Any, gate: Any
) -> None:
    """27. It is gone from the list at once, and exits when its last job has ended."""
    agent = house.start_agent("leaver")
    node = house.node("leaver")
    there = [{"type": "client", "name": "hostname:name", "op": "==", "value": node["label"]}]
    at_gate = f"echo $JOBID > {signpost.path}; read x < {gate.path}"
    paused, running = (house.submit(at_gate, conditions=there) for _ in range(2))
    assert {int(signpost.line()), int(signpost.line())} == {paused, running}
    rpc.pauseJobs([paused])
    house.wait(paused, "paused")
    with house.client("leaver") as client:
        assert client.terminate() is None
    assert house.wait(paused) == "cancelled"
    assert node["id"] not in [client["id"] for client in rpc.getClients()]
    late = house.submit(conditions=there)
    assert house.status(late) == "runnable" and house.status(running) == "running"
    assert agent.popen.poll() is None and psutil.pid_exists(agent.announced["pid"])
    gate.path.write_text("go\n")
    assert house.wait(running) == "succeeded"
    assert agent.popen.wait(60) == 0
    assert house.status(late) == "runnable"
    rpc.cancelJobs([late])
