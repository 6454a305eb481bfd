"""One HTTP request: what is refused before it is sent, and what an answer must be."""

from __future__ import annotations

import pytest

from pratique.testkit.errors import TestkitUsageError, UnexpectedAnswerError
from pratique.testkit.services.http import Answered, ask

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("url", ["", "registry", "ftp://x/", "http://", "file:///etc/passwd"])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(TestkitUsageError, match="Expected an address"):
        ask("GET", url)


def test_nobody_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r"."):
        ask("GET", "http://127.0.0.1:1/", seconds=1)


def test_an_unexpected_status_is_told_with_the_beginning_of_what_was_said() -> None:
    answer = Answered(asked="GET http://x/", status=503, body=b"no" + b"x" * 1000)
    assert answer.expect(200, 503) is answer
    with pytest.raises(UnexpectedAnswerError, match="expected 200 or 201, got 503: no") as caught:
        answer.expect(200, 201)
    assert caught.value.status == 503
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b'{"a":'])
def test_a_body_that_is_no_json_is_told(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError, match="expected JSON"):
        Answered(asked="GET http://x/", status=200, body=body).json()
