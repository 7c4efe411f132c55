"""`import roost` as people use it, against a whole farm: processes, pipes, a notebook."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import roost


@pytest.fixture
def client(farm: Any) -> roost.Farm:
    farm.start_up("--cpus", "2")
    return roost.connect(farm.url)


def test_output_is_followed_while_the_job_runs(client: roost.Farm, gate: Any, farm: Any) -> None:
    with client:
        job = client.submit(f"echo before; read word < {gate.path}; echo $word; exit 3")
        output = job.output(follow=True)
        assert next(output) == "before\n"
        assert job.refresh().status == "running"
        with pytest.raises(roost.NotFinished):
            job.wait(timeout=0)
        gate.path.write_text("after\n")
        assert "".join(output) == "after\n"
        with pytest.raises(roost.JobFailed, match="exit code 3") as failure:
            job.wait(check=True)
        assert failure.value.output == "before\nafter\n"
        assert (job.status, job.exit_code, job.progress) == ("failed", 3, 1.0)


def test_frames_are_waited_for_together_and_a_failure_names_the_frame(
    client: roost.Farm, capfd: pytest.CaptureFixture[str]
) -> None:
    with client:
        film = client.submit_frames("echo {frame}; test $FRAME -ne 2", "1-3", name="film")
        with pytest.raises(roost.JobFailed, match=r"film \[2\]") as failure:
            film.wait(progress=True, check=True)
        assert f"job {film.id}: " in capfd.readouterr().err
        assert [job.status for job in film.children] == ["succeeded", "failed", "succeeded"]
        assert [job.output() for job in film.children] == ["1\n", "2\n", "3\n"]
        assert (failure.value.job, failure.value.culprit) == (film, film.children[1])
        assert film.children[1].parents == [film]


def test_people_steer_jobs_and_machines(client: roost.Farm) -> None:
    with client:
        (node,) = client.nodes()
        node.drain()
        job = client.submit("true", priority=1, submitted_by="ann")
        assert not node.refresh().available
        assert any("drained" in why or "disabled" in why for why in job.why())
        job.set_priority(7)
        job.add_note("for the client")
        assert (job.refresh().priority, job.notes()[0].text) == (7, "for the client")
        assert [each.id for each in client.jobs(submitted_by="ann")] == [job.id]
        node.enable()
        assert job.wait(check=True).nodes == [node.name]
        assert node.history() == [job]
        job.delete()
        assert list(client.jobs()) == []


def test_a_script_inside_a_job_finds_its_own_farm(client: roost.Farm) -> None:
    script = "import roost; print(roost.connect().submit('echo inner', name='inner').wait().status)"
    with client:
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
        job = client.submit([sys.executable, "-c", script], environment=paths)
        assert job.wait(check=True).output() == "succeeded\n"


def test_ctrl_c_ends_the_waiting_and_not_the_job(client: roost.Farm, gate: Any) -> None:
    script = (
        "import roost, sys; job = roost.connect(sys.argv[1]).job(1); print('waits'); job.wait()"
    )
    with client:
        job = client.submit(f"read word < {gate.path}; echo $word")
        arguments = [sys.executable, "-u", "-c", script, client.url]
        pipe = subprocess.PIPE
        with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True) as waiting:
            assert waiting.stdout and waiting.stdout.readline() == "waits\n"
            waiting.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in waiting.communicate(timeout=60)[1]
        assert not job.refresh().finished
        gate.path.write_text("done\n")
        assert job.wait(check=True).output() == "done\n"


@pytest.mark.slow
def test_a_notebook_shows_progress_and_jobs(
    client: roost.Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = (
        f"import roost\njob = roost.connect({client.url!r}).submit('true', name='<i>')",
        "job.wait()",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    bar, shown = notebook.cells[1].outputs
    assert '<progress max="1" value="1.0000"></progress>' in bar.data["text/html"]
    assert "&lt;i&gt;" in shown.data["text/html"]
    assert "<Job 1 '<i>': succeeded, 100%>" in shown.data["text/plain"]
