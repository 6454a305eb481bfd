"""The front over a registry that follows a script: what it passes, what it refuses, what it does when others fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pratique.release.registry.front.app import Front
from pratique.release.registry.front.requests import passed_on
from pratique.release.registry.front.serve import running
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST
from pratique.release.registry.names import fallback_tag
from pratique.release.registry.settings import FrontSettings
from pratique.release.values import digest_of

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": IMAGE_MANIFEST}).encode()
OTHER = MANIFEST + b" "
DIGEST = digest_of(MANIFEST)
TYPE = {"Content-Type": IMAGE_MANIFEST}


@dataclass
class Plain:
    """Manifests by tag, as a plain registry keeps them; any request may be answered otherwise."""

    manifests: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    otherwise: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs, {k.lower(): v for k, v in request.headers.items()}))
        other = await self.otherwise(request) if self.otherwise is not None else None
        if other is not None:
            return other
        reference = request.path.rpartition("/")[2]
        if request.method == "PUT" and "/manifests/" in request.path:
            content = await request.read()
            self.manifests[reference] = self.manifests[digest_of(content)] = content
            return web.Response(status=201, headers={"Docker-Content-Digest": digest_of(content)})
        if reference in self.manifests:
            content = self.manifests[reference]
            return web.Response(body=content, content_type=json.loads(content)["mediaType"])
        return web.Response(status=404, text='{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])


@dataclass
class Running:
    front: Front
    plain: Plain
    url: str

    async def ask(
        self, method: str, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None, cut: bool = False
    ) -> Got:
        path, _, query = path.partition("?")
        sent = {"content-length": str(len(body)), **(headers or {})}
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(), "http_version": "1.1",
            "scheme": "http", "server": ("front", 80), "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in sent.items()],
        }  # fmt: skip
        pieces = [body[:10], body[10:]]
        said: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if cut:
                return {"type": "http.disconnect"}
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        await self.front(scope, receive, send)
        start: dict[str, Any] = said[0] if said else {"status": 0, "headers": []}
        return Got(
            start["status"],
            {k.decode().lower(): v.decode() for k, v in start["headers"]},
            b"".join(one["body"] for one in said[1:]),
            bool(said) and not said[-1].get("more_body", False),
        )

    async def put(self, tag: str, content: bytes = MANIFEST, **headers: str) -> Got:
        sent = TYPE | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("PUT", f"/v2/a/b/manifests/{tag}", body=content, headers=sent)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(**changes: Any) -> Running:
            plain = Plain()
            app = web.Application(client_max_size=10 * 1024**2)
            app.router.add_route("*", "/{tail:.*}", plain.answer)
            server = TestServer(app)
            await server.start_server()
            stack.push_async_callback(server.close)
            url = f"http://127.0.0.1:{server.port}"
            given: dict[str, Any] = {"upstream": url, "state_dir": tmp_path, **changes}
            return Running(await stack.enter_async_context(running(FrontSettings(**given))), plain, url)

        yield start


@pytest.fixture
async def it(served: Callable[..., Awaitable[Running]]) -> Running:
    return await served()


# Places


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/v1/", 404), ("GET", "/v2/A/tags/list", 404), ("GET", "/v2/../tags/list", 404),
        ("GET", "/v2/a/manifests/a:b", 404), ("GET", "/v2/a/manifests/sha512:" + "0" * 128, 404),
        ("GET", "/v2/a/blobs/sha256:0", 404), ("GET", "/v2/a/b\n/tags/list", 404), ("GET", "/v2/" + "a" * 2000, 404),
        ("POST", "/v2/", 405), ("PUT", "/v2/a/tags/list", 405), ("PATCH", "/v2/a/manifests/v1", 405),
        ("PUT", f"/v2/a/blobs/{DIGEST}", 405), ("POST", f"/v2/a/referrers/{DIGEST}", 405),
        ("DELETE", "/v2/a/manifests/v1", 405), ("DELETE", f"/v2/a/blobs/{DIGEST}", 405),
    ],
)  # fmt: skip
async def test_what_is_no_place_is_not_passed_on(it: Running, method: str, path: str, status: int) -> None:
    got = await it.ask(method, path)
    assert (got.status, got.is_whole, it.plain.asked) == (status, True, [])
    assert got.code in {"NAME_INVALID", "UNSUPPORTED"}
    assert got.headers["pratique-conditional-writes"] == "1"


async def test_only_known_headers_pass_and_repeated_ones_are_joined(it: Running) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(
            headers={"Set-Cookie": "a=b", "Server": "x", "Link": f'<{it.url}/v2/a/tags/list?n=1>; rel="next"'}
        )

    it.plain.otherwise = answer
    got = await it.ask(
        "GET", "/v2/a/tags/list?n=2", headers={"X-Evil": "1", "Authorization": "Bearer x", "Cookie": "c"}
    )
    (_, path, headers) = it.plain.asked[0]
    assert path == "/v2/a/tags/list?n=2"
    assert headers["authorization"] == "Bearer x"
    assert not {"x-evil", "cookie"} & set(headers)
    assert not {"set-cookie", "server"} & set(got.headers)
    assert got.headers["link"] == '</v2/a/tags/list?n=1>; rel="next"'


async def test_a_place_to_upload_to_is_the_fronts_and_a_store_of_blobs_is_not(it: Running) -> None:
    locations = iter([f"{it.url}/v2/a/blobs/uploads/u?_state=1", "https://store.test/blob", "/v2/a/blobs/uploads/u"])

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=202, headers={"Location": next(locations)})

    it.plain.otherwise = answer
    got = [(await it.ask("POST", "/v2/a/blobs/uploads/")).headers["location"] for _ in range(3)]
    assert got == ["/v2/a/blobs/uploads/u?_state=1", "https://store.test/blob", "/v2/a/blobs/uploads/u"]


# Writes


async def test_a_tag_names_for_ever_what_it_named_first(it: Running) -> None:
    assert (await it.put("v1")).status == 201
    assert (await it.put("v1")).status == 201
    refused = await it.put("v1", OTHER)
    assert (refused.status, refused.code) == (409, "DENIED")
    assert it.plain.manifests["v1"] == MANIFEST


async def test_conditions_that_do_not_hold_write_nothing(it: Running) -> None:
    tag = f"{fallback_tag(DIGEST)}.att"
    assert (await it.put(tag, If_Match=f'"{DIGEST}"')).status == 412
    assert (await it.put(tag, If_None_Match="*")).status == 201
    assert (await it.put(tag, OTHER, If_None_Match="*")).status == 412
    assert (await it.put(tag, OTHER, If_Match=f'"{digest_of(OTHER)}"')).status == 412
    assert (await it.put(tag, OTHER, If_Match=f'"{DIGEST}"')).status == 201
    assert it.plain.manifests[tag] == OTHER


@pytest.mark.parametrize(
    "headers",
    [{"If_Match": "*"}, {"If_Match": "abc"}, {"If_Match": f'"{DIGEST}", "{DIGEST}"'}, {"If_None_Match": '"x"'}],
)
async def test_conditions_that_are_not_understood_are_not_ignored(it: Running, headers: dict[str, str]) -> None:
    assert (await it.put("v1", MANIFEST, **headers)).status == 400
    assert it.plain.manifests == {}


@pytest.mark.parametrize(
    ("content", "reference", "status"),
    [(b"[]", "v1", 400), (MANIFEST, digest_of(OTHER), 400), (b'{"mediaType":"x"}', "v1", 400),
     (b" " * (4 * 1024**2 + 1), "v1", 413)],
)  # fmt: skip
async def test_what_is_no_manifest_is_not_passed_on(it: Running, content: bytes, reference: str, status: int) -> None:
    assert (await it.put(reference, content)).status == status
    assert it.plain.asked == []


async def test_a_condition_on_a_digest_has_no_meaning(it: Running) -> None:
    assert (await it.put(DIGEST, If_None_Match="*")).status == 400


async def test_a_body_longer_than_announced_or_without_a_length_that_is_one_is_refused(it: Running) -> None:
    got = await it.ask("PUT", "/v2/a/manifests/v1", body=b"x", headers={"content-length": "-1"})
    assert got.status == 413
    long = b" " * (4 * 1024**2 + 1)
    got = await it.ask("PUT", "/v2/a/manifests/v1", body=long, headers={"content-length": "3"})
    assert (got.status, it.plain.asked) == (413, [])


async def test_a_client_that_goes_away_writes_nothing(it: Running) -> None:
    got = await it.ask("PUT", "/v2/a/manifests/v1", body=MANIFEST, headers=TYPE, cut=True)
    assert (got.status, it.plain.asked) == (0, [])


async def test_a_login_that_the_registry_wants_is_asked_of_the_client(it: Running) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="https://t.test"'})

    it.plain.otherwise = answer
    for got in (await it.put("v1"), await it.ask("GET", "/v2/"), await it.ask("GET", f"/v2/a/referrers/{DIGEST}")):
        assert (got.status, got.headers["www-authenticate"]) == (401, 'Bearer realm="https://t.test"')


# Doubt


async def test_a_write_that_was_never_confirmed_keeps_its_tag_closed_until_it_cannot_arrive_any_more(
    served: Callable[..., Awaitable[Running]], tmp_path: Path
) -> None:
    it = await served(upstream_seconds=0.3, lock_seconds=0.2)

    async def answer(request: web.Request) -> None:
        if request.method == "PUT":
            await asyncio.sleep(0.35)

    it.plain.otherwise = answer
    assert (await it.put("v1")).status == 504
    it.plain.otherwise = None
    closed = await it.put("v1", OTHER)
    assert (closed.status, closed.headers["retry-after"]) == (503, "5")
    assert (await it.put("v2", OTHER)).status == 201
    with contextlib.closing(sqlite3.connect(tmp_path / "front.db")) as state, state:
        state.execute("UPDATE leases SET until = 0")  # as if that time had passed
    assert (await it.put("v1", OTHER)).status == 201


async def test_what_a_proxy_answers_in_the_registrys_place_is_doubt_too(
    served: Callable[..., Awaitable[Running]],
) -> None:
    it = await served(lock_seconds=0.1)

    async def answer(request: web.Request) -> web.Response | None:
        return web.Response(status=502) if request.method == "PUT" else None

    it.plain.otherwise = answer
    assert (await it.put("v1")).status == 502
    assert (await it.put("v1")).status == 503


# Others fail


async def test_a_registry_that_is_gone_is_said_to_be(served: Callable[..., Awaitable[Running]], tmp_path: Path) -> None:
    import socket

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = await served(upstream=f"http://127.0.0.1:{closed.getsockname()[1]}", state_dir=tmp_path / "gone")
        for got in (await gone.ask("GET", "/v2/"), await gone.put("v1")):
            assert (got.status, got.code) == (502, "UNAVAILABLE")


async def test_an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole(it: Running) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x" * 10)
        assert request.transport is not None
        request.transport.close()
        return response

    it.plain.otherwise = answer
    got = await it.ask("GET", f"/v2/a/blobs/{DIGEST}")
    assert (got.status, got.is_whole) == (200, False)


async def test_more_requests_than_allowed_are_sent_away(served: Callable[..., Awaitable[Running]]) -> None:
    it = await served(max_requests=1)
    waiting = asyncio.Event()

    async def answer(request: web.Request) -> None:
        await waiting.wait()

    it.plain.otherwise = answer
    first = asyncio.create_task(it.ask("GET", "/v2/a/manifests/v1"))
    await asyncio.sleep(0.05)
    second = await it.ask("GET", "/v2/a/manifests/v1")
    assert (second.status, second.code) == (429, "TOOMANYREQUESTS")
    waiting.set()
    assert (await first).status == 404


async def test_a_client_that_goes_away_while_it_uploads_is_not_the_registrys_fault(it: Running) -> None:
    assert (await it.ask("PATCH", "/v2/a/blobs/uploads/u", body=b"x" * 11, cut=True)).status == 0


async def test_a_blob_larger_than_allowed_is_not_taken(served: Callable[..., Awaitable[Running]]) -> None:
    it = await served(max_blob_bytes=10)
    long = {"content-length": "5"}
    assert (await it.ask("PATCH", "/v2/a/blobs/uploads/u", body=b"x" * 11, headers=long)).status == 413
    assert (await it.ask("PATCH", "/v2/a/blobs/uploads/u", body=b"x" * 11)).status == 413


# Referrers


def evidence(name: str, artifact_type: str = "a/b") -> bytes:
    subject = {"mediaType": IMAGE_MANIFEST, "digest": DIGEST, "size": len(MANIFEST)}
    about = {"mediaType": IMAGE_MANIFEST, "artifactType": artifact_type, "subject": subject, "name": name}
    return json.dumps(about).encode()


async def test_referrers_are_listed_confirmed_and_filtered(it: Running) -> None:
    contents = [evidence("1"), evidence("2", "c/d")]
    for content in contents:
        got = await it.put(digest_of(content), content)
        assert (got.status, got.headers["oci-subject"]) == (201, DIGEST)
    all_of_them = await it.ask("GET", f"/v2/a/b/referrers/{DIGEST}")
    assert all_of_them.headers["content-type"] == IMAGE_INDEX
    assert "oci-filters-applied" not in all_of_them.headers
    assert [one["digest"] for one in json.loads(all_of_them.body)["manifests"]] == [digest_of(one) for one in contents]
    some = await it.ask("GET", f"/v2/a/b/referrers/{DIGEST}?artifactType=c%2Fd")
    assert some.headers["oci-filters-applied"] == "artifactType"
    assert [one["artifactType"] for one in json.loads(some.body)["manifests"]] == ["c/d"]
    assert json.loads(it.plain.manifests[fallback_tag(DIGEST)]) == json.loads(all_of_them.body)


async def test_a_list_of_referrers_that_a_client_writes_only_grows(it: Running) -> None:
    tag = fallback_tag(DIGEST)
    entries = [{"mediaType": IMAGE_MANIFEST, "digest": digest_of(name), "size": 1} for name in (b"1", b"2", b"3")]

    def index(*chosen: int) -> bytes:
        listed = [entries[one] for one in chosen]
        return json.dumps({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": listed}).encode()

    async def put(content: bytes, media_type: str = IMAGE_INDEX) -> int:
        headers = {"Content-Type": media_type}
        return (await it.ask("PUT", f"/v2/a/b/manifests/{tag}", body=content, headers=headers)).status

    assert await put(index(0, 1)) == 201
    assert [await put(index(0)), await put(index(1, 2)), await put(index()), await put(MANIFEST, IMAGE_MANIFEST)] == [
        409
    ] * 4
    assert it.plain.manifests[tag] == index(0, 1)
    assert await put(index(2, 1, 0)) == 201


async def test_an_image_does_not_take_the_tag_of_anothers_referrers(it: Running) -> None:
    headers = {"Content-Type": IMAGE_MANIFEST}
    refused = await it.ask("PUT", f"/v2/a/b/manifests/{fallback_tag(DIGEST)}", body=MANIFEST, headers=headers)
    assert (refused.status, it.plain.manifests) == (409, {})


def test_a_length_beside_a_transfer_encoding_is_not_passed_on() -> None:
    headers = [("Transfer-Encoding", "chunked"), ("Content-Length", "3"), ("Range", "0-1")]
    assert passed_on(headers) == {"range": "0-1", "accept-encoding": "identity"}
    assert passed_on(headers[1:])["content-length"] == "3"


async def test_a_list_that_could_not_be_written_is_not_confirmed(it: Running) -> None:
    async def answer(request: web.Request) -> web.Response | None:
        is_index = request.method == "PUT" and fallback_tag(DIGEST) in request.path
        return web.Response(status=500, text="disk full") if is_index else None

    it.plain.otherwise = answer
    got = await it.put(digest_of(evidence("1")), evidence("1"))
    assert (got.status, "disk full" in json.loads(got.body)["errors"][0]["message"]) == (500, True)


@pytest.mark.parametrize("content", [MANIFEST, json.dumps({"mediaType": IMAGE_INDEX, "manifests": [1]}).encode()])
async def test_what_is_no_list_under_a_lists_tag_is_not_taken_for_an_empty_one(it: Running, content: bytes) -> None:
    it.plain.manifests[fallback_tag(DIGEST)] = content
    got = await it.ask("GET", f"/v2/a/b/referrers/{DIGEST}")
    assert (got.status, got.code) == (502, "MANIFEST_INVALID")
    assert (await it.put(digest_of(evidence("1")), evidence("1"))).status == 502


async def test_a_registry_that_sends_too_much_is_not_believed(it: Running) -> None:
    it.plain.manifests["v1"] = b'{"mediaType":"x"}' + b" " * 4 * 1024**2
    assert (await it.put("v1")).status == 502


async def test_deleting_what_refers_to_nothing_asks_no_list(served: Callable[..., Awaitable[Running]]) -> None:
    it = await served(allow_deletes=True)
    it.plain.manifests |= {DIGEST: MANIFEST, digest_of(OTHER): b'{"mediaType":"x","layers":3}'}

    async def answer(request: web.Request) -> web.Response | None:
        return web.Response(status=202) if request.method == "DELETE" else None

    it.plain.otherwise = answer
    for digest in (DIGEST, digest_of(OTHER), digest_of(b"none")):
        assert (await it.ask("DELETE", f"/v2/a/b/manifests/{digest}")).status == 202
    assert (await it.ask("DELETE", f"/v2/a/b/blobs/{DIGEST}")).status == 202
    assert (await it.ask("DELETE", "/v2/a/b/blobs/uploads/u")).status == 202
    assert (await it.ask("DELETE", "/v2/a/b/manifests/v1")).status == 405
    assert not [path for _, path, _ in it.plain.asked if "sha256-" in path]


async def test_other_protocols_are_not_answered(it: Running) -> None:
    async def never(*_: Any) -> Any:
        pytest.fail("nothing is received or sent")

    await it.front({"type": "websocket"}, never, never)


async def test_a_state_that_fails_is_no_permission(it: Running, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "front.db")) as broken, broken:
        broken.execute("DROP TABLE leases")
    got = await it.put("v1")
    assert (got.status, it.plain.manifests) == (503, {})
