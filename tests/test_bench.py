"""The bench runs: a tiny measure goes end to end and makes a table, whatever its numbers are."""

from __future__ import annotations

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
