"""What every transport of one replica shares."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pratique.core.catalogue import orchestrator as catalogue
from pratique.core.catalogue.access import LIMITS_REACHED
from pratique.orchestrator.access.limits.pace import CallPace, Connections, NewSessions, OneAtATime
from pratique.orchestrator.sessions.sessions import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics, Total
    from pratique.orchestrator.access import Authenticator, Principal
    from pratique.orchestrator.access.audit import AuditLog
    from pratique.orchestrator.access.limits.interface import Limiter
    from pratique.orchestrator.api.service import ChatService
    from pratique.orchestrator.conversations.interface import ConversationStore
    from pratique.orchestrator.forward.interface import Forwarder
    from pratique.orchestrator.models.catalogue import ModelCatalogue
    from pratique.orchestrator.settings import OrchestratorSettings
    from pratique.orchestrator.upstream.poller import ModelPoller

__all__ = ["ApiInstruments", "Drain", "Runtime"]


class Drain:
    """Whether this replica is going away. It never comes back from that."""

    def __init__(self) -> None:
        self.is_draining = False
        self.listeners: set[Callable[[], None]] = set()
        """Called once, when it begins."""

    def begin(self) -> None:
        """Tell everybody who listens."""
        self.is_draining = True
        for listener in tuple(self.listeners):
            listener()


class ApiInstruments:
    """What the transports count."""

    def __init__(self, metrics: Metrics) -> None:
        self.connections = metrics.gauge(catalogue.CONNECTIONS)
        self.connections_cut = metrics.counter(catalogue.CONNECTIONS_CUT)
        self._metrics = metrics
        self._events_sent: dict[str, Total] = {}
        self.frames_refused = metrics.counter(catalogue.FRAMES_REFUSED)
        self.http_requests = metrics.counter(catalogue.HTTP_REQUESTS)
        self.limits_reached = metrics.counter(LIMITS_REACHED)

    def events_sent(self, transport: str) -> Total:
        """Return what counts the events sent by a transport, the same for all of its connections."""
        if transport not in self._events_sent:
            counter = self._metrics.counter(catalogue.EVENTS_SENT).labels(transport=transport)
            self._events_sent[transport] = self._metrics.total(counter)
        return self._events_sent[transport]


@dataclass(kw_only=True)
class Runtime:
    """The parts of one replica that its transports use. Built and owned by `app`."""

    settings: OrchestratorSettings
    service: ChatService
    store: ConversationStore
    authenticator: Authenticator
    poller: ModelPoller
    models: ModelCatalogue
    forwarder: Forwarder
    """To the model servers, for the OpenAI proxy; by whichever lane."""
    limiter: Limiter
    audit: AuditLog
    metrics: Metrics
    instruments: ApiInstruments
    clock: Clock
    drain: Drain = field(default_factory=Drain)
    num_connections: int = 0
    """Open streaming connections, WebSocket and SSE, and requests that are as long."""

    def __post_init__(self) -> None:
        self.connections = Connections(self.settings.access.limits)
        self.new_sessions = NewSessions(self.settings.access.limits)
        self.calls = CallPace(self.settings.access.limits)
        self.personal = OneAtATime("exports and erasures")

    @contextmanager
    def connected(self, principal: Principal) -> Iterator[None]:
        """Count one long request among the connections for as long as the body runs.

        Raises:
            OverloadedError, LimitExceededError: this replica, or the principal, has as many as it may.
        """
        if self.num_connections >= self.settings.max_connections:
            raise OverloadedError("This replica serves as many connections as it may.", hint="Try again in a moment.")
        with self.connections.one(principal):
            self.num_connections += 1
            try:
                yield
            finally:
                self.num_connections -= 1
