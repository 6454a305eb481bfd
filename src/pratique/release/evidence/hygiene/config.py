"""What an image's configuration and history say that they should not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pratique.core.secrets.looks import is_placeholder
from pratique.core.secrets.model import Place
from pratique.core.secrets.text import find_hits, make_finding
from pratique.release.build.rules import is_secret_name
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError
from pratique.release.predicates import Finding

__all__ = ["CONFIG_RULES", "ImageConfig", "findings_in_config", "parse_config"]

CONFIG_RULES: Final = ("health-check", "layer-order", "root-user", "secret-in-configuration")
_ROOTS: Final = frozenset({"", "0", "root"})
_REFERENCE: Final = re.compile(r"/\S*|\$.*|\{.*|<.*|https?://\S+")
_ARGUMENTS: Final = re.compile(r"(?:RUN )?\|([0-9]{1,3}) (.*)", re.DOTALL)
_ASSIGNED: Final = re.compile(r"([A-Za-z_]\w*)=(\S+)")
_INSTALLS: Final = re.compile(
    r"\b(?:apt-get|apt|apk|dnf|yum|microdnf)\b[^&|;]*\b(?:install|add)\b"
    r"|\b(?:pip3?|uv pip|npm|yarn|pnpm|gem)\b[^&|;]*\b(?:install|ci|add)\b"
)
_COPIES_SOURCE: Final = re.compile(r"(?:COPY|ADD) (?!--from)(?:dir:|multi:|\./? |\. )")


class _Container(msgspec.Struct, frozen=True):
    user: str = msgspec.field(name="User", default="")
    environment: tuple[str, ...] | None = msgspec.field(name="Env", default=None)
    entrypoint: tuple[str, ...] | None = msgspec.field(name="Entrypoint", default=None)
    command: tuple[str, ...] | None = msgspec.field(name="Cmd", default=None)
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    health_check: dict[str, Any] | None = msgspec.field(name="Healthcheck", default=None)


class _Step(msgspec.Struct, frozen=True):
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True):
    """What is looked at of an image's configuration."""

    config: _Container = _Container()
    history: tuple[_Step, ...] = ()


def parse_config(content: bytes) -> ImageConfig:
    """Read a configuration.

    Raises:
        EvidenceError: it is none.
    """
    try:
        return decode_json(content, ImageConfig)
    except MalformedError as error:
        raise EvidenceError(f"the image's configuration is malformed: {error}") from error


def findings_in_config(image: ImageConfig) -> Iterator[Finding]:
    """Look at user, health check, variables, arguments and history."""
    yield from _user(image.config.user)
    test = (image.config.health_check or {}).get("Test")
    if not test or test == ["NONE"]:
        message = (
            "nothing says whether it works: HEALTHCHECK, asked of what it serves"
            " (podman and buildah keep it in images of Docker's form only)"
        )
        yield Finding(rule="health-check", level="warning", where="Healthcheck", message=message)
    for where, text in _texts(image):
        yield from _secrets(where, text)
    yield from _order(image)


def _user(user: str) -> Iterator[Finding]:
    name = user.partition(":")[0]
    if name in _ROOTS or (name.isdigit() and int(name) == 0):
        message = f"runs as '{user or 'root, for none is named'}': USER with a number of its own"
        yield Finding(rule="root-user", level="error", where="User", message=message)


def _texts(image: ImageConfig) -> Iterator[tuple[str, str]]:
    container = image.config
    for variable in container.environment or ():
        yield f"Env {variable.partition('=')[0]}", variable
    for name, value in sorted((container.labels or {}).items()):
        yield f"Labels {name}", f"{name}={value}"
    for name, words in (("Entrypoint", container.entrypoint), ("Cmd", container.command)):
        yield name, " ".join(words or ())
    for number, step in enumerate(image.history, start=1):
        yield f"history {number}", f"{step.created_by} {step.comment}".strip()


def _secrets(where: str, text: str) -> Iterator[Finding]:
    advice = "it is in every copy of the image: revoke it, and mount it where it is needed"
    hits = find_hits(text)
    for hit in hits:
        found = make_finding(hit, Place(path=where))
        message = f"{found.meaning}, {found.shown}, fingerprint {found.fingerprint}: {advice}"
        yield Finding(rule="secret-in-configuration", level="error", where=where, message=message)
    for name, value in () if hits else _assignments(where, text):
        if is_secret_name(name) and not is_placeholder(value) and not _REFERENCE.fullmatch(value):
            message = f"{name} is named like a secret and has a value: {advice}"
            yield Finding(rule="secret-in-configuration", level="error", where=where, message=message)


def _assignments(where: str, text: str) -> Iterator[tuple[str, str]]:
    """Return variables and build arguments: builders write `|2 NAME=value NAME=value` before a command."""
    if where.startswith("Env "):
        name, _, value = text.partition("=")
        if value:
            yield name, value
        return
    text = text.replace("/bin/sh -c #(nop) ", "")
    arguments = _ARGUMENTS.match(text)
    if arguments is not None:
        yield from _ASSIGNED.findall(arguments[2])[: int(arguments[1])]
    elif text.lstrip().startswith(("ARG ", "ENV ")):
        yield from _ASSIGNED.findall(text)


def _order(image: ImageConfig) -> Iterator[Finding]:
    """What is installed after the source was copied is installed again with every change of the source."""
    copied = None
    for number, step in enumerate(image.history, start=1):
        text = step.created_by.replace("/bin/sh -c #(nop) ", "")
        if _COPIES_SOURCE.match(text):
            copied = copied or number
        elif copied is not None and _INSTALLS.search(text):
            message = (
                f"installs packages after the source was copied (history {copied}): every change installs them anew"
            )
            yield Finding(rule="layer-order", level="warning", where=f"history {number}", message=message)
