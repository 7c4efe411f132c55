"""Lanes of file commands: one after the other, whoever does them."""

from __future__ import annotations

import contextlib
import functools
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from roost import submitfolder
from roost.beneath import Beneath
from roost.submitfolder import (
    STRIDES_MAX,
    Answer,
    FileLanes,
    FileRules,
    JobFiles,
    LanesOfRoots,
    Run,
    Space,
    is_known,
    root_of,
)
from roost.wire.chirp import COMMANDS, Code, Gate, parse_listing, parse_long_listing

PATIENCE_S = 60


@pytest.fixture
def lanes() -> Iterator[FileLanes]:
    lanes = FileLanes(2)
    yield lanes
    lanes.close()


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], JobFiles]:
    return lambda: JobFiles(Beneath.at(tmp_path), FileRules(), Space(0))


def test_a_lane_that_is_lent_keeps_its_order_and_its_descriptors(
    lanes: FileLanes, make: Callable[[], JobFiles]
) -> None:
    answers: SimpleQueue[Answer] = SimpleQueue()
    lent: SimpleQueue[tuple[Run, Callable[[], None]]] = SimpleQueue()
    lanes.run("a", make, "open", (b"file", b"wc"), (420,), b"", answers.put)
    lanes.lend("a", make, lambda run, give_back: lent.put((run, give_back)))
    lanes.run("a", make, "write", (), (0, 5), b"after", answers.put)
    assert answers.get(timeout=PATIENCE_S).result == 0
    run, give_back = lent.get(timeout=PATIENCE_S)
    other = threading.Event()
    lanes.run("b", make, "stat", (b"file",), (), b"", lambda _: other.set())
    assert other.wait(PATIENCE_S), "another lane waits for nobody"
    assert run("write", (), (0, 6), b"before") == Answer(6)
    assert answers.empty()
    give_back()
    assert answers.get(timeout=PATIENCE_S) == Answer(5)
    lanes.run("a", make, "lseek", (), (0, 0, 1), b"", answers.put)
    assert answers.get(timeout=PATIENCE_S) == Answer(11)


def test_a_lane_on_which_nothing_is_done_is_lent_while_all_threads_hang(
    lanes: FileLanes, make: Callable[[], JobFiles]
) -> None:
    disk = threading.Event()
    for other in range(3):
        lanes.run(other, make, "stat", (b".",), (), b"", lambda _: disk.wait(PATIENCE_S) and None)
    lent: SimpleQueue[tuple[Run, Callable[[], None]]] = SimpleQueue()
    lanes.lend("a", make, lambda run, give_back: lent.put((run, give_back)))
    at_once = not lent.empty()
    disk.set()
    assert at_once
    run, give_back = lent.get()
    assert run("stat", (b".",), (), b"").result == 0
    give_back()


def test_a_lane_that_is_closed_while_it_is_lent_closes_when_it_is_given_back(
    lanes: FileLanes, make: Callable[[], JobFiles]
) -> None:
    lent: SimpleQueue[tuple[Run, Callable[[], None]]] = SimpleQueue()
    answers: SimpleQueue[Answer] = SimpleQueue()
    lanes.lend("a", make, lambda run, give_back: lent.put((run, give_back)))
    run, give_back = lent.get(timeout=PATIENCE_S)
    assert run("open", (b"file", b"wc"), (420,), b"").result == 0
    lanes.close_lane("a")
    assert run("fsync", (), (0,), b"") == Answer(0)
    give_back()
    lanes.run("a", make, "fsync", (), (0,), b"", answers.put)
    assert answers.get(timeout=PATIENCE_S) == Answer(Code.BAD_FD), "a new lane, a new count"


def test_a_folder_that_cannot_be_opened_is_asked_for_again(
    lanes: FileLanes, tmp_path: Path
) -> None:
    answers: SimpleQueue[Answer] = SimpleQueue()
    folder = tmp_path / "mounted"

    def make() -> JobFiles:
        return JobFiles(Beneath.at(folder), FileRules(), Space(0))

    lanes.run("a", make, "mkdir", (b"d",), (0o755,), b"", answers.put)
    assert answers.get(timeout=PATIENCE_S) == Answer(Code.DOESNT_EXIST)
    folder.mkdir()
    lanes.run("a", make, "mkdir", (b"d",), (0o755,), b"", answers.put)
    assert answers.get(timeout=PATIENCE_S) == Answer(0)


def test_a_folder_that_was_put_in_the_place_of_another_is_found_and_what_was_open_stays_so(
    lanes: FileLanes, tmp_path: Path
) -> None:
    answers: SimpleQueue[Answer] = SimpleQueue()
    folder = tmp_path / "results"

    def make() -> JobFiles:
        return JobFiles(Beneath.at(folder), FileRules(), Space(0))

    def said(command: str, words: tuple[bytes, ...], *numbers: int, data: bytes = b"") -> int:
        lanes.run("a", make, command, words, numbers, data, answers.put)
        return answers.get(timeout=PATIENCE_S).result

    folder.mkdir()
    assert said("open", (b"old", b"wc"), 0o644) == 0
    shutil.rmtree(folder)
    assert said("open", (b"new", b"wc"), 0o644) == Code.DOESNT_EXIST
    folder.mkdir()
    assert said("stat", (b"old",)) == Code.DOESNT_EXIST
    assert said("open", (b"new", b"wc"), 0o644) == 1
    assert said("write", (), 0, 3, data=b"old") == 3
    assert (folder / "new").read_bytes() == b""


def test_what_hangs_beneath_one_root_does_not_keep_the_program_from_its_end(
    make: Callable[[], JobFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitfolder, "CLOSE_S_MAX", 0.01)
    lanes, mount = LanesOfRoots(), threading.Event()
    made: SimpleQueue[Answer] = SimpleQueue()

    def hang() -> JobFiles:
        mount.wait()
        return make()

    lanes.of(Path("away")).run("a", hang, "stat", (b".",), (), b"", lambda _: None)
    lanes.of(None).run("b", make, "mkdir", (b"d",), (0o755,), b"", made.put)
    lanes.close()
    assert made.get_nowait() == Answer(0), "what is our own is done before"
    mount.set()


@pytest.mark.parametrize(
    ("folder", "root"),
    [
        ("/mnt/shots/7", "/mnt/shots"),
        ("/mnt/shots", "/mnt/shots"),
        ("/mnt/shots-old", "/mnt"),
        ("/home", None),
        ("", None),
    ],
)
def test_a_folder_belongs_to_the_innermost_root_above_it(folder: str, root: str | None) -> None:
    roots = (Path("/mnt"), Path("/mnt/shots"), Path("/srv"))
    assert root_of(folder, roots) == (root and Path(root))


def test_what_is_not_a_command_on_files_or_has_too_few_arguments_is_not_known() -> None:
    words = (b"a", b"b")
    for name, form in COMMANDS.items():
        arguments = words[: len(form.words)], tuple(range(len(form.numbers)))
        answered_by_agent = name in ("putfile", "whoami", "whoareyou")
        assert is_known(name, *arguments) == (form.gate is Gate.IO and not answered_by_agent)
        assert not is_known(name, (*arguments[0], b"more"), arguments[1])
    assert is_known("sread", (), (0, 1, 2, 3, 4, 5)) and not is_known("pread", (), (0, 1, 2, 3))
    assert not is_known("lend", (), (0, 0, 0, 0)) and not is_known("lane", (), ())


def test_a_name_that_chirp_cannot_say_is_left_out_of_listings(
    tmp_path: Path, make: Callable[[], JobFiles]
) -> None:
    for name in ("keep", "scrap", "keep\nscrap", "keep\n"):
        (tmp_path / name).touch()
    with contextlib.closing(make()) as files:
        _, names, _ = files.run("getdir", (b".",), ())
        _, lines, _ = files.run("getlongdir", (b".",), ())
    assert sorted(parse_listing(names)) == [b"keep", b"scrap"]
    assert sorted(name for name, _ in parse_long_listing(lines)) == [b"keep", b"scrap"]


def test_only_so_many_strides_are_read_at_once(tmp_path: Path) -> None:
    data = bytes(range(251)) * 100
    (tmp_path / "file").write_bytes(data)
    with contextlib.closing(JobFiles(Beneath.at(tmp_path), FileRules(), Space(0))) as files:
        assert files.run("open", (b"file", b"r"), (0,)).result == 0
        got, turns = b"", 0
        while len(got) < 20_000:
            answer = files.run("sread", (), (0, 20_000, 7, 1, 1, len(got)))
            assert answer.result == 20_000 and 0 < len(answer.data) <= STRIDES_MAX
            got += answer.data
            turns += 1
    assert got == data[7:20_007]
    assert turns == 5


def test_jobs_leave_half_of_its_descriptors_to_the_program(
    tmp_path: Path, lanes: FileLanes, make: Callable[[], JobFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.submitfolder._open_files", submitfolder._OpenFiles())
    monkeypatch.setattr("resource.getrlimit", lambda _: (8, 8))
    answers: SimpleQueue[Answer] = SimpleQueue()

    def ask(lane: str, command: str, *arguments: tuple[object, ...]) -> int:
        lanes.run(lane, make, command, *arguments, b"", answers.put)  # type: ignore[arg-type]
        return answers.get(timeout=PATIENCE_S).result

    opening = ("open", (b"file", b"wc"), (420,))
    assert [ask("a", *opening) for _ in range(4)] == [0, 1, 2, Code.TOO_MANY_OPEN]
    assert ask("b", "stat", (b"file",), ()) == Code.TOO_MANY_OPEN
    assert ask("a", "close", (), (1,)) == 0
    assert ask("b", "stat", (b"file",), ()) == 0
    assert ask("a", *opening) == Code.TOO_MANY_OPEN
    lanes.close()
    with contextlib.closing(make()) as files:
        assert [files.run(*opening).result for _ in range(4)] == [0, 1, 2, Code.TOO_MANY_OPEN]
        monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
        assert files.run(*opening).result == 3


def test_a_full_folder_is_measured_again_only_when_something_has_become_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def size_of(folder: Beneath) -> int:
        measured.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
        return measured[-1]

    monkeypatch.setattr(submitfolder, "_size_of", size_of)
    with contextlib.closing(JobFiles(Beneath.at(tmp_path), FileRules(), Space(100))) as files:
        for name in (b"a", b"b"):
            files.run("open", (name, b"wc"), (0o644,))
        write = functools.partial(files.run, "write", ())
        assert write((0, 60), b"x" * 60) == Answer(60)
        for _ in range(9):
            assert write((1, 60), b"x" * 60) == Answer(Code.NO_SPACE)
        assert measured == [0]
        for command, words, numbers in (
            ("unlink", (b"a",), ()),
            ("ftruncate", (), (1, 0)),
            ("truncate", (b"b",), (0,)),
            ("open", (b"b", b"wt"), (0o644,)),
        ):
            assert files.run(command, words, numbers).result >= 0
            assert files.run("pwrite", (), (1, 60, 0), b"x" * 60) == Answer(60)
        monkeypatch.setattr(submitfolder, "MEASURED_S_MAX", -1.0)
        (tmp_path / "b").unlink()  # by the administrator
        assert files.run("open", (b"c", b"wc"), (0o644,)).result == 3
        assert files.run("write", (), (3, 90), b"x" * 90) == Answer(90)


def test_a_file_with_two_names_takes_its_space_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(60))
    (tmp_path / "second").hardlink_to(tmp_path / "file")
    with contextlib.closing(JobFiles(Beneath.at(tmp_path), FileRules(), Space(100))) as files:
        assert files.run("open", (b"more", b"wc"), (420,)).result == 0
        assert files.run("ftruncate", (), (0, 40)) == Answer(0)
        assert files.run("ftruncate", (), (0, 41)) == Answer(Code.NO_SPACE)
