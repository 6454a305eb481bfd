"""Approved files for tests."""

from __future__ import annotations

SHA = "a" * 64
OTHER = "b" * 64
WHEEL = "alpha-1.0-py3-none-any.whl"


def package(name: str = "alpha", version: str = "1.0", sha: str = SHA, **changes: str) -> str:
    """Return one [[package]] with one version and one wheel; `changes` replaces or adds lines, written as TOML."""
    lines = {
        "name": f'"{name}"',
        "licence": '"MIT"',
        "approved_by": '"ann@example.org"',
        "approved_on": "2024-02-03",
        "reason": '"used by the page"',
    } | changes
    head = "\n".join(f"{key} = {value}" for key, value in lines.items())
    files = f'{{ "{name.replace("-", "_")}-{version}-py3-none-any.whl" = "sha256:{sha}" }}'
    return f'[[package]]\n{head}\n[[package.version]]\nversion = "{version}"\nfiles = {files}\n'


def document(*packages: str, names: str = "") -> str:
    """Return a whole file."""
    return f"schema = 1\n[names]\n{names}\n" + "".join(packages)
