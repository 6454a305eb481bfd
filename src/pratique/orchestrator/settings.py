"""The orchestrator's settings: defaults, units, bounds. Built once by the command line, passed in everywhere.

Files named here are read at start: a secret is never a setting itself, so that it cannot end up in a log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from msgspec import Meta

from pratique.core.settings import Settings, SettingsError
from pratique.orchestrator.access.settings import AccessSettings
from pratique.orchestrator.api.openai.settings import OpenAiSettings
from pratique.orchestrator.cache.settings import CacheSettings
from pratique.orchestrator.conversations.settings import StoreSettings
from pratique.orchestrator.lanes.settings import LaneSettings
from pratique.orchestrator.models.settings import ModelsSettings
from pratique.orchestrator.retrieval.settings import RetrievalSettings
from pratique.orchestrator.upstream.settings import DownstreamSettings

__all__ = ["OrchestratorSettings", "StatusAddress", "parse_status_urls", "read_system_prompt"]

_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
_Count: TypeAlias = Annotated[int, Meta(ge=1)]
StatusAddress: TypeAlias = tuple[str, str]
"""The name of a model server and the base URL that it answers on."""


class OrchestratorSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica of the chat service."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8081
    """0: any free one; it is printed."""
    replica: Annotated[str, Meta(pattern="^[a-z0-9-]{1,64}$")] = "orchestrator-0"

    state_dir: Path | None = None
    """Where the files below are looked for when they are not named. Without one nothing is kept."""
    database: Path | None = None
    """The SQLite file of the conversations. By default conversations.db in the state folder."""
    valkey_url: str = ""
    """The shared cache and generation log. Empty: memory, which only a single replica can use."""
    secret_file: Path | None = None
    """Signs the session cookies; the same for every replica. By default session-secret in the state folder."""
    api_keys_file: Path | None = None
    """Hashed API keys. By default api-keys.json in the state folder."""

    inference_url: str = "http://127.0.0.1:8000"
    """The edge's internal listener, or one model server."""
    inference_status_urls: tuple[str, ...] = ()
    """Whom to ask for the model's state, each "name=url". Empty: the inference URL itself, or each pool's.

    With several pools a name is "pool" or "pool/replica".
    """
    status_poll_seconds: _Seconds = 1.0

    system_prompt: str = ""
    system_prompt_file: Path | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=4096)] = 512
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    history_turns_limit: _Count = 100
    """At most this many earlier turns are sent; what the model's context holds of them is its server's decision."""

    heartbeat_seconds: _Seconds = 10.0
    connect_timeout_seconds: _Seconds = 2.0
    first_token_timeout_seconds: _Seconds = 6.0
    """Of one attempt; less than `downstream.answer_deadline_seconds`, so that a second one fits."""
    inter_token_timeout_seconds: _Seconds = 10.0
    reply_timeout_seconds: _Seconds = 600.0
    """A whole reply, all attempts together."""
    model_wait_seconds: _Seconds = 60.0
    """How long a message waits while no model server takes traffic, before its first token."""
    continue_wait_seconds: _Seconds = 20.0
    """How long an interrupted reply waits for a server that goes on with it."""
    max_continuations: Annotated[int, Meta(ge=0, le=100)] = 6

    lease_seconds: Annotated[float, Meta(ge=0.3, le=60)] = 1.2
    """A producer that was not heard of for so long has lost its reply to another replica."""
    takeover_scan_seconds: _Seconds = 0.2
    coalesce_window_seconds: Annotated[float, Meta(ge=0, le=1)] = 0.025
    log_ttl_seconds: _Seconds = 900.0
    log_max_bytes: _Count = 4 * 2**20
    """Of one reply's log; a reply that outgrows it ends there."""
    max_running_generations: _Count = 512
    """Of this replica; a message beyond them is refused as overloaded."""

    slow_reader_bytes: Annotated[int, Meta(ge=4096)] = 256 * 1024
    max_connections: _Count = 4096
    max_bad_frames: _Count = 10
    """So many malformed frames in a row close the connection."""
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    """How long replies may go on here after SIGTERM; then others take them over."""
    drain_notice_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.5
    """For so long at least it still answers, so that the edge sees it is not ready."""
    allowed_origins: tuple[str, ...] = ()
    """Browser origins besides the service's own host, for example "https://chat.example.org"."""
    secure_cookies: bool = False
    """Set where browsers come by HTTPS."""

    store: StoreSettings = StoreSettings()
    """The table [orchestrator.store]."""
    cache: CacheSettings = CacheSettings()
    """The table [orchestrator.cache]."""
    access: AccessSettings = AccessSettings()
    """The table [orchestrator.access]."""
    models: ModelsSettings = ModelsSettings()
    """The table [orchestrator.models]."""
    downstream: DownstreamSettings = DownstreamSettings()
    """The table [orchestrator.downstream]."""
    retrieval: RetrievalSettings = RetrievalSettings()
    """The table [orchestrator.retrieval]."""
    lanes: LaneSettings = LaneSettings()
    """The table [orchestrator.lanes]."""
    openai: OpenAiSettings = OpenAiSettings()
    """The table [orchestrator.openai]."""
    page_dir: Path | None = None
    """The built chat page. By default the one in this package."""

    def path_of(self, named: Path | None, default_name: str) -> Path | None:
        """Return the file a setting names, or its place in the state folder, or None without either."""
        if named is not None or self.state_dir is None:
            return named
        return self.state_dir / default_name


def parse_status_urls(settings: OrchestratorSettings) -> tuple[StatusAddress, ...]:
    """Split "name=url" into pairs.

    Raises:
        SettingsError: one of them is not of that form.
    """
    if not settings.inference_status_urls and settings.models.pools:
        return tuple((pool.name, pool.url.rstrip("/")) for pool in settings.models.pools)
    if not settings.inference_status_urls:
        return (("inference", settings.inference_url.rstrip("/")),)
    pairs = []
    for entry in settings.inference_status_urls:
        name, separator, url = entry.partition("=")
        if not (separator and name and url.startswith(("http://", "https://"))):
            raise SettingsError(f"Expected 'name=http://host:port' in inference_status_urls; found '{entry}'.")
        pairs.append((name, url.rstrip("/")))
    return tuple(pairs)


def read_system_prompt(settings: OrchestratorSettings) -> str:
    """Return the system prompt, from its file where one is named.

    Raises:
        SettingsError: the file cannot be read, or both are given.
    """
    if settings.system_prompt_file is None:
        return settings.system_prompt
    if settings.system_prompt:
        raise SettingsError("Expected system_prompt or system_prompt_file; found both.")
    try:
        return settings.system_prompt_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The system prompt file cannot be read: {error}.") from error
