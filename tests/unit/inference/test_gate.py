from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from starlette.types import Message

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Launch

pytestmark = pytest.mark.unit

QUERY = {"query": "hello"}
PROBES = ("/livez", "/ping", "/readyz", "/status", "/metrics")


async def test_probes_answer_while_it_loads_and_the_model_does_not(launch: Launch) -> None:
    running = launch(simulated={"load_seconds": 60.0})
    await running.until("process_alive")
    statuses = {path: (await running.call("GET", path)).status for path in PROBES}
    assert statuses == {"/livez": 200, "/ping": 503, "/readyz": 503, "/status": 200, "/metrics": 200}
    refused = await running.call("POST", "/invocations", QUERY)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"]["code"] == "not_ready"
    ping = await running.call("GET", "/ping")
    assert ping.headers["retry-after"] == "1"
    assert ping.json()["state"] == "process_alive"
    assert ping.json()["detail"] == "loading weights"
    assert (
        b'pratique_inference_refused_total{reason="process_alive"} 1.0' in (await running.call("GET", "/metrics")).body
    )


async def test_the_openai_api_refuses_in_its_own_shape(launch: Launch) -> None:
    running = launch(simulated={"load_seconds": 60.0})
    await running.until("process_alive")
    refused = await running.call("POST", "/v1/chat/completions", {})
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error"] == {
        "message": "This model server takes no request now: process alive.",
        "type": "service_unavailable",
        "param": None,
        "code": "not_ready",
    }


async def test_everything_answers_once_it_is_ready(launch: Launch) -> None:
    running = launch()
    await running.until("traffic_ready")
    statuses = {path: (await running.call("GET", path)).status for path in (*PROBES, "/v1/models")}
    assert set(statuses.values()) == {200}
    assert (await running.call("POST", "/invocations", QUERY)).status == 200


@pytest.mark.parametrize("path", ["/", "/v1", "/docs", "/health", "/invocations/x", "//invocations", "/tokenize"])
async def test_other_paths_never_reach_the_engines_application(launch: Launch, path: str) -> None:
    running = launch()
    await running.until("traffic_ready")
    answer = await running.call("POST", path, QUERY)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")


async def test_one_request_over_the_bound_is_refused(launch: Launch) -> None:
    running = launch(max_queued_requests=2, simulated={"token_seconds": 0.01, "reply_tokens": 40})
    # The warmup asks for few tokens, so that it is over soon.
    await running.until("traffic_ready")
    waiting = [asyncio.create_task(running.call("POST", "/invocations", QUERY)) for _ in range(2)]
    await running.wait_for(lambda: running.server.gate.num_in_flight == 2)
    refused = await running.call("POST", "/invocations", QUERY)
    assert (refused.status, refused.json()["error"]["code"]) == (503, "overloaded")
    assert b"pratique_inference_in_flight 2.0" in (await running.call("GET", "/metrics")).body
    assert [(await task).status for task in waiting] == [200, 200]
    assert (await running.call("POST", "/invocations", {**QUERY, "max_tokens": 1})).status == 200


async def test_customers_are_counted_and_the_warmup_is_not(launch: Launch) -> None:
    running = launch()
    await running.until("traffic_ready")
    await running.call("POST", "/invocations", {**QUERY, "max_tokens": 5})
    await running.call("POST", "/v1/chat/completions", {"model": "simulated", "messages": [], "max_tokens": 5})
    text = (await running.call("GET", "/metrics")).body.decode()
    assert 'pratique_inference_requests_total{api="invocations"} 1.0' in text
    assert 'pratique_inference_requests_total{api="openai"} 1.0' in text
    assert "simulated_generation_tokens_total 5.0" in text
    assert 'pratique_inference_lifecycle_state{state="traffic_ready"} 1.0' in text
    assert 'pratique_inference_lifecycle_state{state="model_loaded"} 0.0' in text


async def test_it_speaks_no_websockets_and_answers_the_lifespan(launch: Launch) -> None:
    running = launch()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    incoming: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return incoming.pop(0)

    await running.server.gate({"type": "websocket", "path": "/v1/realtime"}, receive, send)
    await running.server.gate({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in sent] == [
        "websocket.close",
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
