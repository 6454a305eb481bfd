"""A scripted instance over real HTTP: Fulcio's, Rekor's (both generations) and a time stamp authority's interfaces.

For tests of what goes over a socket. It believes every identity token and looks at nothing but its claims.
"""

from __future__ import annotations

import base64
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pratique.release.decoding import decode_json
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.values import CertificateIdentity

__all__ = ["ScriptedServices"]

_ALWAYS: Final = {"start": "2020-01-01T00:00:00Z"}


class ScriptedServices:
    """Serves an instance on a free loopback port within `running`. `answers` can be replaced, path by path."""

    def __init__(self, instance: ScriptedInstance) -> None:
        self.instance = instance
        self.url = ""
        self.answers: dict[str, Callable[[bytes, str], tuple[int, bytes]]] = {
            "/api/v2/signingCert": self._issue,
            "/api/v1/log/entries": self._log_v1,
            "/api/v2/log/entries": self._log_v2,
            "/api/v1/timestamp": self._stamp,
        }

    @contextmanager
    def running(self) -> Iterator[ScriptedServices]:
        """Serve until left."""
        services = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = services.answers.get(self.path, _nothing)
                status, content = answer(body, self.headers.get("authorization", ""))
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def trust_config(self) -> dict[str, Any]:
        """Return the client trust config that leads here."""
        version = self.instance.log.version

        def service(path: str = "", major: int = 1) -> list[dict[str, Any]]:
            url = self.url + path
            return [{"url": url, "majorApiVersion": major, "validFor": _ALWAYS, "operator": "example"}]

        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.instance.trusted_root(),
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": service(),
                "oidcUrls": service(),
                "rekorTlogUrls": service(major=version),
                "tsaUrls": service("/api/v1/timestamp") if version != 1 else [],
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaConfig": {"selector": "ANY"},
            },
        }

    def _issue(self, body: bytes, authorization: str) -> tuple[int, bytes]:
        request = x509.load_pem_x509_csr(base64.b64decode(_read(body)["certificateSigningRequest"]))
        claims = authorization.split(".")[1]
        who = _read(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - sigstore-python makes no others
        identity = CertificateIdentity(who["iss"], who["sub"])
        leaf = self.instance.issue(key, identity, at=_now())
        chain = [one.public_bytes(Encoding.PEM).decode() for one in (leaf, *self.instance.ca_chain)]
        return 200, msgspec.json.encode({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})

    def _log_v1(self, body: bytes, _authorization: str) -> tuple[int, bytes]:
        proposed = _read(body)["spec"]["proposedContent"]
        envelope = _read(proposed["envelope"])
        certificate = x509.load_pem_x509_certificate(base64.b64decode(proposed["verifiers"][0]))
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
        entry = self.instance.log_envelope(base64.b64decode(envelope["payload"]), signature, certificate, at=_now())
        proof = entry["inclusionProof"]
        answer = {
            "body": entry["canonicalizedBody"],
            "integratedTime": int(entry["integratedTime"]),
            "logID": self.instance.log.id.hex(),
            "logIndex": int(entry["logIndex"]),
            "verification": {
                "inclusionProof": {
                    "checkpoint": proof["checkpoint"]["envelope"],
                    "hashes": [base64.b64decode(one).hex() for one in proof["hashes"]],
                    "logIndex": int(proof["logIndex"]),
                    "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                    "treeSize": int(proof["treeSize"]),
                },
                **entry["inclusionPromise"],
            },
        }
        return 201, msgspec.json.encode({"0" * 80: answer})

    def _log_v2(self, body: bytes, _authorization: str) -> tuple[int, bytes]:
        asked = _read(body)["hashedRekordRequestV002"]
        signature = asked["signature"]
        certificate = base64.b64decode(signature["verifier"]["x509Certificate"]["rawBytes"])
        digest, content = base64.b64decode(asked["digest"]), base64.b64decode(signature["content"])
        return 201, msgspec.json.encode(self.instance.log_digest(digest, content, certificate, at=_now()))

    def _stamp(self, body: bytes, _authorization: str) -> tuple[int, bytes]:
        imprint = body.index(b"\x04\x20") + 2  # the request's only OCTET STRING of 32 bytes (RFC 3161, 2.4.1)
        return 200, self.instance.tsa.stamp_sha256(body[imprint : imprint + 32], _now())


def _read(body: bytes | str) -> dict[str, Any]:
    return decode_json(body, dict[str, Any])


def _nothing(_body: bytes, _authorization: str) -> tuple[int, bytes]:
    return 404, b"{}"


def _now() -> dt.datetime:
    return dt.datetime.now(tz=dt.UTC).replace(microsecond=0)
