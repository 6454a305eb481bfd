"""One Prometheus exposition out of several: each engine has a registry of its own, and a family may stand there once.

Text format 0.0.4. Samples of one name with the same labels are added up: engines whose library does not label them by
model count the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["merge_expositions"]


def merge_expositions(texts: Iterable[bytes]) -> bytes:
    """Return the families of all `texts`, each once, with all of its samples."""
    given = [text for text in texts if text.strip()]
    if len(given) < 2:  # noqa: PLR2004 - with one there is nothing to merge
        return b"".join(given)
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, str]] = {}
    for text in given:
        for name, head, key, value in _lines(text.decode()):
            if key is None:
                known = heads.setdefault(name, [])
                if head not in known:
                    known.append(head)
            else:
                mine = samples.setdefault(name, {})
                mine[key] = value if key not in mine else repr(float(mine[key]) + float(value))
    families = (
        [*heads.get(name, []), *(f"{key} {value}" for key, value in samples.get(name, {}).items())]
        for name in dict.fromkeys([*heads, *samples])
    )
    return "".join(f"{line}\n" for family in families for line in family).encode()


def _lines(text: str) -> Iterable[tuple[str, str, str | None, str]]:
    """Yield each line with the family that it stands under: a comment, or a sample parted into its key and value."""
    family = ""
    for line in text.splitlines():
        if line.startswith("# "):
            family = line.split(" ", 3)[2]
            yield family, line, None, ""
        elif line:
            key, _, value = line.rpartition(" ")
            yield family, "", key, value
