"""The error tree that every part hangs its own errors on.

PratiqueError
├── CallerError          the request or the command is wrong: change it and try again     (exit 2)
├── EnvironmentFaultError  something outside failed: disk, port, peer, memory             (exit 3)
└── RefusedError         understood and decided against: not allowed, not ready           (exit 1)

A message says what was expected, what was found, and where; `hint` says what to do next. `code` is the stable
name that programs match on: it goes over the wire, the message is for people.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["CallerError", "EnvironmentFaultError", "PratiqueError", "RefusedError"]


class PratiqueError(Exception):
    """Base of every error that pratique raises on purpose."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, followed by the hint where there is one."""
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


class CallerError(PratiqueError):
    """The caller's input is wrong; the same input will fail again."""

    code = "invalid_request"
    exit_code = 2


class EnvironmentFaultError(PratiqueError):
    """Something outside this process failed; the same call may work later or elsewhere."""

    code = "environment_fault"
    exit_code = 3


class RefusedError(PratiqueError):
    """The request was understood and refused."""

    code = "refused"
    exit_code = 1
