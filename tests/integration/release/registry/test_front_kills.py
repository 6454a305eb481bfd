"""A front that is killed while many write through it: what was confirmed is there, and tags open again."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
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
ROUNDS = 2


class Writers:
    """Write evidence about one image, and note what was confirmed."""

    def __init__(self, plain: str, path: str) -> None:
        self.client = HttpRegistry(RegistrySettings(attempts=1), AuthFiles(()))
        self.path = path
        blob = self.client.put_blob(plain, b"{}")
        self.about: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": {"mediaType": "a/config", "digest": blob.digest, "size": blob.size_bytes},
            "layers": [],
        }
        image = json.dumps(self.about).encode()
        self.subject = self.client.put_manifest(plain, digest_of(image), image, IMAGE_MANIFEST)
        self.confirmed: list[Digest] = []

    def write(self, address: str, name: str, ended: threading.Event) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            of_it = {"mediaType": IMAGE_MANIFEST, "digest": self.subject, "size": 1}
            named = {"subject": of_it, "annotations": {"name": f"{name}-{number}"}}
            content = json.dumps({**self.about, **named}).encode()
            try:
                put = self.client.put_manifest(f"{address}/{self.path}", f"{name}-{number}", content, IMAGE_MANIFEST)
            except PratiqueError:
                continue  # not confirmed: nothing is promised
            self.confirmed.append(put)

    def listed(self, address: str) -> set[str]:
        found = self.client.referrers(f"{address}/{self.path}", self.subject)
        assert found is not None
        return {one["digest"] for one in json.loads(found.content)["manifests"]}

    def run(self, address: str, name: str, num_writers: int, end: Callable[[], None]) -> None:
        ended = threading.Event()
        threads = [
            threading.Thread(target=self.write, args=(address, f"{name}-{writer}", ended))
            for writer in range(num_writers)
        ]
        for thread in threads:
            thread.start()
        end()
        ended.set()
        for thread in threads:
            thread.join(30)


def test_no_confirmed_evidence_is_lost_and_no_tag_stays_closed(
    pratique_registry: RegistryEndpoint, registry: RegistryNamespace, tmp_path: Path, start_front: Any
) -> None:
    config = tmp_path / "release.toml"
    config.write_text("[release.registry.front]\nupstream_seconds = 1\n")  # a lease lasts for three
    path = registry.repository("app")
    writers = Writers(f"{registry.endpoint.address}/{path}", path)
    for round_ in range(ROUNDS):
        front = start_front(pratique_registry.url, tmp_path / "state", "--config", config)

        def kill(front: Any = front) -> None:
            time.sleep(random.uniform(0.3, 0.8))  # noqa: S311 - any moment
            front.kill()

        writers.run(front.address, f"r{round_}", WRITERS, kill)

    front = start_front(pratique_registry.url, tmp_path / "state", "--config", config)
    num_confirmed = len(writers.confirmed)
    assert num_confirmed > ROUNDS
    assert set(writers.confirmed) <= writers.listed(front.address)
    # What a killed front held runs out: the list is written again.
    writers.run(front.address, "last", 1, lambda: time.sleep(3.5))
    assert len(writers.confirmed) > num_confirmed
    assert set(writers.confirmed) <= writers.listed(front.address)
