"""Bills of materials follow from the image alone, are valid, and are refused where they name nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.release.evidence.images_made import bom, deb, layer, make_image, metadata, pypi

from pratique.release.errors import EvidenceError, ToolMissingError
from pratique.release.evidence.cyclonedx import LEFT_OUT, normalise_sbom, require_valid
from pratique.release.evidence.sbom import SbomCollector, find_syft
from pratique.release.evidence.settings import EvidenceSettings
from pratique.release.values import Digest, Subject

pytestmark = pytest.mark.unit

SUBJECT = Subject("registry.example/chat", Digest("sha256:" + "1" * 64))


def raw(*components: dict[str, Any], serial: int = 1, **more: Any) -> bytes:
    document = bom(*components) | {
        "serialNumber": f"urn:uuid:00000000-0000-4000-8000-00000000000{serial}",
        "metadata": {"timestamp": f"2024-01-0{serial}T00:00:00Z", "component": {"type": "file", "name": "/work/x"}},
    }
    return json.dumps(document | more).encode()


def test_the_same_image_has_the_same_bill_whatever_the_tool_adds() -> None:
    one, other = pypi("a", "1"), pypi("b", "2")
    edges: list[Any] = [{"ref": "b"}, {"ref": "a"}]
    first = normalise_sbom(raw(one, other, dependencies=edges), SUBJECT, "2024-01-01T00:00:00Z")
    second = normalise_sbom(raw(other, one, serial=2, dependencies=edges[::-1]), SUBJECT, "2024-01-01T00:00:00Z")
    assert first == second
    assert first["metadata"]["timestamp"] == "2024-01-01T00:00:00Z"
    assert first["metadata"]["component"]["version"] == SUBJECT.digest
    require_valid(json.dumps(first).encode())


def test_another_image_has_another_serial_number() -> None:
    other = Subject(SUBJECT.repository, Digest("sha256:" + "2" * 64))
    numbers = {normalise_sbom(raw(pypi("a", "1")), one, "")["serialNumber"] for one in (SUBJECT, other)}
    assert len(numbers) == 2


def test_an_image_without_a_time_has_a_bill_without_one() -> None:
    assert "timestamp" not in normalise_sbom(raw(pypi("a", "1")), SUBJECT, "")["metadata"]


@pytest.mark.parametrize("components", [(), ({"type": "operating-system", "name": "debian"},)])
def test_a_bill_that_names_no_package_is_refused(components: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(EvidenceError, match="names no component"):
        normalise_sbom(raw(*components), SUBJECT, "")


def npm(name: str, *paths: str, version: str = "", **more: Any) -> dict[str, Any]:
    """As syft writes it."""
    places = [{"name": f"syft:location:{number}:path", "value": path} for number, path in enumerate(paths)]
    found = {"name": "syft:package:type", "value": "npm"}
    purl = f"pkg:npm/{name}@{version}" if version else f"pkg:npm/{name}"
    return {"type": "library", "name": name, "version": version or "UNKNOWN", "purl": purl} | {
        "bom-ref": f"{purl}?package-id=1",
        "properties": [found, *places],
        **more,
    }


PROJECT = "/opt/site-packages/tools/package.json"


def test_the_manifest_of_a_folder_is_no_package_and_is_named() -> None:
    tools = npm("tools", PROJECT, "/srv/tools/package.json")
    edges = [{"ref": tools["bom-ref"], "dependsOn": ["b"]}, {"ref": "a", "dependsOn": ["b", tools["bom-ref"]]}]
    document = normalise_sbom(raw(tools, pypi("a", "1"), dependencies=edges), SUBJECT, "")
    assert [one["name"] for one in document["components"]] == ["a"]
    assert document["dependencies"] == [{"ref": "a", "dependsOn": ["b"]}]
    assert document["metadata"]["properties"] == [
        {"name": LEFT_OUT, "value": PROJECT},
        {"name": LEFT_OUT, "value": "/srv/tools/package.json"},
    ]
    require_valid(json.dumps(document).encode())
    with pytest.raises(EvidenceError, match="names no component"):
        normalise_sbom(raw(tools), SUBJECT, "")


@pytest.mark.parametrize(
    "component",
    [
        npm("tools", PROJECT, version="1.0.0"),
        npm("tools", "/srv/node_modules/tools/package.json"),
        npm("tools", PROJECT, "/srv/node_modules/tools/package.json"),
        npm("tools", "/srv/package-lock.json"),
        npm("tools"),
        npm("tools", PROJECT, purl="pkg:pypi/tools"),
    ],
)
def test_what_may_be_a_package_stays_in_the_bill(component: dict[str, Any]) -> None:
    document = normalise_sbom(raw(component, pypi("a", "1")), SUBJECT, "")
    assert component in document["components"]
    assert "properties" not in document["metadata"]


@pytest.mark.parametrize(
    "spoilt",
    [
        {"components": [{"name": "without a type"}]},
        {"unknown": 1},
        {"serialNumber": "7"},
        {"metadata": {"timestamp": "today"}},
        {"components": [pypi("a", "1"), pypi("a", "1")]},
    ],
)
def test_a_document_that_breaks_the_standard_is_refused(spoilt: dict[str, Any]) -> None:
    document = normalise_sbom(raw(pypi("a", "1")), SUBJECT, "")
    require_valid(json.dumps(document).encode())
    with pytest.raises(EvidenceError, match=r"breaks CycloneDX 1\.6"):
        require_valid(json.dumps(document | spoilt).encode())


def collector(monkeypatch: pytest.MonkeyPatch, output: bytes) -> SbomCollector:
    """A collector whose syft has run already."""
    monkeypatch.setattr(SbomCollector, "_run", lambda _self, _image: output)
    return SbomCollector(EvidenceSettings())


def test_a_bill_that_leaves_out_an_installed_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(
        tmp_path, layer(*((f"{name}-1.dist-info/METADATA", metadata(name, "1")) for name in "abcdefghijklm"))
    )
    with pytest.raises(EvidenceError, match=r"leaves out 12 packages .* pkg:pypi/b@1, .* and 2 more"):
        collector(monkeypatch, raw(pypi("a", "1"))).collect(image)


def test_a_whole_bill_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_image(tmp_path, layer(("a.dist-info/METADATA", metadata("a", "1"))))
    predicate = collector(monkeypatch, raw(pypi("a", "1"), deb("more", "1"))).collect(image)
    assert isinstance(predicate.content, dict)
    assert predicate.content["metadata"]["component"]["name"] == "registry.example/team/chat"


def test_an_image_whose_configuration_has_no_time_is_told_when_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    image = replace(make_image(tmp_path), config=b'{"created": 7}')
    with pytest.raises(EvidenceError, match="configuration cannot be read"):
        collector(monkeypatch, raw(pypi("a", "1"))).collect(image)


def test_syft_is_looked_for_beside_python_then_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ToolMissingError, match="'syft' is needed"):
        find_syft()
    for folder in (tmp_path / "bin", tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / "syft").touch(mode=0o755)
        assert find_syft().name == str(folder / "syft")
