"""The bench runs: a tiny measure goes end to end and makes a table, whatever its numbers are."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench" / "run.py"


@pytest.mark.slow
def test_a_tiny_bench_makes_a_table() -> None:
    results = BENCH.with_name("RESULTS.md")
    before = results.read_bytes() if results.exists() else None
    arguments = ["--quick", "--only", "a", "--jobs", "20", "--repetitions", "1"]
    done = subprocess.run(
        [sys.executable, BENCH, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "20 jobs `sh -c true`" in table[2]
    assert [line.split("|")[2].strip() for line in table[3:]] == [
        f"CPU time of the {part}" for part in ("server", "agent", "keeper")
    ]
    assert (results.read_bytes() if results.exists() else None) == before


@pytest.mark.slow
def test_readers_meet_no_fault_and_no_wrong_type_while_jobs_run() -> None:
    arguments = ["--quick", "--only", "g", "--jobs", "300", "--repetitions", "1"]
    done = subprocess.run(
        [sys.executable, BENCH, *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("| g")]
    assert ["8 readers while 300 jobs run" in line for line in table] == [True, True, False]


def test_a_reader_does_not_take_a_wrong_type() -> None:
    check = runpy.run_path(str(BENCH.with_name("readers.py")))["check"]
    check("getVersion", "1.0", str)
    for method, answer, kind in (
        ("getVersion", None, str),
        ("getNumWaitingJobs", True, int),
        ("getJob", {"name": "a"}, dict),
    ):
        with pytest.raises((TypeError, KeyError)):
            check(method, answer, kind)
