"""Nothing reaches out of a folder, by any operation, by any way of resolving a path."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roost.beneath import (
    Beneath,
    Opener,
    open_by_kernel,
    open_by_walking,
    open_folder,
    remove_tree,
    walk,
    walk_paths,
)

SECRET = b"what nobody may read"
NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with ways out of it, and what they lead to."""
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "file").write_bytes(b"content")
    (inside / "sub" / "deep").write_bytes(b"deep")
    (inside / "to-sub").symlink_to("sub")
    (inside / "sub" / "up").symlink_to("../file")
    (inside / "out").symlink_to("../outside")
    (inside / "absolute").symlink_to(tmp_path / "outside")
    (inside / "chain").symlink_to("out")
    (inside / "loop").symlink_to("loop")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "inside-out").mkdir()  # begins like the folder's own name
    return inside


@pytest.fixture(params=[open_by_kernel, open_by_walking], ids=["kernel", "walk"])
def folder(request: pytest.FixtureRequest, place: Path):  # type: ignore[no-untyped-def]
    opener: Opener = request.param
    with Beneath.at(place, opener) as folder:
        yield folder


VERBS: dict[str, Callable[[Beneath, bytes], object]] = {
    "open": lambda f, p: os.close(f.open(p, os.O_RDONLY)),
    "create": lambda f, p: os.close(f.open(p, os.O_WRONLY | os.O_CREAT)),
    "truncate": lambda f, p: f.truncate(p, 0),
    "stat": lambda f, p: f.stat(p),
    "lstat": lambda f, p: f.lstat(p),
    "statfs": lambda f, p: f.statfs(p),
    "access": lambda f, p: f.access(p, os.F_OK),
    "readlink": lambda f, p: f.readlink(p),
    "names": lambda f, p: f.names(p),
    "entries": lambda f, p: f.entries(p),
    "chmod": lambda f, p: f.chmod(p, 0o777),
    "chown": lambda f, p: f.chown(p, -1, -1),
    "lchown": lambda f, p: f.lchown(p, -1, -1),
    "utime": lambda f, p: f.utime(p, 1, 1),
    "unlink": lambda f, p: f.unlink(p),
    "rmdir": lambda f, p: f.rmdir(p),
    "remove_all": lambda f, p: f.remove_all(p),
    "mkdir": lambda f, p: f.mkdir(p, 0o777),
    "rename from": lambda f, p: f.rename(p, b"renamed"),
    "rename to": lambda f, p: f.rename(b"file", p),
    "link from": lambda f, p: f.link(p, b"linked"),
    "link to": lambda f, p: f.link(b"file", p),
    "symlink": lambda f, p: f.symlink(b"file", p),
}
WAYS_OUT = [
    b"../outside/secret", b"sub/../../outside/secret", b"out/secret", b"absolute/secret",
    b"chain/secret", b"to-sub/../../outside/secret", b"/etc/hostname", b"to-sub/../out/secret",
    b"./sub/./../out/secret",
]  # fmt: skip


def state_of(folder: Path) -> dict[str, tuple[int, int, float, bytes]]:
    return {
        str(path): (
            path.stat().st_mode, path.stat().st_nlink, path.stat().st_mtime,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in (folder, *folder.rglob("*"))
    }  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("path", WAYS_OUT, ids=os.fsdecode)
def test_no_operation_reaches_outside(folder: Beneath, place: Path, verb: str, path: bytes) -> None:
    outside = place.parent / "outside"
    before = state_of(outside)
    with pytest.raises(PermissionError):
        VERBS[verb](folder, path)
    assert state_of(outside) == before


@pytest.mark.parametrize("verb", VERBS)
def test_the_name_of_the_folder_above_is_outside_too(folder: Beneath, verb: str) -> None:
    with pytest.raises(OSError):
        VERBS[verb](folder, b"..")


def test_absolute_names_are_those_of_the_machine(folder: Beneath, place: Path) -> None:
    assert folder.stat(bytes(place / "file")).st_size == 7
    assert folder.names(bytes(place)) == folder.names(b".")
    with pytest.raises(PermissionError):
        folder.names(bytes(place.parent / "inside-out"))


def test_absolute_names_may_lead_over_the_links_by_which_the_folder_was_named(
    place: Path,
) -> None:
    machine = place.parent
    (machine / "link").symlink_to(place)
    with Beneath.at(machine / "link") as linked, linked.below(b"to-sub") as folder:
        for path in ("link/to-sub/deep", "inside/sub/deep"):
            assert folder.stat(bytes(machine / path)).st_size == 4
        assert folder.absolute(b"deep") == bytes(machine / "link/to-sub/deep")
        for path in ("inside/file", "link/file", "link/to-sub/../file", "outside/secret"):
            with pytest.raises(PermissionError):
                folder.stat(bytes(machine / path))


def test_absolute_names_may_begin_at_the_folder(folder: Beneath) -> None:
    folder.virtual_root = True
    assert folder.stat(b"/sub/deep").st_size == 4
    assert set(folder.names(b"/")) == set(folder.names(b"."))
    with pytest.raises(PermissionError):
        folder.stat(b"/../outside/secret")


def test_links_within_the_folder_are_followed(folder: Beneath) -> None:
    assert folder.stat(b"to-sub/deep").st_size == 4
    assert folder.stat(b"to-sub/up").st_size == 7
    assert folder.stat(b"sub/../file").st_size == 7
    assert folder.readlink(b"sub/up") == b"../file"
    with pytest.raises(OSError, match="symbolic links"):
        folder.stat(b"loop")


@pytest.mark.parametrize("name", [b"file/", b"out/", b"to-sub/"], ids=os.fsdecode)
def test_a_slash_at_the_end_names_a_folder_and_nothing_else(
    folder: Beneath, place: Path, name: bytes
) -> None:
    before = list(os.walk(place.parent))
    for verb in ("unlink", "rmdir", "remove_all", "rename from", "readlink"):
        with pytest.raises(NotADirectoryError):
            VERBS[verb](folder, name)
    for verb in ("rename to", "link to", "symlink", "mkdir"):
        with pytest.raises((NotADirectoryError, FileNotFoundError, FileExistsError)):
            VERBS[verb](folder, b"new/" if verb != "mkdir" else name)
    assert list(os.walk(place.parent)) == before
    folder.mkdir(b"new/", 0o777)
    folder.rename(b"new/", b"newer/")
    folder.rmdir(b"newer//")
    folder.remove_all(b"sub/")


def test_listings_tell_nothing_of_what_links_lead_to_outside(folder: Beneath) -> None:
    names = folder.names(b".")
    assert {b"file", b"sub", b"to-sub", b"out"} <= set(names)
    assert {name for name, _ in folder.entries(b".")} == {b"file", b"sub", b"to-sub"}


def test_removing_all_never_goes_through_a_link(folder: Beneath, place: Path) -> None:
    folder.remove_all(b"out")
    (place / "sub" / "away").symlink_to(place.parent / "outside")
    folder.remove_all(b"sub")
    assert (place.parent / "outside" / "secret").read_bytes() == SECRET
    assert not (place / "sub").exists()


def nested(place: Path, depth: int) -> None:
    """`depth` folders, each in the one before and with a file."""
    here = os.open(place, os.O_PATH)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


def test_folders_may_be_nested_more_deeply_than_calls(folder: Beneath, place: Path) -> None:
    depth = 3 * sys.getrecursionlimit()
    nested(place / "sub", depth)
    top = os.open(place / "sub" / "d", os.O_PATH)
    assert sum(not is_folder for _, _, is_folder in walk(top)) == depth
    os.close(top)
    folder.remove_all(b"sub")
    assert not (place / "sub").exists()
    nested(place, depth)
    remove_tree(place)
    assert not place.exists()
    assert (place.parent / "outside" / "secret").read_bytes() == SECRET


@contextlib.contextmanager
def ordinary_account(folder: Path) -> Iterator[None]:
    """Whose this folder is, and who is in it: rights are nothing to root."""
    with contextlib.chdir(folder):
        try:
            if os.geteuid() == 0:
                for name in (folder, *folder.rglob("*")):
                    os.chown(name, NOBODY, NOBODY, follow_symlinks=False)
                os.seteuid(NOBODY)
            yield
        finally:
            if os.getuid() == 0:
                os.seteuid(0)


def test_folders_whose_owner_has_no_rights_to_them_any_more_are_removed(place: Path) -> None:
    (place / "shut").mkdir()
    (place / "shut" / "file").touch()
    for name, mode in (("sub", 0o555), ("shut", 0), (".", 0o500)):
        (place / name).chmod(mode)
    with ordinary_account(place.parent):
        remove_tree(place.name)
    assert not place.exists()
    assert (place.parent / "outside" / "secret").read_bytes() == SECRET


def test_what_is_in_a_folder_comes_before_it_and_links_lead_nowhere(place: Path) -> None:
    top = os.open(place, os.O_PATH)
    found = [name for _, name, _ in walk(top)]
    os.close(top)
    assert sorted(found) == sorted(
        [b"file", b"sub", b"deep", b"to-sub", b"up", b"out", b"absolute", b"chain", b"loop"]
    )
    assert found.index(b"sub") > max(found.index(b"deep"), found.index(b"up"))


def test_a_folder_that_is_moved_while_it_is_walked_leads_nowhere_else(place: Path) -> None:
    top = os.open(place, os.O_PATH)
    steps = walk(top)
    while next(steps)[1] != b"deep":
        pass
    (place / "sub").rename(place.parent / "outside" / "sub")
    with pytest.raises(OSError, match="temporarily unavailable"):
        list(steps)
    os.close(top)


def test_paths_are_told_however_long_they_are(place: Path) -> None:
    depth = 3 * sys.getrecursionlimit()
    nested(place, depth)
    top = os.open(place, os.O_PATH)
    files = [path for _, path, is_folder in walk_paths(top) if not is_folder]
    assert b"d/" * depth + b"file" in files and b"sub/deep" in files
    below = open_folder(top, b"d/" * depth)
    assert [entry.name for entry in os.scandir(below)] == ["file"]
    os.close(below)
    made = open_folder(top, b"e/" * depth, making=True)
    assert not list(os.scandir(made))
    os.close(made)
    with pytest.raises(NotADirectoryError):
        open_folder(top, b"to-sub/new", making=True)
    os.close(top)
    remove_tree(place)


@pytest.mark.parametrize("happens", ["removed", "moved"])
def test_a_walk_goes_on_where_a_folder_was_lost(tmp_path: Path, happens: str) -> None:
    for name in ("a", "b", "c/d/e", "c/x", "c/y"):
        (tmp_path / "top" / name).mkdir(parents=True)
        (tmp_path / "top" / name / "file").touch()
    top = os.open(tmp_path / "top", os.O_PATH)
    steps = walk_paths(top)
    seen = []
    for _, path, _ in steps:
        seen.append(path)
        if path == b"c/d/e/file":
            (tmp_path / "top/c/d").rename(tmp_path / "d")
            if happens == "removed":
                remove_tree(tmp_path / "d")
    os.close(top)
    assert {b"a/file", b"b/file", b"c/x/file", b"c/y/file", b"c/d/e/file"} <= set(seen)
    assert len(seen) == len(set(seen))


def test_files_gain_no_rights(folder: Beneath) -> None:
    os.close(folder.open(b"new", os.O_WRONLY | os.O_CREAT, 0o7777))
    folder.mkdir(b"made", 0o7777)
    folder.chmod(b"file", 0o7755)
    for name in (b"new", b"made", b"file"):
        assert folder.stat(name).st_mode & 0o7000 == 0


def test_a_pipe_does_not_keep_anybody_waiting(folder: Beneath, place: Path) -> None:
    os.mkfifo(place / "pipe")
    os.close(folder.open(b"pipe", os.O_RDONLY))
    with pytest.raises(OSError):
        folder.open(b"pipe", os.O_WRONLY)


def test_a_folder_swapped_for_a_link_meanwhile_leads_nowhere_else(
    folder: Beneath, place: Path
) -> None:
    """One thread swaps `sub` for a link that leads out and back, as fast as it can."""
    over = threading.Event()
    (place / "spare").symlink_to("../outside")
    (place.parent / "outside" / "deep").write_bytes(SECRET)

    def swap() -> None:
        while not over.is_set():
            (place / "sub").rename(place / "real")
            (place / "spare").rename(place / "sub")
            (place / "sub").rename(place / "spare")
            (place / "real").rename(place / "sub")

    swapper = threading.Thread(target=swap)
    swapper.start()
    read = refused = 0
    try:
        for _ in range(3000):
            try:
                descriptor = folder.open(b"sub/deep", os.O_RDONLY)
            except OSError:
                refused += 1
            else:
                assert os.read(descriptor, 100) == b"deep"
                os.close(descriptor)
                read += 1
    finally:
        over.set()
        swapper.join()
    assert read + refused == 3000
