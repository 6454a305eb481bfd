"""WireMock as a service: who provides it, and what passes for it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.errors import ServiceGoneError, ServiceMissingError, ServiceStartError, UnexpectedAnswerError
from pratique.testkit.ports import reserved_port
from pratique.testkit.services.interface import Backend, Connection
from pratique.testkit.services.wiremock import WireMockEndpoint, WireMockService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


def at(url: str) -> Connection:
    return Connection(url=url, backend=Backend.URL, provider="url")


@pytest.fixture
def other_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_given_by_url_tells_its_version(pratique_wiremock: WireMockEndpoint) -> None:
    assert WireMockService().connect(at(pratique_wiremock.url + "/")).version.startswith("3.")


def test_its_own_version_is_that_of_the_jar(pratique_wiremock: WireMockEndpoint) -> None:
    assert pratique_wiremock.version == pratique_wiremock.client().version()


def test_another_server_does_not_pass_for_it(other_server: str) -> None:
    with pytest.raises(ServiceStartError, match="Nobody answers as WireMock"):
        WireMockService().connect(at(other_server))


def test_nobody_at_the_address_is_a_clear_error() -> None:
    with reserved_port() as port:
        with pytest.raises(ServiceStartError, match="Nobody answers as WireMock"):
            WireMockService().connect(at(f"http://127.0.0.1:{port}"))
        endpoint = WireMockEndpoint(service="wiremock", connection=at(f"http://127.0.0.1:{port}"))
        with pytest.raises(ServiceGoneError, match=f"WireMock at {endpoint.url} does not answer: "):
            endpoint.client().journal()


def test_what_the_admin_api_refuses_is_told(pratique_wiremock: WireMockEndpoint) -> None:
    with pytest.raises(UnexpectedAnswerError, match=r"422|400"):
        pratique_wiremock.client().ask("POST", "/__admin/mappings", {"request": 1})


def test_without_java_or_the_jar_it_is_missing_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provider = WireMockService().providers[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRATIQUE_TESTKIT_TOOLS", str(tmp_path))
    with pytest.raises(ServiceMissingError, match="npm package 'wiremock'"):
        provider.find()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceMissingError, match="'java' is not on the path"):
        provider.find()


def test_without_an_engine_the_container_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ServiceMissingError):
        WireMockService().providers[1].find()


def test_a_version_is_read_from_the_jars_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "node_modules" / "wiremock" / "build"
    folder.mkdir(parents=True)
    (folder / "wiremock-standalone-beta.jar").touch()
    monkeypatch.chdir(tmp_path)
    assert WireMockService().providers[0].find().version == "unknown"
    (folder / "wiremock-standalone-beta.jar").rename(folder / "wiremock-standalone-4.0.0-beta.1.jar")
    assert WireMockService().providers[0].find().version
