"""The entry of the process: make sure the small model is there, then run the server on uvloop."""

from __future__ import annotations

import os

import uvloop

from pratique.core.events import get_logger
from pratique.inference.artifacts.small_model import default_model_root, import_small_model, is_imported
from pratique.inference.server import serve
from pratique.inference.settings import InferenceSettings

__all__ = ["run"]

_LOG = get_logger("server")


def run(settings: InferenceSettings) -> int:
    """Run until the server ends; return the exit code."""
    if settings.engine == "vllm" and settings.model is None:
        root = settings.model_root or default_model_root(dict(os.environ))
        if not is_imported(root):
            _LOG.info("importing_model", root=str(root), why="it is not there yet; about half a minute, once")
            import_small_model(root, lambda phase, share: _LOG.info("import", phase=phase, progress=share))
    code: int = uvloop.run(serve(settings))
    return code
