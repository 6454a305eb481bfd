"""Signs the evidence set for real: keys for some parties, certificates of a scripted Sigstore instance for others."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.release.policy.evidence_set import NOW, PARTIES, POLICY_TEXT, SUBJECT, Piece

from pratique.release.errors import VerificationError
from pratique.release.policy.document import Policy
from pratique.release.policy.parse import parse_policy
from pratique.release.signing.bundle import write_keyed_bundle
from pratique.release.signing.dsse import Envelope, pae
from pratique.release.signing.interface import Attestation, Dossier, Unverified
from pratique.release.signing.keys import FileKey
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.trust import parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import PAYLOAD_TYPE
from pratique.release.values import CertificateIdentity, KeyIdentity, Subject

AN_HOUR_AGO = NOW - timedelta(hours=1)


def new_key() -> FileKey:
    return FileKey(ec.generate_private_key(ec.SECP256R1()))


@dataclass
class Workshop:
    """Keys and identities for every party, a policy that names them, and a verifier that knows them."""

    instance: ScriptedInstance = field(default_factory=ScriptedInstance)
    keys: dict[str, FileKey] = field(default_factory=dict)
    signed: dict[tuple[bytes, str, datetime], bytes] = field(default_factory=dict)
    verified: dict[bytes, Attestation | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = {party: new_key() for party, signer in PARTIES.items() if isinstance(signer, KeyIdentity)}

    @functools.cached_property
    def policy(self) -> Policy:
        """The policy of the docs, with the fingerprints of these keys."""
        numbers = {
            str(PARTIES[party]).removeprefix("key "): parse_public_key(key.public_key_der).fingerprint
            for party, key in self.keys.items()
        }
        text = re.sub(r"sha256:(\d)\1{63}", lambda found: numbers.get(found[0], found[0]), POLICY_TEXT)
        return parse_policy(text.encode())

    @functools.cached_property
    def verifier(self) -> BundleVerifier:
        keys = (parse_public_key(key.public_key_der) for party, key in self.keys.items() if party != "stranger")
        return BundleVerifier(tuple(keys), parse_trust_root(self.instance.trust_root_json()))

    def sign(self, payload: bytes, party: str, *, at: datetime = AN_HOUR_AGO) -> bytes:
        """Return a bundle; the same one for the same arguments."""
        place = (payload, party, at)
        if place not in self.signed:
            self.signed[place] = self._sign(payload, party, at)
        return self.signed[place]

    def _sign(self, payload: bytes, party: str, at: datetime) -> bytes:
        identity = PARTIES[party]
        if isinstance(identity, CertificateIdentity):
            return msgspec.json.encode(self.instance.sign(payload, identity, at=at))
        return self.sign_with(self.keys[party], payload)

    @staticmethod
    def sign_with(key: FileKey, payload: bytes, *, hint: str | None = None) -> bytes:
        """Sign whatever it is; an honest signer refuses what is no statement."""
        envelope = Envelope(payload, PAYLOAD_TYPE, key.sign(pae(PAYLOAD_TYPE, payload)))
        return write_keyed_bundle(envelope, hint=hint or parse_public_key(key.public_key_der).hint)

    def bundles(self, pieces: Mapping[str, Piece]) -> dict[str, bytes]:
        return {
            name: self.sign(one.payload, one.party, at=one.signed_at or AN_HOUR_AGO) for name, one in pieces.items()
        }

    def dossier(self, bundles: Mapping[str, bytes], *, subject: Subject = SUBJECT) -> Dossier:
        """What a reader of a registry makes of bundles: what holds, and what proves nothing."""
        attestations, unverified = [], []
        for name, bundle in bundles.items():
            found = self._verify(bundle)
            if isinstance(found, str):
                unverified.append(Unverified(name, found))
            else:
                attestations.append(found)
        return Dossier(subject, tuple(attestations), tuple(unverified))

    def _verify(self, bundle: bytes) -> Attestation | str:
        if bundle not in self.verified:
            try:
                self.verified[bundle] = self.verifier.verify(bundle)
            except VerificationError as error:
                self.verified[bundle] = error.message
        return self.verified[bundle]


@functools.cache
def workshop() -> Workshop:
    return Workshop()
