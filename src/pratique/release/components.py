"""What an image is made of, read from its bill of materials: the components that every question is asked about.

Read is what decides: the package URL, the version, the licences, and Debian's source package, by which advisories are
named. What a document says beyond that is left alone. Source: CycloneDX 1.4 to 1.7 (ECMA-424), purl specification.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError

__all__ = ["Component", "Purl", "parse_purl", "read_components"]

MAX_DEPTH: Final = 32
"""So deep may components be nested in components; what is deeper is refused."""
MAX_COMPONENTS: Final = 200_000
_MAX_PURL: Final = 4096


@dataclass(frozen=True, slots=True)
class Purl:
    """A package URL, taken apart."""

    text: str
    type: str
    package: str
    """Without version, qualifiers and subpath: what stays the same from one version to the next."""
    name: str
    """With its namespace for npm: "@scope/name"."""
    version: str
    source_name: str
    """Debian's source package (the qualifier `upstream`); the name where none is given."""
    source_version: str
    distribution: str
    """The qualifier `distro`, for example "debian-12"."""


@dataclass(frozen=True, slots=True)
class Component:
    """One package of an image."""

    purl: Purl
    licences: tuple[str, ...] = ()
    """As the document has them: SPDX identifiers, expressions, or names; sorted."""
    num_entries: int = 1
    """How often the document names it: in two places of the image, for example."""


class _Licence(msgspec.Struct, frozen=True):
    id: str = ""
    name: str = ""


class _LicenceChoice(msgspec.Struct, frozen=True):
    license: _Licence | None = None
    expression: str = ""

    @property
    def text(self) -> str:
        return self.expression or (self.license.id or self.license.name if self.license else "")


class _Component(msgspec.Struct, frozen=True):
    name: str
    type: str = ""
    version: str = ""
    purl: str = ""
    licenses: tuple[_LicenceChoice, ...] = ()
    components: tuple[_Component, ...] = ()


class _Bom(msgspec.Struct, frozen=True):
    format: Literal["CycloneDX"] = msgspec.field(name="bomFormat")
    specification: Literal["1.4", "1.5", "1.6", "1.7"] = msgspec.field(name="specVersion")
    components: tuple[_Component, ...] = ()


@functools.lru_cache(maxsize=65_536)
def parse_purl(text: str) -> Purl:
    """Take a package URL apart. The same few thousand occur in every image, so they are remembered.

    Raises:
        EvidenceError: it is none.
    """
    from packageurl import PackageURL

    if len(text) > _MAX_PURL:
        raise EvidenceError(f"a package URL has {len(text)} characters, at most {_MAX_PURL} are read: {text[:200]}…")
    try:
        url = PackageURL.from_string(text)
    except ValueError as error:
        raise EvidenceError(f"expected a package URL, got '{text[:200]}': {error}") from error
    version = url.version or ""
    source, _, source_version = url.qualifiers.get("upstream", "").partition("@")
    name = f"{url.namespace}/{url.name}" if url.type == "npm" and url.namespace else url.name
    return Purl(
        text=text,
        type=url.type,
        package=PackageURL(url.type, url.namespace, url.name).to_string(),
        name=name,
        version=version,
        source_name=source or url.name,
        source_version=source_version or version,
        distribution=url.qualifiers.get("distro", ""),
    )


def read_components(sbom: bytes) -> tuple[Component, ...]:
    """Return the components of a CycloneDX document that have a package URL, nested ones too, sorted by it.

    Of several with one package URL the licences are united.

    Raises:
        EvidenceError: it is no such document, or a package URL in it is none.
    """
    try:
        bom = decode_json(sbom, _Bom)
    except MalformedError as error:
        raise EvidenceError(f"expected a CycloneDX document in JSON, 1.4 to 1.7: {error}") from error
    found: dict[str, list[set[str]]] = {}
    for number, one in enumerate(_all(bom.components)):
        if number >= MAX_COMPONENTS:
            raise EvidenceError(f"an SBOM with more than {MAX_COMPONENTS} components is not read")
        if one.purl:
            found.setdefault(one.purl, []).append({text for choice in one.licenses if (text := choice.text)})
    return tuple(
        Component(parse_purl(purl), tuple(sorted(set().union(*licences))), len(licences))
        for purl, licences in sorted(found.items())
    )


def _all(components: tuple[_Component, ...], depth: int = 0) -> Iterator[_Component]:
    if components and depth >= MAX_DEPTH:
        raise EvidenceError(f"components are nested more than {MAX_DEPTH} deep in an SBOM")
    for component in components:
        yield component
        yield from _all(component.components, depth + 1)
