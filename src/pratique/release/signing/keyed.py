"""Signing statements with a key: a file's, or a key management service's.

The bundle names the key by the hash of its public half and has no log entry: a key is trusted by name, and a private
registry has no public log. cosign reads it with `--key` and `--insecure-ignore-tlog`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pratique.release.signing.bundle import write_keyed_bundle
from pratique.release.signing.dsse import Envelope, pae
from pratique.release.signing.interface import KeyHandle
from pratique.release.signing.publickey import parse_public_key
from pratique.release.statements import PAYLOAD_TYPE, parse_statement

__all__ = ["KeyedSigner"]


@dataclass(frozen=True, slots=True)
class KeyedSigner:
    """A `StatementSigner` that holds a key."""

    key: KeyHandle

    def sign(self, payload: bytes) -> bytes:
        """Return a bundle over a statement's bytes.

        Raises:
            EvidenceError: the bytes are no statement: nothing else is signed.
            UnavailableError: the key service did not answer.
            RefusedError: it answered no.
        """
        parse_statement(payload)
        public = parse_public_key(self.key.public_key_der)
        signature = self.key.sign(pae(PAYLOAD_TYPE, payload))
        return write_keyed_bundle(Envelope(payload, PAYLOAD_TYPE, signature), hint=public.hint)
