"""Settings of the model server, the table `[inference]` of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from pratique.core.settings import Settings

__all__ = [
    "AdapterSettings",
    "ArtifactSettings",
    "BudgetSettings",
    "ContainmentSettings",
    "InferenceSettings",
    "ModelSettings",
    "SignerSettings",
    "SimulatedSettings",
]

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Tokens = Annotated[int, msgspec.Meta(ge=0)]
_Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$")]


class SimulatedSettings(Settings, frozen=True, kw_only=True):
    """How the simulated engine behaves: its speed, and the failures to rehearse."""

    load_seconds: _NotNegative = 0.5
    first_token_seconds: _NotNegative = 0.02
    token_seconds: _NotNegative = 0.02
    reply_tokens: Annotated[int, msgspec.Meta(ge=1)] = 80
    fail_load: bool = False
    fail_after_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Every reply fails with an engine error after so many tokens."""
    crash_after_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """The engine dies once it has generated so many tokens for customers."""


class AdapterSettings(Settings, frozen=True, kw_only=True):
    """A LoRA adapter that is loaded at start."""

    name: _Name
    """What requests give as `adapter`, or as `model` in the OpenAI API."""
    folder: Path
    """PEFT layout with safetensors."""


class ModelSettings(Settings, frozen=True, kw_only=True):
    """One of several models that a server holds; what is not given is as for the server."""

    name: _Name
    """What requests give as `model`."""
    folder: Path
    adapters: tuple[AdapterSettings, ...] = ()
    warmup: Path | None = None
    """A warmup manifest; the server's without one."""
    max_model_len: Annotated[int, msgspec.Meta(ge=128)] | None = None
    max_num_seqs: _Count | None = None
    kv_cache_memory_bytes: Annotated[int, msgspec.Meta(ge=1 << 24)] | None = None


class BudgetSettings(Settings, frozen=True, kw_only=True):
    """What the context budget keeps free, and what it does with turns that do not fit."""

    is_enabled: bool = True
    """For OpenAI `messages`; /invocations is always fitted."""
    context_reserve_tokens: _Tokens = 300
    """Kept from the history for retrieved passages, at most an eighth of the context."""
    output_reserve_tokens: _Count = 512
    """For the reply, where a request does not say its max_tokens."""
    pinned_share: _Share = 0.5
    """Of the history's room, what turns that were pinned for their entities may take; explicit pins may take all."""
    entity_block_tokens: _Tokens = 50
    """For what is kept of pinned turns that do not fit."""
    notice_turns: _Count = 30
    """Past so many turns the user is told when some were left out."""
    recall: Literal["none", "summary", "relevance"] = "none"
    """What comes back of the turns that were left out: a summary by the model itself, or those nearest to the query."""
    recall_tokens: _Tokens = 200
    """What it may take."""


class ContainmentSettings(Settings, frozen=True, kw_only=True):
    """When memory is taken to be short, and what is done then."""

    reduced_tokens: Annotated[int, msgspec.Meta(ge=128)] = 1024
    """Prompt and reply together while the breaker is open."""
    cooldown_seconds: _Positive = 30.0
    escalation_trips: _Count = 2
    """So many trips within `escalation_seconds` raise the alarm oom_escalation."""
    escalation_seconds: _Positive = 300.0
    hang_seconds: _Positive = 10.0
    """Without an iteration or processor time while work waits: the engine hangs."""
    stuck_seconds: _Positive = 120.0
    """Without an iteration while work waits, whatever it computes."""
    kv_preemptions: _Count = 16
    """Preemptions within `kv_window_seconds` that count as exhausted KV blocks."""
    kv_window_seconds: _Positive = 10.0
    shed_share: _Share = 0.92
    """Of the memory limit (cgroup): past it new requests are refused."""
    trip_share: _Share = 0.97
    """Of the memory limit: past it the engine drops everything that runs, before the kernel acts."""
    restart_timeout_seconds: _Positive = 300.0
    max_restarts_in_a_row: _Count = 3
    """Restarts without one full request between them; after that the process ends."""
    fallback_text: str = (
        "The assistant is short of memory at the moment and could not answer in full. Please send it again in a moment."
    )
    """What a person is shown in place of a reply that was lost to short memory."""


class SignerSettings(Settings, frozen=True, kw_only=True):
    """Whose word counts: a key's, or that of an identity under a certificate."""

    key: Path | None = None
    """A public key in PEM."""
    issuer: str | None = None
    """Who vouched for the identity, exactly as it stands in the certificate."""
    subject: str | None = None
    """The identity there: exact, or with `*` as in a release policy."""


class ArtifactSettings(Settings, frozen=True, kw_only=True):
    """Which models and adapters may be loaded: all, or only released ones."""

    require: bool = False
    """Load nothing that is not signed, or differs from what was signed in any file."""
    signers: tuple[SignerSettings, ...] = ()
    """One of these must have signed the artifact."""
    trusted_root_file: Path | None = None
    """`trusted_root.json` of the instance whose certificates are believed. Unset: Sigstore's public one."""
    evidence_root: Path | None = None
    """Where the evidence of all models lies, each under `NAME.evidence`. Unset: beside each model's folder."""
    environment: str = ""
    """The environment that the release gate must have let the artifact through to. Empty: none is asked for."""
    deciders: tuple[SignerSettings, ...] = ()
    """One of these must have signed the gate's decision."""
    policy_digest: _Digest | None = None
    """The policy that must have been decided by, sha256:…. Unset: any."""
    max_decision_age_hours: _Positive | None = None
    """An older decision lets nothing through. Unset: it holds for as long as the artifact is served."""


class InferenceSettings(Settings, frozen=True, kw_only=True):
    """Everything that can be set about one model server."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8081
    name: str = "inference-0"
    engine: Literal["vllm", "simulated"] = "vllm"
    model: Path | None = None
    """A folder with a model in safetensors; without one the small model is served."""
    models: tuple[ModelSettings, ...] = ()
    """Several models in one server, most important first; `model` and `adapters` are not read then, `warmup` is for
    those that name none."""
    readiness: Literal["all", "tiered"] = "all"
    """Of several models: traffic once all are warm, or for each that is."""
    adapters: tuple[AdapterSettings, ...] = ()
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = 16
    warmup: Path | None = None
    """A warmup manifest; the built-in shapes without one."""
    model_root: Path | None = None
    """Where imported models are kept; by default below the user's state folder."""
    max_model_len: Annotated[int, msgspec.Meta(ge=128)] = 2048
    """Tokens of prompt and reply together. The small model takes 8192, but one shared core reads only 300 to 700
    a second: more than this and the first token of a long conversation comes after the callers' time-outs."""
    max_num_seqs: Annotated[int, msgspec.Meta(ge=1)] = 16
    max_queued_requests: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Requests in flight at the gate; one more is refused with 503."""
    kv_cache_memory_bytes: Annotated[int, msgspec.Meta(ge=1 << 24)] = 1 << 28
    block_size: Annotated[int, msgspec.Meta(ge=1)] = 32
    """Tokens of one KV block. vLLM's CPU attention takes multiples of 32."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    threads: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Threads of one forward pass. Two on a shared two-core machine were measured to collapse."""
    load_timeout_seconds: _Positive = 600.0
    warmup_timeout_seconds: _Positive = 180.0
    drain_seconds: _NotNegative = 20.0
    request_timeout_seconds: _Positive = 300.0
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 4 << 20
    require_manifest: bool = False
    """Serve no folder without a manifest of checksums."""
    recorded_manifest: Path | None = None
    """What the model's manifest must equal: a manifest kept elsewhere, or a promotion ledger (JSON lines)."""
    artifact: ArtifactSettings = ArtifactSettings()
    failures: Path | None = None
    """A file in which failed loads are counted across processes; by default beside the model."""
    num_gpu_blocks_override: _Count | None = None
    """KV blocks whatever memory there is; to rehearse short ones."""
    budget: BudgetSettings = BudgetSettings()
    containment: ContainmentSettings = ContainmentSettings()
    simulated: SimulatedSettings = SimulatedSettings()
