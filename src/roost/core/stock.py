"""How much of each resource there is, and how much is in use: one number per question.

A resource is a named amount that jobs need while they run, such as licences. Of a
*per job* resource every attempt takes the amount its job asks for. Of a *per machine* resource a
machine takes one unit, whatever its jobs ask for, and one unit serves all of them. Without a
maximum there is always enough, and use is counted all the same.

Both counts are kept for every name, also for one that is not in the table, so that the table can
be edited while jobs run and the counts never have to be made again. Taking and giving back cost
the same however many jobs run. Knows nothing of jobs or of who is next.
"""

from __future__ import annotations

from collections.abc import Iterable

from roost.core.records import NodeId, Resource

Amounts = tuple[tuple[str, int], ...]
"""What one job needs: names and amounts above 0, by name."""


class Stock:
    """The table of resources, and what is taken of each."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        self.amounts: dict[str, int] = {}
        """The sum of what attempts asked for."""
        self.machines: dict[str, dict[NodeId, int]] = {}
        """On which nodes it is in use, by how many attempts."""

    def take(self, wanted: Amounts, nodes: Iterable[NodeId]) -> None:
        """An attempt starts on these nodes."""
        for name, amount in wanted:
            self.amounts[name] = self.amounts.get(name, 0) + amount
            machines = self.machines.setdefault(name, {})
            for node in nodes:
                machines[node] = machines.get(node, 0) + 1

    def give_back(self, wanted: Amounts, nodes: Iterable[NodeId]) -> None:
        for name, amount in wanted:
            self.amounts[name] -= amount
            machines = self.machines[name]
            for node in nodes:
                machines[node] -= 1
                if not machines[node]:
                    del machines[node]
            if not machines:
                del self.machines[name], self.amounts[name]

    def in_use(self, name: str, per_machine: bool) -> int:
        """Counted as a resource of that sort would be."""
        return len(self.machines.get(name, ())) if per_machine else self.amounts.get(name, 0)

    def free(self, resource: Resource) -> int | None:
        """None when there is no limit."""
        if resource.max is None:
            return None
        return max(resource.max - self.in_use(resource.name, resource.per_machine), 0)

    # --- the tests ------------------------------------------------------------------------

    def shortage(self, wanted: Amounts) -> str | None:
        """Why this cannot be had on any node now, as a sentence."""
        for name, amount in wanted:
            resource = self.resources.get(name)
            if resource is None:
                return f"It needs {amount} of {name}, and the farm has no such resource."
            free = None if resource.per_machine else self.free(resource)
            if free is not None and amount > free:
                there = f"{free} of {resource.max} {'is' if free == 1 else 'are'} free"
                return f"It needs {amount} of {name}, and {there}."
        return None

    def shortage_on(self, wanted: Amounts, node: NodeId) -> str | None:
        """Why this node cannot have a unit it would need, as the end of a sentence about it."""
        for name, _ in wanted:
            resource = self.resources.get(name)
            if resource is None or not resource.per_machine or self.free(resource) != 0:
                continue
            if node not in self.machines.get(name, ()):
                return f"would need 1 of {name}, and 0 of {resource.max} are free"
        return None

    def afford(self, wanted: Amounts, nodes: Iterable[NodeId]) -> list[NodeId]:
        """Those of the nodes, the first ones first, that can have their units all together."""
        left: dict[str, int] = {}
        for name, _ in wanted:
            resource = self.resources.get(name)
            if resource is not None and resource.per_machine:
                free = self.free(resource)
                if free is not None:
                    left[name] = free
        kept: list[NodeId] = []
        for node in nodes:
            new = [name for name in left if node not in self.machines.get(name, ())]
            if all(left[name] for name in new):
                for name in new:
                    left[name] -= 1
                kept.append(node)
        return kept
