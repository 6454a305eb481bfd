"""Who is asking: signed session cookies, API keys, browser origins, affinity keys. Knows no web framework."""

from pratique.orchestrator.access.authenticator import Authenticator, SessionGrant
from pratique.orchestrator.access.errors import (
    AccessError,
    KeysUnavailableError,
    OriginRefusedError,
    SecretsUnavailableError,
    UnauthenticatedError,
)
from pratique.orchestrator.access.headers import (
    AFFINITY_COOKIE,
    AFFINITY_HEADER,
    SESSION_COOKIE,
    AffinityGrant,
    affinity,
    check_origin,
)
from pratique.orchestrator.access.keys import ApiKey, ApiKeyFile
from pratique.orchestrator.access.principal import Principal, PrincipalKind
from pratique.orchestrator.access.sessions import SessionSigner, load_secrets

__all__ = [
    "AFFINITY_COOKIE",
    "AFFINITY_HEADER",
    "SESSION_COOKIE",
    "AccessError",
    "AffinityGrant",
    "ApiKey",
    "ApiKeyFile",
    "Authenticator",
    "KeysUnavailableError",
    "OriginRefusedError",
    "Principal",
    "PrincipalKind",
    "SecretsUnavailableError",
    "SessionGrant",
    "SessionSigner",
    "UnauthenticatedError",
    "affinity",
    "check_origin",
    "load_secrets",
]
