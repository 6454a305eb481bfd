"""A burst lane in AWS Lambda: `InvokeWithResponseStream`, one invocation for each request.

https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html

The answer is an event stream: payload chunks, then `InvokeComplete`, which names the error where the function failed.
Leaving before the end closes the stream. Lambda does not stop a function whose invoker has left: it notices at its next
write, or ends at its own time-out, so its time-out should be no longer than an answer may take.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pratique.core.settings import SettingsError
from pratique.orchestrator.forward.interface import ForwardUnavailableError
from pratique.orchestrator.lanes.interface import BurstFullError
from pratique.orchestrator.lanes.payload import event_of, open_answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from pratique.core.clock import Clock
    from pratique.orchestrator.forward.interface import ForwardAnswer, ForwardRequest
    from pratique.orchestrator.lanes.settings import LambdaSettings

__all__ = ["LambdaLane"]

# A request's payload has at most 6 MB in an invocation that is waited for; Base64 adds a third, headers some.
_MAX_BODY_BYTES: Final = 4 * 2**20
_LONGEST_SECONDS: Final = 900.0
"""No function runs longer."""
_THROTTLED: Final = frozenset(
    {"TooManyRequestsException", "ThrottlingException", "EC2ThrottledException", "ENILimitReachedException"}
)


class _Library(NamedTuple):
    """What is used of AWS's libraries: imported when a lane is opened, as their import alone opens sockets."""

    create_client: Any
    make_config: Any
    refused: type[Exception]
    no_region: type[Exception]
    broken: tuple[type[Exception], ...]


def _load_library() -> _Library:
    try:
        import aiohttp
        from aiobotocore.config import AioConfig  # type: ignore[import-untyped]  # it has no types
        from aiobotocore.session import get_session  # type: ignore[import-untyped]  # it has no types
        from botocore.eventstream import ParserError
        from botocore.exceptions import BotoCoreError, ClientError, NoRegionError
    except ImportError as error:
        raise SettingsError(
            f"The burst lane in Lambda needs aiobotocore: {error}.", hint="pip install 'pratique[burst]'"
        ) from error
    return _Library(
        create_client=get_session().create_client,
        make_config=AioConfig,
        refused=ClientError,
        no_region=NoRegionError,
        broken=(BotoCoreError, ClientError, ParserError, aiohttp.ClientError, OSError, TimeoutError),
    )


class LambdaLane:
    """A `BurstLane` over one function; usable within `running`.

    Raises:
        SettingsError: aiobotocore is not there.
    """

    max_body_bytes = _MAX_BODY_BYTES

    def __init__(self, settings: LambdaSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._library = _load_library()
        self._client: Any = None
        self._num_open = 0
        self._full_until = 0.0

    @property
    def num_free(self) -> int:
        """0 for a while after Lambda throttled an invocation: it knows of other invokers, this process does not."""
        if self._clock.monotonic() < self._full_until:
            return 0
        return self._settings.max_concurrency - self._num_open

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LambdaLane]:
        """Keep the client open for as long as the body runs.

        Raises:
            SettingsError: there is no region.
        """
        settings = self._settings
        config = self._library.make_config(
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=_LONGEST_SECONDS,  # each request has its own deadline
            max_pool_connections=settings.max_concurrency,
            retries={"total_max_attempts": 1},  # whoever spills decides what to do
        )
        context = self._library.create_client(
            "lambda", region_name=settings.region or None, endpoint_url=settings.endpoint_url or None, config=config
        )
        try:
            self._client = await context.__aenter__()
        except self._library.no_region as error:
            raise SettingsError(
                "The burst lane in Lambda has no region.", hint="Set region in [orchestrator.lanes.aws], or AWS_REGION."
            ) from error
        try:
            yield self
        finally:
            await context.__aexit__(None, None, None)

    @asynccontextmanager
    async def open(self, request: ForwardRequest) -> AsyncIterator[ForwardAnswer]:
        if self.num_free <= 0:
            raise BurstFullError("The function takes no more invocations now.")
        self._num_open += 1
        try:
            deadline = asyncio.get_running_loop().time() + request.timeout_seconds
            response = await self._invoke(request, deadline)
            stream = response["EventStream"]
            try:
                kind = response.get("ResponseStreamContentType", "")
                yield await open_answer(kind, _pieces(stream, deadline, self._library.broken))
            finally:
                stream.close()
        finally:
            self._num_open -= 1

    async def _invoke(self, request: ForwardRequest, deadline: float) -> Any:  # noqa: ANN401 - botocore's answers have no types
        event = event_of(request, invocation_id=str(uuid.uuid4()), epoch=self._clock.epoch())
        qualifier = {"Qualifier": self._settings.qualifier} if self._settings.qualifier else {}
        try:
            async with asyncio.timeout_at(deadline):
                return await self._client.invoke_with_response_stream(
                    FunctionName=self._settings.function, Payload=event, **qualifier
                )
        except self._library.refused as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            if code in _THROTTLED:
                self._full_until = self._clock.monotonic() + self._settings.throttled_seconds
                raise BurstFullError(f"Lambda throttles: {code}.") from error
            raise ForwardUnavailableError(f"Lambda refused the invocation: {code}.") from error
        except self._library.broken as error:
            raise ForwardUnavailableError(
                f"Lambda could not be reached: {str(error) or type(error).__name__}."
            ) from error


async def _pieces(stream: Any, deadline: float, broken: tuple[type[Exception], ...]) -> AsyncGenerator[bytes]:  # noqa: ANN401 - aiobotocore has no types
    """Yield the payload. Raises ForwardUnavailableError where the function failed or the stream broke off."""
    events = aiter(stream)
    while True:
        event = await _next_event(events, deadline, broken)
        if "PayloadChunk" in event:
            yield event["PayloadChunk"].get("Payload", b"")
        elif "InvokeComplete" in event:
            code = event["InvokeComplete"].get("ErrorCode")
            if code:
                # Not its details: they may hold what the function said of the request.
                raise ForwardUnavailableError(f"The function failed: {code}.")
            return


async def _next_event(events: Any, deadline: float, broken: tuple[type[Exception], ...]) -> dict[str, Any]:  # noqa: ANN401 - as above
    try:
        async with asyncio.timeout_at(deadline):
            event: dict[str, Any] = await anext(events)
    except StopAsyncIteration as error:
        raise ForwardUnavailableError("The function's stream ended before it was complete.") from error
    except broken as error:
        raise ForwardUnavailableError(
            f"The function's stream broke off: {str(error) or type(error).__name__}."
        ) from error
    return event
