"""The bill of materials is a CycloneDX document, and leaves nothing out that was promised. Pure.

It is read by what decides: its components. Whether every member is as the standard's schema has it was the collector's
to check, before it was signed. Source: CycloneDX 1.4 to 1.7 (ECMA-424).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from pratique.release.components import MAX_DEPTH
from pratique.release.policy.decision import Reason, RuleResult
from pratique.release.policy.document import SbomRule
from pratique.release.policy.selection import Case, Query, Read, latest, measurements, reason, result
from pratique.release.predicates import SBOM
from pratique.release.values import Digest

__all__ = ["judge_sbom"]

_SOFTWARE: Final = frozenset({"application", "framework", "library"})
_NAMED: Final = 5
"""So many components stand in a message."""
_LOCATION: Final = re.compile(r"syft:location:[0-9]+:path")
_PURL: Final = re.compile(r"pkg:[a-z][a-z0-9.+-]*/[^@?#\s]+@[^@?#\s]+(\?[^#\s]*)?(#\S*)?")
"""With a version. Source: the package-url specification, "Syntax": what else has an `@` or a space is encoded."""
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Type = Literal[
    "application",
    "container",
    "cryptographic-asset",
    "data",
    "device",
    "device-driver",
    "file",
    "firmware",
    "framework",
    "library",
    "machine-learning-model",
    "operating-system",
    "platform",
]
"""What is of another type would not be looked at."""


class _Property(msgspec.Struct, frozen=True):
    name: str = ""
    value: str | None = None


class _Component(msgspec.Struct, frozen=True):
    type: _Type
    name: _Text
    version: str = ""
    purl: str = ""
    bom_ref: str = msgspec.field(name="bom-ref", default="")
    properties: tuple[_Property, ...] = ()
    components: tuple[_Component, ...] = ()

    @property
    def where(self) -> str:
        """Its name, with the file that it was found in, where the tool says that."""
        files = [one.value for one in self.properties if one.value and _LOCATION.fullmatch(one.name)]
        return f"{self.name} ({files[0]})" if files else self.name


class _Composition(msgspec.Struct, frozen=True):
    aggregate: str


class _Bom(msgspec.Struct, frozen=True):
    format: Literal["CycloneDX"] = msgspec.field(name="bomFormat")
    specification: Literal["1.4", "1.5", "1.6", "1.7"] = msgspec.field(name="specVersion")
    components: tuple[_Component, ...]
    compositions: tuple[_Composition, ...] = ()


def judge_sbom(case: Case, rule: SbomRule) -> tuple[RuleResult, dict[Digest, int]]:
    """Judge the SBOMs that count; and say which they are, and how many of their components can be looked up."""
    query = Query(
        predicate_type=SBOM,
        names=rule.signers,
        kind=_Bom,
        what="SBOM",
        mend="Make one of the image, sign it and attach it.",
    )
    read, reasons = measurements(case, query)
    counted = latest(read)
    components = {one.accepted.digest: [*_all(one.content.components)] for one in counted}
    found = [why for one in counted for why in _problems(rule, one, components[one.accepted.digest])]
    packages = {digest: sum(_is_package(one) for one in them) for digest, them in components.items()}
    return result("sbom", (*reasons, *found), (one.accepted for one in counted)), packages


def _all(components: tuple[_Component, ...], depth: int = 0) -> Iterator[_Component]:
    """Go through components and those in them, as deep as `components` reads them."""
    for component in components if depth < MAX_DEPTH else ():
        yield component
        yield from _all(component.components, depth + 1)


def _is_deeper(components: tuple[_Component, ...], depth: int = 0) -> bool:
    return bool(components) and (depth >= MAX_DEPTH or any(_is_deeper(one.components, depth + 1) for one in components))


def _is_package(component: _Component) -> bool:
    return _PURL.fullmatch(component.purl) is not None


def _problems(rule: SbomRule, read: Read[_Bom], components: list[_Component]) -> Iterator[Reason]:
    digest = read.accepted.digest
    packages = [one for one in components if _is_package(one)]
    if len(packages) < rule.min_components:
        what = f"the SBOM names {len(packages)} packages, at least {rule.min_components} must be in this image"
        yield _incomplete(what, digest)
    for wanted in rule.required_types:
        if not any(one.purl.startswith(f"pkg:{wanted}/") for one in packages):
            yield _incomplete(f"the SBOM names no package of the type '{wanted}'", digest)
    vague = [one.where for one in components if one.type in _SOFTWARE and not (one.version and _is_package(one))]
    if vague:
        what = f"{len(vague)} components have no version or no purl: {', '.join(vague[:_NAMED])}"
        yield _incomplete(what, digest)
    if _is_deeper(read.content.components):
        yield _malformed(f"components are nested more than {MAX_DEPTH} deep: those below are not looked at", digest)
    if any(one.aggregate.startswith("incomplete") for one in read.content.compositions):
        yield _incomplete("the SBOM says of itself that it is incomplete", digest)
    twice = [ref for ref, number in Counter(one.bom_ref for one in components if one.bom_ref).items() if number > 1]
    if twice:
        yield _malformed(f"the bom-ref '{twice[0]}' names several components", digest)


def _malformed(what: str, digest: Digest) -> Reason:
    mend = "Make the SBOM anew with a tool that keeps the standard."
    return reason("malformed", what, mend=mend, statement=digest)


def _incomplete(what: str, digest: Digest) -> Reason:
    mend = "Make the SBOM of the whole image; where the image has changed its nature, have the policy reviewed."
    return reason("incomplete", what, mend=mend, statement=digest)
