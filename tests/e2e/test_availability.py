"""Availability rules on a real farm: kept, told, and obeyed at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from roost.remote import Remote
from roost.wire import rest

pytestmark = pytest.mark.slow


def test_a_node_off_duty_gets_no_job_says_why_and_gets_it_once_its_rules_allow(farm: Any) -> None:
    zone = ZoneInfo("Asia/Tokyo")
    farm.start_server("--time-zone", zone.key)
    farm.start_agent("desk")
    farm.wait(farm.submit("true"))  # it has joined
    soon = datetime.now(zone) + timedelta(hours=2)
    later = f"{soon:%H:%M}-{soon + timedelta(hours=1):%H:%M}"
    with Remote(farm.url) as remote:
        (node,) = remote.nodes()
        remote.set_availability(node.id, [rest.AvailabilityRule(later)])
        job = farm.submit("echo on duty")
        assert (
            f"is outside its availability rules until {soon:%a %H:%M}."
            in (farm.job(job, "waitingFor")["waitingFor"])
        )
        client = farm.node("desk")
        (rule,) = client["availabilityRules"]
        ahead = (rule["localStartHour"] - rule["startHour"]) % 24
        assert (client["available"], rule["localStartHour"], ahead) == (False, soon.hour, 9)
        assert farm.status(job) == "runnable"

        farm.server.kill()  # rules outlive the server
        farm.start_server("--time-zone", zone.key)
        assert remote.node(node.id).availability[0].rule.endswith(later)
        assert farm.status(job) == "runnable"

        remote.set_availability(node.id, [rest.AvailabilityRule("any")])
        assert farm.wait(job) == "succeeded"
        assert farm.node("desk")["available"] is True
