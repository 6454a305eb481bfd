"""Field bug: a session expired between EXISTS and GET.

The naive code asks whether the session is there, does something else, and reads it. A mock's time does not pass, so it
is still there. A real server's does: what is read is None. The fix reads once and treats None as "not there".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit import ValkeyNamespace

pytestmark = [pytest.mark.integration, pytest.mark.fast]

LIFE_MS = 300


class Store(Protocol):
    """The three calls that the code uses of redis-py."""

    def set(self, name: str, value: str, *, px: int) -> object: ...

    def exists(self, name: str) -> object: ...

    def get(self, name: str) -> bytes | None: ...


class MockStore:
    """What such mocks look like: a dict, and a life that is noted and never ends."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def set(self, name: str, value: str, *, px: int) -> object:
        del px
        self._values[name] = value.encode()
        return True

    def exists(self, name: str) -> object:
        return int(name in self._values)

    def get(self, name: str) -> bytes | None:
        return self._values.get(name)


# The code under test. `authorise` stands for what a service does between the two calls.


def greet_naively(store: Store, session: str, authorise: Callable[[], None]) -> str:
    if not store.exists(session):
        return "please log in"
    authorise()
    name = store.get(session)
    assert name is not None, "it was there a moment ago"
    return f"hello {name.decode()}"


def greet(store: Store, session: str, authorise: Callable[[], None]) -> str:
    authorise()
    name = store.get(session)
    return "please log in" if name is None else f"hello {name.decode()}"


# The tests.


def slow_authorisation() -> None:
    """As slow as a busy service: longer than what is left of the session's life."""
    time.sleep(1.3 * LIFE_MS / 1000)


def check(store: Store, session: str, greet: Callable[[Store, str, Callable[[], None]], str]) -> None:
    """The one test that somebody wrote: a session that is about to end is answered, one way or the other."""
    store.set(session, "ann", px=LIFE_MS)
    assert greet(store, session, slow_authorisation) in {"hello ann", "please log in"}


@pytest.fixture
def real(valkey: ValkeyNamespace) -> Store:
    client: Any = valkey.client()  # redis-py's types say less than this test: not what kind of text comes back
    store: Store = client
    return store


def test_the_naive_code_passes_on_a_mock() -> None:
    check(MockStore(), "session", greet_naively)


def test_the_naive_code_fails_on_a_real_server(real: Store, valkey: ValkeyNamespace) -> None:
    with pytest.raises(AssertionError, match="it was there a moment ago"):
        check(real, valkey.key("session"), greet_naively)


def test_the_fix_passes_on_a_mock() -> None:
    check(MockStore(), "session", greet)


def test_the_fix_passes_on_a_real_server(real: Store, valkey: ValkeyNamespace) -> None:
    check(real, valkey.key("session"), greet)
