"""What a browser sends for another site's page comes no further, whatever it is about."""

from __future__ import annotations

import socket

import httpx2
import pytest
from starlette.responses import PlainTextResponse

from roost.sameorigin import SameOrigin, is_private

EVERYTHING = ["/", "/RPC2", "/api/v1/jobs", "/jobs/act"]
WITH_LANGUAGE = {"accept-language": "de"}


async def status(
    method: str, url: str, public_url: str = "https://farm.example/", **headers: str
) -> int:
    guarded = SameOrigin(PlainTextResponse("done"), "", public_url)
    transport = httpx2.ASGITransport(guarded)
    async with httpx2.AsyncClient(transport=transport) as client:
        return (await client.request(method, url, headers=headers)).status_code


@pytest.mark.parametrize("path", EVERYTHING)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_another_site_s_page_changes_nothing(path: str, headers: dict[str, str]) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert await status(method, f"http://127.0.0.1:5000{path}", **headers) == 403


@pytest.mark.parametrize("path", EVERYTHING)
async def test_a_site_whose_name_means_this_machine_is_another_site(path: str) -> None:
    """DNS rebinding: to the browser the page and the server are one."""
    url = f"http://evil.example:5000{path}"
    assert await status("POST", url, origin="http://evil.example:5000") == 403
    assert await status("GET", url, **WITH_LANGUAGE) == 403
    fetched = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", **WITH_LANGUAGE}
    assert await status("GET", url, **fetched) == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1:5000", "[::1]:5000", "localhost:5000", "farm", "farm.lan", "Farm.Example"]
)
async def test_our_own_pages_act_and_are_read(host: str) -> None:
    url = f"http://{host}/jobs/act"
    own = {"host": host, "origin": f"http://{host}"}
    assert await status("POST", url, **own) == 200
    assert await status("POST", url, host=host, **{"sec-fetch-site": "same-origin"}) == 200
    assert await status("GET", url, host=host, **WITH_LANGUAGE) == 200


async def test_a_proxy_may_ask_by_another_name_than_the_browser() -> None:
    url = "http://127.0.0.1:5000/jobs/act"
    assert await status("POST", url, origin="https://farm.example") == 200
    assert await status("POST", url, origin="https://farm.example:8443") == 403


async def test_browsers_leave_out_the_usual_port_of_the_public_address() -> None:
    url, public_url = "http://127.0.0.1:5000/jobs/act", "https://farm.example:443"
    assert await status("POST", url, public_url, origin="https://farm.example") == 200
    assert await status("POST", url, public_url, origin="https://farm.example:8443") == 403


@pytest.mark.parametrize("host", ["", ".", "[", "user@farm"])
async def test_no_page_is_answered_by_no_name(host: str) -> None:
    for public_url in ("", "https://farm.example/"):
        url = "http://127.0.0.1:5000/jobs/act"
        assert await status("POST", url, public_url, host=host, origin="null") == 403
        assert await status("GET", url, public_url, host=host, **WITH_LANGUAGE) == 403


async def test_the_machine_s_own_name_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "Render1.studio.example")
    assert await status("GET", "http://render1.studio.example/", **WITH_LANGUAGE) == 200
    assert await status("GET", "http://studio.example/", **WITH_LANGUAGE) == 403


async def test_programs_may_call_us_what_they_like() -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert await status(method, "http://alias.studio.example:5000/") == 200
        node = {"accept-language": "*", "sec-fetch-mode": "cors"}
        assert await status(method, "http://alias.studio.example:5000/", **node) == 200


async def test_a_refusal_says_what_to_do() -> None:
    guarded = SameOrigin(PlainTextResponse("done"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(guarded)) as client:
        answer = await client.get("http://farm.studio.example/", headers=WITH_LANGUAGE)
    assert 'does not know itself as "farm.studio.example"' in answer.text
    assert "public_url" in answer.text


@pytest.mark.parametrize(
    "name", ["", "evil.example", "127.0.0.1.evil.example", "lan", "1.2.3", ":"]
)
def test_only_names_that_nobody_can_register_are_private(name: str) -> None:
    assert is_private(name) is (name == "lan")
