"""Who did what, for those who have to answer for it: one record per decision about access or somebody's data."""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["AuditEvent", "AuditLog", "NoAudit"]


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One record. Holds no text of a conversation and no credential."""

    action: str
    """A verb and its object: "conversation.delete", "key.revoke", "access.refused"."""
    outcome: str
    """ok, refused, failed."""
    principal_id: str = ""
    subject: str = ""
    """What it was done to: a conversation's id, a key's."""
    detail: str = ""
    remote: str = ""
    request_id: str = ""


class AuditLog(Protocol):
    """Where records go. `record` does not block and does not raise; what could not be written is counted and logged."""

    def record(self, event: AuditEvent) -> None: ...

    async def aclose(self) -> None: ...


class NoAudit:
    """An `AuditLog` that keeps nothing."""

    def record(self, event: AuditEvent) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""
