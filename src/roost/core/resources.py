"""The table of resources as an administrator edits it; `stock` counts what is in use.

A new farm has the licences that HQueue has built in, per machine and without a maximum:
jobs that name one run as if it were not there until somebody says how many there are. A job may
need a resource that nobody has entered yet; it waits and says so.

Always holds: no more is in use than there is. So a maximum cannot go below what is in use, and
what counts as in use cannot change, nor the resource go away, while some of it is.
"""

from __future__ import annotations

from roost.core.messages import RemoveResource, SetResource
from roost.core.records import Resource, ResourceId
from roost.core.state import State
from roost.errors import Conflict, Invalid, NotFound


def on_set_resource(farm: State, command: SetResource) -> ResourceId:
    """Raises `Invalid` for a blank name or a maximum below 0, `Conflict` while too much is used."""
    name, maximum = command.name.strip(), command.max
    if not name:
        raise Invalid("A resource needs a name that is not blank.")
    if maximum is not None and maximum < 0:
        raise Invalid(f"The maximum of {name} must be 0 or more, or none at all, not {maximum}.")
    stock = farm.floor.stock
    old = stock.resources.get(name)
    in_use = stock.in_use(name, command.per_machine)
    if old is not None and old.per_machine != command.per_machine and in_use:
        raise Conflict(
            f"{name} is in use; whether it counts per machine can change only when none of it is."
        )
    if maximum is not None and in_use > maximum:
        raise Conflict(f"{in_use} of {name} are in use, so its maximum cannot be {maximum} now.")
    resource_id = ResourceId(farm.next_resource_id) if old is None else old.id
    if old is None:
        farm.next_resource_id += 1
    farm.set_resource(Resource(resource_id, name, maximum, command.per_machine))
    farm.floor.restock((name,))
    return resource_id


def on_remove_resource(farm: State, command: RemoveResource) -> None:
    """Raises `NotFound`, or `Conflict` while some of it is in use."""
    stock = farm.floor.stock
    resource = stock.resources.get(command.name)
    if resource is None:
        raise NotFound(f"There is no resource {command.name!r}.")
    if stock.in_use(resource.name, resource.per_machine):
        raise Conflict(f"{resource.name} is in use; wait until the jobs that need it have ended.")
    farm.remove_resource(resource)
    farm.floor.restock((resource.name,))
