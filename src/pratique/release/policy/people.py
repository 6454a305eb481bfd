"""Who is whom: names of people, as they are compared. Pure.

Commits carry what their author has typed: another case, `Name <address>`, letters that only look alike (full width, for
one) or are not seen at all. None of that makes somebody else of an author, so none of it is compared.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["is_person", "person"]

_IN_BRACKETS: Final = re.compile(r"<([^<>]*)>\s*\Z")


def person(name: str) -> str:
    """Return an e-mail address, or another name of a person, in the form in which such names are compared."""
    seen = "".join(one for one in unicodedata.normalize("NFKC", name) if unicodedata.category(one) not in {"Cf", "Cc"})
    found = _IN_BRACKETS.search(seen)
    return (found[1] if found else seen).strip().casefold()


def is_person(name: str) -> bool:
    """Whether a name in that form tells who somebody is: an address or a URI, as signers have; words do not."""
    return ("@" in name or "://" in name) and " " not in name
