"""Environments of their own for the gateways that we compare ourselves with, made on demand, locked by hashes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["program"]

_FOLDER = Path(__file__).parents[1]
_CACHE = _FOLDER.parent / ".cache" / "bench-gateway"


def program(name: str) -> list[Path]:
    """Return how to start the program of that name in its environment; where there is none, or another lock, make it.

    By its interpreter: the program itself names the folder in which the environment was made, which may have moved.
    """
    lock = _FOLDER / f"requirements-{name}.txt"
    folder = _CACHE / name
    seal = folder / "installed.txt"
    if not seal.exists() or seal.read_bytes() != lock.read_bytes():
        print(f"Installing {name} from {lock.name} into {folder} …", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip: list[str | Path] = [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        done = subprocess.run(
            [*pip, "--require-hashes", "--no-deps", "-r", lock], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"error: {name} could not be installed:\n{done.stderr[-2000:]}")
        shutil.copyfile(lock, seal)
    return [folder / "bin" / "python", folder / "bin" / name]
