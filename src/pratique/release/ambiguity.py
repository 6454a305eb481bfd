"""JSON that two readers may read as two things. Pure.

What engines read of an image they read with Go's `encoding/json`, which takes a member for a known one whatever its
case, the long s and the Kelvin sign included, and of several the last. So `{"layers": …, "Layers": …}` has one list of
layers for who looks at it here, and another for who runs it. Such a document is refused, not understood.

Sources: RFC 8259, 4 (names should be unique); Go, `encoding/json`, "Unmarshal".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["ambiguity_in"]

_NAMES: Final = frozenset(
    {
        *("annotations", "artifactType", "config", "data", "digest", "layers", "manifests", "mediaType", "platform"),
        *("schemaVersion", "size", "subject", "urls"),
        *("architecture", "author", "comment", "created", "created_by", "diff_ids", "empty_layer", "history", "os"),
        *("rootfs", "type", "variant"),
        *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell", "StopSignal"),
        *("Test", "User", "Volumes", "WorkingDir"),
    }
)
"""What manifests and configurations of images have (OCI image specification 1.1; Docker's, for the health check)."""
_FOLDED: Final = {name.casefold(): name for name in _NAMES}
_FREE: Final = frozenset({"annotations", "Labels", "ExposedPorts", "Volumes"})
"""Objects whose members are anybody's names: there another case is another name."""


class _Members(list[tuple[str, Any]]):
    """An object as it is written, every member kept."""


def ambiguity_in(content: bytes) -> str:
    """Say why a manifest or a configuration may be read as two things; empty where it may not."""
    try:
        document = json.loads(content.decode("utf-8"), object_pairs_hook=_Members)
        return next(_faults(document, is_free=False), "")
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {str(error)[:200]}"


def _faults(value: object, *, is_free: bool) -> Iterator[str]:
    if isinstance(value, _Members):
        seen: set[str] = set()
        for name, member in value:
            folded = name if is_free else name.casefold()
            if folded in seen:
                yield f"the member '{name[:100]}' stands twice, in whatever case"
            if not is_free and _FOLDED.get(folded, name) != name:
                yield f"the member '{name[:100]}' is '{_FOLDED[folded]}' to some readers"
            seen.add(folded)
            yield from _faults(member, is_free=name in _FREE)
    elif isinstance(value, list):
        for entry in value:
            yield from _faults(entry, is_free=False)
