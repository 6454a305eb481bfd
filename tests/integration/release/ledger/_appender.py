"""A process that appends until it is killed, and says each entry that was confirmed.

Arguments: the ledger's file, the key's file, and at which of SQLite's statements to end itself (0: never).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pratique.release.ledger.sqlite import SqliteStore
from pratique.release.ledger.verified import HeadTrust, VerifiedLedger
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import load_key
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.values import KeyIdentity, digest_of


def main() -> None:
    file, key_file, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    seen = 0

    def trace(_statement: str) -> None:
        nonlocal seen
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)

    key = load_key(key_file)
    public = parse_public_key(key.public_key_der)
    trust = HeadTrust(BundleVerifier((public,)), frozenset({KeyIdentity(public.fingerprint)}))
    store = SqliteStore(file, busy_seconds=30, trace=trace)
    ledger = VerifiedLedger.open("releases", store, trust, signer=KeyedSigner(key))
    for number in range(3 if last else 1_000_000):
        entry = ledger.append("build", digest_of(b"image"), {"number": number}, actor=str(os.getpid()))
        os.write(1, f"{entry.index} {entry.hash}\n".encode())
    os.write(1, f"statements {seen}\n".encode())


main()
