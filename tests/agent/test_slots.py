"""What is left of an attempt for the next one in its slot: nothing."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from roost.agent.slots import TRUNCATE_BYTES_MAX, Slots, clear_output, holds_only


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path / "agent")


def test_an_output_file_is_emptied_and_used_again(slots: Slots) -> None:
    file = Path(slots.output(3))
    file.write_text("text")
    place = file.stat().st_ino
    clear_output(str(file))
    assert (file.read_text(), file.stat().st_ino) == ("", place)


def test_an_output_file_that_somebody_has_open_is_left_to_them(slots: Slots) -> None:
    file = Path(slots.output(3))
    with file.open("w") as straggler:
        clear_output(str(file))
        assert not file.exists()
        straggler.write("late")


def test_an_output_file_that_became_a_log_is_left_as_it_is(slots: Slots, tmp_path: Path) -> None:
    file, log = Path(slots.output(3)), tmp_path / "log"
    file.write_text("printed")
    log.hardlink_to(file)
    clear_output(str(file))
    assert not file.exists()
    assert log.read_text() == "printed"


def test_a_large_output_file_is_given_up_for_a_new_one(slots: Slots) -> None:
    file = Path(slots.output(3))
    file.write_bytes(bytes(TRUNCATE_BYTES_MAX + 1))
    clear_output(str(file))
    assert not file.exists(), "nobody gets a file that is still being emptied"
    for thread in threading.enumerate():
        if thread.name == "free":
            thread.join()
    assert not any(str(file) in held for held in open_files()), "its space is given back"


def open_files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(entry.readlink()))
    return found


def test_there_need_not_be_an_output_file(slots: Slots) -> None:
    clear_output(slots.output(3))
    assert not Path(slots.output(3)).exists()


def test_only_the_outputs_of_free_slots_are_cleared(slots: Slots) -> None:
    files = [Path(slots.output(slot)) for slot in range(3)]
    for file in files:
        file.write_text("text")
    for spare in slots.spare_outputs([1]):
        clear_output(spare)
    assert [file.read_text() for file in files] == ["", "text", ""]


def test_a_folder_is_clean_with_nothing_but_the_plain_file(tmp_path: Path) -> None:
    folder, contact = tmp_path / "folder", tmp_path / "folder" / "contact"
    assert not holds_only(str(folder), "contact", 4)
    folder.mkdir()
    assert not holds_only(str(folder), "contact", 4)
    contact.write_text("more text")
    assert not holds_only(str(folder), "contact", 4)
    contact.write_text("text")
    assert holds_only(str(folder), "contact", 4)
    (folder / "more").touch()
    assert not holds_only(str(folder), "contact", 4)
    (folder / "more").unlink()
    (tmp_path / "other name").hardlink_to(contact)
    assert not holds_only(str(folder), "contact", 4)
    contact.unlink()
    contact.symlink_to(tmp_path / "other name")
    assert not holds_only(str(folder), "contact", 4)
