"""Where the tests and examples of this checkout find what `scripts/bootstrap tools` installed."""

from __future__ import annotations

import os
from pathlib import Path

# The project's own folder, not the user's cache.
os.environ.setdefault("PRATIQUE_TESTKIT_TOOLS", str(Path(__file__).resolve().parent / ".cache" / "testkit-tools"))
