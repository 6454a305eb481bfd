"""What the kit decides: whom it asks, what names it gives, what it notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.host.launch import ProcessLaunch, TcpReady
from pratique.testkit.kit import Books, Kit, Leak, LeakError, Use
from pratique.testkit.options import LeakMode, Options
from pratique.testkit.services.interface import Backend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAUNCH = ProcessLaunch(command=("x",), ready=TcpReady())

pytestmark = pytest.mark.unit


def test_endpoint_is_asked_for_once_and_noted(make_kit: Callable[..., Kit], fake_host: Any) -> None:
    kit = make_kit()
    endpoint = kit.endpoint("fake")
    assert kit.endpoint("fake", "auto") is endpoint
    assert endpoint.url == "fake://127.0.0.1:1"
    assert len(fake_host.asked) == 1
    assert fake_host.asked[0].startswith("ensure fake-")
    assert fake_host.asked[0].endswith(" fake/native")
    (use,) = kit.books.uses.values()
    assert (use.provider, use.version, use.start_seconds, use.gaps) == (
        "native",
        "1.2",
        0.25,
        {"depth": "it is shallow"},
    )


def test_server_by_url_asks_no_host_and_has_no_known_gaps(
    make_kit: Callable[..., Kit], fake_host: Any, fake_service: Any
) -> None:
    kit = make_kit(back_end="fake://me:secret@there:7")
    assert (kit.endpoint("fake").host, kit.endpoint("fake").port) == ("there", 7)
    assert kit.provider("fake") is None
    assert kit.provider("fake", "native") is fake_service.providers[0]
    assert kit.endpoint("fake").provider == "url"
    assert kit.endpoint("fake").supports("depth")
    assert kit.tail_of(kit.endpoint("fake")) == ""
    assert fake_host.asked == []


def test_server_by_url_of_which_the_provider_is_said_has_its_gaps(make_kit: Callable[..., Kit], fake_host: Any) -> None:
    kit = make_kit(back_end="native+fake://there:7")
    endpoint = kit.endpoint("fake")
    assert (endpoint.url, endpoint.backend, endpoint.provider) == ("fake://there:7", Backend.URL, "native")
    assert not endpoint.supports("depth")
    assert kit.books.uses["fake/native"].gaps == {"depth": "it is shallow"}
    assert fake_host.asked == []
    with pytest.raises(TestkitUsageError, match="'nativ' before the URL fake://there is no provider"):
        kit.endpoint("fake", "nativ+fake://there")


@pytest.mark.parametrize(
    ("worker", "reuse_seconds", "is_alone"), [("", None, True), ("gw0", None, False), ("", 60.0, False)]
)
def test_a_server_is_ones_own_unless_workers_or_other_runs_use_it(
    fake_host: Any, fake_service: Any, worker: str, reuse_seconds: float | None, is_alone: bool
) -> None:
    options = Options(back_ends={}, reuse_seconds=reuse_seconds)
    kit = Kit(services={"fake": fake_service}, options=options, host=fake_host, run="abcdef", worker=worker)
    assert kit.endpoint("fake").is_alone is is_alone
    assert kit.launch("fake").endpoint.is_alone


def test_private_server_is_started_here_also_where_the_run_has_a_url(
    make_kit: Callable[..., Kit], fake_host: Any
) -> None:
    server = make_kit(back_end="fake://there:7").launch("fake")
    assert server.url == "fake://127.0.0.1:1"
    assert len(fake_host.asked) == 1


def test_unknown_service_is_named_with_those_that_are_known(make_kit: Callable[..., Kit]) -> None:
    with pytest.raises(TestkitUsageError, match=r"no service 'fakke'.*Known: fake"):
        make_kit().endpoint("fakke")


def test_names_fit_and_differ_between_workers_and_calls(make_kit: Callable[..., Kit]) -> None:
    kit = make_kit()
    names = [kit.new_name() for _ in range(3)]
    assert names == ["pqabcdefw3n1", "pqabcdefw3n2", "pqabcdefw3n3"]
    assert all(name.isalnum() and len(name) <= 20 for name in names)


def test_private_server_is_stopped_once(make_kit: Callable[..., Kit], fake_host: Any) -> None:
    server = make_kit().launch("fake")
    server.pause()
    server.resume()
    server.kill()
    server.restart()
    server.stop()
    server.stop()
    key = "fake-pqabcdefw3n1"
    assert fake_host.asked == [
        *(f"{one} {key}" for one in ("ensure", "pause", "resume", "kill")),
        f"restart {key} within {LAUNCH.start_seconds:g} s",
        f"stop {key}",
    ]
    assert server.tail(3) == f"3 lines of {key}"


def test_private_server_that_cannot_be_connected_is_stopped(
    make_kit: Callable[..., Kit], fake_host: Any, fake_service: Any
) -> None:
    fake_service.connect_error = RuntimeError("no")
    with pytest.raises(RuntimeError):
        make_kit().launch("fake")
    assert fake_host.asked[-1] == "stop fake-pqabcdefw3n1"


def run_test(kit: Kit) -> None:
    with kit.namespace(kit.endpoint("fake"), "test_a"):
        pass


def test_leak_is_noted_with_the_test(make_kit: Callable[..., Kit], fake_service: Any) -> None:
    fake_service.left = ["a table"]
    kit = make_kit()
    run_test(kit)
    assert kit.books.leaks == [Leak(test="test_a", service="fake", what="a table")]
    assert fake_service.events == ["open pqabcdefw3n1", "leaks", "close"]


def test_leak_that_is_an_error_is_raised_after_the_namespace_is_closed(
    make_kit: Callable[..., Kit], fake_service: Any
) -> None:
    fake_service.left = ["a table", "a key"]
    with pytest.raises(LeakError, match="test_a left behind in fake: a table; a key"):
        run_test(make_kit(leaks=LeakMode.ERROR))
    assert fake_service.events[-1] == "close"


def test_leaks_that_are_off_are_not_looked_for(make_kit: Callable[..., Kit], fake_service: Any) -> None:
    fake_service.left = ["a table"]
    run_test(make_kit(leaks=LeakMode.OFF))
    assert "leaks" not in fake_service.events


def test_look_for_leaks_that_fails_closes_the_namespace_all_the_same(
    make_kit: Callable[..., Kit], fake_service: Any
) -> None:
    fake_service.leak_error = RuntimeError("no")
    with pytest.raises(RuntimeError):
        run_test(make_kit())
    assert fake_service.events[-1] == "close"


def test_failure_of_the_body_wins_over_its_leaks(make_kit: Callable[..., Kit], fake_service: Any) -> None:
    fake_service.left = ["a table"]
    kit = make_kit(leaks=LeakMode.ERROR)
    with pytest.raises(ZeroDivisionError), kit.namespace(kit.endpoint("fake"), "test_a"):
        raise ZeroDivisionError
    assert len(kit.books.leaks) == 1


def test_namespace_that_cannot_be_opened_on_a_living_server_is_an_error(
    make_kit: Callable[..., Kit], fake_service: Any
) -> None:
    fake_service.failures = [OSError("refused")]
    kit = make_kit()
    with pytest.raises(OSError, match="refused"):
        run_test(kit)
    assert kit.books.deaths == []


def test_namespace_is_opened_on_the_server_that_was_started_again(
    make_kit: Callable[..., Kit], fake_service: Any, fake_host: Any
) -> None:
    kit = make_kit()
    run_test(kit)
    fake_service.failures, fake_host.starts = [OSError("refused")], 2
    run_test(kit)
    assert kit.books.deaths == ["fake: had died before test_a, and was started again, empty"]


def test_namespace_of_a_server_that_is_not_shared_is_not_started_again(
    make_kit: Callable[..., Kit], fake_service: Any
) -> None:
    kit = make_kit()
    server = kit.launch("fake")
    fake_service.failures = [OSError("refused")]
    with pytest.raises(OSError, match="refused"), kit.namespace(server.endpoint, "test_a"):
        pass


def test_log_is_what_was_written_since_the_test_began(
    make_kit: Callable[..., Kit], fake_host: Any, tmp_path: Path
) -> None:
    fake_host.logs = tmp_path
    kit = make_kit()
    log = tmp_path / kit.asked_for("fake").key
    log.write_text("of others\n")
    endpoint = kit.endpoint("fake")
    assert kit.tail_of(endpoint) == ""
    log.write_text("of others\none\ntwo\n")
    assert kit.tail_of(endpoint) == "one\ntwo"
    assert kit.tail_of(endpoint, 1) == "two"
    kit.begin_test()
    assert kit.tail_of(kit.endpoint("fake")) == ""
    log.unlink()
    assert kit.tail_of(endpoint) == ""
    kit.begin_test()


def test_log_of_a_private_server_is_the_tests_as_a_whole(
    make_kit: Callable[..., Kit], fake_host: Any, tmp_path: Path
) -> None:
    fake_host.logs = tmp_path
    kit = make_kit()
    server = kit.launch("fake")
    (tmp_path / server.key).write_text("started\n")
    assert kit.tail_of(server.endpoint) == "started"


def test_other_version_is_another_server(make_kit: Callable[..., Kit], fake_service: Any) -> None:
    key = make_kit().asked_for("fake").key
    fake_service.version = "1.3"
    assert make_kit().asked_for("fake").key != key


def use(seconds: float) -> Use:
    return Use(service="a", title="A", backend="b", provider="c", version="1", start_seconds=seconds, gaps={})


def test_books_of_workers_add_up() -> None:
    books = Books()
    books.add(Books(uses={"a": use(0)}, missing={"m": "why"}, refused={"m": 2}, deaths=["d"]))
    books.add(Books(uses={"a": use(1)}, refused={"m": 3}, leaks=[Leak(test="t", service="a", what="w")]))
    books.add(Books(uses={"a": use(9)}, unproven={"a": "a://there"}))
    assert (books.uses["a"].start_seconds, books.refused, books.deaths, len(books.leaks)) == (1, {"m": 5}, ["d"], 1)
    assert books.unproven == {"a": "a://there"}
    assert msgspec.json.decode(msgspec.json.encode(books), type=Books) == books
