"""What a keeper reads of the one before it."""

import contextlib
import resource
from pathlib import Path

import pytest

from roost.agent import ledger as module
from roost.agent.ledger import Ledger, Run, begun, ended, forgotten, noted, started


def write(path, *, cut: int = 0):
    """Three runs: begun, started, ended; and one that was forgotten."""
    ledger = Ledger(path)
    runs = [Run(name, "1.1", "/out", "note", "boot", 1, True) for name in "abcd"]
    for run in runs:
        ledger.note(begun(run))
        ledger.runs[run.name] = run
    for run in runs[1:]:
        run.pid, run.at = 7, 1_000
        ledger.note(started(run))
    for run in runs[2:]:
        run.over, run.status, run.ended_at = True, -9, 2_000
        ledger.note(ended(run))
    runs[1].note = "new"
    ledger.note(noted(runs[1]))
    ledger.note(forgotten(ledger.runs.pop("d")))
    ledger.save(ledger.runs.values())
    ledger.close()
    return runs


def test_what_was_written_is_read(tmp_path):
    *kept, _ = write(tmp_path / "ledger")
    for _ in range(2):  # the second time from what the first has written afresh
        ledger = Ledger(tmp_path / "ledger")
        ledger.close()
        assert [run.as_record() for run in ledger.runs.values()] == [
            run.as_record() for run in kept
        ]
        assert [run.pid for run in ledger.runs.values()] == [0, 7, 7]


def test_any_cut_is_survived(tmp_path):
    write(tmp_path / "ledger")
    data = (tmp_path / "ledger").read_bytes()
    for size in range(0, len(data), 5):
        (tmp_path / "cut").write_bytes(data[:size])
        ledger = Ledger(tmp_path / "cut")
        ledger.close()
        assert len(ledger.runs) <= 4


@pytest.mark.parametrize(
    "rubbish", [b"\xff\x00\n", b"[]\n", b'["begun", 1]\n', b'["ended", "x"]\n']
)
def test_rubbish_is_passed_over(tmp_path, rubbish):
    write(tmp_path / "ledger")
    with (tmp_path / "ledger").open("ab") as file:
        file.write(rubbish)
    ledger = Ledger(tmp_path / "ledger")
    ledger.close()
    assert list(ledger.runs) == ["a", "b", "c"]


def test_it_is_written_afresh_when_it_has_grown(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REWRITE_BYTES_MIN", 10_000)
    ledger = Ledger(tmp_path / "ledger")
    for number in range(1_000):
        run = Run(str(number), "1.1", "/out", "note", "boot", 1, True)
        ledger.note(begun(run))
        ledger.note(forgotten(run))
        ledger.save([run])
    ledger.close()
    assert (tmp_path / "ledger").stat().st_size < 20_000


@contextlib.contextmanager
def no_room_beyond(size):
    """No file takes more bytes; the system writes those that fit, as with a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("room", [0, 1, 100])
def test_nothing_is_forgotten_when_there_is_no_room_to_write_it_afresh(tmp_path, room):
    write(tmp_path / "ledger")
    before = open_files()
    with no_room_beyond(room):
        ledger = Ledger(tmp_path / "ledger")
    assert list(ledger.runs) == ["a", "b", "c"]
    assert open_files() == before + 1
    ledger.note(forgotten(ledger.runs.pop("b")))
    ledger.save(ledger.runs.values())
    ledger.close()
    ledger = Ledger(tmp_path / "ledger")
    ledger.close()
    assert list(ledger.runs) == ["a", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["ledger"]


def test_a_line_follows_what_was_cut_when_there_was_no_room_to_write_it_afresh(tmp_path):
    write(tmp_path / "ledger")
    with (tmp_path / "ledger").open("ab") as file:
        file.write(b'[["forgotten","a"')
    with no_room_beyond(1):
        ledger = Ledger(tmp_path / "ledger")
    ledger.note(forgotten(ledger.runs.pop("b")))
    ledger.save(ledger.runs.values())
    ledger.close()
    ledger = Ledger(tmp_path / "ledger")
    ledger.close()
    assert list(ledger.runs) == ["a", "c"]


def test_what_was_saved_counts_also_when_there_is_no_room_to_write_it_afresh(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "REWRITE_BYTES_MIN", 10)
    ledger = Ledger(tmp_path / "ledger")
    (tmp_path / "ledger.fresh").symlink_to("/dev/full")
    before = open_files()
    runs = {str(n): Run(str(n), "1.1", "/out", "note", "boot", 1, True) for n in range(200)}
    for run in runs.values():
        ledger.note(begun(run))
    ledger.save(runs.values())
    assert open_files() == before
    ledger.close()
    ledger = Ledger(tmp_path / "ledger")
    ledger.close()
    assert list(ledger.runs) == list(runs)
