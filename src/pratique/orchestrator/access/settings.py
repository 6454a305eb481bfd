"""The table [orchestrator.access]: who may come in, how much each may ask, what is recorded of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from pratique.core.settings import Settings
from pratique.orchestrator.access.scopes import Scope

__all__ = ["AccessSettings", "Algorithm", "AuditSettings", "LimitsSettings", "OidcSettings", "TierSettings"]

_Limit: TypeAlias = Annotated[int, Meta(ge=0)]
_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
Algorithm: TypeAlias = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Only those with a public key: what verifies a token here can make none (RFC 8725, 3.2)."""


class OidcSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One issuer of bearer tokens (JWT), an entry of [[orchestrator.access.oidc]]."""

    issuer: Annotated[str, Meta(min_length=1, max_length=500)]
    """As in the tokens' `iss`, to the letter. HTTPS, or plain HTTP to the loopback interface."""
    audiences: Annotated[tuple[str, ...], Meta(min_length=1)]
    """A token is for us where its `aud` has one of these."""
    jwks_url: str = ""
    """Where the issuer's keys are. Empty: what its /.well-known/openid-configuration says."""
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1)] = ("RS256", "ES256")
    scope_claim: str = "scope"
    """The claim with the token's scopes, a text with spaces or a list; "scp", "roles" or "permissions" elsewhere."""
    scopes: dict[str, tuple[Scope, ...]] = {}  # noqa: RUF012 - msgspec copies it
    """What each of the issuer's scopes allows here; others allow nothing. Empty: scopes of the same names as ours."""
    default_scopes: tuple[Scope, ...] = ()
    """What every token of this issuer allows."""
    tier: Annotated[str, Meta(max_length=64)] = ""
    """Which limits apply to its people."""
    leeway_seconds: Annotated[float, Meta(ge=0, le=300)] = 30.0
    """How far the issuer's clock may be from ours."""
    refresh_seconds: _Seconds = 600.0
    """How old its keys may get before they are asked for again."""
    keep_seconds: _Seconds = 43_200.0
    """How long they are used while the issuer cannot be reached; then its tokens are answered with 503."""
    unknown_key_seconds: _Seconds = 15.0
    """Tokens that name an unknown key make us ask at most once in so long."""
    timeout_seconds: Annotated[float, Meta(gt=0, le=30)] = 3.0


class TierSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one principal may use. 0: no limit."""

    requests_per_minute: _Limit = 0
    concurrent: _Limit = 0
    """Replies at once."""
    tokens_per_minute: _Limit = 0
    """Prompt and reply together."""
    tokens_per_day: _Limit = 0
    connections: _Limit = 0
    """Open sockets and event streams, on each replica."""


class LimitsSettings(TierSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each principal may use, on all replicas together. 0: no limit."""

    tiers: dict[str, TierSettings] = {}  # noqa: RUF012 - msgspec copies it
    """Other limits by name: "anonymous" for sessions without an account, else what keys and issuers name."""
    on_store_loss: Literal["local", "open", "refuse"] = "local"
    """Where Valkey is away: each replica counts for itself, nobody counts, or nobody is served."""
    store_timeout_seconds: Annotated[float, Meta(gt=0, le=10)] = 0.25
    reservation_seconds: _Seconds = 660.0
    """A reservation whose replica died ends by itself after so long."""
    new_sessions_per_minute: _Limit = 0
    """Sessions without an account, for each address (IPv6: /64), on each replica: who makes many has many limits."""
    frames_per_second: Annotated[float, Meta(gt=0)] = 100.0
    """Frames on one WebSocket; and requests below /api of one principal, on each replica."""
    frames_burst: Annotated[int, Meta(ge=1)] = 200


class AuditSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of decisions about access and of what was done to somebody's data."""

    sink: Literal["file", "log", "off"] = "log"
    """"log": among the service's events."""
    file: Path | None = None
    """By default audit.jsonl in the state folder."""
    fsync: bool = False
    """Whether each batch of records is on the disk before the next one is written."""
    queue: Annotated[int, Meta(ge=1)] = 10_000
    """Records that may wait; what comes beyond them is counted and dropped."""


class AccessSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may come in, and how much each may ask."""

    anonymous: bool = True
    """Whether a browser without a credential gets a session of its own."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose X-Forwarded-For is believed, such as the edge's: "10.0.0.0/8"."""
    oidc: tuple[OidcSettings, ...] = ()
    """The tables [[orchestrator.access.oidc]]."""
    limits: LimitsSettings = LimitsSettings()
    """The table [orchestrator.access.limits]."""
    audit: AuditSettings = AuditSettings()
    """The table [orchestrator.access.audit]."""
