"""Attempts through link, agent and keeper, with real processes."""

import asyncio
import os
import resource
import signal

import pytest

from roost.core.messages import AttemptPaused, AttemptResumed, AttemptStarted, ChirpOrder, Gates
from roost.core.records import PROGRESS_UNIT, AttemptCause
from roost.errors import StoreFailure
from roost.wire.link import Farewell


async def test_true_exit_status_and_output_are_reported(server, agent):
    await server.order("echo out; echo err >&2; exit 3")
    ended = await server.ended()
    assert (ended.cause, ended.exit_code) == (AttemptCause.EXITED, 3)
    assert server.text() == "out\nerr\n"


async def test_a_start_is_reported_while_the_job_runs(server, agent, tmp_path):
    await server.order(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done")
    assert await server.said(AttemptStarted)
    (tmp_path / "go").touch()
    assert (await server.ended()).started


async def test_death_by_signal_is_a_negative_status(server, agent):
    await server.order("kill -TERM $$")
    assert (await server.ended()).exit_code == -signal.SIGTERM


async def test_jobs_use_a_few_files_again_and_see_nothing_of_each_other(server, agent):
    chirp = ChirpOrder(Gates(True, True, True), "owner", "", 1, "Chirp*")
    command = "echo $JOBID; ls $_CONDOR_SCRATCH_DIR; touch $_CONDOR_SCRATCH_DIR/mine"
    for job in range(1, 21):
        await server.order(command, job, environment={"JOBID": str(job)}, chirp=chirp)
        assert (await server.ended(job)).exit_code == 0
        assert server.text(job) == f"{job}\n"
    for name in ("output", "scratch"):
        assert len(list((agent.options.data / name).glob("[0-9]"))) <= 3


async def test_jobs_beyond_the_cpus_start_by_themselves_as_others_end(server, make_agent, tmp_path):
    agent = make_agent(cpus=1)
    await agent.start_process()
    await server.joined()
    await _three_jobs_of_which_the_first_waits(server, tmp_path)
    await agent.kill()
    (tmp_path / "go").touch()
    await agent.start_process()
    for job in (2, 3):
        assert (await server.ended(job)).exit_code == 0
    assert (tmp_path / "order").read_text() == "1\n2\n3\n"


async def test_jobs_that_waited_for_a_cpu_outlive_their_keeper(server, make_agent, tmp_path):
    agent = make_agent(cpus=1)
    await agent.start()
    await server.joined()
    await _three_jobs_of_which_the_first_waits(server, tmp_path)
    agent.kill_keeper()
    (tmp_path / "go").touch()
    for job in (2, 3):
        assert (await server.ended(job)).exit_code == 0
    assert (tmp_path / "order").read_text() == "1\n2\n3\n"


async def test_a_job_that_waits_for_a_cpu_is_given_back(server, make_agent, tmp_path):
    await make_agent(cpus=1).start()
    await server.joined()
    await _three_jobs_of_which_the_first_waits(server, tmp_path)
    await server.signal("eject", 2)
    assert (await server.ended(2)).cause is AttemptCause.EJECTED
    (tmp_path / "go").touch()
    assert (await server.ended(3)).exit_code == 0
    assert (tmp_path / "order").read_text() == "1\n3\n"


async def _three_jobs_of_which_the_first_waits(server, folder):
    wait = f"echo up; until test -e {folder}/go; do sleep 0.01; done;"
    for job in (1, 2, 3):
        await server.order(f"{wait if job == 1 else ''} echo {job} >> {folder}/order", job)
    await server.printed("up")


async def test_a_script_has_the_cpu_of_its_command(server, make_agent, tmp_path):
    await make_agent(cpus=1).start()
    await server.joined()
    say = f"echo $JOBID >> {tmp_path}/order"
    for job in (1, 2):
        await server.order(say, job, cleanup=f"sleep 0.05; {say}")
    for job in (1, 2):
        await server.ended(job)
    assert (tmp_path / "order").read_text() == "1\n1\n2\n2\n"


async def test_environment_of_a_job(server, make_agent):
    agent = make_agent(job_environment={"FROM_NODE": "node"}, root="/farm")
    await agent.start()
    await server.joined()
    names = "JOBID HQSERVER HQROOT FROM_NODE FROM_JOB ROOST_ATTEMPT"
    command = f'for name in {names}; do eval "echo $name=\\$$name"; done; test -n "$HQCLIENTARCH"'
    await server.order(command, environment={"JOBID": "1", "FROM_JOB": "job"})
    assert (await server.ended()).exit_code == 0
    assert server.text().splitlines() == [
        "JOBID=1",
        f"HQSERVER={server.url}",
        "HQROOT=/farm",
        "FROM_NODE=node",
        "FROM_JOB=job",
        "ROOST_ATTEMPT=1.1",
    ]


@pytest.mark.parametrize(
    ("told", "own", "root"),
    [
        ({}, {}, "/mnt/farm"),
        ({"root": "/here"}, {}, "/here"),
        ({"job_environment": {"HQROOT": "/node"}}, {}, "/node"),
        ({}, {"HQROOT": "/job"}, "/job"),
    ],
)
async def test_the_shared_folder_is_the_server_s_unless_the_machine_or_the_job_has_another(
    server, make_agent, told, own, root
):
    server.root = "/mnt/farm"
    await make_agent(**told).start()
    await server.joined()
    await server.order("echo $HQROOT", environment=own)
    await server.ended()
    assert server.text() == f"{root}\n"


async def test_shell_and_folder_of_the_order_are_used(server, agent, tmp_path):
    await server.order("echo ${BASH_VERSION:+bash}; pwd", shell="bash", cwd=str(tmp_path))
    await server.ended()
    assert server.text() == f"bash\n{tmp_path}\n"


@pytest.mark.parametrize("missing", [{"shell": "no-such-shell"}, {"cwd": "/no/such/folder"}])
async def test_what_cannot_be_run_says_so_in_its_output(server, agent, missing):
    await server.order("true", **missing)
    ended = await server.ended()
    assert ended.cause is AttemptCause.NOT_STARTED
    assert "No such file or directory" in ended.text and next(iter(missing.values())) in ended.text
    assert "No such file or directory" in server.text()
    assert server.text().endswith("The command could not be run.\n")


@pytest.mark.parametrize(
    ("command", "last_try", "expected"),
    [
        ("true", True, "success cleanup"),
        ("false", True, "error cleanup"),
        ("false", False, "cleanup"),
    ],
)
async def test_scripts_after_the_command(server, agent, command, last_try, expected):
    await server.order(
        f"echo $JOBID; {command}", last_try=last_try,
        on_success="echo success; exit 7", on_error="echo error; exit 7",
        on_cancel="echo cancel", cleanup="echo cleanup; exit 7",
    )  # fmt: skip
    ended = await server.ended()
    assert (ended.cause, ended.exit_code) == (AttemptCause.EXITED, int(command == "false"))
    assert server.text().split() == ["1", *expected.split()]


async def test_child_error_script_runs_alone(server, agent):
    await server.order("", on_child_error="echo child $JOBID; exit 4")
    assert (await server.ended()).exit_code == 4
    assert server.text() == "child 1\n"


async def test_cancel_runs_the_scripts_of_a_cancel(server, agent):
    await server.order(
        "echo up; exec sleep 1000",
        on_cancel="echo cancelled", on_error="echo error", cleanup="echo gone",
    )  # fmt: skip
    await server.printed("up")
    await server.signal("cancel")
    ended = await server.ended()
    assert (ended.cause, ended.exit_code) == (AttemptCause.CANCELLED, -signal.SIGINT)
    assert server.text().split() == ["up", "cancelled", "gone"]


async def test_eject_runs_no_scripts(server, agent):
    await server.order("echo up; sleep 1000", on_cancel="echo no", cleanup="echo no")
    await server.printed("up")
    await server.signal("eject")
    assert (await server.ended()).cause is AttemptCause.EJECTED
    assert server.text() == "up\n"


async def test_cancel_interrupts_then_terminates_then_kills(server, agent):
    await server.order(
        "trap 'echo int' INT; trap 'echo term' TERM; echo up; while :; do sleep 0.01; done"
    )
    await server.printed("up")
    await server.signal("cancel")
    ended = await server.ended()
    assert (ended.cause, ended.exit_code) == (AttemptCause.CANCELLED, -signal.SIGKILL)
    # The shell may add a word about its own children.
    assert [w for w in server.text().split() if w in ("int", "term")] == ["int", "term"]


async def test_a_job_may_react_to_the_interrupt(server, agent):
    await server.order("trap 'echo tidy; exit 5' INT; echo up; while :; do sleep 0.01; done")
    await server.printed("up")
    await server.signal("cancel")
    ended = await server.ended()
    assert (ended.cause, ended.exit_code) == (AttemptCause.CANCELLED, 5)
    assert server.text() == "up\ntidy\n"


ESCAPES = {
    "background": "sleep 1000 &",
    "ignoring": "(trap '' INT TERM HUP; exec sleep 1000) &",
    "session": "setsid sleep 1000 &",
    "double fork": "(setsid sh -c 'sleep 1000 & exec sleep 1000' &) ",
    "wiped": "(env -i setsid sh -c 'sleep 1000 >/dev/null 2>&1 </dev/null &' &)",
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("end", ["cancel", "kill", "exit"])
async def test_nothing_a_job_starts_survives_it(server, agent, escape, end):
    last = "exit 0" if end == "exit" else "sleep 1000"
    await server.order("echo bystander; sleep 1000", 2)
    await server.order(f"{escape}\n sleep 0.1; echo up; {last}")
    await server.printed("up")
    await server.printed("bystander", 2)
    if end != "exit":
        assert len(agent.members()) >= 2
        await server.signal(end)
    if end == "kill":
        await server.order("true", 1, 2)  # waits for the first to be gone
        await server.ended(1, 2)
    else:
        await server.ended()
    assert agent.members() == []
    assert agent.members(2), "others are left alone"


async def test_pause_stops_all_processes_and_resume_continues_them(server, agent):
    await server.order("setsid sleep 1000 & echo up; exec sleep 1000")
    await server.printed("up")
    await server.signal("pause")
    await server.said(AttemptPaused)
    async with asyncio.timeout(60):
        # Each stops when it next would go on, and nothing tells of that.
        while {process.state for process in agent.members()} != {"T"}:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await server.signal("resume")
    await server.said(AttemptResumed)
    assert "T" not in {process.state for process in agent.members()}


async def test_a_paused_job_can_react_to_its_cancel(server, agent):
    await server.order("trap 'echo tidy; exit 5' INT; echo up; while :; do sleep 0.01; done")
    await server.printed("up")
    await server.signal("pause")
    await server.said(AttemptPaused)
    await server.signal("cancel")
    assert (await server.ended()).exit_code == 5


async def test_time_limit_cancels(server, agent):
    await server.order("sleep 1000", max_time_ms=50)
    ended = await server.ended()
    assert ended.cause is AttemptCause.TIME_LIMIT
    assert ended.ran_ms >= 50


async def test_progress_travels_with_beats_and_the_end(server, make_agent):
    server.beat_ms = 20
    await make_agent().start()
    await server.joined()
    await server.order("echo 'PROGRESS: 1/4'; sleep 1000")
    await server.until(lambda: (1, 1, PROGRESS_UNIT // 4) in _progress(server))
    await server.signal("cancel")
    assert (await server.ended()).progress == PROGRESS_UNIT // 4


async def test_a_flood_of_output_arrives_whole_while_beats_go_on(server, make_agent):
    server.beat_ms = 20
    await make_agent().start()
    await server.joined()
    size = 50_000_000
    await server.order(f"yes 0123456789 | head -c {size}")
    await server.ended()
    assert len(server.output[1, 1]) == size
    assert server.text() == ("0123456789\n" * (size // 11 + 1))[:size]
    assert len(_beats(server)) > 3


async def test_no_more_than_the_window_is_sent_unacknowledged(server, agent):
    from roost.wire.link import OUTPUT_WINDOW_BYTES, OutputSaved

    server.acknowledges = False
    await server.order("head -c 6000000 /dev/zero; echo end")
    await server.until(lambda: len(server.output.get((1, 1), b"")) == OUTPUT_WINDOW_BYTES)
    await server.order("true", 2)
    assert (await server.ended(2)).exit_code == 0
    assert len(server.output[1, 1]) == OUTPUT_WINDOW_BYTES
    server.acknowledges = True
    await server.send(OutputSaved(1, 1, OUTPUT_WINDOW_BYTES))
    await server.ended()
    assert len(server.output[1, 1]) == 6_000_004


async def test_a_repeated_order_is_not_started_twice(server, agent):
    await server.order("echo up; sleep 1000")
    await server.printed("up")
    await server.said(AttemptStarted)
    await server.order("echo up; sleep 1000")
    await server.until(lambda: sum(isinstance(r, AttemptStarted) for r in server.reports) == 2)
    await server.signal("cancel")
    await server.ended()
    assert server.text() == "up\n"


async def test_jobs_keep_their_parent_on_a_disk_that_takes_nothing(server, agent):
    go = agent.options.data / "go"
    os.mkfifo(go)
    await server.order(f"echo up; read line < {go}; exit 3", job=1)
    await server.printed("up")
    keeper = int((agent.options.data / "keeper.lock").read_text())
    limits = resource.prlimit(keeper, resource.RLIMIT_FSIZE)
    resource.prlimit(keeper, resource.RLIMIT_FSIZE, (0, limits[1]))  # for ledger and log alike
    await server.order("echo never", job=2)
    assert (await server.ended(2)).cause is AttemptCause.EJECTED, "it goes to another machine"
    assert any(isinstance(message, Farewell) for message in server.messages)
    assert agent.task is not None and not agent.task.done()
    resource.prlimit(keeper, resource.RLIMIT_FSIZE, limits)
    go.write_text("on\n")
    assert (await server.ended(1)).exit_code == 3
    with pytest.raises(StoreFailure, match=r"cannot record it: .* The agent leaves"):
        await agent.task


def _beats(server):
    return [message for message in server.messages if type(message).__name__ == "Beat"]


def _progress(server):
    return [entry for beat in _beats(server) for entry in beat.progress]
