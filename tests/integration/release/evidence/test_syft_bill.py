"""syft itself lists a made-up image; what it writes is the same twice, valid, and held against the image's books."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.unit.release.evidence.images_made import DPKG, layer, make_image, metadata
from tests.unit.release.policy.evidence_set import decide, dossier, reasons, rule

from pratique.release.components import read_components
from pratique.release.errors import EvidenceError, ToolFailedError
from pratique.release.evidence.cyclonedx import LEFT_OUT
from pratique.release.evidence.interface import Image
from pratique.release.evidence.sbom import SbomCollector
from pratique.release.evidence.settings import EvidenceSettings
from pratique.release.statements import make_statement
from pratique.testkit import tools

pytestmark = pytest.mark.integration

OS = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'
TOOLS = Path(tools.__file__).parent
MANIFEST, LOCK = TOOLS / "package.json", TOOLS / "package-lock.json"
SITE = "usr/lib/python3/dist-packages"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return make_image(
        tmp_path_factory.mktemp("image") / "layout",
        layer(("etc/os-release", OS), ("var/lib/dpkg/status", DPKG)),
        layer((f"{SITE}/left_pad-1.2.dist-info/METADATA", metadata("left-pad", "1.2"))),
    )


def test_the_bill_is_the_same_twice_and_names_what_advisories_name(image: Image, tmp_path: Path) -> None:
    collector = SbomCollector(EvidenceSettings())
    first, second = collector.collect(image), collector.collect(image)
    statements = [make_statement(image.subject.digest, one.type, one.content) for one in (first, second)]
    assert statements[0].digest == statements[1].digest
    found = {one.purl.package: one for one in read_components(statements[0].predicate)}
    assert {"pkg:deb/debian/openssl", "pkg:deb/debian/zlib1g", "pkg:pypi/left-pad"} <= set(found)
    assert found["pkg:deb/debian/openssl"].purl.distribution == "debian-12"
    assert found["pkg:pypi/left-pad"].licences == ("MIT",)


def test_what_the_environment_tells_syft_to_leave_out_is_noticed(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYFT_EXCLUDE", "**/dist-packages/**")
    with pytest.raises(EvidenceError, match=r"leaves out 1 packages .* pkg:pypi/left-pad@1\.2"):
        SbomCollector(EvidenceSettings()).collect(image)


def test_a_folder_with_a_package_json_of_its_own_passes_the_gate_s_rule(tmp_path: Path) -> None:
    """As in the orchestrator's image, which holds the test kit's list of tools."""
    image = make_image(
        tmp_path / "layout",
        layer(("etc/os-release", OS), ("var/lib/dpkg/status", DPKG)),
        layer((f"{SITE}/left_pad-1.2.dist-info/METADATA", metadata("left-pad", "1.2"))),
        layer(*((f"{SITE}/tools/{file.name}", file.read_text()) for file in (MANIFEST, LOCK))),
        layer(("srv/node_modules/ours/package.json", '{"name": "ours"}')),
    )
    content = SbomCollector(EvidenceSettings()).collect(image).content
    assert isinstance(content, dict)
    assert content["metadata"]["properties"] == [{"name": LEFT_OUT, "value": f"/{SITE}/tools/package.json"}]
    found = decide(dossier({"sbom": lambda piece: replace(piece, predicate=content)}))
    (why,) = reasons(found, "sbom")
    expected = "1 components have no version or no purl: ours (/srv/node_modules/ours/package.json)"
    assert why.message == expected
    content["components"] = [one for one in content["components"] if one["name"] != "ours"]
    assert rule(decide(dossier({"sbom": lambda piece: replace(piece, predicate=content)})), "sbom").outcome == "pass"


def test_syft_has_its_time(image: Image) -> None:
    with pytest.raises(ToolFailedError, match="did not end within"):
        SbomCollector(EvidenceSettings(syft_timeout_seconds=0.01)).collect(image)


def test_what_is_no_layout_fails(image: Image, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(msgspec.json.encode({"manifests": []}))
    with pytest.raises(ToolFailedError):
        SbomCollector(EvidenceSettings()).collect(replace(image, layout=tmp_path))
