"""What may leave the baseline lane: conversations never do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pratique.orchestrator.api.openai.relay import _FORWARDED
from pratique.orchestrator.forward.interface import ForwardRequest
from pratique.orchestrator.lanes.eligibility import _AFFINITY_HEADERS, is_stateless

pytestmark = pytest.mark.unit


def request(**changes: Any) -> ForwardRequest:
    plain: dict[str, Any] = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [("content-type", "application/json")],
        "body": json.dumps({"model": "m", "messages": [{"role": "user", "content": 'my "conversation": x'}]}).encode(),
        "affinity": "key_1",
        "timeout_seconds": 10.0,
    }
    return ForwardRequest(**{**plain, **changes})


@pytest.mark.parametrize(
    "field", ["conversation", "conversation_id", "previous_response_id", "session_id", "thread_id"]
)
def test_body_that_names_something_kept_stays(field: str) -> None:
    body = json.dumps({"model": "m", field: {"id": "conv_1"}}).encode()
    assert not is_stateless(request(body=body), max_body_bytes=1000)


@pytest.mark.parametrize("name", ["X-Session-Id", "x-session-affinity", "x-pratique-session", "X-Conversation-ID"])
def test_session_header_stays(name: str) -> None:
    assert not is_stateless(request(headers=[(name, "one")]), max_body_bytes=1000)


def test_no_header_counts_that_the_relay_has_taken_away_before() -> None:
    assert {name.encode() for name in _AFFINITY_HEADERS if not name.startswith("x-pratique-")} <= _FORWARDED


@pytest.mark.parametrize(
    "path",
    ["/v1/responses", "/v1/conversations", "/v1/models", "/v1/load_lora_adapter", "/api/chat", "/v1/chat/completions/"],
)
def test_path_that_is_not_on_the_list_stays(path: str) -> None:
    assert not is_stateless(request(path=path), max_body_bytes=1000)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"text"', b'{"x":' + b"[" * 5000])
def test_body_that_cannot_be_read_stays(body: bytes) -> None:
    assert not is_stateless(request(body=body), max_body_bytes=10_000)


def test_body_that_is_too_long_for_an_invocation_stays() -> None:
    assert not is_stateless(request(), max_body_bytes=20)


def test_another_method_stays() -> None:
    assert not is_stateless(request(method="GET"), max_body_bytes=1000)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings?x=1", "/v1/rerank"])
def test_stateless_request_may_go(path: str) -> None:
    assert is_stateless(request(path=path), max_body_bytes=1000)
