"""Scratch folders of attempts, from one to the next."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agent.test_calls import make_calls

from roost.agent import proxy as module
from roost.agent.channel import Channels
from roost.agent.proxy import Proxy
from roost.agent.slots import Slots, changed_at
from roost.core.messages import AttemptOrder, ChirpOrder


async def test_what_is_left_in_a_folder_that_was_found_clean_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED_NS", -1)  # believe it from the first look on
    slots = Slots(tmp_path)
    channels = Channels("http://nowhere", lambda: None)
    calls = make_calls(channels)
    proxy = Proxy(tmp_path, slots, calls, channels)
    await proxy.start()
    order = AttemptOrder(
        1, 1, "", "true", {}, chirp=ChirpOrder((True, True, True), "", "", 1, "Chirp")
    )
    folder = slots.scratch / "0"
    for _ in range(3):
        assert proxy.admit(order, 0)
        proxy.dismiss((1, 1))
        assert [path.name for path in folder.iterdir()] == [module.CONTACT]
    proxy.admit(order, 0)
    before = changed_at(str(folder))
    while changed_at(str(folder)) == before:  # as the kernel's clock goes in steps
        (folder / "left").touch()
        (folder / "left").rename(folder / "behind")
    proxy.dismiss((1, 1))
    assert not folder.exists()
    proxy.close()
    calls.close()


async def test_what_could_not_be_removed_is_tried_again_under_the_name_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed: list[Path] = []
    channels = Channels("http://nowhere", lambda: None)
    calls = make_calls(channels)
    monkeypatch.setattr(calls, "remove_folder", doomed.append)  # as of files of another account
    proxy = Proxy(tmp_path, Slots(tmp_path), calls, channels)
    (tmp_path / "scratch" / "0").mkdir()
    proxy.sweep()
    proxy.sweep()
    [left] = (tmp_path / "scratch").iterdir()
    assert doomed == [left, left]
    assert left.suffix == module.DOOMED
    calls.close()
