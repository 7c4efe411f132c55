"""The agent's life: restarts, broken links, port 5001, its files."""

import asyncio
import os
import resource
import signal
import time
import xmlrpc.client

import httpx2
import pytest

from roost.core.messages import AttemptEnded, AttemptPaused, AttemptStarted, HeldAttempt
from roost.core.records import AttemptCause
from roost.errors import Conflict
from roost.wire.link import Beat, Farewell, Refusal


async def test_facts_of_the_machine(server, make_agent):
    ready = await make_agent(name="second", cpus=3).start()
    facts = (await server.joined()).facts
    assert facts.label == "testhost:second"
    assert (facts.cpus, facts.ip) == (3, "127.0.0.1")
    assert ready.url == f"http://127.0.0.1:{facts.port}"
    assert len(facts.installation) == 32 and facts.memory_kb > 0
    assert facts.platform.startswith("linux-")


async def test_running_job_is_found_again_after_a_kill_of_the_agent(server, make_agent):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    os.mkfifo(agent.options.data / "go")
    await server.order("echo up; read line < go; echo $line; exit 3", cwd=str(agent.options.data))
    await server.printed("up")
    await agent.kill()
    await agent.start_process()
    assert (await server.joined(2)).attempts == (HeldAttempt(1, 1, "running", 1),)
    (agent.options.data / "go").write_text("went on\n")
    ended = await server.ended()
    assert (ended.cause, ended.exit_code) == (AttemptCause.EXITED, 3)
    assert server.text() == "up\nwent on\n"


async def test_time_limits_do_not_depend_on_whose_clock_was_set(server, make_agent, monkeypatch):
    agent = make_agent()
    with monkeypatch.context() as patch:
        real = time.time_ns
        patch.setattr(time, "time_ns", lambda: real() + 7_200_000_000_000)
        await agent.start()  # before the clock is set back, and its keeper after it
    await server.joined()
    go = agent.options.data / "go"
    os.mkfifo(go)
    await server.order(f"echo up; read line < {go}; exit 3", max_time_ms=600_000)
    await server.printed("up")
    await server.said(AttemptStarted)
    file = os.open(go, os.O_RDWR)  # also when nobody reads it any more
    os.write(file, b"on\n")
    ended = await server.ended()
    os.close(file)
    assert (ended.cause, ended.exit_code) == (AttemptCause.EXITED, 3)


async def _job_that_waits(server, agent, **more):
    """Starts a job that prints its process id and exits with 42 when told to."""
    go = agent.options.data / "go"
    os.mkfifo(go)
    await server.order(f"echo $$; read line < {go}; echo $line; exit 42", **more)
    await server.printed("\n")
    return int(server.text()), go


async def test_true_exit_status_of_a_job_that_ended_without_an_agent(server, make_agent, wait_gone):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    pid, go = await _job_that_waits(server, agent, on_error="echo script")
    await agent.kill()
    go.write_text("alone\n")
    await wait_gone(pid)
    await agent.start_process()
    ended = await server.ended()
    assert (ended.cause, ended.exit_code) == (AttemptCause.EXITED, 42)
    assert server.text() == f"{pid}\nalone\nscript\n"


async def test_true_exit_status_outlives_the_keeper_too(server, make_agent, wait_gone):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    pid, go = await _job_that_waits(server, agent)
    keeper = agent.keeper_pid
    await agent.kill()
    go.write_text("alone\n")
    await wait_gone(pid)
    await wait_gone(keeper)  # nothing lives and nobody is there: it has ended
    await agent.start_process()
    assert (await server.ended()).exit_code == 42
    assert agent.keeper_pid != keeper


async def test_running_job_is_found_through_the_ledger_and_its_end_is_lost(
    server, make_agent, wait_gone
):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    pid, go = await _job_that_waits(server, agent)
    await agent.kill()
    agent.kill_keeper()
    await agent.start_process()
    assert (await server.joined(2)).attempts == (HeldAttempt(1, 1, "running", 1),)
    assert pid in [process.pid for process in agent.members()]
    go.write_text("on\n")
    ended = await server.ended()
    assert (ended.cause, ended.exit_code) == (AttemptCause.LOST, None)
    assert server.text() == f"{pid}\non\n"


async def test_job_found_through_the_ledger_can_be_cancelled(server, make_agent):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    await server.order("setsid sleep 1000 & echo up; trap '' INT; sleep 1000")
    await server.printed("up")
    await agent.kill()
    agent.kill_keeper()
    await agent.start_process()
    await server.joined(2)
    await server.signal("cancel")
    assert (await server.ended()).cause is AttemptCause.CANCELLED
    assert agent.members() == []


async def test_job_that_vanished_with_its_keeper_is_lost(server, make_agent, wait_gone):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    pid, _ = await _job_that_waits(server, agent)
    await agent.kill()
    agent.kill_keeper()
    os.kill(pid, signal.SIGKILL)
    await wait_gone(pid)
    await agent.start_process()
    assert (await server.ended()).cause is AttemptCause.LOST


async def test_agent_starts_another_keeper_when_its_own_is_killed(server, agent):
    await server.order("echo up; sleep 1000")
    await server.printed("up")
    agent.kill_keeper()
    await server.order("true", 2)
    assert (await server.ended(2)).exit_code == 0
    await server.signal("cancel")
    assert (await server.ended()).cause is AttemptCause.CANCELLED
    assert agent.members() == []


async def test_paused_job_stays_paused_over_a_restart(server, make_agent):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    await server.order("echo up; exec sleep 1000")
    await server.printed("up")
    await server.signal("pause")
    await server.said(AttemptPaused)
    await agent.kill()
    await agent.start_process()
    assert (await server.joined(2)).attempts == (HeldAttempt(1, 1, "paused", 1),)
    assert {process.state for process in agent.members()} == {"T"}


async def test_unwanted_job_is_killed_when_the_agent_returns(server, make_agent, wait_gone):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    pid, _ = await _job_that_waits(server, agent)
    await agent.kill()
    server.unwanted.add((1, 1))
    await agent.start_process()
    await wait_gone(pid)
    await server.order("true", 2)
    await server.ended(2)
    [end] = [r for r in server.reports if r.job == 1 and not isinstance(r, AttemptStarted)]
    assert end == AttemptEnded(1, 1, AttemptCause.FENCED)


async def test_sigterm_stops_the_agent_within_two_seconds_and_no_job(server, make_agent):
    agent = make_agent()
    await agent.start_process()
    await server.joined()
    await server.order("echo up; exec sleep 1000")
    await server.printed("up")
    agent.process.terminate()
    async with asyncio.timeout(2):
        assert await agent.process.wait() == 0
    assert len(agent.members()) == 1
    assert not (agent.options.data / "hqnode.pid").exists()


async def test_end_of_stdin_stops_the_agent_when_asked(server, make_agent):
    agent = make_agent(exit_with_stdin=True)
    await agent.start_process()
    await server.joined()
    agent.process.stdin.close()
    assert await agent.gone() == 0


async def test_second_agent_on_a_folder_is_refused(server, agent, make_agent):
    with pytest.raises(Conflict, match=f"process {os.getpid()}, works in "):
        await make_agent().start()


async def test_stale_pid_file_does_no_harm(server, make_agent, tmp_path):
    agent = make_agent()
    agent.options.data.mkdir()
    (agent.options.data / "hqnode.pid").write_text("1\n")
    await agent.start()
    assert (agent.options.data / "hqnode.pid").read_text() == f"{os.getpid()}\n"


async def test_port_file_is_honoured_and_written(server, make_agent, free_port):
    agent = make_agent(port=None)
    agent.options.data.mkdir()
    (agent.options.data / "hqnode.port").write_text(f"{free_port}\n")
    ready = await agent.start()
    assert ready.url.endswith(f":{free_port}")
    await agent.stop()
    again = make_agent(port=0)
    ready = await again.start()
    port = (agent.options.data / "hqnode.port").read_text().strip()
    assert ready.url.endswith(f":{port}")


async def test_port_of_another_is_refused(server, agent, make_agent, tmp_path):
    port = int(agent.ready.url.rpartition(":")[2])
    with pytest.raises(Conflict, match=f"port {port}"):
        await make_agent(port=port, data=tmp_path / "other").start()


async def test_installation_stays_with_the_folder(server, make_agent):
    agent = make_agent()
    await agent.start()
    first = (await server.joined()).facts.installation
    await agent.stop()
    await make_agent().start()
    assert (await server.joined(2)).facts.installation == first


async def test_long_data_folder(server, make_agent, tmp_path):
    agent = make_agent(data=tmp_path / ("long" * 30) / "agent")
    await agent.start()
    await server.joined()
    await server.order("exit 9")
    assert (await server.ended()).exit_code == 9


async def test_output_survives_broken_links_whole_and_in_order(server, make_agent):
    agent = make_agent()
    await agent.start()
    await server.joined()
    count = 200_000
    await server.order(f"seq 1 {count}; sleep 0.05; seq 1 {count}; exit 6")
    for joins in range(2, 6):
        await server.until(lambda n=joins: len(server.text()) > (n - 1) * 100_000)
        server.drop()
        await server.joined(joins)
    assert (await server.ended()).exit_code == 6
    assert server.text() == "".join(f"{n}\n" for n in range(1, count + 1)) * 2


async def test_unsaved_reports_are_sent_again(server, agent):
    server.saves = False
    await server.order("echo hello")
    await server.ended()
    server.reports.clear()
    server.saves = True
    server.drop()
    assert (await server.joined(2)).attempts == (HeldAttempt(1, 1, "ended", 0),)
    await server.ended()
    assert server.text() == "hello\n"


async def test_job_ends_while_the_link_is_down(server, agent, wait_gone):
    pid, go = await _job_that_waits(server, agent)
    server.takes_nobody = True
    server.drop()
    await server.until(lambda: len(server.hellos) >= 3)  # it keeps trying
    go.write_text("alone\n")
    await wait_gone(pid)
    server.takes_nobody = False
    assert (await server.ended()).exit_code == 42
    assert server.text() == f"{pid}\nalone\n"


async def test_a_refusal_ends_the_agent_and_what_nobody_wants(server, agent, wait_gone):
    pid, _ = await _job_that_waits(server, agent)
    server.refusal = Refusal("another agent has this name", kill=True)
    server.drop()
    with pytest.raises(Conflict, match="another agent has this name"):
        await agent.task
    await wait_gone(pid)


async def test_wakeup_beats_now(server, agent):
    await server.until(lambda: _count(server, Beat) == 1)
    assert await _call(agent, "wakeup") is None
    await server.until(lambda: _count(server, Beat) == 2)


async def test_terminate_of_an_idle_agent(server, agent):
    assert await _call(agent, "terminate") is None
    assert await asyncio.wait_for(agent.task, 5) == 0
    await server.until(lambda: _count(server, Farewell) == 1)


async def test_terminate_cancels_paused_jobs_and_waits_for_running_ones(server, agent):
    _, go = await _job_that_waits(server, agent)
    await server.order("echo up; exec sleep 1000", 2)
    await server.printed("up", 2)
    await server.signal("pause", 2)
    await server.said(AttemptPaused, 2)
    await _call(agent, "terminate")
    await server.until(lambda: _count(server, Farewell) == 1)
    assert (await server.ended(2)).cause is AttemptCause.CANCELLED
    await server.order("true", 3)
    assert (await server.ended(3)).cause is AttemptCause.EJECTED
    assert not agent.task.done()
    go.write_text("done\n")
    assert (await server.ended()).exit_code == 42
    assert await asyncio.wait_for(agent.task, 5) == 0


async def test_unknown_method_is_a_fault(server, agent):
    with pytest.raises(xmlrpc.client.Fault) as fault:
        await _call(agent, "selfdestruct")
    assert fault.value.faultCode == 0


async def test_calls_of_a_foreign_type_are_refused(server, agent):
    async with httpx2.AsyncClient() as client:
        for path in ("/", "/RPC2", "/xmlrpc"):
            form = {"content-type": "application/x-www-form-urlencoded"}
            answer = await client.post(agent.ready.url + path, content=b"<x/>", headers=form)
            assert answer.status_code == 415
            answer = await client.post(
                agent.ready.url + path, content=b"<x", headers={"content-type": "text/xml"}
            )
            assert b"not well-formed" in answer.content
    assert not agent.task.done()


async def test_log_has_the_phrases_that_others_parse(server, agent):
    await server.order("echo up; exec sleep 1000", 77)
    await server.printed("up", 77)
    await server.signal("cancel", 77)
    await server.ended(77)
    await agent.stop()
    log = (agent.options.data / "hqnode.log").read_text()
    for phrase in ("Running job 77", "Cancelling job 77", "Finished job 77"):
        assert phrase in log


def _count(server, kind):
    return sum(isinstance(message, kind) for message in server.messages)


async def _call(agent, method):
    """By the standard library's client, as farm scripts do."""

    def call():
        with xmlrpc.client.ServerProxy(agent.ready.url) as proxy:
            return getattr(proxy, method)()

    return await asyncio.to_thread(call)


async def test_too_few_descriptors_for_the_cpus_are_told_at_the_start(server, make_agent, caplog):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (143, limits[1]))
    try:
        await make_agent(cpus=10).start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "may have 143 files open at a time and, with 10 CPUs, can need 144" in caplog.text
