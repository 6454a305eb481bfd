"""The ASGI application: InvokeEndpoint and InvokeEndpointWithResponseStream → POST /invocations on a model server.

The answer's bytes pass untouched; streamed, they come in parts that end anywhere. A call ends in one of five ways: the
model's answer, the model's error (ModelError), the stream breaking or its time being over (an exception in the stream),
a fault of the call itself, or the client leaving. Whatever ends it closes the connection to the model server, which
aborts the request there. At most one read of a stream waits here for a slow client.

Signatures are not checked: this is for tests and for one's own machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from starlette.types import Receive, Scope, Send

from pratique.core.events import get_logger
from pratique.inference.api.http import ClientDisconnectedError, header, read_body, send_bytes, send_json
from pratique.inference.errors import BodyTimeoutError, BodyTooLargeError
from pratique.inference.sagemaker.calls import Call, body_for, parse_call
from pratique.inference.sagemaker.endpoints import Endpoints, Variant
from pratique.inference.sagemaker.eventstream import CONTENT_TYPE, encode_exception, encode_part
from pratique.inference.sagemaker.faults import (
    FaultError,
    internal_failure,
    model_error,
    request_timeout,
    unavailable,
    validation_error,
)
from pratique.inference.sagemaker.settings import SageMakerSettings

__all__ = ["SageMakerShim"]

_LOG = get_logger("sagemaker")
_GOOD: Final = range(200, 300)
_PASSED_BACK: Final = ("X-Amzn-SageMaker-Custom-Attributes",)
_MAX_ERROR_BYTES: Final = 16_384
_LAST_WORDS_SECONDS: Final = 5.0
_TIME_IS_OVER: Final = (
    "Your invocation timed out while waiting for a response from container primary. "
    "Review the latency of the model server, and the shim's time-outs."
)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A call that was understood, and who answers it."""

    call: Call
    variant: Variant
    body: bytes
    request_id: str
    deadline: float
    """On the event loop's clock."""

    def head(self, model: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of a good answer, given the model server's."""
        passed = {name: _as_sent(model[name]) for name in _PASSED_BACK if name in model}
        return {"x-amzn-RequestId": self.request_id, "x-Amzn-Invoked-Production-Variant": self.variant.name, **passed}

    def failed(self, *, status: int, message: str) -> FaultError:
        see = f"the log of the model server at {self.variant.url}"
        return model_error(self.call.endpoint, status=status, message=message, see=see)


class SageMakerShim:
    """Answers as SageMaker's runtime does. `session` is an open client session that belongs to the caller."""

    def __init__(self, endpoints: Endpoints, settings: SageMakerSettings, *, session: aiohttp.ClientSession) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._session = session
        self._is_draining = False
        self._num_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_in_flight(self) -> int:
        """Calls that are being read or answered."""
        return self._num_in_flight

    async def drain(self, seconds: float) -> None:
        """Take no new call, and wait so long for those that run."""
        self._is_draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["method"] == "GET" and scope["path"] in {"/livez", "/ping"}:
            await send_json(send, 200, {"endpoints": [variant.endpoint for variant in self._endpoints.variants]})
            return
        request_id = str(uuid.uuid4())
        if self._is_draining or self._num_in_flight >= self._settings.max_in_flight:
            why = (
                "It is shutting down." if self._is_draining else f"It answers {self._num_in_flight} calls, all it may."
            )
            await _send_fault(send, unavailable(f"This shim takes no call now. {why}"), request_id)
            return
        self._count(+1)
        try:
            await self._invoke(scope, receive, send, request_id=request_id)
        except ClientDisconnectedError:
            return
        except FaultError as fault:
            await _send_fault(send, fault, request_id)
        finally:
            self._count(-1)

    async def _invoke(self, scope: Scope, receive: Receive, send: Send, *, request_id: str) -> None:
        began = time.monotonic()
        call = parse_call(scope)
        body = body_for(call, await self._body(scope, receive))
        seconds = self._settings.stream_timeout_seconds if call.is_streamed else self._settings.timeout_seconds
        job = _Job(
            call=call,
            # After all that may be refused, so that such a call takes nobody's turn.
            variant=self._endpoints.choose(call.endpoint, call.target_variant),
            body=body,
            request_id=request_id,
            deadline=asyncio.get_running_loop().time() + seconds,
        )
        await self._answer_unless_left(job, receive, send)
        _LOG.info(
            "invoked",
            request_id=request_id,
            endpoint=call.endpoint,
            variant=job.variant.name,
            seconds=round(time.monotonic() - began, 3),
        )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._settings.max_body_bytes
        announced = header(scope, "content-length") or ""
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(limit)
        try:
            return await read_body(receive, limit_bytes=limit, within_seconds=self._settings.timeout_seconds)
        except BodyTooLargeError as error:
            raise _too_large(limit) from error
        except BodyTimeoutError as error:
            raise request_timeout() from error

    def _count(self, change: int) -> None:
        self._num_in_flight += change
        if self._num_in_flight:
            self._idle.clear()
        else:
            self._idle.set()

    async def _answer_unless_left(self, job: _Job, receive: Receive, send: Send) -> None:
        answering = asyncio.create_task(self._answer(job, send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            outcomes = await asyncio.gather(answering, leaving, return_exceptions=True)
        if isinstance(outcomes[0], Exception) and not isinstance(outcomes[0], OSError):
            raise outcomes[0]

    async def _answer(self, job: _Job, send: Send) -> None:
        """Ask the model server; whatever fails before the answer's first byte is a fault of the API."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(job.deadline):
                    response = await stack.enter_async_context(self._post(job))
                    is_stream = job.call.is_streamed and response.status in _GOOD
                    whole = b"" if is_stream else await self._read(job, response)
            except Exception as error:  # noqa: BLE001 - nothing was answered yet: what is not foreseen is answered too
                await _send_fault(send, _fault_of(error, job), job.request_id)
                return
            if is_stream:
                await self._stream(job, response, send)
            else:
                await send_bytes(send, 200, whole, _type_of(response), job.head(response.headers))

    def _post(self, job: _Job) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.post(
            f"{job.variant.url}/invocations",
            data=job.body,
            headers={"Accept-Encoding": "identity", **job.call.headers},
            skip_auto_headers=("Content-Type", "User-Agent"),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout_seconds),
        )

    async def _read(self, job: _Job, response: aiohttp.ClientResponse) -> bytes:
        """Return the whole answer.

        Raises:
            FaultError: ModelError where it is an error, or larger than an answer may be.
        """
        is_good = response.status in _GOOD
        limit = self._settings.max_response_bytes if is_good else _MAX_ERROR_BYTES
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                break
        if not is_good:
            raise job.failed(status=response.status, message=body.decode(errors="replace"))
        if len(body) > limit:
            message = f"The answer has more than {limit} bytes, the most that is passed on in one piece."
            raise job.failed(status=response.status, message=message)
        return body

    async def _stream(self, job: _Job, response: aiohttp.ClientResponse, send: Send) -> None:
        """Pass the answer on in parts; an exception is the last message where it does not come whole."""
        head = job.head(response.headers) | {
            "content-type": CONTENT_TYPE,
            "X-Amzn-SageMaker-Content-Type": _type_of(response),
        }
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        last = b""
        try:
            async with asyncio.timeout_at(job.deadline):
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": encode_part(chunk), "more_body": True})
        except TimeoutError:
            last = _stream_error("ModelInvocationTimeExceeded", "The model did not finish its answer in time.")
        except (aiohttp.ClientError, OSError) as error:
            last = _stream_error("StreamBroken", f"The model's answer broke off: {_named(error)}")
        except Exception:  # noqa: BLE001 - the answer has begun: the stream is the only place to say that it failed
            _LOG.exception("stream_failed", request_id=job.request_id)
            last = encode_exception("InternalStreamFailure", {"Message": internal_failure().message})
        # A client that stopped reading cannot be told; its connection is closed when this returns or raises.
        async with asyncio.timeout(_LAST_WORDS_SECONDS):
            await send({"type": "http.response.body", "body": last})


def _fault_of(error: Exception, job: _Job) -> FaultError:
    """Return what a client is told of an error that came before the answer."""
    if isinstance(error, FaultError):
        return error
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return unavailable(f"The model server at {job.variant.url} cannot be reached: {_named(error)}")
    if isinstance(error, TimeoutError):
        return job.failed(status=0, message=_TIME_IS_OVER)
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return job.failed(status=0, message=f"The model server closed before it answered: {_named(error)}")
    _LOG.error("call_failed", request_id=job.request_id, exc_info=error)
    return internal_failure()


def _named(error: Exception) -> str:
    return str(error) or type(error).__name__


def _type_of(response: aiohttp.ClientResponse) -> str:
    return _as_sent(response.headers.get("Content-Type", "application/octet-stream"))


def _as_sent(value: str) -> str:
    """Return a header of the model server, which aiohttp read as UTF-8, as ASGI wants it: a character for each byte."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def _stream_error(code: str, message: str) -> bytes:
    return encode_exception("ModelStreamError", {"Message": message, "ErrorCode": code})


def _too_large(limit_bytes: int) -> FaultError:
    return validation_error(
        "1 validation error detected: Value at 'body' failed to satisfy constraint: "
        f"Member must have length less than or equal to {limit_bytes}"
    )


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_fault(send: Send, fault: FaultError, request_id: str) -> None:
    _LOG.warning("refused", request_id=request_id, kind=fault.kind, status=fault.status, error=fault.message)
    headers = {"x-amzn-RequestId": request_id, "x-amzn-ErrorType": fault.kind}
    await send_json(send, fault.status, fault.body(), headers)
