"""A package is used only if it is what was announced, and none of it lands outside its folder."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost import package
from roost.agent import upgrade
from roost.errors import ProtocolError, Unreachable


class Server(http.server.ThreadingHTTPServer):
    answer = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.send_response(200 if self.path == package.PATH else 404)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def packed(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_archive_of_a_package_is_that_package(tmp_path: Path) -> None:
    upgrade.unpack(package.archive(), tmp_path)
    assert package.version_of(tmp_path / "roost") == package.version()
    package.archive.cache_clear()
    assert digest(package.archive()) == package.archive_digest()


def test_the_server_s_package_is_put_in_place(server: Server, tmp_path: Path) -> None:
    server.answer = package.archive()
    upgrade.install(tmp_path, server.url, package.version(), package.archive_digest())
    place = tmp_path / "packages" / package.version() / "roost"
    assert package.version_of(place) == package.version()
    assert (tmp_path / "packages" / "current").read_text().split()[1] == package.version()


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "roost/../../evil.py", "other/x.py"])
def test_no_file_of_a_package_lands_elsewhere(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(ProtocolError, match="has a file"):
        upgrade.unpack(packed({name: "evil"}), inside)
    assert not list(tmp_path.rglob("*.py"))


@pytest.mark.parametrize("damage", ["another archive", "another version", "no archive"])
def test_what_was_not_announced_is_not_used(server: Server, tmp_path: Path, damage: str) -> None:
    server.answer = packed({"roost/__init__.py": ""}) if damage != "no archive" else b"PK no"
    announced = package.archive_digest() if damage == "another archive" else digest(server.answer)
    with pytest.raises(ProtocolError):
        upgrade.install(tmp_path, server.url, package.version(), announced)
    assert not list((tmp_path / "packages").iterdir())


def test_a_server_without_a_package_is_said_to_be_one(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="404"):
        upgrade.fetch(f"{server.url}/elsewhere", "")


def test_a_package_that_does_not_come_up_in_time_is_not_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "TRY_S_MAX", 0.001)
    server.answer = package.archive()
    with pytest.raises(ProtocolError, match="does not run here: after"):
        upgrade.install(tmp_path, server.url, package.version(), package.archive_digest())
    assert not list((tmp_path / "packages").iterdir())
