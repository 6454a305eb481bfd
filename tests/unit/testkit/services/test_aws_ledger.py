"""What is new outside of namespaces, and who made it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pratique.testkit.services.aws import ledger as module
from pratique.testkit.services.aws.ledger import Foreign, Ledger

pytestmark = pytest.mark.unit

HERE = "http://127.0.0.1:1000"
ELSEWHERE = "http://127.0.0.1:2000"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(operation="dynamodb.CreateTable", parameter="TableName")


def make(ledger: Ledger, name: object, *, url: str = HERE, status: int = 200) -> None:
    """Tell what botocore tells, in its order."""
    context: dict[str, Any] = {}
    ledger._keep_name(params={"TableName": name}, context=context, model=None)
    ledger._keep_server(params={"url": f"{url}/"}, context=context)
    ledger._note(http_response=SimpleNamespace(status_code=status), context=context, parsed={})


def test_what_this_process_made_after_the_mark_is_ours_and_told_once(ledger: Ledger) -> None:
    make(ledger, "before")
    mark = ledger.mark()
    make(ledger, "after")
    assert ledger.assess(HERE, mark, ["before", "after"]) == [Foreign(name="after", is_ours=True)]
    assert ledger.assess(HERE, mark, ["before", "after"]) == []


def test_what_only_a_listing_shows_is_not_known_to_be_ours(ledger: Ledger) -> None:
    ledger.learn(HERE, ["old", "pq12ab34n1-orders"])
    assert ledger.knows(HERE)
    assert not ledger.knows(ELSEWHERE)
    found = ledger.assess(HERE, ledger.mark(), ["old", "new", "pq12ab34n1-orders", "pq12ab34n2-orders"])
    assert found == [Foreign(name="new", is_ours=False)]


def test_what_is_gone_again_is_no_leak_and_a_leak_when_it_is_made_anew(ledger: Ledger) -> None:
    make(ledger, "brief")
    assert ledger.assess(HERE, 0, []) == []
    mark = ledger.mark()
    make(ledger, "brief")
    assert ledger.assess(HERE, mark, ["brief"]) == [Foreign(name="brief", is_ours=True)]


def test_what_was_there_before_is_nobodys_leak_though_it_was_made_again(ledger: Ledger) -> None:
    ledger.learn(HERE, ["bucket"])
    make(ledger, "bucket")  # S3 and SQS take a second creation
    assert ledger.assess(HERE, 0, ["bucket"]) == []


@pytest.mark.parametrize(
    "creation",
    [{"status": 400}, {"url": ELSEWHERE}],
    ids=["refused by the server", "on another server"],
)
def test_what_was_not_made_on_this_server_is_not_noted(ledger: Ledger, creation: dict[str, Any]) -> None:
    make(ledger, "orders", **creation)
    assert ledger.made_since(HERE, 0) == set()


@pytest.mark.parametrize("name", [None, 7, "pq12ab34n1-orders"])
def test_what_has_no_foreign_name_is_not_noted(ledger: Ledger, name: object) -> None:
    make(ledger, name)
    assert ledger.mark() == 0


def test_an_answer_without_a_question_is_not_noted(ledger: Ledger) -> None:
    ledger._keep_server(params={"url": HERE}, context={})
    ledger._note(http_response=SimpleNamespace(status_code=200), context={})
    assert ledger.mark() == 0


def test_the_ledger_is_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BOUND", 2)
    for number in range(5):
        make(ledger, f"t{number}")
    assert ledger.mark() == 2


def test_installed_twice_it_hears_once_and_the_default_session_too(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from botocore import handlers

    registered: list[str] = []
    session = SimpleNamespace(events=SimpleNamespace(register=lambda event, _: registered.append(event)))
    monkeypatch.setattr(handlers, "BUILTIN_HANDLERS", [])
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    ledger.install()
    ledger.install()
    expected = [f"{event}.dynamodb.CreateTable" for event in ("before-parameter-build", "before-call", "after-call")]
    assert [event for event, _ in handlers.BUILTIN_HANDLERS] == registered == expected
