"""What looks like a real secret, and what only looks like one: judged by the text alone.

Owns the questions that the guard of a run and the scanner share: entropy, placeholders, the shape of AWS keys, and how
a secret is named without being shown. Reads nothing but its arguments.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from typing import Final

__all__ = [
    "entropy_bits",
    "fingerprint",
    "is_aws_key_id",
    "is_aws_secret",
    "is_aws_session_token",
    "is_placeholder",
    "mask",
]

_KEY_ID: Final = re.compile(r"(?:AKIA|ASIA)[A-Z2-7]{16}")
_SECRET: Final = re.compile(r"[A-Za-z0-9/+]{40}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9/+=]{100,4096}")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_MAX_ACCOUNT: Final = 999_999_999_999
_PLACEHOLDER: Final = re.compile(
    r"example|sample|placeholder|dummy|fake|change.?me|replace|redacted|your[-_.]?|insert|todo|foobar|notreal|not.real"
    r"|testing|test[-_]|[-_]test|mock|xxxx|\*\*\*|\.\.\.|1234567|abcdef|qwerty|deadbeef|0000000",
    re.IGNORECASE,
)
_MIN_DISTINCT_KEY_ID: Final = 8
_MIN_SECRET_BITS: Final = 4.2
_MIN_TOKEN_BITS: Final = 4.5


def entropy_bits(text: str) -> float:
    """Return Shannon's entropy in bits per character; 0 for the empty text."""
    size = len(text)
    return -sum(n / size * math.log2(n / size) for n in map(text.count, set(text)))


def is_placeholder(text: str) -> bool:
    """Whether a person wrote this in a secret's place: an example, `changeme`, `xxxx`."""
    return _PLACEHOLDER.search(text) is not None


def is_aws_key_id(text: str) -> bool:
    """Whether this is an access key id that AWS could have issued. Its documentation's example is not."""
    if not _KEY_ID.fullmatch(text) or is_placeholder(text) or len(set(text[4:])) < _MIN_DISTINCT_KEY_ID:
        return False
    # Ids of today carry the account's number behind a first bit that is set; an account has twelve digits.
    head = int.from_bytes(base64.b32decode(text[4:])[:6], "big")
    return not head >> 47 or (head & 0x7FFFFFFFFF80) >> 7 <= _MAX_ACCOUNT


def is_aws_secret(text: str) -> bool:
    """Whether this is a secret access key that AWS could have issued: forty characters, random, not a hash in hex."""
    if not _SECRET.fullmatch(text) or is_placeholder(text) or _HEX.fullmatch(text):
        return False
    has_all_kinds = all(re.search(kind, text) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return has_all_kinds and entropy_bits(text) >= _MIN_SECRET_BITS


def is_aws_session_token(text: str) -> bool:
    """Whether this is a session token that AWS could have issued."""
    return bool(_TOKEN.fullmatch(text)) and not is_placeholder(text) and entropy_bits(text) >= _MIN_TOKEN_BITS


def mask(secret: str, *, prefix: str = "") -> str:
    """Return what may be shown: the prefix, which says only of what kind it is, and the length."""
    return f"{prefix}… ({len(secret)} characters)"


def fingerprint(secret: str) -> str:
    """Return the name of a secret in reports and allow files: it does not lead back to a secret that is random."""
    return hashlib.sha256(b"pratique secret\0" + secret.encode("utf-8", "surrogateescape")).hexdigest()[:16]
