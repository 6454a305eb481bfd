"""A front that is killed while many write through it: what was confirmed is there, and tags open again."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.errors import PratiqueError
from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.settings import RegistrySettings
from pratique.release.values import Digest, digest_of

if TYPE_CHECKING:
    from pratique.testkit.services.registry import RegistryEndpoint, RegistryNamespace

pytestmark = [pytest.mark.integration]

WRITERS = 6
ROUNDS = 3


def test_no_confirmed_evidence_is_lost_and_no_tag_stays_closed(
    pratique_registry: RegistryEndpoint, registry: RegistryNamespace, tmp_path: Path, start_front: Any
) -> None:
    config = tmp_path / "release.toml"
    config.write_text("[release.registry.front]\nupstream_seconds = 1\n")  # a lease lasts for three
    client = HttpRegistry(RegistrySettings(attempts=1), AuthFiles(()))
    path = registry.repository("app")
    plain = f"{registry.endpoint.address}/{path}"
    blob = client.put_blob(plain, b"{}")
    about: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "config": {"mediaType": "a/config", "digest": blob.digest, "size": blob.size_bytes},
        "layers": [],
    }
    image = json.dumps(about).encode()
    subject = client.put_manifest(plain, digest_of(image), image, IMAGE_MANIFEST)
    confirmed: list[Digest] = []

    def write(address: str, name: str, killed: threading.Event) -> None:
        number = 0
        while not killed.is_set():
            number += 1
            of_it = {"mediaType": IMAGE_MANIFEST, "digest": subject, "size": len(image)}
            content = json.dumps({**about, "subject": of_it, "annotations": {"name": f"{name}-{number}"}}).encode()
            try:
                digest = client.put_manifest(f"{address}/{path}", f"{name}-{number}", content, IMAGE_MANIFEST)
            except PratiqueError:
                continue  # not confirmed: nothing is promised
            confirmed.append(digest)

    for round_ in range(ROUNDS):
        front = start_front(pratique_registry.url, tmp_path / "state", "--config", config)
        killed = threading.Event()
        threads = [
            threading.Thread(target=write, args=(front.address, f"r{round_}-{writer}", killed))
            for writer in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.3, 0.8))  # noqa: S311 - any moment
        front.kill()
        killed.set()
        for thread in threads:
            thread.join(30)

    front = start_front(pratique_registry.url, tmp_path / "state", "--config", config)
    found = client.referrers(f"{front.address}/{path}", subject)
    assert found is not None
    listed = {one["digest"] for one in json.loads(found.content)["manifests"]}
    assert len(confirmed) > ROUNDS
    assert set(confirmed) <= listed
    # What a killed front held runs out: within the wait for a lock, its tags are written again.
    after = threading.Event()
    num_confirmed = len(confirmed)
    writing = threading.Thread(target=write, args=(front.address, "last", after))
    writing.start()
    time.sleep(4)
    after.set()
    writing.join(30)
    assert len(confirmed) > num_confirmed
