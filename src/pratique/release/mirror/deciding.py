"""Whether something is served, why not, and what to do about it. Pure.

In this order: a name that cannot be one; approved and here; approved and not here; a name of ours that nobody has
approved (dependency confusion); a name that looks like a known one; not approved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from packaging.version import InvalidVersion, Version

from pratique.release.mirror.approved import Approved, ApprovedFile
from pratique.release.mirror.names import is_name, looks_like, normal
from pratique.release.mirror.store import State, StoredFile
from pratique.release.values import Digest

__all__ = ["Catalogue", "Explanation", "ServedFile", "explain", "served_files"]

Code = Literal[
    "served", "yanked", "invalid-name", "not-synced", "tampered", "private", "looks-like", "not-approved", "no-version"
]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is approved, and what of it is here."""

    approved: Approved
    state: State
    tampered: Mapping[Digest, str] = field(default_factory=dict)
    """Files that are not what they were, and how."""
    known: frozenset[str] = frozenset()
    """Names from locks, beside those that are approved or named as popular."""
    how_to_ask: str = ""


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A file that is served."""

    approved: ApprovedFile
    stored: StoredFile

    @property
    def yanked(self) -> str | None:
        """Why nobody should take it anew; empty without a reason; None: it is fine."""
        return self.approved.yanked or self.stored.yanked


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether something is served, and why."""

    name: str
    version: str = ""
    is_served: bool
    code: Code
    reason: str
    mend: str = ""


def served_files(catalogue: Catalogue, name: str) -> tuple[ServedFile, ...]:
    """Return the files of a project that are served: approved, here, and what they were."""
    return tuple(
        ServedFile(file, stored)
        for file in catalogue.approved.files(name)
        if (stored := catalogue.state.files.get(file.digest)) is not None and file.digest not in catalogue.tampered
    )


def explain(catalogue: Catalogue, name: str, version: str = "") -> Explanation:
    """Say whether a project, or one version of it, is served."""
    if not is_name(name):
        return _no(name[:100], version, "invalid-name", "no project can be named so", "Is it spelt right?")
    name, version = normal(name), _spelt(version)
    package = catalogue.approved.packages.get(name)
    if package is None:
        return _strange(catalogue, name, version)
    if version and version not in package.versions:
        approved = ", ".join(package.versions)
        reason = f"{name} {version} is not approved; approved are: {approved}"
        return _no(name, version, "no-version", reason, catalogue.how_to_ask)
    return _approved(catalogue, name, version)


def _approved(catalogue: Catalogue, name: str, version: str) -> Explanation:
    wanted = [file for file in catalogue.approved.files(name) if not version or file.version == version]
    served = [file for file in served_files(catalogue, name) if not version or file.approved.version == version]
    for file in wanted:
        if file.digest in catalogue.tampered and not any(one.approved.version == file.version for one in served):
            reason = f"{file.filename} is not what was approved: {catalogue.tampered[file.digest]}"
            mend = "Find out who changed the store; then remove the file there, and pratique mirror sync."
            return _no(name, version, "tampered", reason, mend)
    if not served:
        reason = f"{name} {version}".strip() + " is approved, and not here yet"
        return _no(name, version, "not-synced", reason, "pratique mirror sync")
    by = catalogue.approved.packages[name]
    reasons = {file.yanked for file in served}
    if None not in reasons:
        why = ", ".join(sorted(filter(None, reasons))) or "no reason is given"
        text = f"yanked ({why}): installed only where it is asked for by its version"
        return Explanation(name=name, version=version, is_served=True, code="yanked", reason=text, mend="Take another.")
    reason = f"approved by {by.approved_by} on {by.approved_on}: {by.reason}"
    return Explanation(name=name, version=version, is_served=True, code="served", reason=reason)


def _strange(catalogue: Catalogue, name: str, version: str) -> Explanation:
    """Explain a name that is not approved."""
    approved = catalogue.approved
    if approved.is_private(name):
        reason = f"{name} is a name of ours: its files never come from the upstream, and none was approved"
        return _no(name, version, "private", reason, "Approve a file that was built here, and sync it from its folder.")
    known = {*approved.packages, *approved.popular, *catalogue.known, *_plain(approved.private)}
    like = looks_like(name, known) if name not in known else None
    if like is not None:
        reason = f"{name} is not approved, and looks like {like}"
        return _no(name, version, "looks-like", reason, f"Did you mean {like}? If not: {catalogue.how_to_ask}")
    return _no(name, version, "not-approved", f"{name} is not approved", catalogue.how_to_ask)


def _plain(patterns: tuple[str, ...]) -> set[str]:
    return {pattern for pattern in patterns if "*" not in pattern}


def _no(name: str, version: str, code: Code, reason: str, mend: str) -> Explanation:
    return Explanation(name=name, version=version, is_served=False, code=code, reason=reason, mend=mend)


def _spelt(version: str) -> str:
    try:
        return str(Version(version)) if version else ""
    except InvalidVersion:
        return version[:100]
