"""The table [release.lock]: where packages may come from."""

from __future__ import annotations

from pratique.core.settings import Settings

__all__ = ["LockSettings"]


class LockSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a lock may name (`[release.lock]`)."""

    indexes: tuple[str, ...] = ("https://pypi.org/simple",)
    """The package indexes that a lock may name. Give the mirror's address here, and nothing else."""
    file_urls: tuple[str, ...] = ("https://files.pythonhosted.org/",)
    """Where the files of those indexes lie; `pylock.toml` and `uv.lock` name each file's address."""
