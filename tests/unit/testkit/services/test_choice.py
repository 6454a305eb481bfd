"""Which provider serves a run."""

from __future__ import annotations

import pytest

from pratique.testkit.errors import ServiceMissingError, TestkitUsageError
from pratique.testkit.host.launch import ProcessLaunch, TcpReady
from pratique.testkit.services.choice import (
    choose_provider,
    first_given,
    is_url,
    plain_url,
    read_candidates,
    read_url,
    without_password,
)
from pratique.testkit.services.interface import Backend, Found, Provider

pytestmark = pytest.mark.unit

FOUND = Found(launch=ProcessLaunch(command=("x",), ready=TcpReady()), version="1")


def missing() -> Found:
    raise ServiceMissingError("not here", hint="install it")


NATIVE = Provider(name="native", backend=Backend.PROCESS, find=lambda: FOUND)
SECOND = Provider(name="second", backend=Backend.PROCESS, find=lambda: FOUND)
BOXED = Provider(name="boxed", backend=Backend.CONTAINER, find=missing)
ALL = (BOXED, NATIVE, SECOND)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("auto", ALL), ("process", (NATIVE, SECOND)), ("container", (BOXED,)), ("second", (SECOND,))],
)
def test_words_name_all_a_back_end_or_one_provider(words: str, expected: tuple[Provider, ...]) -> None:
    assert read_candidates("it", ALL, words) == list(expected)


@pytest.mark.parametrize("words", ["", "url", "PROCESS", "redis:/typo", "nativ"])
def test_words_that_name_nothing_are_refused_with_those_that_would(words: str) -> None:
    with pytest.raises(TestkitUsageError) as caught:
        read_candidates("it", ALL, words)
    assert str(caught.value) == (
        f"'{words}' is no back end of the service 'it'. "
        "Hint: Expected a URL, PROVIDER+URL, or one of: auto, process, container, boxed, native, second."
    )


def test_first_provider_that_is_here_is_chosen() -> None:
    assert choose_provider("it", ALL).provider is NATIVE


@pytest.mark.parametrize("candidates", [(), (BOXED, BOXED)])
def test_none_is_here_says_what_each_said(candidates: tuple[Provider, ...]) -> None:
    with pytest.raises(ServiceMissingError) as caught:
        choose_provider("it", candidates)
    assert caught.value.message.count("\n  - boxed (container): not here\n    Hint: install it") == len(candidates)
    assert "--pratique-it=URL" in str(caught.value)
    with pytest.raises(ServiceMissingError, match="--pratique-model-server=URL"):
        choose_provider("model_server", candidates)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [((), "auto"), ((None, "", None), "auto"), (("a", "b"), "a"), ((None, "b", "c"), "b"), (("", None, "c"), "c")],
)
def test_first_source_that_says_something_wins(sources: tuple[str | None, ...], expected: str) -> None:
    assert first_given(*sources) == expected


@pytest.mark.parametrize(("words", "answer"), [("redis://x", True), ("auto", False), ("", False), ("x:6379", False)])
def test_url_has_a_scheme(words: str, answer: bool) -> None:
    assert is_url(words) is answer


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://me@localhost", "redis://me@localhost"),
        ("redis://me:secret@localhost:1/0?x=y", "redis://me:***@localhost:1/0?x=y"),
        ("redis://:secret@[::1]:1", "redis://:***@[::1]:1"),
        ("redis://me:se:cr@et@host", "redis://me:***@host"),
        ("redis://me:secret@[bad", "a URL that cannot be read"),
    ],
)
def test_password_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert "secret" not in without_password(url)


@pytest.mark.parametrize(
    ("words", "url", "provider"),
    [
        ("redis://x", "redis://x", None),
        ("native+http://x:1/a+b?c=d://e", "http://x:1/a+b?c=d://e", NATIVE),
        ("second+redis+unix://x", "redis+unix://x", SECOND),
        ("redis://x/a+b://c", "redis://x/a+b://c", None),
        ("+http://x", "http://x", None),
    ],
)
def test_provider_may_stand_before_a_url(words: str, url: str, provider: Provider | None) -> None:
    given = read_url("it", ALL, words)
    assert (given.url, given.provider) == (url, provider)
    assert plain_url(words) == url


def test_unknown_provider_before_a_url_is_refused_without_its_password() -> None:
    with pytest.raises(TestkitUsageError) as caught:
        read_url("it", ALL, "nativ+redis://me:secret@there")
    assert str(caught.value) == (
        "'nativ' before the URL redis://me:***@there is no provider of the service 'it'. "
        "Hint: Expected one of: boxed, native, second; or the URL alone."
    )
