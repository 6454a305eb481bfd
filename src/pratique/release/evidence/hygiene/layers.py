"""One pass over all layers: the file system they add up to, and every secret in any file of any layer.

A file that a later layer deletes is pulled with the image all the same, and read here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from pratique.core.secrets.model import Place, Report
from pratique.core.secrets.scanner import Scanner
from pratique.release.build.layertar import LayerLimits, read_entries
from pratique.release.build.layout import LayoutImage
from pratique.release.evidence.hygiene.tree import FileTree
from pratique.release.predicates import Finding

__all__ = ["LAYER_RULES", "findings_in_secrets", "findings_in_weight", "read_layers"]

LAYER_RULES: Final = ("secret-in-file", "size", "wasted-bytes")
_LARGEST: Final = 3


def read_layers(image: LayoutImage, limits: LayerLimits) -> tuple[FileTree, Report]:
    """Read every layer.

    Raises:
        EvidenceError: one is malformed, or breaks a limit.
    """
    tree, scanner = FileTree(), Scanner()
    for number, layer in enumerate(image.layers, start=1):
        tree.begin_layer()
        with image.open_layer(layer) as stream:
            for entry in read_entries(stream, limits):
                if entry.content is not None and entry.size:
                    scanner.scan_stream(cast("BinaryIO", entry.content), Place(path=entry.path, commit=str(number)))
                tree.add(entry)
    return tree, scanner.report


def findings_in_secrets(tree: FileTree, report: Report) -> Iterator[Finding]:
    """Say where secrets lie, and whether they can still be seen. Pure."""
    for found in report.findings:
        gone = "" if tree.has(found.place.path) else ", which a later layer deletes: it is pulled all the same"
        message = (
            f"line {found.line} of layer {found.place.commit}{gone}: {found.meaning}, {found.shown},"
            f" fingerprint {found.fingerprint}. {found.advice}"
        )
        yield Finding(rule="secret-in-file", level="error", where=f"/{found.place.path}", message=message)


def findings_in_weight(tree: FileTree, *, size: int, size_budget: int, wasted_budget: int) -> Iterator[Finding]:
    """Hold size and waste against their budgets. Pure."""
    if size > size_budget:
        message = f"{size} bytes are pulled, and the budget is {size_budget}"
        yield Finding(rule="size", level="error", where="layers", message=message)
    wasted = tree.wasted_bytes
    if wasted > wasted_budget:
        largest = sorted(tree.wasted, key=lambda one: (-one.size, one.path))[:_LARGEST]
        told = "; ".join(f"/{one.path}, {one.size}, layer {one.written_in} to {one.gone_in}" for one in largest)
        message = (
            f"{wasted} bytes were written and overwritten or deleted later, and the budget is {wasted_budget}: {told}"
        )
        yield Finding(rule="wasted-bytes", level="warning", where="layers", message=message)
