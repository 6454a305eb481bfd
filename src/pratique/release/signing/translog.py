"""Transparency logs: that an entry is in a log that we believe. Pure.

An entry is vouched for by a promise (the log signed that it will be included, and when: Rekor v1), by an inclusion
proof under a checkpoint that the log signed (Rekor v1 and v2), or both; each that is there must hold.
Sources: RFC 9162, 2.1.3.2 (inclusion proofs), transparency-dev/formats (checkpoints), C2SP signed-note, Rekor's API
(signed entry timestamps over RFC 8785 JSON).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import re
from typing import Final

import msgspec

from pratique.release.errors import VerificationError
from pratique.release.signing.bundle import InclusionProof, LogEntry
from pratique.release.signing.trust import TrustedLog, TrustRoot

__all__ = ["verify_log_entry"]

_SIGNATURE_LINE: Final = re.compile(r"\u2014 (\S+) (\S+)", re.ASCII)
_KEY_ID_BYTES: Final = 4
_MAX_TREE_BITS: Final = 63


def verify_log_entry(entry: LogEntry, root: TrustRoot) -> tuple[TrustedLog, dt.datetime | None]:
    """Make sure that an entry is in a log; return the log, and when the log says that it was added, if it does.

    Raises:
        VerificationError: the log is unknown, or one of promise, proof and checkpoint does not hold.
    """
    log = root.logs.get(entry.log_id)
    if log is None:
        raise VerificationError(f"the trust root knows no log with the id {entry.log_id.hex()[:64]}")
    if entry.proof is not None:
        _verify_inclusion(entry.body, entry.proof)
        _verify_checkpoint(entry.proof, entry.log_id, log)
    elif entry.promise is None:
        raise VerificationError("a log entry has neither an inclusion proof nor a promise")
    if entry.promise is None or entry.integrated_at is None:
        return log, None
    _verify_promise(entry, log)
    at = _time_of(entry.integrated_at)
    if at not in log.period:
        raise VerificationError(f"the log's key is not trusted for {at.isoformat()}, when the entry was added")
    return log, at


def _time_of(seconds: int) -> dt.datetime:
    try:
        return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    except (ValueError, OverflowError) as error:
        raise VerificationError(f"{seconds} is no time in Unix seconds") from error


def _verify_inclusion(leaf: bytes, proof: InclusionProof) -> None:
    if proof.index >= proof.tree_size or proof.tree_size.bit_length() > _MAX_TREE_BITS:
        raise VerificationError(f"an inclusion proof has index {proof.index} in a tree of {proof.tree_size} leaves")
    if len(proof.hashes) > _MAX_TREE_BITS:
        raise VerificationError(f"an inclusion proof has {len(proof.hashes)} hashes")
    # The steps and names are those of RFC 9162, 2.1.3.2.
    fn, sn = proof.index, proof.tree_size - 1
    r = hashlib.sha256(b"\0" + leaf).digest()
    for p in proof.hashes:
        if sn == 0:
            raise VerificationError("an inclusion proof has too many hashes")
        if fn & 1 or fn == sn:
            r = hashlib.sha256(b"\1" + p + r).digest()
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hashlib.sha256(b"\1" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or r != proof.root_hash:
        raise VerificationError("an inclusion proof does not lead from the entry to the tree's root hash")


def _verify_checkpoint(proof: InclusionProof, log_id: bytes, log: TrustedLog) -> None:
    """Make sure that the log signed the head of the tree that the proof is for."""
    text, _, block = proof.checkpoint.partition("\n\n")
    note = (text + "\n").encode()
    origin, size, root_hash, *_ = [*text.split("\n"), "", ""]
    if not origin or size != str(proof.tree_size) or _decoded(root_hash) != proof.root_hash:
        raise VerificationError("the checkpoint is malformed, or about another tree than the inclusion proof")
    # A line names who signed by the first bytes of their key's id. Others, witnesses, may have signed too.
    signatures = [
        found[_KEY_ID_BYTES:]
        for line in block.split("\n")
        if (match := _SIGNATURE_LINE.fullmatch(line)) and (found := _decoded(match[2]))[:_KEY_ID_BYTES] == log_id[:4]
    ]
    if not any(_is_signed(log, signature, note) for signature in signatures):
        raise VerificationError(f"the checkpoint of '{origin[:100]}' is not signed by the log with its key")


def _is_signed(log: TrustedLog, signature: bytes, message: bytes) -> bool:
    try:
        log.key.verify(signature, message)
    except VerificationError:
        return False
    return True


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _verify_promise(entry: LogEntry, log: TrustedLog) -> None:
    signed = {
        "body": base64.b64encode(entry.body).decode(),
        "integratedTime": entry.integrated_at,
        "logID": entry.log_id.hex(),
        "logIndex": entry.index,
    }  # in the order of their names, as RFC 8785 wants it
    assert entry.promise is not None  # noqa: S101 - the caller has looked
    try:
        log.key.verify(entry.promise, msgspec.json.encode(signed))
    except VerificationError as error:
        raise VerificationError("the log's promise (signed entry timestamp) does not hold") from error
