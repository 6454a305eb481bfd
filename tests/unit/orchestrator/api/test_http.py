"""The HTTP side: JSON, SSE, conversations, refusals, headers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.upstream.interface import (
    UpstreamEnd,
    UpstreamRefusedError,
    UpstreamStart,
    UpstreamToken,
)
from pratique.orchestrator.upstream.scripted import Hang, Pause, echo_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pratique.core.ids import ConversationId, GenerationId, PrincipalId
    from pratique.orchestrator.upstream.scripted import Step

pytestmark = pytest.mark.unit

Service = Any
Event = dict[str, Any]
START = UpstreamStart(model="m", prompt_tokens=3, was_truncated=True, turns_dropped=4)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=3, completion_tokens=1)
SSE = {"accept": "text/event-stream"}


def script(service: Service, *steps: Step) -> None:
    service.upstream._scripts.append(steps)


async def sse(response: aiohttp.ClientResponse) -> list[tuple[str | None, str, Event]]:
    """Return (id, event, data) of a whole stream."""
    assert response.status == 200, await response.text()
    assert response.content_type == "text/event-stream"
    found = []
    for block in (await response.text()).strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = json.loads(fields["data"])
        assert data["type"] == fields["event"]
        found.append((fields.get("id"), fields["event"], data))
    return found


async def test_json_request_waits_for_the_whole_reply(service: Service) -> None:
    script(service, START, UpstreamToken("a"), END)
    await service.start()
    answer = await service.post("/api/chat", service.message())
    assert answer["turn"]["text"] == "a"
    assert (answer["was_truncated"], answer["turns_dropped"], answer["finish_reason"]) == (True, 4, "stop")
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 1}
    assert answer["error"] is None
    shown = await service.get(f"/api/conversations/{answer['conversation_id']}")
    assert [turn["turn_id"] for turn in shown["turns"]] == [answer["user_turn_id"], answer["turn"]["turn_id"]]


async def test_failed_reply_says_why_in_json(service: Service) -> None:
    script(service, UpstreamRefusedError("9000 tokens", refused_code="context_length_exceeded"))
    await service.start()
    message = service.message()
    answer = await service.post("/api/chat", message)
    assert (answer["turn"], answer["finish_reason"]) == (None, "error")
    assert answer["error"]["code"] == "context_length_exceeded"
    service.log.lose_everything()
    service.replica.sessions._feeds.clear()
    again = await service.post("/api/chat", message)
    assert (again["error"], again["finish_reason"]) == (answer["error"], "error")


async def test_json_waits_for_the_end_where_another_replica_goes_on_with_the_reply(service: Service) -> None:
    script(service, START, UpstreamToken("one "), Pause(0.2), UpstreamToken("two"), END)
    await service.start()
    posting = asyncio.create_task(service.post("/api/chat", service.message()))
    feeds = service.replica.sessions._feeds
    async with asyncio.timeout(5):
        while not (feeds and next(iter(feeds.values())).last_seq >= 2):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)
    next(iter(feeds.values())).lose()
    answer = await posting
    assert (answer["turn"]["text"], answer["finish_reason"]) == ("one two", "stop")


async def test_reply_that_takes_too_long_for_json_goes_on(service: Service) -> None:
    script(service, START, Pause(0.2), UpstreamToken("a"), END)
    await service.start(reply_timeout_seconds=0.1)
    assert (await service.post("/api/chat", service.message(), status=504))["error"]["code"] == "timeout"


async def test_sse_carries_the_cursor_of_each_numbered_event(service: Service) -> None:
    await service.start()
    async with service.http.post("/api/chat", json=service.message(), headers=SSE) as response:
        events = await sse(response)
    assert [kind for _, kind, _ in events][:2] == ["accepted", "started"]
    assert events[-1][1] == "ended"
    generation_id = events[0][2]["generation_id"]
    assert events[0][0] is None
    assert [cursor for cursor, _, _ in events[1:]] == [f"{generation_id}:{n}" for n in range(1, len(events))]
    assert "".join(data.get("text", "") for _, _, data in events) == echo_text("one two three")


async def test_sse_resumes_after_last_event_id_and_by_query(service: Service) -> None:
    await service.start()
    answer = await service.post("/api/chat", service.message())
    url = f"/api/conversations/{answer['conversation_id']}/events"
    query = {"generation_id": answer["generation_id"], "last_seq": "20"}
    by_header = {"last-event-id": f"{answer['generation_id']}:20"}
    for more in ({"headers": by_header}, {"params": query}):
        async with service.http.get(url, **more) as response:
            events = await sse(response)
        assert [kind for _, kind, _ in events if kind != "model_state"] == ["reconnected", "token", "ended"]
        assert [data["seq"] for _, _, data in events if "seq" in data] == [21, 22]


async def test_sse_of_a_conversation_at_rest_ends_after_saying_so(service: Service) -> None:
    await service.start()
    answer = await service.post("/api/chat", service.message())
    async with service.http.get(f"/api/conversations/{answer['conversation_id']}/events") as response:
        events = [event for event in await sse(response) if event[1] != "model_state"]
    assert [(kind, data["generation_id"]) for _, kind, data in events] == [("reconnected", None)]


async def test_sse_of_a_reply_whose_log_is_gone(service: Service) -> None:
    await service.start()
    message = service.message()
    answer = await service.post("/api/chat", message)
    service.log.lose_everything()
    service.replica.sessions._feeds.clear()
    cursor = {"last-event-id": f"{answer['generation_id']}:3"}
    async with service.http.get(f"/api/conversations/{answer['conversation_id']}/events", headers=cursor) as response:
        kinds = [kind for _, kind, _ in await sse(response) if kind != "model_state"]
    assert kinds == ["not_resumable"]
    async with service.http.post("/api/chat", json=message, headers=SSE) as response:
        assert [kind for _, kind, _ in await sse(response)] == ["accepted", "not_resumable"]


async def test_sse_beats_while_the_model_thinks(service: Service) -> None:
    script(service, START, Pause(0.1), UpstreamToken("a"), END)
    await service.start(heartbeat_seconds=0.02)
    async with service.http.post("/api/chat", json=service.message(), headers=SSE) as response:
        kinds = [kind for _, kind, _ in await sse(response)]
    assert kinds.count("heartbeat") >= 2


async def test_sse_client_that_leaves_stops_nothing(service: Service) -> None:
    gate = asyncio.Event()
    script(service, START, UpstreamToken("a"), gate, END)
    await service.start()
    async with service.http.post("/api/chat", json=service.message(), headers=SSE) as response:
        await response.content.readany()
    gate.set()
    async with asyncio.timeout(2):
        while service.replica.sessions.num_running or service.replica.runtime.num_connections:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
    listed = (await service.get("/api/conversations"))["conversations"]
    turns = (await service.get(f"/api/conversations/{listed[0]['conversation_id']}"))["turns"]
    assert turns[-1]["text"] == "a"


async def test_sse_says_that_the_replica_goes_away(service: Service) -> None:
    script(service, START, UpstreamToken("a"), Hang())
    await service.start(drain_seconds=0.05)
    async with service.http.post("/api/chat", json=service.message(), headers=SSE) as response:
        await response.content.readany()
        await service.replica.drain()
        assert b"event: going_away" in await response.content.read()


async def test_deleted_conversation_ends_its_sse(service: Service) -> None:
    gate = asyncio.Event()
    script(service, START, UpstreamToken("a"), gate, END)
    await service.start()
    async with service.http.post("/api/chat", json=service.message(), headers=SSE) as response:
        await response.content.readany()
        listed = (await service.get("/api/conversations"))["conversations"]
        async with service.http.delete(f"/api/conversations/{listed[0]['conversation_id']}") as deleted:
            assert deleted.status == 204
        assert b'"code":"conversation_not_found"' in await response.content.read()


async def test_cancel_and_retry_over_http(service: Service) -> None:
    script(service, START, UpstreamToken("a"), Hang())
    await service.start()
    async with service.http.post("/api/chat", json=service.message(), headers=SSE) as response:
        line = await response.content.readuntil(b"\n\n")
        accepted = json.loads(line.split(b"data: ")[1])
        await response.content.readuntil(b"\n\n")
        body = {"generation_id": accepted["generation_id"]}
        assert await service.post("/api/cancel", body, status=202) == {**body, "cancelled": True}
        assert b'"finish_reason":"cancelled"' in await response.content.read()
    assert await service.post("/api/cancel", body, status=202) == {**body, "cancelled": False}
    retry = {"conversation_id": accepted["conversation_id"], "client_message_id": "retry-0001"}
    again = await service.post("/api/retry", retry)
    assert again["turn"]["text"] == echo_text("one two three")
    assert (await service.post("/api/retry", {**retry, "client_message_id": "retry-0002"}, status=409))["error"][
        "code"
    ] == "nothing_to_retry"


async def test_list_rename_and_delete(service: Service) -> None:
    await service.start()
    names = [(await service.post("/api/chat", service.message(f"number {n}")))["conversation_id"] for n in range(3)]
    page = await service.get("/api/conversations?limit=2")
    rest = await service.get("/api/conversations", params={"limit": "2", "before": page["next"]})
    assert [c["conversation_id"] for c in page["conversations"] + rest["conversations"]] == names[::-1]
    assert rest["next"] is None
    url = f"/api/conversations/{names[0]}"
    async with service.http.patch(url, json={"title": "better"}) as response:
        assert (response.status, (await response.json())["title"]) == (200, "better")
    assert (await service.get(url))["title"] == "better"
    async with service.http.delete(url) as response:
        assert response.status == 204
    for method in ("GET", "DELETE", "PATCH"):
        async with service.http.request(method, url, json={"title": "x"}) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (404, "conversation_not_found")


class SlowlyClearing(MemoryConversationStore):
    """Goes on removing what is gone already, as a store over a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.is_clearing, self.may_end = asyncio.Event(), asyncio.Event()

    async def delete(
        self,
        *,
        owner: PrincipalId,
        conversation_id: ConversationId,
        on_gone: Callable[[], Awaitable[None]] | None = None,
    ) -> GenerationId | None:
        active = await super().delete(owner=owner, conversation_id=conversation_id, on_gone=on_gone)
        self.is_clearing.set()
        await self.may_end.wait()
        return active


async def test_what_is_deleted_is_shown_no_more_while_it_is_being_removed(service: Service) -> None:
    store = service.store = SlowlyClearing()
    await service.start()
    url = f"/api/conversations/{(await service.post('/api/chat', service.message()))['conversation_id']}"
    await service.get(url)
    deleting = asyncio.create_task(service.http.delete(url).__aenter__())
    async with asyncio.timeout(5):
        await store.is_clearing.wait()
    await service.get(url, status=404)
    assert not deleting.done()
    store.may_end.set()
    assert (await deleting).status == 204


REFUSALS: list[tuple[str, bytes | None, int, str]] = [
    ("POST /api/chat", b"{", 400, "invalid_request"),
    ("POST /api/chat", b"", 400, "invalid_request"),
    ("POST /api/chat", b'{"client_message_id":"message-1","text":"a","text":"b"}', 400, "invalid_request"),
    ("POST /api/chat", b'{"client_message_id":"message-1\\n","text":"a"}', 400, "invalid_request"),
    ("POST /api/chat", b'{"client_message_id":"message-1","text":"' + b"x" * 400_000 + b'"}', 413, "too_large"),
    ("POST /api/retry", b"[]", 400, "invalid_request"),
    ("POST /api/cancel", b'{"generation_id":"gen_0"}', 404, "generation_not_found"),
    ("POST /api/retry", b'{"conversation_id":"conv_0","client_message_id":"message-1"}', 404, "conversation_not_found"),
    ("GET /api/conversations?limit=0", None, 400, "invalid_request"),
    ("GET /api/conversations?limit=1e3", None, 400, "invalid_request"),
    ("GET /api/conversations?before=nonsense", None, 400, "invalid_request"),
    ("GET /api/conversations/conv_0", None, 404, "conversation_not_found"),
    ("GET /api/conversations/conv_0/events?last_seq=-1", None, 400, "invalid_request"),
    ("GET /api/conversations/conv_0/events?generation_id=%00", None, 400, "invalid_request"),
    ("GET /api/conversations/conv_0/events", None, 404, "conversation_not_found"),
    ("PATCH /api/conversations/conv_0", b'{"name":1}', 400, "invalid_request"),
    ("GET /api/nothing", None, 404, "not_found"),
    ("GET /api/schema/nothing.json", None, 404, "not_found"),
    ("PUT /api/chat", None, 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("asked", "body", "status", "code"), REFUSALS)
async def test_refusals_are_typed(service: Service, asked: str, body: bytes | None, status: int, code: str) -> None:
    await service.start()
    method, path = asked.split()
    async with service.http.request(method, path, data=body) as response:
        assert response.status == status, await response.text()
        error = (await response.json())["error"]
    assert error["code"] == code
    assert error["message"]


async def test_body_of_undeclared_length_is_bounded_too(service: Service) -> None:
    await service.start()

    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 65536

    async with service.http.post("/api/chat", data=endless()) as response:
        assert response.status == 413


async def test_body_that_never_comes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.api.requests._BODY_SECONDS", 0.05)
    await service.start()
    gate = asyncio.Event()

    async def stuck() -> Any:
        yield b"{"
        await gate.wait()

    async with service.http.post("/api/chat", data=stuck()) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (504, "timeout")
    gate.set()


async def test_nobody_known_gets_nothing_but_what_is_public(service: Service) -> None:
    await service.start()
    async with aiohttp.ClientSession(service.url) as stranger:
        for path in ("/api/conversations", "/api/conversations/conv_0", "/api/ws", "/api/anything"):
            async with stranger.get(path) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (401, "unauthenticated")
        for path in ("/", "/assets/main-abc.js", "/api/status", "/api/schema/openapi.json", "/livez", "/metrics"):
            async with stranger.get(path) as response:
                assert response.status == 200


async def test_foreign_page_can_write_nothing(service: Service) -> None:
    await service.start()
    evil = {"origin": "https://evil.example"}
    refused = await service.post("/api/chat", service.message(), status=403, headers=evil)
    assert refused["error"]["code"] == "origin_refused"
    assert await service.post("/api/chat", service.message(), headers={"origin": service.url})


async def test_session_and_affinity_are_given_once(service: Service) -> None:
    await service.start(secure_cookies=False)
    for path in ("/", "/api/session"):
        async with aiohttp.ClientSession(service.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as person:
            async with person.get(path) as response:
                assert set(response.cookies) == {"pratique_session", "pratique_affinity"}
                assert response.cookies["pratique_session"]["httponly"]
                assert response.cookies["pratique_session"]["samesite"] == "Lax"
            async with person.get(path) as response:
                assert not response.cookies
    async with aiohttp.ClientSession(service.url) as key_holder:
        headers = {"authorization": f"Bearer {service.key}", "x-pratique-affinity": "a" * 20}
        async with key_holder.get("/api/session", headers=headers) as response:
            assert not response.cookies
            assert (await response.json())["principal_id"] == "key_test"


async def test_page_allows_only_itself_and_caches_what_is_hashed(service: Service) -> None:
    await service.start()
    async with service.http.get("/") as response:
        assert response.headers["content-security-policy"].startswith("default-src 'self';")
        assert (response.headers["cache-control"], response.headers["x-frame-options"]) == ("no-cache", "DENY")
        assert "chat" in await response.text()
    async with service.http.get("/assets/main-abc.js") as response:
        assert "immutable" in response.headers["cache-control"]
        assert response.content_type in {"text/javascript", "application/javascript"}
    for path in ("/nothing", "/assets/../index.html", "/..%2fapi-keys.json", "/%00"):
        async with service.http.get(URL(service.url + path, encoded=True)) as response:
            assert response.status == 404


async def test_page_that_was_not_built_says_how(service: Service) -> None:
    await service.start(page_dir=service.folder / "nowhere")
    async with service.http.get("/") as response:
        assert response.status == 503
        assert "make up" in await response.text()


async def test_page_that_is_not_ours_is_not_read(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.api.page._MAX_PAGE_BYTES", 3)
    await service.start()
    async with service.http.get("/") as response:
        assert response.status == 503


async def test_ready_only_while_messages_can_be_stored(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.start()
    assert await service.get("/readyz") == {"ready": True}
    service.store.unavailable = True
    assert (await service.get("/readyz", status=503))["error"]["code"] == "store_unavailable"
    service.store.unavailable = False
    monkeypatch.setattr("pratique.orchestrator.api.probes._CHECK_SECONDS", 0.01)

    async def hang() -> None:
        await asyncio.sleep(1)

    monkeypatch.setattr(service.store, "check", hang)
    assert (await service.get("/readyz", status=503))["error"]["code"] == "store_unavailable"


async def test_status_and_metrics(service: Service) -> None:
    await service.start()
    await service.post("/api/chat", service.message())
    async with asyncio.timeout(2):
        while not (await service.get("/api/status"))["model"]["ready"]:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)
    async with service.http.get("/metrics") as response:
        text = await response.text()
    assert 'pratique_orchestrator_generations_ended_total{finish_reason="stop"} 1.0' in text
    assert 'pratique_orchestrator_http_requests_total{method="POST",status="200"} 1.0' in text


async def test_fault_of_ours_is_an_answer_without_our_inside(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.start()
    monkeypatch.setattr(service.store, "list_conversations", None)
    refused = await service.get("/api/conversations", status=500)
    assert refused["error"]["code"] == "internal"
    assert "NoneType" not in json.dumps(refused)


async def test_full_replica_refuses_another_stream(service: Service) -> None:
    await service.start(max_connections=1)
    async with service.socket() as socket:
        await socket.receive("hello")
        refused = await service.get("/api/conversations/conv_0/events", status=503)
    assert refused["error"]["code"] == "overloaded"


async def test_retry_after_stands_in_the_header_too(service: Service) -> None:
    await service.start()
    service.store.unavailable = True
    async with service.http.post("/api/chat", json=service.message()) as response:
        assert (response.status, response.headers["retry-after"]) == (503, "1")
