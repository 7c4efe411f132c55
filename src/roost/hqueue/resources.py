"""HQueue's method about resources.

Knows the shape of decision 17. HQueue's API only lists them; they are edited through Roost's own.

Always holds: `max` is a number. Where there is no limit it is -1, as for `maxTime`.
"""

from __future__ import annotations

from collections.abc import Sequence

from roost.gateway import Gateway, ResourceView

NO_LIMIT = -1


def _shape(view: ResourceView) -> dict[str, object]:
    resource = view.resource
    return {
        "id": resource.id,
        "name": resource.name,
        "max": NO_LIMIT if resource.max is None else resource.max,
        "inUse": view.in_use,
        "perMachine": resource.per_machine,
    }


async def get_resources(gateway: Gateway, resource_ids: Sequence[int] | None) -> object:
    """Return a list of dictionaries where each dictionary represents a resource.

    Without resource_ids all resources are returned; unknown ones are left out. The keys are id,
    name, max (-1 where there is no limit), inUse and perMachine (decision 17).
    """
    views = await gateway.resources()
    if resource_ids is not None:
        by_id: dict[int, ResourceView] = {view.resource.id: view for view in views}
        views = [by_id[each] for each in resource_ids if each in by_id]
    return [_shape(view) for view in views]
