"""The verifier of bundles: keys and certificates, offline. What it returns is true; whether it suffices is policy.

The steps, for a bundle over a statement:
1. The bundle is well formed (`bundle`), and its material names a key that is accepted, or holds a certificate.
2. The signature over the envelope's encoding is that key's.
3. Each log entry is in a log of the trust root (`translog`) and is about this signature (`logged`).
4. Each time stamp is of an authority of the trust root, over this signature (`timestamps`).
5. Logs are believed for the times so proved. A certificate was valid at each of them, issued by an authority of the
   trust root and promised to a certificate log (`certificate`); at least one log entry and one time must be there.
6. The envelope holds an in-toto statement.

A key needs neither log nor time: it is trusted by name. What its bundle has of both must hold all the same.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

from pratique.release.errors import EvidenceError, VerificationError
from pratique.release.signing.bundle import Bundle, MessageSignature, parse_bundle
from pratique.release.signing.certificate import parse_certificate, verify_certificate
from pratique.release.signing.dsse import Envelope
from pratique.release.signing.interface import Attestation
from pratique.release.signing.logged import Signed, verify_logged
from pratique.release.signing.publickey import PublicKey
from pratique.release.signing.timestamps import verify_timestamp
from pratique.release.signing.translog import verify_log_entry
from pratique.release.signing.trust import TrustRoot
from pratique.release.statements import PAYLOAD_TYPE, parse_statement
from pratique.release.values import KeyIdentity, Signer, digest_of

__all__ = ["BundleVerifier", "Message", "Verified"]


@dataclass(frozen=True, slots=True)
class Verified:
    """Who signed, and since when the signature has existed at the latest."""

    signer: Signer
    signed_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Message:
    """What a signature is over: its digest, and itself where it is at hand."""

    sha256: bytes
    content: bytes | None = None

    @classmethod
    def of(cls, content: bytes) -> Message:
        """Return a message that is at hand."""
        return cls(hashlib.sha256(content).digest(), content)

    def verify(self, key: PublicKey, signature: bytes) -> None:
        """Make sure that a key signed it.

        Raises:
            VerificationError: it did not, or the digest does not suffice for a key of its kind.
        """
        if self.content is not None:
            key.verify(signature, self.content)
        else:
            key.verify_sha256(signature, self.sha256)


@dataclass(frozen=True, slots=True)
class BundleVerifier:
    """Verifies by the keys that are accepted, and certificates by a trust root; without it, by keys alone."""

    keys: tuple[PublicKey, ...] = ()
    root: TrustRoot | None = None

    def verify(self, bundle: bytes) -> Attestation:
        """Return the statement that a bundle proves, and who signed it.

        Raises:
            VerificationError: it proves nothing; the message says at which step.
        """
        parsed = parse_bundle(bundle)
        if not isinstance(parsed.content, Envelope):
            raise VerificationError("expected a signed statement, got a signature over an artifact")
        return self.verify_statement(parsed, parsed.content, source=bundle)

    def verify_statement(self, bundle: Bundle, envelope: Envelope, *, source: bytes) -> Attestation:
        """The same for a bundle that was read; `source` is what it was read from."""
        if envelope.payload_type != PAYLOAD_TYPE:
            raise VerificationError(f"expected a payload of type '{PAYLOAD_TYPE}', got '{envelope.payload_type[:100]}'")
        verified = self._verify(bundle, Message.of(envelope.signed_bytes))
        try:
            statement = parse_statement(envelope.payload)
        except EvidenceError as error:
            raise VerificationError(f"what was signed is no statement: {error.message}") from error
        return Attestation(statement, verified.signer, verified.signed_at, digest_of(source))

    def verify_artifact(self, bundle: Bundle, artifact: Message) -> Verified:
        """Return who signed an artifact itself.

        Raises:
            VerificationError: nobody did, as far as this bundle proves.
        """
        if not isinstance(bundle.content, MessageSignature):
            raise VerificationError("expected a signature over an artifact, got a signed statement")
        if bundle.content.sha256 not in {None, artifact.sha256}:
            raise VerificationError("the bundle is about another artifact: its digest differs")
        return self._verify(bundle, artifact)

    def _verify(self, bundle: Bundle, message: Message) -> Verified:
        if bundle.certificate is None:
            key = self._signed_by_key(bundle, message)
            times = self._times(bundle, message, signer=key.der)
            return Verified(KeyIdentity(key.fingerprint), min(times, default=None))
        if self.root is None:
            raise VerificationError("the bundle is signed under a certificate, and no trust root was given")
        signing = parse_certificate(bundle.certificate)
        message.verify(signing.key, bundle.signature)
        if not bundle.entries:
            raise VerificationError("a signature under a certificate must be in a transparency log, got no entry")
        times = self._times(bundle, message, signer=signing.der)
        return Verified(verify_certificate(signing, times, self.root), min(times))

    def _signed_by_key(self, bundle: Bundle, message: Message) -> PublicKey:
        """Return the key that signed. The hint is not signed: it says where to begin, no more."""
        for key in sorted(self.keys, key=lambda one: one.hint != bundle.hint):
            try:
                message.verify(key, bundle.signature)
            except VerificationError:
                continue
            return key
        raise VerificationError(
            f"the bundle is signed by none of the {len(self.keys)} accepted keys; it names key '{bundle.hint}'"
        )

    def _times(self, bundle: Bundle, message: Message, *, signer: bytes) -> tuple[dt.datetime, ...]:
        """Return the times at which logs and authorities saw the signature; whatever is there must hold."""
        if not bundle.entries and not bundle.timestamps:
            return ()
        if self.root is None:
            raise VerificationError("the bundle has log entries or time stamps, and no trust root was given")
        payload = bundle.content.payload if isinstance(bundle.content, Envelope) else None
        payload_sha256 = hashlib.sha256(payload).digest() if payload is not None else None
        signed = Signed(signer, bundle.signature, message.sha256, payload_sha256)
        times = [verify_timestamp(one, bundle.signature, self.root.timestamp_authorities) for one in bundle.timestamps]
        logs = []
        for entry in bundle.entries:
            log, at = verify_log_entry(entry, self.root)
            verify_logged(entry, signed)
            logs.append(log)
            times += [at] if at else []
        # An entry of Rekor v2 has no time of its own: its log is believed for the times that others prove.
        if any(at not in log.period for log in logs for at in times):
            raise VerificationError("a transparency log is not trusted for the time at which the signature was made")
        return tuple(times)
