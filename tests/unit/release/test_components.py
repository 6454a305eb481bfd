"""Components are read from bills of materials; what is malformed is refused, not left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pratique.release.components import parse_purl, read_components
from pratique.release.errors import EvidenceError

pytestmark = pytest.mark.unit


def bom(*components: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": list(components), **more}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        bom(bomFormat="SPDX"),
        bom(specVersion="2.0"),
        bom({"type": "library"}),
        bom({"name": "a", "purl": "no purl"}),
        bom({"name": "a", "purl": "pkg:pypi/" + "a" * 5000}),
        bom({"name": "a", "components": [{"purl": 1}]}),
        b'{"bomFormat":"CycloneDX","specVersion":"1.6","components":' + b"[{" * 20000,
    ],
    ids=lambda content: repr(content[:60]),
)
def test_what_is_no_bill_of_materials_is_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError):
        read_components(content)


def test_components_nested_too_deeply_are_refused() -> None:
    component: dict[str, Any] = {"name": "a"}
    for _ in range(33):
        component = {"name": "a", "components": [component]}
    with pytest.raises(EvidenceError, match="nested"):
        read_components(bom(component))


def test_too_many_components_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.release.components.MAX_COMPONENTS", 1)
    with pytest.raises(EvidenceError, match="more than 1 components"):
        read_components(bom({"name": "a"}, {"name": "b"}))


def test_components_are_sorted_and_nested_ones_found_and_licences_united() -> None:
    licences = [{"license": {"id": "MIT"}}, {"license": {"name": "Custom"}}, {"expression": "A OR B"}, {}]
    found = read_components(
        bom(
            {"name": "b", "purl": "pkg:pypi/b@2", "licenses": licences},
            {"name": "os", "type": "operating-system", "components": [{"name": "a", "purl": "pkg:pypi/a@1"}]},
            {"name": "b", "purl": "pkg:pypi/b@2", "licenses": [{"license": {"id": "0BSD"}}]},
        )
    )
    assert [(one.purl.package, one.purl.version, one.licences) for one in found] == [
        ("pkg:pypi/a", "1", ()),
        ("pkg:pypi/b", "2", ("0BSD", "A OR B", "Custom", "MIT")),
    ]


def test_a_document_without_components_has_none() -> None:
    assert read_components(b'{"bomFormat":"CycloneDX","specVersion":"1.5"}') == ()


def test_a_purl_is_taken_apart() -> None:
    purl = parse_purl("pkg:deb/debian/libc6@2.36-9%2Bdeb12u7?arch=amd64&upstream=glibc%402.36-9&distro=debian-12#sub")
    assert (purl.type, purl.name, purl.version) == ("deb", "libc6", "2.36-9+deb12u7")
    assert purl.package == "pkg:deb/debian/libc6"
    assert (purl.source_name, purl.source_version, purl.distribution) == ("glibc", "2.36-9", "debian-12")
    assert parse_purl("pkg:pypi/a@1").source_name == "a"
    assert parse_purl("pkg:npm/%40scope/name@1").name == "@scope/name"
