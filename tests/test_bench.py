"""The bench runs: a tiny measure goes end to end and makes a table, whatever its numbers are."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roost.htchirp import HTChirp

BENCH = Path(__file__).parents[1] / "bench"
PATIENCE_S = 240


def run_bench(*arguments: str, program: str = "run.py") -> subprocess.CompletedProcess[str]:
    """Run a program of the bench, which succeeds."""
    command = [sys.executable, BENCH / program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done


def run_in_bench(
    folder: Path, program: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a text that imports modules of the bench, in this folder."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(BENCH), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )


def names_of(module: str) -> dict[str, Any]:
    """What a module of the bench defines."""
    return runpy.run_path(str(BENCH / f"{module}.py"))


@pytest.mark.slow
def test_a_tiny_bench_makes_a_table() -> None:
    results = BENCH / "RESULTS.md"
    before = results.read_bytes() if results.exists() else None
    done = run_bench("--quick", "--only", "a", "--jobs", "20", "--repetitions", "1")
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "20 jobs `sh -c true`" in table[2]
    assert [line.split("|")[2].strip() for line in table[3:]] == [
        f"CPU time of the {part}" for part in ("server", "agent", "keeper")
    ]
    assert (results.read_bytes() if results.exists() else None) == before


@pytest.mark.slow
def test_readers_meet_no_fault_and_no_wrong_type_while_jobs_run() -> None:
    done = run_bench("--quick", "--only", "g", "--jobs", "300", "--repetitions", "1")
    table = [line for line in done.stdout.splitlines() if line.startswith("| g")]
    assert ["8 readers while 300 jobs run" in line for line in table] == [True, True, False]


@pytest.mark.slow
def test_the_measures_of_calls_and_of_growth_run_end_to_end() -> None:
    letters = ["d", "h", "i", "j", "k", "l", "m", "n", "o", "p", "r"]
    done = run_bench("--quick", "--repetitions", "1", "--only", ",".join(letters))
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert sorted({row.split("|")[1].strip() for row in rows}) == letters


@pytest.mark.slow
def test_a_tiny_farm_grows_by_jobs_and_by_agents() -> None:
    page = BENCH / "GROWTH.md"
    before = page.read_bytes() if page.exists() else None
    done = run_bench("--quick", program="growth.py")
    cells = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")]
    sizes = [tuple(cell.strip() for cell in row[1:3]) for row in cells if "jobs" not in row[1]]
    assert sizes == [("100", "5"), ("1,000", "5"), ("500", "1"), ("500", "10")]
    assert (page.read_bytes() if page.exists() else None) == before


@pytest.mark.slow
def test_a_tiny_day_is_simulated_and_says_what_each_part_of_the_server_took() -> None:
    done = run_bench(
        "--nodes", "20", "--jobs-a-day", "100000", "--minutes", "0.2", program="day.py"
    )
    assert done.stdout.startswith("20 nodes of 32 CPUs, 100,000 jobs a day")
    for part in ("placement", "reports", "rows and commits", "beats", "frames to agents"):
        assert f"| {part} |" in done.stdout


def test_a_peer_that_is_not_there_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    done = run_in_bench(
        tmp_path,
        "import competition, measures, pathlib; competition.PYTHON = pathlib.Path('absent'); "
        "print(competition.against_peers(pathlib.Path(), measures.Sizes(), 1))",
    )
    assert done.stdout == "[]\n"
    assert done.stderr.count("Roost is not measured beside") == 5
    assert "`make bench-peers` was not run" in done.stderr


@pytest.mark.parametrize(
    ("flags", "arguments", "text"),
    [
        ("-g -O3 -Wall", "'--enable-shared'", "-O3"),
        ("-O3 -g -O2", "'--enable-optimizations' '--with-lto'", "-O2, with a profile"),
        (None, None, "unknown flags"),
    ],
)
def test_a_report_says_how_its_python_was_built(
    monkeypatch: pytest.MonkeyPatch, flags: str | None, arguments: str | None, text: str
) -> None:
    told = {"PY_CFLAGS": flags, "CONFIG_ARGS": arguments}
    report = names_of("report")
    monkeypatch.setattr("sysconfig.get_config_var", told.get)
    known = report["settings"](None, 1, {}, {"HTCondor": "25"})
    assert f"(compiled with {text})" in known["Python"] and known["HTCondor"] == "25"


def test_a_chart_has_a_bar_for_every_ratio() -> None:
    report = names_of("report")
    rows = [
        report["Row"]("a", "fast & <quick>", "jobs/s", [10.0], [5.0]),
        report["Row"]("b", "alone", "µs", [1.0]),
    ]
    svg = report["chart"](rows)
    assert svg.count("<rect") == 2, "the ground and one bar"
    assert "fast &amp; &lt;quick&gt;" in svg and ">2.00<" in svg


def test_of_a_measure_with_very_many_rows_the_lowest_ratios_are_drawn() -> None:
    report = names_of("report")
    rows = [report["Row"]("a", f"row {n}", "s", [float(n)], [1.0]) for n in range(1, 41)]
    svg = report["chart"]([*rows, report["Row"]("b", "alone", "s", [100.0], [1.0])])
    assert "row 24<" in svg and "row 25<" not in svg and "alone<" in svg


def test_rows_measured_again_take_the_place_of_their_measure_alone() -> None:
    report = names_of("report")
    row = report["Row"]
    old = [row("a", "old", "s", [1.0], [2.0]), row("c", "kept", "s", [3.0], [1.5])]
    page = report["page"](old, {"CPUs": "2"})
    for _ in range(2):
        page, svg = report["recorded"](page, [row("a", "new", "s", [1.0], [4.0])], 7)
    table = [line.split("|")[2].strip() for line in page.splitlines() if line.startswith("|")][2:]
    assert table == ["new", "kept"]
    assert page.count("a was measured on") == page.count("7 repetitions") == 1
    assert "* CPUs: 2" in page
    assert ">0.25<" in svg and ">2.00<" in svg and "old" not in svg


@pytest.mark.slow
def test_chirp_is_measured_without_its_peers_where_they_are_not_installed(tmp_path: Path) -> None:
    done = run_in_bench(
        tmp_path,
        "import chirp, condor_pool, measures, pathlib, report; chirp.PROGRAM = 'absent'; "
        "condor_pool.TREE = pathlib.Path('absent'); "
        "sizes = measures.Sizes(chirps=5, chirp_mib=1); "
        "print(report.table(chirp.operations(pathlib.Path.cwd(), sizes, 1)))",
    )
    assert "Chirp is not measured beside absent: it is not installed." in done.stderr
    rows = [line.split("|")[2].strip() for line in done.stdout.splitlines()][2:]
    assert "Chirp is not measured beside a starter: there is no HTCondor; `make htcondor`" in (
        done.stderr
    )
    assert not [row for row in rows if "HTCondor" in row]
    assert {"stat, shared", "put of 1 MiB, relayed", "set_job_attr"} <= set(rows)
    assert {
        "stat, relayed, beside a relay in C that does nothing",
        "get_job_attr, beside a relay in C that does nothing",
        "connect and say who it is, beside a process in C that answers at once",
        "ulog, beside a process in C that answers at once",
    } <= set(rows)


@pytest.mark.slow
def test_chirp_is_measured_beside_a_starter_where_there_is_one(tmp_path: Path) -> None:
    done = run_in_bench(
        tmp_path,
        "import chirp, measures, pathlib, report; chirp.PROGRAM = 'absent'; "
        "chirp.FILES, chirp.ATTRIBUTES = chirp.FILES[1:2], chirp.ATTRIBUTES[1:2]; "
        "sizes = measures.Sizes(chirps=5, chirp_mib=1); "
        "print(report.table(chirp.operations(pathlib.Path.cwd(), sizes, 2)))",
    )
    if "Chirp is not measured beside a starter" in done.stderr:
        assert "ROOST_REQUIRE_HTCONDOR" not in os.environ, done.stderr
        pytest.skip(done.stderr)
    rows = [line.split("|") for line in done.stdout.splitlines()][2:]
    ratios = {row[2].strip(): float(row[6]) for row in rows if "HTCondor" in row[2]}
    version = done.stdout.partition("HTCondor ")[2].partition("'s starter")[0]
    assert ratios.keys() == {
        f"{name}, beside HTCondor {version}'s starter" for name in ("stat, relayed", "set_job_attr")
    }
    assert all(ratio > 0 for ratio in ratios.values())


def test_the_servers_in_c_that_do_nothing_answer_a_client_of_chirp(tmp_path: Path) -> None:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("there is no C compiler")
    limits = names_of("limits")
    small = tmp_path / "small"
    small.write_bytes(b"x" * 1024)
    with limits["chirp_floor"](tmp_path) as contacts:
        for contact in contacts.values():
            host, port, cookie = contact.read_text().split()
            for _ in range(2):
                with HTChirp(host, int(port), ("cookie",), cookie) as chirp:
                    assert chirp.stat("small")["size"] == 1024
                    assert chirp.read("small", 1024) == b"x" * 1024
                    assert chirp.put(str(small), "put") == 1024
                    assert chirp.get_job_attr("Frames") == "24"
                    chirp.ulog("a frame is done")
                    chirp.set_job_attr_delayed("ChirpLoss", 2.5)


@pytest.mark.slow
def test_pages_are_measured_in_a_browser_beside_what_is_wished() -> None:
    done = run_bench("--quick", "--repetitions", "1", "--only", "s")
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| s")]
    if "Pages are not measured" in done.stderr:
        assert not rows
        pytest.skip("there is no Chromium")
    wishes = [wish.strip() for *_, wish, _, _ in rows]
    assert [wish for wish in wishes if wish] == [
        "1,000 ms",
        "1,000 ms",
        "250 kB",
        "60 kB",
        "20 %",
        "20 %",
        "500 ms",
        "3,000 ms",
    ]


def test_pages_are_left_out_with_a_sentence_where_there_is_no_browser(tmp_path: Path) -> None:
    done = run_in_bench(
        tmp_path,
        "import measures, pages, pathlib; "
        "print(pages.in_a_browser(pathlib.Path(), measures.Sizes(), 1))",
        PATH=str(tmp_path),
    )
    assert done.stdout == "[]\n"
    assert "Pages are not measured: Chromium is not installed." in done.stderr


def test_a_reader_does_not_take_a_wrong_type() -> None:
    check = names_of("readers")["check"]
    check("getVersion", "1.0", str)
    for method, answer, kind in (
        ("getVersion", None, str),
        ("getNumWaitingJobs", True, int),
        ("getJob", {"name": "a"}, dict),
    ):
        with pytest.raises((TypeError, KeyError)):
            check(method, answer, kind)
