"""The front with the tools that people push and pull by: skopeo, buildah, podman; and with two of itself."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from pratique.release.errors import ConflictError
from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.layout import ImageLayout, pull_image, push_image
from pratique.release.registry.settings import RegistrySettings
from pratique.release.signing.attach import attach
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import Digest, Subject, digest_of

if TYPE_CHECKING:
    from pratique.testkit.fixtures import Launcher
    from pratique.testkit.services.registry import RegistryEndpoint, RegistryNamespace

pytestmark = [pytest.mark.integration]

SECONDS = 60


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, **environment}
    )


@pytest.fixture
def client() -> HttpRegistry:
    return HttpRegistry(RegistrySettings(), AuthFiles(()))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Two images of one layer, "one" and "two"."""
    folder = tmp_path / "layout"
    written = ImageLayout(folder)
    for name in ("one", "two"):
        written.put_manifest(name, make_image(written, name.encode()), IMAGE_MANIFEST)
    return folder


def make_image(place: Any, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("content")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    layer = place.put_blob(packed.getvalue())
    about = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}}
    config = place.put_blob(json.dumps(about).encode())
    kinds = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar")
    described = [
        {"mediaType": kind, "digest": blob.digest, "size": blob.size_bytes}
        for kind, blob in zip(kinds, (config, layer), strict=True)
    ]
    return json.dumps(
        {"schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": described[0], "layers": described[1:]}
    ).encode()


def test_skopeo_pushes_and_pulls_and_cannot_move_a_tag(repository: str, layout: Path, tmp_path: Path) -> None:
    skopeo = needs("skopeo")
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests")
    for _ in range(2):  # the same again is no change
        pushed = run(skopeo, "copy", *plain, f"oci:{layout}:one", f"docker://{repository}:v1")
        assert pushed.returncode == 0, pushed.stderr
    refused = run(skopeo, "copy", *plain, f"oci:{layout}:two", f"docker://{repository}:v1")
    assert refused.returncode != 0
    assert "immutable" in refused.stderr
    pulled = run(skopeo, "copy", *plain, f"docker://{repository}:v1", f"oci:{tmp_path / 'back'}:one")
    assert pulled.returncode == 0, pulled.stderr
    assert ImageLayout(tmp_path / "back").manifest("one") == ImageLayout(layout).manifest("one")
    deleted = run(skopeo, "delete", "--tls-verify=false", f"docker://{repository}:v1")
    assert deleted.returncode != 0
    listed = run(skopeo, "list-tags", "--tls-verify=false", f"docker://{repository}")
    assert json.loads(listed.stdout)["Tags"] == ["v1"], listed.stderr


@pytest.fixture
def storage() -> Iterator[tuple[str, ...]]:
    """A storage of this test's own for buildah and podman, which take no long paths."""
    with tempfile.TemporaryDirectory(prefix="pq-") as folder:
        yield "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"


@pytest.mark.parametrize("tool", ["buildah", "podman"])
def test_buildah_and_podman_push_and_pull_and_cannot_move_a_tag(
    repository: str, layout: Path, storage: tuple[str, ...], tool: str
) -> None:
    program = needs(tool)
    names: list[str] = []
    for name in ("one", "two"):
        loaded = run(program, *storage, "pull", "--quiet", f"oci:{layout}:{name}")
        assert loaded.returncode == 0, loaded.stderr
        names.append(loaded.stdout.split()[-1])
    target = f"docker://{repository}:{tool}"
    pushed = run(program, *storage, "push", "--tls-verify=false", names[0], target)
    assert pushed.returncode == 0, pushed.stderr
    refused = run(program, *storage, "push", "--tls-verify=false", names[1], target)
    assert refused.returncode != 0
    assert "immutable" in refused.stderr
    pulled = run(program, *storage, "pull", "--quiet", "--tls-verify=false", target)
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.split()[-1] == names[0]


def test_an_image_travels_through_the_front_by_our_own_client(
    client: HttpRegistry, repository: str, layout: Path, tmp_path: Path
) -> None:
    digest = push_image(ImageLayout(layout), "one", client, repository, "v1")
    back = ImageLayout(tmp_path / "back")
    assert pull_image(client, repository, digest, back) == digest
    with pytest.raises(ConflictError, match="409"):
        push_image(ImageLayout(layout), "two", client, repository, "v1")


def test_a_large_blob_passes_without_being_kept(
    client: HttpRegistry, repository: str, tmp_path: Path, front: Any
) -> None:
    size = 160 * 1024 * 1024  # more than the front's process has, with all that it imports
    file = tmp_path / "large"
    with file.open("wb") as written:
        written.truncate(size)
    blob = client.put_blob(repository, file)
    hasher = hashlib.sha256()
    with client.open_blob(repository, blob.digest) as stream:
        while piece := stream.read(1024 * 1024):
            hasher.update(piece)
    assert f"sha256:{hasher.hexdigest()}" == blob.digest
    status = Path(f"/proc/{front.process.pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak * 1024 < size, "the front kept the blob in memory"


def test_of_two_fronts_with_one_state_one_writer_wins_and_no_referrer_is_lost(
    pratique_registry: RegistryEndpoint, registry: RegistryNamespace, tmp_path: Path, start_front: Any
) -> None:
    fronts = [start_front(pratique_registry.url, tmp_path / "state") for _ in range(2)]
    clients = [HttpRegistry(RegistrySettings(), AuthFiles(())) for _ in fronts]
    places = [f"{front.address}/{registry.repository('app')}" for front in fronts]
    manifests = [make_image(_Place(clients[0], places[0]), str(number).encode()) for number in range(16)]
    subject = clients[0].put_manifest(places[0], "subject", manifests[0], IMAGE_MANIFEST)
    about = {"mediaType": IMAGE_MANIFEST, "digest": subject, "size": len(manifests[0])}
    evidence = [json.dumps({**json.loads(one), "subject": about}).encode() for one in manifests]
    won: list[Digest] = []
    lost: list[ConflictError] = []

    def write(number: int) -> None:
        client, place = clients[number % 2], places[number % 2]
        client.put_manifest(place, digest_of(evidence[number]), evidence[number], IMAGE_MANIFEST)
        try:
            won.append(client.put_manifest(place, "v1", manifests[number], IMAGE_MANIFEST, only_if_absent=True))
        except ConflictError as error:
            lost.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert won == [clients[1].manifest(places[1], "v1").digest]
    assert len(lost) == 15
    for client, place in zip(clients, places, strict=True):
        found = client.referrers(place, subject)
        assert found is not None
        listed = {one["digest"] for one in json.loads(found.content)["manifests"]}
        assert listed == {digest_of(one) for one in evidence}


class _Place:
    def __init__(self, client: HttpRegistry, repository: str) -> None:
        self._client, self._repository = client, repository

    def put_blob(self, content: bytes) -> Any:
        return self._client.put_blob(self._repository, content)


def test_deleting_evidence_takes_it_off_the_list_where_deletes_are_allowed(
    pratique_launch: Launcher, tmp_path: Path, start_front: Any
) -> None:
    server = pratique_launch("registry", "auto")
    front = start_front(server.endpoint.url, tmp_path / "state", "--allow-deletes")
    client = HttpRegistry(RegistrySettings(), AuthFiles(()))
    repository = f"{front.address}/team/app"
    manifests = [make_image(_Place(client, repository), name) for name in (b"0", b"1", b"2", b"3")]
    subject = client.put_manifest(repository, "v1", manifests[0], IMAGE_MANIFEST)
    about = {"mediaType": IMAGE_MANIFEST, "digest": subject, "size": len(manifests[0])}
    evidence = [json.dumps({**json.loads(one), "subject": about}).encode() for one in manifests[1:]]

    def listed() -> set[str]:
        found = client.referrers(repository, subject)
        assert found is not None
        return {one["digest"] for one in json.loads(found.content)["manifests"]}

    def delete(address: str, reference: str) -> int:
        return urllib3.request("DELETE", f"http://{address}/v2/team/app/manifests/{reference}", retries=False).status

    for one in evidence[:2]:
        client.put_manifest(repository, digest_of(one), one, IMAGE_MANIFEST)
    assert delete(front.address, "v1") == 405
    assert delete(front.address, digest_of(evidence[0])) == 202
    assert listed() == {digest_of(evidence[1])}
    # Behind the front's back: the next one that is written mends the list.
    assert delete(server.endpoint.address, digest_of(evidence[1])) == 202
    client.put_manifest(repository, digest_of(evidence[2]), evidence[2], IMAGE_MANIFEST)
    assert listed() == {digest_of(evidence[2])}


def test_evidence_attached_at_once_through_the_front_is_all_there(
    client: HttpRegistry, repository: str, tmp_path: Path
) -> None:
    key = create_key(tmp_path / "release.key", kind="ed25519", password=None)
    signer, public = KeyedSigner(key), parse_public_key(key.public_key_der)
    image = make_image(_Place(client, repository), b"governed")
    subject = Subject(repository, client.put_manifest(repository, "v1", image, IMAGE_MANIFEST))
    bundles = [
        signer.sign(make_statement(subject.digest, "urn:test", {"number": number}).payload) for number in range(32)
    ]
    at = datetime.now(UTC)
    threads = [threading.Thread(target=attach, args=(client, subject, bundle), kwargs={"at": at}) for bundle in bundles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    dossier = load_dossier(client, subject, BundleVerifier((public,)))
    assert dossier.unverified == ()
    assert {one.bundle for one in dossier.attestations} == {digest_of(bundle) for bundle in bundles}
