"""One connection between an agent and the server: two ordered pipes of frames that may end.

As with TCP, what arrives arrives in order and once; what is under way when the connection ends is
lost. A cut holds frames back: they arrive late when it heals, and never when either end has lost
patience before. So an old connection may still deliver while a new one is already in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.world import World

PATIENCE_MS = 6_000
"""An end that hears nothing for so long closes the connection (ping and pong in real life)."""


class Pipe:
    """One direction. A `None` frame is the news that the other end has closed."""

    def __init__(self, world: World, receive: Callable[[bytes | None], None]) -> None:
        self.world = world
        self.receive = receive
        self.open = True
        self._last = 0
        self._cut_until = 0

    def send(self, frame: bytes | None) -> None:
        world = self.world
        slow = world.faults.slip(world, "slow link")
        delay = world.random.randint(300, 3_000) if slow else world.random.randint(0, 4)
        self._last = max(self._last, world.now + delay)
        world.after(self._last - world.now, self._arrive, frame)

    def cut(self, until: int) -> None:
        self._cut_until = max(self._cut_until, until)

    def heal(self) -> None:
        self._cut_until = 0

    def _arrive(self, frame: bytes | None) -> None:
        if not self.open:
            return
        if self._cut_until > self.world.now:
            # The later ones wait behind it: their moments are equal then, their order is kept.
            self._last = max(self._last, self._cut_until)
            self.world.after(self._cut_until - self.world.now, self._arrive, frame)
        else:
            self.receive(frame)


class Connection:
    """Either end may close; the other learns of it through the pipe, or by losing patience."""

    def __init__(
        self,
        world: World,
        to_server: Callable[[bytes | None], None],
        to_agent: Callable[[bytes | None], None],
    ) -> None:
        self.world = world
        self.to_server = Pipe(world, to_server)
        self.to_agent = Pipe(world, to_agent)

    def close_by_agent(self) -> None:
        """The agent hears and says nothing more on it."""
        if self.to_agent.open:
            self.to_agent.open = False
            self.to_server.send(None)

    def close_by_server(self) -> None:
        if self.to_server.open:
            self.to_server.open = False
            self.to_agent.send(None)

    def break_off(self) -> None:
        """Both ends learn at once that it is over; what is under way is lost."""
        self._lose_patience(self.to_agent)
        self._lose_patience(self.to_server)

    def vanish(self) -> None:
        """The machine is gone without a word; the server finds out in time."""
        self.to_agent.open = False
        self.world.after(PATIENCE_MS, self._lose_patience, self.to_server)

    def cut(self, until: int, *, to_server: bool, to_agent: bool) -> None:
        for pipe, is_cut in ((self.to_server, to_server), (self.to_agent, to_agent)):
            if is_cut:
                pipe.cut(until)
        if until - self.world.now > PATIENCE_MS:
            for pipe in (self.to_server, self.to_agent):
                wait = PATIENCE_MS + self.world.random.randint(0, 2_000)
                self.world.after(wait, self._lose_patience, pipe)

    def _lose_patience(self, pipe: Pipe) -> None:
        if pipe.open:
            pipe.receive(None)
