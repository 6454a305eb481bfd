"""What a feed's watcher tells, and whom: lines, a webhook, the ledger.

Every alert has an id that follows from what it is about. It may come twice where the watcher was killed between telling
and noting that it told; whoever gets it leaves out the second by the id. The ledger's sink does so itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import UnavailableError
from pratique.release.ledger.interface import Ledger
from pratique.release.predicates import Severity
from pratique.release.triage.answer import Answer, ComponentNote
from pratique.release.values import Digest

__all__ = ["AlertSink", "FeedAlert", "LedgerSink", "LineSink", "Noted", "WebhookSink"]

_FIRST_PAUSE_SECONDS: Final = 0.5
_TRY_AGAIN: Final = frozenset({408, 425, 429})
"""HTTP's "later, perhaps"; so are all of 500 and above. Other answers are the same the next time."""


class FeedAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An advisory that is new or changed, and what it means here."""

    schema_version: Literal[1] = 1
    id: Digest
    """Follows from the advisory's name and its record: the same news have the same."""
    advisory: str
    news: Literal["new", "changed", "withdrawn", "cleared"]
    """Cleared: it was told before, and concerns nothing now."""
    at: datetime
    answer: Answer


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger's entry of an alert says."""

    alert: Digest
    advisory: str
    news: str
    severity: Severity
    components: tuple[ComponentNote, ...]
    num_images: int


class AlertSink(Protocol):
    """Somebody who is told."""

    @property
    def name(self) -> str:
        """A word for people and for the watcher's state."""
        ...

    def send(self, alert: FeedAlert) -> None:
        """Tell.

        Raises:
            UnavailableError: it was not taken; the watcher tries again in its next round.
        """
        ...


@dataclass(frozen=True, slots=True)
class LineSink:
    """Alerts as lines, one JSON object each or as `render` has it."""

    write: Callable[[str], None]
    render: Callable[[FeedAlert], str] = lambda alert: msgspec.json.encode(alert).decode()
    name: str = "lines"

    def send(self, alert: FeedAlert) -> None:
        """Write it."""
        self.write(self.render(alert))


@dataclass(frozen=True, slots=True)
class WebhookSink:
    """Alerts as JSON that is posted, with the alert's id as `Idempotency-Key`."""

    url: str
    try_seconds: float
    max_tries: int
    wait: Callable[[float], None] = time.sleep
    name: str = "webhook"

    def send(self, alert: FeedAlert) -> None:
        """Post it, a few times where the answer may be another later.

        Raises:
            UnavailableError: it was not taken. The address, which may hold a secret, is not shown.
        """
        import urllib3

        from pratique.release.impatience import ImpatientPools

        headers = {"content-type": "application/json", "idempotency-key": alert.id}
        timeout = urllib3.Timeout(total=self.try_seconds)
        body, why = msgspec.json.encode(alert), ""
        with ImpatientPools(retries=False, timeout=timeout) as http:
            for number in range(self.max_tries):
                if number:
                    self.wait(_FIRST_PAUSE_SECONDS * 2**number * random.uniform(0.5, 1.0))  # noqa: S311 - a pause
                try:
                    answer = http.request("POST", self.url, body=body, headers=headers, preload_content=False)
                except urllib3.exceptions.HTTPError as error:
                    why = f"could not be reached: {type(error).__name__}"
                    continue
                answer.close()
                if 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's own numbers
                    return
                why = f"answered with status {answer.status}"
                if answer.status < 500 and answer.status not in _TRY_AGAIN:  # noqa: PLR2004 - HTTP's own number
                    break
        raise UnavailableError(f"the webhook {why}")


@dataclass(frozen=True, slots=True)
class LedgerSink:
    """Alerts as entries of the ledger: one about each running image, or one about the news where none runs."""

    ledger: Ledger
    actor: str
    name: str = "ledger"

    def send(self, alert: FeedAlert) -> None:
        """Append what is not there yet."""
        note = Noted(
            alert=alert.id,
            advisory=alert.advisory,
            news=alert.news,
            severity=alert.answer.advisories[0].severity if alert.answer.advisories else "unknown",
            components=alert.answer.components,
            num_images=alert.answer.num_images,
        )
        places = [(image.digest, place.environment) for image in alert.answer.running for place in image.places]
        for subject, environment in dict.fromkeys(places or [(alert.id, "")]):
            if not self._has(note, subject, environment):
                self.ledger.append("alert", subject, note, environment=environment, actor=self.actor)

    def _has(self, note: Noted, subject: Digest, environment: str) -> bool:
        for entry in self.ledger.entries(kinds=("alert",), subject=subject, environment=environment):
            try:
                if decode_json(entry.body, Noted).alert == note.alert:
                    return True
            except MalformedError:
                continue  # promotions have alerts of their own
        return False
