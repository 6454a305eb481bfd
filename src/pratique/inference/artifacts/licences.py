"""Which licence a model's files state: the card's front matter, else a licence file. Pure; nothing is guessed.

Identifiers are those of SPDX (https://spdx.org/licenses/) where the statement is one that SPDX knows; others are kept
as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["NOT_STATED", "find_licence", "normalise_licence"]

NOT_STATED: Final = "not stated"
_FRONT_MATTER: Final = re.compile(r"\A\ufeff?---\s*\n(?P<block>.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_FIELD: Final = re.compile(
    r"^(?P<key>license|license_name):[ \t]*(?P<value>[^\n#]*)(?:\n[ \t]*-[ \t]*(?P<first>[^\n]+))?", re.MULTILINE
)
_SPDX: Final = {
    identifier.lower(): identifier
    for identifier in (
        *(
            "Apache-2.0",
            "MIT",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "BSL-1.0",
            "ISC",
            "MPL-2.0",
            "Unlicense",
            "WTFPL",
            "Zlib",
        ),
        *("AGPL-3.0", "GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0", "EUPL-1.2", "OFL-1.1", "AFL-3.0", "ECL-2.0"),
        *("CC0-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"),
        *("CC-BY-NC-2.0", "CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0", "CC-BY-ND-4.0"),
    )
}
_TITLES: Final = (
    (re.compile(r"apache license\W+version 2\.0", re.IGNORECASE), "Apache-2.0"),
    (re.compile(r"\A\W*(?:the )?mit license|permission is hereby granted, free of charge", re.IGNORECASE), "MIT"),
    (re.compile(r"mozilla public license\W+(?:version )?2\.0", re.IGNORECASE), "MPL-2.0"),
    (re.compile(r"gnu affero general public license\W+version 3", re.IGNORECASE), "AGPL-3.0"),
    (re.compile(r"gnu general public license\W+version 3", re.IGNORECASE), "GPL-3.0"),
)
_CARDS: Final = ("README.md", "MODEL_CARD.md")
_FILES: Final = (
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "LICENCE",
    "LICENCE.txt",
    "LICENCE.md",
    "COPYING",
    "USE_POLICY.md",
)
_MAX_CHARS: Final = 200


def find_licence(texts: Mapping[str, str]) -> str:
    """Return the licence that the files state, by name and beginning of each; NOT_STATED where none does.

    A licence file whose licence is not known is named: somebody has to read it.
    """
    for card in _CARDS:
        if stated := _from_card(texts.get(card, "")):
            return normalise_licence(stated)
    for name in _FILES:
        if text := texts.get(name, "").strip():
            known = next((licence for title, licence in _TITLES if title.search(text[:2000])), None)
            return known or f"see {name}"
    return NOT_STATED


def normalise_licence(stated: str) -> str:
    """Return a stated licence in one line: as SPDX spells it, or as it is."""
    text = " ".join(stated.strip().strip("\"'").split())
    text = "".join(char for char in text if char.isprintable())[:_MAX_CHARS]
    return _SPDX.get(text.lower(), text) or NOT_STATED


def _from_card(text: str) -> str:
    found = _FRONT_MATTER.match(text)
    if not found:
        return ""
    fields = {
        field["key"]: (field["value"].strip() or (field["first"] or "")).strip().strip("[]\"'")
        for field in _FIELD.finditer(found["block"])
    }
    licence = fields.get("license", "")
    # Model hubs write "other", and its name beside it, for what they have no identifier for.
    return fields.get("license_name", "") or licence if licence.lower() in {"", "other"} else licence
