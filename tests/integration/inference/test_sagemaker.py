"""The real boto3 client against the shim and a model server, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

if TYPE_CHECKING:
    from tests.integration.inference.conftest import ServerProcess, Start

pytestmark = pytest.mark.integration

SIMULATED = ("--engine", "simulated")
QUERY = "日本語 and 😀"


class ShimProcess:
    """`pratique serve sagemaker`, and boto3's client of it."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.log = folder / f"shim-{time.monotonic_ns()}.log"
        self._output = self.log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pratique.cli.main", "serve", "sagemaker", "--port", "0", *flags],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        deadline = time.monotonic() + 30
        while "listening on " not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)
        self.url = self.log.read_text().split("listening on ")[1].split()[0]

    def client(self, **changes: Any) -> Any:
        config = Config(**{"retries": {"max_attempts": 0}, "max_pool_connections": 64, **changes})
        return boto3.client(
            "sagemaker-runtime",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=config,
        )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        self._output.close()


Shim = Callable[..., ShimProcess]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    with contextlib.ExitStack() as stack:

        def run(*flags: str, **environment: str) -> ShimProcess:
            process = ShimProcess(tmp_path, *flags, **environment)
            stack.callback(process.close)
            return process

        yield run


def simulated(**settings: object) -> dict[str, str]:
    return {"PRATIQUE_INFERENCE_SIMULATED": json.dumps({"load_seconds": 0, **settings})}


@pytest.fixture(scope="module")
def server(server_process: type[ServerProcess], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a model server for all tests that leave it as they found it: 200 tokens a second."""
    settings = simulated(first_token_seconds=0, token_seconds=0.005, reply_tokens=1900)
    process = server_process(tmp_path_factory.mktemp("model"), *SIMULATED, **settings)
    try:
        process.ready(timeout=30)
        yield process
    finally:
        process.close()


@pytest.fixture(scope="module")
def client(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a client of a shim with one endpoint, one of two variants, and one that is away."""
    endpoints = {"chat": server.url, "both/blue:3": server.url, "both/green:1": server.url, "away": NOWHERE}
    flags = [word for name, url in endpoints.items() for word in ("--endpoint", f"{name}={url}")]
    process = ShimProcess(tmp_path_factory.mktemp("shim"), *flags)
    try:
        yield process.client()
    finally:
        process.close()


def body(**fields: object) -> bytes:
    return json.dumps({"query": QUERY, "max_tokens": 20, **fields}).encode()


def direct(server: ServerProcess, data: bytes) -> bytes:
    with urllib.request.urlopen(server.url + "/invocations", data, timeout=30) as response:  # noqa: S310 - loopback
        whole: bytes = response.read()
    return whole


def invoke(client: Any, data: bytes, endpoint: str = "chat", **parameters: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=data, **parameters
    )
    return answer


def stream(client: Any, data: bytes, endpoint: str = "chat", **parameters: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, ContentType="application/json", Body=data, **parameters
    )
    return answer


def first_of(events: Any) -> bytes:
    part: bytes = next(iter(events))["PayloadPart"]["Bytes"]
    return part


def read(events: Any) -> bytes:
    """Read what is left of a stream. One that breaks would keep its socket until the garbage collector comes by."""
    with contextlib.closing(events):
        return b"".join(event["PayloadPart"]["Bytes"] for event in events)


def test_a_client_invokes_an_endpoint(server: ServerProcess, client: Any) -> None:
    data = body(request_id="r1")
    answer = invoke(client, data, CustomAttributes="trace 1", InferenceId="i1", Accept="application/json")
    assert answer["Body"].read() == direct(server, data)
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["ResponseMetadata"]["RequestId"]


def test_streamed_bytes_are_those_of_a_direct_call(server: ServerProcess, client: Any) -> None:
    data = body(stream=True, request_id="r1", max_tokens=150)
    answer = stream(client, data)
    assert answer["ContentType"] == "text/event-stream"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    events = answer["Body"]
    first = first_of(events)
    assert b"event: start" in first
    assert b"event: end" not in first, "parts come while the model speaks"
    assert first + read(events) == direct(server, data)


def test_a_model_server_that_is_killed_midway_raises_the_modelled_error(start: Start, shim: Shim) -> None:
    victim = start(*SIMULATED, **simulated(token_seconds=0.05, reply_tokens=2000))
    victim.ready(timeout=30)
    client = shim("--endpoint", f"chat={victim.url}").client()
    events = stream(client, body(stream=True, max_tokens=1000))["Body"]
    assert b"event: start" in first_of(events)
    victim.signal(signal.SIGKILL)
    with pytest.raises(EventStreamError) as caught:
        read(events)
    assert caught.value.response["Error"]["Code"] == "ModelStreamError"
    victim.wait()  # a process that ends may take one more connection, only to reset it
    with pytest.raises(client.exceptions.ServiceUnavailable):
        invoke(client, body())


def test_time_outs_are_those_of_the_api(server: ServerProcess, shim: Shim) -> None:
    settings = {"PRATIQUE_SAGEMAKER_TIMEOUT_SECONDS": "0.5", "PRATIQUE_SAGEMAKER_STREAM_TIMEOUT_SECONDS": "0.5"}
    client = shim("--endpoint", f"chat={server.url}", **settings).client()
    with pytest.raises(client.exceptions.ModelError) as caught:
        invoke(client, body(max_tokens=1900))
    assert caught.value.response["OriginalStatusCode"] == 0
    with pytest.raises(EventStreamError, match="did not finish") as broken:
        read(stream(client, body(stream=True, max_tokens=1900))["Body"])
    assert broken.value.response["Error"]["Code"] == "ModelStreamError"
    # Both were aborted at the model server, which is idle again before they would have ended.
    server.wait_for(lambda: server.status()["in_flight"] == 0, timeout=5)


def test_what_the_model_refuses_is_a_model_error(client: Any) -> None:
    for call in (invoke, stream):
        with pytest.raises(client.exceptions.ModelError) as caught:
            call(client, b'{"no": 1}')
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
        assert response["OriginalStatusCode"] == 400
        assert "invalid_request" in response["OriginalMessage"]
        assert response["LogStreamArn"]
    with pytest.raises(client.exceptions.ModelError) as caught:
        invoke(client, body(), TargetModel="other")
    assert caught.value.response["OriginalStatusCode"] == 404
    assert invoke(client, body(), TargetModel="simulated")["Body"].read()


def test_the_apis_own_refusals_are_modelled(client: Any) -> None:
    refused = client.exceptions.ValidationError
    with pytest.raises(refused, match=r"Endpoint other of account 0{12} not found"):
        invoke(client, b"{}", "other")
    with pytest.raises(refused, match="less than or equal to 6291456"):
        invoke(client, b"x" * (7 << 20))
    with pytest.raises(refused, match="SessionId"):
        invoke(client, b"{}", SessionId="NEW_SESSION")
    with pytest.raises(refused, match="Variant red not found"):
        stream(client, b"{}", "both", TargetVariant="red")
    with pytest.raises(refused, match="InvokeEndpointAsync is not supported"):
        client.invoke_endpoint_async(EndpointName="chat", InputLocation="s3://bucket/key")
    with pytest.raises(client.exceptions.ServiceUnavailable):
        invoke(client, b"{}", "away")


def test_64_streams_at_once_are_all_whole(server: ServerProcess, client: Any) -> None:
    data = [body(stream=True, query=f"{QUERY} {number}", request_id=f"r{number}") for number in range(64)]
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda one: read(stream(client, one)["Body"]), data))
    assert all(answer.endswith(b"\n\n") and b"event: end" in answer for answer in answers)
    assert [f'"request_id":"r{number}"'.encode() in answer for number, answer in enumerate(answers)] == [True] * 64
    for number in (0, 31, 63):
        assert answers[number] == direct(server, data[number])


def test_a_slow_reader_gets_every_byte(server: ServerProcess, client: Any) -> None:
    data = body(stream=True, max_tokens=100, request_id="r1")
    slow = b""
    for event in stream(client, data)["Body"]:
        slow += event["PayloadPart"]["Bytes"]
        time.sleep(0.1 if len(slow) < 1000 else 0)
    assert slow == direct(server, data)


def test_a_reader_that_leaves_aborts_the_request_at_the_model_server(server: ServerProcess, client: Any) -> None:
    leaving = stream(client, body(stream=True, max_tokens=1900))["Body"]
    first_of(leaving)
    leaving.close()
    server.wait_for(lambda: server.status()["in_flight"] == 0, timeout=5)


def test_variants_share_calls_by_their_weights(client: Any) -> None:
    taken = [invoke(client, body(), "both")["InvokedProductionVariant"] for _ in range(8)]
    assert (taken.count("blue"), taken.count("green")) == (6, 2)
    assert invoke(client, body(), "both", TargetVariant="green")["InvokedProductionVariant"] == "green"


def test_told_to_stop_it_lets_a_stream_finish(server: ServerProcess, shim: Shim) -> None:
    process = shim("--endpoint", f"chat={server.url}")
    client = process.client()
    unsigned = process.client(signature_version=UNSIGNED)
    with pytest.raises(ClientError) as caught:
        invoke(unsigned, b"{}")
    assert caught.value.response["Error"]["Code"] == "MissingAuthenticationTokenException"
    events = stream(client, body(stream=True, max_tokens=150))["Body"]
    first = first_of(events)
    process.process.send_signal(signal.SIGTERM)
    assert b"event: end" in first + read(events)
    assert process.process.wait(20) == 0
    assert "signatures are not checked" in process.log.read_text()
    assert "signatures_not_checked" in process.log.read_text()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ((), 2, "No endpoint was given"),
        (("--endpoint", "chat=http://127.0.0.1:1", "--host", "0.0.0.0"), 1, "does not check signatures"),
    ],
)
def test_what_it_cannot_serve_is_an_exit_code(flags: tuple[str, ...], code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pratique.cli.main", "serve", "sagemaker", "--port", "0", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
