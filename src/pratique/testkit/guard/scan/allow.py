"""The allow file: findings that were looked at, by fingerprint, each with its reason.

[[allow]]
fingerprint = "0123456789abcdef"
reason = "the vendor's public test key"
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.guard.scan.errors import ScanUsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ALLOW_FILE", "load_allowed", "parse_allowed"]

ALLOW_FILE: Final = ".pratique-secrets.toml"
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")


def parse_allowed(text: str, *, origin: str) -> frozenset[str]:
    """Return the fingerprints that are allowed.

    Raises:
        ScanUsageError: it is no allow file, or an entry has no reason.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScanUsageError(f"The allow file {origin} is malformed: {error}.") from error
    entries = content.pop("allow", [])
    if content or not isinstance(entries, list):
        raise ScanUsageError(f"The allow file {origin} has other things than [[allow]] in it: {', '.join(content)}.")
    return frozenset(_fingerprint_of(entry, origin) for entry in entries)


def _fingerprint_of(entry: Any, origin: str) -> str:  # noqa: ANN401 - whatever the file says
    known = entry if isinstance(entry, dict) and entry.keys() == {"fingerprint", "reason"} else {}
    name, reason = (str(known.get(field, "")).strip() for field in ("fingerprint", "reason"))
    if not _FINGERPRINT.fullmatch(name) or not reason:
        raise ScanUsageError(
            f"An entry of the allow file {origin} is not whole: {entry}.",
            hint='Expected: fingerprint = "16 hex digits, as a finding shows them" and reason = "why it is none".',
        )
    return name


def load_allowed(file: Path) -> frozenset[str]:
    """Read an allow file.

    Raises:
        ScanUsageError: it cannot be read, or is malformed.
    """
    try:
        return parse_allowed(file.read_text(encoding="utf-8"), origin=str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ScanUsageError(f"The allow file {file} cannot be read: {error}.") from error
