"""What the plugin says, and that no fixture's value can break it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.outcomes import Failed, Skipped

from pratique.testkit import report
from pratique.testkit.errors import HostGoneError
from pratique.testkit.fixtures import Launcher
from pratique.testkit.host.launch import Statuses
from pratique.testkit.kit import Books, Leak, Use
from pratique.testkit.services.interface import Endpoint
from pratique.testkit.startup import begin_early, status_soon, wanted_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pratique.testkit.kit import Kit

pytestmark = pytest.mark.unit

GAPS = "; does not show: depth"


def test_header_says_what_was_asked_for_and_looks_for_nothing() -> None:
    asked = {"a": "auto", "b": "container", "c": "x+c://me:secret@there"}
    assert report.header_lines(asked) == ["pratique: asked for: b by container, c at x+c://me:***@there"]
    assert report.header_lines({"a": "auto"}) == []


@pytest.mark.parametrize(
    ("back_end", "is_required", "standing"),
    [
        ("auto", False, f"fake is native 1.2 (process), starts with the first test that asks{GAPS}"),
        ("boxed", False, "fake is not here: its tests are skipped"),
        ("boxed", True, "fake is not here: its tests fail"),
        ("fake://me:secret@there", False, "fake at fake://me:***@there"),
        ("native+fake://there", False, f"fake is native at fake://there{GAPS}"),
    ],
)
def test_wanted_service_that_was_not_begun(
    make_kit: Callable[..., Kit], back_end: str, is_required: bool, standing: str
) -> None:
    kit = make_kit(back_end=back_end, is_required=is_required)
    assert report.wanted_lines(kit, [("fake", None)], None) == [f"pratique: {standing}"]


def test_wanted_service_is_starting_and_then_ready(make_kit: Callable[..., Kit], fake_host: Any) -> None:
    kit = make_kit()
    asked = kit.asked_for("fake")
    labels: dict[str, tuple[str, ...]] = {asked.key: (asked.label, "gone/x", "fake/unknown")}
    begun = Statuses(servers=(), starting=(asked.key,), labels=labels, pid=1)
    ready = Statuses(servers=(fake_host.running(asked.key),), starting=(), labels=labels, pid=1)
    for status, standing in ((begun, "starting"), (ready, "ready after 0.25 s")):
        line = f"pratique: fake is native 1.2 (process), {standing}{GAPS}"
        assert report.wanted_lines(kit, [("fake", None)], status) == [line]
        assert report.started_lines(kit, status) == [line]


def test_service_that_was_removed_meanwhile_has_no_version(make_kit: Callable[..., Kit], fake_service: Any) -> None:
    fake_service.is_here = False
    status = Statuses(servers=(), starting=("k",), labels={"k": ("fake/native",)}, pid=1)
    assert report.started_lines(make_kit(), status) == [f"pratique: fake is native (process), starting{GAPS}"]


@pytest.mark.parametrize(
    ("needed", "is_required", "outcome", "said"),
    [
        (["width"], False, None, ""),
        (["depth"], False, Skipped, "needs('depth'): native lacks it: it is shallow"),
        (["width", "depth"], True, Failed, "needs('depth'): native lacks it"),
        (["weight"], False, Failed, "needs('weight'): no service of this test knows it. Known: depth, width."),
    ],
)
def test_need_is_refused_where_the_back_end_lacks_it(
    make_kit: Callable[..., Kit], needed: list[str], is_required: bool, outcome: type[BaseException] | None, said: str
) -> None:
    kit = make_kit(is_required=is_required)
    if outcome is None:
        report.refuse_gaps(kit, needed, [("fake", None)])
        return
    with pytest.raises(outcome, match=re.escape(said)):
        report.refuse_gaps(kit, needed, [("fake", None)])


def test_need_of_a_server_by_url_is_checked_where_its_provider_was_said(make_kit: Callable[..., Kit]) -> None:
    kit = make_kit(back_end="native+fake://there")
    with pytest.raises(Skipped, match="native lacks it"):
        report.refuse_gaps(kit, ["depth"], [("fake", None)])
    assert kit.books.unproven == {}


def test_need_of_a_server_by_url_that_nobody_named_runs_and_is_told_once(make_kit: Callable[..., Kit]) -> None:
    kit = make_kit(back_end="fake://me:secret@there")
    for _ in range(2):
        report.refuse_gaps(kit, ["depth", "width"], [("fake", None)])
    said = "fake at fake://me:***@there: nothing is known of what it shows and what it does not. Say what it is: "
    section = ("needs that were not checked", [f"{said}--pratique-fake=PROVIDER+URL"])
    assert list(report.summary(kit.books, is_quiet=True)) == [section]


def test_need_of_a_missing_service_is_left_to_its_fixture(make_kit: Callable[..., Kit]) -> None:
    report.refuse_gaps(make_kit(back_end="boxed"), ["depth"], [("fake", None)])


class Proxy:
    @property
    def endpoint(self) -> None:
        raise RuntimeError("outside of context")


class Told:
    def __init__(self, endpoint: Any, said: Any) -> None:
        self.endpoint = endpoint
        self.said = said

    def report(self) -> list[tuple[str, str]]:
        if isinstance(self.said, Exception):
            raise self.said
        return [("what was asked", self.said), ("empty", "")]


def test_failure_sections_are_told_once_and_survive_every_value(
    make_kit: Callable[..., Kit], fake_host: Any, tmp_path: Path
) -> None:
    fake_host.logs = tmp_path
    kit = make_kit()
    endpoint = kit.endpoint("fake")
    beside = Endpoint(service="beside", connection=endpoint.connection)
    silent = kit.launch("fake").endpoint
    launcher = Launcher(kit)
    for one in (endpoint, launcher("fake").endpoint):
        (tmp_path / one.connection.key).write_text("said\n")
    values = {
        "a": endpoint,
        "b": endpoint,
        "c": Proxy(),
        "d": 7,
        "e": Told(endpoint, "GET /"),
        "f": Told(endpoint, ValueError("no")),
        "g": launcher,
        "h": beside,
        "i": silent,
    }
    titles = [title for title, _ in report.failure_sections(kit, values)]
    logged = "(native 1.2): logged since this test began"
    assert titles == ["what was asked", "report of Told", f"fake, beside {logged}", f"fake {logged}"]


USE = Use(service="a", title="A", backend="process", provider="c", version="1", start_seconds=0.5, gaps={"g": "why"})
URL = Use(service="b", title="B", backend="url", provider="url", version="", start_seconds=0, gaps={})


def test_summary_says_all_and_quietly_only_what_should_not_be() -> None:
    books = Books(
        uses={"b": URL, "a": USE},
        missing={"m": "why", "n": "why not"},
        refused={"m": 1, "n": 2},
        deaths=["x died"],
        leaks=[Leak(test="t", service="a", what="w")],
    )
    services = ("services", ["a: c 1 (process, ready after 0.50 s)", "    does not show g: why", "b: url (url)"])
    troubles = [
        ("services that are not here", ["m: 1 test skipped. why", "n: 2 tests skipped. why not"]),
        ("services that died", ["x died"]),
        ("left behind", ["t: a: w"]),
    ]
    assert list(report.summary(books, is_quiet=False)) == [services, *troubles]
    assert list(report.summary(books, is_quiet=True)) == troubles
    required = dict(report.summary(books, is_quiet=True, is_required=True))
    assert required["services that are not here"] == ["m: 1 test failed. why", "n: 2 tests failed. why not"]
    assert list(report.summary(Books(), is_quiet=False)) == []


# What is started early


def test_early_start_asks_for_what_is_quick_and_here(
    make_kit: Callable[..., Kit], fake_host: Any, fake_service: Any
) -> None:
    begin_early(make_kit(back_end="fake://there"), [("fake", None)])
    begin_early(make_kit(back_end="boxed"), [("fake", None)])
    assert fake_host.labels == {}
    begin_early(make_kit(), [("fake", None)])
    assert list(fake_host.labels.values()) == [("fake/native",)]
    fake_service.starts_early, fake_host.labels = False, {}
    begin_early(make_kit(), [("fake", None)])
    assert fake_host.labels == {}


def test_early_start_without_a_host_is_left_to_the_test(make_kit: Callable[..., Kit], fake_host: Any) -> None:
    fake_host.is_gone = True
    kit = make_kit()
    begin_early(kit, [("fake", None)])
    assert status_soon(kit) is None
    with pytest.raises(HostGoneError):
        kit.begin("fake")


def test_status_is_not_waited_for_beyond_half_a_second(
    make_kit: Callable[..., Kit], fake_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_host.starting = ("slow",)
    clock = iter([0.0, 0.2, 0.6])
    monkeypatch.setattr("pratique.testkit.startup.time.monotonic", lambda: next(clock))
    slept: list[float] = []
    monkeypatch.setattr("pratique.testkit.startup.time.sleep", slept.append)
    status = status_soon(make_kit())
    assert status is not None
    assert status.starting == ("slow",)
    assert len(slept) == 1


def test_items_of_other_kinds_need_nothing(request: pytest.FixtureRequest) -> None:
    assert wanted_by([request.node]) == []
