"""From an image in a real registry to evidence beside it, by the commands alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.release.advisories.osv_records import affected, events, record
from tests.unit.release.evidence.images_made import DPKG, layer, make_image, metadata

from pratique.cli.main import main
from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.layout import ImageLayout, push_image
from pratique.release.registry.settings import RegistrySettings
from pratique.testkit.services.registry import RegistryNamespace

pytestmark = pytest.mark.integration

OS = 'NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_evidence_is_collected_signed_and_verified(
    registry: RegistryNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    repository = registry.reference("chat").rpartition(":")[0]
    image = make_image(
        Path("image"),
        layer(("etc/os-release", OS), ("var/lib/dpkg/status", DPKG)),
        layer(("usr/lib/python3/dist-packages/left_pad-1.2.dist-info/METADATA", metadata("left-pad", "1.2"))),
    )
    client = HttpRegistry(RegistrySettings(), AuthFiles(()))
    push_image(ImageLayout(image.layout), image.subject.digest, client, repository)
    Path("osv").mkdir()
    Path("osv/1.json").write_bytes(record("PYSEC-1", affected(events("introduced 0", "fixed 1.3"), name="left-pad")))
    openssl = affected(events("introduced 0", "fixed 3.0.13-1"), name="openssl", ecosystem="Debian:12")
    Path("osv/2.json").write_bytes(record("DSA-1-1", openssl, database_specific={"severity": "HIGH"}))
    assert run("advisories", "import", "osv") == 0
    about = ("--repository", repository)
    assert run("evidence", "collect", image.subject.digest, *about, "--output", "evidence", "--first") == 0
    scan = json.loads(Path("evidence/vulnerabilities.json").read_bytes())["predicate"]["result"]
    assert {(one["id"], one["severity"]) for one in scan["vulnerabilities"]} == {
        ("PYSEC-1", "unknown"),
        ("DSA-1-1", "high"),
    }
    assert scan["num_components"] == 4  # syft also lists what was removed, with its configuration left
    assert run("signing-key", "create", "release.key", "--no-password") == 0
    assert run("evidence", "attach", *sorted(Path("evidence").iterdir()), *about, "--key", "release.key") == 0
    assert run("sign", image.subject.digest, *about, "--key", "release.key") == 0
    capsys.readouterr()
    assert run("verify", image.subject.digest, *about, "--key", "release.key.pub", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["attestations"]) == 5
    assert told["unverified"] == []
