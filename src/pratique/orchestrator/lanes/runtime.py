"""`python -m pratique.orchestrator.lanes.runtime`: runs the Lambda handler, streaming; in AWS and in local workers.

AWS's own `awslambdaric` does the work: it imports the handler, asks the runtime API for invocations, makes the context,
reports errors. What it cannot do (as of 4.2; its client posts one block of bytes) is to stream an answer. Here its
client gets that one ability, in the way AWS documents for custom runtimes: a chunked POST in the mode `streaming`, a
head of JSON and eight NUL bytes before the body, an error after the first byte in the trailers.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming

Environment: AWS_LAMBDA_RUNTIME_API, set by Lambda or the pool of workers; _HANDLER, or the first argument, may name
another handler. The pool also sets PRATIQUE_BURST_PARENT, the process to end with, and PRATIQUE_BURST_MEMORY_BYTES.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import sys
from typing import Any, Final

from awslambdaric import bootstrap  # type: ignore[import-untyped]  # AWS publishes no types
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient  # type: ignore[import-untyped]  # as above
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller  # type: ignore[import-untyped]  # as above

from pratique.orchestrator.lanes.handler import StreamedAnswer

__all__ = ["STREAMED_CONTENT_TYPE", "StreamingRuntimeClient", "main"]

STREAMED_CONTENT_TYPE: Final = "application/vnd.awslambda.http-integration-response"
_DEFAULT_HANDLER: Final = "pratique.orchestrator.lanes.handler.stream"
_POST_SECONDS: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_ERROR_TYPE: Final = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY: Final = "Lambda-Runtime-Function-Error-Body"


class _Marshaller(LambdaMarshaller):  # type: ignore[misc]  # untyped base
    """Lets a streamed answer through as it is; all else becomes JSON."""

    def marshal_response(self, response: Any) -> tuple[Any, str]:  # noqa: ANN401 - whatever a handler returns
        if isinstance(response, StreamedAnswer):
            return response, STREAMED_CONTENT_TYPE
        marshalled: tuple[Any, str] = super().marshal_response(response)
        return marshalled


class StreamingRuntimeClient(LambdaRuntimeClient):  # type: ignore[misc]  # untyped base
    """AWS's client; one kind of result is streamed. The address may carry a path, as the pool's does."""

    marshaller = _Marshaller()

    def post_invocation_result(self, invoke_id: str, result_data: Any, *rest: Any, **more: Any) -> None:  # noqa: ANN401 - as the base has it
        """Post the result of an invocation; return when the runtime API has it, or did not want the rest."""
        if not isinstance(result_data, StreamedAnswer):
            super().post_invocation_result(invoke_id, result_data, *rest, **more)
            return
        try:
            # An invoker that has left closes the connection: the answer is given up, the next invocation is asked for.
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._stream(f"/2018-06-01/runtime/invocation/{invoke_id}/response", result_data)
        finally:
            result_data.close()

    def call_rapid(
        self,
        http_method: str,
        endpoint: str,
        expected_http_code: int,
        payload: Any = None,  # noqa: ANN401 - as the base has it
        headers: dict[str, str] | None = None,
    ) -> None:
        """Post what is not about an invocation (an error at start); the base takes no path in the address."""
        address, _, prefix = str(self.lambda_runtime_address).partition("/")
        connection = http.client.HTTPConnection(address, timeout=_POST_SECONDS)
        with contextlib.closing(connection):
            path = f"/{prefix}{endpoint}" if prefix else endpoint
            connection.request(http_method, path, json.dumps(payload) if payload else None, headers or {})
            status = connection.getresponse().status
        if status != expected_http_code:
            raise ConnectionError(f"The runtime API answered {status} to {endpoint}; expected {expected_http_code}.")

    def _stream(self, endpoint: str, answer: StreamedAnswer) -> None:
        address, _, prefix = str(self.lambda_runtime_address).partition("/")
        connection = http.client.HTTPConnection(address, timeout=_POST_SECONDS)
        with contextlib.closing(connection):
            connection.putrequest("POST", f"/{prefix}{endpoint}" if prefix else endpoint)
            connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
            connection.putheader("Content-Type", STREAMED_CONTENT_TYPE)
            connection.putheader("Transfer-Encoding", "chunked")
            connection.putheader("Trailer", f"{_ERROR_TYPE}, {_ERROR_BODY}")
            connection.endheaders()
            head = json.dumps({"statusCode": answer.status, "headers": answer.headers, "cookies": []})
            connection.send(_framed(head.encode() + bytes(8)))
            connection.send(b"0\r\n" + _relay(connection, answer) + b"\r\n")
            connection.getresponse().read()


def _relay(connection: http.client.HTTPConnection, answer: StreamedAnswer) -> bytes:
    """Pass the body on; return the trailers, which say how it broke off where it did."""
    chunks = answer.chunks()
    while True:
        try:
            chunk = next(chunks, None)
        except (OSError, http.client.HTTPException) as error:
            said = json.dumps({"errorType": type(error).__name__, "errorMessage": "The answer broke off."})
            body = base64.b64encode(said.encode()).decode("ascii")
            return f"{_ERROR_TYPE}: {type(error).__name__}\r\n{_ERROR_BODY}: {body}\r\n".encode("ascii")
        if chunk is None:
            return b""
        connection.send(_framed(chunk))


def _framed(chunk: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


def _confine() -> None:
    """End with the pool's process, and stay within its bound of memory. Nothing of it in AWS."""
    parent, memory = os.environ.get("PRATIQUE_BURST_PARENT"), os.environ.get("PRATIQUE_BURST_MEMORY_BYTES")
    if parent:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit(1)
    if memory:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))


def main() -> None:
    """Serve invocations until the runtime API ends this process."""
    _confine()
    # A container image's CMD, the function's configuration, or ours.
    handler = next(iter(sys.argv[1:]), "") or os.environ.get("_HANDLER") or _DEFAULT_HANDLER
    bootstrap.run(handler, StreamingRuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"]))


if __name__ == "__main__":
    main()
