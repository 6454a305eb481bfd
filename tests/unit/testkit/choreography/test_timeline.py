"""WireMock's journal as attempts, and what is said of them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pratique.testkit.choreography import exhausted, fail, ok, reset
from pratique.testkit.choreography.stubs import Script, make_route, make_script
from pratique.testkit.choreography.timeline import (
    Attempt,
    find_problems,
    gaps_of,
    near_misses,
    read_attempts,
    read_journal,
    render,
)
from pratique.testkit.errors import UnexpectedAnswerError

pytestmark = pytest.mark.unit

SCRIPT = make_script(1, make_route("ANY", ""), [fail(503, after=0.5), ok(), reset()], exhausted())
CHAT = make_script(2, make_route("POST", "/v1/chat"), [ok(), ok()], None)
MARKER = {"url": "/s", "at": 1000}


def entry(**about: Any) -> dict[str, Any]:
    about = {"url": "/s/main", "method": "GET", "at": 1000, "step": None, "body": b"", "delay": 0, **about}
    step = about["step"]
    stub = {"metadata": {"pratique": {"scope": "s", "script": about.get("script", 1), "step": step}}}
    return {
        "request": {
            "url": about["url"],
            "method": about["method"],
            "loggedDate": about["at"],
            "headers": about.get("headers", {}),
            "bodyAsBase64": base64.b64encode(about["body"]).decode(),
        },
        "wasMatched": about.get("matched", step is not None),
        "response": {"status": about.get("status", 200)},
        "timing": {"addedDelay": about["delay"]},
        **({} if step is None else {"stubMapping": stub}),
    }


def read(*entries: dict[str, Any], scripts: tuple[Script, ...] = (SCRIPT, CHAT)) -> list[Attempt]:
    """The journal has the latest first."""
    whole = {"requests": [entry(**one) for one in reversed([MARKER, *entries])]}
    own = read_journal(json.dumps(whole).encode(), "s")
    assert own is not None
    return read_attempts(own, "s", {script.number: script for script in scripts})


def test_what_is_no_journal_is_refused() -> None:
    for answer in (b"", b"{}", b'{"requests": [{"request": {}}]}', b"<html>"):
        with pytest.raises(UnexpectedAnswerError):
            read_journal(answer, "s")


def test_a_journal_without_the_marker_has_lost_something() -> None:
    assert read_journal(b'{"requests": []}', "s") is None
    lost = {"requests": [entry(url="/s/main"), entry(url="/scope")]}
    assert read_journal(json.dumps(lost).encode(), "s") is None


def test_requests_of_other_scopes_are_not_ours() -> None:
    assert read({"url": "/s2/main"}, {"url": "/other/s/main"}) == []


def test_an_attempt_says_all_that_came() -> None:
    (one,) = read(
        {"url": "/s/a/v1/chat?x=1", "method": "POST", "step": 0, "script": 2, "body": b'{"a": "\xc3\xa9"}'}
        | {"headers": {"X-A": ["1", "2"], "Host": "h"}}
    )
    assert (one.client, one.path, one.query, one.method) == ("a", "/v1/chat", "x=1", "POST")
    assert (one.json, one.text, one.headers) == ({"a": "é"}, '{"a": "é"}', {"x-a": "1, 2", "host": "h"})
    assert (one.step, one.step_number, one.status, one.number) == (CHAT.steps[0], 1, 200, 1)


def test_times_are_counted_from_the_first_and_a_broken_connection_has_no_status() -> None:
    attempts = read({"at": 2000, "step": 0, "delay": 500, "status": 503}, {"at": 2120, "step": 2}, {"at": 3000})
    assert [one.came_seconds for one in attempts] == [0, 0.12, 1]
    assert gaps_of(attempts) == [0.12, 0.88]
    assert [one.status for one in attempts] == [503, None, 200]
    assert (attempts[0].delay_seconds, attempts[2].step_number) == (0.5, 0)
    assert gaps_of([]) == []


def test_what_came_in_the_same_millisecond_keeps_its_order() -> None:
    assert [one.path for one in read({"url": "/s/m/1"}, {"url": "/s/m/2"}, {"url": "/s/m/3"})] == ["/1", "/2", "/3"]


def test_a_step_that_answered_two_is_a_problem_and_a_repeated_last_one_is_none() -> None:
    twice = read({"step": 0, "script": 2}, {"step": 0, "script": 2}, {"step": 1, "script": 2}, {"step": 1, "script": 2})
    (problem,) = find_problems(twice, [CHAT])
    assert problem.startswith("step 1 of the script for POST /v1/chat answered 2 requests of the client 'main'")
    copies = read({"step": 0, "url": "/s/a"}, {"step": 0, "url": "/s/b"})
    assert find_problems(copies, [SCRIPT]) == []


def test_a_request_after_the_script_is_a_problem() -> None:
    (problem,) = find_problems(read({"step": 3}), [SCRIPT])
    assert "attempt 1 came when the script for ANY (any path) was exhausted" in problem


def test_a_request_that_fell_between_two_steps_is_told_as_the_race_that_it_is() -> None:
    (problem,) = find_problems(read({"url": "/s/main/v1/chat", "method": "POST"}), [CHAT])
    assert "asked twice at once" in problem


def test_near_misses_name_the_nearest_and_the_difference() -> None:
    attempts = read({"url": "/s/main/v1/chats", "method": "PUT"})
    other = make_script(3, make_route("GET", "/health"), [ok()], None)
    told = near_misses(attempts, [other, CHAT])
    assert told.splitlines()[0] == "PUT /v1/chats (attempt 1) matched no script"
    assert told.splitlines()[1] == "  near: POST /v1/chat (the method differs, the path differs)"
    assert "no script at all" in near_misses(attempts, [])
    assert near_misses(read({"step": 0}), [SCRIPT]) == ""


def test_a_stub_of_the_tests_own_is_no_miss() -> None:
    attempts = read({"matched": True, "status": 418})
    assert find_problems(attempts, [CHAT]) == []
    assert "418 by a stub of the test's own" in render(attempts)


def test_the_timeline_has_a_line_for_each_attempt_and_says_who_gave_up() -> None:
    attempts = read(
        {"at": 2000, "step": 0, "delay": 500, "body": b"x" * 100}, {"at": 2200, "step": 1, "url": "/s/main/a?b=c"}
    )
    first, second = render(attempts).splitlines()
    assert first.strip().startswith("0.000 s")
    assert f"GET / '{'x' * 60}...' -> step 1: 503 after 0.5 s" in first
    assert "+0.200 s  GET /a?b=c -> step 2: 200  [attempt 1 was given up within 0.200 s, or overtaken]" in second
    assert render([]) == ""


def test_the_timeline_of_several_clients_names_them_and_measures_each() -> None:
    text = render(read({"at": 2000, "step": 0, "url": "/s/a", "delay": 500}, {"at": 2100, "step": 0, "url": "/s/b"}))
    assert "a: GET /" in text
    assert "b: GET /" in text
    assert "given up" not in text
