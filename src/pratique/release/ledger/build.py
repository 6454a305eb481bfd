"""The ledger that the settings name, with who signs its heads and whose are believed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pratique.core.errors import CallerError
from pratique.release.ledger.settings import LedgerSettings
from pratique.release.ledger.store import LedgerStore
from pratique.release.ledger.verified import HeadTrust, VerifiedLedger
from pratique.release.ledger.witness import WitnessFile
from pratique.release.signing.interface import StatementSigner
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.values import CertificateIdentity, KeyIdentity, Signer

__all__ = ["head_trust", "open_ledger", "open_store"]


def head_trust(settings: LedgerSettings, verifier: BundleVerifier) -> HeadTrust:
    """Return whose heads are believed: the accepted keys, and the identity that the settings name.

    Raises:
        CallerError: nobody is: what anybody may have signed proves nothing.
    """
    signers: set[Signer] = {KeyIdentity(key.fingerprint) for key in verifier.keys}
    if bool(settings.signer_issuer) != bool(settings.signer_subject):
        raise CallerError("expected signer_issuer and signer_subject together in [release.ledger]")
    if settings.signer_issuer:
        signers.add(CertificateIdentity(settings.signer_issuer, settings.signer_subject))
    if not signers:
        raise CallerError(
            "nobody is named whose signature on a ledger's head is believed",
            hint="Name keys in public_keys of [release.signing], or an identity in [release.ledger].",
        )
    return HeadTrust(verifier, frozenset(signers))


@contextlib.contextmanager
def open_store(settings: LedgerSettings, *, may_make: bool) -> Iterator[LedgerStore]:
    """Open where a ledger is kept; close it with the body.

    Args:
        settings: name it.
        may_make: whether a file that is not there is made.

    Raises:
        CallerError: no file is named, or it is not there.
        UnavailableError: it cannot be opened.
    """
    if settings.backend == "dynamodb":
        from pratique.release.ledger.dynamodb import DynamoStore, connect

        client = connect(region=settings.region, endpoint_url=settings.endpoint_url, seconds=settings.busy_seconds)
        yield DynamoStore(client, settings.table, settings.name)
        return
    from pratique.release.ledger.sqlite import SqliteStore

    if settings.file is None:
        raise CallerError("no ledger is named", hint="Say --file, or name it in [release.ledger].")
    if not may_make and not settings.file.exists():
        raise CallerError(f"there is no ledger {settings.file}", hint="The first append makes it.")
    with contextlib.closing(SqliteStore(settings.file, busy_seconds=settings.busy_seconds)) as store:
        yield store


@contextlib.contextmanager
def open_ledger(
    settings: LedgerSettings, verifier: BundleVerifier, *, signer: StatementSigner | None = None
) -> Iterator[VerifiedLedger]:
    """Open and verify the ledger; close it with the body.

    Args:
        settings: name it.
        verifier: of the signatures of its heads.
        signer: of new heads; None: nothing is appended, and a file that is not there is not made.

    Raises:
        CallerError: nobody's heads would be believed, or there is no such ledger.
        VerificationError: it is not what was written.
        UnavailableError: it cannot be opened.
    """
    trust = head_trust(settings, verifier)
    witness = WitnessFile(settings.witness) if settings.witness is not None else None
    with open_store(settings, may_make=signer is not None) as store:
        yield VerifiedLedger.open(
            settings.name, store, trust, signer=signer, witness=witness, wait_seconds=settings.busy_seconds
        )
