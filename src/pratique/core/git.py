"""How git is asked about a checkout that may be hostile.

A checkout's own configuration can name programs, which git then runs with the rights of whoever asks.
"""

from __future__ import annotations

from typing import Final

__all__ = ["SAFE_OPTIONS"]

SAFE_OPTIONS: Final = ("--no-pager", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false")
"""Put before git's command: no pager, no file system monitor, no program that checks signatures."""
