"""Errors of the fleet.

PratiqueError
├── CallerError
│   └── UnknownServiceError     no service of that name in this stack
├── EnvironmentFaultError
│   ├── ProgramMissingError     an external program is not installed
│   ├── PortTakenError          another process listens where a service should
│   ├── StateDirError           the state folder cannot be used
│   ├── DiskFullError           not enough room for the model and the conversations
│   ├── MemoryShortError        not enough memory for the model servers
│   ├── SupervisorLostError     the supervisor does not answer, or answers something else
│   └── StackFailedError        a service that the stack needs does not start
└── RefusedError
    ├── StackRunningError       a stack already runs in this state folder
    └── NoStackError            no stack runs in this state folder
"""

from __future__ import annotations

from pratique.core.errors import CallerError, EnvironmentFaultError, RefusedError

__all__ = [
    "DiskFullError",
    "MemoryShortError",
    "NoStackError",
    "PortTakenError",
    "ProgramMissingError",
    "StackFailedError",
    "StackRunningError",
    "StateDirError",
    "SupervisorLostError",
    "UnknownServiceError",
]


class UnknownServiceError(CallerError):
    """No service of that name belongs to the stack."""

    code = "unknown_service"


class ProgramMissingError(EnvironmentFaultError):
    """An external program is not installed."""

    code = "program_missing"


class PortTakenError(EnvironmentFaultError):
    """Another process listens on a port that a service needs."""

    code = "port_taken"


class StateDirError(EnvironmentFaultError):
    """The state folder cannot be made, read or written."""

    code = "state_dir_unusable"


class DiskFullError(EnvironmentFaultError):
    """The file system of the state folder has too little room."""

    code = "disk_full"


class MemoryShortError(EnvironmentFaultError):
    """Too little memory is free for what was asked."""

    code = "memory_short"


class SupervisorLostError(EnvironmentFaultError):
    """The supervisor of a running stack cannot be talked to."""

    code = "supervisor_lost"


class StackFailedError(EnvironmentFaultError):
    """A service that the stack cannot do without does not start."""

    code = "stack_failed"


class StackRunningError(RefusedError):
    """A stack already runs in this state folder."""

    code = "stack_running"


class NoStackError(RefusedError):
    """No stack runs in this state folder."""

    code = "no_stack"
