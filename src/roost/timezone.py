"""The farm's time zone: by whose clocks availability rules go.

The one of the machine that the server runs on, as its system is set up, unless a setting names
another by its IANA name (`Europe/Berlin`). Where a machine says nothing usable, it is UTC.
"""

from __future__ import annotations

import warnings
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

import tzlocal

from roost.errors import Invalid


def find(name: str) -> tzinfo:
    """The zone of that name; an empty one means this machine's. Raises `Invalid`."""
    if name:
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            raise Invalid(
                f"There is no time zone {name!r}; give time_zone a name such as Europe/Berlin."
            ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it makes of odd files in /etc
            return tzlocal.get_localzone()
    except (OSError, ValueError, LookupError):
        return UTC
