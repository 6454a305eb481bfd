"""What the index keeps of a bill of materials: components by their names for advisories, and how they came in. Pure.

How a component is reached is what the document tells: the layer that brought its files (syft's properties), where they
lie, and the shortest chain of packages that need it. A document without them says nothing, and the reach is empty.
Source: CycloneDX 1.6, `dependencies`; syft's properties `syft:location:…`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from pratique.release.advisories.matching import lookup_of
from pratique.release.advisories.records import package_name
from pratique.release.components import Purl, parse_purl, read_components
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError

__all__ = ["NOWHERE", "Part", "Reach", "read_parts"]

_MAX_CHAIN: Final = 12
_LAYER: Final = "syft:location:0:layerID"
_PATH: Final = "syft:location:0:path"
_FAMILIES: Final = {
    "cargo": "crates.io",
    "composer": "Packagist",
    "deb": "Debian",
    "gem": "RubyGems",
    "golang": "Go",
    "hex": "Hex",
    "maven": "Maven",
    "npm": "npm",
    "nuget": "NuGet",
    "pub": "Pub",
    "pypi": "PyPI",
}
"""What OSV calls the types of package URLs (OSV schema 1.7, "Defined Ecosystems")."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How an image came by a component."""

    layer: str = ""
    """The layer's diff id."""
    location: str = ""
    """A file of it there."""
    chain: tuple[str, ...] = ()
    """The packages from one that nothing needs down to this one, as name@version; empty where none is told."""
    is_base: bool = False
    """The layer is one of the base image's."""


NOWHERE: Final = Reach()


@dataclass(frozen=True, slots=True)
class Part:
    """One component of an image, by the names that advisories use."""

    family: str
    """OSV's ecosystem without a release, "Debian"; the type of the package URL where OSV has none."""
    ecosystem: str
    """With its release, "Debian:12"; empty where that is not known: nothing can be decided then."""
    name: str
    version: str
    purl: str
    reach: Reach = NOWHERE


class _Property(msgspec.Struct, frozen=True):
    name: str = ""
    value: str = ""


class _Component(msgspec.Struct, frozen=True):
    purl: str = ""
    reference: str = msgspec.field(name="bom-ref", default="")
    properties: tuple[_Property, ...] = ()
    components: tuple[_Component, ...] = ()


class _Dependency(msgspec.Struct, frozen=True):
    ref: str
    needs: tuple[str, ...] = msgspec.field(name="dependsOn", default=())


class _Metadata(msgspec.Struct, frozen=True):
    component: _Component | None = None


class _Bom(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    components: tuple[_Component, ...] = ()
    dependencies: tuple[_Dependency, ...] = ()


def read_parts(sbom: bytes, *, base_layers: frozenset[str] = frozenset()) -> tuple[Part, ...]:
    """Return the components of a CycloneDX document that have a package URL, sorted by it.

    Args:
        sbom: the document.
        base_layers: the diff ids of the base image's layers; none: it is not known which are its.

    Raises:
        EvidenceError: it is no such document.
    """
    components = read_components(sbom)
    try:
        reaches = _reaches(decode_json(sbom, _Bom), base_layers)
    except MalformedError as error:
        raise EvidenceError(f"a bill of materials names its dependencies in another form: {error}") from error
    return tuple(_part(one.purl, reaches.get(one.purl.text, NOWHERE)) for one in components)


def _part(purl: Purl, reach: Reach) -> Part:
    family = _FAMILIES.get(purl.type, purl.type)
    lookup = lookup_of(purl)
    if lookup is not None:
        return Part(family, lookup.ecosystems[0], lookup.name, lookup.version, purl.text, reach)
    return Part(family, "", _name(purl), purl.source_version, purl.text, reach)


def _name(purl: Purl) -> str:
    """Return what OSV calls a package that is not looked up here: its records may be about it all the same."""
    if purl.type in {"composer", "golang", "maven"}:
        path = purl.package.removeprefix(f"pkg:{purl.type}/")
        return path.replace("/", ":") if purl.type == "maven" else path
    if purl.type == "pypi":
        return package_name("PyPI", purl.name)
    return purl.source_name if purl.type == "deb" else purl.name


def _reaches(bom: _Bom, base_layers: frozenset[str]) -> dict[str, Reach]:
    found: dict[str, Reach] = {}
    chains = _chains(bom)
    for one in bom.components:
        if one.purl and one.purl not in found:
            told = {each.name: each.value for each in one.properties if each.name in {_LAYER, _PATH}}
            layer = told.get(_LAYER, "")
            found[one.purl] = Reach(layer, told.get(_PATH, ""), chains.get(one.reference, ()), layer in base_layers)
    return found


def _chains(bom: _Bom) -> dict[str, tuple[str, ...]]:
    """Return the shortest chain to each component that something needs, by its reference; breadth first."""
    labels = {one.reference: _label(one.purl) for one in bom.components if one.reference and one.purl}
    needs = {one.ref: one.needs for one in bom.dependencies}
    root = bom.metadata.component.reference if bom.metadata.component is not None else ""
    needed = {ref for one in bom.dependencies if one.ref != root for ref in one.needs}
    starts = needs.get(root) or [ref for ref in needs if ref not in needed]
    before = _walk(starts, needs)
    return {ref: _up(ref, before, labels) for ref in labels if before.get(ref) is not None}


def _walk(starts: Iterable[str], needs: Mapping[str, tuple[str, ...]]) -> dict[str, str | None]:
    before: dict[str, str | None] = dict.fromkeys(starts)
    waiting = deque(before)
    while waiting:
        one = waiting.popleft()
        for ref in needs.get(one, ()):
            if ref not in before:
                before[ref] = one
                waiting.append(ref)
    return before


def _up(ref: str, before: Mapping[str, str | None], labels: Mapping[str, str]) -> tuple[str, ...]:
    chain = []
    at: str | None = ref
    while at is not None:
        chain.append(labels.get(at, at[:200]))
        at = before[at]
    chain.reverse()
    if len(chain) > _MAX_CHAIN:
        half = _MAX_CHAIN // 2
        chain = [*chain[:half], "…", *chain[-half:]]
    return tuple(chain)


def _label(purl: str) -> str:
    url = parse_purl(purl)
    return f"{url.name}@{url.version}" if url.version else url.name
