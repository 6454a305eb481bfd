"""The model server's errors.

PratiqueError
├── CallerError
│   ├── InvalidInvocationError      the body of /invocations does not fit its schema
│   ├── BodyTooLargeError
│   ├── BodyTimeoutError            the rest of the body did not come
│   ├── ContextLengthExceededError  what must be in the prompt does not fit
│   ├── UnknownModelError           no model or adapter of that name is served here
│   ├── WarmupManifestError         a warmup manifest or traffic log cannot be used
│   └── UnsafeWeightsError          pickle-based weights: reading them would run what is in them
├── EnvironmentFaultError
│   ├── ArtifactError               a model's files are missing, changed or unreadable
│   │   ├── UnreadableError         a file cannot be read at all (artifacts)
│   │   └── UnreleasedArtifactError  released artifacts are required, and this is none
│   ├── InvocationTimeoutError      the caller's deadline passed
│   └── EngineError
│       ├── EngineLoadError         the engine could not be started
│       ├── EngineDeadError         it was running and is gone
│       │   └── EngineFlushedError  it was made to drop everything that ran; it goes on
│       └── WarmupError             a warmup shape failed
│           └── WarmupTimeoutError  the warmup was not done within its deadline
└── RefusedError
    ├── NotReadyError               no traffic in this lifecycle state
    │   ├── DrainingError           the server shuts down
    │   └── CapacityLimitError      memory is short for a while; smaller prompts may pass
    └── IllegalTransitionError      the lifecycle has no such step
"""

from __future__ import annotations

import enum
from typing import Final

from pratique.core.errors import CallerError, EnvironmentFaultError, RefusedError

__all__ = [
    "MEMORY_CAUSES",
    "ArtifactError",
    "BodyTimeoutError",
    "BodyTooLargeError",
    "CapacityLimitError",
    "ContextLengthExceededError",
    "DeathCause",
    "DrainingError",
    "EngineDeadError",
    "EngineError",
    "EngineFlushedError",
    "EngineLoadError",
    "IllegalTransitionError",
    "InvalidInvocationError",
    "InvocationTimeoutError",
    "NotReadyError",
    "UnknownModelError",
    "UnreleasedArtifactError",
    "UnsafeWeightsError",
    "WarmupError",
    "WarmupManifestError",
    "WarmupTimeoutError",
]


class InvalidInvocationError(CallerError):
    """The request does not fit the schema of /invocations."""

    code = "invalid_request"


class BodyTooLargeError(CallerError):
    """The request's body is over the limit."""

    code = "body_too_large"


class BodyTimeoutError(CallerError):
    """The rest of the request's body did not come in time: it would hold its place among those in flight."""

    code = "body_timeout"


class ContextLengthExceededError(CallerError):
    """System prompt, query and reserved output together are more than the model takes."""

    code = "context_length_exceeded"


class UnknownModelError(CallerError):
    """No model or adapter of that name is served here."""

    code = "unknown_model"


class WarmupManifestError(CallerError):
    """A warmup manifest, or the traffic log to make one from, is not what it should be; says where."""

    code = "invalid_warmup_manifest"


class UnsafeWeightsError(CallerError):
    """Weights in a format that runs code when it is read."""

    code = "unsafe_weights"


class ArtifactError(EnvironmentFaultError):
    """A model's files cannot be used as they are; the message names the file."""

    code = "model_load_failure"


class UnreleasedArtifactError(ArtifactError):
    """The server requires released artifacts, and these files are none: unsigned, not let through, or other files."""

    code = "unreleased_artifact"


class InvocationTimeoutError(EnvironmentFaultError):
    """The deadline that came with the request passed."""

    code = "timeout"


class EngineError(EnvironmentFaultError):
    """The engine failed."""

    code = "engine_error"


class EngineLoadError(EngineError):
    """The engine could not be started with this model."""

    code = "model_load_failure"


class DeathCause(enum.Enum):
    """Why an engine stopped, as far as it can be told."""

    OUT_OF_MEMORY = "out_of_memory"
    """The allocator of the device or the process refused, or the kernel killed it for its memory limit."""
    KV_EXHAUSTED = "kv_exhausted"
    """The KV blocks were so short that requests only pushed each other out."""
    KILLED = "killed"
    """By a signal that is not known to be the kernel's for memory."""
    HUNG = "hung"
    """No iteration while work waited; it was ended for that."""
    CRASHED = "crashed"
    """An exception or exit of its own that is not about memory."""


MEMORY_CAUSES: Final = frozenset({DeathCause.OUT_OF_MEMORY, DeathCause.KV_EXHAUSTED})
"""Causes that a client is told as `capacity_limit`: a smaller request, or a later one, may pass."""


class EngineDeadError(EngineError):
    """The engine was running and has stopped."""

    code = "engine_dead"

    def __init__(self, message: str, *, cause: DeathCause = DeathCause.CRASHED, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause


class EngineFlushedError(EngineDeadError):
    """The engine was made to drop everything that ran, to get its memory back; it goes on."""

    code = "capacity_limit"


class WarmupError(EngineError):
    """A warmup shape failed: the server must not take traffic."""

    code = "warmup_failed"


class WarmupTimeoutError(WarmupError):
    """The warmup was not done within its deadline."""

    code = "warmup_timeout"


class NotReadyError(RefusedError):
    """The server does not take traffic in its present state."""

    code = "not_ready"


class DrainingError(NotReadyError):
    """The server is shutting down, and the time for what still ran is over."""

    code = "draining"


class CapacityLimitError(NotReadyError):
    """Memory is short for a while: this request cannot be served now, a smaller or later one may."""

    code = "capacity_limit"


class IllegalTransitionError(RefusedError):
    """The lifecycle has no step from the present state to that one."""

    code = "illegal_transition"
