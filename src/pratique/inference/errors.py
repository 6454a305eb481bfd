"""The model server's errors.

PratiqueError
├── CallerError
│   ├── InvalidInvocationError      the body of /invocations does not fit its schema
│   ├── BodyTooLargeError
│   ├── ContextLengthExceededError  what must be in the prompt does not fit
│   └── UnsafeWeightsError          pickle-based weights: reading them would run what is in them
├── EnvironmentFaultError
│   ├── ArtifactError               a model's files are missing, changed or unreadable
│   ├── InvocationTimeoutError      the caller's deadline passed
│   └── EngineError
│       ├── EngineLoadError         the engine could not be started
│       ├── EngineDeadError         it was running and is gone
│       └── WarmupError             a warmup shape failed
│           └── WarmupTimeoutError  the warmup was not done within its deadline
└── RefusedError
    ├── NotReadyError               no traffic in this lifecycle state
    │   └── DrainingError           the server shuts down
    └── IllegalTransitionError      the lifecycle has no such step
"""

from __future__ import annotations

from pratique.core.errors import CallerError, EnvironmentFaultError, RefusedError

__all__ = [
    "ArtifactError",
    "BodyTooLargeError",
    "ContextLengthExceededError",
    "DrainingError",
    "EngineDeadError",
    "EngineError",
    "EngineLoadError",
    "IllegalTransitionError",
    "InvalidInvocationError",
    "InvocationTimeoutError",
    "NotReadyError",
    "UnsafeWeightsError",
    "WarmupError",
    "WarmupTimeoutError",
]


class InvalidInvocationError(CallerError):
    """The request does not fit the schema of /invocations."""

    code = "invalid_request"


class BodyTooLargeError(CallerError):
    """The request's body is over the limit."""

    code = "body_too_large"


class ContextLengthExceededError(CallerError):
    """System prompt, query and reserved output together are more than the model takes."""

    code = "context_length_exceeded"


class UnsafeWeightsError(CallerError):
    """Weights in a format that runs code when it is read."""

    code = "unsafe_weights"


class ArtifactError(EnvironmentFaultError):
    """A model's files cannot be used as they are; the message names the file."""

    code = "model_load_failure"


class InvocationTimeoutError(EnvironmentFaultError):
    """The deadline that came with the request passed."""

    code = "timeout"


class EngineError(EnvironmentFaultError):
    """The engine failed."""

    code = "engine_error"


class EngineLoadError(EngineError):
    """The engine could not be started with this model."""

    code = "model_load_failure"


class EngineDeadError(EngineError):
    """The engine was running and has stopped."""

    code = "engine_dead"


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


class IllegalTransitionError(RefusedError):
    """The lifecycle has no step from the present state to that one."""

    code = "illegal_transition"
