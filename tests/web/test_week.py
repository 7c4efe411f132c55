"""Hours in a grid and availability rules mean the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core import availability
from roost.web import week


@pytest.mark.parametrize(
    ("cells", "rules"),
    [
        (week.EVERYTHING, ["any"]),
        ((), []),
        ([(day, hour) for day in range(7) for hour in range(20, 24)], ["any 20:00-24:00"]),
        ([(day, hour) for day in (5, 6) for hour in range(24)], ["weekends"]),
        ([(0, 9), (0, 10), (0, 12)], ["monday 09:00-11:00", "monday 12:00-13:00"]),
    ],
)
def test_days_alike_share_a_rule(cells: list[week.Cell], rules: list[str]) -> None:
    assert week.rules(cells) == rules


def test_a_rule_past_midnight_reaches_into_the_next_day() -> None:
    found = week.cells([availability.parse("friday 22:00-02:00")])
    assert found == {(4, 22), (4, 23), (5, 0), (5, 1)}


def test_what_is_finer_than_the_grid_does_not_fit_it() -> None:
    assert not week.fits(availability.parse("any 08:30-17:00"))
    assert not week.fits(availability.parse("idle 15"))
    assert week.fits(availability.parse("weekdays 08:00-17:00"))


@given(st.sets(st.sampled_from(sorted(week.EVERYTHING))))
def test_a_grid_made_of_rules_is_the_grid_they_were_made_of(cells: set[week.Cell]) -> None:
    assert week.cells(map(availability.parse, week.rules(cells))) == cells
