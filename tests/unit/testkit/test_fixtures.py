"""What stands behind a fixture; a service that is missing; URLs that a factory names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import ServiceGoneError, ServiceStartError, TestkitError, TestkitUsageError
from pratique.testkit.fixtures import (
    SESSION,
    Launcher,
    missing_behind,
    namespace_fixture,
    server_fixture,
    server_of,
    shorten_next,
)
from pratique.testkit.startup import wanted_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.kit import Kit

pytestmark = pytest.mark.unit


class FakeManager:
    """Knows fixtures by name, and counts how often it was asked."""

    def __init__(self, **fixtures: Any) -> None:
        self.definitions = {name: [SimpleNamespace(func=function_of(one))] for name, one in fixtures.items()}
        self.asked: list[str] = []

    def getfixturedefs(self, name: str, _: object) -> Any:
        self.asked.append(name)
        return self.definitions.get(name)


def function_of(fixture: Any) -> Any:
    return fixture._get_wrapped_function() if hasattr(fixture, "_get_wrapped_function") else fixture


def item_with(manager: FakeManager, *names: str, known: tuple[str, ...] = ()) -> Any:
    info = SimpleNamespace(name2fixturedefs={name: manager.definitions[name] for name in known})
    return SimpleNamespace(
        session=SimpleNamespace(_fixturemanager=manager), fixturenames=list(names), _fixtureinfo=info
    )


def test_namespace_leads_to_its_server_and_other_fixtures_to_none() -> None:
    manager = FakeManager(server=server_fixture("s3", use="moto"), bucket=namespace_fixture("server"), plain=len)
    item = item_with(manager, "bucket", "plain", "request")
    assert server_of(item, "bucket") == ("s3", "moto")
    assert wanted_by([item, item]) == [("s3", "moto")]


def test_fixtures_that_pytest_has_looked_up_are_not_looked_up_again() -> None:
    manager = FakeManager(server=server_fixture("s3"), plain=len)
    item = item_with(manager, "server", "plain", known=("server", "plain"))
    assert wanted_by([item]) == [("s3", None)]
    assert manager.asked == []


@pytest.mark.parametrize(
    "fixtures",
    [{"a": namespace_fixture("a")}, {"a": namespace_fixture("b"), "b": namespace_fixture("a")}],
    ids=["itself", "in a ring"],
)
def test_namespace_of_itself_is_refused(fixtures: dict[str, Any]) -> None:
    with pytest.raises(TestkitUsageError, match=r"'a' is a namespace of itself.*Expected the name of a server's"):
        server_of(item_with(FakeManager(**fixtures)), "a")


# What the fixture of a server does


class FakeGuard:
    def __init__(self) -> None:
        self.allowed: list[str] = []

    def allow_url(self, url: str) -> None:
        self.allowed.append(url)


def config_with(kit: Kit, guard: FakeGuard | None = None) -> Any:
    stash: dict[Any, Any] = {SESSION: SimpleNamespace(kit=kit)}
    plugins = {"pratique-guard": guard}
    return SimpleNamespace(stash=stash, pluginmanager=SimpleNamespace(get_plugin=plugins.get))


@pytest.mark.parametrize(
    ("use", "allowed"), [("native+fake://far:1", ["fake://far:1"]), ("fake://far", ["fake://far"]), ("native", [])]
)
def test_guard_is_told_of_the_url_that_a_factory_names(
    make_kit: Callable[..., Kit], use: str, allowed: list[str]
) -> None:
    guard = FakeGuard()
    server = function_of(server_fixture("fake", use=use))
    assert server(config_with(make_kit(), guard)) is not None
    assert guard.allowed == allowed
    assert server(config_with(make_kit())) is not None  # the guard may be off


def test_missing_service_skips_and_says_which(make_kit: Callable[..., Kit]) -> None:
    kit = make_kit()
    for give_up in (lambda: function_of(server_fixture("fake", use="boxed"))(config_with(kit)), lambda: ask(kit)):
        with pytest.raises(pytest.skip.Exception) as caught:
            give_up()
        assert missing_behind(caught.value) == "fake"
    assert list(kit.books.missing) == ["fake"]
    assert missing_behind(pytest.skip.Exception("of another kind")) is None


def ask(kit: Kit) -> object:
    return Launcher(kit)("fake", "boxed")


def test_missing_service_that_is_required_fails(make_kit: Callable[..., Kit]) -> None:
    with pytest.raises(pytest.fail.Exception, match="no engine") as caught:
        ask(make_kit(is_required=True))
    assert caught.value.__context__ is None
    assert missing_behind(caught.value) == "fake"


@pytest.mark.parametrize("kind", [ServiceStartError, ServiceGoneError, TestkitUsageError])
def test_server_that_cannot_be_had_fails_without_frames_and_the_second_time_in_one_line(
    make_kit: Callable[..., Kit], fake_service: Any, kind: type[TestkitError]
) -> None:
    fake_service.connect_error = kind("Nobody answers:\n  refused.", hint="Is it running?")
    with pytest.raises(pytest.fail.Exception) as caught:
        function_of(server_fixture("fake", use="fake://there"))(config_with(make_kit()))
    outcome = caught.value
    assert isinstance(outcome, pytest.fail.Exception)
    assert not outcome.pytrace
    assert outcome.__context__ is None
    assert outcome.msg == "Nobody answers:\n  refused.\nHint: Is it running?"
    assert missing_behind(outcome) is None
    for _ in range(2):
        shorten_next(outcome, "test_a.py::test_one")
        assert outcome.msg == "Nobody answers: as for test_a.py::test_one."


def test_other_failures_keep_their_words() -> None:
    outcome = pytest.fail.Exception("as it was: said\nin full")
    shorten_next(outcome, "test_a.py::test_one")
    assert outcome.msg == "as it was: said\nin full"
    shorten_next(ValueError(), "test_a.py::test_one")


@pytest.mark.parametrize(
    ("fixture", "said"),
    [
        (server_fixture("valkey"), "Where valkey is, for the whole run."),
        (server_fixture("valkey", doc="As I say."), "As I say."),
        (namespace_fixture("pratique_valkey"), "One test's own part of `pratique_valkey`."),
        (namespace_fixture("pratique_valkey", scope="module"), "One part for each module of `pratique_valkey`."),
    ],
)
def test_fixtures_say_what_they_are(fixture: Any, said: str) -> None:
    assert function_of(fixture).__doc__ == said
