"""Where alerts go: the log, the ledger, a webhook. One that fails keeps no other from hearing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.release.errors import UnavailableError
from pratique.release.ledger.interface import Ledger
from pratique.release.promotion.interface import Alert, AlertSink

__all__ = ["LedgerAlerts", "LogAlerts", "WebhookAlerts", "send_to_all"]


def send_to_all(sinks: Sequence[AlertSink], alert: Alert) -> tuple[str, ...]:
    """Tell every sink; return the names of those that failed, which are logged."""
    failed = []
    for sink in sinks:
        try:
            sink.send(alert)
        except PratiqueError as error:
            failed.append(sink.name)
            get_logger("release").error("alert_not_delivered", sink=sink.name, rollout=alert.rollout, why=error.message)
    return tuple(failed)


class LogAlerts:
    """Alerts as events of the log."""

    name = "log"

    def send(self, alert: Alert) -> None:
        """Log it as an error, with all it says."""
        fields = msgspec.to_builtins(alert)
        get_logger("release").error("rollout_alert", **{f"alert_{name}": value for name, value in fields.items()})


@dataclass(frozen=True, slots=True)
class LedgerAlerts:
    """Alerts as entries of the ledger."""

    ledger: Ledger
    actor: str
    name: str = "ledger"

    def send(self, alert: Alert) -> None:
        """Append it."""
        self.ledger.append("alert", alert.digest, alert, environment=alert.environment, actor=self.actor)


@dataclass(frozen=True, slots=True)
class WebhookAlerts:
    """Alerts as JSON that is posted to an address."""

    url: str
    deadline_seconds: float
    name: str = "webhook"

    def send(self, alert: Alert) -> None:
        """Post it, once.

        Raises:
            UnavailableError: it was not taken. The address, which may hold a secret, is not shown.
        """
        import urllib3

        from pratique.release.impatience import ImpatientPools

        timeout = urllib3.Timeout(total=self.deadline_seconds)
        headers = {"content-type": "application/json"}
        try:
            with ImpatientPools(retries=False, timeout=timeout) as http:
                answer = http.request(
                    "POST", self.url, body=msgspec.json.encode(alert), headers=headers, preload_content=False
                )
                status = answer.status
                answer.close()
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(f"the webhook could not be reached: {type(error).__name__}") from error
        if not 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
            raise UnavailableError(f"the webhook answered with status {status}")
