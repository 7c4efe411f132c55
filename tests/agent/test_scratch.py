"""Scratch folders of attempts, from one to the next."""

from roost.agent import proxy as module
from roost.agent.calls import Calls
from roost.agent.channel import Channels
from roost.agent.proxy import Proxy
from roost.agent.slots import Slots, changed_at
from roost.core.messages import AttemptOrder, ChirpOrder


async def test_what_is_left_in_a_folder_that_was_found_clean_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SETTLED_NS", -1)  # believe it from the first look on
    slots = Slots(tmp_path)
    calls = Calls((), lambda: None)
    proxy = Proxy(tmp_path, slots, calls, Channels("http://127.0.0.1:1", lambda: None))
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
