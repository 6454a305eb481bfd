"""Scripts as the JSON that WireMock gets."""

from __future__ import annotations

import pytest

from pratique.testkit.choreography import (
    dribbled,
    exhausted,
    fail,
    garbage,
    lognormal,
    ok,
    reset,
    sse,
    truncated,
    uniform,
)
from pratique.testkit.choreography.steps import Step
from pratique.testkit.choreography.stubs import (
    Route,
    compile_files,
    compile_marker,
    compile_script,
    make_route,
    make_script,
)
from pratique.testkit.errors import TestkitUsageError

pytestmark = pytest.mark.unit


def responses(*steps: Step) -> list[dict[str, object]]:
    return [stub["response"] for stub in compile_script(make_script(1, Route(), steps, None), "s", "c")]


def test_a_script_is_one_linear_scenario_for_each_client() -> None:
    script = make_script(3, make_route("POST", "/v1/chat"), [fail(503, after=4.8), ok(json=1)], exhausted())
    first, second, last = compile_script(script, "scope", "a")
    assert first == {
        "priority": 3,
        "request": {"method": "POST", "urlPath": "/scope/a/v1/chat"},
        "response": {"status": 503, "headers": {"Content-Length": "0"}, "fixedDelayMilliseconds": 4800},
        "metadata": {"pratique": {"scope": "scope", "client": "a", "script": 3, "step": 0}},
        "scenarioName": "scope/a/3",
        "requiredScenarioState": "Started",
        "newScenarioState": "step 2",
    }
    assert second["response"] == {
        "status": 200,
        "headers": {"Content-Type": "application/json", "Content-Length": "1"},
        "base64Body": "MQ==",
    }
    assert (second["requiredScenarioState"], second["newScenarioState"]) == ("step 2", "step 3")
    assert last["requiredScenarioState"] == "step 3"
    assert "newScenarioState" not in last
    assert compile_script(script, "scope", "b")[0]["scenarioName"] == "scope/b/3"


def test_a_script_of_one_step_needs_no_scenario() -> None:
    (stub,) = compile_script(make_script(1, Route(), [ok()], None), "scope", "main")
    assert "scenarioName" not in stub
    assert stub["request"] == {"method": "ANY", "urlPathPattern": "/scope/main(/.*)?"}
    assert stub["priority"] > 3


def test_delays_are_in_milliseconds() -> None:
    fixed, drawn, tail = responses(ok(after=0.0015), ok(after=uniform(0.1, 0.2)), reset(after=lognormal(0.3, 0.4)))
    assert fixed["fixedDelayMilliseconds"] == 2
    assert drawn["delayDistribution"] == {"type": "uniform", "lower": 100, "upper": 200}
    assert tail["delayDistribution"] == {"type": "lognormal", "median": 300, "sigma": 0.4}
    assert tail["fault"] == "CONNECTION_RESET_BY_PEER"
    assert responses(garbage()) == [{"status": 200, "fault": "RANDOM_DATA_THEN_CLOSE"}]


def test_a_length_is_said_truly_falsely_or_not_at_all() -> None:
    true, false, slow, stream, broken, none = responses(
        ok(text="12"),
        truncated("1234"),
        dribbled("1234", over=0.4, chunks=2),
        sse(["1"]),
        sse(["1"], broken_after=1),
        ok(status=204),
    )
    lengths = [one["headers"].get("Content-Length") for one in (true, false, slow, stream, broken, none)]  # type: ignore[attr-defined]
    assert lengths == ["2", "4", None, None, str(len("data: 1\n\n") + 1024), None]
    assert slow["chunkedDribbleDelay"] == {"numberOfChunks": 2, "totalDuration": 400}


def test_a_large_body_is_a_file() -> None:
    script = make_script(2, Route(), [ok(), ok(body=b"x" * 100_000)], None)
    small, large = compile_script(script, "s", "c")
    assert "bodyFileName" not in small["response"]
    assert large["response"]["bodyFileName"] == "s-2-1"
    assert "base64Body" not in large["response"]
    assert compile_files(script, "s") == {"s-2-1": b"x" * 100_000}


def test_the_marker_is_the_scopes_own_address() -> None:
    assert compile_marker("scope")["request"] == {"method": "GET", "urlPath": "/scope"}


@pytest.mark.parametrize("path", ["v1", "/v1?x=1", "/v1#x"])
def test_a_path_that_can_match_nothing_is_refused(path: str) -> None:
    with pytest.raises(TestkitUsageError):
        make_route("GET", path)


@pytest.mark.parametrize("method", ["get", "", "GET "])
def test_a_method_that_can_match_nothing_is_refused(method: str) -> None:
    with pytest.raises(TestkitUsageError):
        make_route(method, "/")


def test_a_path_is_matched_as_it_is_sent() -> None:
    assert make_route("GET", "/größe/a b").path == "/gr%C3%B6%C3%9Fe/a%20b"
    assert make_route("GET", "/a%20b").path == "/a%20b"


def test_a_script_without_steps_or_with_what_is_none_is_refused() -> None:
    with pytest.raises(TestkitUsageError, match="empty"):
        make_script(1, Route(), [], exhausted())
    with pytest.raises(TestkitUsageError, match="no step"):
        make_script(1, Route(), [503], None)  # type: ignore[list-item]


def test_a_route_covers_its_method_and_path_and_any() -> None:
    route = make_route("POST", "/a")
    assert [route.covers(*asked) for asked in (("POST", "/a"), ("GET", "/a"), ("POST", "/b"))] == [True, False, False]
    assert Route().covers("PUT", "")
    assert (str(Route()), str(route)) == ("ANY (any path)", "POST /a")
