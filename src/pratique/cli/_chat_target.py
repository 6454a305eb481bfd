"""Which chat service `pratique chat` talks to, and as whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.core.errors import CallerError, EnvironmentFaultError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatTarget", "resolve_target"]

_KEY_VARIABLE: Final = "PRATIQUE_API_KEY"


class _StackFile(msgspec.Struct):
    """What is needed of the running stack's own description."""

    url: str


@dataclass(frozen=True, kw_only=True)
class ChatTarget:
    """An address, and the key to come with; without one the service gives a session cookie."""

    url: str
    api_key: str | None


def resolve_target(
    *,
    url: str | None,
    port: int | None,
    state_dir: Path | None,
    api_key_file: Path | None,
    environment: Mapping[str, str],
) -> ChatTarget:
    """Find address and key: from the flags, else the environment, else the running stack's state folder.

    The stack's own key is used only for the stack itself: for another address it has to be named.

    Raises:
        CallerError: the flags contradict each other, or name a file that cannot be read.
        EnvironmentFaultError: no address is given and no stack is running.
    """
    if url is not None and port is not None:
        raise CallerError("--url and --port both say where the chat service is.", hint="Give one of them.")
    folder = state_dir or _default_state_dir(environment)
    is_local = url is None or state_dir is not None
    address = url or (f"http://127.0.0.1:{port}" if port is not None else _address_of_stack(folder))
    key = _read_key(api_key_file) if api_key_file else environment.get(_KEY_VARIABLE)
    if not key and is_local and (folder / "api-key").is_file():
        key = _read_key(folder / "api-key")
    return ChatTarget(url=address, api_key=key or None)


def _default_state_dir(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "pratique"


def _address_of_stack(folder: Path) -> str:
    file = folder / "stack.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=_StackFile).url
    except FileNotFoundError as error:
        raise EnvironmentFaultError(
            f"No stack is running: there is no {file}.",
            hint="Start one with `pratique up`, or say where the service is with --url or --port.",
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise EnvironmentFaultError(
            f"{file} does not say where the stack listens: {error}.", hint="Say it with --url or --port."
        ) from error


def _read_key(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CallerError(f"The API key file {file} cannot be read: {error}.") from error
