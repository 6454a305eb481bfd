"""Compiles a script to WireMock's stubs: one linear scenario for each script and client. Pure.

WireMock moves a scenario on when it matches a request, before the delay: the next request gets the next step also while
the first still waits. It does not do so atomically: two requests at once may get the same step, or none at all. Hence a
scenario for each client; `timeline.py` finds out where one client asked twice at once.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, assert_never
from urllib.parse import quote

from pratique.testkit.choreography.steps import Delay, Fault, Fixed, Lognormal, Step, Uniform
from pratique.testkit.errors import TestkitUsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "METADATA",
    "Route",
    "Script",
    "compile_files",
    "compile_marker",
    "compile_script",
    "make_route",
    "make_script",
]

METADATA: Final = "pratique"
_SAFE: Final = "/%:@!$&'()*+,;=~-._"
_METHOD: Final = re.compile(r"[A-Z]+")
_INLINE_BYTES: Final = 16 * 1024
_SPECIFIC, _ANY = 3, 7
_FAULTS: Final = {
    Fault.RESET: "CONNECTION_RESET_BY_PEER",
    Fault.EMPTY: "EMPTY_RESPONSE",
    Fault.GARBAGE: "RANDOM_DATA_THEN_CLOSE",
}


@dataclass(frozen=True)
class Route:
    """Which requests a script answers."""

    method: str = "ANY"
    path: str = ""
    """As sent, without the query; "" for any."""

    def __str__(self) -> str:
        return f"{self.method} {self.path or '(any path)'}"

    def covers(self, method: str, path: str) -> bool:
        """Whether a request is for this route."""
        return self.method in ("ANY", method) and self.path in ("", path)


@dataclass(frozen=True, kw_only=True)
class Script:
    """Steps, in order; what comes last answers all that follow."""

    number: int
    route: Route
    steps: tuple[Step, ...]

    def scenario(self, scope: str, client: str) -> str:
        return f"{scope}/{client}/{self.number}"


def make_route(method: str, path: str) -> Route:
    """Return a route.

    Raises:
        TestkitUsageError: it can match nothing.
    """
    if not _METHOD.fullmatch(method):
        raise TestkitUsageError(f"The method is {method!r}.", hint="Expected capitals: GET, POST, ANY, ...")
    if path and (not path.startswith("/") or "?" in path or "#" in path):
        raise TestkitUsageError(
            f"The path is {path!r}.", hint="Expected one that begins with / and has no query: it is not looked at."
        )
    return Route(method, quote(path, safe=_SAFE))


def make_script(number: int, route: Route, steps: Sequence[Step], then: Step | None) -> Script:
    """Return a script. Without `then` the last step is repeated.

    Raises:
        TestkitUsageError: there is no step, or something that is none.
    """
    whole = (*steps, *(() if then is None else (then,)))
    if not steps:
        raise TestkitUsageError(f"The script for {route} is empty.", hint="Expected steps: ok(), fail(503), ...")
    for step in whole:
        if not isinstance(step, Step):
            raise TestkitUsageError(f"{step!r} is no step.", hint="Expected ok(), fail(503), sse([...]), ...")
    return Script(number=number, route=route, steps=whole)


def compile_script(script: Script, scope: str, client: str) -> list[dict[str, Any]]:
    """Return the stubs of one client's copy, in the form of WireMock's admin API."""
    last = len(script.steps) - 1
    stubs = []
    for index, step in enumerate(script.steps):
        stub: dict[str, Any] = {
            "priority": _SPECIFIC if script.route.path else _ANY,
            "request": _request(script.route, scope, client),
            "response": _response(step, _file_name(script, index, scope)),
            "metadata": {METADATA: {"scope": scope, "client": client, "script": script.number, "step": index}},
        }
        if last:
            stub |= {"scenarioName": script.scenario(scope, client), "requiredScenarioState": _state(index)}
            stub |= {"newScenarioState": _state(index + 1)} if index < last else {}
        stubs.append(stub)
    return stubs


def compile_files(script: Script, scope: str) -> dict[str, bytes]:
    """Return the bodies that are too large to stand in a stub, which every entry of the journal repeats."""
    return {
        _file_name(script, index, scope): step.body
        for index, step in enumerate(script.steps)
        if len(step.body) > _INLINE_BYTES
    }


def compile_marker(scope: str) -> dict[str, Any]:
    """Return a stub for the scope's first request, whose place in the journal says that nothing after it is lost."""
    return {
        "priority": 1,
        "request": {"method": "GET", "urlPath": f"/{scope}"},
        "response": {"status": 204},
        "metadata": {METADATA: {"scope": scope}},
    }


def _file_name(script: Script, index: int, scope: str) -> str:
    return f"{scope}-{script.number}-{index}"


def _state(index: int) -> str:
    return f"step {index + 1}" if index else "Started"


def _request(route: Route, scope: str, client: str) -> dict[str, Any]:
    base = f"/{scope}/{client}"
    where = {"urlPath": base + route.path} if route.path else {"urlPathPattern": f"{base}(/.*)?"}
    return {"method": route.method, **where}


def _response(step: Step, file: str) -> dict[str, Any]:
    delay = _delay(step.after)
    if step.fault is not None:
        return {"status": 200, "fault": _FAULTS[step.fault], **delay}
    headers = dict(step.headers)
    if step.missing_bytes or not (step.is_stream or step.is_bodiless):
        headers["Content-Length"] = str(len(step.body) + step.missing_bytes)
    response: dict[str, Any] = {"status": step.status, "headers": headers, **delay}
    if len(step.body) > _INLINE_BYTES:
        response["bodyFileName"] = file
    elif step.body:
        response["base64Body"] = base64.b64encode(step.body).decode()
    if step.chunks:
        milliseconds = _milliseconds(step.over_seconds)
        response["chunkedDribbleDelay"] = {"numberOfChunks": step.chunks, "totalDuration": milliseconds}
    return response


def _delay(delay: Delay) -> dict[str, Any]:
    match delay:
        case Fixed(seconds):
            return {"fixedDelayMilliseconds": _milliseconds(seconds)} if seconds else {}
        case Uniform(low, high):
            given = {"type": "uniform", "lower": _milliseconds(low), "upper": _milliseconds(high)}
        case Lognormal(median, sigma):
            given = {"type": "lognormal", "median": _milliseconds(median), "sigma": sigma}
        case _:
            assert_never(delay)
    return {"delayDistribution": given}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
