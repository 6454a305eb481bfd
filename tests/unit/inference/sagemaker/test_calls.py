"""What the shim takes of a request, and what it refuses by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.sagemaker.calls import Call, body_for, parse_call
from pratique.inference.sagemaker.faults import FaultError, model_error

pytestmark = pytest.mark.unit

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=a"}


def scope(path: str = "/endpoints/chat/invocations", method: str = "POST", **headers: str) -> dict[str, Any]:
    named = SIGNED | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    return {"type": "http", "method": method, "path": path, "headers": raw}


def call(**changes: Any) -> Call:
    known = {"endpoint": "chat", "is_streamed": False, "target_model": None, "target_variant": None, "headers": {}}
    return Call(**{**known, **changes})


def refused(**request: str) -> FaultError:
    with pytest.raises(FaultError) as caught:
        parse_call(scope(**request))
    return caught.value


def test_only_the_apis_own_headers_go_on() -> None:
    found = parse_call(
        scope(
            Content_Type="application/json",
            Accept="text/plain",
            X_Amzn_SageMaker_Custom_Attributes="trace-id: 1",
            X_Amzn_SageMaker_Inference_Id="one",
            X_Amzn_SageMaker_Target_Model="a.tar.gz",
            X_Amzn_SageMaker_Target_Variant="blue",
            X_Amzn_SageMaker_Prefix_Aware_Id="hint",
            X_Other="dropped",
            Cookie="dropped",
        )
    )
    assert found == call(
        target_model="a.tar.gz",
        target_variant="blue",
        headers={
            "Content-Type": "application/json",
            "Accept": "text/plain",
            "X-Amzn-SageMaker-Custom-Attributes": "trace-id: 1",
            "X-Amzn-SageMaker-Inference-Id": "one",
            "X-Amzn-SageMaker-Target-Model": "a.tar.gz",
        },
    )


def test_a_streamed_call_says_what_it_accepts_in_a_header_of_its_own() -> None:
    path = "/endpoints/chat/invocations-response-stream"
    found = parse_call(scope(path, Accept="*/*", X_Amzn_SageMaker_Accept="text/event-stream"))
    assert found == call(is_streamed=True, headers={"Accept": "text/event-stream"})


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("X_Amzn_SageMaker_Session_Id", "SessionId"),
        ("X_Amzn_SageMaker_Target_Container_Hostname", "TargetContainerHostname"),
        ("X_Amzn_SageMaker_Inference_Component", "InferenceComponentName"),
        ("X_Amzn_SageMaker_Enable_Explanations", "EnableExplanations"),
    ],
)
def test_what_a_model_server_cannot_do_is_refused_by_name(header: str, what: str) -> None:
    fault = refused(**{header: "x"})
    assert (fault.kind, fault.status) == ("ValidationError", 400)
    assert f"({what})" in fault.message


def test_asynchronous_calls_are_refused_with_the_way_out() -> None:
    fault = refused(path="/endpoints/chat/async-invocations")
    assert fault.kind == "ValidationError"
    assert "InvokeEndpointAsync is not supported" in fault.message
    assert "Use InvokeEndpoint" in fault.message


@pytest.mark.parametrize(
    "request_line",
    [
        {"path": "/"},
        {"path": "/endpoints/chat"},
        {"path": "/endpoints/chat/invocations/"},
        {"path": "/endpoints/chat/invocations-bidirectional-stream"},
        {"path": "/invocations"},
        {"path": "/endpoints//invocations"},
        {"method": "GET"},
    ],
)
def test_no_such_operation(request_line: dict[str, str]) -> None:
    fault = refused(**request_line)
    assert (fault.kind, fault.status) == ("UnknownOperationException", 404)


@pytest.mark.parametrize("name", ["a_b", "-a", "a-", "a b", "日本", "a" * 64, "..", "a%2Fb"])
def test_a_malformed_endpoint_name_is_refused(name: str) -> None:
    assert refused(path=f"/endpoints/{name}/invocations").kind == "ValidationError"


@pytest.mark.parametrize("value", ["", "Basic abc", "Bearer AWS4-"])
def test_an_unsigned_request_is_refused_as_sagemaker_does(value: str) -> None:
    fault = refused(Authorization=value)
    assert (fault.kind, fault.status) == ("MissingAuthenticationTokenException", 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Amzn_SageMaker_Custom_Attributes": "x" * 1025},
        {"X_Amzn_SageMaker_Custom_Attributes": "日本"},
        {"X_Amzn_SageMaker_Inference_Id": ""},
        {"X_Amzn_SageMaker_Inference_Id": "x" * 65},
        {"X_Amzn_SageMaker_Target_Model": ""},
        {"X_Amzn_SageMaker_Target_Variant": "x" * 64},
        {"Content_Type": "x" * 1025},
        {"Accept": "é"},
    ],
)
def test_headers_out_of_their_bounds_are_refused(headers: dict[str, str]) -> None:
    fault = refused(**headers)
    assert (fault.kind, fault.status) == ("ValidationError", 400)


@settings(max_examples=30)
@given(st.binary(max_size=100))
def test_without_a_target_model_any_body_stays_as_it_is(body: bytes) -> None:
    assert body_for(call(), body) is body


def test_a_target_model_becomes_the_field_model_and_nothing_else_changes() -> None:
    body = b'{"query": "\xe6\x97\xa5", "big": 123456789012345678901234567890, "float": 1.50, "model": "a"}'
    assert json.loads(body_for(call(target_model="a"), body)) == json.loads(body)
    changed = body_for(call(target_model="b"), b'{"big":123456789012345678901234567890,"float":1.50}')
    assert changed == b'{"big":123456789012345678901234567890,"float":1.50,"model":"b"}'


@pytest.mark.parametrize(
    "body", [b"", b"text", b"[]", b"\xff", b'"a"', b"{", b'{"model": "other"}', b'{"model": null}', b"[" * 10_000]
)
def test_a_target_model_needs_a_body_to_be_named_in(body: bytes) -> None:
    with pytest.raises(FaultError) as caught:
        body_for(call(target_model="a"), body)
    assert caught.value.kind == "ValidationError"


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (429, "client"), (500, "server"), (0, "server")])
def test_a_model_error_is_worded_as_sagemakers(status: int, side: str) -> None:
    fault = model_error("chat", status=status, message="no", see="the log")
    assert fault.status == 424
    assert fault.message.startswith(f'Received {side} error ({status}) from primary with message "no". See ')
    assert fault.body() == {
        "Message": fault.message,
        "OriginalStatusCode": status,
        "OriginalMessage": "no",
        "LogStreamArn": "arn:aws:logs:local:000000000000:log-group:/aws/sagemaker/Endpoints/chat",
    }


def test_long_messages_are_cut_to_the_models_length() -> None:
    fault = model_error("chat", status=500, message="日" * 5000, see="the log")
    assert len(fault.message) <= 2048
    assert "See the log" in fault.message
    assert len(str(fault.body()["OriginalMessage"])) == 2048
