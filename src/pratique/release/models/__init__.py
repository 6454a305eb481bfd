"""Models and LoRA adapters as release artifacts: described, stored beside their evidence, admitted by a server."""

from __future__ import annotations

__all__: list[str] = []
