"""Who is asking, what they may do and how much: sessions, keys, tokens, limits, audit. Knows no web framework."""

from pratique.orchestrator.access.authenticator import Authenticator, SessionGrant
from pratique.orchestrator.access.errors import (
    AccessError,
    ForbiddenError,
    HeadersRefusedError,
    KeysUnavailableError,
    OriginRefusedError,
    SecretsUnavailableError,
    UnauthenticatedError,
)
from pratique.orchestrator.access.headers import (
    AFFINITY_COOKIE,
    AFFINITY_HEADER,
    SECURE_SESSION_COOKIE,
    SESSION_COOKIE,
    AffinityGrant,
    affinity,
    check_origin,
)
from pratique.orchestrator.access.keys import ApiKey, ApiKeyFile
from pratique.orchestrator.access.principal import Principal, PrincipalKind
from pratique.orchestrator.access.scopes import Scope, scope_of_path, verify_scope
from pratique.orchestrator.access.sessions import SessionSigner, load_secrets

__all__ = [
    "AFFINITY_COOKIE",
    "AFFINITY_HEADER",
    "SECURE_SESSION_COOKIE",
    "SESSION_COOKIE",
    "AccessError",
    "AffinityGrant",
    "ApiKey",
    "ApiKeyFile",
    "Authenticator",
    "ForbiddenError",
    "HeadersRefusedError",
    "KeysUnavailableError",
    "OriginRefusedError",
    "Principal",
    "PrincipalKind",
    "Scope",
    "SecretsUnavailableError",
    "SessionGrant",
    "SessionSigner",
    "UnauthenticatedError",
    "affinity",
    "check_origin",
    "load_secrets",
    "scope_of_path",
    "verify_scope",
]
