"""A running server seen from outside: is the first request of each shape as fast as those after it?

Every shape is sent once and then again and again, over HTTP and streamed as a customer would, with a text of its own
each time: a prefix cache must not make the later ones fast. Nothing counts tokens on this side of the connection: how
many words make how many tokens is learnt from what the server says of the requests before (`WordRate`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.core.clock import Clock
from pratique.core.errors import EnvironmentFaultError
from pratique.inference.errors import NotReadyError, UnknownModelError
from pratique.inference.warmup.manifest import WarmupManifest, built_in_manifest, shapes_for
from pratique.inference.warmup.shapes import Shape, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

__all__ = ["Measured", "ProbeError", "ProbeOptions", "Timing", "WordRate", "probe"]

_CONNECT_SECONDS: Final = 5.0
_HTTP_OK: Final = 200
_HTTP_UNAVAILABLE: Final = 503
_TOO_LONG: Final = "context_length_exceeded"
_MAX_ANSWER_CHARACTERS: Final = 300
_MAX_ANSWER_BYTES: Final = 1 << 20


class ProbeError(EnvironmentFaultError):
    """A server that is to be measured does not answer as it should."""

    code = "probe_failed"


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """What to send."""

    manifest: WarmupManifest | None = None
    """The server's built-in shapes without one."""
    num_repeats: int = 9
    timeout_seconds: float = 300.0
    """Of one request."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One request."""

    prompt_tokens: int
    """Of the whole prompt, as the server counted it."""
    completion_tokens: int
    first_token_seconds: float
    total_seconds: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One shape: its first request, and those after it."""

    name: str
    adapter: str | None
    first: Timing
    rest: tuple[Timing, ...]

    @property
    def steady_seconds(self) -> float:
        """The median time to first token of the later requests."""
        return median(timing.first_token_seconds for timing in self.rest)

    @property
    def ratio(self) -> float:
        """First against later: 1 where nothing was left to warm up."""
        return self.first.first_token_seconds / max(self.steady_seconds, 1e-9)


class WordRate:
    """Learns from requests how many tokens a prompt of so many words has. Pure."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def learn(self, num_words: int, prompt_tokens: int) -> None:
        """Take what the server said of a prompt."""
        self._known.setdefault(num_words, prompt_tokens)

    def words_for(self, shape: Shape) -> int:
        """Return how many words come nearest to the shape's tokens, as far as is known."""
        per_word, frame = self._line()
        wanted = shape.prompt_tokens - (frame if shape.fills_context else 0)
        return max(1, int(wanted / per_word))

    def _line(self) -> tuple[float, float]:
        """Return tokens of a word, and of the template around them: the line through the shortest and the longest."""
        if not self._known:
            return 1.0, 0.0
        (short, few), (long, many) = min(self._known.items()), max(self._known.items())
        per_word = max((many - few) / (long - short), 0.1) if long > short else 1.0
        return per_word, few - per_word * short


async def probe(
    url: str, options: ProbeOptions, *, clock: Clock, started: Callable[[Shape], None] = lambda _: None
) -> tuple[Measured, ...]:
    """Measure every shape.

    Raises:
        ProbeError: the server is not reachable, or answers with something else.
        NotReadyError: it says 503. UnknownModelError: it serves another model than the manifest is for.
        WarmupManifestError: the manifest does not fit its model.
    """
    async with _session(url, options) as session:
        shapes = _shapes(await _models(session), options)
        prober = _Prober(session, options, clock)
        measured = []
        for shape in shapes:
            started(shape)
            measured.append(await prober.measure(shape))
        return tuple(measured)


class _Card(msgspec.Struct, frozen=True):
    id: str
    max_model_len: int | None = None
    parent: str | None = None


class _End(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int


class _Cards(msgspec.Struct, frozen=True):
    data: tuple[_Card, ...]


def _shapes(cards: Sequence[_Card], options: ProbeOptions) -> tuple[Shape, ...]:
    manifest = options.manifest
    bases = [card for card in cards if card.parent is None and card.max_model_len is not None]
    wanted = manifest.model if manifest else None
    base = next((card for card in bases if wanted in {None, card.id}), None)
    if base is None or base.max_model_len is None:
        served = ", ".join(card.id for card in cards) or "none"
        if wanted is None:
            raise ProbeError(f"/v1/models names no model with its max_model_len; it names: {served}.")
        raise UnknownModelError(f"The manifest is for the model '{wanted}'; served there: {served}.")
    adapters = tuple(card.id for card in cards if card.parent == base.id)
    manifest = manifest or built_in_manifest(base.max_model_len, adapters)
    return shapes_for(manifest, max_model_len=base.max_model_len, adapters=adapters, model=base.id)


class _Prober:
    """Sends shapes over one session."""

    def __init__(self, session: aiohttp.ClientSession, options: ProbeOptions, clock: Clock) -> None:
        self._session = session
        self._options = options
        self._clock = clock
        self._rate = WordRate()
        self._run = secrets.token_hex(4)

    async def measure(self, shape: Shape) -> Measured:
        num_words, first = await self._send_fitting(shape, self._rate.words_for(shape), 0)
        self._rate.learn(num_words, first.prompt_tokens)
        rest = []
        for number in range(1, self._options.num_repeats + 1):
            num_words, timing = await self._send_fitting(shape, num_words, number)
            rest.append(timing)
        return Measured(name=shape.name, adapter=shape.adapter, first=first, rest=tuple(rest))

    async def _send_fitting(self, shape: Shape, num_words: int, number: int) -> tuple[int, Timing]:
        """Send a shape, with fewer words where the server says it is too long: what it refuses warms nothing up.

        Texts of as many words may differ by a token or two, which matters where the context is to be full.
        """
        step, least = 1, num_words // 2
        while num_words > least:
            try:
                return num_words, await self._send(shape, num_words, number)
            except _TooLongError:
                num_words, step = num_words - step, step * 2
        raise ProbeError(
            f"The shape '{shape.name}' is too long for the server, also with half of its words.",
            hint="Give the manifest two shorter shapes as well: from those the tokens of a word are learnt.",
        )

    async def _send(self, shape: Shape, num_words: int, number: int) -> Timing:
        words = words_of(f"{self._run}/{shape.name}/{number}")
        body: dict[str, object] = {
            "query": " ".join(islice(words, num_words)),
            "max_tokens": shape.output_tokens,
            "stream": True,
        }
        model = self._options.manifest.model if self._options.manifest else None
        body |= {key: value for key, value in {"model": model, "adapter": shape.adapter}.items() if value is not None}
        async with _translated(f"shape '{shape.name}'"):
            began = self._clock.monotonic()
            async with self._session.post("invocations", json=body) as response:
                await _verify_ok(response, f"The shape '{shape.name}'")
                first, events = await _read(response, self._clock)
            total = self._clock.monotonic() - began
            if "end" not in events:
                said = events.get("error", b"the stream ended without an end event")[:_MAX_ANSWER_CHARACTERS]
                raise ProbeError(f"The shape '{shape.name}' failed: {said.decode(errors='replace').strip()}")
            end = msgspec.json.decode(events["end"], type=_End)
        return Timing(
            prompt_tokens=end.prompt_tokens,
            completion_tokens=end.completion_tokens,
            first_token_seconds=round(first - began, 5),
            total_seconds=round(total, 5),
        )


async def _read(response: aiohttp.ClientResponse, clock: Clock) -> tuple[float, dict[str, bytes]]:
    """Return when the first token came, and the last event of each name."""
    first: float | None = None
    events: dict[str, bytes] = {}
    name = ""
    async for line in response.content:
        if line.startswith(b"event: "):
            name = line[7:].decode(errors="replace").strip()
            if first is None and name in {"token", "end"}:
                first = clock.monotonic()
        elif line.startswith(b"data: "):
            events[name] = line[6:]
    return clock.monotonic() if first is None else first, events


class _TooLongError(Exception):
    """The server says that a prompt does not fit."""


async def _models(session: aiohttp.ClientSession) -> tuple[_Card, ...]:
    async with _translated("/v1/models"), session.get("v1/models") as response:
        await _verify_ok(response, "GET /v1/models")
        return msgspec.json.decode(await response.content.read(_MAX_ANSWER_BYTES), type=_Cards).data


async def _verify_ok(response: aiohttp.ClientResponse, what: str) -> None:
    if response.status == _HTTP_OK:
        return
    answer = (await response.content.read(_MAX_ANSWER_BYTES)).decode(errors="replace")
    if _TOO_LONG in answer:
        raise _TooLongError
    if response.status == _HTTP_UNAVAILABLE:
        raise NotReadyError(
            f"{what}: the server takes no traffic (503): {answer[:_MAX_ANSWER_CHARACTERS]}",
            hint="Wait until /ping answers 200.",
        )
    raise ProbeError(
        f"{what} got {response.status}: {' '.join(answer.split())[:_MAX_ANSWER_CHARACTERS]}",
        hint="Is this the address of a model server? Its /status says how it is.",
    )


@asynccontextmanager
async def _session(url: str, options: ProbeOptions) -> AsyncIterator[aiohttp.ClientSession]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=options.timeout_seconds, sock_connect=_CONNECT_SECONDS)
    try:
        session = aiohttp.ClientSession(url.rstrip("/") + "/", timeout=timeout)
    except ValueError as error:
        raise ProbeError(
            f"'{url}' is no address of a server: {error}.", hint="For example http://127.0.0.1:8081"
        ) from error
    async with session:
        yield session


@asynccontextmanager
async def _translated(what: str) -> AsyncIterator[None]:
    import aiohttp

    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise ProbeError(
            f"The server is not reachable at {error.host}:{error.port}: {error.strerror}.",
            hint="Is it running, and is this its address?",
        ) from error
    except (TimeoutError, ValueError, aiohttp.ClientError, msgspec.DecodeError) as error:
        raise ProbeError(f"No whole answer came ({what}): {type(error).__name__}: {error}") from error
