"""By whose clocks the farm goes: a named zone, else this machine's, else UTC."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import tzlocal

from roost import settings, timezone
from roost.cli import checkup
from roost.errors import Invalid
from roost.server.app import run_server


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    """The library remembers what it once found."""
    tzlocal.unix._cache_tz = tzlocal.unix._cache_tz_name = None


def test_a_zone_has_a_name() -> None:
    assert timezone.find("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    for wrong in ("Europe/Nowhere", "Europe", "/etc/passwd", "../etc", "a\0b"):
        with pytest.raises(Invalid, match="There is no time zone"):
            timezone.find(wrong)


def test_without_a_name_it_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert timezone.find("") == ZoneInfo("Asia/Kathmandu")


def test_a_machine_that_says_nothing_usable_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Atlantis/Harbour")
    found = timezone.find("")
    assert datetime(2025, 7, 1, tzinfo=UTC).astimezone(found).utcoffset() == UTC.utcoffset(None)


def test_a_server_with_a_wrong_zone_does_not_start(tmp_path: Path) -> None:
    options = settings.ServerOptions(data=tmp_path, port=0, time_zone="Europe/Nowhere")
    with pytest.raises(Invalid, match=r"There is no time zone 'Europe/Nowhere'; give time_zone"):
        asyncio.run(run_server(options, lambda ready: None))
    assert not (tmp_path / "roost.db").exists()


def test_the_doctor_tells_the_zone() -> None:
    right, wrong = checkup.time_zone("Europe/Berlin"), checkup.time_zone("Europe/Nowhere")
    assert (right.state, wrong.state) == ("ok", "fail")
    assert "Europe/Berlin" in right.text and "Europe/Nowhere" in wrong.text


def test_the_setting_reaches_the_server(tmp_path: Path) -> None:
    file = tmp_path / "roost.toml"
    file.write_text('time_zone = "Europe/Berlin"')
    assert settings.load({}, {}, file).server_options().time_zone == "Europe/Berlin"
    chosen = settings.load({"time_zone": "UTC"}, {}, file)
    assert chosen.server_options().time_zone == "UTC"
