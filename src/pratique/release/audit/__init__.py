"""What can be proved of one digest, from what runs back to the commit: every link verified now."""

from __future__ import annotations

__all__: list[str] = []
