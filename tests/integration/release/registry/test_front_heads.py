"""The front's reader of requests: heads have a bound, and a body ends where one reader says that it does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from typing import TYPE_CHECKING

import pytest

from pratique.release.registry.interface import IMAGE_MANIFEST

if TYPE_CHECKING:
    from tests.integration.release.registry.conftest import RunningFront

    from pratique.testkit.services.registry import RegistryNamespace

pytestmark = pytest.mark.integration

SECONDS = 5.0


def say(front: RunningFront, content: bytes) -> bytes:
    """Send bytes, and return what comes back until the front ends the connection, or says no more."""
    host, _, port = front.address.rpartition(":")
    said = b""
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=SECONDS) as peer:
        peer.sendall(content)
        while piece := peer.recv(65536):
            said += piece
    return said


def request(line: str, body: bytes = b"", *, headers: str = "") -> bytes:
    length = "" if "Transfer-Encoding" in headers else f"Content-Length: {len(body)}\r\n"
    return f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}{headers}\r\n".encode() + body


@pytest.mark.parametrize("head", [b"X: " + b"a" * 1_000_000, b"".join(b"X%d: a\r\n" % n for n in range(100_000))])
def test_a_head_without_end_is_not_kept_in_memory(front: RunningFront, head: bytes) -> None:
    assert b" 200 " not in say(front, b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")[:100]
    assert b" 200 " in say(front, request("GET /v2/"))[:100]


def test_a_second_request_in_a_body_moves_no_tag(front: RunningFront, registry: RegistryNamespace) -> None:
    name = registry.repository("smuggled")
    config = "sha256:" + hashlib.sha256(b"{}").hexdigest()

    def begin() -> str:
        said = say(front, request(f"POST /v2/{name}/blobs/uploads/")).decode()
        return next(line.partition(" ")[2] for line in said.split("\r\n") if line.lower().startswith("location:"))

    def manifest(note: str) -> bytes:
        described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}
        document = {"schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": described, "layers": []}
        return json.dumps(document | {"annotations": {"note": note}}).encode()

    def put(content: bytes) -> bytes:
        return request(f"PUT /v2/{name}/manifests/v1", content, headers=f"Content-Type: {IMAGE_MANIFEST}\r\n")

    assert b" 201 " in say(front, request(f"PUT {begin()}&digest={config}", b"{}"))
    assert b" 201 " in say(front, put(manifest("first")))
    smuggled = b"abc" + put(manifest("second"))
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    for headers in (
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ):
        say(front, request(f"PATCH {begin()}", chunked, headers=headers))
    accept = f"Accept: {IMAGE_MANIFEST}\r\n"
    assert manifest("first") in say(front, request(f"GET /v2/{name}/manifests/v1", headers=accept))
