"""Alerts: every sink hears, whatever happens to another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest
import structlog
from tests.unit.release.promotion.rollout_parts import A, B, Heard, MemoryLedger

from pratique.release.errors import UnavailableError
from pratique.release.promotion.alerts import LedgerAlerts, LogAlerts, WebhookAlerts, send_to_all
from pratique.release.promotion.interface import Alert, SystemPace

pytestmark = pytest.mark.unit

ALERT = Alert(
    event="canary_failed",
    rollout=A,
    environment="production",
    target="local",
    repository="registry.example/chat",
    digest=B,
    baseline=A,
    at=datetime(2026, 11, 26, 2, tzinfo=UTC),
    summary="latency_seconds: worse than allowed",
)


class Away:
    name = "away"

    def send(self, alert: Alert) -> None:
        raise UnavailableError(f"nobody takes {alert.event}")


def test_a_sink_that_fails_keeps_no_other_from_hearing() -> None:
    heard = Heard()
    with structlog.testing.capture_logs() as events:
        assert send_to_all((Away(), heard), ALERT) == ("away",)
    assert heard.events == ["canary_failed"]
    assert [(one["event"], one["sink"]) for one in events] == [("alert_not_delivered", "away")]


def test_the_ledger_keeps_the_whole_alert() -> None:
    ledger = MemoryLedger()
    LedgerAlerts(ledger, "somebody").send(ALERT)
    (entry,) = ledger.written
    assert (entry.kind, entry.subject, entry.environment) == ("alert", B, "production")
    assert msgspec.json.decode(entry.body, type=Alert) == ALERT


def test_the_log_has_the_deployment_and_the_reason() -> None:
    with structlog.testing.capture_logs() as events:
        LogAlerts().send(ALERT)
    assert (events[0]["event"], events[0]["alert_rollout"]) == ("rollout_alert", A)
    assert events[0]["alert_summary"] == "latency_seconds: worse than allowed"


class Hook:
    """A webhook that answers with a status, and keeps what it got."""

    def __init__(self) -> None:
        self.status = 204
        self.got: list[bytes] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(hook.status)
                if hook.status == 302:
                    self.send_header("location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?token=secret"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_the_webhook_gets_the_alert_as_json(hook: Hook) -> None:
    WebhookAlerts(hook.url, 5.0).send(ALERT)
    assert [msgspec.json.decode(one, type=Alert) for one in hook.got] == [ALERT]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_does_not_take_it_is_an_error_and_asked_once(hook: Hook, status: int) -> None:
    hook.status = status
    with pytest.raises(UnavailableError, match=f"status {status}"):
        WebhookAlerts(hook.url, 5.0).send(ALERT)
    assert len(hook.got) == 1


def test_a_webhook_that_is_away_does_not_show_its_address() -> None:
    with pytest.raises(UnavailableError) as caught:
        WebhookAlerts("http://127.0.0.1:1/hook?token=secret", 1.0).send(ALERT)
    assert "secret" not in str(caught.value)


def test_the_machines_own_time_waits() -> None:
    pace = SystemPace()
    began = pace.monotonic()
    pace.wait(0.01)
    pace.wait(-1.0)
    assert 0.01 <= pace.monotonic() - began < 5.0
    assert pace.epoch() > 1_700_000_000
