"""Who says that a vulnerability does not concern this image, and for how long that holds. Pure.

OpenVEX has no expiry: a statement holds for as long as the policy says, from its own time; or until the time that its
author wrote into `status_notes`, on a line that begins with `pratique-expires:`, where that is sooner. Of one author
the latest statement about a vulnerability counts; of several authors each must say that the image is not affected. So
a later "affected" is never outvoted.
Source: OpenVEX specification 0.2.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from pratique.release.errors import EvidenceError
from pratique.release.openvex import Component, Document, Product, VexStatement, expiry_of, require_sound
from pratique.release.policy.decision import Reason
from pratique.release.policy.document import VulnerabilitiesRule
from pratique.release.policy.selection import MAX_SKEW, Accepted, Case, Read, find, read_all, reason
from pratique.release.predicates import VEX, Vulnerability
from pratique.release.values import Digest

__all__ = ["Exemptions", "exemptions"]


@dataclass(frozen=True, slots=True)
class _Said:
    """One statement of one author."""

    accepted: Accepted
    at: datetime
    ends_at: datetime | None
    statement: VexStatement

    def concerns(self, vulnerability: Vulnerability, image: Digest) -> bool:
        name = self.statement.vulnerability
        ids = {name.name, *name.aliases}
        if ids.isdisjoint({vulnerability.id, *vulnerability.aliases}):
            return False
        return any(_is_about(product, vulnerability.package, image) for product in self.statement.products)

    def problem(self, now: datetime, max_age: timedelta) -> str:
        """Say why this does not exempt; empty where it does."""
        who, said = self.accepted.party, self.statement
        if said.status not in {"not_affected", "fixed"}:
            return f"'{who}' states {said.status}"
        if now - self.at > max_age or (self.ends_at is not None and self.ends_at <= now):
            return f"what '{who}' stated at {self.at.isoformat()} has expired"
        if self.at > now + MAX_SKEW:
            return f"what '{who}' stated is of {self.at.isoformat()}, which is not yet"
        return ""


@dataclass(frozen=True, slots=True)
class Exemptions:
    """What accepted authors said of this image."""

    said: tuple[_Said, ...]
    broken: tuple[Reason, ...]
    used: tuple[Accepted, ...]
    image: Digest
    now: datetime
    max_age: timedelta

    def covers(self, vulnerability: Vulnerability) -> bool:
        """Whether the image is not affected, by every author who said something about it."""
        concerned = self._latest(vulnerability)
        return bool(concerned) and not any(one.problem(self.now, self.max_age) for one in concerned)

    def why_not(self, vulnerability: Vulnerability) -> str:
        """Say why what was said does not exempt; empty where nothing was."""
        problems = (one.problem(self.now, self.max_age) for one in self._latest(vulnerability))
        return "; ".join(filter(None, problems))

    def _latest(self, vulnerability: Vulnerability) -> list[_Said]:
        """Of each author, the statements with the latest time: where several share it, all."""
        concerned = [one for one in self.said if one.concerns(vulnerability, self.image)]
        newest: dict[str, datetime] = {}
        for one in concerned:
            newest[one.accepted.party] = max(one.at, newest.get(one.accepted.party, one.at))
        return [one for one in concerned if one.at == newest[one.accepted.party]]


def exemptions(case: Case, rule: VulnerabilitiesRule) -> Exemptions:
    """Gather what the policy's VEX authors said about this image."""
    read, broken = read_all(find(case, VEX, rule.vex_authors), Document)
    said: list[_Said] = []
    reasons = [*broken]
    for one in read:
        try:
            said += _statements(one)
        except EvidenceError as error:
            reasons.append(_malformed(error.message, one))
    return Exemptions(
        said=tuple(said),
        broken=tuple(reasons),
        used=tuple(one.accepted for one in read),
        image=case.dossier.subject.digest,
        now=case.facts.now,
        max_age=timedelta(hours=rule.max_vex_age_hours),
    )


def _statements(read: Read[Document]) -> Iterator[_Said]:
    document = read.content
    require_sound(document)
    for one in document.statements:
        at = one.last_updated or one.timestamp or document.last_updated or document.timestamp
        yield _Said(read.accepted, at, expiry_of(one), one)


def _malformed(problem: str, read: Read[Document]) -> Reason:
    return reason(
        "malformed",
        f"a statement of exploitability cannot be read: {problem}",
        mend="Make it with vexctl, or leave it out and revoke this one.",
        statement=read.accepted.digest,
    )


def _is_about(product: Product, package: str, image: Digest) -> bool:
    """Whether a product is this image, in all or in this component; or the component itself, as it is in this image."""
    if not (_is_package(product, package) or _is_image(product, image)):
        return False
    # With subcomponents it is about those alone, as they are in the product.
    return not product.subcomponents or any(_is_package(one, package) for one in product.subcomponents)


def _is_image(product: Product, image: Digest) -> bool:
    number = image.removeprefix("sha256:")
    names = (product.id, product.identifiers.get("purl", ""))
    return product.hashes.get("sha-256") == number or any(
        name.partition("?")[0].endswith((f"@sha256:{number}", f"@sha256%3A{number}")) for name in names
    )


def _is_package(component: Component, package: str) -> bool:
    """Exactly the purl; or the purl without its qualifiers, where the statement has none."""
    names = {component.id, component.identifiers.get("purl", "")} - {""}
    return not names.isdisjoint({package, package.partition("?")[0].partition("#")[0]})
