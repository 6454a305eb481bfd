"""Who comes in, on every transport: head, origin, credential, scope, in that order; and the record of who did not.

Closed by default: what a path asks for is decided by `access.scopes`, and a path that it does not know asks for most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.errors import PratiqueError
from pratique.orchestrator.access import check_origin, scope_of_path, verify_scope
from pratique.orchestrator.access.audit import AuditEvent
from pratique.orchestrator.access.errors import AccessError, ForbiddenError, HeadersRefusedError, HiddenError
from pratique.orchestrator.access.limits.interface import LimitExceededError
from pratique.orchestrator.access.wire import (
    believed,
    network_of,
    parse_networks,
    remote_of,
    request_id_of,
    verify_head,
)
from pratique.orchestrator.api.requests import PRINCIPAL, REMOTE, headers_of
from pratique.orchestrator.conversations.errors import ConversationNotFoundError, GenerationNotFoundError

if TYPE_CHECKING:
    from starlette.types import Scope as AsgiScope

    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.access.authenticator import SessionGrant
    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["Admission", "record", "session_of"]

_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_MAX_SUBJECT_CHARACTERS = 200


class Admission:
    """Decides for one replica."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._trusted = parse_networks(runtime.settings.access.trusted_proxies)

    async def admit(self, scope: AsgiScope) -> Principal | None:
        """Return who asks; None where the path is public.

        From here on the scope has only headers that are believed, the address that the request came from, and who asks.

        Raises:
            HeadersRefusedError, OriginRefusedError, UnauthenticatedError, ForbiddenError, KeysUnavailableError,
            LimitExceededError.
        """
        peer = (scope.get("client") or ("", 0))[0]
        scope[REMOTE] = remote_of(peer, scope["headers"], self._trusted)
        try:
            return await self._decide(scope)
        except PratiqueError as error:
            self.refused(scope, error, scope.get(PRINCIPAL))
            raise

    async def _decide(self, scope: AsgiScope) -> Principal | None:
        verify_head(scope["headers"], http_version=scope.get("http_version", "1.1"))
        scope["headers"] = believed(scope["headers"])
        headers = headers_of(scope)
        is_socket = scope["type"] == "websocket"
        if is_socket or scope["method"] in _WRITING:
            check_origin(headers, allowed=self._runtime.settings.allowed_origins)
        authenticator = self._runtime.authenticator
        await authenticator.prepare(headers)
        path: str = scope["path"]
        needed = scope_of_path(path)
        if needed is None:
            return None
        is_openai = path == "/v1" or path.startswith("/v1/")
        # A page's cookie is no credential there.
        principal = authenticator.authenticate_key(headers) if is_openai else authenticator.authenticate(headers)
        # Before its scope is looked at: a refusal is recorded with the name of whom it was told.
        scope[PRINCIPAL] = principal
        verify_scope(principal, needed)
        if not is_openai:  # where each request is counted by the limiter
            self._runtime.calls.verify(principal, self._runtime.clock.monotonic())
        return principal

    def refused(self, scope: AsgiScope, error: PratiqueError, principal: Principal | None = None) -> None:
        """Count and record a refusal."""
        self._runtime.instruments.frames_refused.labels(code=error.code).inc()
        if isinstance(error, LimitExceededError):
            self._runtime.instruments.limits_reached.labels(limit=error.limit).inc()
        noted = _noted(error)
        if noted is not None:
            action, subject, detail = noted
            record(self._runtime, scope, action, outcome="refused", principal=principal, subject=subject, detail=detail)


def _noted(error: PratiqueError) -> tuple[str, str, str] | None:
    """Return the action, the subject and the detail that are recorded of a refusal; None where nothing is.

    The detail is what it was for, also where the one who asks is told something else. An id that is not there may be
    somebody else's or nobody's: whoever tries them out is seen in either.
    """
    found: tuple[str, str, str] | None = None
    if isinstance(error, LimitExceededError):
        found = ("limit.reached", "", error.limit)
    elif isinstance(error, ConversationNotFoundError):
        found = ("access", error.conversation_id, error.code)
    elif isinstance(error, GenerationNotFoundError):
        found = ("access", error.generation_id, error.code)
    elif isinstance(error, HiddenError):
        found = ("access", "", ForbiddenError.code)
    elif isinstance(error, HeadersRefusedError):
        found = ("access", "", "headers_refused")
    elif isinstance(error, AccessError):
        found = ("access", "", error.code)
    return found


def session_of(runtime: Runtime, scope: AsgiScope) -> SessionGrant:
    """Return who asks, with a new session where there is none.

    Raises:
        LimitExceededError: the address has had as many new sessions as it may.
        UnauthenticatedError, KeysUnavailableError: as `Authenticator.session` does.
    """
    grant = runtime.authenticator.session(headers_of(scope))
    if grant.is_new:
        runtime.new_sessions.verify(network_of(scope.get(REMOTE, "")), runtime.clock.monotonic())
    return grant


def record(
    runtime: Runtime,
    scope: AsgiScope,
    action: str,
    *,
    outcome: str = "ok",
    principal: Principal | None = None,
    subject: str = "",
    detail: str = "",
) -> None:
    """Put a record about a request into the audit log; by default its subject is the request's path."""
    runtime.audit.record(
        AuditEvent(
            action=action,
            outcome=outcome,
            principal_id=principal.principal_id if principal is not None else "",
            subject=(subject or scope["path"])[:_MAX_SUBJECT_CHARACTERS],
            detail=detail,
            remote=scope.get(REMOTE, ""),
            request_id=request_id_of(headers_of(scope)),
        )
    )
