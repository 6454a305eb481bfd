"""Events out of requests, answers out of payloads; damaged payloads first."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from pratique.orchestrator.forward.interface import ForwardRequest, ForwardUnavailableError
from pratique.orchestrator.lanes.payload import event_of, open_answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.unit

STREAMED = "application/vnd.awslambda.http-integration-response"
HEAD = b'{"statusCode": 201, "headers": {"Content-Type": "text/event-stream"}, "cookies": []}'


async def pieces(*parts: bytes) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"null",),
        (b"plain text",),
        (b"{}" + bytes(8),),
        (b'{"statusCode": 99}' + bytes(8),),
        (b'{"statusCode": "200"}' + bytes(8),),
        (b"\xff" + bytes(8) + b"x",),
        (HEAD, b"\0\0\0\0"),
        (b"x" * 70_000,),
        (json.dumps({"statusCode": 200, "body": "%%%", "isBase64Encoded": True}).encode(),),
        (b'{"statusCode": 200, "headers": {"x": "\xe2\x82\xac"}}' + bytes(8),),
    ],
)
async def test_payload_that_is_no_answer_is_refused(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(ForwardUnavailableError, match="burst lane"):
        await open_answer(STREAMED, pieces(*parts))


@pytest.mark.parametrize("kind", [STREAMED, "application/octet-stream", ""])
@pytest.mark.parametrize("cut", [1, len(HEAD), len(HEAD) + 3, len(HEAD) + 8, len(HEAD) + 10])
async def test_head_is_read_wherever_it_is_cut(kind: str, cut: int) -> None:
    sent = HEAD + bytes(8) + b"one\0two"
    answer = await open_answer(kind, pieces(sent[:cut], sent[cut:], b"", b"three"))
    assert (answer.status, answer.headers, answer.lane) == (201, [(b"content-type", b"text/event-stream")], "burst")
    assert b"".join([chunk async for chunk in answer.chunks()]) == b"one\0twothree"


@pytest.mark.parametrize(
    "body",
    [{"body": "hé"}, {"body": base64.b64encode("hé".encode()).decode(), "isBase64Encoded": True}],
)
async def test_whole_answer_of_the_managed_runtime_is_read(body: dict[str, object]) -> None:
    sent = json.dumps({"statusCode": 200, "headers": {"content-type": "text/plain"}, **body}).encode()
    answer = await open_answer("application/json", pieces(sent[:9], sent[9:]))
    assert (answer.status, [chunk async for chunk in answer.chunks()]) == (200, ["hé".encode()])


def test_event_has_the_form_of_a_function_url() -> None:
    request = ForwardRequest(
        method="POST",
        path="/v1/embeddings?a=1%202",
        headers=[("Content-Type", "application/json"), ("X-A", "1"), ("x-a", "2")],
        body=b"\x00\xff",
        affinity="key_1",
        timeout_seconds=1.5,
    )
    event = json.loads(event_of(request, invocation_id="i-1", epoch=1_700_000_000.5))
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/v1/embeddings", "a=1%202")
    assert event["headers"] == {
        "content-type": "application/json",
        "x-a": "1,2",
        "x-pratique-conversation": "key_1",
        "x-pratique-timeout-ms": "1500",
    }
    assert event["requestContext"]["http"]["method"] == "POST"
    assert (event["requestContext"]["requestId"], event["requestContext"]["timeEpoch"]) == ("i-1", 1_700_000_000_500)
    assert (event["isBase64Encoded"], base64.b64decode(event["body"])) == (True, b"\x00\xff")
