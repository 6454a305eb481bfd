"""Access on every route and transport: whose, by which scope, how much, until when, and what is recorded of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pratique.core.settings import SettingsError
from pratique.orchestrator.access import Scope, scope_of_path
from pratique.orchestrator.access.keys import ApiKey, ApiKeys, hash_key, mint_key
from pratique.orchestrator.access.settings import AccessSettings, AuditSettings, LimitsSettings, OidcSettings
from pratique.orchestrator.api.chat import ChatRoutes
from pratique.orchestrator.api.openai.routes import ROUTES
from pratique.orchestrator.api.probes import ProbeRoutes
from pratique.orchestrator.upstream.interface import UpstreamEnd, UpstreamStart, UpstreamToken
from pratique.orchestrator.upstream.scripted import Hang

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit

Service = Any
Event = dict[str, Any]
SSE = {"accept": "text/event-stream"}
START = UpstreamStart(model="m", prompt_tokens=30)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=30, completion_tokens=20)
MISSING = {"conversation_id": "conv_zzz", "generation_id": "gen_zzz"}


def access(*, limits: LimitsSettings | None = None, **more: Any) -> AccessSettings:
    return AccessSettings(limits=limits or LimitsSettings(), **more)


def add_key(service: Service, **fields: Any) -> dict[str, str]:
    """Put another key into the file before the service has read it; return its header."""
    text, path = mint_key(), service.folder / "api-keys.json"
    stored = msgspec.json.decode(path.read_bytes(), type=ApiKeys) if path.exists() else ApiKeys()
    entry = ApiKey(**{"id": f"key_{len(stored.keys)}", "name": "x", "sha256": hash_key(text), "created": 0, **fields})
    path.write_bytes(msgspec.json.encode(ApiKeys(keys=(*stored.keys, entry))))
    return {"authorization": f"Bearer {text}"}


def same(answer: tuple[int, Event]) -> tuple[int, str]:
    """What an answer tells of whether the thing is there: everything but the name that was asked for."""
    status, body = answer
    names = body.pop("names")
    text = json.dumps(body)
    for name in names:
        text = text.replace(name, "NAME")
    return status, text


class TestOwnership:
    """Everything that names a conversation or a reply, by every transport: another's looks exactly like none."""

    CASES = (
        ("GET", "/api/conversations/{conversation_id}", None),
        ("DELETE", "/api/conversations/{conversation_id}", None),
        ("PATCH", "/api/conversations/{conversation_id}", {"title": "mine"}),
        ("GET", "/api/conversations/{conversation_id}/events", None),
        ("GET", "/api/conversations/{conversation_id}/events?generation_id={generation_id}&last_seq=0", None),
        ("POST", "/api/cancel", {"generation_id": "{generation_id}"}),
        ("POST", "/api/retry", {"conversation_id": "{conversation_id}", "client_message_id": "message-x"}),
        (
            "POST",
            "/api/chat",
            {"conversation_id": "{conversation_id}", "client_message_id": "message-y", "text": "mine"},
        ),
    )

    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1][-40:]}")
    @pytest.mark.parametrize("headers", [{}, SSE], ids=["json", "sse"])
    @pytest.mark.parametrize("is_running", [False, True], ids=["ended", "running"])
    async def test_anothers_over_http_is_as_if_it_were_not_there(
        self, service: Service, case: tuple[str, str, Event | None], headers: dict[str, str], is_running: bool
    ) -> None:
        if is_running:
            service.upstream._scripts.append((START, UpstreamToken("a"), Hang()))
        await service.start()
        names = await self._begin(service)
        method, path, body = case
        answers = []
        async with service.person() as stranger:
            for given in (names, MISSING):
                filled = json.dumps(body).replace("{conversation_id}", given["conversation_id"])
                filled = filled.replace("{generation_id}", given["generation_id"])
                more = {"data": filled} if body is not None else {}
                async with stranger.request(method, path.format(**given), headers=headers, **more) as response:
                    answers.append((response.status, {**await response.json(), "names": tuple(given.values())}))
        assert same(answers[0]) == same(answers[1])
        assert answers[0][0] == 404

    @pytest.mark.parametrize(
        "frame",
        [
            {"type": "resume", "conversation_id": "{conversation_id}"},
            {"type": "resume", "conversation_id": "{conversation_id}", "generation_id": "{generation_id}"},
            {"type": "cancel", "generation_id": "{generation_id}"},
            {"type": "retry", "conversation_id": "{conversation_id}", "client_message_id": "message-x"},
            {
                "type": "message",
                "conversation_id": "{conversation_id}",
                "client_message_id": "message-y",
                "text": "mine",
            },
        ],
        ids="-".join,
    )
    async def test_anothers_over_a_socket_is_as_if_it_were_not_there(self, service: Service, frame: Event) -> None:
        service.upstream._scripts.append((START, UpstreamToken("a"), Hang()))
        await service.start()
        names = await self._begin(service)
        answers = []
        async with service.person() as stranger, stranger.ws_connect("/api/ws") as socket:
            for given in (names, MISSING):
                filled = {key: value.format(**given) for key, value in frame.items()}
                await socket.send_json(filled)
                while (event := await socket.receive_json(timeout=5))["type"] != "error":
                    assert event["type"] in {"hello", "model_state"}
                answers.append((404, {**event, "names": tuple(given.values())}))
        assert answers[0][1]["error"]["code"].endswith("_not_found")
        assert same(answers[0]) == same(answers[1])

    async def test_every_route_that_names_something_is_among_the_cases(self, service: Service) -> None:
        await service.start()
        by_path = {(method, path.partition("?")[0]) for method, path, _ in self.CASES}
        for route in ChatRoutes(service.replica.runtime).routes():
            [method] = (route.methods or set()) - {"HEAD"}
            if "{" in route.path or method != "GET":
                assert (method, route.path) in by_path

    async def test_a_reply_of_another_conversation_of_ones_own_is_not_there_either(self, service: Service) -> None:
        await service.start()
        mine = await service.post("/api/chat", service.message())
        other = await service.post("/api/chat", service.message())
        path = f"/api/conversations/{mine['conversation_id']}/events?generation_id={other['generation_id']}"
        assert (await service.get(path, status=404))["error"]["code"] == "generation_not_found"

    async def test_a_list_holds_ones_own_only(self, service: Service) -> None:
        await service.start()
        await service.post("/api/chat", service.message())
        async with service.person() as stranger, stranger.get("/api/conversations") as response:
            assert (await response.json())["conversations"] == []

    async def _begin(self, service: Service) -> dict[str, str]:
        async with service.socket() as socket:
            await socket.send("message", **service.message())
            accepted = await socket.receive("accepted")
            await socket.receive("token")
            return {name: accepted[name] for name in MISSING}


class TestScopes:
    async def test_every_route_asks_for_a_scope_but_the_named_public_ones(self, service: Service) -> None:
        await service.start()
        runtime = service.replica.runtime
        routes = [route.path for route in (*ChatRoutes(runtime).routes(), *ProbeRoutes(runtime).routes())]
        public = {path for path in routes if scope_of_path(path) is None}
        assert public == {"/api/session", "/api/status", "/livez", "/readyz", "/metrics", "/api/schema/{name}.json"}
        inner = service.replica.application._rest._application.routes
        rest = [route for route in inner if not route.path.startswith("/api/") or scope_of_path(route.path) is None]
        assert {route.path for route in rest} == public | {"/", "/{name:path}"}
        assert {scope_of_path(route.path) for route in inner if route not in rest} == {Scope.CHAT}
        assert {scope_of_path(path) for path in ROUTES} == {Scope.OPENAI}

    async def test_a_key_does_only_what_its_scopes_say(self, service: Service) -> None:
        await service.start()
        service.replica.runtime.authenticator._keys._looked_at = None
        chat = add_key(service, scopes=(Scope.CHAT,))
        openai = add_key(service, scopes=(Scope.OPENAI,))
        admin = add_key(service, scopes=(Scope.ADMIN,))
        routes = [route for route in ChatRoutes(service.replica.runtime).routes() if route.path != "/api/status"]
        async with aiohttp.ClientSession(service.url) as http:
            for key, expected in ((chat, 404), (openai, 403), (admin, 403)):
                for route in routes:
                    if route.path == "/api/session":
                        continue
                    [method] = (route.methods or set()) - {"HEAD"}
                    path = route.path.replace("{conversation_id}", "conv_0")
                    async with http.request(method, path, headers=key) as response:
                        is_let_in = response.status != 403
                        assert is_let_in == (expected != 403), (path, await response.text())
                async with http.ws_connect("/api/ws", headers=key) as socket:
                    first = await socket.receive()
                    assert (first.type is aiohttp.WSMsgType.TEXT) == (expected != 403)
                    assert expected != 403 or (socket.close_code, first.extra) == (1008, "forbidden")
                async with http.get("/v1/models", headers=key) as response:
                    assert (response.status == 403) == (key is not openai), await response.text()
                async with http.get("/api/not-made-yet", headers=key) as response:
                    assert response.status == 404

    async def test_without_a_credential_nothing_but_the_public_answers(self, service: Service) -> None:
        await service.start()
        async with aiohttp.ClientSession(service.url) as http:
            for path in ("/api/conversations", "/api/new", "/v1/models"):
                async with http.get(path) as response:
                    assert response.status == 401
                    assert response.headers["www-authenticate"] == 'Bearer realm="pratique"'

    async def test_where_nobody_is_anonymous_there_are_no_sessions(self, service: Service) -> None:
        # The fixture's own person has a session, so this one is begun by hand.
        service.person = _nobody(service)
        await service.start(access=access(anonymous=False))
        async with aiohttp.ClientSession(service.url) as http:
            async with http.get("/api/session") as response:
                assert response.status == 401
            async with http.get("/") as response:
                assert response.status == 200
                assert "pratique_session" not in response.cookies
            async with http.get("/api/session", headers={"authorization": f"Bearer {service.key}"}) as response:
                assert (await response.json())["principal_id"] == "key_test"
            async with http.get("/api/conversations", cookies={"pratique_session": "x"}) as response:
                assert response.status == 401


class TestHeaders:
    async def test_every_answer_carries_what_browsers_should_hold_to(self, service: Service) -> None:
        await service.start()
        for path in ("/", "/api/status", "/api/nothing", "/livez", "/v1/models", "/assets/main-abc.js"):
            async with service.http.get(path) as response:
                assert response.headers["x-content-type-options"] == "nosniff"
                assert response.headers["x-frame-options"] == "DENY"
                assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
                assert "camera=()" in response.headers["permissions-policy"]
                assert "access-control-allow-origin" not in response.headers
                assert "strict-transport-security" not in response.headers
                if path.startswith("/api/"):
                    assert response.headers["cache-control"] == "no-store"

    async def test_behind_https_cookies_are_bound_to_the_host(self, service: Service) -> None:
        await service.start(secure_cookies=True)
        async with aiohttp.ClientSession(service.url) as http, http.get("/api/session") as response:
            cookie = response.cookies["__Host-pratique_session"]
            assert (cookie["path"], cookie["secure"], cookie["httponly"]) == ("/", True, True)
            assert cookie["domain"] == ""
            assert response.headers["strict-transport-security"] == "max-age=31536000"
            jar = {"pratique_session": cookie.value}
            # A neighbour of this host can plant the plain name, never the prefixed one.
            async with http.get("/api/conversations", cookies=jar) as planted:
                assert planted.status == 401


class TestRecord:
    async def test_decisions_are_recorded_without_texts_and_credentials(self, service: Service, tmp_path: Path) -> None:
        path = tmp_path / "audit.jsonl"
        await service.start(
            access=access(
                limits=LimitsSettings(requests_per_minute=1),
                audit=AuditSettings(sink="file", file=path),
                trusted_proxies=("127.0.0.1",),
            )
        )
        answer = await service.post("/api/chat", service.message("a secret word"))
        name = answer["conversation_id"]
        await service.post("/api/chat", service.message(), status=429)
        async with service.http.patch(f"/api/conversations/{name}", json={"title": "another secret"}) as response:
            assert response.status == 200
        headers = {"x-forwarded-for": "1.1.1.1, 203.0.113.9", "x-request-id": "abc"}
        async with service.http.delete(f"/api/conversations/{name}", headers=headers) as response:
            assert response.status == 204
        bad = mint_key()
        async with service.http.get("/api/conversations", headers={"authorization": f"Bearer {bad}"}) as response:
            assert response.status == 401
        await service.replica.drain()
        await service.aclose()
        records = [json.loads(line) for line in path.read_text().splitlines()]
        assert [(one["action"], one["outcome"]) for one in records] == [
            ("limit.reached", "refused"),
            ("conversation.rename", "ok"),
            ("conversation.delete", "ok"),
            ("access", "refused"),
            ("replica.drain", "ok"),
        ]
        deleted = records[2]
        assert (deleted["subject"], deleted["remote"], deleted["request_id"]) == (name, "203.0.113.9", "abc")
        assert deleted["principal_id"].startswith("usr_")
        assert not any(word in path.read_text() for word in ("secret", bad, service.key))

    async def test_refusals_of_the_openai_api_are_recorded_too(self, service: Service, tmp_path: Path) -> None:
        path = tmp_path / "audit.jsonl"
        await service.start(access=access(audit=AuditSettings(sink="file", file=path)))
        await service.get("/v1/models", status=401)
        await service.aclose()
        [found] = [json.loads(line) for line in path.read_text().splitlines()]
        assert (found["action"], found["detail"], found["subject"]) == ("access", "unauthenticated", "/v1/models")

    async def test_refusals_of_somebody_known_are_recorded_with_the_name_and_what_they_were_for(
        self, service: Service, tmp_path: Path
    ) -> None:
        path = tmp_path / "audit.jsonl"
        await service.start(access=access(audit=AuditSettings(sink="file", file=path)))
        service.replica.runtime.authenticator._keys._looked_at = None
        chat, openai = add_key(service, scopes=(Scope.CHAT,)), add_key(service, scopes=(Scope.OPENAI,))
        name = (await service.post("/api/chat", service.message()))["conversation_id"]
        async with aiohttp.ClientSession(service.url) as http:
            for method, asked, headers, status in (
                ("GET", "/v1/models", chat, 403),
                ("GET", "/api/conversations", openai, 403),
                ("GET", "/api/of-nobody", chat, 404),
                ("GET", f"/api/conversations/{name}", chat, 404),
                ("DELETE", f"/api/conversations/{name}", chat, 404),
                ("GET", "/api/conversations", {**chat, "transfer-encoding": "gzip"}, 400),
            ):
                async with http.request(method, asked, headers=headers) as response:
                    assert response.status == status, await response.text()
            async with http.ws_connect("/api/ws", headers=chat) as socket:
                for frame in (
                    {"type": "resume", "conversation_id": name},
                    {"type": "cancel", "generation_id": "gen_0"},
                    {"type": "cancel"},
                ):
                    await socket.send_json(frame)
                    while (await socket.receive_json(timeout=5))["type"] != "error":
                        pass
        await service.aclose()
        found = [json.loads(line) for line in path.read_text().splitlines()]
        assert {(one["action"], one["outcome"], one["remote"]) for one in found} == {("access", "refused", "127.0.0.1")}
        assert [(one["principal_id"], one["subject"], one["detail"]) for one in found] == [
            ("key_1", "/v1/models", "forbidden"),
            ("key_2", "/api/conversations", "forbidden"),
            ("key_1", "/api/of-nobody", "forbidden"),
            ("key_1", name, "conversation_not_found"),
            ("key_1", name, "conversation_not_found"),
            # Its credential was not looked at.
            ("", "/api/conversations", "headers_refused"),
            ("key_1", name, "conversation_not_found"),
            ("key_1", "gen_0", "generation_not_found"),
        ]


def _nobody(service: Service) -> Callable[[], aiohttp.ClientSession]:
    return lambda: aiohttp.ClientSession(service.url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"audit": AuditSettings(sink="file")},
        {"trusted_proxies": ("the edge",)},
        {"oidc": (OidcSettings(issuer="http://login.example.org", audiences=("x",)),)},
    ],
)
async def test_settings_that_cannot_be_kept_are_refused_at_start(service: Service, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        await service.start(access=access(**wrong))


async def test_an_issuer_that_is_away_lets_nobody_in_and_says_for_how_long(service: Service) -> None:
    away = OidcSettings(issuer="http://127.0.0.1:9", audiences=("x",), timeout_seconds=1)
    await service.start(access=access(oidc=(away,), audit=AuditSettings(sink="off")))
    token = jwt.encode({"iss": away.issuer}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    headers = {"authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(service.url, headers=headers) as http:
        async with http.get("/api/conversations") as response:
            assert (response.status, response.headers["retry-after"]) == (503, "2")
        async with http.ws_connect("/api/ws") as socket:
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            # Not 1008: the credential may be good.
            assert socket.close_code == 1013
