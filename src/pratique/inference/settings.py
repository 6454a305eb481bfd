"""Settings of the model server, the table `[inference]` of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from pratique.core.settings import Settings

__all__ = ["InferenceSettings", "SimulatedSettings"]

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]


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


class InferenceSettings(Settings, frozen=True, kw_only=True):
    """Everything that can be set about one model server."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8081
    name: str = "inference-0"
    engine: Literal["vllm", "simulated"] = "vllm"
    model: Path | None = None
    """A folder with a model in safetensors; without one the small model is served."""
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
    simulated: SimulatedSettings = SimulatedSettings()
